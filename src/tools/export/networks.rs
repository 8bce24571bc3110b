//! The networks of a run that can leave it.

use std::path::PathBuf;

use super::{Files, Request, What};
use crate::config::{self, Overrides};
use crate::device::{self, DeviceName};
use crate::error::{Error, Result};
use crate::files::sha256_file;
use crate::model::{BlockShape, Encoder, EncoderConfig, ImageShape, Parameters, Readout, collect};
use crate::progress::Stage;
use crate::store::checkpoint::{Checkpoint, Header};
use crate::store::networks::{load_encoder, load_rotation_network};
use crate::store::stage_directory::checkpoint_in;
use crate::tools::apply;

/// An encoder, and what stands on it.
pub(super) struct Network {
    /// The checkpoint that it comes from.
    pub path: PathBuf,
    /// SHA-256 of that.
    pub digest: String,
    /// What the encoder's checkpoint says of itself.
    pub header: Header,
    /// The encoder's section of the config.
    pub config: EncoderConfig,
    pub encoder: Encoder,
    /// The encoder's parameters.
    pub parameters: Parameters,
    /// What the head, or whoever uses the features, sees of the encoder.
    pub readout: Readout,
    pub head: Option<Head>,
}

/// What stands on an encoder.
pub(super) enum Head {
    /// The dense layer of pretraining, `output`.
    Rotation(Parameters),
    Classifier {
        parameters: Parameters,
        /// Shape of the features, if convolutions read them as a map.
        map: Option<ImageShape>,
        /// Names by logit.
        classes: Vec<String>,
    },
}

impl Network {
    /// The network that `what` names; `None` for what is written without one.
    pub(super) fn load(request: &Request, what: What) -> Result<Option<Self>> {
        match what {
            What::Encoder => Self::pretrained(request, extracted(request)?).map(|(network, _)| Some(network)),
            What::Classifier => Self::classifier(request).map(Some),
            What::Rotation => Self::rotation(request).map(Some),
            What::Features | What::Checkpoint => Ok(None),
        }
    }

    fn pretrained(request: &Request, readout: Readout) -> Result<(Self, Checkpoint)> {
        let place = request.checkpoint.clone().unwrap_or_else(|| request.run.stage(Stage::Pretrain));
        let path = checkpoint_in(&place);
        let (encoder, checkpoint, digest) = load_encoder(&device::open(&DeviceName::Flex)?, path.clone())?;
        encoder.read_width(&readout)?;
        let network = Self {
            config: architecture(&path, &checkpoint.header)?,
            header: checkpoint.header.clone(),
            parameters: collect(&encoder),
            head: None,
            path,
            digest,
            encoder,
            readout,
        };
        Ok((network, checkpoint))
    }

    fn rotation(request: &Request) -> Result<Self> {
        let (network, checkpoint) = Self::pretrained(request, Readout::default())?;
        let found = load_rotation_network(network.encoder.clone(), &network.path, &checkpoint)?;
        let Some(found) = found else {
            return Err(Checkpoint::refuse(&network.path, "holds no rotation head"));
        };
        let named = |(name, data)| (format!("output.{name}"), data);
        let head = Head::Rotation(collect(&found.head).into_iter().map(named).collect());
        Ok(Self { head: Some(head), ..network })
    }

    fn classifier(request: &Request) -> Result<Self> {
        let device = device::open(&DeviceName::Flex)?;
        let found = apply::finetuned(&request.run, request.checkpoint.clone(), &device)?;
        let path = request.run.result(Stage::Finetune);
        let head = Head::Classifier {
            parameters: collect(&found.network.classifier),
            map: found.network.classifier.map(),
            classes: found.classes,
        };
        Ok(Self {
            config: architecture(&path, &found.header)?,
            header: found.header,
            digest: sha256_file(&path)?,
            parameters: collect(&found.network.encoder),
            readout: found.network.readout().clone(),
            encoder: found.network.encoder,
            head: Some(head),
            path,
        })
    }

    /// The convolutions of each block; empty for an encoder that is no row of layers.
    pub(super) fn blocks(&self) -> Vec<Vec<BlockShape>> {
        self.config.layers(self.header.image[2])
    }

    /// Names of the outputs, in their order; empty for an encoder alone.
    pub(super) fn classes(&self) -> Vec<String> {
        match &self.head {
            None => Vec::new(),
            Some(Head::Rotation(_)) => ["0", "90", "180", "270"].map(str::to_owned).into(),
            Some(Head::Classifier { classes, .. }) => classes.clone(),
        }
    }

    /// In words.
    pub(super) fn describe(&self, what: &str) -> Result<String> {
        Ok(match &self.head {
            None => format!("encoder, {} features an image", self.encoder.read_width(&self.readout)?),
            Some(Head::Rotation(_)) => format!("{what}: encoder and rotation head, 4 rotations"),
            Some(Head::Classifier { classes, .. }) => {
                format!("{what}: encoder and classifier, {} classes", classes.len())
            }
        })
    }
}

/// Writes `checkpoint.safetensors`: encoder and rotation head in this program's own format, without the optimizer's state.
pub(super) fn write_checkpoint(request: &Request, files: &mut Files<'_>) -> Result<()> {
    let place = request.checkpoint.clone().unwrap_or_else(|| request.run.stage(Stage::Pretrain));
    let (_, checkpoint, _) = load_encoder(&device::open(&DeviceName::Flex)?, checkpoint_in(&place))?;
    let checkpoint = Checkpoint { optimizer: Parameters::new(), ..checkpoint };
    let content = "encoder and rotation head, for this program".to_owned();
    files
        .add(&format!("{}.safetensors", What::Checkpoint.stem()), content, |path| checkpoint.save_alone(path))
}

fn architecture(path: &std::path::Path, header: &Header) -> Result<EncoderConfig> {
    header.encoder.clone().ok_or_else(|| Checkpoint::refuse(path, "holds no encoder"))
}

/// What `extract` read of the run's encoder; its last layer where it did not.
fn extracted(request: &Request) -> Result<Readout> {
    let config = request.run.config(Stage::Extract);
    if !config.exists() {
        return Ok(Readout::default());
    }
    Ok(config::load(&config, &Overrides::default())?.extract.readout())
}

/// Why a format cannot hold a network.
pub(super) fn refuse(network: &Network, problem: String) -> Error {
    Error::checkpoint(&network.path, problem, "run the stage that wrote it again, with --force")
}
