//! The one interface through which the library reports what it is doing. Nothing in the library prints.

use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// What the stages of a run are expected to take, before the first of them begins.
    Forecast(&'a [Forecast]),
    /// A stage of a sweep's runs begins.
    PieceStarted {
        /// The stage.
        stage: Stage,
        /// How often each stage is to be done after this, in the order of [`Stage`]; what runs share, once.
        left: [usize; 3],
    },
    /// A stage begins; the text names its data.
    StageStarted(Stage, &'a str),
    /// One of several networks that a stage trains, one after another, begins.
    NetworkStarted {
        /// The share of all their training that comes before it, in 0..=1.
        before: f64,
        /// Its own share.
        share: f64,
    },
    /// An epoch begins.
    EpochStarted {
        /// Counted from 1.
        epoch: usize,
        /// Total number of epochs.
        epochs: usize,
        /// Samples (rotated images or features) of this epoch.
        samples: usize,
        /// Those of them that were trained on before a resume.
        done: usize,
    },
    /// A training step is done.
    StepFinished {
        /// Samples of this step.
        samples: usize,
        /// Mean loss since the epoch began, if it was read from the device.
        loss: Option<f64>,
        /// Accuracy since the epoch began, in 0..=1, if it was read from the device.
        accuracy: Option<f64>,
    },
    /// An epoch is done.
    EpochFinished(&'a EpochMetrics),
    /// A task without epochs begins: extraction, download, generation.
    TaskStarted {
        /// Name of the task, as shown to the user.
        label: &'a str,
        /// Total number of units.
        total: u64,
        /// The unit.
        unit: Unit,
    },
    /// This many more units are done.
    TaskAdvanced(u64),
    /// The task is done.
    TaskFinished,
    /// Something worth knowing.
    Note(&'a str),
    /// Something that may make the result differ from what is expected.
    Warning(&'a str),
}

/// A stage of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Trains encoder and rotation head without labels.
    Pretrain,
    /// Writes the features of every image.
    Extract,
    /// Trains and tests the classifier.
    Finetune,
}

impl Stage {
    /// The name of the command, the config section and the log lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pretrain => "pretrain",
            Self::Extract => "extract",
            Self::Finetune => "finetune",
        }
    }
}

/// How long a stage is expected to take, by the measured time of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// The stage.
    pub stage: Stage,
    /// Wall time of each of its epochs, in seconds; for extraction, that of the whole stage.
    pub epochs: Vec<f64>,
}

/// What a task counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Images.
    Images,
    /// Bytes.
    Bytes,
}

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean cross-entropy (nats) over the samples of the epoch, while training.
    pub loss: f64,
    /// Share of samples classified correctly while training, in 0..=1; in mode `joint` of those for the classifier.
    pub accuracy: f64,
    /// Mean cross-entropy (nats) of the rotations, where they are learned beside classes; it is part of `loss`, times
    /// its weight.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rotation_loss: Option<f64>,
    /// Share of these rotations predicted correctly, in 0..=1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rotation_accuracy: Option<f64>,
    /// Loss on the validation split, if one is held out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub validation_loss: Option<f64>,
    /// Accuracy on the validation split, if one is held out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub validation_accuracy: Option<f64>,
    /// Share of the validation split that the nearest training images classify correctly, if `pretrain.probe` ran after
    /// this epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub knn_accuracy: Option<f64>,
    /// The same by ridge regression.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ridge_accuracy: Option<f64>,
    /// Learning rate of the epoch's last step; 0 in files that are older than schedules.
    #[serde(default)]
    pub learning_rate: f64,
    /// Samples trained on per second.
    pub images_per_second: f64,
    /// Wall time of the epoch's training, in seconds.
    pub seconds: f64,
}

/// Sums over the finished part of an epoch, exact to the bit, so that its means are as if it had never been stopped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartialEpoch {
    /// Steps done.
    pub steps: usize,
    /// Samples trained on.
    pub samples: usize,
    /// Sum of their losses.
    pub loss_sum: f64,
    /// Number of samples classified correctly.
    pub correct: f64,
    /// The same of the rotations, where they are learned beside classes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rotation: Option<PartialTask>,
    /// Wall time so far, in seconds.
    pub seconds: f64,
}

/// Sums of a second task in [`PartialEpoch`]; to be divided by the number of all samples, as those there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartialTask {
    /// Sum of the losses.
    pub loss_sum: f64,
    /// Number of right answers.
    pub correct: f64,
}

/// Who asked for the work to stop early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The user (SIGINT, Ctrl-C).
    Interrupt,
    /// The system (SIGTERM).
    Terminate,
    /// The system that runs the job, some time before it ends it (SIGUSR1).
    Warning,
}

impl Stop {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Interrupt, Self::Terminate, Self::Warning];

    /// Exit status of a program that was stopped by this: 128 and the number of the signal on Linux.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
            Self::Warning => 138,
        }
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::Warning => "SIGUSR1",
        })
    }
}

/// Receives events, and may ask to stop. Implementations decide what to show and must not fail.
pub trait Reporter {
    /// Receives an event.
    fn report(&mut self, event: Event<'_>);

    /// Whether the time left is shown, which makes a forecast worth its cost.
    fn shows_time(&self) -> bool {
        false
    }

    /// Whether to stop early. Asked between steps; what is done by then is saved.
    fn stop(&self) -> Option<Stop> {
        None
    }
}

/// Shows nothing.
pub struct Silent;

impl Reporter for Silent {
    fn report(&mut self, _: Event<'_>) {}
}
