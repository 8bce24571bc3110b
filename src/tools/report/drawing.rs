//! A drawing: SVG in the colours of the page, which follow its theme, and the same as a file that stands alone.

use maud::{Markup, PreEscaped, Render, html};
use plotters::style::RGBColor;

use super::page::STYLE;

/// Number of colours before they repeat; `style.css` has as many.
pub(super) const COLOURS: usize = 10;

/// Stand for colours of the page where something is drawn that takes no names of colours.
pub(super) const INK: RGBColor = RGBColor(1, 1, 1);
pub(super) const GRID: RGBColor = RGBColor(2, 2, 2);

/// Stands for the colour with this index.
pub(super) fn colour(index: usize) -> RGBColor {
    RGBColor(3, (index % COLOURS) as u8, 3)
}

/// A drawing with its title and legend, which the page sets in its own type and the file draws.
#[derive(Clone, Debug)]
pub(super) struct Drawing {
    /// What it shows, for those who cannot see it.
    title: String,
    size: (u32, u32),
    /// One element `svg`, its colours by name.
    svg: String,
    legend: Vec<Entry>,
}

/// A line of the legend.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub name: String,
    /// Index of its colour.
    pub colour: usize,
    pub dashed: bool,
}

impl Drawing {
    /// From SVG whose colours are either names of the page's or stand for them.
    pub(super) fn new(title: &str, size: (u32, u32), svg: String, legend: Vec<Entry>) -> Self {
        let mut svg = svg;
        let names = (0..COLOURS).map(|index| (colour(index), format!("c{index}")));
        for (RGBColor(red, green, blue), name) in
            [(INK, "ink".to_owned()), (GRID, "grid".to_owned())].into_iter().chain(names)
        {
            // In quotes, which no text of an element holds: names may look like colours.
            let stand_in = format!("\"#{red:02X}{green:02X}{blue:02X}\"");
            svg = svg.replace(&stand_in, &format!("\"var(--{name})\""));
        }
        Self { title: title.to_owned(), size, svg, legend }
    }

    /// For the page: as wide as the space it is given.
    pub(super) fn on_the_page(&self) -> Markup {
        let title = escaped(&self.title);
        let svg = self.svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{title}\" "), 1);
        html! {
            @if self.legend.len() > 1 {
                ul.legend {
                    @for Entry { name, colour, dashed } in &self.legend {
                        li { i.dashed[*dashed] style=(format!("--c: var(--c{})", colour % COLOURS)) {} (name) }
                    }
                }
            }
            (PreEscaped(svg))
        }
    }

    /// As a file: with title and legend, in colours that need no page.
    pub(super) fn alone(&self) -> String {
        const LINE: u32 = 20;
        let legend = if self.legend.len() > 1 { &self.legend[..] } else { &[] };
        let top = 36 + LINE * legend.len() as u32;
        let (width, height) = (self.size.0, self.size.1 + top);
        let drawn = html! {
            title { (self.title) }
            rect width=(width) height=(height) fill="var(--card)" {}
            text x="12" y="23" font-family="sans-serif" font-size="15" font-weight="bold" fill="var(--ink)" {
                (shortened(&self.title, width as usize / 9))
            }
            @for (place, Entry { name, colour, dashed }) in legend.iter().enumerate() {
                @let y = 42 + LINE * place as u32;
                line x1="12" x2="36" y1=(y) y2=(y) stroke=(format!("var(--c{})", colour % COLOURS)) stroke-width="3"
                    stroke-dasharray=[dashed.then_some("6 4")] {}
                text x="44" y=(y + 4) font-family="sans-serif" font-size="13" fill="var(--ink)" {
                    (shortened(name, (width as usize).saturating_sub(56) / 7))
                }
            }
        };
        let inner = self.svg.replacen("<svg ", &format!("<svg y=\"{top}\" "), 1);
        let mut file = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} \
             {height}\">{}{inner}</svg>\n",
            drawn.into_string()
        );
        for (name, value) in palette() {
            file = file.replace(&format!("\"var({name})\""), &format!("\"{value}\""));
        }
        file.chars().map(|letter| if is_xml(letter) { letter } else { char::REPLACEMENT_CHARACTER }).collect()
    }
}

/// Names and values of the page's colours in its light theme.
fn palette() -> impl Iterator<Item = (&'static str, &'static str)> {
    let light = STYLE.split('}').next().unwrap_or_default();
    let entries = light.split(';').filter_map(|entry| entry.split_once(':'));
    let names =
        entries.map(|(name, value)| (name.split_whitespace().last().unwrap_or_default(), value.trim()));
    names.filter(|(name, _)| name.starts_with("--"))
}

