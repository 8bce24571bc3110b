//! Lines through points over two axes.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::drawing::{Drawing, Entry, GRID, INK, colour};
use super::sheet::{Sheet, share};

/// Points that belong together.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// For the legend.
    pub name: String,
    /// x and y.
    pub points: Vec<(f64, f64)>,
    /// Lower and upper end of the error bar of each point; empty for none.
    pub spread: Vec<(f64, f64)>,
    /// Index of its colour.
    pub colour: usize,
    /// Dashed instead of solid.
    pub dashed: bool,
}

/// The axes: what they show, in which units, and their ranges.
#[derive(Clone, Debug)]
pub(super) struct Axes<'a> {
    /// What the chart shows, for those who cannot see it.
    pub title: &'a str,
    /// Without units that the scale says.
    pub x: &'a str,
    pub y: &'a str,
    pub x_range: Range<f64>,
    pub y_range: Range<f64>,
    pub x_kind: Scale,
    pub y_kind: Scale,
}

/// How an axis is scaled and labelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// Whole numbers.
    Count,
    /// Numbers above 0, each step a factor; those of the points are written.
    Logarithmic,
    /// 0..=1, shown as percent.
    Percent,
    /// Any number.
    Number,
}

/// Width and height of a chart before the page scales it; text is 15 high.
const SIZE: (u32, u32) = (480, 300);
const TEXT: u32 = 15;

/// Lines through points, with a mark at each.
pub(super) fn lines(axes: &Axes<'_>, series: &[Series]) -> Drawing {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        // Drawing into a string does not fail.
        let _ = match axes.x_kind {
            Scale::Logarithmic => {
                let coordinates: LogCoord<f64> = axes.x_range.clone().log_scale().into();
                draw(&root, axes, coordinates.with_key_points(marks(series)), |chart| {
                    draw_lines(chart, series)
                })
            }
            _ => draw(&root, axes, axes.x_range.clone(), |chart| draw_lines(chart, series)),
        };
    }
    let entry =
        |series: &Series| Entry { name: series.name.clone(), colour: series.colour, dashed: series.dashed };
    Drawing::new(axes.title, SIZE, svg, series.iter().map(entry).collect())
}

/// The numbers that are written at a logarithmic axis: those of the points, as far as there is room.
fn marks(series: &[Series]) -> Vec<f64> {
    let mut all: Vec<f64> = series.iter().flat_map(|series| &series.points).map(|point| point.0).collect();
    all.sort_by(f64::total_cmp);
    let [Some(least), Some(most)] = [all.first(), all.last()] else { return all };
    // The eighth root: an eighth of the axis.
    let apart = (most / least).sqrt().sqrt().sqrt();
    let mut marks: Vec<f64> = Vec::new();
    for x in all {
        if marks.last().is_none_or(|last| x > *last && x >= last * apart) {
            marks.push(x);
        }
    }
    marks
}

/// The points that are drawn.
pub(super) fn sheet(axes: &Axes<'_>, lines: &str, ends: [&str; 2], series: &[Series]) -> Sheet {
    let spread = series.iter().any(|series| !series.spread.is_empty());
    let mut titles = vec![lines.to_owned(), column(axes.x, axes.x_kind), column(axes.y, axes.y_kind)];
    if spread {
        titles.extend(ends.map(|end| column(end, axes.y_kind)));
    }
    let mut sheet = Sheet::new(titles);
    for series in series {
        for (index, (x, y)) in series.points.iter().enumerate() {
            let mut cells = vec![series.name.clone(), x.to_string(), y.to_string()];
            match series.spread.get(index) {
                Some((low, high)) => cells.extend([low.to_string(), high.to_string()]),
                None if spread => cells.extend([String::new(), String::new()]),
                None => {}
            }
            sheet.line(cells);
        }
    }
    sheet
}

/// The name of an axis with what its scale says.
fn named(axis: &str, kind: Scale) -> String {
    match kind {
        Scale::Percent => format!("{axis} (%)"),
        Scale::Logarithmic => format!("{axis} (logarithmic)"),
        Scale::Count | Scale::Number => axis.to_owned(),
    }
}

