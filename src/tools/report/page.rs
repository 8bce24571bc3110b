//! The frame of the page: head, overview, order of the sections.

use maud::{DOCTYPE, Markup, html};

use super::facts::Training;
use super::figure::{duration, percent};
use super::{Shown, WITH_PICTURES, curves, gallery, labels, tables};
use crate::judge::statistics::wilson;
use crate::progress::Stage;
use crate::tools::html::head;

const STYLE: &str = include_str!("style.css");

/// The whole page. All text that comes from files is escaped.
pub(super) fn page(runs: &[Shown], notes: &[String]) -> String {
    let names: Vec<&str> = runs.iter().map(|run| run.facts.name.as_str()).collect();
    let several = runs.len() > 1;
    let html = html! {
        (DOCTYPE)
        html lang="en" {
            (head(&names.join(", "), STYLE))
            body {
                header {
                    h1 { @if several { (runs.len()) " runs" } @else { (names.concat()) } }
                    p.lead {
                        "Features learned from images without labels, by predicting how they were rotated, and "
                        "judged by a classifier on top of them."
                    }
                }
                main {
                    (overview(runs))
                    (remarks(runs, notes))
                    (curves::section(runs))
                    @if several { (labels::sweep(runs)) (tables::differences(runs)) }
                    @for run in runs.iter().filter(|_| runs.len() <= WITH_PICTURES) {
                        @if several { h2.run { (run.facts.name) } }
                        (labels::evaluation(run))
                        (gallery::section(run))
                        (tables::section(run))
                    }
                }
                footer {
                    "Made by rotnet " (env!("CARGO_PKG_VERSION")) "; this file needs no network. Chance is 25 % for "
                    "rotations and one in the number of classes for classes."
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
        let detail = format!("95 %: {} to {}; {} images", percent(low), percent(high), test.samples);
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
        _ => format!("{}: {done} epochs", training.stage.name()),
    }
}

/// Warnings of the stages, and what is missing from the page.
fn remarks(runs: &[Shown], notes: &[String]) -> Markup {
    let warnings = runs.iter().flat_map(|run| {
        run.facts.warnings().map(|(stage, text)| format!("{}, {}: {text}", run.facts.name, stage.name()))
    });
    let warnings: Vec<String> = warnings.collect();
    html! {
        @if !warnings.is_empty() || !notes.is_empty() {
            section.remarks {
                @for warning in &warnings { p.warning { strong { "Warning: " } (warning) } }
                @for note in notes { p { strong { "Note: " } (note) } }
            }
        }
    }
}
