//! Help, config and output streams.

use serde_json::Value;

use crate::support::Folder;

#[test]
fn help_fits_one_screen_and_every_command_has_an_example_or_options() {
    let folder = Folder::new();
    let help = folder.succeed("--help").stdout;
    assert!(help.lines().count() <= 40 && help.lines().all(|line| line.chars().count() <= 100), "{help}");
    for group in ["Pipeline", "Judge", "Use", "Data", "Machine"] {
        assert!(help.contains(&format!("\n  {group} ")), "{group} is missing from\n{help}");
    }
    for command in ["run", "pretrain", "extract", "finetune", "data", "bench", "config"] {
        assert!(help.contains(command), "{command} is missing from\n{help}");
        assert!(!folder.succeed(&format!("{command} --help")).stdout.is_empty());
    }
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
    folder.succeed("man pages");
    for page in ["rotnet.1", "rotnet-pretrain.1", "rotnet-data-fetch.1"] {
        assert!(!folder.read(&format!("pages/{page}")).is_empty());
    }
    let syntax = folder.shell("$ROTNET completions bash > c.bash && bash -n c.bash");
    assert_eq!(syntax.code, 0, "{}", syntax.stderr);
}
