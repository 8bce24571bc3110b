//! Whether a finished result is whole, and was made with what is recorded beside it.

use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// What is wrong with the finished result in `directory`.
pub fn check(directory: &Path) -> Result<(), String> {
    let wrong = |problem: String| format!("{}: {problem}", directory.display());
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let summary = json(&directory.join("summary.json"))?;
    match name.as_ref() {
        "pretrain" | "finetune" => trained(directory, &name, &summary).map_err(wrong),
        "features" => extracted(directory, &summary).map_err(wrong),
        _ => Ok(()),
    }
}

fn trained(directory: &Path, stage: &str, summary: &Value) -> Result<(), String> {
    let best = directory.join("best.safetensors");
    let path = if best.exists() { best } else { directory.join("checkpoint.safetensors") };
    same("digest of the checkpoint", &summary["checkpoint"], &digest(&path)?.into())?;
    let header = header(&path)?;
    same("data set", &header["dataset"], &summary["dataset"])?;
    let config = json(&directory.join("config.json"))?;
    let recipe = &header["recipe"];
    same("seed of config and checkpoint", &config["seed"], &recipe["seed"])?;
    let mut data = config["data"].clone();
    for place in ["directory", "cache"] {
        data.as_object_mut().ok_or("config without data")?.remove(place);
    }
    let mut recorded = recipe["data"].clone();
    for document in [&mut data, &mut recorded] {
        document.as_object_mut().ok_or("no section data")?.remove("strict");
    }
    same("data of config and checkpoint", &data, &recorded)?;
    let [mut asked, mut made] = [config[stage].clone(), recipe["stage"].clone()];
    // Without a schedule that depends on them, epochs are no part of the recipe.
    for section in [&mut asked, &mut made] {
        section.as_object_mut().ok_or("no section of the stage")?.remove("epochs");
    }
    same("section of config and checkpoint", &asked, &made)?;
    same("epochs of checkpoint and summary", &header["epochs"], &summary["epochs"])?;
    if stage == "pretrain" {
        same("encoder of config and checkpoint", &config["encoder"], &header["encoder"])?;
    }
    Ok(())
}

fn extracted(directory: &Path, summary: &Value) -> Result<(), String> {
    let manifest = json(&directory.join("manifest.json"))?;
    for part in ["train", "test"] {
        let found = digest(&directory.join(format!("{part}.safetensors")))?;
        same(&format!("digest of the {part} features"), &manifest[format!("{part}_digest")], &found.into())?;
    }
    same("checkpoint of manifest and summary", &manifest["origin"]["checkpoint"], &summary["checkpoint"])?;
    same("data set of manifest and summary", &manifest["origin"]["dataset"], &summary["dataset"])?;
    let config = json(&directory.join("config.json"))?;
    let layers = config["extract"]["layers"].as_array().map_or(0, Vec::len);
    let layer = summary["layer"].as_str().unwrap_or_default();
    match layers > 0 && !layer.starts_with(config["extract"]["layers"][0].as_str().unwrap_or("?")) {
        true => Err(format!("features are of {layer}, the config says {}", config["extract"])),
        false => Ok(()),
    }
}

fn same(what: &str, one: &Value, two: &Value) -> Result<(), String> {
    match one == two && !one.is_null() {
        true => Ok(()),
        false => Err(format!("{what}: {one} and {two}")),
    }
}

fn json(path: &Path) -> Result<Value, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

fn digest(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The header of a checkpoint.
fn header(path: &Path) -> Result<Value, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let parse = || {
        let length = u64::from_le_bytes(*bytes.first_chunk::<8>()?) as usize;
        let document: Value = serde_json::from_slice(bytes.get(8..8 + length)?).ok()?;
        let envelope: Value = serde_json::from_str(document["__metadata__"]["rotnet"].as_str()?).ok()?;
        Some(envelope["header"].clone())
    };
    parse().ok_or_else(|| format!("{}: no checkpoint", path.display()))
}
