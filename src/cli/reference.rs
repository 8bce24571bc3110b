//! The pages that are made from the program: `docs/reference/commands.md` from the command line as clap sees it,
//! `docs/reference/config.md` from the schema of config files. `ROTNET_DOCS=write cargo test --release reference` writes
//! them anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};
use serde_json::Value;

use super::arguments::Arguments;
use crate::config;

/// An option that so many commands have, with the same help, is described once for all of them.
const SHARED: usize = 4;
const HEADER: &str =
    "<!-- Made from the program by `ROTNET_DOCS=write cargo test --release reference`. -->\n\n";

/// Compares a page with the one in the repository, or writes it.
fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(name);
    if std::env::var("ROTNET_DOCS").is_ok_and(|value| value == "write") {
        std::fs::write(&path, text).unwrap();
    }
    let present = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = present.lines().zip(text.lines()).find(|(here, there)| here != there);
    assert!(
        present == text,
        "docs/reference/{name} is not current: {differs:?}; ROTNET_DOCS=write cargo test --release reference"
    );
}

#[test]
fn the_page_about_commands_is_current() {
    let mut root = Arguments::command();
    root.build();
    let mut commands = Vec::new();
    collect(&root, &mut commands);
    let mut counts = BTreeMap::new();
    for option in commands.iter().flat_map(|(_, command)| options(command)) {
        *counts.entry(item(option)).or_insert(0) += 1;
    }
    let shared = |option: &Arg| counts[&item(option)] >= SHARED;
    let mut text = format!("# Commands\n\n{HEADER}{}.\n\n", root.get_about().unwrap());
    for (name, command) in &commands {
        writeln!(text, "- [`{name}`](#{}): {}", name.replace(' ', "-"), command.get_about().unwrap())
            .unwrap();
    }
    text += "\nOptions marked * are shown by `--help-all` only.\n\n## Shared options\n\n";
    text += "They mean the same in every command that has them.\n\n";
    let mut written: Vec<String> = Vec::new();
    for option in commands.iter().flat_map(|(_, command)| options(command)).filter(|option| shared(option)) {
        if !written.contains(&item(option)) {
            written.push(item(option));
        }
    }
    text += &written.concat();
    for (name, command) in &commands {
        write!(text, "\n## `{name}`\n\n{}.\n\n", command.get_about().unwrap()).unwrap();
        let usage = (*command).clone().render_usage().to_string();
        writeln!(text, "```text\n{}\n```\n", usage.trim_start_matches("Usage: ")).unwrap();
        text += &options(command).filter(|option| !shared(option)).map(item).collect::<String>();
        let also = options(command).filter(|option| shared(option)).filter_map(Arg::get_long);
        let also: Vec<String> = also.map(|name| format!("`--{name}`")).collect();
        if !also.is_empty() {
            writeln!(text, "- [Shared options](#shared-options): {}", also.join(", ")).unwrap();
        }
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let (words, examples) = after.split_once("Example").unwrap_or((&after, ""));
        if !words.trim().is_empty() {
            writeln!(text, "\n{}", words.trim().replace("\n\n", "\n").replace('\n', "\n\n")).unwrap();
        }
        let examples: Vec<&str> = examples.lines().skip(1).map(str::trim).collect();
        if !examples.is_empty() {
            writeln!(text, "\n```sh\n{}\n```", examples.join("\n")).unwrap();
        }
    }
    check("commands.md", &text);
}

/// The commands that do something, with their full names.
fn collect<'a>(command: &'a Command, found: &mut Vec<(String, &'a Command)>) {
    for subcommand in command.get_subcommands().filter(|command| command.get_name() != "help") {
        match subcommand.has_subcommands() {
            true => collect(subcommand, found),
            false => found.push((subcommand.get_bin_name().unwrap().to_owned(), subcommand)),
        }
    }
}

fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|option| !option.is_hide_set() && !option.get_id().as_str().starts_with("help"))
}

/// How an option is written, with a mark if only `--help-all` shows it.
fn title(option: &Arg) -> String {
    let short = option.get_short().map(|letter| format!("`-{letter}`, ")).unwrap_or_default();
    let mark = if option.is_hide_short_help_set() { "*" } else { "" };
    match option.is_positional() {
        true => format!("`{option}`"),
        false => format!("{short}`{}`{mark}", option.to_string().replace("...", "")),
    }
}

/// An option with its help, values and default, as an item of a list.
fn item(option: &Arg) -> String {
    let mut text = format!("- {}: {}", title(option), option.get_help().unwrap());
    let defaults: Vec<_> = option.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if !option.is_hide_default_value_set() && option.get_action().takes_values() && !defaults.is_empty() {
        write!(text, " (default: `{}`)", defaults.join(",")).unwrap();
    }
    if let Some(name) = option.get_env() {
        write!(text, " (environment: `{}`)", name.to_string_lossy()).unwrap();
    }
    text.push('\n');
    let values = option.get_possible_values().into_iter().filter(|_| option.get_action().takes_values());
    let values: Vec<_> = values.filter(|_| !option.is_hide_possible_values_set()).collect();
    for value in values.iter().filter(|value| value.get_help().is_some()) {
        writeln!(text, "  - `{}`: {}", value.get_name(), value.get_help().unwrap()).unwrap();
    }
    let plain = values.iter().filter(|value| value.get_help().is_none());
    let plain: Vec<_> = plain.map(|value| format!("`{}`", value.get_name())).collect();
    if !plain.is_empty() {
        writeln!(text, "  - Values: {}", plain.join(", ")).unwrap();
    }
    text
}

