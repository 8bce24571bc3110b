//! What runs of a sweep share: encoders and features, named after what decides them.

use std::path::Path;

use serde_json::{Value, json};

use super::plan::digest;
use crate::config::Config;
use crate::data::DataConfig;
use crate::progress::Stage;
use crate::store::run_directory::RunDirectory;

/// The runs that hold what a run shares with others.
pub(super) struct Shared {
    pub pretrain: RunDirectory,
    pub features: RunDirectory,
}

/// Where they lie in the directory of the sweep, for a run of `config`.
pub(super) fn shared(sweep: &Path, config: &Config) -> Shared {
    let place = |kind: &str, key: &Value| {
        RunDirectory::new(sweep.join("shared").join(format!("{kind}-{}", digest(key))))
    };
    let recipe = pretraining(config);
    let pretrain = json!([
        recipe.recipe(Stage::Pretrain),
        recipe.encoder,
        recipe.pretrain.epochs,
        recipe.data.directory
    ]);
    // Batches of any size give the same features.
    let mut extract = json!(recipe.extract);
    extract.as_object_mut().map(|extract| extract.remove("batch_size"));
    Shared {
        features: place("features", &json!([pretrain, extract])),
        pretrain: place("pretrain", &pretrain),
    }
}

/// The config without what pretraining and extraction do not depend on.
pub(super) fn pretraining(config: &Config) -> Config {
    let data = DataConfig { labels_per_class: None, label_draw: 0, ..config.data.clone() };
    Config { description: String::new(), data, ..config.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{KERAS, Overrides, resolve};

    #[test]
    fn labels_and_classifiers_share_encoder_and_features_and_read_outs_the_encoder() {
        let places = |settings: &[&str]| {
            let mut overrides = Overrides::default();
            settings.iter().for_each(|setting| overrides.parse(setting).unwrap());
            let shared = shared(Path::new("sweep"), &resolve(KERAS, "keras-scaled", &overrides).unwrap());
            (shared.pretrain.root().to_path_buf(), shared.features.root().to_path_buf())
        };
        let base = places(&[]);
        let labels = ["data.labels_per_class=3", "data.label_draw=2", "finetune.epochs=99"];
        assert_eq!(base, places(&labels));
        let read_out = places(&["extract.layers=[\"block2\"]"]);
        assert_eq!(base.0, read_out.0);
        assert_ne!(base.1, read_out.1);
        for other in ["seed=9", "pretrain.epochs=9", "encoder.kind=compact", "data.train_images=99"] {
            assert_ne!(base.0, places(&[other]).0, "{other}");
        }
    }
}
