//! Options that commands share, with one meaning everywhere.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};

use super::note;
use crate::config::{self, Overrides};
use crate::error::{Error, Result};

/// The folder that `--data` names.
///
/// # Errors
/// [`Error::Data`] if it is not there: scenes are generated where no folder is named, and not into a misspelled one.
pub(super) fn data_folder(data: &Path) -> Result<String> {
    match data.exists() {
        true => Ok(data.display().to_string()),
        false => {
            let hint = "name another with --data; `rotnet data fetch` and `rotnet data synth` make some";
            Err(Error::data(data, "there is no such folder", hint))
        }
    }
}

/// The name of a config on the command line; that of a recipe which was renamed becomes the present one.
pub(super) fn config_name(text: &str) -> Result<PathBuf, Infallible> {
    let Some(present) = config::renamed(Path::new(text)) else {
        return Ok(text.into());
    };
    note(&format!("the config {text} is now the recipe {present}"));
    Ok(present.into())
}

/// Options of every command that trains or reads a run.
#[derive(Args, Debug)]
pub struct RunArguments {
    #[command(flatten)]
    pub settings: Settings,
    /// The run directory (default: runs/ and the name of the config)
    #[arg(long, visible_alias = "run", value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on where the run in --out ended; start afresh where there is none
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
    /// Take a checkpoint to another data set than it was trained on
    #[arg(long)]
    pub allow_data_mismatch: bool,
    /// Write over results that are already in --out
    #[arg(long)]
    pub force: bool,
    /// Write TensorBoard event files beside metrics.jsonl
    #[arg(long)]
    pub tensorboard: bool,
}

/// Options that decide the config and what is printed.
#[derive(Args, Debug)]
pub struct Settings {
    /// Recipe by name (`rotnet config list`), or a config file
    #[arg(long, value_name = "NAME|FILE", value_parser = config_name, value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Set one key of the config, for example pretrain.epochs=2 or evaluate.heads=ridge,mlp; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder of the data set: of image files (train/CLASS, test/CLASS, unlabeled), or with CIFAR's binary files
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// End at an image file that cannot be read, instead of leaving it out
    #[arg(long)]
    pub strict: bool,
    /// Device to compute on; `rotnet devices` lists what there is
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Devices that share every training step, for example cuda:0,cuda:1 or ws://a:3000,ws://b:3000
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "device")]
    pub devices: Vec<String>,
    /// Random seed
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Threads to compute with (default: one a processor); results do not depend on it
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Print nothing but errors and the result
    #[arg(long, short)]
    pub quiet: bool,
    /// Print the result as one JSON document on stdout, everything else on stderr
    #[arg(long)]
    pub json: bool,
}

impl Settings {
    /// What the command line sets in the config.
    ///
    /// # Errors
    /// What is wrong with an assignment, or with the folder of the data set.
    pub fn overrides(&self) -> Result<Overrides> {
        let mut overrides = Overrides::default();
        for assignment in &self.set {
            overrides.parse(assignment)?;
        }
        if let Some(data) = &self.data {
            overrides.set("data.directory", data_folder(data)?);
        }
        if self.strict {
            overrides.set("data.strict", true);
        }
        if let Some(device) = &self.device {
            overrides.set("device", device.as_str());
            overrides.set("devices", Vec::<String>::new());
        }
        if !self.devices.is_empty() {
            overrides.set("devices", self.devices.clone());
        }
        if let Some(seed) = self.seed {
            overrides.set("seed", seed);
        }
        if let Some(threads) = self.threads {
            overrides.set("threads", threads);
        }
        Ok(overrides)
    }
}

/// Options of commands that look at finished runs.
#[derive(Args, Debug)]
pub struct ReadArguments {
    /// Folder of the data set, where it lies elsewhere now
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Threads to compute with
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Options of commands without a config.
#[derive(Args, Debug)]
pub struct OutputArguments {
    /// Print nothing but errors and the result
    #[arg(long, short)]
    pub quiet: bool,
    /// Print the result as one JSON document on stdout, everything else on stderr
    #[arg(long)]
    pub json: bool,
}
