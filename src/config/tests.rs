use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::schema::{find, follow, is_of, kinds, refuses, section_like, types};
use super::*;
use crate::error::Error;

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

fn recipe(name: &str) -> Config {
    Document::named(name.as_ref()).unwrap().config(&Overrides::default()).unwrap()
}

#[test]
fn every_config_in_the_folder_is_a_recipe_that_names_the_schema() {
    let files = fs::read_dir(configs()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension() == Some("json".as_ref()))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "schema")
        .collect();
    let mut recipes: Vec<_> = RECIPES.iter().map(|recipe| recipe.name.to_owned()).collect();
    files.sort();
    recipes.sort();
    assert_eq!(files, recipes);
    for Recipe { name, text } in &RECIPES {
        let written: Value = serde_json::from_str(text).unwrap();
        assert_eq!(written["$schema"], "./schema.json", "{name}");
        let description = recipe(name).description;
        let first = description.split(". ").next().unwrap();
        assert!((20..70).contains(&first.len()), "a line of `config list`: {name}: {first}");
        let as_file = load(&configs().join(format!("{name}.json")), &Overrides::default()).unwrap();
        assert_eq!(as_file, recipe(name), "{name}");
    }
}

#[test]
fn a_config_states_what_differs_from_the_one_it_extends() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    };
    write(
        "base.json",
        r#"{"extends": "cpu-10min", "description": "base", "measured": {"time": "1 s"},
        "pretrain": {"optimizer": {"kind": "sgd"}}, "finetune": {"hidden": [7, 8]}}"#,
    );
    let path = write(
        "deep/own.json",
        r#"{"extends": "../base.json",
        "pretrain": {"optimizer": {"learning_rate": 0.5}, "sizes": []}, "finetune": {"optimizer": {"weight_decay": 0.1}}}"#,
    );
    let document = Document::named(&path).unwrap();
    assert_eq!(document.measured, Measured::default());
    let config = document.config(&Overrides::default()).unwrap();
    let ten = recipe("cpu-10min");
    let sgd =
        json!({"kind": "sgd", "learning_rate": 0.5, "momentum": 0.9, "nesterov": true, "weight_decay": 5e-4});
    assert_eq!(json!(config.pretrain.optimizer), sgd, "a section of another kind takes nothing over");
    assert_eq!((config.description.as_str(), config.finetune.hidden), ("", Some(vec![7, 8])));
    assert!(config.pretrain.sizes.is_empty());
    let decay = json!(config.finetune.optimizer);
    assert_eq!((&decay["weight_decay"], &decay["kind"]), (&json!(0.1), &json!("adamw")));
    assert_eq!((config.encoder, config.extract, config.seed), (ten.encoder, ten.extract, ten.seed));

    let problem = |path: &Path| {
        let config = Document::named(path).and_then(|document| document.config(&Overrides::default()));
        config.unwrap_err().to_string().replace(folder.path().to_str().unwrap(), "DIR")
    };
    write("base.json", r#"{"pretrain": {"epoch": 3}}"#);
    let wrong = "DIR/deep/../base.json: pretrain.epoch: no such key (did you mean `pretrain.epochs`?)";
    assert_eq!(problem(&path), wrong, "named by the file that it stands in");
    write("base.json", r#"{"extends": "./deep/own.json"}"#);
    assert_eq!(
        problem(&path),
        "DIR/deep/../base.json: extends: `./deep/own.json` extends this config in turn"
    );
    write("base.json", r#"{"extends": "base.json"}"#);
    assert_eq!(problem(&path), "DIR/deep/../base.json: extends: `base.json` extends this config in turn");
    write("base.json", r#"{"extends": "cpu-1min"}"#);
    let unknown = "there is no recipe or file `cpu-1min` (did you mean `cpu-10min`?)";
    assert_eq!(problem(&path), format!("DIR/deep/../base.json: extends: {unknown}"));
    let text = resolve(r#"{"extends": "./x.json"}"#, "text", &Overrides::default()).unwrap_err().to_string();
    assert_eq!(text, "text: extends: `./x.json` is a file, but only a file can extend one");
    let preface =
        resolve(r#"{"measured": {"tim": ""}}"#, "text", &Overrides::default()).unwrap_err().to_string();
    assert_eq!(preface, "text: measured.tim: no such key (did you mean `measured.time`?)");
}

#[test]
fn a_name_is_a_file_that_is_there_or_else_a_recipe() {
    assert_eq!(run_name("cpu-10min".as_ref()).unwrap(), "cpu-10min");
    assert_eq!(run_name(&configs().join("compact.json")).unwrap(), "compact");
    assert_eq!(renamed("seed".as_ref()), Some("keras"));
    assert_eq!(renamed("configs/seed-scaled.json".as_ref()), Some("keras-scaled"));
    assert_eq!((renamed("keras".as_ref()), renamed("else/seed.json".as_ref())), (None, None));
    assert_eq!(recipe("configs/seed.json"), recipe("keras"));
    let refused = |name: &str| match Document::named(name.as_ref()).unwrap_err() {
        Error::Usage { problem, hint } => format!("{problem}; {hint}"),
        other => other.to_string(),
    };
    assert!(
        refused("compct").starts_with(
            "there is no recipe or file `compct` (did you mean `compact`?); `rotnet config list`"
        )
    );
    assert!(
        refused("nowhere/compact.json").ends_with("the recipe of that name is compiled in: --config compact")
    );
    assert!(refused("nowhere/x.json").starts_with("cannot read nowhere/x.json"));
}

#[test]
fn the_schema_in_the_folder_is_current() {
    let written = fs::read_to_string(configs().join("schema.json")).unwrap();
    let current = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    assert!(written == current, "rewrite it: rotnet config schema > configs/schema.json");
}

/// The part of the schema that holds for a kind of a section.
fn of_kind(section: &str, kind: &str) -> Value {
    let schema = schema();
    let all = find(&schema, section).unwrap()["allOf"].as_array().unwrap();
    let of = |condition: &&Value| condition["if"]["properties"]["kind"]["const"] == kind;
    all.iter().find(of).unwrap()["then"]["properties"].clone()
}

#[test]
fn the_schema_knows_the_keys_of_each_kind_and_their_defaults() {
    let sgd = of_kind("pretrain.optimizer", "sgd");
    assert_eq!((&sgd["beta_1"], &sgd["learning_rate"]["default"]), (&json!(false), &json!(0.1)));
    assert_eq!(of_kind("pretrain.schedule", "steps")["end"], false);
    assert_eq!(of_kind("pretrain.schedule", "one-cycle")["start"]["default"], 0.04);
    let nin = of_kind("encoder", "rotnet-nin");
    assert_eq!(
        (&nin["widths"], &nin["whiten"], &nin["blocks"]["default"]),
        (&json!(false), &json!(false), &json!(4))
    );
    let [cifar, folder] = ["cifar10", "folder"].map(|kind| of_kind("data", kind));
    assert_eq!((&cifar["image_size"], &folder["image_size"]), (&json!(false), &Value::Null));
    assert_eq!((&cifar["strict"], &folder["coarse_labels"]), (&json!(false), &json!(false)));
    let schema = schema();
    let default = |key: &str| &find(&schema, key).unwrap()["default"];
    assert_eq!((default("devices"), default("pretrain.probe.layers")), (&json!([]), &json!([])));
    assert!(schema["$defs"]["FinetuneConfig"]["properties"]["clip_norm"].get("default").is_some());
}

#[test]
fn a_config_in_full_has_every_key_and_reads_back_as_itself() {
    for config in RECIPES.iter().map(|one| recipe(one.name)).chain([Config::default()]) {
        let full = config.in_full();
        let again = resolve(&full.to_string(), "full", &Overrides::default()).unwrap();
        assert_eq!(again.in_full(), full);
        for key in [
            "threads",
            "evaluate.heads",
            "save.every_minutes",
            "data.image_size",
            "pretrain.keep_by",
            "extract.views",
        ] {
            let has = full.pointer(&format!("/{}", key.replace('.', "/"))).is_some();
            assert!(has || key == "data.image_size", "{key}: {full}");
        }
        let same = Config { encoder: config.encoder.with_defaults(), ..config.clone() };
        let hidden = Some(config.finetune.hidden_widths());
        assert_eq!(again, Config { finetune: FinetuneConfig { hidden, ..config.finetune }, ..same });
    }
    assert_eq!(recipe("rotnet-paper").in_full()["encoder"], json!({"kind": "rotnet-nin", "blocks": 4}));
}

/// Every key that is not a section, with its schema; keys of the sections in a list have `[]` in front.
fn leaves(schema: &Value, key: &str, found: &mut BTreeMap<String, Value>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        let inner = follow(types(), property);
        let items = follow(types(), &inner["items"]);
        if inner["properties"].is_object() {
            if !key.contains("others.others") {
                leaves(inner, &key, found);
            }
        } else if items["properties"].is_object() {
            leaves(items, &format!("{key}[]"), found);
        } else {
            found.insert(key, inner.clone());
        }
    }
}

/// What is said of a value of a key, where everything else allows for it.
fn answer(key: &str, value: Value) -> Option<String> {
    let mut overrides = Overrides::default();
    let around = [
        ("encoder.kind", json!("compact")),
        ("data.validation_images", json!(100)),
        ("finetune.mode", json!(if key.starts_with("finetune.joint.") { "joint" } else { "full" })),
    ];
    around.into_iter().for_each(|(key, value)| overrides.set(key, value));
    let section = key.rsplit_once('.').map_or("", |(section, _)| section);
    if let Some(like) = section_like(section) {
        let name = &key[section.len() + 1..];
        let property = &find(types(), like).unwrap()["properties"][name];
        let kind = kinds(like).into_iter().find(|kind| !refuses(like, kind, name, property));
        overrides.set(format!("{section}.kind"), kind.unwrap());
        if section.ends_with(".others") {
            overrides.set(section.replace(".others", ".kind"), "muon");
        }
    }
    match key.split_once("[].") {
        Some((list, name)) => {
            let mut item = json!({"until": 0.4, "size": 24});
            item[name] = value;
            overrides.set(list, json!([item]));
        }
        None => overrides.set(key, value),
    }
    resolve("{}", "ranges", &overrides).err().map(|error| error.to_string())
}

/// Values at the bounds of a number, and values beyond them.
fn around(schema: &Value) -> (Vec<Value>, Vec<Value>) {
    let whole = is_of(schema, "integer");
    let number = |value: f64| if whole { json!(value as i64) } else { json!(value) };
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for (bound, away, closed) in [
        ("minimum", -1.0, true),
        ("maximum", 1.0, true),
        ("exclusiveMinimum", -1.0, false),
        ("exclusiveMaximum", 1.0, false),
    ] {
        let Some(value) = schema[bound].as_f64() else { continue };
        let next = if whole { 1.0 } else { 1e-6 * value.abs().max(1.0) };
        inside.push(number(if closed { value } else { value - away * next }));
        outside.push(number(if closed { value + away * next } else { value }));
    }
    (inside, outside)
}

#[test]
fn the_ranges_of_the_schema_are_those_that_are_checked() {
    let mut keys = BTreeMap::new();
    leaves(types(), "", &mut keys);
    let check = |key: &str, value: Value, fits: bool| {
        let answer = answer(key, value.clone());
        let place = key.replace("[]", "[0]");
        let refused = answer.as_ref().is_some_and(|text| text.starts_with(&place));
        assert_eq!(refused, !fits, "{key}={value}: {answer:?}");
    };
    let mut unbounded = Vec::new();
    for (key, schema) in &keys {
        let list = is_of(schema, "array");
        let of = if list { follow(types(), &schema["items"]) } else { schema };
        let numeric = is_of(of, "integer") || is_of(of, "number");
        if numeric && ["maximum", "exclusiveMaximum"].iter().all(|bound| of[*bound].is_null()) {
            unbounded.push(key.as_str());
        }
        let (inside, outside) = if numeric { around(of) } else { Default::default() };
        for (values, fits) in [(inside, true), (outside, false)] {
            for value in values {
                check(key, if list { json!([value]) } else { value }, fits);
            }
        }
        let item = || {
            if numeric {
                around(of).0.pop().unwrap()
            } else if is_of(of, "boolean") {
                json!(false)
            } else {
                json!("flex")
            }
        };
        if let Some(most) = schema["maxItems"].as_u64() {
            check(key, (0..=most).map(|_| item()).collect(), false);
        }
        if schema["minItems"] == 1 {
            check(key, json!([]), false);
        }
    }
    // Counts that a data set bounds, and numbers that are none.
    let free = [
        "data.label_draw",
        "data.labels_per_class",
        "data.train_images",
        "data.validation_images",
        "evaluate.labels_per_class",
        "evaluate.train_images",
        "evaluate.validation_images",
        "finetune.clip_norm",
        "pretrain.clip_norm",
        "pretrain.probe.ridge",
        "save.every_steps",
        "seed",
    ];
    assert_eq!(unbounded, free);
    assert!(keys.len() > 90, "{}", keys.len());
}
