//! Images to features, by a pretrained encoder.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::{Context, label, training_stage};
use crate::config::ExtractConfig;
use crate::data::{self, Images};
use crate::error::{Error, Result};
use crate::files::{read_json, sha256_file, write_json};
use crate::model::{self, Encoder, FeatureMap, Initialiser, Readout};
use crate::progress::{Event, Reporter, Stage, Unit};
use crate::samples::PlainImages;
use crate::samples::{Batch, Samples};
use crate::store::checkpoint::{Checkpoint, DatasetLabel};
use crate::store::features::{FeatureWriter, Manifest, Origin};
use crate::store::run_directory::Existing;
use crate::store::stage_directory::checkpoint_in;

/// Rows and columns of images that an encoder can be built for, in time and memory that a damaged checkpoint
/// cannot raise.
const SIDES: RangeInclusive<usize> = 32..=256;
/// Channels, likewise.
const CHANNELS: RangeInclusive<usize> = 1..=16;

/// The file `features/summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExtractSummary {
    /// The data set encoded.
    pub dataset: DatasetLabel,
    /// SHA-256 of the checkpoint file.
    pub checkpoint: String,
    /// The layer whose output the features are.
    pub layer: String,
    /// Training images, and features an image.
    pub train: [usize; 2],
    /// Test images, and features an image.
    pub test: [usize; 2],
    /// Images encoded a second, training and test.
    pub images_per_second: f64,
    /// Wall time of encoding, in seconds.
    pub seconds: f64,
}

/// Writes the features of all training and test images to `features/` in the run directory.
///
/// `checkpoint` names a checkpoint (or its directory) other than the run's own.
///
/// # Errors
/// Whatever [`crate::Error`] names: a checkpoint that is damaged or does not fit, data, disk.
pub fn extract(
    context: &Context,
    checkpoint: Option<PathBuf>,
    reporter: &mut dyn Reporter,
) -> Result<ExtractSummary> {
    let config = &context.config;
    let place = checkpoint.unwrap_or_else(|| context.run.stage(Stage::Pretrain));
    let (encoder, checkpoint, digest) = load_encoder(&context.device, checkpoint_in(&place))?;
    let readout = config.extract.readout();
    let width = encoder.read_width(&readout)?;
    context.check(&context.run.files(Stage::Extract))?;
    let dataset = data::open(&config.data, &context.data_home, reporter)?;
    check_data(context, &checkpoint, &dataset, reporter)?;
    training_stage::announce(Stage::Extract, &dataset.name, reporter);

    let origin = Origin { checkpoint: digest, dataset: label(&dataset), layer: describe(&encoder, &readout) };
    if let Some(summary) = finished(context, &origin) {
        reporter.report(Event::Note("the features are there already"));
        return Ok(summary);
    }
    let test_images = dataset.open_test()?;
    let work = context.begin(Stage::Extract)?;
    let total = dataset.train.len() + test_images.len();
    reporter.report(Event::TaskStarted { label: "extract", total: total as u64, unit: Unit::Images });
    let start = Instant::now();
    let pixels = &checkpoint.header.pixels;
    let files = work.directory().features();
    let mut features_of = |path: PathBuf, images: &Images, names: &[String]| {
        let plain = PlainImages::all(images, pixels);
        let mut writer = FeatureWriter::create(&path, &origin, &images.labels, names, width)?;
        encode(&encoder, &readout, &plain, config.extract.batch_size, &mut |rows| {
            writer.push(rows)?;
            reporter.report(Event::TaskAdvanced((rows.len() / width) as u64));
            match reporter.stop() {
                None => Ok(()),
                Some(stop) => Err(Error::Stopped {
                    stage: Stage::Extract.name(),
                    stop,
                    state: "before all images were encoded; this stage begins anew".into(),
                }),
            }
        })?;
        Ok::<_, Error>(writer)
    };
    let train = features_of(files.train(), &dataset.train, &dataset.names.train)?;
    let test = features_of(files.test(), &test_images, &dataset.names.test)?;
    let seconds = start.elapsed().as_secs_f64();
    reporter.report(Event::TaskFinished);

    train.finish()?;
    test.finish()?;
    let [train, test] = [dataset.train.len(), test_images.len()].map(|images| [images, width]);
    files.write_manifest(&Manifest {
        classes: dataset.class_names.clone(),
        map: feature_map(&encoder, &config.extract),
        train,
        test,
        train_digest: sha256_file(&files.train())?,
        test_digest: sha256_file(&files.test())?,
        origin: origin.clone(),
    })?;
    let summary = ExtractSummary {
        dataset: origin.dataset,
        checkpoint: origin.checkpoint,
        layer: origin.layer,
        train,
        test,
        images_per_second: total as f64 / seconds,
        seconds,
    };
    context.run.record_run(context.environment(), label(&dataset), None)?;
    write_json(&work.directory().summary(), &summary)?;
    context.finish(Stage::Extract, work)?;
    Ok(summary)
}

