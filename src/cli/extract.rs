//! The command `extract`.

use std::path::PathBuf;

use clap::Args;

use super::options::RunArguments;

/// Options of `extract`.
#[derive(Args, Debug)]
#[command(after_help = "\
Leaves OUT/features/{train.safetensors, test.safetensors, manifest.json, summary.json}. The encoder is \
the one in the checkpoint. Without --config, the config of the stage finished last is used.

Examples:
  rotnet extract --out runs/a
  rotnet extract --out runs/b --checkpoint runs/a/pretrain --data ~/cifar
  rotnet extract --out runs/a --layer block2,block3 --pool 4x4 --views 4 --force")]
pub struct ExtractArguments {
    #[command(flatten)]
    run: RunArguments,
    /// Checkpoint, or the directory that holds it, instead of OUT/pretrain
    #[arg(long, value_name = "PATH", conflicts_with = "from")]
    checkpoint: Option<PathBuf>,
    /// Blocks to read, concatenated (extract.layers)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    layer: Vec<String>,
    /// Spatial pooling of each block (extract.pool)
    #[arg(long, value_name = "GRID", value_parser = ["none", "gap", "2x2", "4x4", "8x8"])]
    pool: Option<String>,
    /// Views of each image: rotations are concatenated, flips averaged (extract.views)
    #[arg(long, value_name = "VIEWS", value_parser = ["1", "4", "flip", "4+flip"])]
    views: Option<String>,
}

impl ExtractArguments {
    /// The shared options with these added as config settings, and the checkpoint.
    pub fn into_parts(self) -> (RunArguments, Option<PathBuf>) {
        let Self { mut run, checkpoint, layer, pool, views } = self;
        let mut set = |key: &str, value: String| run.settings.set.push(format!("extract.{key}={value}"));
        if !layer.is_empty() {
            set("layers", layer.join(","));
        }
        if let Some(pool) = pool {
            set("pool", pool);
        }
        if let Some(views) = views {
            set("views", views);
        }
        (run, checkpoint)
    }
}
