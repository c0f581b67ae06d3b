//! A minimal web server with prepared replies, cut connections and a record of requests.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use fovea_files::hexadecimal;
use sha2::{Digest, Sha256};

use super::{Library, Wheel};

/// The reply to one request.
#[derive(Clone)]
pub(super) struct Reply {
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
    /// Position in the body at which the connection is cut.
    cut_at: usize,
    ranges: bool,
}

impl Reply {
    pub(super) fn whole(body: &[u8]) -> Self {
        Self {
            status: 200,
            content_type: "application/octet-stream",
            body: body.to_vec(),
            cut_at: body.len(),
            ranges: true,
        }
    }

    pub(super) fn json(body: String) -> Self {
        Self { content_type: "application/vnd.pypi.simple.v1+json", ..Self::whole(body.as_bytes()) }
    }

    pub(super) fn cut_after(body: &[u8], bytes: usize) -> Self {
        Self { cut_at: bytes, ..Self::whole(body) }
    }

    pub(super) fn status(status: u16) -> Self {
        Self { status, ..Self::whole(b"") }
    }

    pub(super) fn without_ranges(self) -> Self {
        Self { ranges: false, ..self }
    }
}

/// Sends the replies to the requests in order, then closes.
pub(super) struct Server {
    address: String,
    ranges: Arc<Mutex<Vec<Option<u64>>>>,
}

impl Server {
    pub(super) fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&ranges);
        thread::spawn(move || {
            for reply in replies {
                let Ok((stream, _)) = listener.accept() else { return };
                let range = read_range(&stream);
                seen.lock().unwrap().push(range);
                // In some tests the client closes the connection early.
                let _ = send(stream, &reply, range);
            }
        });
        Self { address, ranges }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.address)
    }

    /// Start of the range in each request.
    pub(super) fn ranges(&self) -> Vec<Option<u64>> {
        self.ranges.lock().unwrap().clone()
    }
}

fn read_range(stream: &TcpStream) -> Option<u64> {
    let mut range = None;
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("range: bytes=") {
            range = value.trim_end_matches('-').parse().ok();
        }
    }
    range
}

fn send(mut stream: TcpStream, reply: &Reply, range: Option<u64>) -> std::io::Result<()> {
    let start = range.filter(|_| reply.ranges && reply.status == 200).unwrap_or(0) as usize;
    let total = reply.body.len();
    let status = if start > 0 { 206 } else { reply.status };
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
        reply.content_type,
        total - start
    )?;
    if start > 0 {
        write!(stream, "Content-Range: bytes {start}-{}/{total}\r\n", total - 1)?;
    }
    stream.write_all(b"\r\n")?;
    stream.write_all(&reply.body[start..reply.cut_at.max(start)])?;
    stream.shutdown(Shutdown::Write)
}

/// Pseudo-random bytes, the same in each run.
pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A pinned wheel with this content, which holds `libpack.so` with the content `library`.
pub(super) fn wheel_of(content: &[u8]) -> Wheel {
    wheel_with(content, &[("libpack.so", b"library")])
}

/// A pinned wheel with this content, which holds these libraries.
pub(super) fn wheel_with(content: &[u8], libraries: &[(&'static str, &[u8])]) -> Wheel {
    let sha256_of = |bytes: &[u8]| &*hexadecimal(&Sha256::digest(bytes)).leak();
    let library = |file: &'static str, bytes: &[u8]| Library {
        file,
        sha256: sha256_of(bytes),
        bytes: bytes.len() as u64,
    };
    let libraries: Vec<_> = libraries.iter().map(|(file, bytes)| library(file, bytes)).collect();
    Wheel {
        package: "pack",
        file: "pack-1-py3-none-any.whl",
        sha256: sha256_of(content),
        bytes: content.len() as u64,
        libraries: libraries.leak(),
    }
}