fn column(axis: &str, kind: Scale) -> String {
    if kind == Scale::Percent { share(axis) } else { axis.to_owned() }
}

type Chart<'a, 'b, X> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, plotters::coord::types::RangedCoordf64>>;
type Drawn<'b> =
    Result<(), DrawingAreaErrorKind<<SVGBackend<'b> as plotters::prelude::DrawingBackend>::ErrorType>>;

fn draw<'b, R, X>(
    root: &DrawingArea<SVGBackend<'b>, Shift>,
    axes: &Axes<'_>,
    x_range: R,
    content: impl FnOnce(&mut Chart<'_, 'b, X>) -> Drawn<'b>,
) -> Drawn<'b>
where
    R: AsRangedCoord<CoordDescType = X, Value = f64>,
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(root)
        .margin(8)
        .margin_right(18)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(x_range, axes.y_range.clone())?;
    let text = ("sans-serif", TEXT).into_font().color(&INK);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc(named(axes.x, axes.x_kind))
        .y_desc(named(axes.y, axes.y_kind))
        .x_labels(8)
        .y_labels(6)
        .x_label_formatter(&|value| label(*value, axes.x_kind))
        .y_label_formatter(&|value| match axes.y_kind {
            Scale::Percent if axes.y_range.end - axes.y_range.start < 0.05 => {
                format!("{:.1} %", 100.0 * value)
            }
            kind => label(*value, kind),
        })
        .label_style(text.clone())
        .axis_desc_style(text)
        .axis_style(INK.mix(0.4))
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()?;
    content(&mut chart)
}

fn draw_lines<'b, X>(chart: &mut Chart<'_, 'b, X>, series: &[Series]) -> Drawn<'b>
where
    X: Ranged<ValueType = f64>,
{
    for Series { points, spread, colour: index, dashed, .. } in series {
        let style = ShapeStyle::from(colour(*index)).stroke_width(2);
        let line = points.iter().copied();
        match dashed {
            true => chart.draw_series(DashedLineSeries::new(line, 6, 4, style))?,
            false => chart.draw_series(LineSeries::new(line, style))?,
        };
        let bars = spread.iter().zip(points).map(|((low, high), (x, _))| {
            PathElement::new([(*x, *low), (*x, *high)], ShapeStyle::from(colour(*index)).stroke_width(2))
        });
        chart.draw_series(bars)?;
        if points.len() <= MARKED {
            let marks = points.iter().map(|point| Circle::new(*point, 3, style.filled()));
            chart.draw_series(marks)?;
        }
    }
    Ok(())
}

/// Lines with more points than this are drawn without marks.
const MARKED: usize = 40;