#[test]
fn the_page_about_config_files_is_current() {
    let schema = config::schema();
    let mut text = format!("# Config files\n\n{HEADER}");
    text += "A config is a JSON file; keys that are left out have their default. Every key can also be set on the \
             command line, as in `--set pretrain.epochs=2`.\n";
    let mut sections: Vec<(&Value, Vec<String>)> = vec![(&schema, vec![String::new()])];
    let mut next = 0;
    while let Some((section, path)) = sections.get(next).map(|(section, paths)| (*section, paths[0].clone()))
    {
        for (key, property) in section["properties"].as_object().unwrap() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let inner = inner(&schema, property);
            if inner["properties"].is_object() {
                match sections.iter_mut().find(|(known, _)| std::ptr::eq(*known, inner)) {
                    Some((_, paths)) => paths.push(path),
                    None => sections.push((inner, vec![path])),
                }
            }
        }
        next += 1;
    }
    for (section, paths) in &sections {
        let paths: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
        let heading = if paths[0] == "``" { "Top level".to_owned() } else { paths.join(", ") };
        let about = section["description"].as_str().unwrap();
        let about = match about.split_once("`: ") {
            Some((section, about)) if section.starts_with("Section") => about,
            _ => about,
        };
        let about = about.replace("  ", " ");
        let mut letters = about.chars();
        let about: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
        writeln!(text, "\n## {heading}\n\n{about}\n").unwrap();
        for (key, property) in section["properties"].as_object().unwrap() {
            text += &key_item(&schema, key, property);
        }
        text += &kinds(section);
    }
    check("config.md", &text);
}

/// What a property is, behind references, null and lists.
fn inner<'a>(root: &'a Value, property: &'a Value) -> &'a Value {
    if let Some(items) = property.get("items") {
        return inner(root, items);
    }
    if let Some(any) = property["anyOf"].as_array() {
        return inner(root, &any[0]);
    }
    property["$ref"].as_str().map_or(property, |to| root.pointer(&to[1..]).unwrap())
}

/// A key with its type, range and default, as an item of a list.
fn key_item(root: &Value, key: &str, property: &Value) -> String {
    let inner = inner(root, property);
    let mut facts = vec![kind(property, inner) + &range(inner)];
    if let Some(default) = default(property) {
        facts.push(format!("default `{default}`"));
    }
    let mut text =
        format!("- `{key}` ({}): {}\n", facts.join("; "), property["description"].as_str().unwrap());
    for value in inner["oneOf"].as_array().into_iter().flatten() {
        let Some(name) = value.get("const") else { continue };
        let description = value["description"].as_str().unwrap_or_default();
        writeln!(text, "  - `{}`: {description}", short(name)).unwrap();
    }
    text
}

/// A property's default, unless it is null or a section.
fn default(property: &Value) -> Option<String> {
    match property.get("default")? {
        Value::Null | Value::Object(_) => None,
        Value::String(text) if text.is_empty() => None,
        Value::Array(values) => {
            Some(format!("[{}]", values.iter().map(short).collect::<Vec<_>>().join(", ")))
        }
        value => Some(short(value)),
    }
}

/// A value with the digits that it has as a number of 32 bits, if it is one.
fn short(value: &Value) -> String {
    if let Some(text) = value.as_str() {
        return text.to_owned();
    }
    let single =
        value.as_f64().map(|number| number as f32).filter(|&single| value.as_f64() == Some(single.into()));
    single.map_or_else(|| value.to_string(), |single| single.to_string())
}

/// The type of a property in words.
fn kind(property: &Value, inner: &Value) -> String {
    let names = |of: &Value| match of {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        Value::String(name) => name.clone(),
        _ => "one of the values below".to_owned(),
    };
    let list = property["type"] == "array" || property["type"][0] == "array";
    let of = match inner["enum"].as_array() {
        Some(values) => values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", "),
        None if inner["properties"].is_object() => "section".to_owned(),
        None => match inner["anyOf"].as_array() {
            Some(any) => any.iter().map(|one| names(&one["type"])).collect::<Vec<_>>().join(" or "),
            None => names(&inner["type"]),
        },
    };
    match (list, inner["oneOf"].is_array()) {
        (false, _) => of,
        (true, false) => format!("list of {of}s"),
        (true, true) => "list of the values below".to_owned(),
    }
}

/// The range of a number in words.
fn range(schema: &Value) -> String {
    let bound = |name: &str, words: &str| schema.get(name).map(|bound| format!("{words} {}", short(bound)));
    let natural = schema["type"] == "integer" && schema["minimum"] == 0;
    let low =
        bound("minimum", "at least").filter(|_| !natural).or_else(|| bound("exclusiveMinimum", "above"));
    let high = bound("maximum", "at most").or_else(|| bound("exclusiveMaximum", "below"));
    let bounds: Vec<String> = low.into_iter().chain(high).collect();
    if bounds.is_empty() { String::new() } else { format!(", {}", bounds.join(", ")) }
}

/// For each kind of a section the keys that it has, with the defaults that it gives them.
fn kinds(section: &Value) -> String {
    let mut text = String::new();
    for condition in section["allOf"].as_array().into_iter().flatten() {
        let own = &condition["then"]["properties"];
        let keys = section["properties"].as_object().unwrap().keys();
        let keys = keys.filter(|key| *key != "kind" && own[key.as_str()] != false).map(|key| {
            let default = default(&own[key.as_str()]);
            default.map_or(format!("`{key}`"), |default| format!("`{key}` (default `{default}`)"))
        });
        let keys = keys.collect::<Vec<_>>().join(", ");
        let keys = if keys.is_empty() { "none" } else { &keys };
        let kind = condition["if"]["properties"]["kind"]["const"].as_str().unwrap();
        writeln!(text, "- Keys of kind `{kind}`: {keys}").unwrap();
    }
    text.is_empty().then(String::new).unwrap_or_else(|| format!("\n{text}"))
}