/// Whether a file of XML may hold the character.
fn is_xml(letter: char) -> bool {
    !letter.is_control() && !matches!(letter, '\u{fffe}' | '\u{ffff}') || matches!(letter, '\t' | '\n')
}

/// As text of an element or value of an attribute.
fn escaped(text: &str) -> String {
    let mut safe = String::new();
    text.render_to(&mut safe);
    safe
}

/// A text of at most so many characters; of a longer one, the middle is left out.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= most {
        return text.to_owned();
    }
    let end = most.saturating_sub(1) / 3;
    let start = most.saturating_sub(1) - end;
    letters[..start].iter().chain(&['…']).chain(&letters[letters.len() - end..]).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Asserts that a text is XML: elements that are closed in the order in which they were opened, attributes in
    /// quotes, no bare `<` or `&`, no characters that XML has not.
    pub(in super::super) fn assert_xml(text: &str) {
        assert!(text.chars().all(is_xml));
        let (mut rest, mut open) = (text, Vec::new());
        while let Some((before, after)) = rest.split_once('<') {
            assert_text(before);
            assert!(!before.contains('>') && (!open.is_empty() || before.trim().is_empty()), "{before}");
            let (tag, after) = after.split_once('>').expect("a tag without end");
            rest = after;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name));
                continue;
            }
            let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
            let (name, mut attributes) =
                tag.trim().split_once(char::is_whitespace).unwrap_or((tag.trim(), ""));
            assert!(name.chars().all(|letter| letter.is_ascii_alphanumeric()), "{name}");
            while !attributes.trim().is_empty() {
                let (key, value) = attributes.trim_start().split_once("=\"").expect(attributes);
                assert!(
                    key.chars().all(|letter| letter.is_ascii_alphanumeric() || "-:".contains(letter)),
                    "{key}"
                );
                let (value, after) = value.split_once('"').expect(attributes);
                assert_text(value);
                attributes = after;
            }
            if !closed {
                open.push(name.to_owned());
            }
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    }

    /// Every `&` begins an entity that XML knows.
    fn assert_text(text: &str) {
        for after in text.split('&').skip(1) {
            let known = ["amp;", "lt;", "gt;", "quot;", "apos;"];
            assert!(known.iter().any(|entity| after.starts_with(entity)), "&{after}");
        }
    }

    #[test]
    fn a_file_needs_no_page_and_survives_every_name() {
        let hostile = "</text><script>alert(1)</script> & \"var(--ink)\" '#010101' \u{1}\u{ffff} ]]>";
        let svg = html! { svg width="10" height="10" viewBox="0 0 10 10" xmlns="http://www.w3.org/2000/svg" {
            line stroke="#030203" x1="0" {}
            text fill="var(--ink)" { (hostile) }
        } };
        let entry = |colour| Entry { name: hostile.into(), colour, dashed: colour == 1 };
        let drawing = Drawing::new(hostile, (400, 10), svg.into_string(), vec![entry(0), entry(1)]);
        let file = drawing.alone();
        assert_xml(&file);
        assert!(!file.contains("<script") && file.contains("stroke=\"#c6383b\""), "{file}");
        assert!(file.contains("fill=\"#1d1f23\"") && !file.contains("\"var("), "{file}");
        assert!(file.contains("&quot;var(--ink)&quot; '#010101' \u{fffd}\u{fffd} ]]&gt;</text>"), "{file}");
        let page = drawing.on_the_page().into_string();
        assert!(!page.contains("<script") && page.contains("stroke=\"var(--c2)\""), "{page}");
        assert_xml(&page.replace(['\u{1}', '\u{ffff}'], ""));
    }

    #[test]
    #[should_panic]
    fn what_is_not_closed_is_no_xml() {
        assert_xml("<svg><g></svg></g>");
    }

    #[test]
    fn every_colour_of_the_page_has_a_value() {
        let known: Vec<&str> = palette().map(|(name, _)| name).collect();
        for name in (0..COLOURS).map(|index| format!("--c{index}")) {
            assert!(known.contains(&name.as_str()), "{name} in {known:?}");
        }
        for name in ["--ink", "--grid", "--soft", "--card"] {
            assert!(known.contains(&name));
        }
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shortened("short", 5), "short");
        assert_eq!(shortened("abcdefghij", 7), "abcd…ij");
        assert_eq!(shortened("ab", 1), "…");
    }
}
