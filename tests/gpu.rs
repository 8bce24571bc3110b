//! Graphics cards, on Mesa's software renderer (`apt-get install mesa-vulkan-drivers`), and without any driver.

use crate::devices::{PRETRAIN, losses};
use crate::support::Folder;

const SOFTWARE: &str = "wgpu:cpu";
/// What flex and a graphics card may differ by after a few steps: their sums are added in other orders, and a value
/// that rounding takes across the kink of its ReLU lets through another gradient.
const TOLERANCE: f64 = 1e-3;
/// No driver for Vulkan's loader to find, and none for OpenGL's; a folder for its windows, or it complains on stderr.
const NO_DRIVER: &str =
    "VK_DRIVER_FILES=none VK_ICD_FILENAMES=none __EGL_VENDOR_LIBRARY_FILENAMES=none XDG_RUNTIME_DIR=.";

#[test]
fn one_step_on_the_software_renderer_agrees_with_flex() {
    let folder = Folder::new();
    folder.succeed(&format!("verify device {SOFTWARE} --config keras-scaled --set pretrain.batch_size=8"));
    folder
        .succeed(&format!("verify device {SOFTWARE} --set encoder.kind=compact --set pretrain.batch_size=8"));
}

#[test]
fn the_first_epochs_on_the_software_renderer_are_those_on_flex_and_all_stages_run_there() {
    let folder = Folder::with_data();
    folder.succeed(&format!("{PRETRAIN} --out flex"));
    folder.succeed(&format!("{PRETRAIN} --out there --device {SOFTWARE}"));
    let [flex, there] = ["flex", "there"].map(|run| losses(&folder, run));
    assert_eq!(flex.len(), there.len());
    assert!(flex.iter().zip(&there).all(|(a, b)| (a - b).abs() < TOLERANCE), "{flex:?} and {there:?}");

    let short = crate::pipeline::SHORT;
    let outcome = folder.succeed(&format!("run {short} --out all --device {SOFTWARE}"));
    assert!(outcome.stdout.contains("Test accuracy: 0."), "{}", outcome.stdout);
    assert_eq!(folder.json("all/run.json")["environment"]["device"], SOFTWARE);
}

#[test]
fn without_a_driver_the_cards_are_refused_in_one_line_and_flex_trains_and_resumes() {
    let folder = Folder::with_data();
    let rotnet = |arguments: &str| folder.shell(&format!("{NO_DRIVER} $ROTNET {arguments}"));
    for device in ["wgpu", "wgpu:0", SOFTWARE] {
        let outcome = rotnet(&format!("{PRETRAIN} --out a --device {device}"));
        assert_eq!((outcome.code, outcome.stderr.lines().count()), (1, 1), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("rotnet devices"), "{}", outcome.stderr);
    }
    let listed = rotnet("devices").stdout;
    assert!(listed.lines().any(|line| line.starts_with("wgpu") && line.contains("no driver")), "{listed}");

    assert_eq!(rotnet(&format!("{PRETRAIN} --out whole")).code, 0);
    assert_eq!(rotnet(&format!("{PRETRAIN} --out cut --set pretrain.epochs=1")).code, 0);
    let resumed = rotnet(&format!("{PRETRAIN} --out cut --resume"));
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert_eq!(losses(&folder, "whole"), losses(&folder, "cut"));
}

#[test]
fn a_run_of_flex_goes_on_on_the_software_renderer_and_back() {
    let folder = Folder::with_data();
    folder.succeed(&format!("{PRETRAIN} --out whole --set pretrain.epochs=3"));
    folder.succeed(&format!("{PRETRAIN} --out moved --set pretrain.epochs=1"));
    folder.succeed(&format!("{PRETRAIN} --out moved --set pretrain.epochs=2 --resume --device {SOFTWARE}"));
    folder.succeed(&format!("{PRETRAIN} --out moved --set pretrain.epochs=3 --resume"));
    let [whole, moved] = ["whole", "moved"].map(|run| losses(&folder, run));
    assert_eq!(whole.len(), moved.len());
    assert!(whole.iter().zip(&moved).all(|(a, b)| (a - b).abs() < TOLERANCE), "{whole:?} and {moved:?}");
}
