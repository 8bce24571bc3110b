//! Classes and rotations learned at once (S4L: Zhai, Oliver, Kolesnikov, Beyer 2019).

use burn::module::Module;
use burn::tensor::{Bool, Device, Int, Tensor};

use super::{
    Classifier, ClassifierShape, Dense, Encoder, EncoderConfig, Initialiser, Mode, Network, ROTATIONS,
    Readout, RotationNetwork, Sums, Task, Views,
};
use crate::kernels;

/// Encoder, classifier and rotation head: what `finetune` trains in mode `joint`.
///
/// A batch mixes images of both tasks. The label of an image for the classifier is its class, that of a turned one the
/// number of classes plus its quarter turns. Both heads see the whole batch, and what a head says of an image of the other
/// task counts for nothing: so every parameter meets every image once, and shares of a batch add up to it. Layers are
/// named as in [`super::ImageClassifier`] and [`RotationNetwork`], either of which can be read from its checkpoint.
#[derive(Module, Debug)]
pub struct JointNetwork {
    /// What both tasks share.
    pub encoder: Encoder,
    /// From what `readout` gives of the encoder to classes.
    pub classifier: Classifier,
    /// From the encoder's features to four logits, one per rotation.
    pub head: Dense,
    #[module(skip)]
    readout: Readout,
    #[module(skip)]
    classes: usize,
    #[module(skip)]
    mixture: Mixture,
}

/// How the images of a batch are divided among the tasks, and how these count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixture {
    /// Images in a group for the classifier.
    pub classified: usize,
    /// Turned images in a group, none where rotations are not learned.
    pub turned: usize,
    /// Weight of the mean rotation loss beside the mean loss of the classifier.
    pub weight: f32,
}

/// Offset of the rotation head's initialisation, so that it repeats neither the encoder's draws nor the classifier's.
const HEAD_FIRST_PARAMETER: u64 = 1 << 33;

/// A rotation head with fresh parameters on an encoder that was made as `config` says.
pub fn fresh_head(config: &EncoderConfig, encoder: &Encoder, seed: u64, device: &Device) -> Dense {
    let mut initialiser = Initialiser::starting_at(seed, HEAD_FIRST_PARAMETER, config.scheme(), device);
    initialiser.arithmetic = config.arithmetic;
    Dense::new(encoder.features(), ROTATIONS, false, &mut initialiser)
}

impl JointNetwork {
    /// A fresh classifier on what `readout` gives of an encoder, beside its rotation head; all to be trained on `device`.
    pub fn new(
        RotationNetwork { encoder, head }: RotationNetwork,
        readout: Readout,
        shape: &ClassifierShape,
        mixture: Mixture,
        seed: u64,
        device: &Device,
    ) -> Self {
        let classifier = Classifier::new(shape, None, seed, device);
        let (encoder, head) = (encoder.train(), head.train());
        Self { encoder, classifier, head, readout, classes: shape.classes, mixture }
    }
}

