//! The command line as clap sees it. Nothing is decided here beyond names, help and defaults.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::compare::CompareArguments;
use super::config::ConfigArguments;
use super::data::DataCommand;
use super::devices::{self, DevicesArguments};
use super::export::ExportArguments;
use super::extract::ExtractArguments;
use super::help::{CompletionsArguments, ManArguments};
use super::options::{RunArguments, Settings};
use super::orient::OrientArguments;
use super::plan::PretrainArguments;
use super::predict::PredictArguments;
use super::report::ReportArguments;
use super::reproduce::ReproduceArguments;
use super::sweep::SweepArguments;
use super::worker::{self, WorkerArguments};

const EXAMPLES: &str = "\
Examples:
  rotnet run                                     all three stages on generated images, offline
  rotnet data fetch                              download CIFAR-10
  rotnet run --config keras-scaled --out runs/cifar
  rotnet pretrain --out runs/a --set pretrain.epochs=2
  rotnet extract --out runs/a && rotnet finetune --out runs/a

Exit status: 0 done, 1 the work failed, 2 usage or config, 130 or 143 stopped by Ctrl-C or SIGTERM.";

/// Self-supervised learning on images: learn features from unlabeled images by predicting their rotation,
/// write the features to disk, train and test a classifier on them.
#[derive(Parser, Debug)]
#[command(name = "rotnet", version, about, long_about = None, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// All three stages, one after the other, in one run directory
    #[command(after_help = "\
Without arguments: the quickstart on generated images, under two minutes on two cores, into runs/quickstart.

Examples:
  rotnet run
  rotnet run --config keras-scaled --data ~/cifar --out runs/scaled
  rotnet run --set pretrain.epochs=3 --out runs/short --json > result.json
  rotnet run --config compact --data ~/cifar --out runs/a --budget 12m
  rotnet run --config compact --data ~/cifar --dry-run")]
    Run(PretrainArguments),
    /// Train the encoder on rotated images, without labels
    #[command(after_help = "\
Leaves OUT/pretrain/{checkpoint.safetensors, metrics.jsonl, summary.json}.

Example:
  rotnet pretrain --config keras-scaled --data ~/cifar --out runs/a")]
    Pretrain(PretrainArguments),
    /// Write the features of every image, by a pretrained encoder
    Extract(ExtractArguments),
    /// Train and test the classifier, on features or end to end on images
    #[command(after_help = "\
Leaves OUT/finetune/{checkpoint.safetensors, metrics.jsonl, summary.json} and ends with the test accuracy, or with \
--no-test with the validation accuracy, by which settings are chosen; later --resume tests what was trained.

Examples:
  rotnet finetune --out runs/a
  rotnet finetune --out runs/a --no-test --set data.validation_images=5000
  rotnet finetune --out runs/a --set finetune.mode=full --set finetune.epochs=3 --force")]
    Finetune {
        #[command(flatten)]
        run: RunArguments,
        /// Pretrained checkpoint, or the directory that holds it, instead of OUT/pretrain (mode full)
        #[arg(long, value_name = "PATH")]
        checkpoint: Option<PathBuf>,
        /// Directory of features instead of OUT/features (mode frozen)
        #[arg(long, value_name = "DIR")]
        features: Option<PathBuf>,
        /// Train a fresh encoder with the classifier: the supervised baseline (finetune.mode full, finetune.from_scratch)
        #[arg(long, conflicts_with_all = ["checkpoint", "features"])]
        from_scratch: bool,
        /// Leave the test set closed
        #[arg(long)]
        no_test: bool,
    },
    /// Judge the encoder of a run: every block by every head, and the verdict
    #[command(after_help = "\
Leaves RUN/evaluate/{summary.json, features, verdict}. What to probe and compare is section `evaluate` of the config.

Examples:
  rotnet evaluate --run runs/a
  rotnet evaluate --run runs/a --set evaluate.heads=[\"ridge\"] --set evaluate.baselines=[] --force")]
    Evaluate(RunArguments),
    /// Run a grid of configs and seeds, with mean and deviation
    Sweep(SweepArguments),
    /// Lay runs side by side, and say whether they differ by more than chance
    Compare(CompareArguments),
    /// Write one HTML page about runs: curves, pictures, mistakes, protocol
    Report(ReportArguments),
    /// Write a run's encoder and features for other programs
    Export(ExportArguments),
    /// Classify images with a trained run
    #[command(after_help = "\
The middle square of an image is cut out and resized to the size of the run's images. A file that cannot be read is \
one line of error; the others are done, and the exit status is 1.

Examples:
  rotnet predict --run runs/a photo.jpg
  rotnet predict --run runs/a ~/photos --csv > photos.csv")]
    Predict(PredictArguments),
    /// Say which way up image files are, and write upright copies
    #[command(after_help = "\
Of folders, the images that are not upright are shown. No image is written over or removed: copies go into another \
folder, and --in-place keeps each original beside the turned image. A file that is turned is encoded again, without its \
metadata.

Examples:
  rotnet orient --run runs/a ~/photos
  rotnet orient --run runs/a ~/photos --fix ~/upright --sure 0.95
  rotnet orient --run runs/a ~/photos --in-place")]
    Orient(OrientArguments),
    /// Download, check, describe or generate data sets
    Data {
        #[command(subcommand)]
        command: DataCommand,
    },
    /// Measure images per second of training, extraction and input
    #[command(after_help = "\
Trains, extracts and makes batches for a while on made-up pixels; nothing is written.

Examples:
  rotnet bench --set pretrain.batch_size=128
  rotnet bench --profile")]
    Bench {
        #[command(flatten)]
        settings: Settings,
        /// Measurements of each kind, after one to warm up; the median is shown
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
        repeats: u32,
        /// Seconds a measurement
        #[arg(long, value_name = "S", default_value_t = 1.0)]
        seconds: f64,
        /// Break a training step down by layer and direction
        #[arg(long, conflicts_with = "burn_operations")]
        profile: bool,
        /// Measure burn's own operations in place of the kernels, to see what these gain
        #[arg(long)]
        burn_operations: bool,
    },
    /// Show that neither kills nor threads change a byte of the results
    #[command(after_help = "\
Runs a shortened training again and again, in a temporary directory: left alone, killed (SIGKILL) at random moments \
and resumed, with other numbers of threads. Exit status 1 if any result differs.

Examples:
  rotnet verify-resume
  rotnet verify-resume --config keras-scaled --data ~/cifar --kills 50")]
    VerifyResume {
        #[command(flatten)]
        settings: Settings,
        /// How often to kill
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        kills: u32,
        /// Train as long and on as many images as the config says, and save as often
        #[arg(long)]
        whole: bool,
    },
    /// Run a finished run again, in a temporary directory, and compare the results
    #[command(after_help = "\
Exit status 1 if a result differs; then the first stage that differs and what has changed are named.

Example:
  rotnet reproduce runs/quickstart")]
    Reproduce(ReproduceArguments),
    /// List the devices of this program and this machine, or check that one computes rightly
    #[command(after_help = devices::HELP)]
    Devices(DevicesArguments),
    /// Serve devices of this machine to other rotnet processes, in a build with the feature remote
    #[command(after_help = worker::HELP)]
    Worker(WorkerArguments),
    /// List the recipes, print a config with every key, or the JSON schema of config files
    Config(ConfigArguments),
    /// Print the completions of a shell
    Completions(CompletionsArguments),
    /// Write the man pages
    Man(ManArguments),
}
