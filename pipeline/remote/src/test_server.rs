//! A web server whose files arrive as the test says: late, cut, as a lie, or not at all.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// As it was meant.
    Good,
    /// With this status, and a body that says `says`.
    Status(u16, &'static str),
    /// The connection is cut after so many bytes of the body.
    Cut(usize),
    /// The whole file, although a range was wanted.
    Whole,
    /// The whole file, cut after so many bytes.
    WholeCut(usize),
    /// Another range than the one that was wanted, and says so.
    OtherRange,
    /// So many bytes fewer than wanted, as if that were right.
    Short(usize),
    /// Bytes of which one is changed.
    Wrong,
    /// Nothing, on an open connection.
    Silent,
    /// Ten bytes at a time.
    Trickle,
    /// Sends the client elsewhere.
    Elsewhere(u16),
}

/// What a client has asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub name: String,
    pub range: Option<Range<usize>>,
    pub authorization: Option<String>,
}

type Script = Box<dyn FnMut(&Request) -> Answer + Send>;

/// A server; it ends when it is dropped.
pub(crate) struct Server {
    port: u16,
    shared: Arc<Shared>,
    listening: Option<thread::JoinHandle<()>>,
}

struct Shared {
    files: HashMap<String, Vec<u8>>,
    script: Mutex<Script>,
    requests: Mutex<Vec<Request>>,
    is_over: AtomicBool,
}

impl Server {
    /// Serves these files below `/set/`, as the script says.
    pub fn start(
        files: HashMap<String, Vec<u8>>,
        script: impl FnMut(&Request) -> Answer + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            files,
            script: Mutex::new(Box::new(script)),
            requests: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let port = listener.local_addr().unwrap().port();
        let mut server = Self { port, shared, listening: None };
        server.listen(listener);
        server
    }

    fn listen(&mut self, listener: TcpListener) {
        self.shared.is_over.store(false, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        self.listening = Some(thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // A client that goes away is no mistake.
                thread::spawn(move || drop(shared.serve(stream)));
            }
        }));
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/set", self.port)
    }

    /// What was asked for so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How often the file `name` was asked for.
    pub fn requests_of(&self, name: &str) -> usize {
        self.requests().iter().filter(|request| request.name == name).count()
    }

    /// Stops listening: connections are refused, and those that there are end.
    pub fn go_away(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(listening) = self.listening.take() {
            listening.join().unwrap();
        }
    }

    /// Listens again, on the same port.
    pub fn come_back(&mut self) {
        self.listen(TcpListener::bind(("127.0.0.1", self.port)).unwrap());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.go_away();
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let request = read(&stream)?;
        let answer = (self.script.lock().unwrap())(&request);
        self.requests.lock().unwrap().push(request.clone());
        let mut out = stream;
        let file = match (answer, self.files.get(&request.name)) {
            (Answer::Status(status, says), _) => {
                let length = says.len();
                return write!(
                    out,
                    "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{says}"
                );
            }
            (Answer::Silent, _) => return self.wait(),
            (Answer::Elsewhere(port), _) => {
                let place = format!("http://localhost:{port}/set/{}", request.name);
                return write!(
                    out,
                    "HTTP/1.1 302 X\r\nLocation: {place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
            }
            (_, None) => {
                return write!(out, "HTTP/1.1 404 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
            (_, Some(file)) => file,
        };
        let range = match (answer, &request.range) {
            (Answer::Whole | Answer::WholeCut(_), _) | (_, None) => None,
            (_, Some(range)) => Some(range.start..range.end.min(file.len())),
        };
        let mut body = range.clone().map_or_else(|| file.clone(), |range| file[range].to_vec());
        match answer {
            Answer::Wrong => body[0] ^= 1,
            Answer::Short(bytes) => body.truncate(body.len().saturating_sub(bytes)),
            _ => {}
        }
        match range {
            None => write!(out, "HTTP/1.1 200 X\r\n")?,
            Some(range) => {
                let start = if answer == Answer::OtherRange { range.start + 1 } else { range.start };
                let (last, total) = (start + body.len() - 1, file.len());
                write!(out, "HTTP/1.1 206 X\r\nContent-Range: bytes {start}-{last}/{total}\r\n")?;
            }
        }
        write!(out, "Content-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
        match answer {
            Answer::Cut(bytes) | Answer::WholeCut(bytes) => out.write_all(&body[..bytes.min(body.len())]),
            Answer::Trickle => {
                for part in body.chunks(10) {
                    out.write_all(part)?;
                    thread::sleep(Duration::from_millis(50));
                    if self.is_over.load(Ordering::SeqCst) {
                        break;
                    }
                }
                Ok(())
            }
            _ => out.write_all(&body),
        }
    }

    fn wait(&self) -> io::Result<()> {
        while !self.is_over.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

fn read(stream: &TcpStream) -> io::Result<Request> {
    let mut request = Request { name: String::new(), range: None, authorization: None };
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(path) = line.strip_prefix("GET /set/") {
            request.name = path.split([' ', '?']).next().unwrap_or_default().to_owned();
        }
        let (header, value) = line.split_once(": ").unwrap_or_default();
        match &*header.to_ascii_lowercase() {
            "range" => {
                let (start, last) =
                    value.strip_prefix("bytes=").and_then(|range| range.split_once('-')).unwrap();
                request.range = Some(start.parse().unwrap()..last.parse::<usize>().unwrap() + 1);
            }
            "authorization" => request.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    Ok(request)
}
