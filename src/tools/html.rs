//! What pages have in common.

use maud::{Markup, PreEscaped, html};

/// A page loads nothing from outside.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The head of a page, which follows the light or dark theme of its reader.
pub(super) fn head(title: &str, style: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta http-equiv="Content-Security-Policy" content=(POLICY);
            title { (title) " – rotnet" }
            style { (PreEscaped(style)) }
        }
    }
}
