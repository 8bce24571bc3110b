//! A TCP relay between a client and a worker, which counts what passes and may change it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Which way bytes go.
#[derive(Clone, Copy)]
pub enum Way {
    ToWorker,
    ToClient,
}

/// Sees, and may change, what goes one way.
pub type Edit = fn(Way, &mut [u8]);

/// Listens until the end of the process.
pub struct Relay {
    /// As `--device` takes it.
    pub name: String,
    passed: Arc<[AtomicU64; 2]>,
}

impl Relay {
    /// A relay to the worker of that name.
    pub fn start(worker: &str, edit: Edit) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = format!("ws://{}", listener.local_addr().unwrap());
        let passed = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let (address, counters) = (worker.trim_start_matches("ws://").to_owned(), Arc::clone(&passed));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, worker) = (client.unwrap(), TcpStream::connect(&address).unwrap());
                let back = (worker.try_clone().unwrap(), client.try_clone().unwrap());
                for (way, (from, to)) in [(Way::ToWorker, (client, worker)), (Way::ToClient, back)] {
                    let counters = Arc::clone(&counters);
                    thread::spawn(move || pass(from, to, way, edit, &counters[way as usize]));
                }
            }
        });
        Self { name, passed }
    }

    /// Bytes that went to the worker, and to the client.
    pub fn bytes(&self) -> [u64; 2] {
        [0, 1].map(|way| self.passed[way].load(Ordering::Relaxed))
    }
}

/// Ends where either side does.
fn pass(mut from: TcpStream, mut to: TcpStream, way: Way, edit: Edit, passed: &AtomicU64) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        edit(way, &mut buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
        passed.fetch_add(length as u64, Ordering::Relaxed);
    }
    let _ = to.shutdown(Shutdown::Write);
}
