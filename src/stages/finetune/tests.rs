//! What labels outside the draw, and test images, must never reach.

use std::fs;
use std::path::{Path, PathBuf};

use rand::{Rng, RngExt};

use super::*;
use crate::config::{Overrides, resolve};
use crate::math::random::{Purpose, generator};
use crate::progress::{Event, Silent, Stop};
use crate::stages::pretrain;
use crate::store::run_directory::{Existing, RunDirectory};

const TRAIN: usize = 50;
const CLASSES: usize = 10;

/// Writes a data set of striped images in CIFAR-10's layout. `label` may change the label of a training image; other test
/// images are written where `poisoned`.
fn write_data(directory: &Path, label: impl Fn(usize, u8) -> u8, poisoned: bool) {
    fs::create_dir_all(directory).unwrap();
    let record = |index: usize, label: u8, class: u8| {
        let mut random = generator(1, Purpose::Scenes, 0, index as u64);
        let noise = (0..3072).map(|place| {
            let stripe = if place / 4 % (usize::from(class) + 2) == 0 { 90 } else { 0 };
            stripe + random.random_range(0..60_u8)
        });
        std::iter::once(label).chain(noise).collect::<Vec<u8>>()
    };
    for batch in 0..5 {
        let records = (10 * batch..10 * batch + 10).flat_map(|index| {
            let class = (index % CLASSES) as u8;
            record(index, label(index, class), class)
        });
        fs::write(directory.join(format!("data_batch_{}.bin", batch + 1)), records.collect::<Vec<_>>())
            .unwrap();
    }
    let test = (0..20).flat_map(|index| {
        let class = (index % CLASSES) as u8;
        match poisoned {
            true => record(900 + index, 9 - class, 9 - class),
            false => record(500 + index, class, class),
        }
    });
    fs::write(directory.join("test_batch.bin"), test.collect::<Vec<_>>()).unwrap();
}

/// Two images of each class.
fn draw() -> Split {
    Split { train: (0..2 * CLASSES as u32).collect(), validation: None }
}

const CONFIG: &str = r#"{
  "seed": 5,
  "data": {"kind": "cifar10"},
  "encoder": {"kind": "compact", "widths": [4, 8], "pools": [true, true]},
  "pretrain": {"epochs": 1, "batch_size": 5, "rotations": "all"},
  "finetune": {"epochs": 2, "batch_size": 5, "hidden": [], "augment": {}, "keep": "last",
    "self_training": {"rounds": [1, 2], "neighbours": 4, "joining": 2, "steps": 5}}
}"#;

fn context(home: &Path, out: &str, data: &str, more: &[&str]) -> Context {
    let mut overrides = Overrides::default();
    more.iter().try_for_each(|assignment| overrides.parse(assignment)).unwrap();
    let mut config = resolve(CONFIG, "test", &overrides).unwrap();
    config.data.directory = Some(home.join(data));
    let run = RunDirectory::new(home.join(out));
    let mut context = Context::new(run, config, home.to_path_buf(), Existing::Refuse).unwrap();
    // Another data set by its fingerprint.
    context.allow_data_mismatch = true;
    context
}

/// Trains on the draw; gives the numbers of the checkpoint and everything else that a round leaves.
fn trained(home: &Path, out: &str, data: &str, checkpoint: Option<PathBuf>, more: &[&str]) -> Vec<Vec<u8>> {
    let context = context(home, out, data, more);
    let sources = Sources { checkpoint, split: Some(draw()), ..Sources::default() };
    let summary = train_classifier(&context, &sources, &mut Silent).unwrap();
    assert_eq!((summary.labels, summary.unlabeled, summary.rounds.len()), (20, Some(TRAIN), 2));
    let files = context.run.files(Stage::Finetune);
    let mut left = vec![fs::read(files.pseudo_labels(1)).unwrap(), fs::read(files.pseudo_labels(2)).unwrap()];
    let network = |path: PathBuf| {
        let Checkpoint { header, parameters, optimizer } = Checkpoint::load(&path).unwrap();
        let tensors = parameters.iter().chain(&optimizer);
        let mut bytes: Vec<u8> =
            tensors.flat_map(|(name, data)| [name.as_bytes(), data.as_bytes()].concat()).collect();
        bytes.extend(header.recipe.to_string().into_bytes());
        bytes
    };
    left.push(network(files.checkpoint()));
    for round in ["0", "1"] {
        let files = RunDirectory::new(files.rounds().join(round)).files(Stage::Finetune);
        left.push(network(files.checkpoint()));
    }
    left
}

/// Runs a test on one pool, as the program does: running statistics are kept by thread until they are read.
fn on_one_pool(test: impl FnOnce() + Send) {
    rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap().install(test);
}