/// The summary of an extraction that is to be resumed and lacks nothing.
fn finished(context: &Context, origin: &Origin) -> Option<ExtractSummary> {
    let files = context.run.features();
    let summary = read_json(&context.run.summary(Stage::Extract)).ok()?;
    let manifest = files.read_manifest().ok()?;
    let whole = |path: &Path, digest| sha256_file(path).is_ok_and(|found| found == digest);
    let finished = context.existing == Existing::Resume
        && manifest.origin == *origin
        && whole(&files.train(), manifest.train_digest)
        && whole(&files.test(), manifest.test_digest);
    finished.then_some(summary)
}

/// The encoder of a checkpoint on the plain device, the checkpoint, and the digest of its file.
pub(crate) fn load_encoder(device: &Device, path: PathBuf) -> Result<(Encoder, Checkpoint, String)> {
    if !path.exists() {
        return Err(Error::checkpoint(
            &path,
            "there is no checkpoint",
            "run `rotnet pretrain` first, or name one with --checkpoint",
        ));
    }
    let checkpoint = Checkpoint::load(&path)?;
    let Some(architecture) = &checkpoint.header.encoder else {
        return Err(Checkpoint::refuse(&path, "holds a classifier without an encoder"));
    };
    let [height, width, channels] = checkpoint.header.image;
    if !SIDES.contains(&height) || !SIDES.contains(&width) || !CHANNELS.contains(&channels) {
        let problem = format!("its images are {height}x{width} with {channels} channels");
        return Err(Checkpoint::refuse(&path, problem));
    }
    let refuse = |problem: String| Checkpoint::refuse(&path, problem);
    architecture.validate().map_err(|error| refuse(error.to_string()))?;
    let stored = checkpoint.part("encoder").values().map(|data| data.num_elements()).sum();
    if architecture.weights(channels) > stored {
        return Err(refuse("holds fewer numbers than its architecture has weights".into()));
    }
    let mut initialiser = Initialiser::new(checkpoint.header.seed, architecture.scheme(), device);
    let encoder = Encoder::new(architecture, checkpoint.header.image, &mut initialiser);
    let encoder = model::load(encoder, checkpoint.part("encoder"))
        .map_err(|problem| Checkpoint::refuse(&path, problem))?;
    let digest = sha256_file(&path)?;
    Ok((encoder, checkpoint, digest))
}

