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

/// Images that a network sees in pretraining on `images` images, counting each rotation.
fn seen(config: &Config, images: usize) -> usize {
    let PretrainConfig { epochs, steps, batch_size, rotations, .. } = &config.pretrain;
    let copies = if *rotations == Rotations::Random { 1 } else { 4 };
    match steps {
        None => epochs.saturating_mul(copies * images),
        Some(steps) => {
            let group = if *rotations == Rotations::All { 4 } else { 1 };
            usize::try_from(*steps).unwrap_or(usize::MAX).saturating_mul(batch_size * group)
        }
    }
}

/// Epochs over `labels` of `images` images, at most as many as the config allows. From scratch, a network sees as many
/// images as in pretraining, which takes about the same time. Otherwise the classifier sees as many as with all labels.
pub(super) fn epochs(config: &Config, from_scratch: bool, images: usize, labels: usize) -> usize {
    let all = match from_scratch {
        // Its epochs are passes over the images without labels, whatever the number of labels.
        false if config.finetune.mode == FinetuneMode::Joint => return config.finetune.epochs,
        true => seen(config, images),
        false => config.finetune.epochs.saturating_mul(images),
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
        config.pretrain.epochs = 6;
        assert_eq!(epochs(&config, true, 50_000, 50_000), 24);
        assert_eq!(epochs(&config, true, 50_000, 200), 400);
        config.pretrain.steps = Some(1_000);
        assert_eq!(epochs(&config, true, 50_000, 1_000), config.pretrain.batch_size);
        config.pretrain = PretrainConfig { epochs: 0, ..PretrainConfig::default() };
        assert_eq!(epochs(&config, true, 50_000, 200), 1);
        config.finetune.epochs = 12;
        assert_eq!(epochs(&config, false, 50_000, 50_000), 12);
        assert_eq!(epochs(&config, false, 50_000, 10_000), 60);
        assert_eq!(epochs(&config, false, 50_000, 200), 400);
    }
}
