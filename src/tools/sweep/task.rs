//! What a process is to do of a sweep.

use std::path::PathBuf;

use super::plan::Planned;
use crate::error::{Error, Result};
use crate::progress::Stage;
use crate::store::run_directory::RunDirectory;

/// Which runs of a sweep are evaluated on the test set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tested {
    /// None: the sweep reports validation accuracy.
    #[default]
    None,
    /// Those with the best mean validation accuracy, over seeds and label draws.
    Best,
    /// All.
    All,
}

/// What to run, and where.
pub struct Sweep {
    /// What the sweep is about, from its file.
    pub description: String,
    /// All runs.
    pub planned: Vec<Planned>,
    /// The runs that this process trains.
    pub part: SweepPart,
    /// The runs that are tested, once all are trained.
    pub tested: Tested,
    /// The directory of the sweep.
    pub out: PathBuf,
    /// Where data sets lie by default.
    pub data_home: PathBuf,
}

/// Which of its runs a process trains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SweepPart {
    /// Whatever no other process has done.
    All,
    /// The runs of these names.
    Named(Vec<String>),
    /// The `index`-th of `count` parts, counted from 1.
    Shard {
        /// From 1 to `count`.
        index: usize,
        /// How many parts there are.
        count: usize,
    },
}

impl Sweep {
    pub(super) fn run(&self, planned: &Planned) -> RunDirectory {
        RunDirectory::new(self.out.join(&planned.name))
    }

    pub(super) fn is_trained(&self, planned: &Planned) -> bool {
        self.run(planned).summary(Stage::Finetune).exists()
    }

    /// The runs that this process trains.
    pub(super) fn mine(&self) -> Result<Vec<&Planned>> {
        let usage = |problem: String, hint: &str| Err(Error::Usage { problem, hint: hint.into() });
        if self.part != SweepPart::All && self.tested != Tested::None {
            return usage(
                "a part of a sweep cannot open the test set".into(),
                "give --test without --only and --shard, when all runs are trained",
            );
        }
        match &self.part {
            SweepPart::All => Ok(self.planned.iter().collect()),
            SweepPart::Named(names) => {
                let named = |name: &String| self.planned.iter().find(|planned| planned.name == *name);
                if let Some(unknown) = names.iter().find(|&name| named(name).is_none()) {
                    return usage(
                        format!("--only {unknown}: the sweep has no such run"),
                        "--dry-run lists its runs",
                    );
                }
                Ok(names.iter().filter_map(named).collect())
            }
            &SweepPart::Shard { index, count } => {
                Ok(self.planned.iter().skip(index - 1).step_by(count).collect())
            }
        }
    }

    /// A run among all of them, in words.
    pub(super) fn place(&self, planned: &Planned) -> String {
        let index = self.planned.iter().position(|other| other.name == planned.name).unwrap_or_default();
        format!("run {} of {}, {}", index + 1, self.planned.len(), planned.name)
    }
}
