//! Processes that `mpirun` started share the work of a run: they leave the bytes of one process, through kills and with
//! another number of them, and what is wrong with one of them ends all. `ROTNET_KILLS=50` for the long form.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::{Folder, Outcome, Running, assert_same_results};

/// Kills in continuous integration.
const KILLS: u32 = 4;

const KERAS: &str = "run --data data --seed 3 --quiet --set data.kind=cifar10 --set pretrain.epochs=2 \
                     --set pretrain.batch_size=32 --set finetune.epochs=2 --set finetune.batch_size=8 \
                     --set save.every_steps=1 --set data.validation_images=10 --set pretrain.keep=best";
/// Everything that is summed or chosen over a batch or an epoch, and training from end to end on images.
const COMPACT: &str = "run --config compact --data data --seed 3 --quiet --set data.kind=cifar10 \
                       --set data.validation_images=10 --set encoder.widths=[8,16] --set encoder.pools=[true,true] \
                       --set extract.layers=[\"block2\"] --set extract.batch_size=7 --set pretrain.epochs=3 \
                       --set pretrain.batch_size=10 --set pretrain.weight_average=0.9 --set pretrain.keep=best \
                       --set pretrain.optimizer.kind=muon --set pretrain.optimizer.learning_rate=0.02 \
                       --set pretrain.clip_norm=1 --set pretrain.sizes=[{\"size\":16,\"until\":0.5}] \
                       --set save.every_steps=1 --set finetune.mode=full --set finetune.epochs=2 \
                       --set finetune.batch_size=32 --set extract.views=1";
/// The paper's network.
const NIN: &str = "run --data data --seed 3 --quiet --set data.kind=cifar10 --set data.train_images=16 \
                   --set encoder.kind=rotnet-nin --set encoder.blocks=3 --set extract.layers=[\"block2\"] \
                   --set extract.pool=2x2 --set pretrain.epochs=1 --set pretrain.batch_size=16 \
                   --set pretrain.optimizer={\"kind\":\"sgd\",\"learning_rate\":0.01,\"momentum\":0.9} \
                   --set finetune.epochs=1 --set finetune.batch_size=8";
/// What is added: gradients over several views of an image are not those of shares of a batch, so each process makes all steps.
const VIEWS: &str = " --set extract.views=4+flip --set pretrain.epochs=1";

/// Several networks, with labels that the first process gives in between.
const TAUGHT: &str = " --set pretrain.epochs=1 --set finetune.mode=joint --set finetune.batch_size=4 \
                      --set finetune.joint.unlabeled=2 --set data.labels_per_class=2 \
                      --set finetune.self_training.rounds=[1,2] --set finetune.self_training.steps=4 \
                      --set finetune.self_training.neighbours=3 --set finetune.self_training.joining=2";

/// A command of so many processes, for any MPI; `None` where there is none.
fn mpirun(program: &[&str], processes: usize) -> Option<Command> {
    let mut command = Command::new("mpirun");
    // For Open MPI: as root, without ssh, on fewer processors than processes.
    for (name, value) in [
        ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
        ("OMPI_MCA_plm", "isolated"),
        ("OMPI_MCA_hwloc_base_binding_policy", "none"),
        ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
        ("OMPI_MCA_mpi_yield_when_idle", "1"),
        ("RAYON_NUM_THREADS", "1"),
    ] {
        command.env(name, value);
    }
    let there = Command::new("mpirun").arg("--version").output().is_ok();
    if !there {
        println!("not tested: there is no mpirun here");
        return None;
    }
    command.args(["-n", &processes.to_string()]).args(program);
    Some(command)
}

fn start(folder: &Folder, processes: usize, arguments: &str) -> Option<Running> {
    let mut command = mpirun(&[env!("CARGO_BIN_EXE_rotnet")], processes)?;
    command.args(arguments.split_whitespace());
    Some(folder.spawn(&mut command))
}

fn run(folder: &Folder, processes: usize, arguments: &str) -> Option<Outcome> {
    Some(start(folder, processes, arguments)?.finish())
}

/// The one line of error in what several processes wrote.
fn error(outcome: &Outcome) -> &str {
    let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains("error: ")).collect();
    let [line] = lines[..] else { panic!("one line of error, got\n{}", outcome.stderr) };
    line
}

