//! The folder in which a sequence is played, and what must hold in it after every step.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::records;
use super::step::Step;
use crate::support::write_records;

/// The user `nobody`, whom permissions bind where the tests run as root.
const NOBODY: u32 = 65_534;
/// Exit statuses that a command may have.
const STATUSES: [i32; 5] = [0, 1, 2, 130, 143];
/// What every setting of a sweep has in common.
const SWEEP: &str = r#"{"config": "base.json", "grid": {"finetune.epochs": [1, 2]}, "seeds": [1, 2]}"#;

/// A copy of the binary that every user can run.
pub struct Program {
    directory: tempfile::TempDir,
    user: Option<u32>,
}

impl Program {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        open_to_all(directory.path());
        fs::copy(env!("CARGO_BIN_EXE_rotnet"), directory.path().join("rotnet")).unwrap();
        let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        Self { directory, user: is_root.then_some(NOBODY) }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("rotnet")
    }
}

fn open_to_all(directory: &Path) {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The bytes of all files, by path, as digests.
type Files = BTreeMap<PathBuf, u64>;

/// How a command ended.
struct Ended {
    /// Absent where a signal ended it.
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

pub struct World<'a> {
    folder: tempfile::TempDir,
    program: &'a Program,
    /// As after the last step.
    files: Files,
    /// Commands that succeeded, failed, and were stopped or killed.
    pub ends: [usize; 3],
}

impl<'a> World<'a> {
    /// A folder with `data`, `other` (one byte of it differs), photographs in `ph`, and a sweep.
    pub fn new(program: &'a Program) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write_records(&path("data"));
        write_records(&path("other"));
        let batch = path("other/cifar-10-batches-bin/data_batch_1.bin");
        let mut bytes = fs::read(&batch).unwrap();
        bytes[100] ^= 1;
        fs::write(batch, bytes).unwrap();
        fs::create_dir(path("ph")).unwrap();
        for number in 0..2_u8 {
            let picture =
                image::RgbImage::from_fn(40, 32, |x, y| image::Rgb([number * 90, x as u8, y as u8]));
            picture.save(path(&format!("ph/{number}.png"))).unwrap();
        }
        fs::write(path("sweep.json"), SWEEP).unwrap();
        let mut world = Self { folder, program, files: Files::new(), ends: [0; 3] };
        world.hand_over(&world.path(""));
        let base = "config show --quiet --set data.kind=cifar10 --set encoder.kind=compact --set encoder.widths=[8,8] \
                    --set encoder.pools=[true,true] --set pretrain.epochs=1 --set pretrain.batch_size=16 \
                    --set data.validation_images=10";
        let config = world.start(&mut world.command(base)).wait_with_output().unwrap();
        fs::write(world.path("base.json"), config.stdout).unwrap();
        world.files = world.snapshot();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives everything below `path` to the user that plays.
    fn hand_over(&self, path: &Path) {
        let Some(user) = self.program.user else { return };
        for entry in walkdir::WalkDir::new(path) {
            chown(entry.unwrap().path(), Some(user), Some(user)).unwrap();
        }
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(self.program.path());
        command.args(arguments.split_whitespace());
        command
    }

    fn start(&self, command: &mut Command) -> Child {
        command
            .current_dir(self.folder.path())
            .env_remove("ROTNET_DATA")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(user) = self.program.user {
            command.uid(user).gid(user);
        }
        command.spawn().unwrap()
    }

    /// Takes a step, and says which promise it broke.
    pub fn take(&mut self, step: &Step) -> Result<(), String> {
        let ended = match step {
            Step::Run(arguments) => vec![ended(self.start(&mut self.command(arguments)))],
            Step::Signal(arguments, signal, delay) => {
                let child = self.start(&mut self.command(arguments));
                sleep(Duration::from_millis(*delay));
                // It may have ended before.
                let _ = Command::new("kill").args(["-s", signal, &child.id().to_string()]).output();
                vec![ended(child)]
            }
            Step::FullDisk(arguments, blocks) => {
                let words: Vec<String> =
                    arguments.split_whitespace().map(|word| format!("'{word}'")).collect();
                let program = self.program.path();
                let limited = format!(
                    "trap '' XFSZ; ulimit -f {blocks}; exec '{}' {}",
                    program.display(),
                    words.join(" ")
                );
                vec![ended(self.start(Command::new("sh").args(["-c", &limited])))]
            }
            Step::ReadOnly(arguments, directory) => {
                let place = self.path(directory);
                let mode = |mode| fs::set_permissions(&place, fs::Permissions::from_mode(mode));
                let there = mode(0o555).is_ok();
                let ended = ended(self.start(&mut self.command(arguments)));
                if there {
                    mode(0o755).map_err(|error| format!("{}: {error}", place.display()))?;
                }
                vec![ended]
            }
            Step::Together(one, two) => {
                let [one, two] = [one, two].map(|arguments| self.start(&mut self.command(arguments)));
                vec![ended(one), ended(two)]
            }
        };
        ended.iter().try_for_each(check_end)?;
        for ended in &ended {
            let kind = match ended.status {
                Some(0) => 0,
                Some(1 | 2) => 1,
                _ => 2,
            };
            self.ends[kind] += 1;
        }
        let after = self.snapshot();
        self.check(&after, &ended)?;
        if let (Step::Run(arguments), [Ended { status: Some(0), .. }]) = (step, &ended[..]) {
            check_leftovers(arguments, &after)?;
        }
        self.files = after;
        Ok(())
    }

    /// Every run comes out the same when it is done again.
    pub fn reproduce(&self) -> Result<(), String> {
        for run in ["a", "b"] {
            let ended = ended(self.start(&mut self.command(&format!("verify run {run} --quiet"))));
            check_end(&ended)?;
            let nothing_there = ended.stderr.contains("holds no finished training");
            if ended.status != Some(0) && !nothing_there {
                return Err(format!("verify run {run}: {}{}", ended.stdout, ended.stderr));
            }
        }
        Ok(())
    }

    fn check(&self, after: &Files, ended: &[Ended]) -> Result<(), String> {
        for (path, digest) in &self.files {
            let given =
                ["data", "other", "ph", "sweep.json", "base.json"].iter().any(|name| path.starts_with(name));
            if given && after.get(path) != Some(digest) {
                return Err(format!("{} was changed", path.display()));
            }
        }
        let killed = ended.iter().any(|ended| ended.status.is_none());
        let all_failed = ended.iter().all(|ended| matches!(ended.status, Some(status) if status != 0));
        for result in results(&self.files) {
            let [old, new] = [&self.files, after].map(|files| files_of(files, &result));
            if old == new {
                continue;
            }
            if all_failed {
                return Err(format!("{} changed, though the command failed", result.display()));
            }
            let between =
                killed && new.is_empty() && after.keys().any(|path| path.starts_with(aside(&result)));
            if !between && !after.contains_key(&result.join("summary.json")) {
                return Err(format!("{} was finished and is not any more", result.display()));
            }
        }
        for result in results(after) {
            if files_of(after, &result) != files_of(&self.files, &result) {
                records::check(&self.path("").join(&result))?;
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Files {
        let mut files = Files::new();
        for entry in walkdir::WalkDir::new(self.folder.path()).into_iter().filter_map(Result::ok) {
            if let (true, Ok(bytes)) = (entry.file_type().is_file(), fs::read(entry.path())) {
                let mut hasher = DefaultHasher::new();
                bytes.hash(&mut hasher);
                let path = entry.path().strip_prefix(self.folder.path()).unwrap();
                files.insert(path.to_path_buf(), hasher.finish());
            }
        }
        files
    }
}

/// Where a result lies in the moment in which it is replaced.
fn aside(result: &Path) -> PathBuf {
    let mut name = result.file_name().unwrap_or_default().to_owned();
    name.push(".rotnet-old");
    result.with_file_name(name)
}

fn ended(child: Child) -> Ended {
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ended { status: status.code(), stdout, stderr }
}

/// A command ends with a status that is documented, and where it fails with one line of error.
fn check_end(ended: &Ended) -> Result<(), String> {
    let Some(status) = ended.status else { return Ok(()) };
    let stderr = &ended.stderr;
    if stderr.contains("panicked") || !STATUSES.contains(&status) {
        return Err(format!("exit status {status}: {stderr}"));
    }
    let errors = stderr.lines().filter(|line| line.starts_with("error:")).count();
    match status {
        1 | 2 if errors == 0 => Err(format!("exit status {status} without a line of error: {stderr}")),
        2 if stderr.contains("Usage:") => Ok(()),
        1 | 2 if errors > 1 && !stderr.contains(".png") => Err(format!("several errors: {stderr}")),
        0 if errors > 0 => Err(format!("exit status 0 with an error: {stderr}")),
        _ => Ok(()),
    }
}

/// A command that wrote into a run leaves nothing of commands that were killed.
fn check_leftovers(arguments: &str, files: &Files) -> Result<(), String> {
    let mut words = arguments.split_whitespace();
    let writes =
        words.next().is_some_and(|name| ["pretrain", "extract", "finetune", "evaluate"].contains(&name));
    let named = arguments.starts_with("evaluate ");
    let run = words.skip_while(|word| !named && *word != "--out").nth(usize::from(!named));
    let Some(run) = run.filter(|_| writes) else { return Ok(()) };
    let left = files.keys().filter(|path| path.starts_with(run)).find(|path| {
        let mut names = path.components().map(|name| name.as_os_str().to_string_lossy());
        names.any(|name| [".tmp", ".rotnet-part", ".rotnet-old"].iter().any(|end| name.ends_with(end)))
    });
    left.map_or(Ok(()), |path| Err(format!("{} is left over", path.display())))
}

/// The directories of finished results: those of stages and evaluations, but not of what an evaluation is made of.
fn results(files: &Files) -> Vec<PathBuf> {
    let finished = files.keys().filter(|path| path.ends_with("summary.json"));
    let directories = finished.filter_map(|path| path.parent());
    let in_place = |path: &&Path| {
        let above = path.parent().into_iter().flat_map(Path::components);
        let mut names = path.components().map(|name| name.as_os_str().to_string_lossy());
        !names
            .any(|name| [".rotnet-new", ".rotnet-old", ".rotnet-part"].iter().any(|end| name.ends_with(end)))
            && !above.into_iter().any(|name| name.as_os_str() == "evaluate")
    };
    // The summary of a sweep grows with its runs.
    directories.filter(in_place).filter(|path| *path != Path::new("s")).map(Path::to_path_buf).collect()
}

/// The files of a result, those of an evaluation's own runs included; locks and what a killed write left are none of
/// them.
fn files_of<'a>(files: &'a Files, result: &Path) -> BTreeMap<&'a Path, u64> {
    let whole = result.ends_with("evaluate");
    let of_result = files.iter().filter(|(path, _)| {
        let inside = if whole { path.starts_with(result) } else { path.parent() == Some(result) };
        inside && !path.ends_with(".lock") && path.extension().is_none_or(|end| end != "tmp")
    });
    of_result.map(|(path, digest)| (path.as_path(), *digest)).collect()
}
