//! `rotnet config`: the recipes, a config with every key, and the schema of config files.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};
use serde::Serialize;

use super::options::{Settings, TableArguments, TableFormat, config_name};
use super::table::Table;
use super::{print_json, print_line, resolve};
use crate::config::{self, Document, Measured, RECIPES};
use crate::error::Result;

#[derive(Subcommand, Debug)]
pub enum ConfigCommand {
    /// List the recipes: what each is, and the time and accuracy measured
    List {
        #[command(flatten)]
        output: TableArguments,
    },
    /// Print every key of a config with its value
    #[command(after_help = "\
Examples:
  rotnet config show cpu-10min
  rotnet config show cpu-10min --set finetune.hidden=512,256 > mine.json")]
    Show {
        /// A recipe or a file (default: what `run` would take)
        #[arg(value_name = "NAME|FILE", conflicts_with = "config", value_parser = config_name, value_hint = ValueHint::FilePath)]
        name: Option<PathBuf>,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Print the JSON schema of config files, for editors
    Schema,
}

/// A line of `config list`.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    description: String,
    measured: Measured,
}

pub(super) fn execute(command: ConfigCommand) -> Result<()> {
    match command {
        ConfigCommand::List { output } => list(&output),
        ConfigCommand::Show { name, mut settings } => {
            settings.config = name.or(settings.config);
            print_json(&resolve(&settings)?.in_full())
        }
        ConfigCommand::Schema => print_json(&config::schema()),
    }
}

fn list(output: &TableArguments) -> Result<()> {
    let listed = RECIPES.iter().map(|recipe| {
        let document = Document::named(recipe.name.as_ref())?;
        let description = document.config(&Default::default())?.description;
        Ok(Listed { name: recipe.name, description, measured: document.measured })
    });
    let listed = listed.collect::<Result<Vec<_>>>()?;
    if output.format() == TableFormat::Json {
        return print_json(&listed);
    }
    let mut table = Table::new(["recipe", "time", "accuracy", "what it is"]);
    for Listed { name, description, measured } in listed {
        table.row([name.to_owned(), measured.time, measured.accuracy, first_sentence(&description)]);
    }
    if output.format() == TableFormat::Csv {
        return print_line(&table.csv()?);
    }
    print_line(&table.to_string())?;
    print_line(
        "Measured on 2 cores of an AMD EPYC (Zen 5). `rotnet run --config NAME` runs one, `config show NAME` shows it.",
    )
}

/// The first sentence of a description.
fn first_sentence(text: &str) -> String {
    text.split(". ").next().unwrap_or(text).trim_end_matches('.').to_owned()
}
