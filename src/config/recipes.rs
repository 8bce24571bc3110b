//! The recipes: configs that are compiled in and go by name.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::messages::nearest;
use crate::error::{Error, Result};
use crate::files::same_place;

/// A config that is compiled in.
#[derive(Debug, PartialEq, Eq)]
pub struct Recipe {
    /// What `--config` and `extends` call it.
    pub name: &'static str,
    /// Its file in `configs/`.
    pub text: &'static str,
}

macro_rules! recipes {
    ($($name:literal),* $(,)?) => {
        [$(Recipe { name: $name, text: include_str!(concat!("../../configs/", $name, ".json")) }),*]
    };
}

/// Every file in `configs/`, in the order in which they are listed.
pub static RECIPES: [Recipe; 15] = recipes![
    "quickstart",
    "keras",
    "keras-scaled",
    "cpu-10min",
    "wide",
    "compact",
    "fine-tune",
    "low-label",
    "self-training",
    "patches",
    "photos",
    "tiny-imagenet",
    "rotnet-paper",
    "rotnet-paper-linear",
    "rotnet-paper-conv",
];

/// Former names of recipes and the present ones.
const RENAMED: [(&str, &str); 2] = [("seed", "keras"), ("seed-scaled", "keras-scaled")];

/// Where a config comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Recipe(&'static Recipe),
    File(PathBuf),
}

impl Source {
    /// What a name stands for: a file that is there, else a recipe. `folder` is where file names begin; without one,
    /// only recipes are found.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub(super) fn find(name: &Path, folder: Option<&Path>) -> Result<Self, String> {
        let file = folder.map(|folder| folder.join(name));
        if let Some(file) = file.as_ref().filter(|file| file.is_file()) {
            return Ok(Self::File(file.clone()));
        }
        let written = name.to_string_lossy();
        let wanted = renamed(name).unwrap_or(&written);
        if let Some(recipe) = RECIPES.iter().find(|recipe| recipe.name == wanted) {
            return Ok(Self::Recipe(recipe));
        }
        let is_path = written.contains('/') || written.ends_with(".json");
        match file {
            // Reading it says why it cannot be read.
            Some(file) if is_path => Ok(Self::File(file)),
            None if is_path => Err(format!("`{written}` is a file, but only a file can extend one")),
            _ => Err(unknown(&written)),
        }
    }

    /// The config as written.
    pub(super) fn text(&self) -> Result<String> {
        match self {
            Self::Recipe(recipe) => Ok(recipe.text.to_owned()),
            Self::File(path) => fs::read_to_string(path).map_err(Error::io("read", path)),
        }
    }

    /// The folder in which the files lie that it may extend; absent for a recipe, which extends recipes only.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Recipe(_) => None,
            Self::File(path) => path.parent(),
        }
    }

    /// Whether both are the same config, however its path is spelled.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) => same_place(one, other),
            (one, other) => one == other,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recipe(recipe) => write!(out, "recipe {}", recipe.name),
            Self::File(path) => write!(out, "{}", path.display()),
        }
    }
}

/// The present name of a recipe that had another one; absent where a file goes by that name.
pub fn renamed(name: &Path) -> Option<&'static str> {
    let former = name.strip_prefix("configs").unwrap_or(name);
    let former = former.to_str()?;
    let former = former.strip_suffix(".json").unwrap_or(former);
    let (_, present) = RENAMED.iter().find(|(name, _)| *name == former)?;
    (!name.is_file()).then_some(*present)
}

/// The name of the run that a config makes where none is given: that of the recipe, or the file's without its ending.
///
/// # Errors
/// [`Error::Usage`] if there is no such config.
pub fn run_name(config: &Path) -> Result<String> {
    Ok(match named(config)? {
        Source::Recipe(recipe) => recipe.name.to_owned(),
        Source::File(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    })
}

/// The config that `--config` names.
pub(super) fn named(name: &Path) -> Result<Source> {
    let refuse = |problem| {
        let hint = "`rotnet config list` lists the recipes, anything with a / or .json is a file".into();
        Error::Usage { problem, hint }
    };
    let source = Source::find(name, Some(Path::new(""))).map_err(refuse)?;
    // A recipe spelled as it lies in this repository, but elsewhere.
    if let Source::File(path) = &source
        && !path.exists()
        && let Some(recipe) = RECIPES.iter().find(|recipe| path.file_stem() == Some(recipe.name.as_ref()))
    {
        return Err(Error::Usage {
            problem: format!("there is no file {}", path.display()),
            hint: format!("the recipe of that name is compiled in: --config {}", recipe.name),
        });
    }
    Ok(source)
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = RECIPES.iter().map(|recipe| recipe.name).collect();
    match nearest(name, &names) {
        Some(near) => format!("there is no recipe or file `{name}` (did you mean `{near}`?)"),
        None => format!("there is no recipe or file `{name}`"),
    }
}
