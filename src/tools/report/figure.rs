//! Figures with captions, and how shares and times are written.

use maud::{Markup, html};

/// A drawing with its title and a caption that says what to see.
pub(super) fn figure(title: &str, body: Markup, caption: Markup) -> Markup {
    html! {
        figure {
            h3 { (title) }
            (body)
            figcaption { (caption) }
        }
    }
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
mod tests {
    use super::*;

    #[test]
    fn times_are_in_units_that_people_count_in() {
        assert_eq!(duration(7.25), "7.2 s");
        assert_eq!(duration(583.0), "9 min 43 s");
        assert_eq!(duration(36_000.0), "10.0 h");
    }
}
