//! Neither kills nor the number of threads or ranks change a result: shown on this machine.
//!
//! Every run is a process of its own, so that it can be killed as the system or a power cut would; but ranks are threads of
//! this one, so that it needs no MPI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use tempfile::TempDir;

use super::golden;
use crate::config::Config;
use crate::data::DataKind;
use crate::device::DeviceName;
use crate::error::{Error, Result};
use crate::files::is_temporary;
use crate::progress::{Silent, Stage};
use crate::ranks::{self, Ranks};
use crate::stages::{self, Context, Sources};
use crate::store::run_directory::{Existing, RunDirectory};
use crate::store::run_results::{ResultFile, differences, results};

/// Training images, labels a class and epochs of the shortened run.
const IMAGES: usize = 500;
const LABELS: usize = 20;
const EPOCHS: usize = 2;
/// A kill comes after a random part of this share of an uninterrupted run, so that a run is killed several times.
const KILL_WITHIN: f64 = 0.6;

/// What `rotnet verify resume` found.
#[derive(Serialize)]
pub struct Verification {
    /// Wall time of the uninterrupted run, in seconds.
    pub seconds: f64,
    /// Its results.
    pub results: Vec<ResultFile>,
    /// What it was compared with.
    pub comparisons: Vec<Comparison>,
    /// What this processor makes of two tiny trainings (see [`golden`]).
    pub golden: String,
    /// What the processors did on which this version was tested.
    pub golden_shipped: &'static str,
}

/// Runs that were disturbed in one way, compared with the uninterrupted one.
#[derive(Serialize)]
pub struct Comparison {
    /// How they were disturbed.
    pub name: String,
    /// Runs from start to end.
    pub runs: u32,
    /// How often one was killed.
    pub kills: u32,
    /// Kills that left a half-written file behind.
    pub kills_while_writing: u32,
    /// Results that differ from those of the uninterrupted run.
    pub differing: Vec<String>,
}

impl Comparison {
    fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), runs: 0, kills: 0, kills_while_writing: 0, differing: Vec::new() }
    }
}

/// Runs the config again and again in a temporary directory: left alone, killed `kills` times and resumed, with other
/// numbers of threads, shared by ranks. Unless `whole`, the training is shortened and saves often.
///
/// # Errors
/// [`Error::Verification`] if a run fails; [`Error::Io`]. Results that differ are no error, see
/// [`Comparison::differing`].
pub fn verify_resume(mut config: Config, data_home: &Path, kills: u32, whole: bool) -> Result<Verification> {
    if !whole {
        shorten(&mut config);
    }
    let workshop = Workshop::new(&mut config)?;
    let start = Instant::now();
    workshop.run_through("reference", config.threads)?;
    let seconds = start.elapsed().as_secs_f64();
    let reference = workshop.results("reference")?;

    let mut comparisons = vec![workshop.kill(kills, seconds, &reference)?];
    let processors = thread::available_parallelism().map_or(1, usize::from);
    for threads in [1, 2, 2 * processors.max(2)] {
        let run = format!("threads-{threads}");
        let mut comparison = Comparison::new(format!("--threads {threads}"));
        workshop.run_through(&run, Some(threads))?;
        workshop.compare(&mut comparison, &run, &reference)?;
        comparisons.push(comparison);
    }
    let on_processors = config.all_devices().iter().all(|device| *device == DeviceName::Flex);
    for size in [2, 3, 4].into_iter().filter(|_| on_processors) {
        let run = format!("ranks-{size}");
        if workshop.share(&run, &config, data_home, size)? {
            let mut comparison = Comparison::new(format!("shared by {size} ranks"));
            workshop.compare(&mut comparison, &run, &reference)?;
            comparisons.push(comparison);
        }
    }
    let golden = golden::of_this_processor()?;
    let golden_shipped = golden::SHIPPED.trim_end();
    Ok(Verification { seconds, results: reference, comparisons, golden, golden_shipped })
}

/// Few images and epochs, and so many saves that a kill often meets one.
fn shorten(config: &mut Config) {
    let data = &mut config.data;
    data.train_images = Some(data.train_images.unwrap_or(IMAGES).min(IMAGES));
    data.labels_per_class = data.labels_per_class.map(|labels| labels.min(LABELS));
    data.validation_images = data.validation_images.min(IMAGES / 5);
    config.pretrain.epochs = config.pretrain.epochs.min(EPOCHS);
    config.pretrain.steps = None;
    config.finetune.epochs = config.finetune.epochs.min(EPOCHS);
    config.evaluate.after_run = false;
    config.save.every_steps = Some(2);
}

/// A temporary directory with the config and all runs.
struct Workshop {
    directory: TempDir,
    program: PathBuf,
}