impl Network for JointNetwork {
    const LAST_LAYERS: &'static [&'static str] = &["classifier.output", "head"];

    /// Those of the classifier.
    fn logits(&self, batch: Tensor<2>, mode: Mode) -> Tensor<2> {
        self.classifier.logits(self.encoder.read_in(mode, batch, &self.readout), mode)
    }

    fn tasks(&self) -> Vec<Task> {
        let Mixture { classified, turned, weight } = self.mixture;
        let all = classified + turned;
        let mut tasks = vec![Task { weight: 1.0, samples: [classified, all] }];
        if turned > 0 {
            tasks.push(Task { weight, samples: [turned, all] });
        }
        tasks
    }

    fn judge(&self, batch: Tensor<2>, labels: Tensor<1, Int>, smoothing: f32, mode: Mode) -> Vec<Sums> {
        if self.mixture.turned == 0 {
            return vec![Sums::of(self.logits(batch, mode), labels, smoothing)];
        }
        let [read, features] = self.encoder.read_and_forward_in(mode, batch, &self.readout);
        let turned: Tensor<1, Bool> = labels.clone().greater_equal_elem(self.classes as i32);
        let classes = labels.clone().mask_fill(turned, -1);
        // A class less the number of classes is negative: no label.
        let turns = labels.sub_scalar(self.classes as i32);
        let (losses, correct) = kernels::cross_entropy(self.head.forward(features), turns, 0.0);
        vec![Sums::of(self.classifier.logits(read, mode), classes, smoothing), Sums { losses, correct }]
    }

    fn meets_samples_once(&self) -> bool {
        self.readout.views == Views::One
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{TensorData, activation::log_softmax};

    use super::*;
    use crate::model::{ImageClassifier, collect};
    use crate::training::replicas::gradients_by_name;

    const CLASSES: usize = 3;
    /// Three groups of an image with a label and two turned ones.
    const LABELS: [i32; 9] = [1, 3, 6, 0, 5, 4, 2, 3, 3];

    fn mixture(turned: usize) -> Mixture {
        Mixture { classified: 1, turned, weight: 0.7 }
    }

    fn network(readout: &Readout, mixture: Mixture) -> JointNetwork {
        let device = Device::flex().autodiff();
        let rotation = RotationNetwork::new(&EncoderConfig::default(), [32, 32, 3], 2, &device);
        let features = rotation.encoder.read_width(readout).unwrap();
        let shape =
            ClassifierShape { features, hidden: vec![5], batch_norm: false, classes: CLASSES, map: None };
        JointNetwork::new(rotation, readout.clone(), &shape, mixture, 2, &device)
    }

    fn images(count: usize) -> Tensor<2> {
        let values: Vec<f32> = (0..count * 3072).map(|n| ((n * 37) % 101) as f32 / 101.0).collect();
        Tensor::from_data(TensorData::new(values, [count, 3072]), &Device::flex().autodiff())
    }

    fn labels(labels: &[i32]) -> Tensor<1, Int> {
        Tensor::from_data(TensorData::new(labels.to_vec(), [labels.len()]), &Device::flex().autodiff())
    }

    type Gradients = std::collections::BTreeMap<String, Vec<f32>>;

    fn gradients(network: &impl Network, loss: Tensor<1>) -> Gradients {
        let gradients = gradients_by_name(network, &mut loss.backward());
        gradients
            .into_iter()
            .map(|(name, values)| (name, values.into_data().iter::<f32>().collect()))
            .collect()
    }

    /// What a step minimises, with smoothing.
    fn joint_loss(network: &JointNetwork, images: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
        let [samples, _] = images.dims();
        let sums = network.judge(images, labels, 0.1, Mode::Train);
        let losses: Vec<Tensor<1>> = sums.into_iter().map(|sums| sums.losses).collect();
        crate::training::total(&network.tasks(), &losses).div_scalar(samples as f32)
    }

    /// The mean cross-entropy by burn's operations.
    fn cross_entropy(logits: Tensor<2>, labels: &[i32], smoothing: f32) -> Tensor<1> {
        let logarithms = log_softmax(logits, 1);
        let picked = logarithms.clone().gather(1, self::labels(labels).unsqueeze_dim(1)).mean();
        -(picked.mul_scalar(1.0 - smoothing) + logarithms.mean().mul_scalar(smoothing))
    }

    #[test]
    fn the_gradients_are_those_of_both_mean_losses_taken_apart() {
        for layers in [vec![], vec!["block1".to_owned(), "block2".to_owned()]] {
            let readout = Readout { layers, ..Readout::default() };
            let network = network(&readout, mixture(2));
            let joint = gradients(&network, joint_loss(&network, images(9), labels(&LABELS)));
            let rows = |of: fn(i32) -> bool, less: i32| -> (Tensor<2>, Vec<i32>) {
                let places: Vec<i32> = (0..9).filter(|&row| of(LABELS[row as usize])).collect();
                let answers = places.iter().map(|&row| LABELS[row as usize] - less).collect();
                (images(9).select(0, labels(&places)), answers)
            };
            let (upright, classes) = rows(|label| label < 3, 0);
            let (turned, turns) = rows(|label| label >= 3, 3);
            assert_eq!((classes.len(), turns.len()), (3, 6));
            let features = network.encoder.forward_in(Mode::Train, turned);
            let apart = cross_entropy(network.logits(upright, Mode::Train), &classes, 0.1)
                + cross_entropy(network.head.forward(features), &turns, 0.0).mul_scalar(0.7);
            let apart = gradients(&network, apart);
            assert_eq!(joint.keys().collect::<Vec<_>>(), apart.keys().collect::<Vec<_>>());
            for (name, values) in &joint {
                let largest = apart[name].iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * largest.max(1e-3);
                assert!(largest > 0.0 && values.iter().zip(&apart[name]).all(close), "{name}");
            }
        }
    }

    #[test]
    fn without_turned_images_it_is_the_image_classifier_bit_for_bit() {
        let readout = Readout::default();
        let joint = network(&readout, mixture(0));
        let upright = [1, 0, 2, 2];
        let mut found = gradients(&joint, joint_loss(&joint, images(4), labels(&upright)));
        let JointNetwork { encoder, classifier, .. } = network(&readout, mixture(0));
        let plain = ImageClassifier::of(encoder, readout, classifier);
        let sums = plain.judge(images(4), labels(&upright), 0.1, Mode::Train).remove(0);
        let expected = gradients(&plain, sums.losses.div_scalar(4.0));
        found.retain(|name, _| !name.starts_with("head."));
        assert_eq!(found, expected);
        // And so are the names of what a checkpoint holds.
        assert!(collect(&plain).keys().all(|name| collect(&joint).contains_key(name)));
    }
}
