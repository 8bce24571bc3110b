//! `precision` `bf16`: recorded and shown, kept with the encoder. That it gives one result anywhere is in `golden.rs`.

use crate::pipeline::SHORT;
use crate::support::Folder;

#[test]
fn a_run_in_bf16_says_so_and_goes_on_in_it_alone() {
    let folder = Folder::with_data();
    let half = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=1");
    folder.succeed(&format!("pretrain {SHORT} --precision bf16 --out whole"));
    folder.succeed(&format!("pretrain {half} --precision bf16 --out parts"));
    let resume = format!("pretrain {SHORT} --out parts --resume --threads 1");
    let other = format!("{resume} --precision f32");
    folder.refuse(&other, 1, &["recipe.arithmetic.precision was \"bf16\", is \"f32\""]);
    folder.succeed(&resume);
    folder.succeed(&format!("pretrain {SHORT} --out exact"));
    let checkpoint = |run: &str| folder.read(&format!("{run}/pretrain/checkpoint.safetensors"));
    assert_eq!(checkpoint("whole"), checkpoint("parts"));
    assert_ne!(checkpoint("whole"), checkpoint("exact"));
    assert_eq!(folder.json("whole/run.json")["environment"]["precision"], "bf16");
    assert_eq!(folder.json("exact/run.json")["environment"].get("precision"), None);

    let other = "extract --out whole --quiet --precision f32";
    folder.refuse(other, 2, &["precision", "must be \"bf16\" as in the training of the encoder"]);
    folder.succeed("extract --out whole --quiet");
    folder.succeed("finetune --out whole --quiet");
}

#[test]
fn measurements_say_the_precision_and_other_devices_refuse_it() {
    let folder = Folder::with_data();
    let bench = "bench --seconds 0.02 --repeats 1 --precision bf16 --set encoder.kind=keras";
    let shown = folder.succeed(bench).stdout;
    assert!(shown.lines().next().unwrap().contains(" kernels in bf16,"), "{shown}");
    folder.refuse(&format!("{bench} --burn-operations"), 2, &["burn's operations", "--precision f32"]);
    let shown = folder.succeed(&format!("pretrain {SHORT} --precision bf16 --dry-run --out none")).stdout;
    assert!(shown.contains(" kernels in bf16,"), "{shown}");
    let patches =
        "config show quickstart --precision bf16 --set encoder.kind=patches --set pretrain.epochs=0";
    folder.refuse(patches, 2, &["precision", "must be `f32`", "patches"]);
    let remote = "bench --precision bf16 --device ws://localhost:1";
    folder.refuse(remote, 2, &["precision", "must be `f32` on device ws://localhost:1"]);
}
