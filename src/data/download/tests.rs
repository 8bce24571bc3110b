use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::progress::Silent;
use std::fs;

/// How the test server answers.
#[derive(Clone, Copy, PartialEq)]
pub enum Manner {
    /// Ranges are honoured; the connection is cut after so many bytes of each body.
    Cut(usize),
    /// Ranges are ignored; nothing is cut.
    NoRanges,
    /// Always with this status and no body.
    Status(u16),
    /// All of it, without saying how long it is.
    Unannounced,
}

/// A server on the loopback interface that lives as long as the test process.
pub struct Server {
    pub url: String,
    pub requests: Arc<AtomicUsize>,
    /// First bytes asked for.
    pub offsets: Arc<Mutex<Vec<usize>>>,
}

impl Server {
    pub fn start(content: Vec<u8>, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            url: format!("http://{}/archive.tar.gz", listener.local_addr().unwrap()),
            requests: Arc::default(),
            offsets: Arc::default(),
        };
        let (requests, offsets) = (server.requests.clone(), server.offsets.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut range = 0;
                for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                    if line.is_empty() {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                        range = value.trim_end_matches('-').parse().unwrap();
                    }
                }
                requests.fetch_add(1, Ordering::Relaxed);
                offsets.lock().unwrap().push(range);
                let _ = answer(&stream, &content, range, manner);
            }
        });
        server
    }
}

fn answer(
    mut stream: &std::net::TcpStream,
    content: &[u8],
    range: usize,
    manner: Manner,
) -> std::io::Result<()> {
    let total = content.len();
    let close = "Connection: close\r\n\r\n";
    match manner {
        Manner::Status(status) => write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{close}"),
        Manner::Unannounced => {
            write!(stream, "HTTP/1.1 200 OK\r\n{close}")?;
            stream.write_all(content)
        }
        Manner::Cut(bytes) if range > 0 => {
            let body = &content[range..];
            write!(
                stream,
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {range}-{}/{total}\r\nContent-Length: {}\r\n{close}",
                total - 1,
                body.len()
            )?;
            stream.write_all(&body[..bytes.min(body.len())])
        }
        Manner::Cut(_) | Manner::NoRanges => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n{close}")?;
            let end = if let Manner::Cut(bytes) = manner { bytes.min(total) } else { total };
            stream.write_all(&content[..end])
        }
    }
}

fn content() -> Vec<u8> {
    (0..100_000_u32).map(|index| (index * index / 7) as u8).collect()
}

fn download(server: &Server, bytes: Option<u64>, path: &Path) -> Result<()> {
    let download = Download { url: &server.url, bytes, pause: Duration::from_millis(1) };
    download.to(path, &mut Silent)
}

#[test]
fn a_cut_connection_is_taken_up_where_it_ended() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("file");
    let server = Server::start(content(), Manner::Cut(30_000));
    download(&server, Some(100_000), &path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content());
    assert_eq!(*server.offsets.lock().unwrap(), [0, 30_000, 60_000, 90_000]);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn giving_up_keeps_what_has_arrived_and_the_next_call_continues() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("file");
    let server = Server::start(content(), Manner::Cut(20_000));
    let error = download(&server, None, &path).unwrap_err();
    assert!(error.to_string().contains("80000 bytes have arrived after 4 attempts"), "{error}");
    assert!(error.hint().contains("continues the download"));
    assert_eq!(fs::metadata(&path).unwrap().len(), 80_000);
    download(&server, None, &path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content());
    assert_eq!(server.requests.load(Ordering::Relaxed), 5);
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("file");
    fs::write(&path, b"something else").unwrap();
    download(&Server::start(content(), Manner::NoRanges), Some(100_000), &path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content());
}

#[test]
fn a_refusal_is_final_and_an_overload_is_tried_again() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("file");
    for (status, tries) in [(404, 1), (503, 4)] {
        let server = Server::start(content(), Manner::Status(status));
        let error = download(&server, None, &path).unwrap_err().to_string();
        assert!(error.contains(&format!("answers with status {status}")), "{error}");
        assert_eq!(server.requests.load(Ordering::Relaxed), tries);
    }
}

#[test]
fn another_size_is_refused_before_or_while_it_arrives() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("file");
    let error = download(&Server::start(content(), Manner::NoRanges), Some(99_999), &path).unwrap_err();
    assert!(error.to_string().ends_with("the server offers 100000 bytes, expected 99999"), "{error}");
    let error = download(&Server::start(content(), Manner::Unannounced), Some(99_999), &path).unwrap_err();
    assert!(error.to_string().ends_with("the server sends more than expected"), "{error}");
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    download(&Server::start(content(), Manner::Unannounced), None, &path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content());
}

#[test]
fn a_file_that_another_download_writes_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("file");
    let held = File::create(&path).unwrap();
    held.lock().unwrap();
    let error = download(&Server::start(content(), Manner::NoRanges), None, &path).unwrap_err();
    assert!(error.to_string().contains("is being written by another download"), "{error}");
}

#[test]
fn what_is_no_address_is_refused_at_once() {
    let home = tempfile::tempdir().unwrap();
    let download = Download { url: "not an address", bytes: None, pause: Duration::from_secs(60) };
    assert!(matches!(download.to(&home.path().join("file"), &mut Silent), Err(Error::Download { .. })));
}
