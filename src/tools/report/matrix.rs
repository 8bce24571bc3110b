//! A square matrix of shares as a drawing.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::drawing::{Drawing, INK, colour, shortened};
use super::sheet::{Sheet, share};

/// Height of text.
const TEXT: u32 = 15;
/// Width of the whole.
const WIDTH: u32 = 480;
/// Most letters of a name.
const LETTERS: usize = 14;

type Drawn<'b> =
    Result<(), DrawingAreaErrorKind<<SVGBackend<'b> as plotters::prelude::DrawingBackend>::ErrorType>>;

/// A square matrix of shares of its rows, coloured by the root of the share, so that small ones are seen; `names` by
/// row and column where there is room.
pub(super) fn matrix(title: &str, axes: &str, shares: &[Vec<f64>], names: &[String]) -> Drawing {
    let mut svg = String::new();
    let count = shares.len().max(1);
    let room = count <= MOST_NAMED;
    let (left, top) = if room { (112, 96) } else { (36, 36) };
    let cell = ((WIDTH - left - 8) / count as u32).max(1);
    let side = cell * count as u32;
    let size = (left + side + 8, top + side + 30);
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        // Drawing into a string does not fail.
        let _ = draw_matrix(&root, (shares, axes), names, Grid { left, top, cell, room });
    }
    Drawing::new(title, size, svg, Vec::new())
}

/// Its numbers: a line for each row, named in the first column, whose title is `corner`.
pub(super) fn sheet(corner: &str, shares: &[Vec<f64>], names: &[String]) -> Sheet {
    let mut sheet = Sheet::new(std::iter::once(share(corner)).chain(names.iter().cloned()));
    for (row, name) in shares.iter().zip(names) {
        sheet.line(std::iter::once(name.clone()).chain(row.iter().map(f64::to_string)));
    }
    sheet
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
            let name = names.get(row).map_or_else(String::new, |name| shortened(name, LETTERS));
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

#[cfg(test)]
mod tests {
    use super::super::drawing::tests::assert_xml;
    use super::super::sheet::tests::cells;
    use super::*;

    #[test]
    fn a_matrix_names_its_classes_where_there_is_room() {
        let names: Vec<String> = (0..13).map(|class| format!("class{class}")).collect();
        let square = |side: usize| vec![vec![0.5; side]; side];
        let drawn = |side: usize| matrix("m", "a", &square(side), &names).alone();
        assert!(drawn(3).contains("class2") && !drawn(13).contains("class2"));
    }

    #[test]
    fn the_numbers_are_those_that_are_drawn() {
        let names = ["<cat>, tabby".to_owned(), "dog & wolf".to_owned()];
        let shares = [vec![0.97, 0.03], vec![0.125, 0.875]];
        let file = matrix("m", "a", &shares, &names).alone();
        assert_xml(&file);
        for (row, line) in cells(&sheet("true class", &shares, &names).text())[1..].iter().enumerate() {
            assert_eq!(line[0], names[row]);
            for (column, cell) in line[1..].iter().enumerate() {
                assert_eq!(cell.parse::<f64>().unwrap(), shares[row][column]);
                assert!(file.contains(&format!("\n{:.0}\n", 100.0 * shares[row][column])), "{file}");
            }
        }
        assert!(file.contains("&lt;cat&gt;, tabby") && file.contains("dog &amp; wolf"));
    }
}
