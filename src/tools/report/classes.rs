//! Classes beside classes: which the classifier takes for which, how right it is on each, and whose images lie together.

use std::cmp::Reverse;

use maud::{Markup, html};

use super::drawing::shortened;
use super::figure::{drawn, percent};
use super::look::NearestImages;
use super::matrix::{MOST_NAMED, matrix, sheet};
use super::rows::{Mark, Row, Rows};
use super::sheet::{Sheet, share};
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

    /// A matrix where there is room for the names of its classes, else its largest entries beside the diagonal, each as
    /// one name, what `between` says, and the other. `sides` are the titles of the two.
    fn figure(&self, title: &str, axes: &str, sides: [&str; 2], between: &str, caption: Markup) -> Markup {
        let names: Vec<String> = (0..self.counts.len()).map(|label| name(self.classes, label)).collect();
        if self.counts.len() <= MOST_NAMED {
            let shares = self.shares();
            let corner = format!("{}, and in columns: {}", sides[0], sides[1]);
            return drawn(
                title,
                &matrix(title, axes, &shares, &names),
                &sheet(&corner, &shares, &names),
                caption,
            );
        }
        let mut data =
            Sheet::new([sides[0].to_owned(), sides[1].to_owned(), "images".into(), share("of the class")]);
        let mut rows = Vec::new();
        for (one, other, count, share) in self.pairs(PAIRS) {
            data.line([one.clone(), other.clone(), count.to_string(), share.to_string()]);
            let name = format!("{} {between} {}", shortened(&one, HALF), shortened(&other, HALF));
            rows.push(Row { name, value: share, detail: count.to_string(), colour: 2, ..Row::default() });
        }
        let (names, value) = ("pair", "of the class");
        let rows =
            Rows { title, names, value, detail: "images", ends: ["", ""], mark: Mark::Bar, rows, gap: None };
        drawn(title, &rows.drawing(), &data, caption)
    }
}

/// Most letters of a name in a pair.
const HALF: usize = 13;

/// How often each class was taken for which.
pub(super) fn confusion(test: &Evaluation, classes: &[String]) -> Markup {
    let counts = Counts { counts: &test.confusion, classes };
    let caption = match test.confusion.len() <= MOST_NAMED {
        true => html! {
            "Each row is a class, each column an answer: what percentage of the test images of the class got that answer. "
            "The diagonal is correct. Most frequent mistakes: "
            @for (place, (truth, answer, count, _)) in counts.pairs(3).iter().enumerate() {
                @if place > 0 { ", " }
                (truth) " taken for " (answer) " (" (count) "×)"
            }
            "."
        },
        false => html! {
            "The " (PAIRS) " most frequent mistakes on the test images: the true class, the answer, what share of the class got it, "
            "and how many images that is."
        },
    };
    let axes = "rows: true class, columns: answer; % of the row";
    counts.figure("Confusion", axes, ["true class", "answer"], "→", caption)
}

/// How right the classifier is on each class.
pub(super) fn accuracies(test: &Evaluation, classes: &[String]) -> Markup {
    let mut rows = Vec::new();
    for (label, accuracy) in test.per_class_accuracy.iter().enumerate() {
        let images: u64 = test.confusion.get(label).map_or(0, |row| row.iter().sum());
        let row =
            |value| Row { name: name(classes, label), value, detail: images.to_string(), ..Row::default() };
        rows.extend(accuracy.map(row));
    }
    rows.sort_by(|one, other| one.value.total_cmp(&other.value));
    let all = rows.len();
    let middle = all.saturating_sub(2 * ENDS);
    if middle > 0 {
        rows.drain(ENDS..all - ENDS);
    }
    let gap = (middle > 0).then(|| (ENDS, format!("{middle} classes between")));
    let (title, names, value) = ("Accuracy by class", "class", "accuracy");
    let rows = Rows { title, names, value, detail: "images", ends: ["", ""], mark: Mark::Bar, rows, gap };
    let chance = 1.0 / all.max(1) as f64;
    let caption = html! {
        "The share of each class's test images that the classifier got right, hardest class first. Guessing scores "
        (percent(chance)) "."
    };
    drawn(title, &rows.drawing(), &rows.sheet(), caption)
}

/// Whose images are neighbours: what the features hold of classes, without a classifier.
pub(super) fn neighbours(found: &NearestImages, classes: &[String]) -> Markup {
    let counts = Counts { counts: &found.by_class, classes };
    let axes = "rows: class, columns: class of its neighbours; % of the row";
    let caption = html! {
        "For the images of each class (row): to which classes (columns) their nearest neighbours belong. "
        @if found.by_class.len() <= MOST_NAMED {
            "Where the diagonal is strong, the encoder tells the class from others without having seen a label. Bright cells "
            "off the diagonal are classes that look alike to it."
        } @else {
            "These are the pairs of classes that look most alike to the encoder, which has seen no label."
        }
    };
    counts.figure("Classes of neighbours", axes, ["class", "class of neighbours"], "near", caption)
}

#[cfg(test)]
mod tests {
    use super::super::drawing::tests::assert_xml;
    use super::super::figure::tests::files;
    use super::super::sheet::tests::cells;
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
        let [(_, drawing), (_, table)] = &files(&page)[..] else { panic!("{page}") };
        assert_xml(drawing);
        let read = cells(table);
        assert_eq!(read[0][1..], names);
        assert_eq!(read[4], ["<kind 3>", "0.4", "0", "0", "0.6"]);

        let (many, names) = evaluation(200);
        let page = confusion(&many, &names).into_string();
        assert!(page.len() < 20_000, "{}", page.len());
        let [(_, drawing), (_, table)] = &files(&page)[..] else { panic!("{page}") };
        assert_xml(drawing);
        let read = cells(table);
        assert_eq!(read.len(), 1 + PAIRS);
        assert_eq!(read[1], ["<kind 199>", "<kind 0>", "2", "0.4"]);
        assert_eq!(read[2][..3], ["<kind 0>", "<kind 1>", "1"]);
        let first = page.find("&lt;kind 199&gt; → &lt;kind 0&gt;").unwrap();
        assert!(first < page.find("&lt;kind 0&gt; → &lt;kind 1&gt;").unwrap());
        assert!(page.contains("40.0\u{a0}%") && page.contains("2 images"));
    }

    #[test]
    fn accuracy_by_class_begins_with_the_hardest_and_leaves_out_the_middle_of_many() {
        let (few, names) = evaluation(4);
        let page = accuracies(&few, &names).into_string();
        assert!(page.find("kind 3").unwrap() < page.find("kind 0").unwrap(), "{page}");
        assert!(page.contains("60.0\u{a0}%") && page.contains("5 images") && page.contains("25.0\u{a0}%"));
        assert_eq!(cells(&files(&page)[1].1)[1], ["<kind 3>", "0.6", "5"]);
        let (many, names) = evaluation(200);
        let page = accuracies(&many, &names).into_string();
        assert!(page.contains("184 classes between"));
        assert_eq!(cells(&files(&page)[1].1).len(), 1 + 2 * ENDS);
    }
}
