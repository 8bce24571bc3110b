//! What `evaluate` decides and refuses before any work: images, read-outs, baselines, numbers of labels.

use super::super::Context;
use super::super::extract::{check_data, describe, feature_map};
use super::super::finetune::full_readout;
use super::super::held_out::{Recipe, pretraining_split};
use super::verdict::{Comparison, LeftOut};
use super::{convolution, probed_config};
use crate::config::{Config, FinetuneConfig, FinetuneMode, PretrainConfig, ProbeHead};
use crate::data::{self, DataConfig, Dataset, Split};
use crate::error::{Error, Result};
use crate::model::{Encoder, HeadKind, Readout};
use crate::progress::{Event, Reporter, Stage};
use crate::store::checkpoint::Checkpoint;
use crate::store::networks::load_encoder;
use crate::store::stage_directory::checkpoint_in;
use crate::training::{Keep, KeepBy};

/// Everything that the evaluation needs, checked.
pub(super) struct Prepared {
    /// The run's config, with what the checkpoint says about pretraining.
    pub config: Config,
    pub encoder: Encoder,
    pub checkpoint: Checkpoint,
    /// SHA-256 of the checkpoint file.
    pub digest: String,
    /// The blocks to probe.
    pub layers: Vec<String>,
    pub dataset: Dataset,
    /// The images that pretraining held out.
    pub held_out: Option<Vec<u32>>,
    /// The labeled images that probes are fitted to and chosen on; `None` without probes.
    pub split: Option<Split>,
    /// What the verdict compares; `None` if nothing was asked for or nothing is left.
    pub comparison: Option<Comparison>,
    pub left_out: Vec<LeftOut>,
}

/// Reads the checkpoint and the data set, and checks every setting that the work will use.
pub(super) fn prepare(context: &Context, reporter: &mut dyn Reporter) -> Result<Prepared> {
    let place = checkpoint_in(&context.run.stage(Stage::Pretrain));
    let (encoder, checkpoint, digest) = load_encoder(&context.device, place)?;
    let (config, seed) = pretrained_config(context, &checkpoint)?;
    let layers = match config.evaluate.layers.is_empty() {
        true => encoder.block_names(),
        false => config.evaluate.layers.clone(),
    };
    check_readouts(&config, &encoder, &layers)?;
    let dataset = data::open(&config.data, &context.data_home, reporter)?;
    dataset.refuse_no_labels()?;
    check_data(context, &checkpoint, &dataset, reporter)?;
    let pretrained_on = pretraining_split(&checkpoint.header, &dataset, &config.data)?;
    if pretrained_on.is_none() {
        reporter.report(Event::Note(
            "evaluate: the images that pretraining held out cannot be identified; no rotation accuracy on them",
        ));
    }
    let held_out = pretrained_on.and_then(|split| split.validation);
    let probed = probed_config(&config, layers.clone(), dataset.train.len());
    let limit = probed.data.train_images.unwrap_or(dataset.train.len());
    let split = match config.evaluate.heads.is_empty() {
        true => None,
        false => Some(probe_split(&dataset, held_out.as_deref(), &config, limit)?),
    };
    if let (Some(split), true) = (&split, config.evaluate.heads.contains(&ProbeHead::Conv)) {
        layers.iter().try_for_each(|layer| convolution::config(&probed, layer, split).map(drop))?;
    }
    let (comparison, left_out) = Comparison::prepare(&config, &context.run, seed, &dataset, reporter)?;
    for LeftOut { name, reason } in &left_out {
        reporter.report(Event::Note(&format!("evaluate: left out `{name}`: {reason}")));
    }
    Ok(Prepared {
        config,
        encoder,
        checkpoint,
        digest,
        layers,
        dataset,
        held_out,
        split,
        comparison,
        left_out,
    })
}

