//! Random mutations of valid inputs. `ROTNET_FUZZ_SECONDS=1800` for the long form (a target);
//! `-- --nocapture` shows the counts. `ROTNET_FUZZ_CORPUS=fuzz/corpus` writes the valid inputs for the targets in `fuzz/`
//! to begin with.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::*;
use crate::data::{Pixels, picture, unpack_seed, with_orientation};
use crate::model::{EncoderConfig, RotationNetwork, collect};
use crate::progress::Stage;
use crate::store::checkpoint::Header;

/// Seconds a target in continuous integration.
const SECONDS: f64 = 0.3;
/// The longest that one input may take.
const SLOWEST: Duration = Duration::from_secs(5);

/// One to eight changes: bits, bytes, runs cut out or repeated, extreme numbers, parts of another seed.
fn mutate(random: &mut ChaCha8Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let below = |random: &mut ChaCha8Rng, limit: usize| random.next_u64() as usize % limit.max(1);
    let first = below(random, seeds.len());
    let mut bytes = seeds[first].clone();
    for _ in 0..=below(random, 8) {
        let at = below(random, bytes.len());
        let end = (at + below(random, 64) + 1).min(bytes.len());
        match below(random, 8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let run = bytes[at..end].to_vec();
                bytes.splice(at..at, run);
            }
            3 => {
                let other = &seeds[below(random, seeds.len())];
                let from = below(random, other.len());
                let until = (from + end - at).min(other.len());
                bytes.splice(at..end, other[from..until].iter().copied());
            }
            4 => {
                let extreme = [0, 1, 127, 255][below(random, 4)];
                bytes[at..end.min(at + 8)].fill(extreme);
            }
            5 => {
                let digit = b"0123456789-.e\"{}[],:"[below(random, 20)];
                bytes[at..end.min(at + 1)].fill(digit);
            }
            6 => {
                let value = random.next_u32() as u8;
                bytes[at..end.min(at + 1)].fill(value);
            }
            _ => {
                let bit = 1 << below(random, 8);
                bytes[at..end.min(at + 1)].iter_mut().for_each(|byte| *byte ^= bit);
            }
        }
    }
    bytes
}

fn attack(name: &str, target: fn(&[u8], &Path), seeds: &[Vec<u8>]) {
    if let Ok(corpus) = std::env::var("ROTNET_FUZZ_CORPUS") {
        let directory = Path::new(&corpus).join(name);
        fs::create_dir_all(&directory).unwrap();
        for (index, seed) in seeds.iter().enumerate() {
            fs::write(directory.join(index.to_string()), seed).unwrap();
        }
    }
    let seconds = std::env::var("ROTNET_FUZZ_SECONDS");
    let seconds = seconds.map_or(SECONDS, |seconds| seconds.parse().unwrap());
    let shared_memory = Path::new("/dev/shm");
    let scratch = match shared_memory.is_dir() {
        true => tempfile::tempdir_in(shared_memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    for seed in seeds {
        target(seed, scratch.path());
    }
    let start = Instant::now();
    let seed = std::env::var("ROTNET_FUZZ_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut inputs, mut slowest) = (0u64, Duration::ZERO);
    while start.elapsed().as_secs_f64() < seconds {
        let bytes = mutate(&mut random, seeds);
        let begin = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| target(&bytes, scratch.path())));
        slowest = slowest.max(begin.elapsed());
        if result.is_err() || slowest > SLOWEST {
            let path = std::env::temp_dir().join(format!("rotnet-fuzz-{name}"));
            fs::write(&path, &bytes).unwrap();
            panic!("{name}: input {inputs} panics or takes {slowest:?}; it is in {path:?}");
        }
        inputs += 1;
    }
    println!("{name}: {inputs} inputs of seed {seed} in {seconds} s, slowest {slowest:?}");
}

#[test]
fn hostile_configs() {
    let seeds = [
        include_bytes!("../../configs/quickstart.json").to_vec(),
        include_bytes!("../../configs/keras.json").to_vec(),
        b"{\"pretrain\": {\"optimizer\": {\"learning_rate\": 1e308}}}".to_vec(),
    ];
    attack("config", config, &seeds);
}

#[test]
fn hostile_checkpoints_and_features() {
    let scratch = tempfile::tempdir().unwrap();
    let device = device::open(&DeviceName::Flex).unwrap();
    let image = [32, 32, 1];
    let architecture: EncoderConfig =
        serde_json::from_str(r#"{"kind": "compact", "widths": [2, 3], "pools": [true, true]}"#).unwrap();
    let network = RotationNetwork::new(&architecture, image, 1, &device);
    let checkpoint = Checkpoint {
        header: Header {
            epochs: 1,
            steps: 1,
            encoder: Some(architecture),
            image,
            ..Header::untrained(Stage::Pretrain, 1, Pixels::Scaled, origin().dataset, Value::Null)
        },
        parameters: collect(&network),
        optimizer: Default::default(),
    };
    let path = scratch.path().join("checkpoint.safetensors");
    checkpoint.save(&path).unwrap();
    load_encoder(&device, path.clone()).unwrap();
    let features = Features::new(vec![1.0; 6], vec![1, 2, 3], 2);
    let features_path = scratch.path().join("features.safetensors");
    features.save(&features_path, &origin()).unwrap();
    Features::load(&features_path, &origin(), CLASSES).unwrap();
    let seeds = [path, features_path].map(|path| fs::read(path).unwrap());
    attack("tensor_file", tensor_file, &seeds);
}

#[test]
fn hostile_cifar_files() {
    let records: Vec<u8> = (0..3 * RECORD).map(|index| (index % RECORD % 10) as u8).collect();
    let seeds = [records[..RECORD].to_vec(), records];
    attack("cifar", cifar, &seeds);
}

/// One picture a format, one with a tag of its way up; small, so that a header is often met.
#[test]
fn hostile_images() {
    use ::image::ImageFormat::{Bmp, Gif, Jpeg, Png, WebP};
    let mut seeds = [Bmp, Gif, Jpeg, Png, WebP].map(|format| picture(17, 12, format)).to_vec();
    seeds.push(with_orientation(&seeds[2], 6));
    attack("image", image, &seeds);
}

#[test]
fn hostile_archives() {
    let compressed = unpack_seed();
    let mut plain = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(&compressed[..]), &mut plain).unwrap();
    attack("archive", archive, &[compressed, plain]);
}
