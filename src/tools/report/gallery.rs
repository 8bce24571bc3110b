//! The sections with pictures: rotations, mistakes, neighbours, filters, and what they say of classes.

use maud::{Markup, html};

use super::Shown;
use super::classes::{confusion, name, neighbours as class_neighbours};
use super::figure::{bare, figure, percent};
use super::look::{NearestImages, TurnedImages};
use super::sheet::{Sheet, share};
use crate::model::ROTATIONS;

const DEGREES: [&str; ROTATIONS] = ["0°", "90°", "180°", "270°"];

/// All pictures of a run.
pub(super) fn section(run: &Shown) -> Markup {
    let classes = run.facts.classes();
    let Shown { facts, look } = run;
    let test = facts.test();
    html! {
        @if let Some(turns) = &look.turns {
            section { h2 { "Which way is up?" } (rotations(turns, &look.source)) }
        }
        @if test.is_some() || !look.mistakes.is_empty() {
            section {
                h2 { "What the classifier gets wrong" }
                div.pair {
                    @if let Some(test) = test { (confusion(test, &classes)) }
                    @if !look.mistakes.is_empty() { (mistakes(run, &classes)) }
                }
            }
        }
        @if look.neighbours.is_some() || !look.filters.is_empty() {
            section {
                h2 { "What the encoder sees" }
                div.pair {
                    @if let Some(neighbours) = &look.neighbours { (nearest(neighbours, &look.source, &classes)) }
                    div.stack {
                        @if let Some(neighbours) = &look.neighbours { (class_neighbours(neighbours, &classes)) }
                        @if !look.filters.is_empty() { (filters(&look.filters)) }
                    }
                }
            }
        }
    }
}

fn rotations(turns: &TurnedImages, source: &str) -> Markup {
    let all = turns.accuracy.iter().sum::<f64>() / ROTATIONS as f64;
    let body = html! {
        div.turns {
            @for row in &turns.shown {
                div.row {
                    @for (truth, turn) in row.iter().enumerate() {
                        @let right = turn.answer == truth;
                        div.cell.wrong[!right] {
                            img src=(turn.picture) alt=(format!("image turned by {}", DEGREES[truth]));
                            span { @if right { "✓ " } @else { "✗ " } (DEGREES[turn.answer]) }
                            small { (format!("{:.0} %", 100.0 * turn.confidence)) }
                        }
                    }
                }
            }
        }
    };
    let caption = html! {
        "Images turned by 0°, 90°, 180° and 270° (left to right), the rotation that the network answers, and how "
        "sure it is. Of " (turns.samples) " rotated " (source) " it gets " strong { (percent(all)) } " right: "
        @for (turn, accuracy) in turns.accuracy.iter().enumerate() {
            @if turn > 0 { ", " }
            (percent(*accuracy)) " at " (DEGREES[turn])
        }
        ". Look for what it goes by: ground, sky, faces, light from above. Images without an upright are those it misses."
    };
    let mut data = Sheet::new(
        ["image", "turned by (degrees)", "answer (degrees)"]
            .map(str::to_owned)
            .into_iter()
            .chain([share("confidence")]),
    );
    for (image, row) in turns.shown.iter().enumerate() {
        for (truth, turn) in row.iter().enumerate() {
            let numbers = [image + 1, 90 * truth, 90 * turn.answer].map(|number| number.to_string());
            data.line(numbers.into_iter().chain([turn.confidence.to_string()]));
        }
    }
    figure("Rotations and answers", body, &data, caption)
}

fn mistakes(run: &Shown, classes: &[String]) -> Markup {
    let mistakes = run.facts.mistakes();
    let body = html! {
        div.gallery {
            @for (mistake, picture) in mistakes.iter().zip(&run.look.mistakes) {
                div.cell {
                    img src=(picture) alt=(format!("test image {}", mistake.index));
                    span.wrong { (name(classes, mistake.predicted.into())) }
                    span { "is " (name(classes, mistake.truth.into())) }
                    small { (format!("{:.0} %", 100.0 * mistake.confidence)) }
                }
            }
        }
    };
    let caption = html! {
        "The mistakes on test images of which the classifier was surest: its answer, the true class, and how sure it "
        "was. Look for labels that are arguable, and for what image and answer have in common: background, colour, pose."
    };
    let titles = ["test image", "true class", "answer"].map(str::to_owned);
    let mut data = Sheet::new(titles.into_iter().chain([share("confidence")]));
    for mistake in mistakes {
        let [truth, answer] = [mistake.truth, mistake.predicted].map(|label| name(classes, label.into()));
        data.line([mistake.index.to_string(), truth, answer, mistake.confidence.to_string()]);
    }
    figure("Most confident mistakes", body, &data, caption)
}

fn nearest(neighbours: &NearestImages, source: &str, classes: &[String]) -> Markup {
    let body = html! {
        div.neighbours {
            @for row in &neighbours.rows {
                @let class = row.first().map_or(0, |first| first.1);
                div.row {
                    @for (place, (picture, label)) in row.iter().enumerate() {
                        img.query[place == 0].other[place > 0 && *label != class]
                            src=(picture) alt=(name(classes, usize::from(*label)))
                            title=(name(classes, usize::from(*label)));
                    }
                }
            }
        }
    };
    let count = neighbours.rows.first().map_or(0, |row| row.len().saturating_sub(1));
    let caption = html! {
        "Each row starts with an image (framed), followed by the " (count) " of " (neighbours.pool) " " (source) " with the most "
        "similar features (cosine of " (neighbours.width) " standardised features). Faded ones are of another class. "
        "Over " (neighbours.queries) " images, " strong { (percent(neighbours.same_class)) } " of the nearest " (count)
        " are of the same class; by chance it would be " (percent(neighbours.chance)) ". The encoder was never told a class."
    };
    let mut data = Sheet::new(["image", "place (0: the image itself)", "class"]);
    for (image, row) in neighbours.rows.iter().enumerate() {
        for (place, (_, label)) in row.iter().enumerate() {
            data.line([(image + 1).to_string(), place.to_string(), name(classes, usize::from(*label))]);
        }
    }
    figure("Nearest neighbours", body, &data, caption)
}

fn filters(filters: &[String]) -> Markup {
    let body = html! {
        div.filters {
            @for (index, filter) in filters.iter().enumerate() {
                img src=(filter) alt=(format!("filter {}", index + 1));
            }
        }
    };
    let caption = html! {
        "The " (filters.len()) " filters of the first convolution, each scaled to its largest weight; grey is zero. A "
        "trained layer shows edges and pairs of opposite colours. Before training it is noise."
    };
    bare("First layer", body, caption)
}