/// The config with encoder, pixels and pretraining as in the checkpoint, and the seed of its initial parameters. The
/// encoder is never the supervised baseline's, even if the run's last `finetune` trained that.
fn pretrained_config(context: &Context, checkpoint: &Checkpoint) -> Result<(Config, u64)> {
    let header = &checkpoint.header;
    let Recipe { seed, data, mut pretrain } = Recipe::of(header)?;
    let last = context.run.checkpoint(Stage::Pretrain);
    let trained = last.exists().then(|| Checkpoint::load(&last)).transpose()?.map(|last| last.header);
    let trained = trained.as_ref().unwrap_or(header);
    // What it was trained for, whatever was planned.
    (pretrain.epochs, pretrain.steps) = (trained.epochs, Some(trained.steps).filter(|&steps| steps > 0));
    // Only how it trained matters here; how it chose needs its own validation split.
    pretrain =
        PretrainConfig { keep: Keep::Last, keep_by: KeepBy::Task, patience: None, probe: None, ..pretrain };
    let config = &context.config;
    let DataConfig { scale_pixels, normalise, .. } = data;
    let config = Config {
        data: DataConfig { scale_pixels, normalise, ..config.data.clone() },
        encoder: header.architecture().unwrap_or_else(|| config.encoder.clone()),
        finetune: FinetuneConfig { from_scratch: false, ..config.finetune.clone() },
        pretrain,
        ..config.clone()
    };
    config.validate()?;
    Ok((config, seed))
}

/// Refuses read-outs that the encoder does not have.
fn check_readouts(config: &Config, encoder: &Encoder, layers: &[String]) -> Result<()> {
    let evaluate = &config.evaluate;
    let all = Readout { layers: layers.to_vec(), pool: evaluate.pool, views: evaluate.views };
    encoder.read_width(&all).map_err(|error| in_section(error, "extract.", "evaluate."))?;
    if evaluate.baselines.is_empty() || evaluate.labels_per_class.is_empty() {
        return Ok(());
    }
    let readout = config.extract.readout();
    encoder.read_width(&readout)?;
    match (config.finetune.mode, config.finetune.head) {
        (FinetuneMode::Full | FinetuneMode::Joint, _) => full_readout(config, encoder).map(drop),
        (FinetuneMode::Frozen, HeadKind::Conv) if feature_map(encoder, &config.extract).is_none() => {
            let problem = format!(
                "`conv` reads the map of one block in one view, section `extract` names {}",
                describe(encoder, &readout)
            );
            Err(Error::config("finetune.head", problem))
        }
        (FinetuneMode::Frozen, _) => Ok(()),
    }
}

/// Turns an error about a key of another section into one about the key that was set.
fn in_section(error: Error, from: &str, to: &str) -> Error {
    match error {
        Error::Config { path, problem } => Error::Config { path: path.replace(from, to), problem },
        other => other,
    }
}

/// Of the first `limit` training images, those to fit to and those to choose on: the ones held out by pretraining, or
/// if there are none, as many as section `evaluate` says.
fn probe_split(dataset: &Dataset, held_out: Option<&[u32]>, config: &Config, limit: usize) -> Result<Split> {
    let split = match held_out {
        Some(held_out) => {
            let (validation, train) =
                (0..limit as u32).partition(|index| held_out.binary_search(index).is_ok());
            Split { train, validation: Some(validation) }
        }
        None => {
            // At most a quarter of the images.
            let held_out = config.evaluate.validation_images.min(limit / 4);
            let data =
                DataConfig { validation_images: held_out, labels_per_class: None, ..config.data.clone() };
            data::split(&dataset.train.labels[..limit], dataset.class_names.len(), &data, config.seed)?
        }
    };
    let chosen_on = split.validation.as_ref().map_or(0, Vec::len);
    match chosen_on == 0 || split.train.is_empty() {
        false => Ok(split),
        true => Err(Error::config(
            "evaluate.validation_images",
            format!(
                "{chosen_on} of the first {limit} images are held out to choose on, {} left to fit to; raise it \
                 or evaluate.train_images",
                split.train.len()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::bench::made_up_images;

    #[test]
    fn probes_are_chosen_on_what_pretraining_held_out_and_fitted_to_the_rest() {
        let dataset = Dataset::made_up(made_up_images(32));
        let config = Config::default();
        let held_out = [1, 4, 5, 40];
        let split = probe_split(&dataset, Some(&held_out), &config, 8).unwrap();
        assert_eq!(split, Split { train: vec![0, 2, 3, 6, 7], validation: Some(vec![1, 4, 5]) });
        let drawn = probe_split(&dataset, None, &config, 8).unwrap();
        assert_eq!((drawn.train.len(), drawn.validation.unwrap().len()), (6, 2));
        for nothing in [&[][..], &[9], &[0, 1]] {
            let error = probe_split(&dataset, Some(nothing), &config, 2).unwrap_err().to_string();
            assert!(error.starts_with("evaluate.validation_images"), "{error}");
        }
    }
}
