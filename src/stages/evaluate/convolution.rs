//! Probes with convolutions on the map of a block: extraction and `finetune` with `head` `conv`, in a sub-directory for
//! each block, on the images that the other probes see.

use serde_json::json;

use super::super::Context;
use super::super::finetune::{Sources, test_classifier, train_classifier};
use super::probes::ProbeResult;
use super::{extract, sub_context};
use crate::config::{Config, Overrides, ProbeHead};
use crate::data::Split;
use crate::error::Result;
use crate::progress::{Event, Reporter, Stage};
use crate::store::predictions::Predictions;
use crate::store::run_directory::RunDirectory;
use crate::store::run_record::Opening;

/// A trained head; the test set is still closed.
pub(super) struct Trained {
    context: Context,
    sources: Sources,
    layer: String,
    /// Features per image.
    features: usize,
    /// Accuracy on the validation images.
    validation: f64,
}

/// The config of the head on a block, from `probed`, the config of the other probes' extraction.
pub(super) fn config(probed: &Config, layer: &str, split: &Split) -> Result<Config> {
    let mut overrides = Overrides::default();
    // Only their number matters, for settings that need some; `Sources::split` says which ones.
    overrides.set("data.validation_images", split.validation.as_ref().map_or(0, Vec::len));
    overrides.set("data.labels_per_class", json!(null));
    overrides.set("extract.layers", json!([layer]));
    overrides.set("extract.pool", "none");
    overrides.set("extract.views", 1);
    overrides.set("finetune.mode", "frozen");
    overrides.set("finetune.head", "conv");
    overrides.set("finetune.hidden", json!(null));
    overrides.set("finetune.standardise", false);
    // Keys of mode `full` only.
    overrides.set("finetune.augment", json!(null));
    overrides.set("finetune.encoder_rate", 1.0);
    overrides.set("finetune.epochs", probed.evaluate.epochs);
    overrides.set("finetune.batch_size", probed.evaluate.batch_size);
    probed.with(&overrides)
}

/// Trains the head on every block; `sub` is the context of the other probes' extraction.
pub(super) fn train(
    context: &Context,
    sub: &Context,
    layers: &[String],
    split: &Split,
    reporter: &mut dyn Reporter,
) -> Result<Vec<Trained>> {
    let mut trained = Vec::new();
    for layer in layers {
        let run = RunDirectory::new(sub.run.root().join("conv").join(layer));
        let of_layer = sub_context(context, run, config(&sub.config, layer, split)?)?;
        reporter.report(Event::Note(&format!("evaluate: {layer}, conv")));
        let extracted = extract(&of_layer, Some(context.run.stage(Stage::Pretrain)), reporter)?;
        let sources = Sources { split: Some(split.clone()), ..Sources::default() };
        let summary = train_classifier(&of_layer, &sources, reporter)?;
        trained.push(Trained {
            context: of_layer,
            sources,
            layer: layer.clone(),
            features: extracted.train[1],
            validation: summary.validation_accuracy.unwrap_or(0.0),
        });
    }
    Ok(trained)
}

impl Trained {
    /// Opens the test set; returns what for, too.
    pub(super) fn test(&self, reporter: &mut dyn Reporter) -> Result<(ProbeResult, Opening)> {
        let Self { context, sources, layer, features, validation } = self;
        let head = ProbeHead::Conv.name();
        let purpose = format!("evaluate: probe {layer} {head}");
        let summary = test_classifier(context, sources, None, &purpose, reporter)?;
        let statistics = Predictions::load(&context.run.predictions())?.statistics();
        let probe = ProbeResult {
            layer: layer.clone(),
            head: head.into(),
            features: *features,
            chosen: json!({}),
            validation_accuracy: *validation,
            test_accuracy: statistics.accuracy,
            test_interval: statistics.accuracy_interval,
            calibration_error: statistics.calibration_error,
        };
        Ok((probe, Opening { digest: summary.checkpoint, purpose }))
    }
}
