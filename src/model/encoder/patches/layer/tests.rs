use super::super::Activation;
use super::*;
use crate::model::Scheme;
use crate::model::encoder::patches::encode::THRESHOLD;

const IMAGE: ImageShape = [9, 11, 3];

/// Random images, brighter on one side.
struct Noise;

impl Samples for Noise {
    fn len(&self) -> usize {
        40
    }

    fn values(&self) -> usize {
        IMAGE.iter().product()
    }

    fn fill(&self, _: u64, indices: &[u32], inputs: &mut [f32], _: &mut [u16]) {
        use rand::RngExt;
        for (&index, image) in indices.iter().zip(inputs.chunks_exact_mut(self.values())) {
            let mut random =
                crate::math::random::generator(9, crate::math::random::Purpose::Scenes, 0, index.into());
            for (at, value) in image.iter_mut().enumerate() {
                *value = random.random_range(0.0f32..0.5) + at as f32 / 600.0;
            }
        }
    }
}

fn shape(dictionary: Dictionary, activation: Activation) -> PatchShape {
    PatchShape { side: 6, channels: 3, count: 7, dictionary, activation }
}

fn layer(shape: PatchShape) -> PatchLayer {
    let device = Device::flex();
    let mut initialiser = Initialiser::new(1, Scheme::Glorot, &device);
    PatchLayer::new(shape, &mut initialiser).fit(&Noise, IMAGE, 1.0 / 255.0, 4)
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// The features of an image at every place, patch by patch as the papers say.
fn naive(shape: PatchShape, image: &[f32]) -> Vec<Vec<f32>> {
    let device = Device::flex();
    let contrast = CONTRAST_EPSILON / 255.0 / 255.0;
    let mut sampled = sample_patches(&Noise, IMAGE, 6, SAMPLED_PATCHES, 4);
    sampled.chunks_exact_mut(108).for_each(|patch| normalise(patch, contrast));
    let components = Components::new(&sampled, 108);
    let zca = components.zca(ZCA_EPSILON);
    let whitened = |patches: &[f32]| whiten(patches, &components.mean, &zca, &device);
    let mut dictionary = match shape.dictionary {
        Dictionary::Random => whitened(&sampled[..7 * 108]),
        Dictionary::Kmeans => kmeans(&whitened(&sampled), 108, 7, &device),
    };
    if shape.dictionary == Dictionary::Random {
        dictionary.chunks_exact_mut(108).for_each(to_length_one);
    }
    let [height, width, _] = IMAGE;
    let places = (0..=height - 6).flat_map(|top| (0..=width - 6).map(move |left| (top, left)));
    let features = places.map(|(top, left)| {
        let rows = (top..top + 6).flat_map(|row| &image[(row * width + left) * 3..][..18]);
        let mut patch: Vec<f32> = rows.copied().collect();
        normalise(&mut patch, contrast);
        let patch = whitened(&patch);
        let dictionary = || dictionary.chunks_exact(108);
        match shape.activation {
            Activation::TwoSided => {
                let products = |sign: f32| {
                    let product = move |row: &[f32]| row.iter().zip(&patch).map(|(a, b)| a * b).sum::<f32>();
                    dictionary()
                        .map(product)
                        .map(move |z| (sign * z - THRESHOLD).max(0.0))
                        .collect::<Vec<_>>()
                };
                [products.clone()(1.0), products(-1.0)].concat()
            }
            Activation::Triangle => {
                let distance =
                    |row: &[f32]| row.iter().zip(&patch).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
                let distances: Vec<f32> = dictionary().map(distance).collect();
                let mean = distances.iter().sum::<f32>() / 7.0;
                distances.into_iter().map(|distance| (mean - distance).max(0.0)).collect()
            }
        }
    });
    features.collect()
}

#[test]
fn features_are_those_of_the_papers_patch_by_patch() {
    let mut image = vec![0.0; Noise.values()];
    Noise.fill(0, &[3], &mut image, &mut [0]);
    for dictionary in [Dictionary::Random, Dictionary::Kmeans] {
        for activation in [Activation::TwoSided, Activation::Triangle] {
            let shape = shape(dictionary, activation);
            let layer = layer(shape);
            let batch = TensorData::new(image.clone(), [1, 9, 11, 3]);
            let batch = Tensor::<4>::from_data(batch, &Device::flex());
            let expected = naive(shape, &image);
            let found = values(layer.read(batch.clone(), Pool::None));
            assert_eq!(found.len(), 4 * 6 * shape.features());
            for (found, expected) in found.iter().zip(expected.iter().flatten()) {
                assert!((found - expected).abs() < 2e-3, "{shape:?}: {found} {expected}");
            }
            assert!(found.iter().any(|&value| value > 0.05), "{shape:?}");

            // The first quadrant: rows 0 and 1, columns 0 to 2.
            let quadrants = values(layer.read(batch, Pool::Two));
            assert_eq!(quadrants.len(), 4 * shape.features());
            for feature in 0..shape.features() {
                let places = [0, 1, 2, 6, 7, 8];
                let mean = places.map(|place| expected[place][feature]).iter().sum::<f32>() / 6.0;
                assert!((quadrants[feature] - mean).abs() < 2e-3, "{shape:?}");
            }
        }
    }
}

#[test]
fn neither_the_batch_nor_threads_change_a_bit() {
    let layer = layer(shape(Dictionary::Random, Activation::TwoSided));
    let indices: Vec<u32> = (0..40).collect();
    let mut images = vec![0.0; 40 * Noise.values()];
    Noise.fill(0, &indices, &mut images, &mut [0; 40]);
    let read = |images: &[f32], threads| {
        let count = images.len() / Noise.values();
        let images = TensorData::new(images.to_vec(), [count, 9, 11, 3]);
        let images = Tensor::<4>::from_data(images, &Device::flex());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| values(layer.read(images, Pool::Two)))
    };
    let all = read(&images, 1);
    assert_eq!(all, read(&images, 3));
    assert_eq!(all[..4 * 14], read(&images[..Noise.values()], 2));
}
