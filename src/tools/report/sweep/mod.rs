//! A sweep: its results over what it varies, and in a table.

mod axis;

use maud::{Markup, html};
use serde_json::Value;

use self::axis::{LABELS, Layout, layout};
use super::chart::{Axes, Scale, Series, around, lines};
use super::drawing::{COLOURS, Drawing};
use super::figure::{drawn, figure, percent};
use super::rows::{Mark, Row, Rows};
use super::sheet::{Sheet, number, share};
use crate::tools::sweep::{Group, Spread, SweepSummary};

/// Which accuracy is drawn.
#[derive(Clone, Copy)]
struct Measure {
    name: &'static str,
    of: fn(&Group) -> Option<Spread>,
}

impl Measure {
    /// That on the test set, if it was opened for every group; otherwise that on validation images.
    fn of(summary: &SweepSummary) -> Self {
        let mut finished = summary.groups.iter().filter(|group| group.runs > 0).peekable();
        match finished.peek().is_some() && finished.all(|group| group.test.is_some()) {
            true => Self { name: "test accuracy", of: |group| group.test },
            false => Self { name: "validation accuracy", of: |group| group.validation },
        }
    }
}

/// Plot and table of a sweep.
pub(super) fn section(summary: &SweepSummary) -> Markup {
    html! {
        section {
            h2 { "Results" }
            div.stack { (plot(summary)) (table(summary)) }
        }
    }
}

/// Warnings: runs that failed, and those that are not done yet.
pub(super) fn remarks(summary: &SweepSummary) -> Vec<String> {
    let failed =
        summary.runs.iter().filter_map(|run| Some(format!("{}: {}", run.name, run.failure.as_ref()?)));
    let left = summary.planned.saturating_sub(summary.done);
    let open = (left > 0).then(|| format!("{left} of {} runs are not done yet.", summary.planned));
    failed.chain(open).collect()
}

fn plot(summary: &SweepSummary) -> Markup {
    let measure = Measure::of(summary);
    let (drawing, data) = match layout(summary) {
        Layout::Lines { x, points } => over(&x, summary, points, measure),
        Layout::Names(names) => below(summary, names, measure),
    };
    let missing = summary.groups.iter().filter(|group| (measure.of)(group).is_none()).count();
    let caption = html! {
        "Mean " (measure.name) " over seeds and draws of labels. Bars reach one standard deviation up and down. Where the "
        "bars of two settings overlap, these runs do not tell which is better."
        @if measure.name != "test accuracy" { " The test set is closed, or open for some of the settings only." }
        @if missing > 0 { " " (missing) " of the settings have no result and are left out." }
    };
    drawn("Accuracy by settings", &drawing, &data, caption)
}

/// Lines over a number.
fn over(x: &str, summary: &SweepSummary, points: Vec<(String, f64)>, measure: Measure) -> (Drawing, Sheet) {
    let mut data = Sheet::new([
        "line".to_owned(),
        x.to_owned(),
        share(measure.name),
        share("standard deviation"),
        "runs".into(),
    ]);
    let mut series: Vec<Series> = Vec::new();
    for (group, (line, x)) in summary.groups.iter().zip(points) {
        let Some(spread) = (measure.of)(group) else { continue };
        let place = series.iter().position(|series| series.name == line).unwrap_or_else(|| {
            let (colour, dashed) = (series.len(), series.len() / COLOURS % 2 == 1);
            series.push(Series {
                name: line.clone(),
                points: Vec::new(),
                spread: Vec::new(),
                colour,
                dashed,
            });
            series.len() - 1
        });
        series[place].points.push((x, spread.mean));
        series[place].spread.push(ends(spread));
        let numbers =
            [x.to_string(), spread.mean.to_string(), number(spread.deviation), spread.runs.to_string()];
        data.line(std::iter::once(line).chain(numbers));
    }
    for Series { points, spread, .. } in &mut series {
        let mut both: Vec<_> = points.iter().copied().zip(spread.iter().copied()).collect();
        both.sort_by(|one, other| one.0.0.total_cmp(&other.0.0));
        (*points, *spread) = both.into_iter().unzip();
    }
    let numbers = || series.iter().flat_map(|series| &series.points).map(|point| point.0);
    let values = series.iter().flat_map(|series| &series.spread).flat_map(|&(low, high)| [low, high]);
    let (least, most) =
        numbers().fold((f64::INFINITY, 0.0_f64), |(least, most), x| (least.min(x), most.max(x)));
    // Labels, and whatever grows by factors rather than by sums.
    let logarithmic = least > 0.0 && (x.starts_with(LABELS) || most >= 8.0 * least);
    let axes = Axes {
        title: "Accuracy by settings",
        x,
        y: measure.name,
        x_range: if logarithmic { least * 0.85..most * 1.15 } else { around(numbers()) },
        y_range: around(values),
        x_kind: match logarithmic {
            true => Scale::Logarithmic,
            false if numbers().all(|x| x.fract() == 0.0) => Scale::Count,
            false => Scale::Number,
        },
        y_kind: Scale::Percent,
    };
    (lines(&axes, &series), data)
}