/// Refuses images of another shape than the checkpoint's encoder was built for, and of another data set unless the
/// context allows it; warns of a checkpoint that is not trained to the end of its epoch.
pub(super) fn check_data(
    context: &Context,
    checkpoint: &Checkpoint,
    dataset: &data::Dataset,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    let header = &checkpoint.header;
    let (expected, found) = (header.image, dataset.image_shape());
    if expected != found {
        return Err(Error::data(
            &dataset.directory,
            format!("images are {found:?} (height, width, channels), the encoder takes {expected:?}"),
            "pretrain on this data set, or name another with --data",
        ));
    }
    if header.partial.is_some() {
        reporter.report(Event::Warning(&format!(
            "the checkpoint lies within epoch {} of its training; `rotnet pretrain --resume` goes on with it",
            header.epochs + 1
        )));
    }
    if header.dataset.fingerprint == dataset.fingerprint {
        return Ok(());
    }
    let problem = format!(
        "holds {} (fingerprint {:.12}), the checkpoint was trained on {} (fingerprint {:.12})",
        dataset.name, dataset.fingerprint, header.dataset.name, header.dataset.fingerprint
    );
    if context.allow_data_mismatch {
        let text = format!("{}: {problem}", dataset.directory.display());
        reporter.report(Event::Warning(&text));
        return Ok(());
    }
    Err(Error::data(
        &dataset.directory,
        problem,
        "name that data set with --data, or take this one with --allow-data-mismatch",
    ))
}

/// What `readout` gives of all images, row by row, `batch_size` images at a time, to `take`.
fn encode(
    encoder: &Encoder,
    readout: &Readout,
    images: &PlainImages,
    batch_size: usize,
    take: &mut dyn FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    let device = encoder.device();
    let indices: Vec<u32> = (0..images.len() as u32).collect();
    for indices in indices.chunks(batch_size) {
        let (inputs, _) = Batch::new(images, 0, indices).into_tensors(&device);
        let rows: Vec<f32> = encoder.read(inputs, readout).into_data().iter::<f32>().collect();
        take(&rows)?;
    }
    Ok(())
}

/// The map that the features are, if they are one: a single block in one view.
pub(super) fn feature_map(encoder: &Encoder, config: &ExtractConfig) -> Option<FeatureMap> {
    let [layer] = &config.layers[..] else {
        return None;
    };
    let [height, width, channels] = encoder.block_shape(layer)?;
    let shape = match config.pool.side() {
        None => [height, width, channels],
        Some(side) => [side, side, channels],
    };
    (config.views.rotations() == 1).then(|| FeatureMap { layer: layer.clone(), shape })
}

/// What the features are, in words.
pub(crate) fn describe(encoder: &Encoder, readout: &Readout) -> String {
    let layers = match readout.layers.is_empty() {
        true => encoder.feature_layer().to_owned(),
        false => readout.layers.join("+"),
    };
    let pool = match readout.pool.side() {
        Some(side) => format!(" pooled to {side}x{side}"),
        None => String::new(),
    };
    format!("{layers}{pool}{}", readout.views.describe())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Pixels;
    use crate::model::{EncoderConfig, EncoderKind, Pool, Views};
    use crate::samples::{RotatedImages, Rotations};

    #[test]
    fn views_are_the_rotations_of_pretraining_in_their_order() {
        let pixels = (0..3 * 32 * 32 * 3).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let images = Images { pixels, labels: vec![0, 1, 2], height: 32, width: 32 };
        let (pixels, device) = (Pixels::Raw, Device::flex());
        let config = EncoderConfig {
            kind: EncoderKind::Compact,
            widths: Some(vec![8, 8]),
            pools: Some(vec![true, true]),
            ..EncoderConfig::default()
        };
        let encoder = Encoder::new(&config, [32, 32, 3], &mut Initialiser::new(1, config.scheme(), &device));
        let one = Readout { layers: vec!["block2".into()], pool: Pool::Two, views: Views::One };
        let rotated = RotatedImages::new(&images, vec![0, 1, 2], Rotations::All, &pixels, 0);
        let (inputs, _) = Batch::new(&rotated, 0, &(0..12).collect::<Vec<_>>()).into_tensors(&device);
        let each: Vec<f32> = encoder.read(inputs, &one).into_data().iter::<f32>().collect();

        let four = Readout { views: Views::Four, ..one };
        let plain = PlainImages::all(&images, &pixels);
        let mut together = Vec::new();
        let mut take = |rows: &[f32]| {
            together.extend_from_slice(rows);
            Ok(())
        };
        encode(&encoder, &four, &plain, 2, &mut take).unwrap();
        assert_eq!(together, each);
        assert_ne!(each[..32], each[32..64]);
    }
}
