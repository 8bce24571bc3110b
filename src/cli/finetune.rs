//! The command `finetune`.

use std::path::PathBuf;

use clap::Args;

use super::options::RunArguments;

/// Options of `finetune`.
#[derive(Args, Debug)]
#[command(after_help = "\
Mode frozen (the default) trains a classifier on the features that `extract` wrote. Mode full trains the encoder \
as well; mode joint does too, and goes on predicting rotations of unlabeled images. Leaves OUT/finetune/{checkpoint.safetensors, \
metrics.jsonl, summary.json} and prints the test accuracy; with --no-test the validation accuracy instead, by which \
settings should be chosen.

Examples:
  rotnet finetune --out runs/a
  rotnet finetune --out runs/a --no-test --set data.validation_images=5000
  rotnet finetune --out runs/a --set finetune.mode=full --set finetune.epochs=3 --force")]
pub struct FinetuneArguments {
    #[command(flatten)]
    pub run: RunArguments,
    /// Pretrained checkpoint, or the directory that holds it, instead of OUT/pretrain (mode full)
    #[arg(long, value_name = "PATH", conflicts_with = "from")]
    pub checkpoint: Option<PathBuf>,
    /// Directory of features instead of OUT/features (mode frozen)
    #[arg(long, value_name = "DIR")]
    pub features: Option<PathBuf>,
    /// Train a fresh encoder: the supervised baseline (mode full)
    #[arg(long, conflicts_with_all = ["checkpoint", "features", "from"])]
    pub from_scratch: bool,
    /// Do not open the test set; --resume without this option tests the classifier later
    #[arg(long)]
    pub no_test: bool,
}
