//! What the results of a sweep are drawn over.
//!
//! The one key of the grid that has several numbers; else the number of labels, if runs differ in it; else nothing: the
//! settings are then named one below the other.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::tools::sweep::{Group, Row, SweepSummary};

/// How results are laid out.
#[derive(Debug, PartialEq)]
pub(super) enum Layout {
    /// Lines over numbers: what these are, then for each group its line and its number.
    Lines { x: String, points: Vec<(String, f64)> },
    /// One below the other: for each group its name.
    Names(Vec<String>),
}

/// The key of the number of labels.
const LABELS_KEY: &str = "data.labels_per_class";
/// How the names of axes begin that count labels.
pub(super) const LABELS: &str = "labels ";

/// Decides it for all groups, whose order it keeps.
pub(super) fn layout(summary: &SweepSummary) -> Layout {
    let varying = varying(&summary.groups);
    let numeric = |key: &&String| {
        let mut values = summary.groups.iter().map(|group| group.values.get(*key));
        values.all(|value| value.is_some_and(Value::is_number))
    };
    let found = match varying.iter().copied().filter(numeric).collect::<Vec<_>>()[..] {
        [only] => by_key(&summary.groups, &varying, only),
        _ => by_labels(summary, &varying),
    };
    found.unwrap_or_else(|| {
        let name = |group| name(group, group.variant.as_deref(), &varying, "");
        Layout::Names(summary.groups.iter().map(name).collect())
    })
}

/// The keys of the grid that have more than one value, in its order.
fn varying(groups: &[Group]) -> Vec<&String> {
    let Some(first) = groups.first() else { return Vec::new() };
    let several = |key: &&String| groups.iter().any(|group| group.values.get(*key) != first.values.get(*key));
    first.values.keys().filter(several).collect()
}

fn by_key(groups: &[Group], varying: &[&String], key: &str) -> Option<Layout> {
    let point = |group: &Group| {
        let name = name(group, group.variant.as_deref(), varying, key);
        Some((name, group.values.get(key)?.as_f64()?))
    };
    let x = if key == LABELS_KEY { "labels a class".to_owned() } else { key.to_owned() };
    Some(Layout::Lines { x, points: groups.iter().map(point).collect::<Option<_>>()? })
}

/// Variants that are named after their number of labels (`frozen-20`, `frozen-100`) are one line.
fn by_labels(summary: &SweepSummary, varying: &[&String]) -> Option<Layout> {
    let of = |number: fn(&Row) -> Option<usize>| -> Option<Vec<f64>> {
        let group = |group: &Group| {
            let of_group = |row: &&Row| row.variant == group.variant && row.values == group.values;
            let found: BTreeSet<usize> = summary.runs.iter().filter(of_group).filter_map(number).collect();
            // One number for the whole group.
            (found.len() == 1).then(|| found.into_iter().next()).flatten().map(|labels| labels as f64)
        };
        summary.groups.iter().map(group).collect()
    };
    let (x, labels) = match of(|row| row.labels_per_class) {
        Some(labels) => ("labels a class", labels),
        None => ("labels in all", of(|row| row.labels)?),
    };
    let arm = |group: &Group| name(group, group.variant.as_deref().map(stem), varying, LABELS_KEY);
    let points: Vec<(String, f64)> = summary.groups.iter().map(arm).zip(labels).collect();
    let distinct: BTreeSet<(&str, u64)> = points.iter().map(|(arm, x)| (&arm[..], x.to_bits())).collect();
    let arms: BTreeSet<&str> = points.iter().map(|(arm, _)| &arm[..]).collect();
    // A line has one result for a number, and one line at least has several.
    (distinct.len() == points.len() && arms.len() < points.len())
        .then(|| Layout::Lines { x: x.to_owned(), points })
}

/// A variant's name without a number at its end.
fn stem(variant: &str) -> &str {
    match variant.rsplit_once('-') {
        Some((stem, number)) if !stem.is_empty() && number.parse::<u64>().is_ok() => stem,
        _ => variant,
    }
}

