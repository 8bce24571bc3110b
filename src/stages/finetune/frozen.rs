//! Mode `frozen`: a classifier on features that `extract` wrote.

use std::path::{Path, PathBuf};

use super::{Sources, Trained, choice, configured_shape, kept_accuracy, material, ridge};
use crate::config::{self, FinetuneConfig, Overrides};
use crate::data::{self, DataKind, Pixels};
use crate::error::{Error, Result};
use crate::files::sha256_file;
use crate::model::{Classifier, ClassifierShape, FeatureMap, HeadKind};
use crate::progress::{EpochMetrics, Reporter, Stage};
use crate::samples::Samples;
use crate::stages::{Context, training_stage};
use crate::store::checkpoint::Header;
use crate::store::features::{FeatureFiles, Features, Manifest};
use crate::store::replacement::Work;
use crate::store::stage_directory::StageDirectory;

/// Trains the classifier.
pub(super) fn run(context: &Context, sources: &Sources, reporter: &mut dyn Reporter) -> Result<Trained> {
    let directory = directory(context, sources);
    let files = FeatureFiles::new(&directory);
    context.check(&context.run.files(Stage::Finetune))?;
    let manifest = files.read_manifest()?;
    let context = &as_extracted(context, &directory)?;
    let config = &context.config;
    if sources.features.is_none() {
        check_origin(context, &files, &manifest.origin.checkpoint)?;
    }
    let map = frozen_map(&config.finetune, &manifest)?;
    let classes = manifest.classes.len();
    let all = Features::load(&files.train(), &manifest.origin, classes)?;
    let mut recipe = config.recipe(Stage::Finetune);
    let chosen = match &sources.split {
        Some(split) => {
            recipe["split"] = split.digest().into();
            split.clone()
        }
        None => data::labeled_split(all.labels(), &manifest.classes, &config.data, config.seed)?,
    };
    let train = all.subset(&chosen.train);
    let validation = chosen.validation.map(|indices| all.subset(&indices));
    drop(all);
    if config.finetune.head == HeadKind::Ridge {
        ridge::check_memory(&train, validation.as_ref(), classes, reporter)?;
    }
    training_stage::announce(Stage::Finetune, &manifest.origin.dataset.name, reporter);
    let shape = configured_shape(&config.finetune, train.values(), classes, map);
    let dataset = manifest.origin.dataset.clone();
    let header = Header {
        classifier: Some(shape.clone()),
        input: Some(manifest.origin.checkpoint.clone()),
        ..Header::untrained(Stage::Finetune, config.seed, Pixels::Raw, dataset, recipe)
    };
    let head = head(context, header, &shape, &train, validation.as_ref(), reporter)?;
    Ok(Trained {
        how: head.how,
        seconds: head.seconds,
        dataset: manifest.origin.dataset,
        classes: manifest.classes,
        labels: train.len(),
        unlabeled: None,
        rounds: Vec::new(),
        validation: head.validation,
        history: head.history,
        work: head.work,
    })
}

/// The files of the features to train and test on.
fn directory(context: &Context, sources: &Sources) -> PathBuf {
    sources.features.clone().unwrap_or_else(|| context.run.stage(Stage::Extract))
}

/// The test features, which must come from the same encoder as the training features of `checkpoint`.
pub(super) fn test_features(context: &Context, sources: &Sources, checkpoint: &Header) -> Result<Features> {
    let files = FeatureFiles::new(&directory(context, sources));
    let manifest = files.read_manifest()?;
    if checkpoint.input.as_ref() != Some(&manifest.origin.checkpoint) {
        return Err(Error::checkpoint(
            files.manifest(),
            "these features come from another encoder than those the classifier was trained on",
            "run `rotnet finetune --force` on them",
        ));
    }
    Features::load(&files.test(), &manifest.origin, manifest.classes.len())
}

/// How a classifier on features was trained.
struct Head {
    history: Vec<EpochMetrics>,
    how: String,
    validation: Option<f64>,
    seconds: f64,
    work: Option<Work>,
}

