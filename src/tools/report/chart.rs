//! Charts as inline SVG whose colours are variables of the page, so that they follow its light or dark theme.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

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
    /// Whole numbers, each step a factor.
    Logarithmic,
    /// 0..=1, shown as percent.
    Percent,
    /// Any number.
    Number,
}

/// Number of colours before they repeat; `style.css` has as many.
pub(super) const COLOURS: usize = 10;

/// Width and height of a chart before the page scales it; text is 15 high.
const SIZE: (u32, u32) = (480, 300);
const TEXT: u32 = 15;

/// Stand for colours of the page until [`themed`] puts their names in place.
const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);

fn colour(index: usize) -> RGBColor {
    RGBColor(3, (index % COLOURS) as u8, 3)
}

/// Lines through points, with a mark at each.
pub(super) fn lines(axes: &Axes<'_>, series: &[Series]) -> String {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        // Drawing into a string does not fail.
        let _ = match axes.x_kind {
            Scale::Logarithmic => {
                draw(&root, axes, axes.x_range.clone().log_scale(), |chart| draw_lines(chart, series))
            }
            _ => draw(&root, axes, axes.x_range.clone(), |chart| draw_lines(chart, series)),
        };
    }
    themed(svg, axes.title)
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
        .x_desc(axes.x)
        .y_desc(axes.y)
        .x_labels(8)
        .y_labels(6)
        .x_label_formatter(&|value| label(*value, axes.x_kind))
        .y_label_formatter(&|value| label(*value, axes.y_kind))
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
        Scale::Count | Scale::Logarithmic if value.fract().abs() > 1e-9 => String::new(),
        Scale::Count | Scale::Logarithmic => format!("{value:.0}"),
        Scale::Number if value == 0.0 || (0.01..10_000.0).contains(&value.abs()) => {
            let text = format!("{value:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        Scale::Number => format!("{value:.0e}"),
    }
}

/// A square matrix of shares of its rows, coloured by the root of the share, so that small ones are seen; `names` by
/// row and column where there is room.
pub(super) fn matrix(title: &str, axes: &str, shares: &[Vec<f64>], names: &[String]) -> String {
    let mut svg = String::new();
    let count = shares.len().max(1);
    let room = count <= MOST_NAMED;
    let (left, top) = if room { (112, 96) } else { (36, 36) };
    let cell = ((SIZE.0 - left - 8) / count as u32).max(1);
    let side = cell * count as u32;
    {
        let root = SVGBackend::with_string(&mut svg, (left + side + 8, top + side + 30)).into_drawing_area();
        let _ = draw_matrix(&root, (shares, axes), names, Grid { left, top, cell, room });
    }
    themed(svg, title)
}

/// Most classes for which names and shares are written.
pub(super) const MOST_NAMED: usize = 12;

struct Grid {
    left: u32,
    top: u32,
    cell: u32,
    room: bool,
}

fn draw_matrix<'b>(
    root: &DrawingArea<SVGBackend<'b>, Shift>,
    (shares, axes): (&[Vec<f64>], &str),
    names: &[String],
    Grid { left, top, cell, room }: Grid,
) -> Drawn<'b> {
    let at = |index: usize| cell as i32 * index as i32;
    let (left, top, cell) = (left as i32, top as i32, cell as i32);
    let text = |size: u32, horizontal, vertical| {
        ("sans-serif", size).into_font().color(&INK).pos(Pos::new(horizontal, vertical))
    };
    let side = at(shares.len());
    for (row, line) in shares.iter().enumerate() {
        for (column, &share) in line.iter().enumerate() {
            let corner = (left + at(column), top + at(row));
            let index = if row == column { 0 } else { 2 };
            let fill = colour(index).mix(0.04 + 0.7 * share.clamp(0.0, 1.0).sqrt());
            let far = (corner.0 + cell - 1, corner.1 + cell - 1);
            root.draw(&Rectangle::new([corner, far], fill.filled()))?;
            if room && share >= 0.005 {
                let middle = (corner.0 + cell / 2, corner.1 + cell / 2);
                let share = format!("{:.0}", 100.0 * share);
                root.draw(&Text::new(share, middle, text(TEXT - 1, HPos::Center, VPos::Center)))?;
            }
        }
        if room {
            let name = names.get(row).cloned().unwrap_or_default();
            let place = (left - 6, top + at(row) + cell / 2);
            root.draw(&Text::new(name.clone(), place, text(TEXT, HPos::Right, VPos::Center)))?;
            let place = (left + at(row) + cell / 2, top - 6);
            let upwards = ("sans-serif", TEXT).into_font().color(&INK).transform(FontTransform::Rotate270);
            let upwards = upwards.pos(Pos::new(HPos::Left, VPos::Center));
            root.draw(&Text::new(name, place, upwards))?;
        }
    }
    let below = (left + side / 2, top + side + 8);
    root.draw(&Text::new(axes, below, text(TEXT, HPos::Center, VPos::Top)))
}

/// The SVG with the page's colours in place of those it was drawn with, as wide as the space it is given.
fn themed(mut svg: String, title: &str) -> String {
    let hexadecimal = |RGBColor(red, green, blue)| format!("#{red:02X}{green:02X}{blue:02X}");
    svg = svg.replace(&hexadecimal(INK), "var(--ink)").replace(&hexadecimal(GRID), "var(--grid)");
    for index in 0..COLOURS {
        svg = svg.replace(&hexadecimal(colour(index)), &format!("var(--c{index})"));
    }
    let title = maud::html! { (title) }.into_string().replace('"', "&quot;");
    svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{title}\" "), 1)
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

    #[test]
    fn a_chart_has_its_axes_and_the_pages_colours_only() {
        let series = Series {
            name: "run".into(),
            points: vec![(1.0, 1.5), (2.0, 1.0), (3.0, 0.5)],
            spread: vec![(1.4, 1.6)],
            colour: 1,
            dashed: true,
        };
        for kind in [Scale::Count, Scale::Logarithmic] {
            let svg = lines(&axes(kind), std::slice::from_ref(&series));
            assert!(svg.contains("epoch") && svg.contains("loss (nats)"), "{svg}");
            assert!(svg.contains("var(--c1)") && svg.contains("var(--ink)"), "{svg}");
            assert!(!svg.contains("\"#"), "a colour of its own: {svg}");
            assert!(svg.contains("aria-label=\"loss &quot;by&quot; epoch\""), "{svg}");
        }
    }

    #[test]
    fn a_matrix_names_its_classes_where_there_is_room() {
        let names: Vec<String> = (0..13).map(|class| format!("class{class}")).collect();
        let square = |side: usize| vec![vec![0.5; side]; side];
        assert!(matrix("m", "a", &square(3), &names).contains("class2"));
        assert!(!matrix("m", "a", &square(13), &names).contains("class2"));
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
        assert_eq!(label(123_456.0, Scale::Number), "1e5");
    }
}
