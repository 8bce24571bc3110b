//! Makes the runs of a sweep that are not there yet.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::results::{self, Row, SweepSummary};
use super::{Planned, digest};
use crate::config::{Config, FinetuneMode};
use crate::data::DataConfig;
use crate::error::{Error, Result};
use crate::files::create_directory;
use crate::progress::{Event, Reporter, Stage};
use crate::run_directory::{Existing, RunDirectory};
use crate::stages::{self, Context, Sources};

/// What is to be run, and where.
pub struct Sweep {
    /// In words, from the file.
    pub description: String,
    /// All runs.
    pub planned: Vec<Planned>,
    /// The directory of the sweep.
    pub out: PathBuf,
    /// Where data sets lie by default.
    pub data_home: PathBuf,
}

/// Makes every run that is not finished, and leaves `sweep.csv` and `summary.json` in the sweep's directory, both up to
/// date after each run. A run whose training diverges is noted as failed, and the others go on.
///
/// # Errors
/// Whatever [`crate::Error`] names besides: data, disk, a wish to end. What is finished is skipped the next time.
pub fn execute(sweep: &Sweep, reporter: &mut dyn Reporter) -> Result<SweepSummary> {
    create_directory(&sweep.out)?;
    let _lock = RunDirectory::new(&sweep.out).lock()?;
    let total = sweep.planned.len();
    let mut rows: Vec<Row> = Vec::with_capacity(total);
    for (index, planned) in sweep.planned.iter().enumerate() {
        let run = RunDirectory::new(sweep.out.join(&planned.name));
        let place = format!("run {} of {total}, {}", index + 1, planned.name);
        let failure = match run.summary(Stage::Finetune).exists() {
            true => {
                reporter.report(Event::Note(&format!("sweep: {place}: finished already")));
                None
            }
            false => {
                reporter.report(Event::Note(&format!("sweep: {place}")));
                failure(make(sweep, planned, &run, reporter))?
            }
        };
        if let Some(failure) = &failure {
            reporter.report(Event::Warning(&format!("sweep: {place}: {failure}")));
        }
        let shared = (!planned.config.finetune.from_scratch).then(|| shared(sweep, &planned.config));
        rows.push(Row::read(planned, &run, shared.as_ref(), failure)?);
        results::write(&sweep.out, &SweepSummary::new(&sweep.description, total, &rows))?;
    }
    Ok(SweepSummary::new(&sweep.description, total, &rows))
}

/// A training that did not work out is a result; everything else is an error.
fn failure(outcome: Result<()>) -> Result<Option<String>> {
    match outcome {
        Ok(()) => Ok(None),
        Err(error @ (Error::Diverged { .. } | Error::NotFinite { .. })) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

fn make(sweep: &Sweep, planned: &Planned, run: &RunDirectory, reporter: &mut dyn Reporter) -> Result<()> {
    let config = &planned.config;
    let shared = shared(sweep, config);
    if config.finetune.from_scratch {
        stages::finetune(&context(sweep, run, config.clone())?, &Sources::default(), reporter)?;
        return Ok(());
    }
    if !shared.pretrain.summary(Stage::Pretrain).exists() {
        let context = context(sweep, &shared.pretrain, pretraining(config))?;
        stages::pretrain(&context, reporter)?;
    }
    let mut sources = Sources { checkpoint: Some(shared.pretrain.stage(Stage::Pretrain)), features: None };
    if config.finetune.mode == FinetuneMode::Frozen {
        if !shared.features.summary(Stage::Extract).exists() {
            let context = context(sweep, &shared.features, pretraining(config))?;
            stages::extract(&context, sources.checkpoint.clone(), reporter)?;
        }
        sources.features = Some(shared.features.stage(Stage::Extract));
    }
    stages::finetune(&context(sweep, run, config.clone())?, &sources, reporter)?;
    Ok(())
}

fn context(sweep: &Sweep, run: &RunDirectory, config: Config) -> Result<Context> {
    Context::new(run.clone(), config, sweep.data_home.clone(), Existing::Resume)
}

/// The runs that hold what a run has in common with others.
pub(super) struct Shared {
    pub pretrain: RunDirectory,
    pub features: RunDirectory,
}

fn shared(sweep: &Sweep, config: &Config) -> Shared {
    let place = |kind: &str, key: &Value| {
        RunDirectory::new(sweep.out.join("shared").join(format!("{kind}-{}", digest(key))))
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
fn pretraining(config: &Config) -> Config {
    let data = DataConfig { labels_per_class: None, label_draw: 0, ..config.data.clone() };
    Config { description: String::new(), data, ..config.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, QUICKSTART, resolve};

    #[test]
    fn labels_and_classifiers_share_encoder_and_features_and_read_outs_the_encoder() {
        let sweep = Sweep {
            description: String::new(),
            planned: Vec::new(),
            out: "sweep".into(),
            data_home: "data".into(),
        };
        let places = |settings: &[&str]| {
            let mut overrides = Overrides::default();
            settings.iter().for_each(|setting| overrides.parse(setting).unwrap());
            let shared = shared(&sweep, &resolve(QUICKSTART, "quickstart", &overrides).unwrap());
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