#[test]
fn no_label_outside_the_draw_and_no_test_image_reaches_training_or_self_training() {
    on_one_pool(poisoned);
}

fn poisoned() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    write_data(&home.join("clean"), |_, label| label, false);
    let poison = |index: usize, label: u8| {
        let outside = index >= 2 * CLASSES;
        if outside {
            ((u32::from(label) + 1 + generator(2, Purpose::Labels, 0, index as u64).next_u32() % 9) % 10)
                as u8
        } else {
            label
        }
    };
    write_data(&home.join("poisoned"), poison, true);
    // One label of the draw is another one.
    write_data(&home.join("other"), |index, label| if index == 3 { 4 } else { label }, false);
    pretrain(&context(home, "run", "clean", &["finetune.mode=full"]), &mut Silent).unwrap();
    let pretrained = Some(home.join("run/pretrain"));
    for (name, checkpoint, more) in [
        ("full", pretrained.clone(), vec!["finetune.mode=full"]),
        ("joint", pretrained, vec!["finetune.mode=joint"]),
        ("scratch", None, vec!["finetune.mode=joint", "finetune.from_scratch=true"]),
    ] {
        let run = |data: &str| trained(home, &format!("{name}-{data}"), data, checkpoint.clone(), &more);
        let clean = run("clean");
        for (index, (clean, poisoned)) in clean.iter().zip(&run("poisoned")).enumerate() {
            assert!(clean == poisoned, "{name}: file {index} depends on what is not to be used");
        }
        let other = run("other");
        assert!(
            clean.iter().zip(&other).skip(2).all(|(a, b)| a != b),
            "{name}: nothing depends on the labels"
        );
        let summary: FinetuneSummary =
            read_json(&RunDirectory::new(home.join(format!("{name}-poisoned"))).summary(Stage::Finetune))
                .unwrap();
        // Every true label there is a wrong one, and all are compared.
        assert!(summary.rounds.iter().all(|round| round.known == Some(round.images)));
    }
}

/// Asks to stop once images are compared.
struct StopWhileComparing(bool);

impl Reporter for StopWhileComparing {
    fn report(&mut self, event: Event<'_>) {
        self.0 |= matches!(event, Event::TaskStarted { label: teacher::COMPARING, .. });
    }

    fn stop(&self) -> Option<Stop> {
        self.0.then_some(Stop::Terminate)
    }
}

/// For each network, the share of all training that it is said to be, and the images that it was trained on.
#[derive(Default)]
struct Networks(Vec<(f64, usize)>);

impl Reporter for Networks {
    fn report(&mut self, event: Event<'_>) {
        match event {
            Event::NetworkStarted { before, share } => {
                let shares: f64 = self.0.iter().map(|(share, _)| share).sum();
                assert!((before - shares).abs() < 1e-9);
                self.0.push((share, 0));
            }
            Event::StepFinished { samples, .. } => self.0.last_mut().unwrap().1 += samples,
            _ => {}
        }
    }
}

#[test]
fn a_stop_while_images_are_compared_keeps_what_was_trained_and_changes_no_label() {
    on_one_pool(stopped);
}

fn stopped() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    write_data(&home.join("data"), |_, label| label, false);
    let scratch = ["finetune.mode=joint", "finetune.from_scratch=true"];
    let train = |out: &str, existing: Existing, reporter: &mut dyn Reporter| {
        let context = Context { existing, ..context(home, out, "data", &scratch) };
        train_classifier(&context, &Sources { split: Some(draw()), ..Sources::default() }, reporter)
    };
    let error = train("stopped", Existing::Refuse, &mut StopWhileComparing(false)).unwrap_err();
    assert!(matches!(&error, Error::Stopped { state, .. } if state.contains("compared")), "{error}");
    let files = |out: &str| RunDirectory::new(home.join(out)).files(Stage::Finetune);
    let first = RunDirectory::new(files("stopped").rounds().join("0")).files(Stage::Finetune);
    assert!(first.checkpoint().exists() && !files("stopped").pseudo_labels(1).exists());
    train("stopped", Existing::Resume, &mut Silent).unwrap();
    let mut networks = Networks::default();
    train("whole", Existing::Refuse, &mut networks).unwrap();
    let Networks(networks) = networks;
    let all: usize = networks.iter().map(|(_, images)| images).sum();
    for (share, images) in &networks {
        assert!((share - *images as f64 / all as f64).abs() < 1e-9, "{networks:?}");
    }
    for round in [1, 2] {
        let labels = |out: &str| fs::read(files(out).pseudo_labels(round)).unwrap();
        assert_eq!(labels("stopped"), labels("whole"), "round {round}");
    }
}