/// A dot for each group.
fn below(summary: &SweepSummary, names: Vec<String>, measure: Measure) -> (Drawing, Sheet) {
    let titles = ["settings".to_owned(), share(measure.name), share("standard deviation"), "runs".into()];
    let mut data = Sheet::new(titles);
    let mut rows = Vec::new();
    for (group, name) in summary.groups.iter().zip(names) {
        let Some(spread) = (measure.of)(group) else { continue };
        data.line([name.clone(), spread.mean.to_string(), number(spread.deviation), spread.runs.to_string()]);
        let spread_drawn = spread.deviation.map(|_| ends(spread));
        rows.push(Row {
            name,
            value: spread.mean,
            spread: spread_drawn,
            detail: spread.runs.to_string(),
            colour: 0,
        });
    }
    let (title, names) = ("Accuracy by settings", "settings");
    let rows = Rows {
        title,
        names,
        value: measure.name,
        detail: "runs",
        ends: ["", ""],
        mark: Mark::Dot,
        rows,
        gap: None,
    };
    (rows.drawing(), data)
}

fn ends(spread: Spread) -> (f64, f64) {
    let deviation = spread.deviation.unwrap_or(0.0);
    (spread.mean - deviation, spread.mean + deviation)
}

fn table(summary: &SweepSummary) -> Markup {
    let keys: Vec<&String> =
        summary.groups.first().map(|group| group.values.keys().collect()).unwrap_or_default();
    let variants = summary.groups.iter().any(|group| group.variant.is_some());
    let settings = |group: &Group| -> Vec<String> {
        let variant = variants.then(|| group.variant.clone().unwrap_or_default());
        variant
            .into_iter()
            .chain(keys.iter().map(|key| group.values.get(*key).map_or_else(String::new, plain)))
            .collect()
    };
    let names: Vec<&str> =
        variants.then_some("variant").into_iter().chain(keys.iter().map(|key| key.as_str())).collect();
    let titles = ["validation accuracy", "test accuracy"];
    let counts = ["runs", "failed"].map(str::to_owned);
    let numbers = titles.iter().flat_map(|title| [share(title), share(&format!("deviation of {title}"))]);
    let mut data = Sheet::new(names.iter().map(|name| (*name).to_owned()).chain(counts).chain(numbers));
    for group in &summary.groups {
        let counts = [group.runs, group.failed].map(|count| count.to_string());
        let spreads = [group.validation, group.test].into_iter().flat_map(|spread| {
            [spread.map(|spread| spread.mean), spread.and_then(|spread| spread.deviation)].map(number)
        });
        data.line(settings(group).into_iter().chain(counts).chain(spreads));
    }
    let body = html! {
        div.wide { table {
            thead { tr {
                @for name in &names { th { (name) } }
                th.number { "runs" }
                @for title in titles { th.number { (title) } }
            } }
            tbody {
                @for group in &summary.groups {
                    tr {
                        @for (place, cell) in settings(group).iter().enumerate() {
                            @if place == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                        }
                        td.number { (group.runs) @if group.failed > 0 { " (" (group.failed) " failed)" } }
                        @for spread in [group.validation, group.test] { td.number { (in_words(spread)) } }
                    }
                }
            }
        } }
    };
    let caption = html! {
        "Mean ± standard deviation. Single runs are in " code { "sweep.csv" } " and " code { "summary.json" } " of the sweep. "
        code { "rotnet report RUN" } " shows one of them with pictures."
    };
    figure("All settings", body, &data, caption)
}

fn in_words(spread: Option<Spread>) -> String {
    match spread {
        None => "–".to_owned(),
        Some(Spread { mean, deviation: None, .. }) => percent(mean),
        Some(Spread { mean, deviation: Some(deviation), .. }) => {
            format!("{:.1} ± {}", 100.0 * mean, percent(deviation))
        }
    }
}

/// A value of the grid as people write it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
