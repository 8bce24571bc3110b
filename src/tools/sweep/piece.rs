//! What a run of a sweep is made of: pieces that one process does at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::Planned;
use super::shared::{pretraining, shared};
use super::task::Sweep;
use crate::config::{Config, FinetuneMode};
use crate::error::{Error, Result};
use crate::files::{create_directory, read_json_if_there, write_json};
use crate::progress::{Reporter, Stage};
use crate::stages::{self, Context, Sources};
use crate::store::run_directory::{Existing, RunDirectory};

/// One stage of a run, or of what it shares with others.
pub(super) struct Piece {
    stage: Stage,
    run: RunDirectory,
    config: Config,
    sources: Sources,
}

/// The file that is left beside a training that diverged.
#[derive(Serialize, Deserialize)]
struct Failed {
    failure: String,
}

impl Piece {
    /// The first piece of a run that is not done; nothing if the run is trained or cannot be.
    pub(super) fn next(sweep: &Sweep, planned: &Planned) -> Result<Option<Self>> {
        let pieces = Self::all(sweep, planned);
        if Self::failure_among(&pieces)?.is_some() {
            return Ok(None);
        }
        Ok(pieces.into_iter().find(|piece| !piece.run.summary(piece.stage).exists()))
    }

    fn all(sweep: &Sweep, planned: &Planned) -> Vec<Self> {
        let config = &planned.config;
        let (shared, sources) = (shared(&sweep.out, config), sources(&sweep.out, config));
        let piece = |stage, run: &RunDirectory, config| Self {
            stage,
            run: run.clone(),
            config,
            sources: sources.clone(),
        };
        let pretrain = sources.checkpoint.is_some();
        let pretrain = pretrain.then(|| piece(Stage::Pretrain, &shared.pretrain, pretraining(config)));
        let extract = sources.features.is_some();
        let extract = extract.then(|| piece(Stage::Extract, &shared.features, pretraining(config)));
        let classify = piece(Stage::Finetune, &sweep.run(planned), config.clone());
        pretrain.into_iter().chain(extract).chain([classify]).collect()
    }

    /// Why a run cannot be trained; nothing while that is not known.
    pub(super) fn failure(sweep: &Sweep, planned: &Planned) -> Result<Option<String>> {
        Self::failure_among(&Self::all(sweep, planned))
    }

    fn failure_among(pieces: &[Self]) -> Result<Option<String>> {
        for piece in pieces {
            if let Some(Failed { failure }) = read_json_if_there(&piece.failed())? {
                return Ok(Some(failure));
            }
        }
        Ok(None)
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// How many other pieces of these runs are not done, by stage.
    pub(super) fn left_after(&self, sweep: &Sweep, runs: &[&Planned]) -> [usize; 3] {
        let pieces = runs.iter().flat_map(|planned| Self::all(sweep, planned));
        let left = pieces.filter(|piece| !piece.is_done()).map(|piece| (piece.name(sweep), piece.stage));
        let mut counts = [0; 3];
        for (name, stage) in left.collect::<BTreeMap<_, _>>() {
            counts[stage as usize] += usize::from(name != self.name(sweep));
        }
        counts
    }

    /// A name that no other piece of the sweep has.
    pub(super) fn name(&self, sweep: &Sweep) -> String {
        let run = self.run.root().strip_prefix(&sweep.out).unwrap_or(self.run.root());
        format!("{}-{}", self.stage.name(), run.display())
    }

    /// Whether there is nothing left to do, whoever did it.
    pub(super) fn is_done(&self) -> bool {
        self.run.summary(self.stage).exists() || self.failed().exists()
    }

    /// Does the piece. Training that diverged is a result, which is noted and returned; everything else is an error.
    pub(super) fn perform(&self, sweep: &Sweep, reporter: &mut dyn Reporter) -> Result<Option<String>> {
        let context = context(sweep, &self.run, self.config.clone())?;
        let outcome = match self.stage {
            Stage::Pretrain => stages::pretrain(&context, reporter).map(drop),
            Stage::Extract => stages::extract(&context, self.sources.checkpoint.clone(), reporter).map(drop),
            Stage::Finetune => stages::train_classifier(&context, &self.sources, reporter).map(drop),
        };
        match outcome {
            Ok(()) => Ok(None),
            Err(error @ (Error::Diverged { .. } | Error::NotFinite { .. })) => {
                let failure = error.to_string();
                create_directory(self.run.root())?;
                write_json(&self.failed(), &Failed { failure: failure.clone() })?;
                Ok(Some(failure))
            }
            Err(error) => Err(error),
        }
    }

    fn failed(&self) -> PathBuf {
        self.run.root().join("failed.json")
    }
}

/// Where the classifier of a run reads from.
pub(super) fn sources(out: &Path, config: &Config) -> Sources {
    if config.finetune.from_scratch {
        return Sources::default();
    }
    let shared = shared(out, config);
    let frozen = config.finetune.mode == FinetuneMode::Frozen;
    Sources {
        checkpoint: Some(shared.pretrain.stage(Stage::Pretrain)),
        features: frozen.then(|| shared.features.stage(Stage::Extract)),
        split: None,
    }
}

pub(super) fn context(sweep: &Sweep, run: &RunDirectory, config: Config) -> Result<Context> {
    Context::new(run.clone(), config, sweep.data_home.clone(), Existing::Resume)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{KERAS, Overrides, resolve};
    use crate::tools::sweep::{SweepPart, Tested};

    #[test]
    fn what_runs_share_is_to_be_done_once() {
        let directory = tempfile::tempdir().unwrap();
        let planned = |name: &str, settings: &[&str]| {
            let mut overrides = Overrides::default();
            settings.iter().for_each(|setting| overrides.parse(setting).unwrap());
            let config = resolve(KERAS, "keras-scaled", &overrides).unwrap();
            Planned { name: name.into(), variant: None, values: Vec::new(), config }
        };
        let sweep = Sweep {
            description: String::new(),
            planned: vec![
                planned("a", &[]),
                planned("b", &["data.labels_per_class=3"]),
                planned("c", &["seed=9"]),
                planned("scratch", &["finetune.from_scratch=true", "finetune.mode=full"]),
            ],
            part: SweepPart::All,
            tested: Tested::None,
            out: directory.path().to_path_buf(),
            data_home: PathBuf::new(),
        };
        let runs = sweep.mine().unwrap();
        let next = |run: usize| Piece::next(&sweep, runs[run]).unwrap().unwrap();
        let first = next(0);
        assert_eq!((first.stage(), first.left_after(&sweep, &runs)), (Stage::Pretrain, [1, 2, 4]));
        // Done, or to be done no more.
        for (run, file) in [(0, first.run.summary(Stage::Pretrain)), (3, next(3).failed())] {
            create_directory(file.parent().unwrap()).unwrap();
            write_json(&file, &Failed { failure: run.to_string() }).unwrap();
        }
        let second = next(1);
        assert_eq!((second.stage(), second.left_after(&sweep, &runs)), (Stage::Extract, [1, 1, 3]));
    }
}
