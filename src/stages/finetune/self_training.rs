//! Self-training: a first network, then a student a round, which begins anew and is also trained on images that its
//! predecessors gave labels.
//!
//! All networks but the last have directories of their own in the stage's, `rounds/0`, `rounds/1`, ..., laid out like runs.
//! What a round was made from stands beside the labels it gave, so that a resumed run knows it again. No label of an image
//! that is not drawn is read here; whether the given ones are right is found out once all is trained. Ranks share the
//! training of every network; the first one alone gives labels.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::full::Start;
use super::mixture::{Pseudo, Unlabeled, batches};
use super::pseudo_labels::{self, Round, by_class};
use super::teacher::Teacher;
use crate::config::SelfTrainingConfig;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::files::{read_json_if_there, sha256, sha256_file, write_json};
use crate::progress::{Event, Reporter, Stage};
use crate::samples::Samples;
use crate::stages::resume::refuse_other;
use crate::stages::{Context, training_stage};
use crate::store::checkpoint::{Checkpoint, Header};
use crate::store::networks::load_image_classifier;
use crate::store::run_directory::{Existing, RunDirectory};
use crate::store::stage_directory::StageDirectory;

/// What self-training begins with.
pub(super) struct Basis<'a> {
    pub config: &'a SelfTrainingConfig,
    pub start: &'a Start,
    pub dataset: &'a Dataset,
    /// Images with labels.
    pub labeled: &'a [u32],
    pub unlabeled: &'a Unlabeled<'a>,
    pub validation: Option<&'a dyn Samples>,
}

/// Trains all networks; gives the last one's training, whose seconds do not count the others' and the teachers', the
/// rounds, and the seconds of all.
pub(super) fn run(
    context: &Context,
    basis: &Basis<'_>,
    reporter: &mut dyn Reporter,
) -> Result<(training_stage::Trained, Vec<Round>, f64)> {
    let header = |round: usize, labels: Option<&Round>| {
        let mut header = basis.start.header.clone();
        header.recipe["round"] = json!(round);
        // All networks are trained for as long as they were meant to be before the next one is.
        header.recipe["stage"]["epochs"] = json!(context.config.finetune.epochs);
        if let Some(round) = labels {
            header.recipe["pseudo_labels"] = json!(round.labels);
        }
        header
    };
    refuse_others(context, &header(0, None))?;
    // The directory is this run's from here on.
    let work = context.leads().then(|| context.begin(Stage::Finetune)).transpose()?;
    let directory = context.lead(work.as_ref().map(|work| || Ok(work.directory().path().to_path_buf())))?;
    let directory = StageDirectory::new(directory);
    let last = Context { existing: Existing::Resume, ..context.clone() };
    let mut seconds = 0.0;
    let first = Network::new(context, &directory, 0);
    let samples = basis.batches(context, None);
    let effort =
        Effort::new(basis.config, super::steps(&*samples, &context.config.finetune), samples.group());
    reporter.report(effort.started(0));
    let trained = first.train(basis, header(0, None), &*samples, effort.first_steps, reporter)?;
    seconds += training_stage::seconds(&trained.history);
    let (mut rounds, mut teacher, mut before) = (Vec::new(), None, first);
    for (round, &count) in (1..).zip(&basis.config.rounds) {
        let labels = Labels { directory: &directory, round, count, predecessor: &before.result() };
        let began = std::time::Instant::now();
        let make = || labels.make(context, basis, &header(round, None), &mut teacher, reporter);
        let (made, pseudo) = context.lead(context.leads().then_some(make))?;
        seconds += began.elapsed().as_secs_f64();
        let samples = basis.batches(context, Some(&pseudo));
        let header = header(round, Some(&made));
        rounds.push(made);
        reporter.report(effort.started(round));
        if round == basis.config.rounds.len() {
            // The last one is the stage's.
            let trained = basis.start.train(
                &last,
                header,
                (&*samples, true),
                basis.validation,
                effort.steps,
                reporter,
            )?;
            seconds += training_stage::seconds(&trained.history);
            return Ok((trained, rounds, seconds));
        }
        let student = Network::new(context, &directory, round);
        let trained = student.train(basis, header, &*samples, effort.steps, reporter)?;
        seconds += training_stage::seconds(&trained.history);
        before = student;
    }
    Err(Error::config("finetune.self_training.rounds", "must be at least 1, got 0"))
}

/// Refuses to resume with other settings, before anything is written.
fn refuse_others(context: &Context, header: &Header) -> Result<()> {
    if context.existing != Existing::Resume {
        return Ok(());
    }
    let directory = context.run.files(Stage::Finetune).to_resume();
    let first = Network::new(context, &directory, 0).files().checkpoint();
    if first.exists() {
        return refuse_other(&first, &Checkpoint::load_or_previous(&first)?.0.header, header);
    }
    match directory.checkpoint() {
        path if path.exists() => Err(Error::checkpoint(
            &path,
            "was trained without self-training",
            "resume with the original settings, or start over with --force",
        )),
        _ => Ok(()),
    }
}

