//! The probe matrix: every block, and all of them side by side, by every head.

use std::ops::Range;

use burn::module::Module;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::Context;
use crate::config::ProbeHead;
use crate::data::Split;
use crate::error::{Error, Result};
use crate::features::Features;
use crate::judge::statistics::{Interval, Statistics, softmax};
use crate::judge::{Labeled, accuracy, knn, ridge};
use crate::model::{Classifier, ClassifierShape, Encoder, Readout};
use crate::progress::{Event, Reporter, Stage, Stop};
use crate::samples::Samples;
use crate::training::{self, Optimizer, OptimizerConfig, Plan, Position, Replicas};

/// A head on the features of a layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// The block, or all blocks side by side.
    pub layer: String,
    /// `knn`, `ridge`, `linear` or `mlp`.
    pub head: String,
    /// Features an image.
    pub features: usize,
    /// What was chosen on the validation images.
    pub chosen: Value,
    /// Accuracy on the validation images, which the choice was made by: a little too good.
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
    chosen: Value,
    validation_accuracy: f64,
    fitted: Fitted,
}

enum Fitted {
    Knn(knn::GridPoint),
    Ridge(Box<ridge::Choice>),
    Network(Box<Classifier>),
}

/// Features to fit to and features to choose on.
struct Parts {
    train: Features,
    validation: Features,
    classes: usize,
}

/// Fits every head to every layer and makes its choices on the validation images.
pub(super) fn choose(
    context: &Context,
    all: &Features,
    split: &Split,
    layers: &[String],
    encoder: &Encoder,
    reporter: &mut dyn Reporter,
) -> Result<Chosen> {
    let heads = &context.config.evaluate.heads;
    let classes = all.labels().iter().map(|&label| usize::from(label) + 1).max().unwrap_or(1);
    let train = all.subset(&split.train);
    let validation = all.subset(split.validation.as_deref().unwrap_or_default());
    if validation.labels().is_empty() {
        return Err(Error::config(
            "evaluate.validation_images",
            "holds out nothing to choose on; set it, or data.validation_images, to 1 or more",
        ));
    }
    let mut cells: Vec<Cell> = Vec::new();
    for (layer, columns) in reads(context, layers, encoder)? {
        let parts =
            Parts { train: train.columns(&columns), validation: validation.columns(&columns), classes };
        for &head in heads {
            if let Some(stop) = reporter.stop() {
                return Err(stopped(stop));
            }
            let Some((chosen, validation_accuracy, fitted)) = fit(context, head, &parts, reporter)? else {
                continue;
            };
            reporter.report(Event::Note(&format!(
                "evaluate: {layer}, {}: validation accuracy {validation_accuracy:.4}",
                head.name()
            )));
            let (layer, columns) = (layer.clone(), columns.clone());
            cells.push(Cell { layer, columns, head, chosen, validation_accuracy, fitted });
        }
    }
    Ok(Chosen(cells))
}

/// The probe with the highest validation accuracy, the first where several are.
pub(super) fn best(probes: &[Probe]) -> Option<&Probe> {
    probes.iter().reduce(|best, probe| match probe.validation_accuracy > best.validation_accuracy {
        true => probe,
        false => best,
    })
}

/// Each layer and then all of them, with their columns in the features: view by view, layer by layer.
fn reads(
    context: &Context,
    layers: &[String],
    encoder: &Encoder,
) -> Result<Vec<(String, Vec<Range<usize>>)>> {
    let evaluate = &context.config.evaluate;
    let width =
        |layer: &String| encoder.read_width(&Readout { layers: vec![layer.clone()], pool: evaluate.pool });
    let widths = layers.iter().map(width).collect::<Result<Vec<usize>>>()?;
    let total: usize = widths.iter().sum();
    let mut first = 0;
    let mut reads = Vec::new();
    for (layer, width) in layers.iter().zip(widths) {
        let columns = (0..evaluate.views).map(|view| {
            let start = view * total + first;
            start..start + width
        });
        reads.push((layer.clone(), columns.collect()));
        first += width;
    }
    if layers.len() > 1 {
        let everything = 0..total * evaluate.views;
        reads.push((layers.join("+"), vec![everything]));
    }
    Ok(reads)
}

impl Parts {
    fn labeled<'a>(&self, features: &'a Features) -> Labeled<'a> {
        Labeled {
            values: features.numbers(),
            labels: features.labels(),
            width: features.values(),
            classes: self.classes,
        }
    }
}

/// What was chosen, its accuracy on the validation images, and what was fitted; nothing for heads that stand on maps
/// (`convolution.rs`).
fn fit(
    context: &Context,
    head: ProbeHead,
    parts: &Parts,
    reporter: &mut dyn Reporter,
) -> Result<Option<(Value, f64, Fitted)>> {
    let config = &context.config.evaluate;
    let (train, validation) = (parts.labeled(&parts.train), parts.labeled(&parts.validation));
    match head {
        ProbeHead::Knn => {
            let grid =
                knn::Grid { k: config.knn_neighbours.clone(), temperatures: config.knn_temperatures.clone() };
            let (points, _) = knn::judge(train, validation, &grid);
            let best =
                knn::best(&points).ok_or_else(|| Error::config("evaluate.knn_neighbours", "is empty"))?;
            // As written in the config: the nearest f64 to an f32 has more digits.
            let temperature: f64 = best.temperature.to_string().parse().unwrap_or_default();
            let chosen = json!({ "neighbours": best.k, "temperature": temperature });
            Ok(Some((chosen, best.accuracy, Fitted::Knn(best))))
        }
        ProbeHead::Ridge => {
            let choice = ridge::choose_on(train, validation, &config.ridge_penalties);
            let best = choice.trials.iter().map(|trial| trial.accuracy).fold(0.0, f64::max);
            Ok(Some((json!({ "penalty": choice.ridge.penalty }), best, Fitted::Ridge(Box::new(choice)))))
        }
        ProbeHead::Linear => network(context, &[], parts, reporter).map(Some),
        ProbeHead::Mlp => network(context, &config.hidden, parts, reporter).map(Some),
        ProbeHead::Conv => Ok(None),
    }
}

