//! Features of images, computed by a pretrained encoder.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::encode::encode;
use super::{Context, label, training_stage};
use crate::config::ExtractConfig;
use crate::data::{Dataset, Images, Pixels};
use crate::error::{Error, Result};
use crate::files::{read_json, sha256_file, write_json};
use crate::model::{Encoder, FeatureMap, Readout};
use crate::progress::{Event, Reporter, Stage, Unit};
use crate::ranks::{Ranks, To, agree};
use crate::samples::PlainImages;
use crate::store::checkpoint::{Checkpoint, DatasetLabel};
use crate::store::features::{FeatureFiles, FeatureWriter, Manifest, Origin};
use crate::store::networks::load_encoder;
use crate::store::run_directory::Existing;
use crate::store::stage_directory::checkpoint_in;

/// The file `features/summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExtractSummary {
    /// The data set encoded.
    pub dataset: DatasetLabel,
    /// SHA-256 of the checkpoint file.
    pub checkpoint: String,
    /// The layer whose output the features are.
    pub layer: String,
    /// Training images, and features per image.
    pub train: [usize; 2],
    /// Test images, and features per image.
    pub test: [usize; 2],
    /// Images encoded per second, training and test.
    pub images_per_second: f64,
    /// Wall time of encoding, in seconds.
    pub seconds: f64,
}

/// Writes the features of all training and test images to `features/` in the run directory.
///
/// `checkpoint` is a checkpoint (or its directory) to use instead of the run's own.
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
    let dataset = context.open_data(reporter)?;
    check_data(context, &checkpoint, &dataset, reporter)?;
    training_stage::announce(Stage::Extract, &dataset.name, reporter);

    let origin = Origin { checkpoint: digest, dataset: label(&dataset), layer: describe(&encoder, &readout) };
    if let Some(summary) = finished(context, &origin) {
        reporter.report(Event::Note("the features exist already"));
        return Ok(summary);
    }
    let test_images = dataset.open_test()?;
    agree(&*context.ranks, &[("checkpoint, config or data set", format!("{origin:?}").into_bytes())])?;
    let work = context.leads().then(|| context.begin(Stage::Extract)).transpose()?;
    let total = dataset.train.len() + test_images.len();
    reporter.report(Event::TaskStarted { label: "extract", total: total as u64, unit: Unit::Images });
    let start = Instant::now();
    let files = work.as_ref().map(|work| work.directory().features());
    let extraction = Extraction {
        encoder: &encoder,
        readout: &readout,
        pixels: &checkpoint.header.pixels,
        origin: &origin,
        width,
        config: &config.extract,
        ranks: &*context.ranks,
    };
    let [train_file, test_file] =
        [FeatureFiles::train, FeatureFiles::test].map(|file| files.as_ref().map(file));
    let train = extraction.write(train_file, &dataset.train, &dataset.names.train, reporter)?;
    let test = extraction.write(test_file, &test_images, &dataset.names.test, reporter)?;
    let seconds = start.elapsed().as_secs_f64();
    reporter.report(Event::TaskFinished);

    context.conclude(work, |work| {
        [train, test].into_iter().flatten().try_for_each(FeatureWriter::finish)?;
        let files = work.directory().features();
        let manifest = extraction.manifest(&files, &dataset, [dataset.train.len(), test_images.len()])?;
        files.write_manifest(&manifest)?;
        let summary = ExtractSummary {
            dataset: label(&dataset),
            checkpoint: origin.checkpoint.clone(),
            layer: origin.layer.clone(),
            train: manifest.train,
            test: manifest.test,
            images_per_second: total as f64 / seconds,
            seconds,
        };
        context.run.record_run(context.environment(), label(&dataset), None)?;
        write_json(&work.directory().summary(), &summary)?;
        context.finish(Stage::Extract, work)?;
        Ok(summary)
    })
}

/// How images become features.
struct Extraction<'a> {
    encoder: &'a Encoder,
    readout: &'a Readout,
    pixels: &'a Pixels,
    origin: &'a Origin,
    /// Features per image.
    width: usize,
    config: &'a ExtractConfig,
    ranks: &'a dyn Ranks,
}

impl Extraction<'_> {
    /// Computes the features of `images` and writes them, on the first rank, which alone has a `path`; the file is named so
    /// once the returned writer is finished.
    fn write(
        &self,
        path: Option<PathBuf>,
        images: &Images,
        names: &[String],
        reporter: &mut dyn Reporter,
    ) -> Result<Option<FeatureWriter>> {
        let create =
            |path: PathBuf| FeatureWriter::create(&path, self.origin, &images.labels, names, self.width);
        let mut writer = path.map(create).transpose()?;
        let plain = PlainImages::all(images, self.pixels);
        let to = (self.ranks, To::First);
        encode(self.encoder, self.readout, &plain, self.config.batch_size, to, |rows, _| {
            writer.as_mut().map_or(Ok(()), |writer| writer.push(rows))?;
            reporter.report(Event::TaskAdvanced((rows.len() / self.width) as u64));
            match reporter.stop() {
                None => Ok(()),
                Some(stop) => Err(Error::Stopped {
                    stage: Stage::Extract.name(),
                    stop,
                    state: "before all images were encoded; this stage starts over".into(),
                }),
            }
        })?;
        Ok(writer)
    }

    /// The manifest of the finished files, with the numbers of training and test `images`.
    fn manifest(&self, files: &FeatureFiles, dataset: &Dataset, images: [usize; 2]) -> Result<Manifest> {
        let [train, test] = images.map(|images| [images, self.width]);
        Ok(Manifest {
            classes: dataset.class_names.clone(),
            map: feature_map(self.encoder, self.config),
            train,
            test,
            train_digest: sha256_file(&files.train())?,
            test_digest: sha256_file(&files.test())?,
            origin: self.origin.clone(),
        })
    }
}

/// The summary of a complete extraction, if this run is to be resumed and has one.
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

/// Refuses images of a shape that the checkpoint's encoder was not built for, and of another data set unless the
/// context allows it; warns if the checkpoint's training stopped within an epoch.
pub(super) fn check_data(
    context: &Context,
    checkpoint: &Checkpoint,
    dataset: &Dataset,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    let header = &checkpoint.header;
    let (expected, found) = (header.image, dataset.image_shape());
    if expected != found {
        return Err(Error::data(
            &dataset.directory,
            format!("images are {found:?} (height, width, channels), the encoder takes {expected:?}"),
            "pretrain on this data set, choose another with --data, or the size with --set data.image_size=...",
        ));
    }
    let trained = json!(header.architecture().unwrap_or_default().arithmetic);
    let asked = json!(context.config.encoder.arithmetic);
    for key in ["convolution", "precision"] {
        if trained[key] != asked[key] {
            let (trained, asked) = (&trained[key], &asked[key]);
            let problem = format!("must be {trained} as in the training of the encoder, got {asked}");
            return Err(Error::config(key, problem));
        }
    }
    if header.partial.is_some() {
        reporter.report(Event::Warning(&format!(
            "the checkpoint was saved within epoch {} of its training; `rotnet pretrain --resume` continues it",
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
    if context.encoder_is_taken_over() {
        return Ok(());
    }
    if context.allow_data_mismatch {
        let text = format!("{}: {problem}", dataset.directory.display());
        reporter.report(Event::Warning(&text));
        return Ok(());
    }
    Err(Error::data(
        &dataset.directory,
        problem,
        "name that data set with --data, or accept this one with --allow-data-mismatch",
    ))
}

/// The shape of the features as a map, if they are one: a single block in one view.
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

/// Describes the features in words.
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
