//! The pages of docs/reference that are written by hand name every environment variable, and every file that a run leaves.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::Folder;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(name);
    fs::read_to_string(path).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn every_environment_variable_is_on_its_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    for path in ["src", "tests", "scripts", "python"].iter().flat_map(|folder| files(&root.join(folder))) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for rest in text.split("ROTNET_").skip(1) {
            let name =
                rest.split(|letter: char| !letter.is_ascii_uppercase() && letter != '_').next().unwrap();
            found.insert(format!("ROTNET_{name}"));
        }
    }
    found.remove("ROTNET_");
    assert!(found.len() >= 10, "{found:?}");
    let page = page("environment.md");
    for name in found {
        assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/reference/environment.md");
    }
}

#[test]
fn every_file_of_a_run_is_on_its_page() {
    let folder = Folder::with_data();
    let data = "--data data --set data.kind=cifar10 --set data.validation_images=10";
    folder.succeed(&format!(
        "run {data} --set pretrain.epochs=1 --set pretrain.keep=best --set finetune.epochs=1 --tensorboard --out a"
    ));
    folder.succeed(
        "evaluate a --set evaluate.heads=ridge --set evaluate.epochs=1 --set evaluate.labels_per_class=2 \
         --set evaluate.most_epochs=1",
    );
    folder.succeed("report a");
    folder.succeed("export a --what encoder,classifier,rotation,features --format safetensors,onnx,npy,csv");
    folder.succeed(
        "finetune --out a --force --set data.labels_per_class=2 --set finetune.mode=full --set finetune.epochs=1 \
         --set finetune.self_training={\"rounds\":[1],\"steps\":2}",
    );
    let page = page("files.md");
    let mut formats = BTreeSet::new();
    for path in files(&folder.path("a")) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(page.contains(&name), "{path:?} is not in docs/reference/files.md");
        if name.ends_with(".safetensors") && !path.parent().unwrap().ends_with("export") {
            let bytes = fs::read(&path).unwrap();
            let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
            let ours = &metadata.metadata().as_ref().unwrap()["rotnet"];
            let ours: Value = serde_json::from_str(ours).unwrap();
            formats.insert(format!("`{}` {}", ours["format"].as_str().unwrap(), ours["version"]));
        }
    }
    assert_eq!(formats.len(), 3, "{formats:?}");
    for format in formats {
        assert!(page.contains(&format), "{format} is not in docs/reference/files.md");
    }
}
