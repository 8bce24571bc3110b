//! Pretrained encoders from elsewhere: of another run, or one that comes with the program.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::progress::Stage;
use crate::store::checkpoint::Checkpoint;
use crate::store::run_directory::RunDirectory;

/// What `pretrain` left of a run elsewhere, compiled in.
#[derive(Debug)]
pub struct Included {
    /// What `--from` calls it.
    pub name: &'static str,
    checkpoint: &'static [u8],
    summary: &'static str,
    metrics: &'static str,
}

/// For ordinary photographs: trained on Tiny ImageNet at 64 pixels with the recipe of the same name. What it is good for
/// stands in `models/photos/README.md`.
pub static PHOTOS: Included = Included {
    name: "photos",
    checkpoint: include_bytes!("../../models/photos/checkpoint.safetensors"),
    summary: include_str!("../../models/photos/summary.json"),
    metrics: include_str!("../../models/photos/metrics.jsonl"),
};

/// Where a pretrained encoder with its rotation head comes from.
#[derive(Clone, Debug)]
pub enum EncoderSource {
    /// A run with a finished `pretrain`.
    Run(RunDirectory),
    /// The program itself.
    Included(&'static Included),
}

/// The files of a pretrained encoder.
#[derive(Debug)]
pub struct EncoderFiles {
    /// What errors call the checkpoint.
    pub place: PathBuf,
    /// The checkpoint.
    pub checkpoint: Vec<u8>,
    /// `summary.json`; absent in a run whose pretraining was stopped.
    pub summary: Option<String>,
    /// `metrics.jsonl`; empty without training.
    pub metrics: String,
}

impl EncoderSource {
    /// The network of this name, else the run in this directory.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is neither.
    pub fn named(name: &str) -> Result<Self> {
        if name == PHOTOS.name {
            return Ok(Self::Included(&PHOTOS));
        }
        let run = RunDirectory::new(name);
        run.settle();
        if run.result(Stage::Pretrain).is_file() {
            return Ok(Self::Run(run));
        }
        Err(Error::Usage {
            problem: format!("--from {name}: neither a run with a pretrained encoder nor `{}`", PHOTOS.name),
            hint: format!(
                "name the directory of a run, or `{}`, the network of this program for photographs",
                PHOTOS.name
            ),
        })
    }

    /// The run's path, or the network's name.
    pub fn name(&self) -> PathBuf {
        match self {
            Self::Run(run) => run.root().to_path_buf(),
            Self::Included(included) => included.name.into(),
        }
    }

    /// Reads the files.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a run without a pretrained encoder; [`Error::Io`].
    pub fn files(&self) -> Result<EncoderFiles> {
        match self {
            Self::Included(included) => Ok(EncoderFiles {
                place: format!("the network `{}` of this program", included.name).into(),
                checkpoint: included.checkpoint.to_vec(),
                summary: Some(included.summary.into()),
                metrics: included.metrics.into(),
            }),
            Self::Run(run) => {
                let place = run.result(Stage::Pretrain);
                if !place.exists() {
                    return Err(Checkpoint::missing(&place));
                }
                let read = |path: &Path| match path.exists() {
                    true => fs::read_to_string(path).map(Some).map_err(Error::io("read", path)),
                    false => Ok(None),
                };
                Ok(EncoderFiles {
                    checkpoint: fs::read(&place).map_err(Error::io("read", &place))?,
                    summary: read(&run.summary(Stage::Pretrain))?,
                    metrics: read(&run.metrics(Stage::Pretrain))?.unwrap_or_default(),
                    place,
                })
            }
        }
    }
}

impl EncoderFiles {
    /// The checkpoint.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it is damaged.
    pub fn load(&self) -> Result<Checkpoint> {
        Checkpoint::from_bytes(&self.checkpoint, &self.place)
    }
}