impl Workshop {
    fn new(config: &mut Config) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("rotnet-verify-")
            .tempdir()
            .map_err(Error::io("create", std::env::temp_dir()))?;
        if config.data.kind == DataKind::Scenes && config.data.directory.is_none() {
            config.data.directory = Some(directory.path().join("scenes"));
        }
        config.write(&directory.path().join("config.json"))?;
        let program = std::env::current_exe().map_err(Error::io("find", "this program"))?;
        Ok(Self { directory, program })
    }

    fn path(&self, run: &str) -> PathBuf {
        self.directory.path().join(run)
    }

    fn start(&self, run: &str, threads: Option<usize>) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .args(["run", "--quiet", "--resume", "--config"])
            .arg(self.path("config.json"))
            .arg("--out")
            .arg(self.path(run))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Some(threads) = threads {
            command.args(["--threads", &threads.to_string()]);
        }
        command.spawn().map_err(Error::io("start", &self.program))
    }

    fn run_through(&self, run: &str, threads: Option<usize>) -> Result<()> {
        let mut child = self.start(run, threads)?;
        let status = child.wait().map_err(Error::io("wait for", &self.program))?;
        self.must_succeed(run, status)
    }

    fn must_succeed(&self, run: &str, status: ExitStatus) -> Result<()> {
        match status.success() {
            true => Ok(()),
            false => Err(Error::Verification {
                problem: format!("the run `{run}` failed ({status})"),
                hint: "its own message is above".into(),
            }),
        }
    }

    fn results(&self, run: &str) -> Result<Vec<ResultFile>> {
        results(&RunDirectory::new(self.path(run)))
    }

    /// Does a run on so many ranks, each a thread; `false` if its steps have fewer units.
    fn share(&self, run: &str, config: &Config, data_home: &Path, size: usize) -> Result<bool> {
        let place = RunDirectory::new(self.path(run));
        let work = |ranks: Arc<dyn Ranks>| {
            let mut context =
                Context::new(place.clone(), config.clone(), data_home.into(), Existing::Refuse)?;
            context.ranks = ranks;
            if stages::refuse_too_many_ranks(&context, &[Stage::Pretrain, Stage::Finetune]).is_err() {
                return Ok(false);
            }
            stages::pretrain(&context, &mut Silent)?;
            stages::extract(&context, None, &mut Silent)?;
            stages::finetune(&context, &Sources::default(), &mut Silent)?;
            Ok(true)
        };
        // A thread that waits for another rank must not be one that it needs.
        let shared = ranks::run(size, |ranks| on_one_thread(|| work(ranks)))?;
        Ok(shared[0])
    }

    /// Kills runs until `kills` is reached; each is resumed until it ends, then compared.
    fn kill(&self, kills: u32, seconds: f64, reference: &[ResultFile]) -> Result<Comparison> {
        let mut comparison = Comparison::new("killed and resumed");
        while comparison.kills < kills {
            let run = format!("killed-{}", comparison.runs + 1);
            loop {
                let mut child = self.start(&run, None)?;
                let delay = match comparison.kills < kills {
                    true => Duration::from_secs_f64(seconds * KILL_WITHIN * chance()),
                    false => Duration::MAX,
                };
                if let Some(status) = wait_at_most(&mut child, delay)? {
                    self.must_succeed(&run, status)?;
                    break;
                }
                child.kill().map_err(Error::io("kill", &self.program))?;
                child.wait().map_err(Error::io("wait for", &self.program))?;
                comparison.kills += 1;
                comparison.kills_while_writing += u32::from(was_writing(&self.path(&run)));
            }
            self.compare(&mut comparison, &run, reference)?;
        }
        Ok(comparison)
    }

    /// Compares a run with the reference, and makes room for the next.
    fn compare(&self, comparison: &mut Comparison, run: &str, reference: &[ResultFile]) -> Result<()> {
        let found = self.results(run)?;
        let differing = differences(reference, &found);
        comparison.runs += 1;
        comparison.differing.extend(differing.iter().map(|file| format!("{run}/{}", file.file)));
        fs::remove_dir_all(self.path(run)).map_err(Error::io("remove", self.path(run)))
    }
}

/// Does `work` on a pool of its own.
fn on_one_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|error| Error::Verification {
        problem: format!("cannot start threads: {error}"),
        hint: "allow more of them".into(),
    })?;
    pool.install(work)
}

/// The status of a process that ends in time.
fn wait_at_most(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        let status = child.try_wait().map_err(Error::io("wait for", "a run"))?;
        if status.is_some() || start.elapsed() >= limit {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// A number in 0..1 that no seed decides: when a kill comes is chance anyway.
fn chance() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    f64::from(now.unwrap_or_default().subsec_nanos() % 1_000_003) / 1_000_003.0
}

fn was_writing(run: &Path) -> bool {
    let stages = ["", "pretrain", "features", "finetune"];
    let folders = stages.iter().filter_map(|stage| run.join(stage).read_dir().ok());
    let mut entries = folders.flatten().filter_map(|entry| entry.ok());
    entries.any(|entry| is_temporary(&entry.file_name()))
}
