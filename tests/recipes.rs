//! Recipes by name, configs that extend others, and the commands that show them.

use std::fs;

use serde_json::Value;

use crate::support::Folder;

const TINY: &str = r#"{"extends": "keras-scaled", "data": {"kind": "scenes", "train_images": 40},
    "pretrain": {"epochs": 1}, "finetune": {"epochs": 1}}"#;

#[test]
fn recipes_are_there_in_any_folder_and_each_has_a_run_of_its_own() {
    let folder = Folder::new();
    fs::write(folder.path("tiny.json"), TINY).unwrap();
    folder.succeed("run --config tiny.json --quiet");
    let config = folder.json("runs/tiny/pretrain/config.json");
    assert_eq!((&config["data"]["kind"], &config["pretrain"]["batch_size"]), (&"scenes".into(), &32.into()));
    assert!(config.get("extends").is_none(), "{config}");
    let short = "--set pretrain.epochs=0 --set data.kind=scenes --set data.train_images=40 --quiet";
    folder.succeed(&format!("pretrain --config keras {short}"));
    folder.succeed(&format!("pretrain --config keras-scaled {short}"));
    folder.succeed("extract --config keras --set data.kind=scenes --set data.train_images=40 --quiet");
    assert!(folder.path("runs/keras/features/train.safetensors").exists());
    assert!(!folder.path("runs/keras-scaled/features").exists() && !folder.path("runs/quickstart").exists());
    folder.refuse(
        "run --config kears",
        2,
        &["no recipe or file `kears` (did you mean `keras`?)", "config list"],
    );
}

#[test]
fn a_recipe_by_its_former_name_is_the_present_one_with_a_note() {
    let folder = Folder::new();
    let present = folder.succeed("config show keras");
    assert_eq!(present.stderr, "");
    for former in ["config show seed", "config show --config configs/seed.json"] {
        let outcome = folder.succeed(former);
        assert_eq!(outcome.stdout, present.stdout, "{former}");
        assert!(
            outcome.stderr.starts_with("note: ") && outcome.stderr.contains("keras"),
            "{}",
            outcome.stderr
        );
    }
    let kind = folder.succeed("config show keras --set encoder.kind=seed").stdout;
    assert_eq!(kind, present.stdout);
}

#[test]
fn the_list_shows_what_was_measured_and_the_schema_is_the_file() {
    let folder = Folder::new();
    let list = folder.succeed("config list").stdout;
    let line = list.lines().find(|line| line.trim_start().starts_with("cpu-10min ")).unwrap();
    let recipes: Vec<Value> = serde_json::from_str(&folder.succeed("config list --json").stdout).unwrap();
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/configs/cpu-10min.json")).unwrap();
    let measured = serde_json::from_str::<Value>(&text).unwrap()["measured"].clone();
    let shown = |key: &str| line.contains(measured[key].as_str().unwrap());
    assert!(shown("time") && shown("accuracy"), "{line}");
    let paper = recipes.iter().find(|one| one["name"] == "rotnet-paper").unwrap();
    assert_eq!(paper["measured"], serde_json::json!({}));
    let schema = folder.succeed("config schema").stdout;
    let file = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/configs/schema.json")).unwrap();
    assert!(schema == file);
    let former = folder.succeed("config --schema");
    assert!(former.stdout == schema && former.stderr.starts_with("note: "), "{}", former.stderr);
}

#[test]
fn a_config_that_is_shown_has_every_key_and_can_be_used() {
    let folder = Folder::new();
    let shown = folder.succeed("config show cpu-10min --set finetune.hidden=512,256 --seed 5").stdout;
    fs::write(folder.path("c.json"), &shown).unwrap();
    assert_eq!(folder.succeed("config show c.json").stdout, shown);
    let config: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(config["finetune"]["hidden"], serde_json::json!([512, 256]));
    assert_eq!((&config["seed"], &config["threads"]), (&5.into(), &Value::Null));
    let former = folder.succeed("config --set pretrain.epochs=7");
    assert!(former.stdout.contains(r#""epochs": 7"#) && former.stderr.contains("config show"));
    folder.refuse(
        "config show cpu-10min --set finetune.hiden=3",
        2,
        &["--set finetune.hiden", "`finetune.hidden`"],
    );
}
