//! Which images pretraining saw and held out, according to its checkpoint: the config of a later stage may differ.

use serde::Deserialize;

use crate::config::PretrainConfig;
use crate::data::{self, DataConfig, Dataset, Split};
use crate::error::Result;
use crate::store::checkpoint::{Checkpoint, Header};

/// The recipe in the header of a pretrained checkpoint.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Recipe {
    /// The run's seed.
    pub seed: u64,
    /// The data section, without paths.
    pub data: DataConfig,
    /// Epochs are 0 if they decide only when training ends.
    #[serde(rename = "stage")]
    pub pretrain: PretrainConfig,
}

impl Recipe {
    /// # Errors
    /// [`crate::Error::Checkpoint`] if the checkpoint does not hold a pretraining recipe.
    pub(super) fn of(header: &Header) -> Result<Self> {
        Self::deserialize(&header.recipe).map_err(|error| {
            Checkpoint::refuse("pretrain".as_ref(), format!("does not say how it was pretrained: {error}"))
        })
    }
}

/// The images of `dataset` that a checkpoint was pretrained on and those held out; `None` if they cannot be determined,
/// because the data set is another one or was `opened` with fewer images.
///
/// # Errors
/// [`crate::Error::Checkpoint`] if the checkpoint does not hold a pretraining recipe.
pub(crate) fn pretraining_split(
    header: &Header,
    dataset: &Dataset,
    opened: &DataConfig,
) -> Result<Option<Split>> {
    let Recipe { seed, data, .. } = Recipe::of(header)?;
    let kinds = |data: &DataConfig| (data.kind, data.coarse_labels, data.image_size);
    if header.dataset.fingerprint != dataset.fingerprint || kinds(&data) != kinds(opened) {
        return Ok(None);
    }
    match (data.train_images, opened.train_images) {
        (theirs, ours) if theirs == ours => dataset.pretraining(&data, seed).map(|(_, split)| Some(split)),
        // Pretraining saw the first of the images that are open now.
        (Some(theirs), _) if theirs <= dataset.train.len() => {
            let labels = &dataset.train.labels[..theirs];
            data::split(labels, dataset.class_names.len(), &data, seed).map(Some)
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::data::Pixels;
    use crate::progress::Stage;
    use crate::store::checkpoint::DatasetLabel;
    use crate::tools::bench::made_up_images;

    #[test]
    fn what_was_held_out_is_told_by_the_checkpoint_alone() {
        let dataset = Dataset::made_up(made_up_images(32));
        let label =
            |fingerprint: &str| DatasetLabel { name: "made up".into(), fingerprint: fingerprint.into() };
        let header = |train_images, validation_images, seed| {
            let data = DataConfig { train_images, validation_images, ..DataConfig::default() };
            let recipe = Config { data, seed, ..Config::default() }.recipe(Stage::Pretrain);
            Header::untrained(Stage::Pretrain, seed, Pixels::Raw, label(&dataset.fingerprint), recipe)
        };
        let held_out = |header: &Header, opened: DataConfig| {
            pretraining_split(header, &dataset, &opened).unwrap().and_then(|split| split.validation)
        };
        let later = |train_images, validation_images| DataConfig {
            train_images,
            validation_images,
            ..DataConfig::default()
        };
        assert_eq!(held_out(&header(None, 0, 1), later(None, 5)), None);
        let four = held_out(&header(None, 4, 1), later(None, 0)).unwrap();
        assert_eq!(four.len(), 4);
        assert_eq!(held_out(&header(None, 4, 1), later(None, 2)), Some(four));
        // Pretraining saw only the first images; only those can have been held out.
        let few = held_out(&header(Some(8), 3, 1), later(None, 5)).unwrap();
        assert!(few.len() == 3 && few.iter().all(|&index| index < 8), "{few:?}");
        // More images were pretrained on than are open now: which were held out is unknown.
        assert!(pretraining_split(&header(None, 4, 1), &dataset, &later(Some(9), 0)).unwrap().is_none());
        let mut other = header(None, 4, 1);
        other.dataset = label("another one");
        assert!(pretraining_split(&other, &dataset, &later(None, 0)).unwrap().is_none());
        other.recipe = serde_json::Value::Null;
        assert!(pretraining_split(&other, &dataset, &later(None, 0)).is_err());
    }
}
