//! The sections with pictures: rotations, confusion, mistakes, neighbours, projection, filters.

use maud::{Markup, PreEscaped, html};

use super::Shown;
use super::chart::{Axes, COLOURS, Scale, around, matrix, scatter};
use super::curves::legend;
use super::figure::{figure, percent};
use super::look::{Look, NearestImages, TurnedImages};
use crate::model::ROTATIONS;
use crate::training::Evaluation;

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
                        (projection(look, &classes))
                        @if !look.filters.is_empty() { (filters(&look.filters)) }
                    }
                }
            }
        }
    }
}

fn name(classes: &[String], label: usize) -> String {
    classes.get(label).cloned().unwrap_or_else(|| format!("class {label}"))
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
    figure("Rotations and answers", body, caption)
}

/// How often each class was taken for which.
fn confusion(test: &Evaluation, classes: &[String]) -> Markup {
    let shares: Vec<Vec<f64>> = test
        .confusion
        .iter()
        .map(|row| {
            let all = row.iter().sum::<u64>().max(1) as f64;
            row.iter().map(|&count| count as f64 / all).collect()
        })
        .collect();
    let mut pairs: Vec<(usize, usize, u64)> = Vec::new();
    for (truth, row) in test.confusion.iter().enumerate() {
        let wrong = row.iter().enumerate().filter(|(answer, _)| *answer != truth);
        pairs.extend(wrong.map(|(answer, &count)| (truth, answer, count)));
    }
    pairs.sort_by_key(|&(truth, answer, count)| (std::cmp::Reverse(count), truth, answer));
    let caption = html! {
        "Of the test images of a class (row), the share that got each answer (column), in percent; the diagonal is "
        "right. Most frequent: "
        @for (place, (truth, answer, count)) in pairs.iter().filter(|pair| pair.2 > 0).take(3).enumerate() {
            @if place > 0 { ", " }
            (name(classes, *truth)) " taken for " (name(classes, *answer)) " (" (count) "×)"
        }
        "."
    };
    let body = PreEscaped(matrix("Confusion of classes", &shares, classes));
    figure("Confusion", html! { div.matrix { (body) } }, caption)
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
        "The test images on which the classifier was most sure and wrong: its answer, what the image is, and its "
        "confidence. Look for labels that are arguable, and for what the answer has in common with the image: "
        "background, colour, pose."
    };
    figure("Most confident mistakes", body, caption)
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
        "An image of each class (framed), and the " (count) " images whose features point the most alike (cosine of "
        (neighbours.width) " features), out of " (neighbours.pool) " " (source) "; faded ones are of another class. "
        "Of the nearest " (count) " of " (neighbours.queries) " images, " strong { (percent(neighbours.same_class)) }
        " are of the same class, which the encoder was never told."
    };
    figure("Nearest neighbours", body, caption)
}

fn projection(look: &Look, classes: &[String]) -> Markup {
    let Some((projection, labels)) = &look.projection else {
        return html! {};
    };
    let points: Vec<(f64, f64, usize)> =
        projection.points.iter().zip(labels).map(|(&(x, y), &label)| (x, y, usize::from(label))).collect();
    let [first, second] = projection.shares.map(percent);
    let axes = Axes {
        title: "Features in two dimensions, by class",
        x: &format!("component 1 ({first} of the variance)"),
        y: &format!("component 2 ({second})"),
        x_range: around(points.iter().map(|point| point.0)),
        y_range: around(points.iter().map(|point| point.1)),
        x_kind: Scale::Number,
        y_kind: Scale::Number,
    };
    let present = labels.iter().map(|&label| usize::from(label) + 1).max().unwrap_or(0);
    let names: Vec<String> = (0..present).map(|label| name(classes, label)).collect();
    let body = html! {
        @if present <= COLOURS {
            (legend(names.iter().enumerate().map(|(label, name)| (name.as_str(), label, false))))
        }
        (PreEscaped(scatter(&axes, &points)))
    };
    let caption = html! {
        "The features of " (points.len()) " images, projected on the two directions in which they vary most (units "
        "are those of the features), coloured by class"
        @if present > COLOURS { " (colours repeat)" }
        ". Colours that keep together are classes that the encoder tells apart without having seen a label; these two "
        "directions hold only a part of what it knows."
    };
    figure("Features in two dimensions", body, caption)
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
        "The " (filters.len()) " filters of the first convolution, each scaled to its largest weight; grey is zero. Edges "
        "and pairs of opposite colours are what a trained layer looks for; noise without any order is what it starts from."
    };
    figure("First layer", body, caption)
}