impl Basis<'_> {
    fn batches(&self, context: &Context, pseudo: Option<&Pseudo>) -> Box<dyn Samples + '_> {
        let pixels = &self.start.header.pixels;
        batches(&context.config, self.dataset, self.labeled, Some(self.unlabeled), pseudo, pixels)
    }
}

/// How long the networks are trained.
struct Effort {
    /// Steps of the first network, and of each student.
    first_steps: u64,
    steps: u64,
    /// Images that the first network sees at a step, for each of those with labels, and a student.
    first_group: usize,
    group: usize,
    rounds: usize,
}

impl Effort {
    fn new(config: &SelfTrainingConfig, first_steps: u64, first_group: usize) -> Self {
        Self {
            first_steps,
            steps: config.steps.unwrap_or(first_steps),
            first_group,
            group: first_group + config.joining,
            rounds: config.rounds.len(),
        }
    }

    /// The first network begins, or the student of a round.
    fn started(&self, round: usize) -> Event<'static> {
        let first = self.first_steps as f64 * self.first_group as f64;
        let student = self.steps as f64 * self.group as f64;
        let all = first + self.rounds as f64 * student;
        let (before, own) = match round.checked_sub(1) {
            None => (0.0, first),
            Some(students) => (first + students as f64 * student, student),
        };
        Event::NetworkStarted { before: before / all, share: own / all }
    }
}

/// A network that another one follows.
struct Network {
    context: Context,
}

impl Network {
    fn new(context: &Context, directory: &StageDirectory, round: usize) -> Self {
        let run = RunDirectory::new(directory.rounds().join(round.to_string()));
        Self { context: context.within(run) }
    }

    fn files(&self) -> StageDirectory {
        self.context.run.files(Stage::Finetune)
    }

    fn result(&self) -> PathBuf {
        self.files().result()
    }

    fn train(
        &self,
        basis: &Basis<'_>,
        header: Header,
        samples: &dyn Samples,
        steps: u64,
        reporter: &mut dyn Reporter,
    ) -> Result<training_stage::Trained> {
        let pseudo = header.recipe.get("pseudo_labels").is_some();
        basis.start.train(&self.context, header, (samples, pseudo), basis.validation, steps, reporter)
    }
}

/// The labels that a round gives.
struct Labels<'a> {
    directory: &'a StageDirectory,
    round: usize,
    /// Of each class, at most.
    count: usize,
    /// The checkpoint of the network trained last.
    predecessor: &'a Path,
}

impl Labels<'_> {
    /// Reads the labels if they were made from the same, else makes and writes them.
    fn make<'a>(
        &self,
        context: &'a Context,
        basis: &Basis<'a>,
        header: &Header,
        teacher: &mut Option<Teacher<'a>>,
        reporter: &mut dyn Reporter,
    ) -> Result<(Round, Pseudo)> {
        let made_from = json!([header, sha256_file(self.predecessor)?]);
        let made_from = sha256(made_from.to_string().as_bytes());
        let (file, record) = (self.directory.pseudo_labels(self.round), self.directory.round(self.round));
        if let Some(found) = read_json_if_there::<Round>(&record)?
            && found.made_from == made_from
            && file.exists()
            && sha256_file(&file)? == found.labels
        {
            reporter.report(Event::Note(&format!("round {}: its labels are there already", self.round)));
            return Ok((found, pseudo_labels::read(&file)?));
        }
        reporter.report(Event::Note(&format!(
            "round {}: giving labels to the surest of {} images",
            self.round,
            basis.unlabeled.indices.len()
        )));
        if teacher.is_none() {
            *teacher = Some(basis.teacher(context, reporter)?);
        }
        let found = Checkpoint::load(self.predecessor)?;
        let network = load_image_classifier(&context.device, self.predecessor, &found)?;
        let given = match teacher {
            Some(teacher) => teacher.chosen(&network, self.count, reporter)?,
            None => Vec::new(),
        };
        let indices: Vec<u32> = given.iter().map(|given| basis.unlabeled.indices[given.sample]).collect();
        if indices.is_empty() {
            return Err(Error::config(
                "finetune.self_training",
                "finds no image without a label to give one to",
            ));
        }
        pseudo_labels::write(&file, &indices, &given)?;
        let made = Round {
            round: self.round,
            images: given.len(),
            classes: by_class(&given, basis.dataset.class_names.len()),
            known: None,
            accuracy: None,
            labels: sha256_file(&file)?,
            made_from,
        };
        write_json(&record, &made)?;
        Ok((made, Pseudo { indices, labels: given.iter().map(|given| given.label as u16).collect() }))
    }
}

impl<'a> Basis<'a> {
    fn teacher(&self, context: &'a Context, reporter: &mut dyn Reporter) -> Result<Teacher<'a>> {
        let pretrained = !context.config.finetune.from_scratch;
        let start = self.start;
        Teacher::new(
            (self.config, &context.device),
            (self.dataset, self.labeled),
            self.unlabeled,
            (pretrained.then_some(&start.rotation.encoder), &start.readout, &start.header.pixels),
            reporter,
        )
    }
}
