//! Help, config and output streams.

use serde_json::Value;

use crate::pipeline::SHORT;
use crate::support::Folder;

#[test]
fn help_fits_one_screen_and_the_rest_is_behind_help_all() {
    let folder = Folder::new();
    let help = folder.succeed("--help").stdout;
    let fits =
        |help: &str| help.lines().count() <= 40 && help.lines().all(|line| line.chars().count() <= 100);
    assert!(fits(&help), "{help}");
    for group in ["Pipeline", "Judge", "Use", "Data"] {
        assert!(help.contains(&format!("\n  {group} ")), "{group} is missing from\n{help}");
    }
    let all = folder.succeed("--help-all").stdout;
    for command in ["run", "pretrain", "extract", "finetune", "data", "bench", "config", "verify"] {
        assert!(all.contains(&format!(" {command} ")), "{command} is missing from\n{all}");
        assert_eq!(help.contains(&format!(" {command} ")), !["bench", "config", "verify"].contains(&command));
        let help = folder.succeed(&format!("{command} --help")).stdout;
        assert!(fits(&help), "{help}");
    }
    let few = folder.succeed("run --help").stdout;
    assert!(few.contains("--data") && !few.contains("--tensorboard"), "{few}");
    assert!(folder.succeed("run --help-all").stdout.contains("--tensorboard"));
}

#[test]
fn every_sweep_of_the_repository_can_be_planned() {
    let folder = Folder::new();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/configs/sweeps")).unwrap() {
        let path = entry.unwrap().path();
        let script = format!(
            "cd '{}' && \"$ROTNET\" sweep '{}' --dry-run",
            env!("CARGO_MANIFEST_DIR"),
            path.display()
        );
        let outcome = folder.shell(&script);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        assert!(outcome.stdout.lines().count() > 2, "{}", outcome.stdout);
    }
}

#[test]
fn json_is_one_document_and_quiet_is_quiet() {
    let folder = Folder::with_data();
    let short = "--data data --set data.kind=cifar10 --set pretrain.epochs=1 --set finetune.epochs=1";
    let outcome = folder.succeed(&format!("run {short} --out a --json --quiet"));
    let result: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert!(result["finetune"]["test_accuracy"].is_number());
    assert_eq!(outcome.stderr, "");

    let outcome = folder.succeed(&format!("run {short} --out b"));
    assert!(outcome.stderr.contains("epoch 1: loss "), "{}", outcome.stderr);
}

#[test]
fn bench_measures_without_writing() {
    let folder = Folder::new();
    let outcome = folder.succeed("bench --json --repeats 1 --seconds 0.05 --profile");
    let result: Value = serde_json::from_str(&outcome.stdout).unwrap();
    for kind in ["train", "extract", "input"] {
        assert!(result[kind]["images_per_second"]["median"].as_f64().unwrap() > 0.0);
    }
    assert!(result["profile"].as_array().unwrap().len() >= 8);
    assert_eq!(std::fs::read_dir(folder.path("")).unwrap().count(), 0);
}

#[test]
fn shells_and_man_know_every_command() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = folder.succeed(&format!("completions {shell}")).stdout;
        assert!(script.contains("pretrain") && script.contains("tensorboard"), "{shell}");
    }
    assert_eq!(folder.rotnet("completions csh").code, 2);
    folder.succeed("man --out pages");
    for page in ["rotnet.1", "rotnet-pretrain.1", "rotnet-data-fetch.1"] {
        assert!(!folder.read(&format!("pages/{page}")).is_empty());
    }
    let syntax = folder.shell("$ROTNET completions bash > c.bash && bash -n c.bash");
    assert_eq!(syntax.code, 0, "{}", syntax.stderr);
}

#[test]
fn old_spellings_go_on_working_with_a_note() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a"));
    for (old, new, note) in [
        ("export --run a --to x", "export a --out y", "`rotnet export --run RUN` is now `rotnet export RUN`"),
        (
            "data synth --to s",
            "data synth --out t",
            "`rotnet data synth --to` is now `rotnet data synth --out`",
        ),
        ("reproduce a", "verify run a", "`rotnet reproduce` is now `rotnet verify run`"),
        ("man pages", "man --out man", "`rotnet man DIR` is now `rotnet man --out DIR`"),
    ] {
        let outcome = folder.succeed(old);
        assert!(outcome.stderr.starts_with(&format!("note: {note}\n")), "{old}: {}", outcome.stderr);
        let now = folder.succeed(new);
        assert!(!now.stderr.contains("is now"), "{new}: {}", now.stderr);
    }
    assert_eq!(folder.read("x/encoder.safetensors"), folder.read("y/encoder.safetensors"));
    assert!(!folder.succeed("reproduce a --quiet").stderr.contains("note: "));
    assert!(!folder.succeed("verify run --help").stdout.contains("reproduce"));
}