/// A classifier trained with each of the learning rates, and the one that is best on the validation images.
fn network(
    context: &Context,
    hidden: &[usize],
    parts: &Parts,
    reporter: &mut dyn Reporter,
) -> Result<(Value, f64, Fitted)> {
    let mut best: Option<(f64, f64, Classifier)> = None;
    for &rate in &context.config.evaluate.learning_rates {
        let network = match train(context, hidden, parts, rate, reporter) {
            Ok(network) => network,
            // A rate that is too high is a choice that was not good.
            Err(Error::Diverged { .. }) => continue,
            Err(error) => return Err(error),
        };
        let accuracy = training::evaluate(&network, &parts.validation, &context.device).accuracy;
        if best.as_ref().is_none_or(|(_, most, _)| accuracy > *most) {
            best = Some((rate, accuracy, network));
        }
    }
    let (rate, accuracy, network) = best.ok_or_else(|| {
        Error::config("evaluate.learning_rates", "training diverged with each of them; add a lower one")
    })?;
    Ok((json!({ "learning_rate": rate }), accuracy, Fitted::Network(Box::new(network))))
}

fn train(
    context: &Context,
    hidden: &[usize],
    parts: &Parts,
    learning_rate: f64,
    reporter: &mut dyn Reporter,
) -> Result<Classifier> {
    let Context { config, device, .. } = context;
    let evaluate = &config.evaluate;
    let shape = ClassifierShape {
        features: parts.train.values(),
        hidden: hidden.to_vec(),
        batch_norm: true,
        classes: parts.classes,
    };
    let autodiff = device.clone().autodiff();
    let network = Classifier::new(&shape, Some(parts.train.moments()), config.seed, &autodiff);
    let steps = training::steps_an_epoch(&parts.train, evaluate.batch_size) * evaluate.epochs as u64;
    let rule = OptimizerConfig { learning_rate, ..config.finetune.optimizer.clone() };
    let mut optimizer = Optimizer::new(&rule).with_schedule(&config.finetune.schedule, steps);
    let plan = Plan {
        stage: Stage::Finetune,
        steps,
        before: Vec::new(),
        from: Position::default(),
        batch_size: evaluate.batch_size,
        seed: config.seed,
        label_smoothing: 0.0,
        save: config.save.clone(),
        replicas: Replicas::new(std::slice::from_ref(device))?,
    };
    let mut quiet = StopOnly(reporter);
    let trained = training::train(
        network,
        &mut optimizer,
        &parts.train,
        &plan,
        &mut |_, _| {},
        &mut quiet,
        &mut |_, _, _, _| Ok(true),
    );
    match trained {
        Ok(network) => Ok(network.valid()),
        Err(Error::Stopped { stop, .. }) => Err(stopped(stop)),
        Err(error) => Err(error),
    }
}

fn stopped(stop: Stop) -> Error {
    let state = "between probes, which begin anew; features and baselines are kept".into();
    Error::Stopped { stage: super::NAME, stop, state }
}

/// Passes on the wish to end, and no events: a probe is too short to be watched.
struct StopOnly<'a>(&'a dyn Reporter);

impl Reporter for StopOnly<'_> {
    fn report(&mut self, _: Event<'_>) {}

    fn stop(&self) -> Option<Stop> {
        self.0.stop()
    }
}

impl Chosen {
    /// Judges every probe on the test features; `all` are the training features that nearest neighbours are sought in.
    pub(super) fn test(
        &self,
        context: &Context,
        all: &Features,
        split: &Split,
        test: &Features,
    ) -> Result<Vec<Probe>> {
        let train = all.subset(&split.train);
        let probe = |cell: &Cell| {
            let test = test.columns(&cell.columns);
            let probabilities = cell.probabilities(context, &train, &test);
            let classes = probabilities.len() / test.labels().len().max(1);
            debug_assert!(accuracy(&probabilities, test.labels(), classes) <= 1.0);
            let statistics = Statistics::new(&probabilities, test.labels(), classes);
            Probe {
                layer: cell.layer.clone(),
                head: cell.head.name().into(),
                features: test.values(),
                chosen: cell.chosen.clone(),
                validation_accuracy: cell.validation_accuracy,
                test_accuracy: statistics.accuracy,
                test_interval: statistics.accuracy_interval,
                calibration_error: statistics.calibration_error,
            }
        };
        Ok(self.0.iter().map(probe).collect())
    }
}

impl Cell {
    /// `[images, classes]`.
    fn probabilities(&self, context: &Context, train: &Features, test: &Features) -> Vec<f32> {
        match &self.fitted {
            Fitted::Knn(point) => {
                let train = train.columns(&self.columns);
                let found = knn::nearest(train.numbers(), test.numbers(), test.values(), point.k);
                let classes = train.labels().iter().max().map_or(1, |&label| usize::from(label) + 1);
                found.vote(train.labels(), classes, point.k, point.temperature)
            }
            Fitted::Ridge(choice) => {
                let mut scores = choice.ridge.scores(test.numbers());
                scores.iter_mut().for_each(|score| *score /= choice.temperature as f32);
                softmax(&mut scores, choice.ridge.bias.len());
                scores
            }
            Fitted::Network(network) => {
                let (evaluation, mut logits) = training::predict(&**network, test, &context.device);
                softmax(&mut logits, evaluation.confusion.len());
                logits
            }
        }
    }
}
