//! The steps that sequences are made of, drawn at random.

use rand::Rng;

/// A step of a sequence.
#[derive(Clone, Debug)]
pub enum Step {
    /// A command that is left alone.
    Run(String),
    /// A command that gets a signal after so many milliseconds.
    Signal(String, &'static str, u64),
    /// A command that cannot write files of more than so many blocks of 512 bytes.
    FullDisk(String, u32),
    /// A command during which a directory cannot be written.
    ReadOnly(String, &'static str),
    /// Two commands at once.
    Together(String, String),
}

/// A small network, few images, few epochs.
const SMALL: &str = "--quiet --set data.kind=cifar10 --set encoder.kind=compact --set encoder.widths=[8,8] \
                     --set encoder.pools=[true,true] --set pretrain.batch_size=16 --set finetune.batch_size=8";
/// Probes and baselines of a few epochs.
const PROBES: &str = "--set evaluate.layers=[\"block2\"] --set evaluate.knn_neighbours=[3] \
                      --set evaluate.learning_rates=[0.01] --set evaluate.epochs=1 \
                      --set evaluate.most_epochs=2 --set evaluate.labels_per_class=[0]";

impl Step {
    /// Any step.
    pub fn draw(random: &mut impl Rng) -> Self {
        match random.next_u32() % 20 {
            0..=10 => Self::Run(command(random)),
            11..=12 => Self::Signal(working(random), "TERM", delay(random)),
            13..=15 => Self::Signal(working(random), "KILL", delay(random)),
            16 => Self::FullDisk(working(random), 1 << (random.next_u32() % 10)),
            17 => {
                let directory =
                    pick(random, &["a", "b", "a/pretrain", "a/features", "a/finetune", "a/evaluate"]);
                Self::ReadOnly(working(random), directory)
            }
            _ => Self::Together(command(random), command(random)),
        }
    }

    /// The step as lines of a shell script.
    pub fn shell(&self) -> String {
        let quoted = |arguments: &String| {
            let words = arguments.split_whitespace().map(|word| match word.contains(['"', '[', '{']) {
                true => format!("'{word}'"),
                false => word.to_owned(),
            });
            format!("rotnet {}", words.collect::<Vec<_>>().join(" "))
        };
        match self {
            Self::Run(command) => quoted(command),
            Self::Signal(command, signal, delay) => {
                let seconds = *delay as f64 / 1e3;
                format!("{} & sleep {seconds}; kill -{signal} $!; wait $!", quoted(command))
            }
            Self::FullDisk(command, blocks) => {
                format!("(trap '' XFSZ; ulimit -f {blocks}; {})", quoted(command))
            }
            Self::ReadOnly(command, directory) => {
                format!("chmod 555 {directory}; {}; chmod 755 {directory} # not as root", quoted(command))
            }
            Self::Together(one, two) => format!("{} & {}; wait $!", quoted(one), quoted(two)),
        }
    }
}

fn pick(random: &mut impl Rng, choices: &[&'static str]) -> &'static str {
    choices[random.next_u32() as usize % choices.len()]
}

/// With a chance of one in `one_in`, what is given.
fn sometimes(random: &mut impl Rng, one_in: u32, text: &'static str) -> &'static str {
    if random.next_u32().is_multiple_of(one_in) { text } else { "" }
}

/// Milliseconds in which commands of this size are at any point of their work.
fn delay(random: &mut impl Rng) -> u64 {
    u64::from(random.next_u32() % 150)
}

fn run(random: &mut impl Rng) -> &'static str {
    pick(random, &["a", "a", "a", "b"])
}

fn existing(random: &mut impl Rng) -> &'static str {
    pick(random, &["", "--force", "--force", "--resume", "--resume"])
}

/// Settings that a run may be begun or gone on with by mistake.
fn slips(random: &mut impl Rng) -> String {
    let slips = [
        sometimes(random, 5, "--seed 2"),
        sometimes(random, 6, "--set data.validation_images=10"),
        sometimes(random, 12, "--set pretrain.weight_average=0.9"),
        sometimes(random, 15, "--set pretrain.epoch=2"),
        sometimes(random, 15, "--set finetune.epochs=none"),
        sometimes(random, 12, "--set extract.layers=[\"block1\"]"),
        sometimes(random, 30, "--set pretrain.optimizer.kind=sgd --set pretrain.optimizer.learning_rate=10"),
        sometimes(random, 12, "--tensorboard"),
        sometimes(random, 8, "--threads 1"),
    ];
    let data = pick(random, &["data", "data", "data", "data", "data", "other", "typo", "ph"]);
    let slips: Vec<&str> = slips.into_iter().filter(|slip| !slip.is_empty()).collect();
    format!("--data {data} {}", slips.join(" "))
}

fn pretrain(random: &mut impl Rng) -> String {
    let epochs = random.next_u32() % 3;
    let (out, existing, slips) = (run(random), existing(random), slips(random));
    format!("pretrain {SMALL} --set pretrain.epochs={epochs} --out {out} {existing} {slips}")
}

fn extract(random: &mut impl Rng) -> String {
    let (out, existing, slips) = (run(random), existing(random), slips(random));
    let more = sometimes(random, 4, "--allow-data-mismatch");
    format!("extract --quiet --out {out} {existing} {slips} {more}")
}

fn finetune(random: &mut impl Rng) -> String {
    let (out, existing, slips) = (run(random), existing(random), slips(random));
    let epochs = 1 + random.next_u32() % 2;
    let kind = pick(
        random,
        &[
            "",
            "--set finetune.mode=full",
            "--set finetune.mode=frozen --set finetune.head=ridge --set finetune.hidden=null",
            "--from-scratch --set encoder.kind=compact --set encoder.widths=[8,8] --set encoder.pools=[true,true]",
            "--no-test",
        ],
    );
    format!("finetune --quiet --set finetune.epochs={epochs} --out {out} {existing} {slips} {kind}")
}

fn evaluate(random: &mut impl Rng) -> String {
    let (run, existing, slips) = (run(random), existing(random), slips(random));
    let heads = pick(random, &["[\"ridge\"]", "[\"knn\",\"linear\"]", "[\"conv\"]"]);
    let baselines = pick(random, &["[]", "[\"random\"]", "[\"scratch\"]"]);
    format!(
        "evaluate {run} --quiet {existing} {slips} {PROBES} --set evaluate.heads={heads} \
         --set evaluate.baselines={baselines}"
    )
}

/// A command that writes into a run for a while.
fn working(random: &mut impl Rng) -> String {
    match random.next_u32() % 10 {
        0..=3 => pretrain(random),
        4..=5 => extract(random),
        6..=7 => finetune(random),
        8 => evaluate(random),
        _ => sweep(random),
    }
}

fn sweep(random: &mut impl Rng) -> String {
    format!("sweep sweep.json --quiet --data data --out s {}", sometimes(random, 3, "--test"))
}

/// Any command.
fn command(random: &mut impl Rng) -> String {
    let run = run(random);
    match random.next_u32() % 16 {
        0..=3 => pretrain(random),
        4..=5 => extract(random),
        6..=8 => finetune(random),
        9 => evaluate(random),
        10 => match random.next_u32() % 3 {
            0 => sweep(random),
            1 => "compare a b".to_owned(),
            _ => format!("verify run {run} --quiet"),
        },
        11 => format!("report {run} --quiet --data data"),
        12 => format!("predict {run} ph --quiet"),
        13 => {
            let to = pick(random, &["fixed", "ph", "fixed/../ph"]);
            format!("orient {run} ph --quiet --out {to} --sure 0 {}", sometimes(random, 2, "--force"))
        }
        14 => {
            format!("export {run} --quiet --what encoder,features {}", sometimes(random, 2, "--force"))
        }
        _ => working(random),
    }
}
