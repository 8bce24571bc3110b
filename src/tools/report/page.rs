//! The frame of the page: head, overview, order of the sections.

use maud::{DOCTYPE, Markup, html};

use super::facts::Training;
use super::figure::{duration, percent};
use super::{Shown, WITH_PICTURES, baselines, curves, gallery, labels, origin, sweep, tables};
use crate::judge::statistics::wilson;
use crate::progress::Stage;
use crate::store::run_record::RunRecord;
use crate::tools::html::head;
use crate::tools::sweep::SweepSummary;

pub(super) const STYLE: &str = include_str!("style.css");

/// The page about runs. All text that comes from files is escaped.
pub(super) fn page(runs: &[Shown], notes: &[String]) -> String {
    let names: Vec<&str> = runs.iter().map(|run| run.facts.name.as_str()).collect();
    let several = runs.len() > 1;
    let heading = html! {
        h1 { @if several { (runs.len()) " runs" } @else { (names.concat()) } }
        p.lead {
            "Features learned from images without labels, by predicting how they were rotated, and judged by a classifier "
            "on top of them."
        }
    };
    let main = html! {
        (overview(runs))
        (remarks(&warnings(runs), notes))
        @if let [run] = runs { (baselines::section(run)) }
        (curves::section(runs))
        @if several { (labels::sweep(runs)) (tables::differences(runs)) }
        @for run in runs.iter().filter(|_| runs.len() <= WITH_PICTURES) {
            @if several { h2.run { (run.facts.name) } (baselines::section(run)) }
            (labels::evaluation(run))
            (gallery::section(run))
            (tables::section(run))
        }
    };
    let chance = "Chance is 25 % for rotations and one in the number of classes for classes.";
    frame(&names.join(", "), heading, main, chance)
}

/// The page about a sweep of that name, whose runs are `runs`.
pub(super) fn sweep_page(name: &str, summary: &SweepSummary, runs: &[Shown], notes: &[String]) -> String {
    let heading = html! {
        h1 { (name) }
        p.lead { (summary.description) " " (summary.done) " of " (summary.planned) " runs are done." }
    };
    let records: Vec<&RunRecord> = runs.iter().filter_map(|run| run.facts.record.as_ref()).collect();
    let main = html! {
        (remarks(&sweep::remarks(summary), notes))
        (sweep::section(summary))
        (origin::section(&records))
        @if runs.len() > 1 { (tables::differences(runs)) }
    };
    frame(name, heading, main, "")
}

fn frame(title: &str, heading: Markup, main: Markup, remark: &str) -> String {
    let html = html! {
        (DOCTYPE)
        html lang="en" {
            (head(title, STYLE))
            body {
                header { (heading) }
                main { (main) }
                footer {
                    "Made by rotnet " (env!("CARGO_PKG_VERSION")) ". This page and the files saved from it work "
                    "offline. " (remark)
                }
            }
        }
    };
    html.into_string()
}

/// The head figures: a row of tiles for one run, a table for several.
fn overview(runs: &[Shown]) -> Markup {
    match runs {
        [run] => html! {
            section.tiles {
                @for (label, value, detail) in figures(run) {
                    div.tile { div.label { (label) } div.value { (value) } div.detail { (detail) } }
                }
            }
        },
        _ => html! {
            section {
                h2 { "Side by side" }
                div.wide { table {
                    thead { tr {
                        th { "run" }
                        @for (label, ..) in figures(&runs[0]) { th.number { (label) } }
                    } }
                    tbody {
                        @for run in runs {
                            tr {
                                th scope="row" { (run.facts.name) }
                                @for (_, value, detail) in figures(run) {
                                    td.number { (value) div.detail { (detail) } }
                                }
                            }
                        }
                    }
                } }
            }
        },
    }
}

/// Label, value and remark of each head figure.
fn figures(run: &Shown) -> [(&'static str, String, String); 4] {
    let none = || ("–".to_owned(), String::new());
    let of = |stage| run.facts.training(stage);
    let rotation = of(Stage::Pretrain).map_or_else(none, |training| match training.epochs.last() {
        Some(last) => (percent(last.accuracy), "while training; chance 25 %".to_owned()),
        None => ("–".to_owned(), "not trained: the encoder is as initialised".to_owned()),
    });
    let test = run.facts.test().map_or_else(none, |test| {
        let [low, high] = wilson(test.accuracy, test.samples as f64);
        let beside = baselines::remark(&run.facts, test);
        let detail = format!("95 %: {} to {}; {beside}", percent(low), percent(high));
        (percent(test.accuracy), detail)
    });
    let seconds: f64 =
        run.facts.trainings.iter().flat_map(|training| &training.epochs).map(|e| e.seconds).sum();
    let stages: Vec<String> = run.facts.trainings.iter().map(state).collect();
    let finished = run.facts.trainings.iter().all(|training| training.finished);
    let state = match (finished, of(Stage::Finetune).is_some()) {
        (false, _) => "unfinished",
        (true, true) => "finished",
        (true, false) => "pretrained",
    };
    [
        ("Rotation accuracy", rotation.0, rotation.1),
        ("Test accuracy", test.0, test.1),
        ("Training time", duration(seconds), "both stages, without evaluation".to_owned()),
        ("State", state.to_owned(), stages.join("; ")),
    ]
}

fn state(training: &Training) -> String {
    let done = training.epochs.len();
    match training.planned() {
        Some(planned) if done < planned && !training.finished => {
            format!("{}: {done} of {planned} epochs so far", training.stage.name())
        }
        _ if done > 0 => format!("{}: {done} epochs", training.stage.name()),
        _ if training.stage == Stage::Pretrain => "pretrain: not trained".to_owned(),
        // Ridge regression.
        _ => "finetune: solved at once".to_owned(),
    }
}

/// Warnings of the stages.
fn warnings(runs: &[Shown]) -> Vec<String> {
    let of_run = |run: &Shown| {
        let name = run.facts.name.clone();
        run.facts
            .warnings()
            .map(move |(stage, text)| format!("{name}, {}: {text}", stage.name()))
            .collect::<Vec<_>>()
    };
    runs.iter().flat_map(of_run).collect()
}

/// Warnings, and what is missing from the page.
fn remarks(warnings: &[String], notes: &[String]) -> Markup {
    html! {
        @if !warnings.is_empty() || !notes.is_empty() {
            section.remarks {
                @for warning in warnings { p.warning { strong { "Warning: " } (warning) } }
                @for note in notes { p { strong { "Note: " } (note) } }
            }
        }
    }
}