#[test]
fn any_number_of_processes_leaves_the_bytes_of_one() {
    let folder = Folder::with_data();
    let views = COMPACT.to_owned() + VIEWS;
    let bf16 = COMPACT.to_owned() + " --precision bf16";
    let wide = KERAS.replace("pretrain.batch_size=32", "pretrain.batch_size=64");
    let recipes: [(_, _, &[usize]); 6] = [
        ("keras", KERAS, &[2, 3, 4]),
        ("wide", &wide, &[8]),
        ("compact", COMPACT, &[2, 3, 4]),
        ("views", &views, &[2]),
        ("bf16", &bf16, &[2, 3]),
        ("nin", NIN, &[2]),
    ];
    for (name, recipe, numbers) in recipes {
        folder.succeed(&format!("{recipe} --out {name}"));
        for &processes in numbers {
            let shared = format!("{name}-{processes}");
            let Some(outcome) = run(&folder, processes, &format!("{recipe} --out {shared}")) else { return };
            assert_eq!(outcome.code, 0, "{shared}\n{}", outcome.stderr);
            assert_eq!(outcome.stdout.matches("pretrain: ").count(), 1, "{}", outcome.stdout);
            assert_same_results(&folder, name, &shared);
        }
    }
    // One stage after the other, by other numbers of processes.
    let (_, options) = KERAS.split_at("run".len());
    for (stage, processes) in [("pretrain", 4), ("extract", 3), ("finetune", 2)] {
        let outcome = run(&folder, processes, &format!("{stage} {options} --out stages")).unwrap();
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    }
    assert_same_results(&folder, "keras", "stages");
}

#[test]
fn self_training_of_several_processes_goes_on_with_another_number_of_them() {
    let folder = Folder::with_data();
    let run_of =
        |processes: usize, out: &str| run(&folder, processes, &format!("{COMPACT}{TAUGHT} --out {out}"));
    folder.succeed(&format!("{COMPACT}{TAUGHT} --out one"));
    for (out, processes) in [("two", 2), ("three", 3)] {
        let Some(outcome) = run_of(processes, out) else { return };
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    }
    let command = format!("{COMPACT}{TAUGHT} --out cut");
    let mut running = start(&folder, 3, &command).unwrap();
    running.wait_for(&folder.path("cut/finetune/rounds/1/finetune/checkpoint.safetensors"));
    running.signal("USR1");
    running.finish();
    let outcome = run(&folder, 2, &format!("{command} --resume")).unwrap();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    for out in ["two", "three", "cut"] {
        assert_same_results(&folder, "one", out);
        for file in [
            "pseudo-labels-1.csv",
            "pseudo-labels-2.csv",
            "rounds/0/finetune/checkpoint.safetensors",
            "rounds/1/finetune/checkpoint.safetensors",
        ] {
            let read = |run: &str| folder.read(&format!("{run}/finetune/{file}"));
            assert!(read("one") == read(out), "{out}: {file}");
        }
    }
}

