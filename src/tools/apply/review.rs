//! One page of small pictures before and after, which loads nothing, to look through before anything is turned.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, html};

use super::orient::{Orientation, Orientations};
use super::plan::Action;
use crate::error::{Error, Result};
use crate::files::AtomicFile;
use crate::tools::html::head;

const STYLE: &str = "
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 76em; padding: 0 1em }
ol { display: grid; gap: 1em; grid-template-columns: repeat(auto-fill, minmax(21em, 1fr)); list-style: none; padding: 0 }
li { border: 1px solid #8886; border-radius: 6px; padding: .7em }
figure { align-items: center; display: flex; gap: .6em; justify-content: center; margin: 0; min-height: 160px }
p { margin: .4em 0; overflow-wrap: anywhere } .why { color: #b30 }
@media (prefers-color-scheme: dark) { .why { color: #fa6 } }";

/// The images of a page, the surest first.
#[derive(Default)]
pub(super) struct Review {
    entries: Vec<Entry>,
    left_out: usize,
}

struct Entry {
    probability: f64,
    name: String,
    says: String,
    why: Option<String>,
    turned: bool,
    pictures: [Vec<u8>; 2],
}

impl Review {
    /// Longest side of its pictures, in pixels.
    pub const SIDE: u32 = 160;
    /// Most images on a page: two pictures of at most 15 kB each, and so at most 20 MB.
    const MOST: usize = 500;

    /// Adds an image that is not upright, with its pictures before and after as JPEG files. Beyond the most that a page
    /// takes, the least sure one goes.
    pub fn add(&mut self, image: &Orientation, pictures: [Vec<u8>; 2]) {
        let turns = image.turns;
        let says = match turns.turns {
            2 => "upside down",
            1 => "turned 90° counter-clockwise",
            _ => "turned 90° clockwise",
        };
        let entry = Entry {
            probability: turns.probability,
            name: image.file.text().to_owned(),
            says: format!("{says}, {:.3}", turns.probability),
            why: image.why.clone().or_else(|| image.warning.clone()),
            turned: image.action == Action::Turn,
            pictures,
        };
        // Images of one probability stay in the order they came in.
        let place = self.entries.partition_point(|known| known.probability >= entry.probability);
        self.entries.insert(place, entry);
        if self.entries.len() > Self::MOST {
            self.entries.pop();
            self.left_out += 1;
        }
    }

    /// Writes the page, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, mut page: AtomicFile, found: &Orientations) -> Result<()> {
        let html = self.page(found.images.len(), found.sure);
        page.write_all(html.as_bytes()).map_err(Error::io("write", page.path()))?;
        page.commit()
    }

    fn page(&self, images: usize, sure: f64) -> String {
        let part = |turned: bool| self.entries.iter().filter(move |entry| entry.turned == turned);
        let html = html! {
            (DOCTYPE)
            html lang="en" {
                (head("Which way up", STYLE))
                body {
                    h1 { (self.entries.len() + self.left_out) " of " (images) " images are not upright" }
                    p {
                        "Each as it is, and as it would be; the surest first. Turned is what is at least " (sure)
                        " likely; `rotnet orient --format json` writes the plan, in which lines can be taken out."
                    }
                    @if self.left_out > 0 {
                        p { "The " (Self::MOST) " surest are shown; " (self.left_out) " more are left out." }
                    }
                    h2 { "To be turned: " (part(true).count()) }
                    ol { @for entry in part(true) { (entry.shown()) } }
                    h2 { "Left as they are: " (part(false).count()) }
                    ol { @for entry in part(false) { (entry.shown()) } }
                }
            }
        };
        html.into_string()
    }
}

impl Entry {
    fn shown(&self) -> Markup {
        let [before, after] = self
            .pictures
            .each_ref()
            .map(|picture| format!("data:image/jpeg;base64,{}", STANDARD.encode(picture)));
        html! {
            li {
                figure { img src=(before) alt="as it is"; "→" img src=(after) alt="turned"; }
                p { (self.name) }
                p { (self.says) }
                @if let Some(why) = &self.why { p.why { (why) } }
            }
        }
    }
}
