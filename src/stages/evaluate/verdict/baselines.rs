//! What defines a baseline: settings on top of the run's config, and how long it is trained.

use serde_json::json;

use crate::config::{Baseline, Config, FinetuneMode, Overrides, PretrainConfig};
use crate::model::{EncoderKind, HeadKind};
use crate::samples::Rotations;

/// Why a run with this config cannot be compared with a baseline; `None` if it can.
pub(super) fn obstacle(baseline: Baseline, config: &Config) -> Option<&'static str> {
    let untrained = !config.encoder.is_trainable();
    match baseline {
        Baseline::Random if untrained => Some("the run's own encoder is not trained"),
        Baseline::Scratch if untrained => Some("the run's encoder has nothing to train"),
        Baseline::Random | Baseline::Scratch => None,
        Baseline::Patches if config.finetune.mode != FinetuneMode::Frozen => {
            Some("patches cannot be trained on, as finetune.mode `full` and `joint` do")
        }
        Baseline::Patches if config.finetune.head == HeadKind::Conv => {
            Some("patches are no map of a block, which the head `conv` stands on")
        }
        Baseline::Patches if config.encoder.kind == EncoderKind::Patches => {
            Some("the run's own encoder is of patches")
        }
        Baseline::Patches => None,
    }
}

/// The settings that turn a run's config into a baseline's.
pub(super) fn settings(baseline: Baseline, config: &Config) -> Overrides {
    let mut overrides = Overrides::default();
    match baseline {
        Baseline::Random => untrained(&mut overrides),
        Baseline::Patches => {
            untrained(&mut overrides);
            overrides.set("encoder", json!({ "kind": "patches" }));
            last_layer(&mut overrides);
        }
        Baseline::Scratch => {
            // A read-out for a frozen encoder, possibly in many views, is not made for training end to end.
            if config.finetune.mode == FinetuneMode::Frozen {
                overrides.set("extract.views", 1);
                if config.finetune.head != HeadKind::Conv {
                    last_layer(&mut overrides);
                }
            }
            // With labels alone: rotations are what the run is judged for.
            overrides.set("finetune.mode", "full");
            overrides.set("finetune.joint", json!(null));
            overrides.set("finetune.from_scratch", true);
            // A lower rate protects a pretrained encoder, but would hold a fresh one back.
            overrides.set("finetune.encoder_rate", 1.0);
            if config.finetune.head == HeadKind::Ridge {
                // Ridge regression needs features, which do not exist before the encoder is trained. A linear
                // classifier has the same form; without it the verdict would lack its strongest baseline.
                overrides.set("finetune.head", "linear");
            }
            overrides.set("finetune.augment", json!(config.pretrain.augment));
            overrides.set("finetune.optimizer", json!(config.pretrain.optimizer));
            overrides.set("finetune.schedule", json!(config.pretrain.schedule));
            overrides.set("finetune.batch_size", config.pretrain.batch_size);
        }
    }
    overrides
}

fn last_layer(overrides: &mut Overrides) {
    overrides.set("extract.layers", json!([]));
    overrides.set("extract.pool", "none");
}

fn untrained(overrides: &mut Overrides) {
    overrides.set("pretrain.epochs", 0);
    for key in ["steps", "probe", "patience"] {
        overrides.set(format!("pretrain.{key}"), json!(null));
    }
    overrides.set("pretrain.sizes", json!([]));
    overrides.set("pretrain.keep", "last");
    overrides.set("pretrain.keep_by", "task");
}

/// Images that a network saw in pretraining, counting each rotation: by its epochs on `images` images, where these are known,
/// and by its steps, of which the last ones of an epoch are smaller.
pub(super) fn seen(config: &Config, images: Option<usize>) -> usize {
    let PretrainConfig { epochs, steps, batch_size, rotations, .. } = &config.pretrain;
    let copies = if *rotations == Rotations::Random { 1 } else { 4 };
    let group = if *rotations == Rotations::All { 4 } else { 1 };
    let by_epochs = images.map(|images| epochs.saturating_mul(copies * images));
    let by_steps =
        steps.map(|steps| usize::try_from(steps).unwrap_or(usize::MAX).saturating_mul(batch_size * group));
    by_epochs.into_iter().chain(by_steps).min().unwrap_or(0)
}

/// What decides how long a classifier is trained.
pub(super) enum Pass {
    /// A network from scratch sees as many images as the other did in pretraining, which takes about the same time.
    Scratch { seen: usize },
    /// A classifier sees as many as with all labels, of so many images.
    Classifier { images: usize },
}

/// Epochs over `labels` images, at most as many as the config allows.
pub(super) fn epochs(config: &Config, pass: Pass, labels: usize) -> usize {
    let all = match pass {
        // Its epochs are passes over the images without labels, whatever the number of labels.
        Pass::Classifier { .. } if config.finetune.mode == FinetuneMode::Joint => {
            return config.finetune.epochs;
        }
        Pass::Scratch { seen } => seen,
        Pass::Classifier { images } => config.finetune.epochs.saturating_mul(images),
    };
    let most = config.evaluate.most_epochs.max(config.finetune.epochs);
    all.div_ceil(labels.max(1)).clamp(1, most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ExtractConfig;
    use crate::model::Views;

    #[test]
    fn a_network_from_scratch_is_read_as_itself_where_the_run_freezes_its_encoder() {
        let extract =
            ExtractConfig { layers: vec!["block1".into()], views: Views::Four, ..ExtractConfig::default() };
        let mut config = Config { extract, ..Config::default() };
        let read = |config: &Config| config.with(&settings(Baseline::Scratch, config)).unwrap().extract;
        assert_eq!(read(&config), ExtractConfig::default());
        config.finetune.mode = FinetuneMode::Full;
        assert_eq!(read(&config), config.extract);
    }

    #[test]
    fn a_network_from_scratch_is_trained_at_the_full_rate_and_with_a_head_that_can_be() {
        let mut config = Config::default();
        let scratch = |config: &Config| config.with(&settings(Baseline::Scratch, config)).unwrap().finetune;
        config.finetune.mode = FinetuneMode::Full;
        for rate in [0.0, 0.5, 10.0] {
            config.finetune.encoder_rate = rate;
            assert_eq!(scratch(&config).encoder_rate, 1.0);
        }
        let mut config = Config::default();
        config.finetune.head = HeadKind::Ridge;
        assert_eq!((scratch(&config).head, scratch(&config).mode), (HeadKind::Linear, FinetuneMode::Full));
    }

    #[test]
    fn fewer_labels_are_passed_over_more_often_within_reason() {
        let mut config = Config::default();
        let scratch = |config: &Config, images, labels| {
            epochs(config, Pass::Scratch { seen: seen(config, images) }, labels)
        };
        config.pretrain.epochs = 6;
        assert_eq!(scratch(&config, Some(50_000), 50_000), 24);
        assert_eq!(scratch(&config, Some(50_000), 200), 400);
        config.pretrain.steps = Some(1_000);
        assert_eq!(scratch(&config, Some(50_000), 1_000), config.pretrain.batch_size);
        assert_eq!(scratch(&config, None, 1_000), config.pretrain.batch_size);
        config.pretrain = PretrainConfig { epochs: 0, ..PretrainConfig::default() };
        assert_eq!(scratch(&config, Some(50_000), 200), 1);
        config.finetune.epochs = 12;
        let classifier = |labels| epochs(&config, Pass::Classifier { images: 50_000 }, labels);
        assert_eq!([50_000, 10_000, 200].map(classifier), [12, 60, 400]);
    }
}