fn label(value: f64, kind: Scale) -> String {
    match kind {
        Scale::Percent => format!("{:.0} %", 100.0 * value),
        Scale::Count if value.fract().abs() > 1e-9 => String::new(),
        Scale::Count => format!("{value:.0}"),
        Scale::Logarithmic | Scale::Number if value == 0.0 || (0.01..1_000_000.0).contains(&value.abs()) => {
            let text = format!("{value:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        Scale::Logarithmic | Scale::Number => format!("{value:.1e}").replace(".0e", "e"),
    }
}

/// A range around numbers, with a twentieth to spare on both sides; `0..1` if there are none.
pub(super) fn around(numbers: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = numbers
        .filter(|number| number.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), number| (low.min(number), high.max(number)));
    if low > high {
        return 0.0..1.0;
    }
    let room = match high - low {
        0.0 => high.abs().max(1.0) / 2.0,
        width => width / 20.0,
    };
    low - room..high + room
}

#[cfg(test)]
mod tests {
    use super::super::drawing::tests::assert_xml;
    use super::super::sheet::tests::cells;
    use super::*;

    fn axes(x_kind: Scale) -> Axes<'static> {
        Axes {
            title: "loss \"by\" epoch",
            x: "epoch",
            y: "loss (nats)",
            x_range: 1.0..3.0,
            y_range: 0.0..2.0,
            x_kind,
            y_kind: Scale::Number,
        }
    }

    fn series() -> Series {
        Series {
            name: "run, \"a\" <b>".into(),
            points: vec![(1.0, 1.5), (2.0, 1.0), (3.0, 0.5)],
            spread: vec![(1.4, 1.6)],
            colour: 1,
            dashed: true,
        }
    }

    #[test]
    fn a_chart_has_its_axes_and_the_pages_colours_only() {
        for kind in [Scale::Count, Scale::Logarithmic] {
            let drawing = lines(&axes(kind), &[series(), series()]);
            let page = drawing.on_the_page().into_string();
            assert!(page.contains("epoch") && page.contains("loss (nats)"), "{page}");
            assert!(page.contains("var(--c1)") && page.contains("var(--ink)"), "{page}");
            assert!(!page.contains("\"#"), "a colour of its own: {page}");
            assert!(page.contains("aria-label=\"loss &quot;by&quot; epoch\""), "{page}");
            assert_xml(&drawing.alone());
            assert!(drawing.alone().matches("run, &quot;a&quot; &lt;b&gt;").count() == 2);
        }
    }

    #[test]
    fn the_numbers_are_those_that_are_drawn() {
        let read = cells(&sheet(&axes(Scale::Count), "line", ["low", "high"], &[series()]).text());
        assert_eq!(read[0], ["line", "epoch", "loss (nats)", "low", "high"]);
        let points = read[1..].iter().map(|line| (line[1].parse().unwrap(), line[2].parse().unwrap()));
        assert_eq!(points.collect::<Vec<(f64, f64)>>(), series().points);
        assert_eq!(
            (read[1][0].as_str(), &read[1][3..]),
            ("run, \"a\" <b>", &["1.4".to_owned(), "1.6".into()][..])
        );
        let percent = Axes { y_kind: Scale::Percent, ..axes(Scale::Count) };
        assert!(sheet(&percent, "line", ["low", "high"], &[]).text().contains("loss (nats) (share, 0 to 1)"));
    }

    #[test]
    fn a_logarithmic_axis_names_the_numbers_of_its_points() {
        let over = |numbers: &[f64]| Series {
            points: numbers.iter().map(|x| (*x, 0.5)).collect(),
            spread: Vec::new(),
            ..series()
        };
        let two = [over(&[5_000.0, 20.0, 400.0]), over(&[400.0, 100.0, 1_000.0])];
        assert_eq!(marks(&two), [20.0, 100.0, 400.0, 1_000.0, 5_000.0]);
        let axes = Axes { x_range: 17.0..5_750.0, ..axes(Scale::Logarithmic) };
        let drawn = lines(&axes, &two).alone();
        for mark in ["20", "100", "400", "1000", "5000"] {
            assert!(drawn.contains(&format!("\n{mark}\n")), "{mark}: {drawn}");
        }
        let many: Vec<f64> = (1..=100).map(f64::from).collect();
        assert!((4..=9).contains(&marks(&[over(&many)]).len()), "{:?}", marks(&[over(&many)]));
        assert!(marks(&[]).is_empty());
    }

    #[test]
    fn ranges_have_room_and_survive_nothing_and_one_number() {
        assert_eq!(around([0.0, 20.0].into_iter()), -1.0..21.0);
        assert_eq!(around([4.0].into_iter()), 2.0..6.0);
        assert_eq!(around([f64::NAN].into_iter()), 0.0..1.0);
    }

    #[test]
    fn labels_are_short() {
        assert_eq!(label(0.5, Scale::Percent), "50 %");
        assert_eq!(label(1.5, Scale::Count), "");
        assert_eq!(label(2.0, Scale::Count), "2");
        assert_eq!(label(1.50, Scale::Number), "1.5");
        assert_eq!(label(12_500.0, Scale::Number), "12500");
        assert_eq!(label(1_234_567.0, Scale::Number), "1.2e6");
        assert_eq!(
            (label(0.0015, Scale::Number), label(0.002, Scale::Logarithmic)),
            ("1.5e-3".into(), "2e-3".into())
        );
    }
}
