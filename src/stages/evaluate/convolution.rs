//! Probes with convolutions on the map of a block: extraction and `finetune` with `head` `conv`, in a sub-directory for
//! each block, on the images that the other probes see.

use serde_json::json;

use super::super::Context;
use super::super::finetune::{Sources, finetune};
use super::probes::Probe;
use super::{extract, sub_context};
use crate::config::{Overrides, ProbeHead};
use crate::error::Result;
use crate::predictions::Predictions;
use crate::progress::{Event, Reporter, Stage};
use crate::run_directory::RunDirectory;

/// Trains and tests the head on every block; `sub` is the context of the other probes' extraction.
pub(super) fn train(
    context: &Context,
    sub: &Context,
    layers: &[String],
    validation: Option<&[u32]>,
    reporter: &mut dyn Reporter,
) -> Result<Vec<Probe>> {
    let mut probes = Vec::new();
    for layer in layers {
        let mut overrides = Overrides::default();
        overrides.set("data.validation_images", validation.map_or(0, <[u32]>::len));
        overrides.set("data.labels_per_class", json!(null));
        overrides.set("extract.layers", json!([layer]));
        overrides.set("extract.pool", "none");
        overrides.set("extract.views", 1);
        overrides.set("finetune.mode", "frozen");
        overrides.set("finetune.head", "conv");
        overrides.set("finetune.hidden", json!(null));
        overrides.set("finetune.standardise", false);
        overrides.set("finetune.epochs", context.config.evaluate.epochs);
        overrides.set("finetune.batch_size", context.config.evaluate.batch_size);
        let run = RunDirectory::new(sub.run.root().join("conv").join(layer));
        let context_of_layer = sub_context(context, run.clone(), sub.config.with(&overrides)?)?;
        reporter.report(Event::Note(&format!("evaluate: {layer}, conv")));
        let extracted = extract(&context_of_layer, Some(context.run.stage(Stage::Pretrain)), reporter)?;
        let summary = finetune(&context_of_layer, &Sources::default(), reporter)?;
        let last = summary.last_epoch.and_then(|epoch| epoch.validation_accuracy);
        let statistics = Predictions::load(&run.predictions())?.statistics();
        probes.push(Probe {
            layer: layer.clone(),
            head: ProbeHead::Conv.name().into(),
            features: extracted.train[1],
            chosen: json!({}),
            validation_accuracy: last.unwrap_or(0.0),
            test_accuracy: statistics.accuracy,
            test_interval: statistics.accuracy_interval,
            calibration_error: statistics.calibration_error,
        });
    }
    Ok(probes)
}
