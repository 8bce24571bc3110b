//! The heads of the probe matrix: each is fitted to some features and makes its choices on others.

use burn::module::Module;
use serde_json::{Value, json};

use super::super::Context;
use crate::config::{EvaluateConfig, ProbeHead};
use crate::error::{Error, Result};
use crate::judge::{Labeled, knn, ridge};
use crate::math::logits::softmax;
use crate::model::{Classifier, ClassifierShape};
use crate::progress::{Event, Reporter, Stage, Stop};
use crate::ranks::Alone;
use crate::samples::Samples;
use crate::store::features::Features;
use crate::training::{self, Optimizer, OptimizerConfig, Plan, Position, Replicas};

/// Features to fit to and features to choose on.
pub(super) struct Parts {
    pub train: Features,
    pub validation: Features,
    /// Number of classes of the data set.
    pub classes: usize,
}

/// A fitted head.
pub(super) enum Fitted {
    /// With the number of classes.
    Knn(knn::GridPoint, usize),
    Ridge(Box<ridge::RidgeChoice>),
    Network(Box<Classifier>),
}

/// What was chosen on the validation images, and its accuracy there.
pub(super) struct Choice {
    pub chosen: Value,
    pub accuracy: f64,
    pub fitted: Fitted,
}

impl Parts {
    /// Fits with the features of both parts in memory.
    fn with_numbers<T>(&self, fit: impl FnOnce(Labeled<'_>, Labeled<'_>) -> T) -> Result<T> {
        let numbers = (self.train.numbers()?, self.validation.numbers()?);
        let train = self.train.labeled(&numbers.0, self.classes);
        Ok(fit(train, self.validation.labeled(&numbers.1, self.classes)))
    }

    /// Peak memory of a head that needs all features in memory, in bytes; 0 for one that streams them.
    pub(super) fn memory(&self, head: ProbeHead, config: &EvaluateConfig) -> u64 {
        let ([train, width], validation) = (self.train.shape(), self.validation.len());
        let held = self.train.held();
        match head {
            ProbeHead::Knn => {
                let most = config.knn_neighbours.iter().copied().max().unwrap_or(0);
                held + knn::memory(train, validation, width, most)
            }
            ProbeHead::Ridge => {
                let penalties = config.ridge_penalties.len();
                held + ridge::memory_on(train, validation, width, self.classes, penalties)
            }
            ProbeHead::Linear | ProbeHead::Mlp | ProbeHead::Conv => 0,
        }
    }
}

/// Fits a head and makes its choices; `None` for heads that read maps (`convolution.rs`).
pub(super) fn fit(
    context: &Context,
    head: ProbeHead,
    parts: &Parts,
    reporter: &mut dyn Reporter,
) -> Result<Option<Choice>> {
    let config = &context.config.evaluate;
    match head {
        ProbeHead::Knn => {
            let grid =
                knn::Grid { k: config.knn_neighbours.clone(), temperatures: config.knn_temperatures.clone() };
            let (points, _) = parts.with_numbers(|train, validation| knn::judge(train, validation, &grid))?;
            let best =
                knn::best(&points).ok_or_else(|| Error::config("evaluate.knn_neighbours", "is empty"))?;
            // As in the config: the nearest f64 to an f32 has more digits.
            let temperature: f64 = best.temperature.to_string().parse().unwrap_or_default();
            let chosen = json!({ "neighbours": best.k, "temperature": temperature });
            Ok(Some(Choice { chosen, accuracy: best.accuracy, fitted: Fitted::Knn(best, parts.classes) }))
        }
        ProbeHead::Ridge => {
            let choice = parts.with_numbers(|train, validation| {
                ridge::choose_on(train, validation, &config.ridge_penalties)
            })?;
            let accuracy = choice.trials.iter().map(|trial| trial.accuracy).fold(0.0, f64::max);
            let chosen = json!({ "penalty": choice.ridge.penalty });
            Ok(Some(Choice { chosen, accuracy, fitted: Fitted::Ridge(Box::new(choice)) }))
        }
        ProbeHead::Linear => network(context, &[], parts, reporter).map(Some),
        ProbeHead::Mlp => network(context, &config.hidden, parts, reporter).map(Some),
        ProbeHead::Conv => Ok(None),
    }
}

/// Trains a classifier with each of the learning rates, and keeps the one that is best on the validation images.
fn network(
    context: &Context,
    hidden: &[usize],
    parts: &Parts,
    reporter: &mut dyn Reporter,
) -> Result<Choice> {
    let mut best: Option<(f64, f64, Classifier)> = None;
    for &rate in &context.config.evaluate.learning_rates {
        let network = match train(context, hidden, parts, rate, reporter) {
            Ok(network) => network,
            // A rate that diverges is merely a bad choice.
            Err(Error::Diverged { .. }) => continue,
            Err(error) => return Err(error),
        };
        let accuracy = training::evaluate(&network, &parts.validation, &context.device, &Alone).accuracy;
        parts.validation.failure().map_or(Ok(()), Err)?;
        if best.as_ref().is_none_or(|(_, most, _)| accuracy > *most) {
            best = Some((rate, accuracy, network));
        }
    }
    let (rate, accuracy, network) = best.ok_or_else(|| {
        Error::config("evaluate.learning_rates", "training diverged with every one; add a lower one")
    })?;
    let chosen = json!({ "learning_rate": rate });
    Ok(Choice { chosen, accuracy, fitted: Fitted::Network(Box::new(network)) })
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
        map: None,
    };
    let autodiff = device.clone().autodiff();
    let network = Classifier::new(&shape, Some(parts.train.moments()?), config.seed, &autodiff);
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
        resident: None,
    };
    let mut quiet = StopOnly(reporter);
    let trained = training::train(
        network,
        &mut optimizer,
        &parts.train,
        &plan,
        &mut |_, _| {},
        &mut quiet,
        &mut |_, _, _, _, _| Ok(true),
    );
    match trained {
        Ok(network) => Ok(network.valid()),
        Err(Error::Stopped { stop, .. }) => Err(stopped(stop)),
        Err(error) => Err(error),
    }
}

pub(super) fn stopped(stop: Stop) -> Error {
    let state = "between probes, which start over; features and baselines are kept".into();
    Error::Stopped { stage: super::NAME, stop, state }
}

/// Passes on requests to stop, but no events: a probe is too short for progress.
struct StopOnly<'a>(&'a dyn Reporter);

impl Reporter for StopOnly<'_> {
    fn report(&mut self, _: Event<'_>) {}

    fn stop(&self) -> Option<Stop> {
        self.0.stop()
    }
}

impl Fitted {
    /// Probabilities of the classes, `[images, classes]`; `train` are the features to search for nearest neighbours.
    pub(super) fn probabilities(
        &self,
        context: &Context,
        train: &Features,
        test: &Features,
    ) -> Result<Vec<f32>> {
        Ok(match self {
            Self::Knn(point, classes) => {
                let found = knn::nearest(&train.numbers()?, &test.numbers()?, test.values(), point.k);
                found.vote(train.labels(), *classes, point.k, point.temperature)
            }
            Self::Ridge(choice) => {
                let mut scores = choice.ridge.scores(&test.numbers()?);
                scores.iter_mut().for_each(|score| *score /= choice.temperature as f32);
                softmax(&mut scores, choice.ridge.bias.len());
                scores
            }
            Self::Network(network) => {
                let (evaluation, mut logits) = training::predict(&**network, test, &context.device);
                test.failure().map_or(Ok(()), Err)?;
                softmax(&mut logits, evaluation.confusion.len());
                logits
            }
        })
    }
}
