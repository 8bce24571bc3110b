//! The probe matrix: every block, and all blocks concatenated, with every head.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::{Context, memory};
use super::heads::{Choice, Parts, fit, stopped};
use crate::config::ProbeHead;
use crate::data::Split;
use crate::error::Result;
use crate::judge::statistics::{Interval, Statistics};
use crate::model::{Encoder, Readout, Views};
use crate::progress::{Event, Reporter};
use crate::samples::Samples;
use crate::store::features::Features;

/// A head on the features of a layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The block, or all blocks concatenated.
    pub layer: String,
    /// `knn`, `ridge`, `linear`, `mlp` or `conv`.
    pub head: String,
    /// Features per image.
    pub features: usize,
    /// What was chosen on the validation images.
    pub chosen: Value,
    /// Accuracy on the validation images; slightly optimistic, since the choice was made by it.
    pub validation_accuracy: f64,
    /// Accuracy on the test set.
    pub test_accuracy: f64,
    /// Its bootstrap interval, 95 %.
    pub test_interval: Interval,
    /// Expected calibration error on the test set.
    pub calibration_error: f64,
}

/// All probes, fitted and chosen; the test set is still closed.
pub(super) struct Chosen(Vec<Cell>);

struct Cell {
    layer: String,
    columns: Vec<Range<usize>>,
    head: ProbeHead,
    choice: Choice,
}

/// Fits every head to every layer and makes its choices on the validation images.
pub(super) fn choose(
    context: &Context,
    all: &Features,
    split: &Split,
    layers: &[String],
    encoder: &Encoder,
    classes: usize,
    reporter: &mut dyn Reporter,
) -> Result<Chosen> {
    let heads = &context.config.evaluate.heads;
    let train = all.subset(&split.train);
    let validation = all.subset(split.validation.as_deref().unwrap_or_default());
    let mut cells: Vec<Cell> = Vec::new();
    let reads = reads(context, layers, encoder)?;
    let parts_of = |columns: &[Range<usize>]| Parts {
        train: train.columns(columns),
        validation: validation.columns(columns),
        classes,
    };
    check_memory(context, reads.iter().map(|(_, columns)| parts_of(columns)), reporter)?;
    for (layer, columns) in reads {
        let parts = parts_of(&columns);
        for &head in heads {
            if let Some(stop) = reporter.stop() {
                return Err(stopped(stop));
            }
            let Some(choice) = fit(context, head, &parts, reporter)? else {
                continue;
            };
            reporter.report(Event::Note(&format!(
                "evaluate: {layer}, {}: validation accuracy {:.4}",
                head.name(),
                choice.accuracy
            )));
            cells.push(Cell { layer: layer.clone(), columns: columns.clone(), head, choice });
        }
    }
    Ok(Chosen(cells))
}

/// Reports the memory of heads that need all features at once, and refuses what does not fit.
fn check_memory(
    context: &Context,
    parts: impl Iterator<Item = Parts>,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    let config = &context.config.evaluate;
    let needs = parts.flat_map(|parts| {
        let needs =
            config.heads.iter().map(move |&head| (parts.memory(head, config), head, parts.train.shape()));
        needs.collect::<Vec<_>>()
    });
    match needs.max_by_key(|(needed, ..)| *needed) {
        None | Some((0, ..)) => Ok(()),
        Some((needed, head, [images, width])) => {
            let what = format!("evaluate: {} on {images} x {width} features", head.name());
            memory::require(&what, needed, LESS, reporter)
        }
    }
}

/// How to get by with less memory.
const LESS: &str = "take fewer images (evaluate.train_images), narrower features (evaluate.pool, evaluate.layers), or \
                    leave `knn` and `ridge` out of evaluate.heads";

/// The probe with the highest validation accuracy, the first one among equals.
pub(super) fn best(probes: &[ProbeResult]) -> Option<&ProbeResult> {
    probes.iter().reduce(|best, probe| match probe.validation_accuracy > best.validation_accuracy {
        true => probe,
        false => best,
    })
}

/// Each layer, and then all of them, with their columns in the features (view by view, layer by layer).
fn reads(
    context: &Context,
    layers: &[String],
    encoder: &Encoder,
) -> Result<Vec<(String, Vec<Range<usize>>)>> {
    let evaluate = &context.config.evaluate;
    let width = |layer: &String| {
        encoder.read_width(&Readout { layers: vec![layer.clone()], pool: evaluate.pool, views: Views::One })
    };
    let widths = layers.iter().map(width).collect::<Result<Vec<usize>>>()?;
    let total: usize = widths.iter().sum();
    let mut first = 0;
    let mut reads = Vec::new();
    for (layer, width) in layers.iter().zip(widths) {
        let columns = (0..evaluate.views.rotations()).map(|view| {
            let start = view * total + first;
            start..start + width
        });
        reads.push((layer.clone(), columns.collect()));
        first += width;
    }
    if layers.len() > 1 {
        let everything = 0..total * evaluate.views.rotations();
        reads.push((layers.join("+"), vec![everything]));
    }
    Ok(reads)
}

impl Chosen {
    /// Layer, head and choice of every probe.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, &'static str, &Value)> {
        self.0.iter().map(|cell| (cell.layer.as_str(), cell.head.name(), &cell.choice.chosen))
    }

    /// Evaluates every probe on the test features; `all` are the training features to search for nearest neighbours.
    pub(super) fn test(
        &self,
        context: &Context,
        all: &Features,
        split: &Split,
        test: &Features,
    ) -> Result<Vec<ProbeResult>> {
        let train = all.subset(&split.train);
        let probe = |cell: &Cell| {
            let test = test.columns(&cell.columns);
            let train = train.columns(&cell.columns);
            let probabilities = cell.choice.fitted.probabilities(context, &train, &test)?;
            let classes = probabilities.len() / test.labels().len().max(1);
            let statistics = Statistics::new(&probabilities, test.labels(), classes);
            Ok(ProbeResult {
                layer: cell.layer.clone(),
                head: cell.head.name().into(),
                features: test.values(),
                chosen: cell.choice.chosen.clone(),
                validation_accuracy: cell.choice.accuracy,
                test_accuracy: statistics.accuracy,
                test_interval: statistics.accuracy_interval,
                calibration_error: statistics.calibration_error,
            })
        };
        self.0.iter().map(probe).collect()
    }
}