/// The living processes that a launcher started.
fn children(launcher: u32) -> Vec<u32> {
    let launcher = launcher.to_string();
    let output = Command::new("ps").args(["-o", "pid=,stat=", "--ppid", &launcher]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter_map(|line| line.trim().split_once(' '));
    lines.filter(|(_, state)| !state.trim().starts_with('Z')).map(|(id, _)| id.parse().unwrap()).collect()
}

/// Waits for the end of a launcher of whose ranks one was killed. Open MPI 4.1.4's own process can be left waiting for itself
/// when a rank dies while it starts, with all ranks gone; then it is ended from here.
fn all_end(running: &mut Running) {
    let start = Instant::now();
    while !running.ends_within(Duration::from_secs(1)) {
        if start.elapsed() > Duration::from_secs(20) && children(running.id()).is_empty() {
            println!("mpirun was left waiting for itself");
            return running.signal("KILL");
        }
        assert!(start.elapsed() < Duration::from_secs(60), "the others went on");
    }
}

#[test]
fn a_killed_process_ends_all_and_another_number_of_them_goes_on() {
    let folder = Folder::with_data();
    let wanted = std::env::var("ROTNET_KILLS").map_or(KILLS, |count| count.parse().unwrap());
    let mut random =
        ChaCha8Rng::seed_from_u64(Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id()));
    folder.succeed(&format!("{COMPACT} --out whole"));
    let begun = Instant::now();
    let Some(_) = run(&folder, 2, &format!("{COMPACT} --out timed")) else { return };
    let duration = begun.elapsed();
    let (mut kills, mut runs) = (0, 0);
    while kills < wanted {
        runs += 1;
        let name = format!("run{runs}");
        loop {
            let processes = 1 + random.next_u32() as usize % 4;
            let mut running = start(&folder, processes, &format!("{COMPACT} --out {name} --resume")).unwrap();
            let limit = match kills < wanted {
                true => duration.mul_f64(f64::from(random.next_u32()) / f64::from(u32::MAX)),
                false => Duration::from_secs(600),
            };
            if running.ends_within(limit) {
                let outcome = running.finish();
                assert_eq!(outcome.code, 0, "{}", outcome.stderr);
                break;
            }
            let ranks = children(running.id());
            if let Some(rank) = ranks.get(random.next_u32() as usize % ranks.len().max(1)) {
                let _ = Command::new("kill").args(["-s", "KILL", &rank.to_string()]).status();
            }
            all_end(&mut running);
            running.finish();
            kills += 1;
        }
        assert_same_results(&folder, "whole", &name);
    }
    println!("{kills} kills in {runs} runs");
}

#[test]
fn signals_stop_all_processes_after_the_same_step() {
    let folder = Folder::with_data();
    let long = KERAS.replace("pretrain.epochs=2", "pretrain.epochs=40");
    folder.succeed(&format!("{long} --out whole"));
    // mpirun passes SIGUSR1 on; it ends by itself, with status 1, once SIGTERM has ended the others.
    for (signal, code, name) in [("USR1", 138, "usr1"), ("TERM", 1, "term")] {
        let Some(mut running) = start(&folder, 3, &format!("{long} --out {name}")) else { return };
        running.wait_for(&folder.path(&format!("{name}/pretrain/metrics.jsonl")));
        running.signal(signal);
        let outcome = running.finish();
        assert_eq!(outcome.code, code, "{}", outcome.stderr);
        let stopped = format!("stopped by SIG{signal} after ");
        assert_eq!(outcome.stderr.matches(&stopped).count(), 1, "{}", outcome.stderr);
        let outcome = run(&folder, 2, &format!("{long} --out {name} --resume")).unwrap();
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        assert_same_results(&folder, "whole", name);
    }
}

