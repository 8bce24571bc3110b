//! Names with a number each, one below the other: bars from zero, or dots with their deviations.

use std::ops::Range;

use maud::{Markup, html};

use super::chart::around;
use super::drawing::{COLOURS, Drawing, shortened};
use super::figure::percent;
use super::sheet::{Sheet, number, share};

/// A name and its share.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub name: String,
    /// In 0..=1.
    pub value: f64,
    /// Lower and upper end of its bar of error.
    pub spread: Option<(f64, f64)>,
    /// A number that is written behind the share; empty for none.
    pub detail: String,
    /// Index of its colour.
    pub colour: usize,
}

/// How the shares are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// As bars from 0 to 1.
    Bar,
    /// As dots over an axis that spans the shares.
    Dot,
}

/// The whole.
#[derive(Clone, Debug)]
pub(super) struct Rows<'a> {
    /// For those who cannot see it.
    pub title: &'a str,
    /// What has the share.
    pub names: &'a str,
    /// Of what it is the share.
    pub value: &'a str,
    /// What the details are numbers of.
    pub detail: &'a str,
    /// What the ends of the bars of error are.
    pub ends: [&'a str; 2],
    pub mark: Mark,
    pub rows: Vec<Row>,
    /// Before which row something is left out, and in words what.
    pub gap: Option<(usize, String)>,
}

const WIDTH: usize = 600;
/// Height of a row; text is 14 high and at most about 8 wide.
const ROW: usize = 24;
const LETTER: usize = 8;
/// Most letters of a name.
const LETTERS: usize = 30;
/// Room for a share, in front of its detail.
const SHARE: usize = 64;
const AXIS: usize = 40;

impl Rows<'_> {
    /// Rows below each other, names on the left, shares in words on the right.
    pub(super) fn drawing(&self) -> Drawing {
        let longest = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        let left = 12 + LETTER * longest.clamp(4, LETTERS);
        let details = |row: &Row| {
            if row.detail.is_empty() { String::new() } else { format!("{} {}", row.detail, self.detail) }
        };
        let detail = self.rows.iter().map(|row| details(row).chars().count()).max().unwrap_or(0);
        let detail = LETTER * detail.min(LETTERS / 2);
        let (from, to) = (left + 8, WIDTH - SHARE - detail - 16);
        let ends = self.rows.iter().flat_map(|row| row.spread).flat_map(|(low, high)| [low, high]);
        let range = match self.mark {
            Mark::Bar => 0.0..1.0,
            Mark::Dot => around(ends.chain(self.rows.iter().map(|row| row.value))),
        };
        let scale = Scale { range, from: from as f64, to: to as f64 };
        let gaps = usize::from(self.gap.is_some());
        let bottom = 8 + ROW * (self.rows.len() + gaps);
        let height = bottom + if self.mark == Mark::Dot { AXIS } else { 4 };
        let svg = html! {
            svg width=(WIDTH) height=(height) viewBox=(format!("0 0 {WIDTH} {height}"))
                xmlns="http://www.w3.org/2000/svg" {
                @if self.mark == Mark::Dot { (axis(&scale, bottom, self.value)) }
                @for (place, row) in self.rows.iter().enumerate() {
                    @let after = self.gap.as_ref().is_some_and(|(gap, _)| place >= *gap);
                    @let middle = 8 + ROW * (place + usize::from(after)) + ROW / 2;
                    (text(left, middle, "end", &shortened(&row.name, LETTERS)))
                    (self.marked(row, &scale, middle))
                    (text(to + 12, middle, "start", &percent(row.value)))
                    (text(to + SHARE + 12, middle, "start", &shortened(&details(row), LETTERS / 2)))
                }
                @if let Some((place, words)) = &self.gap {
                    (text(left, 8 + ROW * place + ROW / 2, "end", "…"))
                    (text(from, 8 + ROW * place + ROW / 2, "start", words))
                }
            }
        };
        Drawing::new(self.title, (WIDTH as u32, height as u32), svg.into_string(), Vec::new())
    }

    fn marked(&self, row: &Row, scale: &Scale, middle: usize) -> Markup {
        let colour = format!("var(--c{})", row.colour % COLOURS);
        let [start, end] = [scale.range.start, row.value].map(|value| scale.place(value));
        html! {
            @if self.mark == Mark::Bar {
                rect x=(decimal(start)) y=(middle - 6) width=(decimal((end - start).max(0.0))) height="12" rx="2"
                    fill=(colour) {}
            }
            @if let Some((low, high)) = row.spread {
                @let ink = if self.mark == Mark::Bar { "var(--ink)" } else { &colour };
                line x1=(decimal(scale.place(low))) x2=(decimal(scale.place(high))) y1=(middle) y2=(middle)
                    stroke=(ink) stroke-width="2" {}
            }
            @if self.mark == Mark::Dot {
                circle cx=(decimal(end)) cy=(middle) r="4.5" fill=(colour) {}
            }
        }
    }

    /// The numbers that are drawn.
    pub(super) fn sheet(&self) -> Sheet {
        let spread = self.rows.iter().any(|row| row.spread.is_some());
        let detail = self.rows.iter().any(|row| !row.detail.is_empty());
        let mut titles = vec![self.names.to_owned(), share(self.value)];
        titles.extend(self.ends.into_iter().filter(|_| spread).map(share));
        titles.extend(detail.then(|| self.detail.to_owned()));
        let mut sheet = Sheet::new(titles);
        for row in &self.rows {
            let mut cells = vec![row.name.clone(), row.value.to_string()];
            let ends = [row.spread.map(|ends| ends.0), row.spread.map(|ends| ends.1)];
            cells.extend(ends.into_iter().filter(|_| spread).map(number));
            cells.extend(detail.then(|| row.detail.clone()));
            sheet.line(cells);
        }
        sheet
    }
}

