//! The order of samples, and stops within an epoch.

use burn::module::Module;

use super::*;
use crate::data::{AugmentConfig, Pixels};
use crate::model::{Classifier, ClassifierShape, Parameters, collect, load};
use crate::progress::Stop;
use crate::ranks::{Alone, Ranks};
use crate::samples::{RotatedImages, Rotations};
use crate::tools::bench::made_up_images;

struct Counted(usize, usize);

impl Samples for Counted {
    fn len(&self) -> usize {
        self.0
    }
    fn values(&self) -> usize {
        6
    }
    fn group(&self) -> usize {
        self.1
    }
    fn fill(&self, epoch: u64, indices: &[u32], inputs: &mut [f32], labels: &mut [u16]) {
        for ((row, label), &index) in inputs.chunks_mut(6).zip(labels).zip(indices) {
            *label = (index % 3) as u16;
            let number = |place: usize| ((epoch as usize + index as usize * 7 + place * 5) % 11) as f32;
            row.iter_mut().enumerate().for_each(|(place, value)| *value = number(place) / 11.0);
        }
    }
}

#[test]
fn an_epoch_visits_every_sample_once_and_keeps_groups_together() {
    let order = epoch_order(&Counted(40, 4), 7, 0);
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..40).collect::<Vec<_>>());
    assert!(order.chunks(4).all(|group| group[0] % 4 == 0 && group[3] == group[0] + 3));
    assert_ne!(order, epoch_order(&Counted(40, 4), 7, 1));
}

/// Asks for a stop after so many steps. The samples reported of an epoch must add up, after a resume too.
struct StopAfter {
    steps: usize,
    samples: usize,
}

impl Reporter for StopAfter {
    fn report(&mut self, event: Event<'_>) {
        match event {
            Event::EpochStarted { samples, done, .. } => self.samples = samples - done,
            Event::StepFinished { samples, .. } => {
                self.steps = self.steps.saturating_sub(1);
                self.samples -= samples;
            }
            Event::EpochFinished(_) => assert_eq!(self.samples, 0),
            _ => {}
        }
    }
    fn stop(&self) -> Option<Stop> {
        (self.steps == 0).then_some(Stop::Interrupt)
    }
}

/// What a checkpoint holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Saved {
    position: Position,
    steps: u64,
    evaluated: Parameters,
    optimizer: Parameters,
}

const SAMPLES: Counted = Counted(50, 1);
const EPOCHS: usize = 3;

/// Trains from `saved` until the end or a stop; gives what was saved last. On one pool, as the program does: running
/// statistics are kept by thread until they are read.
fn trained(rule: &OptimizerConfig, average: Option<f64>, saved: &Saved, steps: usize) -> Saved {
    let (last, stopped) = trained_by(Arc::new(Alone), rule, average, saved, steps);
    assert_eq!(stopped, steps < total_steps() as usize);
    last
}

fn total_steps() -> u64 {
    steps_an_epoch(&SAMPLES, 8) * EPOCHS as u64
}

/// The same by one of several ranks; also whether it was stopped.
fn trained_by(
    ranks: Arc<dyn Ranks>,
    rule: &OptimizerConfig,
    average: Option<f64>,
    saved: &Saved,
    steps: usize,
) -> (Saved, bool) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    pool.install(|| trained_on_pool(ranks, rule, average, saved, steps))
}