/// Trains or solves the classifier, and writes its checkpoint.
fn head(
    context: &Context,
    header: Header,
    shape: &ClassifierShape,
    train: &Features,
    validation: Option<&Features>,
    reporter: &mut dyn Reporter,
) -> Result<Head> {
    let config = &context.config.finetune;
    if config.head == HeadKind::Ridge {
        let history = Vec::new();
        if !context.leads() {
            return Ok(Head { history, how: String::new(), validation: None, seconds: 0.0, work: None });
        }
        let ridge::Solved { how, validation, seconds, work } =
            ridge::solve(context, header, shape, train, validation)?;
        return Ok(Head { history, how, validation, seconds, work: Some(work) });
    }
    let device = context.device.clone().autodiff();
    let moments = config.standardise.then(|| train.moments()).transpose()?;
    let network = Classifier::new(shape, moments, context.config.seed, &device);
    let material = material(train, validation.map(|samples| samples as _), config);
    let training_stage::Trained { history, work } =
        training_stage::run(context, header, network, config.into(), material, reporter)?;
    let seconds = training_stage::seconds(&history);
    let validation = kept_accuracy(config, &history);
    Ok(Head { validation, history, how: choice(config).into(), seconds, work })
}

/// The map that a head of convolutions reads.
fn frozen_map(config: &FinetuneConfig, manifest: &Manifest) -> Result<Option<FeatureMap>> {
    match (config.head, &manifest.map) {
        (HeadKind::Conv, None) => {
            let problem = format!(
                "`conv` stands on the map of one block in one view, these features are {}; extract with \
                 --layer block2 --pool none --views 1, for example",
                manifest.origin.layer
            );
            Err(Error::config("finetune.head", problem))
        }
        (HeadKind::Conv, map) => Ok(map.clone()),
        (HeadKind::Linear | HeadKind::Mlp | HeadKind::Ridge, _) => Ok(None),
    }
}

/// The context with a config that describes the features: `predict` reads from it how to compute more.
///
/// # Errors
/// [`Error::Usage`] if the config asks for features other than these, or names other images or labels.
fn as_extracted(context: &Context, directory: &Path) -> Result<Context> {
    let path = StageDirectory::new(directory).config();
    if !path.exists() {
        return Ok(context.clone());
    }
    let made = config::load(&path, &Overrides::default())?;
    let mut config = context.config.clone();
    if made.extract.readout() != config.extract.readout() || made.data.images() != config.data.images() {
        return Err(Error::Usage {
            problem: format!(
                "the config asks for features other than those in {}: section extract, or the images of section data, \
                 is not that of {}",
                directory.display(),
                path.display()
            ),
            hint: "run `rotnet extract --force` with these settings first, or leave them out here".into(),
        });
    }
    let (asked, read) = (&config.data, &made.data);
    // Without a table the folder itself gives images their classes.
    let labels = read.labels.as_deref().or(read.directory.as_deref());
    let refuse_other = |key, asked, read| refuse_other(key, made.data.kind, asked, read, directory);
    refuse_other("data.directory", asked.directory.as_deref(), read.directory.as_deref())?;
    refuse_other("data.labels", asked.labels.as_deref(), labels)?;
    // A data set that was moved is where the config says, if it says so.
    let gone = read.directory.as_ref().is_some_and(|read| !read.exists());
    if !gone || asked.directory.is_none() {
        config.data.directory = made.data.directory;
        config.data.labels = made.data.labels;
    }
    Ok(Context { config, ..context.clone() })
}

/// Features hold their images' labels, and neither is read again: what `key` names has to be what they were made from, as far
/// as that is still there.
fn refuse_other(
    key: &str,
    kind: DataKind,
    asked: Option<&Path>,
    read: Option<&Path>,
    features: &Path,
) -> Result<()> {
    let (Some(asked), Some(read)) = (asked, read) else { return Ok(()) };
    if data::is_same(kind, asked, read) || !read.exists() {
        return Ok(());
    }
    Err(Error::Usage {
        problem: format!(
            "{key} is {}, but images and labels of the features in {} come from {}",
            asked.display(),
            features.display(),
            read.display()
        ),
        hint: "run `rotnet extract --force` with it first, or leave it out here".into(),
    })
}

/// Features in the run directory must come from the checkpoint beside them.
fn check_origin(context: &Context, files: &FeatureFiles, digest: &str) -> Result<()> {
    let checkpoint = context.run.result(Stage::Pretrain);
    if checkpoint.exists() && sha256_file(&checkpoint)? != digest {
        return Err(Error::checkpoint(
            files.manifest(),
            format!("these features come from another checkpoint than {}", checkpoint.display()),
            "run `rotnet extract --force` again, or name features with --features",
        ));
    }
    Ok(())
}
