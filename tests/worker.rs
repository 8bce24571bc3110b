//! Workers on loopback: they compute what one process does, and their death loses nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use rand::{Rng, SeedableRng};

use crate::devices::{PRETRAIN, assert_same_curve, losses};
use crate::support::{Folder, Running};

/// A worker on a free port, killed when it goes out of scope.
struct Worker {
    process: Option<Running>,
    name: String,
}

impl Worker {
    fn start(folder: &Folder, options: &str) -> Self {
        let mut process = folder.start(&format!("worker --quiet --listen 127.0.0.1:0 --threads 1 {options}"));
        let name = process.first_line();
        assert!(name.starts_with("ws://127.0.0.1:"), "{name}");
        Self { process: Some(process), name }
    }

    fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal("KILL");
            process.finish();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn two_workers_equal_one_process() {
    let folder = Folder::with_data();
    let [a, b] = [Worker::start(&folder, ""), Worker::start(&folder, "")];
    folder.succeed(&format!("{PRETRAIN} --out local"));
    folder.succeed(&format!("{PRETRAIN} --out workers --devices {},{}", a.name, b.name));
    folder.succeed(&format!("{PRETRAIN} --out mixed --devices flex,{}", b.name));
    let local = losses(&folder, "local");
    assert_same_curve(&local, &losses(&folder, "workers"));
    assert_same_curve(&local, &losses(&folder, "mixed"));
    let environment = &folder.json("workers/run.json")["environment"];
    assert_eq!(environment["device"], a.name.as_str());
}

#[test]
fn a_worker_agrees_with_flex_and_all_stages_run_there() {
    let folder = Folder::with_data();
    let worker = Worker::start(&folder, "");
    folder.succeed(&format!(
        "devices --check {} --set encoder.kind=compact --set pretrain.batch_size=8",
        worker.name
    ));
    let short = crate::pipeline::SHORT;
    folder.succeed(&format!("run {short} --out a --device {}", worker.name));
    folder.succeed(&format!("run {short} --out b"));
    assert_same_curve(&losses(&folder, "a")[..1], &losses(&folder, "b")[..1]);
}

#[test]
fn a_worker_killed_within_an_epoch_ends_the_run_with_one_line_and_resume_gives_the_same_curve() {
    let folder = Folder::with_data();
    let long = format!("{PRETRAIN} --set pretrain.epochs=6 --set save.every_steps=1");
    folder.succeed(&format!("{long} --out whole"));
    let [a, mut b] = [Worker::start(&folder, ""), Worker::start(&folder, "")];
    let mut running = folder.start(&format!("{long} --out cut --devices {},{}", a.name, b.name));
    running.wait_for(&folder.path("cut/pretrain/metrics.jsonl"));
    let mut random = rand_chacha::ChaCha8Rng::from_seed([std::process::id() as u8; 32]);
    std::thread::sleep(Duration::from_millis(u64::from(random.next_u32() % 60)));
    b.kill();
    assert!(running.ends_within(Duration::from_secs(60)), "the client waits for a dead worker");
    let outcome = running.finish();
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{}", outcome.stderr);
    for part in ["error: lost in the middle of the work", &b.name, "--resume"] {
        assert!(lines[0].contains(part), "`{part}` is not in {}", lines[0]);
    }
    assert!(losses(&folder, "cut").len() < 6);

    let c = Worker::start(&folder, "");
    folder.succeed(&format!("{long} --out cut --resume --devices {},{},flex", a.name, c.name));
    assert_same_curve(&losses(&folder, "whole"), &losses(&folder, "cut"));
}

#[test]
fn tokens_are_asked_for_and_wrong_ones_dead_addresses_and_strangers_are_one_line() {
    let folder = Folder::with_data();
    for (file, token) in [("right", "abc"), ("wrong", "abd"), ("empty", "")] {
        std::fs::write(folder.path(file), token).unwrap();
    }
    let worker = Worker::start(&folder, "--token-file right");
    let check = |file: &str| {
        let script = format!("ROTNET_TOKEN_FILE={file} $ROTNET devices --check {} --quiet", worker.name);
        let outcome = folder.shell(&script);
        let lines = outcome.stderr.lines().count();
        (outcome.code, lines, outcome.stderr)
    };
    assert_eq!(check("right").0, 0, "{}", check("right").2);
    for file in ["wrong", "empty", "none"] {
        let (code, lines, text) = check(file);
        assert!(code > 0 && lines == 1 && text.starts_with("error: "), "{file}: {code} {text}");
    }
    folder.refuse(&format!("devices --check {}", worker.name), 1, &[&worker.name]);

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    folder.refuse(
        &format!("{PRETRAIN} --out a --device ws://{free}"),
        1,
        &[&format!("ws://{free}"), "refused"],
    );
    assert!(!folder.path("a").exists());

    let stranger = stranger();
    folder.refuse(
        &format!("devices --check {stranger}"),
        1,
        &[&stranger, "version 9", "same version of rotnet"],
    );
}

/// A server of another version of burn's protocol: it answers the first message with the refusal that all versions
/// understand (burn-remote, shared/task.rs), and closes.
fn stranger() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("ws://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = refuse_version(stream.unwrap());
        }
    });
    name
}

