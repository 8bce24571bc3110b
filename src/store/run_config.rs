//! The configs that the stages of a run were made with.

use std::path::PathBuf;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::read_json;
use crate::progress::Stage;
use crate::store::run_directory::{RunDirectory, STAGES};
use crate::store::run_record::RunRecord;

impl RunDirectory {
    /// The config that a stage was run with, or else the one of the run, as version 0.1.0 wrote it.
    pub fn config(&self, stage: Stage) -> PathBuf {
        let own = self.files(stage).config();
        if own.exists() { own } else { self.root().join("config.json") }
    }

    /// The config that a later command starts from: the one of the stage finished last. `None` without stages.
    pub fn latest_config(&self) -> Option<PathBuf> {
        let record: Option<RunRecord> = read_json(&self.record()).ok();
        let latest = record.and_then(|record| record.latest);
        let stages = latest.into_iter().chain(STAGES.into_iter().rev());
        stages.map(|stage| self.config(stage)).find(|path| path.is_file())
    }

    /// [`latest_config`](Self::latest_config) of a run that must exist.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a directory that holds no run.
    pub fn any_config(&self) -> Result<PathBuf> {
        self.latest_config().ok_or_else(|| {
            Error::checkpoint(
                self.root(),
                "is not a run: no stage in it has a config.json",
                "name the directory of a run, as given with --out",
            )
        })
    }

    /// The settings of all stages as one document: the config of the first, with the sections of later stages as they
    /// were run. If a later stage had another seed or other data, that is added to its section. Null without stages.
    ///
    /// # Errors
    /// Those of [`read_json`].
    pub fn settings(&self) -> Result<Value> {
        let configs = STAGES.map(|stage| (stage.name(), self.config(stage)));
        let evaluation = ("evaluate", self.evaluation().config());
        let mut settings = Value::Null;
        for (section, path) in configs.into_iter().chain([evaluation]).filter(|(_, path)| path.is_file()) {
            let config: Value = read_json(&path)?;
            if settings.is_null() {
                settings = config;
                continue;
            }
            settings[section] = config[section].clone();
            for shared in ["seed", "data"] {
                if config[shared] != settings[shared] && settings[section].is_object() {
                    settings[section][shared] = config[shared].clone();
                }
            }
        }
        Ok(settings)
    }
}