/// Where shares lie between two places.
struct Scale {
    range: Range<f64>,
    from: f64,
    to: f64,
}

impl Scale {
    fn place(&self, value: f64) -> f64 {
        let part = (value - self.range.start) / (self.range.end - self.range.start);
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Shares at which lines are drawn: a handful of round ones.
    fn ticks(&self) -> Vec<f64> {
        let width = self.range.end - self.range.start;
        let steps = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2];
        let step = steps.into_iter().find(|step| width / step <= 6.0).unwrap_or(0.5);
        let first = (self.range.start / step - 1e-9).ceil() as i64;
        let all = (first..first + 8).map(|index| index as f64 * step);
        all.filter(|tick| *tick <= self.range.end + 1e-9).collect()
    }
}

fn axis(scale: &Scale, bottom: usize, value: &str) -> Markup {
    let ticks = scale.ticks();
    let fine = ticks.windows(2).any(|pair| pair[1] - pair[0] < 0.0099);
    html! {
        @for tick in ticks {
            @let x = decimal(scale.place(tick));
            line x1=(x) x2=(x) y1="4" y2=(bottom) stroke="var(--grid)" stroke-width="1" {}
            text x=(x) y=(bottom + 15) text-anchor="middle" font-family="sans-serif" font-size="13" fill="var(--ink)" {
                @if fine { (format!("{:.1}", 100.0 * tick)) } @else { (format!("{:.0}", 100.0 * tick)) }
            }
        }
        (text((scale.from + scale.to) as usize / 2, bottom + 31, "middle", &format!("{value} (%)")))
    }
}

fn text(x: usize, middle: usize, anchor: &str, words: &str) -> Markup {
    html! {
        text x=(x) y=(middle + 5) text-anchor=(anchor) font-family="sans-serif" font-size="14" fill="var(--ink)" {
            (words)
        }
    }
}

/// A place on the drawing, to a tenth.
fn decimal(place: f64) -> String {
    format!("{place:.1}")
}

#[cfg(test)]
mod tests {
    use super::super::drawing::tests::assert_xml;
    use super::super::sheet::tests::cells;
    use super::*;

    fn rows(mark: Mark) -> Rows<'static> {
        let row = |name: &str, value, spread| Row {
            name: name.into(),
            value,
            spread,
            detail: "5".into(),
            colour: 0,
        };
        let rows = vec![row("cat, <tabby>", 0.4, Some((0.35, 0.45))), row("dog", 0.6, None)];
        let gap = Some((1, "7 classes between".to_owned()));
        let (names, value, ends) = ("class", "accuracy", ["low", "high"]);
        Rows { title: "t", names, value, detail: "images", ends, mark, rows, gap }
    }

    #[test]
    fn the_numbers_are_those_that_are_drawn() {
        for mark in [Mark::Bar, Mark::Dot] {
            let drawn = rows(mark).drawing().alone();
            assert_xml(&drawn);
            let read = cells(&rows(mark).sheet().text());
            let titles = [
                "class",
                "accuracy (share, 0 to 1)",
                "low (share, 0 to 1)",
                "high (share, 0 to 1)",
                "images",
            ];
            assert_eq!(read[0], titles);
            assert_eq!(read[1], ["cat, <tabby>", "0.4", "0.35", "0.45", "5"]);
            assert_eq!(read[2], ["dog", "0.6", "", "", "5"]);
            for line in &read[1..] {
                let share = percent(line[1].parse().unwrap());
                assert!(
                    drawn.contains(&share)
                        && drawn.contains(&line[0].replace('<', "&lt;").replace('>', "&gt;"))
                );
            }
            assert!(drawn.contains("7 classes between") && drawn.contains("5 images"));
        }
    }

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        let page = rows(Mark::Bar).drawing().on_the_page().into_string();
        let widths: Vec<f64> = page
            .split("<rect ")
            .skip(1)
            .map(|bar| bar.split_once("width=\"").unwrap().1.split('"').next().unwrap().parse().unwrap())
            .collect();
        let [first, second] = widths[..] else { panic!("{page}") };
        assert!((first / second - 0.4 / 0.6).abs() < 0.01, "{first} {second}");
    }

    #[test]
    fn lines_of_an_axis_are_round_and_few() {
        for (range, expected) in [(0.0..1.0, 6), (0.41..0.43, 5), (0.5..0.503, 4)] {
            let scale = Scale { range, from: 0.0, to: 1.0 };
            assert_eq!(scale.ticks().len(), expected, "{:?}", scale.ticks());
        }
    }
}
