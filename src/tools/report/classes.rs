//! Classes beside classes: which the classifier takes for which, how right it is on each, and whose images lie together.

use std::cmp::Reverse;

use maud::{Markup, PreEscaped, html};

use super::chart::{MOST_NAMED, matrix};
use super::figure::{figure, percent};
use super::look::NearestImages;
use crate::training::Evaluation;

/// Pairs that are listed where a matrix would have no room for names.
const PAIRS: usize = 15;
/// Classes at either end that are listed where there are more of them.
const ENDS: usize = 8;

/// The name of a class; data sets without names have numbers.
pub(super) fn name(classes: &[String], label: usize) -> String {
    classes.get(label).cloned().unwrap_or_else(|| format!("class {label}"))
}

/// What classes have in common, as counts: row by row, of the images of a class, those that belong to a column.
struct Counts<'a> {
    counts: &'a [Vec<u64>],
    classes: &'a [String],
}

impl Counts<'_> {
    fn shares(&self) -> Vec<Vec<f64>> {
        let share = |row: &Vec<u64>| {
            let all = row.iter().sum::<u64>().max(1) as f64;
            row.iter().map(|&count| count as f64 / all).collect()
        };
        self.counts.iter().map(share).collect()
    }

    /// Two classes, how many images of the first belong to the second, and their share; the most first.
    fn pairs(&self, most: usize) -> Vec<(String, String, u64, f64)> {
        let mut pairs: Vec<(usize, usize, u64)> = Vec::new();
        for (row, counts) in self.counts.iter().enumerate() {
            let beside = counts.iter().enumerate().filter(|(column, count)| *column != row && **count > 0);
            pairs.extend(beside.map(|(column, &count)| (row, column, count)));
        }
        pairs.sort_by_key(|&(row, column, count)| (Reverse(count), row, column));
        let of = |row: usize| self.counts[row].iter().sum::<u64>().max(1) as f64;
        let named = |(row, column, count): (usize, usize, u64)| {
            (name(self.classes, row), name(self.classes, column), count, count as f64 / of(row))
        };
        pairs.into_iter().take(most).map(named).collect()
    }

    /// A matrix where there is room for the names of its classes, else its largest entries beside the diagonal.
    fn drawn(&self, title: &str, axes: &str, [one, other]: [&str; 2]) -> Markup {
        if self.counts.len() <= MOST_NAMED {
            return html! { div.matrix { (PreEscaped(matrix(title, axes, &self.shares(), self.classes))) } };
        }
        html! {
            div.wide { table {
                thead { tr { th { (one) } th { (other) } th.number { "images" } th.number { "of the class" } } }
                tbody {
                    @for (one, other, count, share) in self.pairs(PAIRS) {
                        tr { td { (one) } td { (other) } td.number { (count) } td.number { (percent(share)) } }
                    }
                }
            } }
        }
    }
}

/// How often each class was taken for which.
pub(super) fn confusion(test: &Evaluation, classes: &[String]) -> Markup {
    let counts = Counts { counts: &test.confusion, classes };
    let body = counts.drawn(
        "Confusion of classes",
        "rows: true class, columns: answer; % of the row",
        ["images of", "taken for"],
    );
    let caption = match test.confusion.len() <= MOST_NAMED {
        true => html! {
            "Of the test images of a class (row), the share that got each answer (column), in percent; the diagonal is "
            "right. Most frequent: "
            @for (place, (truth, answer, count, _)) in counts.pairs(3).iter().enumerate() {
                @if place > 0 { ", " }
                (truth) " taken for " (answer) " (" (count) "×)"
            }
            "."
        },
        false => html! {
            "The " (PAIRS) " most frequent mistakes on the test images: a class, what its images were taken for, how many, "
            "and how many of all of its images that is."
        },
    };
    figure("Confusion", body, caption)
}