fn refuse_version(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).unwrap();
    let mut lines = request.lines().filter_map(|line| line.split_once(": "));
    let (_, key) = lines.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")).unwrap();
    let accept = base64(&sha1(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes()));
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    stream.read_exact(&mut byte)?;
    let refusal = [b"\x92\x81\xabInitRefused\x81\xb4IncompatibleProtocol", &b"\x91\x09\x00"[..]].concat();
    stream.write_all(&[0x82, refusal.len() as u8])?;
    stream.write_all(&refusal)?;
    std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
}

/// RFC 3174, for the handshake of RFC 6455.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut padded = [message, &[0x80]].concat();
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() - message.len() < 9 {
        padded.resize(padded.len() + 64, 0);
    }
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&(8 * message.len() as u64).to_be_bytes());
    let mut state = [0x6745_2301u32, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0];
    for block in padded.chunks_exact(64) {
        let mut words: Vec<u32> =
            block.chunks_exact(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
        for t in 16..80 {
            words.push((words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16]).rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (t, word) in words.into_iter().enumerate() {
            let (f, constant) = match t / 20 {
                0 => ((b & c) | (!b & d), 0x5A82_7999u32),
                1 => (b ^ c ^ d, 0x6ED9_EBA1),
                2 => ((b & c) | (b & d) | (c & d), 0x8F1B_BCDC),
                _ => (b ^ c ^ d, 0xCA62_C1D6),
            };
            let sum = [f, e, constant, word].into_iter().fold(a.rotate_left(5), u32::wrapping_add);
            (a, b, c, d, e) = (sum, a, b.rotate_left(30), c, d);
        }
        for (total, value) in state.iter_mut().zip([a, b, c, d, e]) {
            *total = total.wrapping_add(value);
        }
    }
    let mut digest = [0; 20];
    digest
        .chunks_exact_mut(4)
        .zip(state)
        .for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_be_bytes()));
    digest
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0, |word, index| word << 8 | u32::from(*chunk.get(index).unwrap_or(&0)));
        for index in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[test]
fn an_address_that_others_can_reach_needs_a_token() {
    let folder = Folder::new();
    folder.refuse("worker --listen 0.0.0.0:0", 2, &["0.0.0.0:0", "--token-file"]);
    folder.refuse("worker --iroh key", 2, &["public key", "--token-file"]);
    folder.refuse("worker --listen nowhere", 2, &["nowhere"]);
    folder.refuse("worker --device ws://127.0.0.1:1", 2, &["another worker"]);
    folder.refuse("worker --device gpu", 2, &["`gpu`"]);
}
