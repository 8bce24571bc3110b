//! Figures with captions, what of them can be saved, and how shares and times are written.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};

use super::drawing::Drawing;
use super::sheet::Sheet;

/// A drawing with its title and a caption that says what to see; it and its data can be saved.
pub(super) fn drawn(title: &str, drawing: &Drawing, data: &Sheet, caption: Markup) -> Markup {
    let body = drawing.on_the_page();
    framed(title, body, caption, &[saved(title, "svg", &drawing.alone()), saved(title, "csv", &data.text())])
}

/// Pictures or a table with a title and a caption; the data can be saved.
pub(super) fn figure(title: &str, body: Markup, data: &Sheet, caption: Markup) -> Markup {
    framed(title, body, caption, &[saved(title, "csv", &data.text())])
}

/// Pictures alone with a title and a caption.
pub(super) fn bare(title: &str, body: Markup, caption: Markup) -> Markup {
    framed(title, body, caption, &[])
}

fn framed(title: &str, body: Markup, caption: Markup, links: &[Markup]) -> Markup {
    html! {
        figure {
            h3 { (title) }
            (body)
            figcaption { (caption) }
            @if !links.is_empty() {
                p.save { "Save as " @for (place, link) in links.iter().enumerate() { @if place > 0 { " or " } (link) } }
            }
        }
    }
}

/// A link that holds a file, so that it can be saved without a network and without scripts.
fn saved(title: &str, extension: &str, text: &str) -> Markup {
    let kind = match extension {
        "svg" => "image/svg+xml",
        _ => "text/csv",
    };
    let address = format!("data:{kind};charset=utf-8;base64,{}", STANDARD.encode(text));
    html! { a download=(format!("{}.{extension}", file_name(title))) href=(address) { (extension.to_uppercase()) } }
}

/// A title as the name of a file: small letters, digits and hyphens.
fn file_name(title: &str) -> String {
    let words = title.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

/// A share in percent, with one decimal.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}\u{a0}%", 100.0 * share)
}

/// Seconds in the units that people would use.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{seconds:.2} s"),
        ..100.0 => format!("{seconds:.1} s"),
        ..6_000.0 => format!("{:.0} min {:02.0} s", (seconds / 60.0).floor(), seconds % 60.0),
        _ => format!("{:.1} h", seconds / 3_600.0),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The files that links of a page hold, by the names under which they are saved.
    pub(in super::super) fn files(page: &str) -> Vec<(String, String)> {
        let links = page.split("<a download=\"").skip(1);
        let file = |link: &str| {
            let (name, rest) = link.split_once("\" href=\"").unwrap();
            let (_, encoded) = rest.split_once('"').unwrap().0.split_once(";base64,").unwrap();
            (name.to_owned(), String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap())
        };
        links.map(file).collect()
    }

    #[test]
    fn a_figure_holds_the_files_that_it_is_saved_as() {
        let mut data = Sheet::new(["class"]);
        data.line(["cat, tabby"]);
        let drawing = Drawing::new("d", (9, 9), "<svg width=\"9\"></svg>".into(), Vec::new());
        let page = drawn("Accuracy: by class", &drawing, &data, html! { "c" }).into_string();
        let [(svg, drawn), (csv, table)] = &files(&page)[..] else { panic!("{page}") };
        assert_eq!((svg.as_str(), csv.as_str()), ("accuracy-by-class.svg", "accuracy-by-class.csv"));
        assert_eq!((drawn, table.as_str()), (&drawing.alone(), "class\n\"cat, tabby\"\n"));
        assert!(
            page.contains("href=\"data:image/svg+xml;") && page.contains("href=\"data:text/csv;"),
            "{page}"
        );
    }

    #[test]
    fn times_are_in_units_that_people_count_in() {
        assert_eq!(duration(7.25), "7.2 s");
        assert_eq!(duration(583.0), "9 min 43 s");
        assert_eq!(duration(36_000.0), "10.0 h");
    }
}
