//! A plan that was looked through: what `orient` printed as JSON, carried out.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Failure;
use super::files::ImageFile;
use super::fix::fix;
use super::log::Log;
use super::targets::{Fix, Targets};
use crate::data::Rotation;
use crate::error::{Error, Result};
use crate::tools::paths::{PathText, shown_if_there};

/// The only version of the format.
pub(super) const VERSION: u32 = 1;
const HINT: &str = "name a file that `rotnet orient --format json` wrote";

/// What is done with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is turned.
    Turn,
    /// It is left as it is.
    Leave,
}

/// What of a plan counts when it is carried out; people may take out images, change actions and degrees.
#[derive(Debug, Deserialize)]
struct Plan {
    plan: u32,
    /// Where relative paths begin.
    directory: PathText,
    images: Vec<Planned>,
}

#[derive(Debug, Deserialize)]
struct Planned {
    #[serde(flatten)]
    file: PathText,
    /// Parts of the path that are the name below the folder that was named.
    depth: usize,
    sha256: String,
    /// How far it was turned counter-clockwise.
    degrees: u32,
    action: Action,
}

/// What `rotnet orient --apply` shows.
#[derive(Debug, Serialize)]
pub struct Applied {
    /// The images that were turned.
    pub images: Vec<Turned>,
    /// Those that were not.
    pub failed: Vec<Failure>,
    /// The log that undoes it, if there is anything to undo.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown_if_there")]
    pub log: Option<PathBuf>,
}

/// An image that was turned.
#[derive(Debug, Serialize)]
pub struct Turned {
    /// The file.
    #[serde(flatten)]
    pub file: PathText,
    /// The upright file; absent: it was made before.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown_if_there")]
    pub fixed: Option<PathBuf>,
    /// The original, where it is kept under another name.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown_if_there")]
    pub original: Option<PathBuf>,
}

impl Planned {
    fn rotation(&self) -> Result<Rotation, String> {
        match self.degrees {
            0 | 90 | 180 | 270 => Ok(Rotation::from_turns(self.degrees / 90)),
            other => Err(format!("{other} degrees in the plan: only 90, 180 and 270 can be undone")),
        }
    }

    fn file(&self, directory: &Path) -> Result<ImageFile, String> {
        let path = directory.join(self.file.path()?);
        let parts: Vec<_> = path.components().collect();
        if self.depth == 0 || self.depth > parts.len() {
            return Err(format!("depth {} in the plan does not fit its path", self.depth));
        }
        let name = parts[parts.len() - self.depth..].iter().collect();
        Ok(ImageFile { path, name, named: true })
    }
}

/// Carries a plan out. A file that is not as it was when the plan was made is left as it is.
///
/// # Errors
/// [`Error::Io`] and [`Error::Data`] of the plan, [`Error::Usage`] and [`Error::OutputExists`] of the places to write to,
/// before anything is written. What is wrong with single images is in the result.
pub fn carry_out(plan: &Path, how: &Fix) -> Result<Applied> {
    let (directory, images) = read(plan)?;
    let mut applied = Applied { images: Vec::new(), failed: Vec::new(), log: None };
    let paths = images.iter().filter_map(|planned| planned.file.path().ok());
    let named: Vec<PathBuf> = paths.map(|path| directory.join(path)).collect();
    let (mut files, mut wanted) = (Vec::new(), Vec::new());
    for planned in images.into_iter().filter(|planned| planned.action == Action::Turn) {
        let found = planned.file(&directory).and_then(|file| Ok((file, planned.rotation()?)));
        match found {
            Ok((_, Rotation::Upright)) => {}
            Ok((file, rotation)) => {
                files.push(file);
                wanted.push((planned, rotation));
            }
            Err(problem) => {
                let path = Path::new(planned.file.text());
                applied.failed.push(Failure::new(path, Error::data(path, problem, HINT)));
            }
        }
    }
    let targets = Targets::plan(&files, &named, how)?;
    let mut log = how.log()?;
    for (index, (planned, rotation)) in wanted.into_iter().enumerate() {
        match fix(&files[index], &planned.sha256, rotation, &targets, (index, log.as_mut())) {
            Ok(written) => {
                let (fixed, original) = (written.fixed, written.original);
                applied.images.push(Turned { file: planned.file, fixed, original });
            }
            Err(error) => applied.failed.push(Failure::new(&files[index].path, error)),
        }
    }
    applied.log = log.as_ref().and_then(Log::path).map(Path::to_path_buf);
    Ok(applied)
}

fn read(path: &Path) -> Result<(PathBuf, Vec<Planned>)> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let refuse = |problem: String| Error::data(path, problem, HINT);
    let plan: Plan =
        serde_json::from_slice(&bytes).map_err(|error| refuse(format!("is not a plan: {error}")))?;
    if plan.plan != VERSION {
        return Err(refuse(format!("is a plan of version {}, this program knows {VERSION}", plan.plan)));
    }
    Ok((plan.directory.path().map_err(refuse)?, plan.images))
}
