//! Which training images are held out, and which keep their labels: pure functions of labels and seed.

use rand::seq::SliceRandom;

use super::config::DataConfig;
use crate::error::{Error, Result};
use crate::files::sha256;
use crate::math::random::{Purpose, generator};

/// Indices of training images, ascending; no image is in both parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// To train on.
    pub train: Vec<u32>,
    /// Held out; absent if none are.
    pub validation: Option<Vec<u32>>,
}

impl Split {
    /// SHA-256 of the indices of both parts.
    pub fn digest(&self) -> String {
        let validation = self.validation.as_deref().unwrap_or_default();
        let counts = [self.train.len() as u32, validation.len() as u32];
        let numbers = counts.iter().chain(&self.train).chain(validation);
        sha256(&numbers.flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())
    }
}

/// Holds out `data.validation_images` images, every class in proportion, and leaves the rest for training.
///
/// # Errors
/// [`Error::Config`] if nothing would be left to train on.
pub fn split(labels: &[u16], classes: usize, config: &DataConfig, seed: u64) -> Result<Split> {
    let held_out = config.validation_images;
    if held_out >= labels.len() {
        return Err(Error::config(
            "data.validation_images",
            format!("must be less than the {} training images, got {held_out}", labels.len()),
        ));
    }
    let members = members((0..labels.len() as u32).collect(), labels, classes);
    let counts: Vec<usize> = members.iter().map(Vec::len).collect();
    let mut train = Vec::with_capacity(labels.len() - held_out);
    let mut validation = Vec::with_capacity(held_out);
    for (class, (mut members, share)) in members.into_iter().zip(shares(&counts, held_out)).enumerate() {
        members.shuffle(&mut generator(seed, Purpose::Validation, 0, class as u64));
        validation.extend_from_slice(&members[..share]);
        train.extend_from_slice(&members[share..]);
    }
    train.sort_unstable();
    validation.sort_unstable();
    Ok(Split { train, validation: (held_out > 0).then_some(validation) })
}

/// [`split`] for training with labels: of the training part, only `data.labels_per_class` images of each class.
///
/// With the same seed, the images drawn for a smaller number are among those drawn for a larger one.
///
/// # Errors
/// [`Error::Config`] if nothing would be left to train on, or if a class has too few images.
pub fn labeled_split(labels: &[u16], classes: &[String], config: &DataConfig, seed: u64) -> Result<Split> {
    let mut split = split(labels, classes.len(), config, seed)?;
    let Some(wanted) = config.labels_per_class else {
        return Ok(split);
    };
    let mut train = Vec::with_capacity(wanted.saturating_mul(classes.len()).min(labels.len()));
    for (class, mut members) in members(split.train, labels, classes.len()).into_iter().enumerate() {
        if members.len() < wanted {
            return Err(Error::config(
                "data.labels_per_class",
                format!(
                    "wants {wanted} images of class {}, which has {} to train on",
                    classes[class],
                    members.len()
                ),
            ));
        }
        members.shuffle(&mut generator(seed, Purpose::Labels, config.label_draw, class as u64));
        train.extend_from_slice(&members[..wanted]);
    }
    train.sort_unstable();
    split.train = train;
    Ok(split)
}

fn members(indices: Vec<u32>, labels: &[u16], classes: usize) -> Vec<Vec<u32>> {
    let mut members = vec![Vec::new(); classes];
    for index in indices {
        members[usize::from(labels[index as usize])].push(index);
    }
    members
}

/// Divides `total` in proportion to `counts` by largest remainders; ties go to the first class.
fn shares(counts: &[usize], total: usize) -> Vec<usize> {
    let all = counts.iter().sum::<usize>().max(1);
    let mut shares: Vec<usize> = counts.iter().map(|count| total * count / all).collect();
    let mut by_remainder: Vec<usize> = (0..counts.len()).collect();
    by_remainder.sort_by_key(|&class| std::cmp::Reverse(total * counts[class] % all));
    let missing = total - shares.iter().sum::<usize>();
    for &class in &by_remainder[..missing] {
        shares[class] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(validation_images: usize, labels_per_class: Option<usize>) -> DataConfig {
        DataConfig { validation_images, labels_per_class, ..DataConfig::default() }
    }

    fn names(count: usize) -> Vec<String> {
        ["red", "blue", "green", "grey"].map(String::from)[..count].to_vec()
    }

    #[test]
    fn shares_are_proportional_and_add_up() {
        assert_eq!(shares(&[5, 5, 5], 4), [2, 1, 1]);
        assert_eq!(shares(&[10, 0, 1], 5), [5, 0, 0]);
        assert_eq!(shares(&[4_500; 10], 4_500), [450; 10]);
    }

    #[test]
    fn impossible_wishes_name_the_key_and_the_class() {
        let labels = [0, 0, 0, 1];
        let all = split(&labels, 2, &config(4, None), 1).unwrap_err().to_string();
        assert_eq!(all, "data.validation_images: must be less than the 4 training images, got 4");
        let few = labeled_split(&labels, &names(2), &config(0, Some(2)), 1).unwrap_err().to_string();
        assert_eq!(few, "data.labels_per_class: wants 2 images of class blue, which has 1 to train on");
    }

    #[test]
    fn fewer_labels_are_among_more_labels() {
        let labels: Vec<u16> = (0..200).map(|index| index % 4).collect();
        let chosen = |count| labeled_split(&labels, &names(4), &config(20, Some(count)), 3).unwrap().train;
        let many = chosen(30);
        assert!(chosen(7).iter().all(|index| many.contains(index)));
        assert_eq!(chosen(7).len(), 28);
        let drawn = DataConfig { label_draw: 1, ..config(20, Some(7)) };
        assert_ne!(labeled_split(&labels, &names(4), &drawn, 3).unwrap().train, chosen(7));
    }

    proptest! {
        #[test]
        fn every_image_is_in_one_part_and_classes_keep_their_share(
            labels in prop::collection::vec(0..6_u16, 2..300),
            share in 0.0..1.0,
            seed in any::<u64>(),
        ) {
            let held_out = ((labels.len() - 1) as f64 * share) as usize;
            let parts = split(&labels, 6, &config(held_out, None), seed).unwrap();
            let validation = parts.validation.clone().unwrap_or_default();
            prop_assert_eq!(validation.len(), held_out);
            let mut all = [parts.train.clone(), validation.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len() as u32).collect::<Vec<_>>());
            for class in 0..6 {
                let of_class = |indices: &[u32]| {
                    indices.iter().filter(|&&index| labels[index as usize] == class).count()
                };
                let count = labels.iter().filter(|&&label| label == class).count();
                let exact = held_out as f64 * count as f64 / labels.len() as f64;
                prop_assert!((of_class(&validation) as f64 - exact).abs() < 1.0);
            }
            prop_assert_eq!(&parts, &split(&labels, 6, &config(held_out, None), seed).unwrap());
        }
    }
}
