//! Options that commands share, with one meaning everywhere.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum, ValueHint};

use super::{display, note, suitable};
use crate::config::{self, Config, Document, Overrides};
use crate::data::{self, DataKind};
use crate::error::{Error, Result};
use crate::progress::{Event, Stage};
use crate::store::encoder_source::EncoderSource;

/// The folder that `--data` names.
///
/// # Errors
/// [`Error::Data`] if it does not exist: scenes are generated only if no folder is named, never into a misspelled one.
pub(super) fn data_folder(data: &Path) -> Result<String> {
    match data.exists() {
        true => Ok(data.display().to_string()),
        false => {
            let hint =
                "choose another with --data; `rotnet data fetch` and `rotnet data synth` create data sets";
            Err(Error::data(data, "there is no such folder", hint))
        }
    }
}

/// The name of a config on the command line; the old name of a renamed recipe becomes the new one.
pub(super) fn config_name(text: &str) -> Result<PathBuf, Infallible> {
    let Some(present) = config::renamed(Path::new(text)) else {
        return Ok(text.into());
    };
    note(&format!("the config {text} is now the recipe {present}"));
    Ok(present.into())
}

/// The kind of data set in `data`, with a note, if it is not the kind that the config at `origin` names. `None` if it
/// is, or if one of the assignments in `set` insists on a kind.
///
/// `--data` names the data, a config only the data that it was made for. A config that is not usable on its own counts as
/// one that names the default.
pub(super) fn other_kind(
    data: &Path,
    set: &[String],
    (origin, config): (Option<&Path>, Result<Config>),
    quiet: bool,
) -> Option<DataKind> {
    let key = |assignment: &String| assignment.split_once('=').map(|(key, _)| key.trim().to_owned());
    if set.iter().filter_map(key).any(|key| key == "data.kind" || key == "data") {
        return None;
    }
    let named = config.map_or_else(|_| DataKind::default(), |config| config.data.kind);
    let found = data::detect_other(data, named)?;
    if let Some(origin) = origin {
        display::reporter(quiet).report(Event::Note(&format!(
            "{} is used with data.kind `{}`, which it holds, instead of `{}` as in {} (--set data.kind=... insists)",
            data.display(),
            found.name(),
            named.name(),
            origin.display()
        )));
    }
    Some(found)
}

/// Options of the commands that work on the run in `--out`.
#[derive(Args, Debug)]
pub struct RunArguments {
    #[command(flatten)]
    pub settings: Settings,
    /// The run directory (default: runs/ and the name of the config)
    #[arg(long, value_name = "RUN")]
    pub out: Option<PathBuf>,
    /// Take the pretrained encoder of another run, or `photos`, the network of this program for photographs, instead of
    /// training one
    #[arg(long, value_name = "RUN|NAME", hide_short_help = true)]
    pub from: Option<String>,
    #[command(flatten)]
    pub existing: ExistingArguments,
}

impl RunArguments {
    /// Where the encoder is taken from, if it is not trained here.
    ///
    /// # Errors
    /// Those of [`EncoderSource::named`].
    pub fn source(&self) -> Result<Option<EncoderSource>> {
        self.from.as_deref().map(EncoderSource::named).transpose()
    }
}

/// The config that goes with an encoder taken from elsewhere.
pub fn config_of(source: &EncoderSource) -> PathBuf {
    match source {
        EncoderSource::Run(run) => run.config(Stage::Pretrain),
        EncoderSource::Included(included) => included.name.into(),
    }
}

/// What to do about existing results.
#[derive(Args, Debug)]
pub struct ExistingArguments {
    /// Continue where the run stopped; start it if there is nothing to continue
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
    /// Replace existing results
    #[arg(long)]
    pub force: bool,
    /// Accept a data set other than the one the checkpoint was trained on
    #[arg(long, hide_short_help = true)]
    pub allow_data_mismatch: bool,
    /// Write TensorBoard event files beside metrics.jsonl
    #[arg(long, hide_short_help = true)]
    pub tensorboard: bool,
}

/// Values of `--precision`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rounding {
    /// Factors as they are
    F32,
    /// Factors rounded to bfloat16
    Bf16,
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
    /// Folder of the data set: image files (train/CLASS, test/CLASS, unlabeled) or CIFAR's binary files
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// CSV file with the images' classes, columns file,label (default: labels.csv in the folder, if there is one)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, hide_short_help = true)]
    pub labels: Option<PathBuf>,
    /// Fail on an image file that cannot be read, instead of skipping it
    #[arg(long, hide_short_help = true)]
    pub strict: bool,
    /// Device to compute on; `rotnet devices` lists them
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Devices that share every training step, for example cuda:0,cuda:1 or ws://a:3000,ws://b:3000
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        conflicts_with = "device",
        hide_short_help = true
    )]
    pub devices: Vec<String>,
    /// Precision of products: f32, or bf16, which is faster on AMD Zen 4 and later
    #[arg(long, value_name = "NAME", value_enum, hide_possible_values = true)]
    pub precision: Option<Rounding>,
    /// Random seed
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Number of threads (default: one per processor); results do not depend on it
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    #[command(flatten)]
    pub output: OutputArguments,
}