/// How right the classifier is on each class.
pub(super) fn accuracies(test: &Evaluation, classes: &[String]) -> Markup {
    let mut known: Vec<(String, f64, u64)> = Vec::new();
    for (label, accuracy) in test.per_class_accuracy.iter().enumerate() {
        let images = test.confusion.get(label).map_or(0, |row| row.iter().sum());
        known.extend(accuracy.map(|accuracy| (name(classes, label), accuracy, images)));
    }
    known.sort_by(|one, other| one.1.total_cmp(&other.1));
    let all = known.len();
    if all > 2 * ENDS {
        known.drain(ENDS..all - ENDS);
    }
    let body = html! {
        div.wide { table.bars {
            tbody {
                @for (place, (class, accuracy, images)) in known.iter().enumerate() {
                    @if all > 2 * ENDS && place == ENDS {
                        tr { td colspan="4" { "… " (all - 2 * ENDS) " classes between …" } }
                    }
                    tr {
                        th scope="row" { (class) }
                        td.number { (percent(*accuracy)) }
                        td.bar { div style=(format!("width:{:.1}%", 100.0 * accuracy)) {} }
                        td.number { (images) " images" }
                    }
                }
            }
        } }
    };
    let chance = 1.0 / all.max(1) as f64;
    let caption = html! {
        "Share of the test images of each class that the classifier got right, the hardest class first. Guessing gets "
        (percent(chance)) "."
    };
    figure("Accuracy by class", body, caption)
}

/// Whose images are neighbours: what the features hold of classes, without a classifier.
pub(super) fn neighbours(found: &NearestImages, classes: &[String]) -> Markup {
    let counts = Counts { counts: &found.by_class, classes };
    let axes = "rows: class, columns: class of its neighbours; % of the row";
    let body = counts.drawn("Classes of neighbours", axes, ["neighbours of", "of class"]);
    let caption = html! {
        "Of the images nearest to those of a class, the share that is of each class. "
        @if found.by_class.len() <= MOST_NAMED {
            "A strong diagonal is a class that the encoder tells apart without having seen a label; what is bright beside it "
            "looks alike to it."
        } @else {
            "Listed are the pairs of classes that the encoder, which has seen no label, mixes most."
        }
    };
    figure("Classes of neighbours", body, caption)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation(classes: usize) -> (Evaluation, Vec<String>) {
        // Every class is right three times, and once taken for the next; the last one twice.
        let row = |truth: usize| {
            let mut row = vec![0; classes];
            row[truth] = 3;
            row[(truth + 1) % classes] += if truth + 1 == classes { 2 } else { 1 };
            row
        };
        let confusion: Vec<Vec<u64>> = (0..classes).map(row).collect();
        let accuracy = |row: &Vec<u64>| Some(3.0 / row.iter().sum::<u64>() as f64);
        let per_class_accuracy = confusion.iter().map(accuracy).collect();
        let names = (0..classes).map(|class| format!("<kind {class}>")).collect();
        (
            Evaluation { samples: 4 * classes + 1, loss: 1.0, accuracy: 0.75, per_class_accuracy, confusion },
            names,
        )
    }

    #[test]
    fn few_classes_make_a_matrix_and_many_a_list_of_the_most_frequent_mistakes() {
        let (few, names) = evaluation(4);
        let page = confusion(&few, &names).into_string();
        assert!(
            page.contains("<svg") && page.contains("&lt;kind 3&gt; taken for &lt;kind 0&gt; (2×)"),
            "{page}"
        );
        let (many, names) = evaluation(200);
        let page = confusion(&many, &names).into_string();
        assert!(!page.contains("<svg") && page.len() < 4_000, "{}", page.len());
        let first = page.find("<td>&lt;kind 199&gt;</td><td>&lt;kind 0&gt;</td>").unwrap();
        assert!(first < page.find("<td>&lt;kind 0&gt;</td><td>&lt;kind 1&gt;</td>").unwrap());
        assert!(page.contains("40.0\u{a0}%") && page.matches("<tr>").count() == 1 + PAIRS);
    }

    #[test]
    fn accuracy_by_class_begins_with_the_hardest_and_leaves_out_the_middle_of_many() {
        let (few, names) = evaluation(4);
        let page = accuracies(&few, &names).into_string();
        assert!(page.find("kind 3").unwrap() < page.find("kind 0").unwrap(), "{page}");
        assert!(page.contains("60.0\u{a0}%") && page.contains("5 images") && page.contains("25.0\u{a0}%"));
        let (many, names) = evaluation(200);
        let page = accuracies(&many, &names).into_string();
        assert!(page.contains("184 classes between") && page.matches("scope=\"row\"").count() == 2 * ENDS);
    }
}
