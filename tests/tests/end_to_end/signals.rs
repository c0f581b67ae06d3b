//! Signals before the first step of training, signals that are ignored, limits on files and threads.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::*;

/// `trainer` that waits for a package index which never answers.
struct Waiting {
    trainer: Child,
    connection: TcpStream,
    _folder: tempfile::TempDir,
}

impl Waiting {
    /// Started by a shell that first runs `before`.
    fn new(before: &str) -> Self {
        let index = TcpListener::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let script = format!("{before} exec \"$@\"");
        let mut command = Command::new("bash");
        command.args(["-c", &script, "bash", fovea_tests::tool("trainer").to_str().unwrap()]);
        command.args(["--run", text(&folder.path().join("run")), "--device", "cpu"]);
        command.env("FOVEA_CACHE", folder.path().join("cache"));
        command.env("PIP_INDEX_URL", format!("http://{}/simple", index.local_addr().unwrap()));
        for name in ["ORT_DYLIB_PATH", "FOVEA_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
        {
            command.env_remove(name);
        }
        let trainer = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let (connection, _) = index.accept().unwrap();
        Self { trainer, connection, _folder: folder }
    }

    fn send(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.trainer.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    fn code(mut self) -> Option<i32> {
        self.trainer.wait().unwrap().code()
    }
}

/// Whether this process, and so what it starts, ignores the signal: under `nohup`, or as a job in the
/// background of a script.
fn is_ignored(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() >> (number - 1) & 1 == 1)
}

#[test]
fn the_first_signal_ends_a_download_at_once() {
    for (signal, number) in [("-TERM", 15), ("-INT", 2), ("-HUP", 1)] {
        if is_ignored(number) {
            println!("skipped: {signal} is ignored here");
            continue;
        }
        let waiting = Waiting::new("");
        waiting.send(signal);
        assert_eq!(waiting.code(), Some(130), "{signal}");
    }
}

#[test]
fn a_signal_that_the_parent_ignores_stays_ignored() {
    for (name, signal) in [("HUP", "-HUP"), ("INT", "-INT")] {
        let mut waiting = Waiting::new(&format!("trap '' {name};"));
        waiting.send(signal);
        // The index answers, and the trainer fails by itself.
        waiting.connection.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert_eq!(waiting.code(), Some(1), "{signal}");
    }
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let tool = fovea_tests::tool("prepare_imagenet");
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -f 1000; exec \"$@\"", "bash", tool.to_str().unwrap()]);
    command.args(["--embedded-sample", "--size", "28", "--out", text(&out)]);
    let message = fail(&mut command, 1);
    assert!(message.contains("train-00000.arrow.partial: cannot write: File too large"), "{message}");
}

#[test]
fn millions_of_threads_are_refused_as_wrong_usage() {
    let refused = |command: &mut Command| {
        let message = fail(command, 2);
        assert!(message.contains("expected 1 to 1024 threads"), "{message}");
    };
    refused(&mut prepare(Path::new("photos"), Path::new("out"), &["--workers", "4000000"]));
    refused(&mut prepare_imagenet(&["verify", "data", "--workers", "4000000"]));
    refused(&mut trainer(&["--workers", "4000000"]));
    refused(&mut trainer(&["--threads", "4000000"]));
    refused(&mut trainer(&["evaluate", "run", "--workers", "4000000"]));
}