impl Settings {
    /// The named recipe or file, or else the [recipe](Self::recipe) that suits, with `overrides` applied; the kind of data
    /// set is detected in `--data`, unless `--set` names it.
    ///
    /// # Errors
    /// Those of [`Document::named`] and [`Document::config`].
    pub fn load(&self, path: Option<&Path>, overrides: Overrides) -> Result<Config> {
        self.load_saying(path, overrides, self.output.quiet)
    }

    /// [`load`](Self::load), which says nothing of what it chose if it is to be `quiet`.
    pub(super) fn load_saying(
        &self,
        path: Option<&Path>,
        mut overrides: Overrides,
        quiet: bool,
    ) -> Result<Config> {
        if let (None, Some(folder)) = (path, self.folder()) {
            return suitable::config(folder, overrides, &mut *display::reporter(quiet));
        }
        let document = match path {
            Some(name) => Document::named(name),
            None => {
                let why = suitable::why(self.recipe());
                display::reporter(quiet).report(Event::Note(&why));
                Document::recipe(self.recipe())
            }
        }?;
        let alone = || (path, document.config(&Overrides::default()));
        let other = self.data.as_ref().and_then(|data| other_kind(data, &self.set, alone(), quiet));
        if let Some(kind) = other {
            overrides.set("data.kind", kind.name());
        }
        document.config(&overrides)
    }

    /// The recipe for a command line without a config: what suits the data that it names.
    pub(super) fn recipe(&self) -> &'static str {
        let says = |key: &str| self.set.iter().any(|set| set.starts_with(key));
        match self.folder() {
            Some(_) => suitable::FOLDER,
            None if self.data.is_some() || says("data.kind=") || says("data.directory=") => suitable::OTHER,
            None => suitable::NOTHING,
        }
    }

    /// The folder of images in `--data` that a recipe is to be chosen for: neither `--config` nor `--set` speaks of one.
    pub(super) fn folder(&self) -> Option<&Path> {
        let named = self.config.is_some() || self.set.iter().any(|set| set.starts_with("data.kind="));
        let folder = self.data.as_deref().filter(|_| !named)?;
        (data::detect(folder) == Some(DataKind::Folder)).then_some(folder)
    }

    /// What the command line sets in the config.
    ///
    /// # Errors
    /// An assignment that is not usable, or a missing folder of the data set.
    pub fn overrides(&self) -> Result<Overrides> {
        let mut overrides = Overrides::default();
        for assignment in &self.set {
            overrides.parse(assignment)?;
        }
        if let Some(data) = &self.data {
            overrides.set("data.directory", data_folder(data)?);
        }
        if let Some(labels) = &self.labels {
            overrides.set("data.labels", labels.display().to_string());
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
        if let Some(precision) = self.precision {
            let name = match precision {
                Rounding::F32 => "f32",
                Rounding::Bf16 => "bf16",
            };
            overrides.set("precision", name);
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

/// Options of commands that read finished runs.
#[derive(Args, Debug)]
pub struct ReadArguments {
    /// Folder of the data set, if it has moved
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Number of threads
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// How a result is printed on stdout; everything else goes to stderr.
#[derive(Args, Debug)]
pub struct OutputArguments {
    /// Print nothing but errors and the result
    #[arg(long, short)]
    pub quiet: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl OutputArguments {
    /// Whether the result is printed as one JSON document.
    pub fn json(&self) -> bool {
        self.json || self.format == Format::Json
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Plain text
    Text,
    /// One JSON document
    Json,
}

/// How a result that is a table is printed on stdout.
#[derive(Args, Debug)]
pub struct TableArguments {
    /// Print nothing but errors and the result
    #[arg(long, short)]
    pub quiet: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: TableFormat,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl TableArguments {
    /// How the result is printed.
    pub fn format(&self) -> TableFormat {
        if self.json { TableFormat::Json } else { self.format }
    }
}

/// Formats of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// Plain text
    Text,
    /// One JSON document
    Json,
    /// Comma-separated values, with a header line
    Csv,
}
