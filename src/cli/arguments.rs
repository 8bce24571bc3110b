//! The command line as clap sees it. It decides nothing but names, help and defaults.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;

use super::bench::BenchArguments;
use super::compare::CompareArguments;
use super::config::ConfigCommand;
use super::data::DataCommand;
use super::devices::DevicesArguments;
use super::evaluate::EvaluateArguments;
use super::export::ExportArguments;
use super::extract::ExtractArguments;
use super::finetune::FinetuneArguments;
use super::orient::OrientArguments;
use super::plan::PretrainArguments;
use super::predict::PredictArguments;
use super::report::ReportArguments;
use super::sweep::SweepArguments;
use super::verify::VerifyCommand;
use super::worker::{self, WorkerArguments};

const EXAMPLES: &str = "\
Examples:
  rotnet run                                     # all three stages on generated images, offline
  rotnet data fetch                              # download CIFAR-10
  rotnet run --config keras-scaled --out runs/cifar
  rotnet pretrain --out runs/a --set pretrain.epochs=2
  rotnet extract --out runs/a && rotnet finetune --out runs/a

Exit status: 0 done, 1 the work failed, 2 usage or config, 130, 143 or 138 stopped by \
Ctrl-C, SIGTERM or SIGUSR1.";

/// Self-supervised learning on images: learn features from unlabeled images by predicting their rotation,
/// write the features to disk, train and test a classifier on them.
#[derive(Parser, Debug)]
#[command(
    name = "rotnet",
    version,
    about,
    long_about = None,
    after_help = EXAMPLES,
    arg_required_else_help = true,
    disable_help_flag = true
)]
pub struct Arguments {
    /// Print help
    #[arg(long, short, global = true, action = ArgAction::HelpShort, display_order = 1000)]
    help: Option<bool>,
    /// Print help, including rarely needed commands and options
    #[arg(long, global = true, action = ArgAction::HelpLong, display_order = 1001)]
    help_all: Option<bool>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run all three stages in one run directory
    #[command(after_help = "\
Without arguments: the recipe `quickstart` on generated images, seconds on two cores, into runs/quickstart; it ends with \
the accuracy of the same network untrained and from scratch.

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
    /// Write the features of every image, computed by a pretrained encoder
    Extract(ExtractArguments),
    /// Train and test a classifier, on frozen features or together with the encoder
    Finetune(FinetuneArguments),
    /// Judge a run's encoder: probes of every block, and whether pretraining helped
    Evaluate(EvaluateArguments),
    /// Run a grid of settings and seeds; report means and standard deviations
    Sweep(SweepArguments),
    /// Compare runs, and test whether they differ by more than chance
    Compare(CompareArguments),
    /// Write an HTML page about runs: curves, pictures, mistakes, protocol
    Report(ReportArguments),
    /// Classify images with a trained run
    Predict(PredictArguments),
    /// Find images that are not upright, and write upright copies
    Orient(OrientArguments),
    /// Write a run's networks and features for other programs
    Export(ExportArguments),
    /// Download, describe, check or generate data sets
    Data {
        #[command(subcommand)]
        command: DataCommand,
    },
    /// List the recipes, print a config with every key, or the JSON schema of config files
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Check on this machine that resuming is exact, a run repeats, a device is right
    Verify {
        #[command(subcommand)]
        command: VerifyCommand,
    },
    /// Measure images per second of training, extraction and input
    Bench(BenchArguments),
    /// List the devices that this program and this machine offer
    Devices(DevicesArguments),
    /// Serve devices of this machine to other rotnet processes (feature remote)
    #[command(after_help = worker::HELP)]
    Worker(WorkerArguments),
    /// Print the completions of a shell
    Completions(CompletionsArguments),
    /// Write the man pages
    Man(ManArguments),
}

/// Options of `completions`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  rotnet completions bash > ~/.local/share/bash-completion/completions/rotnet
  rotnet completions zsh > ~/.zfunc/_rotnet
  rotnet completions fish > ~/.config/fish/completions/rotnet.fish")]
pub struct CompletionsArguments {
    /// The shell
    pub shell: Shell,
}

/// Options of `man`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  rotnet man --out ~/.local/share/man/man1 && man rotnet-run")]
pub struct ManArguments {
    /// Folder to write rotnet.1 and one page for each command into
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}
