//! Mode `frozen`: a classifier on features that `extract` wrote.

use std::path::Path;

use super::{Sources, Tested, Trained, choice, material, ridge};
use crate::checkpoint::Header;
use crate::config::{self, FinetuneConfig, Overrides};
use crate::data::{self, Pixels};
use crate::error::{Error, Result};
use crate::features::{FeatureFiles, Features, Manifest};
use crate::files::sha256_file;
use crate::model::{Classifier, ClassifierShape, FeatureMap, HeadKind};
use crate::progress::{EpochMetrics, Reporter, Stage};
use crate::samples::Samples;
use crate::stage_directory::{StageDirectory, Work};
use crate::stages::{Context, training_stage};
use crate::training;

/// Trains the classifier and predicts the test images.
pub(super) fn run(
    context: &Context,
    sources: &Sources,
    reporter: &mut dyn Reporter,
) -> Result<(Trained, Tested)> {
    let directory = sources.features.clone().unwrap_or_else(|| context.run.stage(Stage::Extract));
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
    let chosen = data::labeled_split(all.labels(), classes, &config.data, config.seed)?;
    let train = all.subset(&chosen.train);
    let validation = chosen.validation.map(|indices| all.subset(&indices));
    drop(all);
    if config.finetune.head == HeadKind::Ridge {
        ridge::check_memory(&train, validation.as_ref(), classes, reporter)?;
    }
    training_stage::announce(Stage::Finetune, &manifest.origin.dataset.name, reporter);
    let shape = ClassifierShape {
        features: train.values(),
        hidden: config.finetune.hidden_widths(),
        batch_norm: config.finetune.batch_norm,
        classes,
        map,
    };
    let (dataset, recipe) = (manifest.origin.dataset.clone(), config.recipe(Stage::Finetune));
    let header = Header {
        classifier: Some(shape.clone()),
        input: Some(manifest.origin.checkpoint.clone()),
        ..Header::untrained(Stage::Finetune, config.seed, Pixels::Raw, dataset, recipe)
    };
    let head = head(context, header, &shape, &train, validation.as_ref(), reporter)?;
    let labels = train.len();
    // Where they are in memory they make room for those of the test set.
    drop((train, validation));
    let test = Features::load(&files.test(), &manifest.origin, classes)?;
    let tested = training::predict(&head.network, &test, &context.device);
    test.failure().map_or(Ok(()), Err)?;
    let trained = Trained {
        what: match config.finetune.head {
            HeadKind::Conv => "frozen encoder, convolutions on its map",
            HeadKind::Linear | HeadKind::Mlp => "frozen encoder, dense classifier on its features",
            HeadKind::Ridge => "frozen encoder, ridge regression of one-hot labels on its features",
        },
        how: head.how,
        seconds: head.seconds,
        dataset: manifest.origin.dataset,
        classes: manifest.classes,
        labels,
        history: head.history,
        test_labels: test.labels().to_vec(),
        work: head.work,
    };
    Ok((trained, tested))
}

/// A classifier on features, and how it came about.
struct Head {
    network: Classifier,
    history: Vec<EpochMetrics>,
    how: String,
    seconds: f64,
    work: Work,
}

/// Trains or solves the classifier; leaves its checkpoint.
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
        let ridge::Solved { network, how, seconds, work } =
            ridge::solve(context, header, shape, train, validation)?;
        return Ok(Head { network, history: Vec::new(), how, seconds, work });
    }
    let device = context.device.clone().autodiff();
    let moments = config.standardise.then(|| train.moments()).transpose()?;
    let network = Classifier::new(shape, moments, context.config.seed, &device);
    let material = material(train, validation.map(|samples| samples as _), config);
    let training_stage::Trained { network, history, work } =
        training_stage::run(context, header, network, config.into(), material, reporter)?;
    let seconds = training_stage::seconds(&history);
    Ok(Head { network, history, how: choice(config).into(), seconds, work })
}

/// The map that a head of convolutions stands on.
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

/// The context with a config that tells of the features what they are: `predict` reads there how to make others.
///
/// # Errors
/// [`Error::Usage`] where the config asks for features other than these.
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
    config.data.directory = made.data.directory;
    Ok(Context { config, ..context.clone() })
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