#[test]
fn what_is_wrong_with_one_process_ends_all_with_one_line() {
    let folder = Folder::with_data();
    let Some(outcome) = run(&folder, 5, &format!("{KERAS} --out a")) else { return };
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    assert!(
        error(&outcome)
            .contains("5 ranks are too many: pretrain.batch_size makes steps of 32 samples, which 4")
    );
    let outcome = run(&folder, 2, &format!("{KERAS} --out a --budget 5s")).unwrap();
    assert!(outcome.code == 2 && error(&outcome).contains("--budget"), "{}", outcome.stderr);
    let outcome = run(&folder, 2, &format!("{KERAS} --out a --devices flex,flex")).unwrap();
    assert!(outcome.code == 2 && error(&outcome).contains("one device `flex` each"), "{}", outcome.stderr);
    assert!(!folder.path("a").exists());

    // As by an `srun` that does not speak MPI's language.
    for (rank, lines) in [("0", 1), ("1", 0)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rotnet"));
        command.args(KERAS.split_whitespace()).args(["--out", "a"]);
        command.env("SLURM_STEP_NUM_TASKS", "2").env("SLURM_PROCID", rank);
        let outcome = folder.spawn(&mut command).finish();
        let told = outcome.stderr.matches("error: started 2 times, but MPI finds 1 of them").count();
        assert_eq!((outcome.code, told), (2, lines), "{}", outcome.stderr);
    }
    assert!(!folder.path("a").exists());

    // The second process is another program, or sees other files under the same names.
    fs::copy(env!("CARGO_BIN_EXE_rotnet"), folder.path("other")).unwrap();
    let mut program = fs::read(folder.path("other")).unwrap();
    program.push(0);
    fs::write(folder.path("other"), program).unwrap();
    fs::create_dir(folder.path("elsewhere")).unwrap();
    folder.write_data("elsewhere/data");
    fs::write(folder.path("config.json"), r#"{"extends": "keras-scaled"}"#).unwrap();
    fs::write(
        folder.path("elsewhere/config.json"),
        r#"{"extends": "keras-scaled", "pretrain": {"clip_norm": 1}}"#,
    )
    .unwrap();
    let here = env!("CARGO_BIN_EXE_rotnet");
    let long = KERAS.replace("run ", "run --config config.json ");
    let differing = |what: &str, second: &str, recipe: &str, prepare: &dyn Fn()| {
        prepare();
        let recipe = format!("{recipe} --out {}", folder.path("a").display());
        let mut command = mpirun(&[here], 1).unwrap();
        command.args(recipe.split_whitespace());
        command.args([":", "-n", "1"]).args(second.split_whitespace()).args(recipe.split_whitespace());
        let outcome = folder.spawn(&mut command).finish();
        assert_eq!(outcome.code, 2, "{what}: {}", outcome.stderr);
        assert!(
            error(&outcome).contains(&format!("rank 1 has another {what} than rank 0")),
            "{}",
            outcome.stderr
        );
        assert!(!folder.path("a").exists(), "{what}");
    };
    let elsewhere = format!("-wdir {} {here}", folder.path("elsewhere").display());
    differing("program", "./other", KERAS, &|| ());
    differing("config", &elsewhere, &long, &|| ());
    differing("data set", &elsewhere, KERAS, &|| {
        let file = folder.path("elsewhere/data/cifar-10-batches-bin/data_batch_1.bin");
        let mut bytes = fs::read(&file).unwrap();
        bytes[100] ^= 1;
        fs::write(&file, bytes).unwrap();
    });
    // Data that only the first process has.
    fs::remove_dir_all(folder.path("elsewhere/data/cifar-10-batches-bin")).unwrap();
    let mut command = mpirun(&[here], 1).unwrap();
    command.args(KERAS.split_whitespace()).args(["--out", "a", ":", "-n", "1"]);
    command.args(elsewhere.split_whitespace()).args(KERAS.split_whitespace()).args(["--out", "a"]);
    let outcome = folder.spawn(&mut command).finish();
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(error(&outcome).starts_with("rank 1: error: "), "{}", outcome.stderr);
    assert!(!folder.path("a").exists());
}

#[test]
fn a_full_disk_of_the_first_process_ends_all() {
    let folder = Folder::with_data();
    let script = format!("trap '' XFSZ; ulimit -f 1200; exec \"$ROTNET\" {KERAS} --out a");
    let Some(mut command) = mpirun(&["sh", "-ec", &script], 2) else { return };
    let outcome = folder.spawn(&mut command).finish();
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(error(&outcome).contains("File too large"), "{}", outcome.stderr);
    folder.succeed(&format!("{KERAS} --out whole"));
    assert_eq!(run(&folder, 3, &format!("{KERAS} --out a --resume")).unwrap().code, 0);
    assert_same_results(&folder, "whole", "a");
}

/// What the test below starts twice: the second one panics, the first one waits for it.
#[test]
#[ignore = "for mpirun"]
fn panicking_rank() {
    let ranks = rotnet::ranks::mpi::join().unwrap();
    if ranks.rank() == 1 {
        panic!("the reason of the second");
    }
    rotnet::ranks::barrier(&*ranks);
}

#[test]
fn a_panic_of_one_process_ends_all_at_once_with_its_message() {
    let folder = Folder::new();
    let this = std::env::current_exe().unwrap();
    let program = [this.to_str().unwrap(), "--exact", "ranks::panicking_rank", "--ignored", "--nocapture"];
    let Some(mut command) = mpirun(&program, 2) else { return };
    let mut running = folder.spawn(&mut command);
    assert!(running.ends_within(Duration::from_secs(30)), "the first one still waits");
    let outcome = running.finish();
    assert_eq!(outcome.code, 101, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("the reason of the second"), "{}", outcome.stderr);
}