/// What tells a group apart, besides the key that is drawn over.
fn name(group: &Group, variant: Option<&str>, varying: &[&String], drawn_over: &str) -> String {
    let setting = |key: &&&String| {
        let value = group.values.get(key.as_str()).filter(|_| key.as_str() != drawn_over)?;
        let short = key.rsplit('.').next().unwrap_or(key);
        Some(format!("{short} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
    };
    let settings = varying.iter().filter_map(|key| setting(&key));
    let parts: Vec<String> = variant.map(str::to_owned).into_iter().chain(settings).collect();
    if parts.is_empty() { "all runs".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A sweep of groups with one run each: variant, values, labels a class.
    fn sweep(groups: &[(Option<&str>, Value, Option<usize>)]) -> SweepSummary {
        let group = |(variant, values, _): &(Option<&str>, Value, Option<usize>)| json!({"variant": variant, "values": values, "runs": 1, "failed": 0, "rotation_accuracy": null});
        let run = |(variant, values, labels): &(Option<&str>, Value, Option<usize>)| {
            json!({
                "name": "n", "variant": variant, "values": values, "seed": 1, "label_draw": 0, "labels": 600,
                "labels_per_class": labels, "validation_accuracy": null, "test_accuracy": null,
                "test_interval": null, "rotation_accuracy": null, "shared_seconds": 0.0, "seconds": 1.0
            })
        };
        let (all, runs): (Vec<Value>, Vec<Value>) = groups.iter().map(|it| (group(it), run(it))).unzip();
        let count = groups.len();
        let document =
            json!({"description": "", "planned": count, "done": count, "groups": all, "runs": runs});
        serde_json::from_value(document).unwrap()
    }

    fn lines(x: &str, points: &[(&str, f64)]) -> Layout {
        Layout::Lines { x: x.into(), points: points.iter().map(|(arm, x)| ((*arm).into(), *x)).collect() }
    }

    #[test]
    fn the_only_key_with_several_numbers_is_the_axis() {
        let values = |rate: f64, kind: &str| json!({"a.rate": rate, "a.kind": kind, "a.fixed": 3});
        let found = layout(&sweep(&[
            (Some("v"), values(0.1, "x"), None),
            (Some("v"), values(0.2, "x"), None),
            (Some("v"), values(0.1, "y"), None),
        ]));
        assert_eq!(found, lines("a.rate", &[("v, kind x", 0.1), ("v, kind x", 0.2), ("v, kind y", 0.1)]));
        let alone = [(None, json!({LABELS_KEY: 1}), None), (None, json!({LABELS_KEY: 4}), None)];
        assert_eq!(layout(&sweep(&alone)), lines("labels a class", &[("all runs", 1.0), ("all runs", 4.0)]));
    }

    #[test]
    fn variants_named_after_their_labels_are_one_line() {
        let none = || json!({});
        let arms = [
            (Some("frozen-20"), none(), Some(20)),
            (Some("frozen-100"), none(), Some(100)),
            (Some("plain-scratch-20"), none(), Some(20)),
        ];
        let expected = [("frozen", 20.0), ("frozen", 100.0), ("plain-scratch", 20.0)];
        assert_eq!(layout(&sweep(&arms)), lines("labels a class", &expected));
        // Two numeric keys, one of them the labels.
        let values = |epochs: u64, labels: u64| json!({"finetune.epochs": epochs, LABELS_KEY: labels});
        let grid = [(1, 2), (1, 3), (2, 2)];
        let grid: Vec<_> =
            grid.map(|(epochs, labels)| (None, values(epochs, labels), Some(labels as usize))).into();
        let expected = [("epochs 1", 2.0), ("epochs 1", 3.0), ("epochs 2", 2.0)];
        assert_eq!(layout(&sweep(&grid)), lines("labels a class", &expected));
    }

    #[test]
    fn without_numbers_the_settings_are_named() {
        let none = || json!({});
        let names = |groups: &[_]| match layout(&sweep(groups)) {
            Layout::Names(names) => names,
            other => panic!("{other:?}"),
        };
        // Lines of one point each are none, nor is a line with two results for one number.
        assert_eq!(names(&[(Some("a"), none(), Some(20)), (Some("b"), none(), Some(400))]), ["a", "b"]);
        let same =
            [(Some("a-1"), none(), Some(20)), (Some("a-2"), none(), Some(20)), (Some("a"), none(), Some(9))];
        assert_eq!(names(&same), ["a-1", "a-2", "a"]);
        let two = |one: u64, other: u64| (None, json!({"a.b": one, "a.c": other}), None);
        assert_eq!(names(&[two(1, 1), two(1, 2), two(2, 1)]), ["b 1, c 1", "b 1, c 2", "b 2, c 1"]);
        assert!(names(&[]).is_empty());
    }
}