fn trained_on_pool(
    ranks: Arc<dyn Ranks>,
    rule: &OptimizerConfig,
    average: Option<f64>,
    saved: &Saved,
    steps: usize,
) -> (Saved, bool) {
    let device = Device::flex();
    let shape = ClassifierShape { features: 6, hidden: vec![5], batch_norm: true, classes: 3, map: None };
    let mut network = Classifier::new(&shape, None, 1, &device.clone().autodiff());
    let schedule: ScheduleConfig = serde_json::from_str(r#"{"kind": "cosine", "warmup": 0.2}"#).unwrap();
    let total = total_steps();
    let mut optimizer =
        Optimizer::new(rule).with_schedule(&schedule, total).with_clipping(Some(1.0)).with_average(average);
    if *saved != Saved::default() {
        let Saved { steps, evaluated, optimizer: state, .. } = saved.clone();
        let raw = optimizer.restore(steps, state, evaluated, &device).unwrap();
        network = load(network, raw).unwrap();
    }
    let plan = Plan {
        stage: Stage::Finetune,
        steps: total,
        before: Vec::new(),
        from: saved.position.clone(),
        batch_size: 8,
        seed: 1,
        label_smoothing: 0.1,
        save: SaveConfig::default(),
        replicas: Replicas::new(&[device]).unwrap().with_ranks(ranks, &network).unwrap(),
        resident: None,
    };
    let mut last = Saved::default();
    let mut reporter = StopAfter { steps, samples: 0 };
    let outcome = train(
        network,
        &mut optimizer,
        &SAMPLES,
        &plan,
        &mut |_, _| {},
        &mut reporter,
        &mut |network, kept, optimizer, position, _| {
            last = Saved {
                position,
                steps: optimizer.steps(),
                evaluated: collect(kept),
                optimizer: optimizer.state(network),
            };
            Ok(true)
        },
    );
    // Wall times aside.
    if let Some(partial) = &mut last.position.partial {
        partial.seconds = 0.0;
    }
    (last, outcome.is_err())
}

#[test]
fn a_stop_within_an_epoch_changes_no_bit_whatever_the_optimizer() {
    for kind in ["adam", "adamw", "sgd", "muon"] {
        let rule = serde_json::from_str(&format!(r#"{{"kind": "{kind}"}}"#)).unwrap();
        for average in [None, Some(0.9)] {
            let whole = trained(&rule, average, &Saved::default(), usize::MAX);
            let stopped = trained(&rule, average, &Saved::default(), 10);
            assert_eq!(stopped.position.partial.as_ref().map(|partial| partial.steps), Some(3), "{kind}");
            let resumed = trained(&rule, average, &stopped, usize::MAX);
            assert_eq!(resumed, whole, "{kind} {average:?}");
        }
    }
}

#[test]
fn all_ranks_stop_after_the_step_that_one_is_asked_to_stop_after() {
    let rule = OptimizerConfig::default();
    let whole = trained(&rule, Some(0.9), &Saved::default(), usize::MAX);
    let stopped = trained(&rule, Some(0.9), &Saved::default(), 10);
    for (asked, expected) in [(10, &stopped), (usize::MAX, &whole)] {
        let found = crate::ranks::run(3, |ranks| {
            let steps = if ranks.rank() == 1 { asked } else { usize::MAX };
            Ok(trained_by(ranks, &rule, Some(0.9), &Saved::default(), steps))
        });
        for (last, was_stopped) in found.unwrap() {
            assert_eq!((&last, was_stopped), (expected, asked == 10));
        }
    }
}

#[test]
fn averaged_weights_have_batch_statistics_of_their_own() {
    let rule = serde_json::from_str(r#"{"kind": "sgd", "learning_rate": 0.5}"#).unwrap();
    let Saved { evaluated, optimizer, .. } = trained(&rule, Some(0.9), &Saved::default(), usize::MAX);
    let numbers = |data: &burn::tensor::TensorData| data.iter::<f64>().collect::<Vec<f64>>();
    let (weight, bias) = (&evaluated["hidden.0.dense.weight"], &evaluated["hidden.0.dense.bias"]);
    let (weight, bias) = (numbers(weight), numbers(bias));
    // Mean and variance of each batch of the last epoch by the averaged weights, and their mean over the batches.
    let order = epoch_order(&SAMPLES, 1, EPOCHS - 1);
    let batches: Vec<&[u32]> = order.chunks(8).collect();
    let (mut means, mut variances) = (vec![0.0; 5], vec![0.0; 5]);
    for indices in &batches {
        let (mut inputs, mut labels) = (vec![0_f32; indices.len() * 6], vec![0; indices.len()]);
        SAMPLES.fill(EPOCHS as u64 - 1, indices, &mut inputs, &mut labels);
        for unit in 0..5 {
            let output = |row: &[f32]| {
                let sum: f64 =
                    row.iter().enumerate().map(|(k, &x)| f64::from(x) * weight[k * 5 + unit]).sum();
                sum + bias[unit]
            };
            let outputs: Vec<f64> = inputs.chunks(6).map(output).collect();
            let count = outputs.len() as f64;
            let mean = outputs.iter().sum::<f64>() / count;
            let variance = outputs.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
            means[unit] += mean / batches.len() as f64;
            variances[unit] += variance / batches.len() as f64;
        }
    }
    for (name, expected) in [("running_mean", means), ("running_variance", variances)] {
        let found = numbers(&evaluated[&format!("hidden.0.norm.{name}")]);
        let near = found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5 * (1.0 + b.abs()));
        assert!(near, "{name}: {found:?} {expected:?}");
        let raw = numbers(&optimizer[&format!("raw.hidden.0.norm.{name}")]);
        assert!(raw.iter().zip(&found).all(|(a, b)| (a - b).abs() > 1e-4), "{name}: {raw:?} {found:?}");
    }
}

#[test]
fn a_loss_that_is_not_finite_ends_the_training_and_names_the_step() {
    /// The twentieth sample is beyond what an f32 squares.
    struct Wild;
    impl Samples for Wild {
        fn len(&self) -> usize {
            50
        }
        fn values(&self) -> usize {
            6
        }
        fn fill(&self, epoch: u64, indices: &[u32], inputs: &mut [f32], labels: &mut [u16]) {
            SAMPLES.fill(epoch, indices, inputs, labels);
            let wild = indices.iter().position(|&index| index == 20);
            wild.into_iter().for_each(|place| inputs[place * 6..][..6].fill(f32::INFINITY));
        }
    }
    let device = Device::flex();
    let shape = ClassifierShape { features: 6, hidden: vec![], batch_norm: false, classes: 3, map: None };
    let network = Classifier::new(&shape, None, 1, &device.clone().autodiff());
    let mut optimizer = Optimizer::new(&OptimizerConfig::default());
    let plan = Plan {
        stage: Stage::Finetune,
        steps: 7,
        before: Vec::new(),
        from: Position::default(),
        batch_size: 8,
        seed: 1,
        label_smoothing: 0.0,
        save: SaveConfig::default(),
        replicas: Replicas::new(&[device]).unwrap(),
        resident: None,
    };
    let mut saves = 0;
    let mut save = |_: &Classifier, _: &Classifier, _: &Optimizer, _, _: Option<&EpochMetrics>| {
        saves += 1;
        Ok(true)
    };
    let mut reporter = StopAfter { steps: usize::MAX, samples: 0 };
    let outcome = train(network, &mut optimizer, &Wild, &plan, &mut |_, _| {}, &mut reporter, &mut save);
    let at = epoch_order(&Wild, 1, 0).iter().position(|&index| index == 20).unwrap() / 8 + 1;
    match outcome.map(drop) {
        Err(Error::Diverged { stage: "finetune", loss, epoch: 1, step, .. }) => {
            assert!(!loss.is_finite() && step >= at, "{loss} {step} {at}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(saves, 0);
}

/// Parameters after two epochs on turned and moved images, made on the host or by the device, on `count` replicas.
fn trained_on_images(resident: bool, count: usize) -> Parameters {
    let images = made_up_images(32);
    let augment = AugmentConfig::default();
    let samples = RotatedImages::new(&images, (0..12).collect(), Rotations::All, &Pixels::Scaled, 5);
    let samples = samples.augmented(Some(&augment));
    let devices = vec![Device::flex(); count];
    let shape = ClassifierShape {
        features: samples.values(),
        hidden: vec![4],
        batch_norm: false,
        classes: 4,
        map: None,
    };
    let network = Classifier::new(&shape, None, 1, &Device::flex().autodiff());
    let plan = Plan {
        stage: Stage::Pretrain,
        steps: 6,
        before: Vec::new(),
        from: Position::default(),
        batch_size: 4,
        seed: 1,
        label_smoothing: 0.0,
        save: SaveConfig::default(),
        replicas: Replicas::new(&devices).unwrap(),
        resident: resident.then(|| Arc::new(Resident::new(&samples.pictures().unwrap(), &devices).unwrap())),
    };
    let mut optimizer = Optimizer::new(&OptimizerConfig::default());
    let mut save = |_: &Classifier, _: &Classifier, _: &Optimizer, _, _: Option<&EpochMetrics>| Ok(true);
    let mut reporter = StopAfter { steps: usize::MAX, samples: 0 };
    let trained =
        train(network, &mut optimizer, &samples, &plan, &mut |_, _| {}, &mut reporter, &mut save).unwrap();
    collect(&trained.valid())
}

#[test]
fn images_that_live_on_the_device_change_no_bit() {
    for count in [1, 2] {
        assert_eq!(trained_on_images(true, count), trained_on_images(false, count), "{count} replicas");
    }
}
