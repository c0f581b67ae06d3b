//! Data sets at URLs: a folder, a plain web server, and an S3 server of Python's `moto`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::python::Python;
use crate::support::*;
use crate::train::{Prepared, result, resume};

/// A server that ends with the test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Starts a server of Python, and waits until it listens.
    fn start(python: &Python, arguments: &[&str], folder: &Path, port: u16) -> Self {
        let mut command = Command::new(&python.0);
        command.args(arguments).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("Python starts");
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(60), "{command:?} does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Self { child, address: format!("http://127.0.0.1:{port}") }
    }

    /// The files of a folder, without ranges.
    fn of_folder(folder: &Path, port: u16) -> Self {
        let port_text = port.to_string();
        let arguments = ["-m", "http.server", "--bind", "127.0.0.1", &port_text];
        Self::start(&Python::find(), &arguments, folder, port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nothing listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A command for the S3 server at `address`.
fn with_s3<'a>(command: &'a mut Command, server: &Server) -> &'a mut Command {
    command
        .env("AWS_ENDPOINT_URL", &server.address)
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "us-east-1")
}

/// A request without a body; returns the status and the body of the answer.
fn request(server: &Server, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address.trim_start_matches("http://")).unwrap();
    // Signatures are not looked at, but only a bucket can be made without one.
    let user =
        "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let user = if method == "PUT" { String::new() } else { format!("Authorization: {user}\r\n") };
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n{user}\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    reader.read_line(&mut status).unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    (status.split(' ').nth(1).unwrap().parse().unwrap(), rest)
}

/// `--data URL --cache CACHE` in place of the folder of the data set.
pub fn at(command: &mut Command, url: &str, cache: &Path) -> Command {
    let mut other = Command::new(command.get_program());
    let mut arguments = command.get_args();
    while let Some(argument) = arguments.next() {
        if argument == "--data" {
            arguments.next();
            other.args(["--data", url, "--cache", text(cache)]);
        } else {
            other.arg(argument);
        }
    }
    for (name, value) in command.get_envs() {
        other.env(name, value.unwrap());
    }
    other
}

#[test]
fn a_run_on_a_url_is_that_on_the_folder_and_resumes_by_itself() {
    let place = Prepared::new();
    let [folder, run, cache] = ["folder", "run", "cache"].map(|name| place.path(name));
    succeed(&mut place.train(&folder, 2, &[]));
    let url = format!("file://{}", place.data.display());
    succeed(&mut at(&mut place.train(&run, 1, &[]), &url, &cache));
    let settings: Value = serde_json::from_str(&fs::read_to_string(run.join("run.json")).unwrap()).unwrap();
    assert_eq!((settings["data"].as_str(), settings["cache"].as_str()), (Some(&*url), Some(text(&cache))));
    succeed(resume(&run).args(["--epochs", "2"]));
    assert!(result(&run) == result(&folder));
    let error = |run: &Path| {
        let scores = succeed(&mut trainer(&["evaluate", text(run), "--device", "cpu", "--json"]));
        serde_json::from_str::<Value>(&scores).unwrap()["scores"].clone()
    };
    assert_eq!(error(&run), error(&folder));
    let page = place.path("page.html");
    let printed = trainer(&["report", text(&run), "--out", text(&page), "--images", "10"]).output().unwrap();
    assert!(!all_output(&printed).contains("left out: predictions"), "{}", all_output(&printed));
}

#[test]
fn what_is_no_data_set_at_a_url_is_wrong_usage_and_what_fails_is_not() {
    let place = Prepared::new();
    let [run, cache] = ["run", "cache"].map(|name| place.path(name));
    let nothing = format!("file://{}", place.folders.path().display());
    let url = format!("file://{}", place.data.display());
    for (url, more, code, expected) in [
        ("ftp://host/set", &[][..], 2, "unknown scheme `ftp`"),
        (&*nothing, &[], 2, "no dataset.json"),
        (&*url, &["--cache-limit", "1kB"], 2, "cache limit of 1000 bytes is too small"),
        ("http://127.0.0.1:1/set", &["--data-timeout", "1"], 1, "http://127.0.0.1:1/set/dataset.json: "),
    ] {
        let printed = fail(at(&mut place.train(&run, 1, &[]), url, &cache).args(more), code);
        assert!(printed.contains(expected), "{url}: {printed}");
        assert!(!run.exists(), "{url}");
    }
    fs::remove_file(place.data.join("train-00000.arrow")).unwrap();
    let printed = fail(&mut at(&mut place.train(&run, 1, &[]), &url, &cache), 1);
    assert!(printed.contains(&format!("{url}/train-00000.arrow: ")), "{printed}");
}

#[test]
fn what_is_advised_for_a_cache_that_is_too_small_works() {
    let mut place = Prepared::new();
    let [folder, run, cache] = ["folder", "run", "cache"].map(|name| place.path(name));
    let url = format!("file://{}", place.data.display());
    let limit = ["--cache-limit", "200kB"];
    let printed = fail(at(&mut place.train(&run, 2, &[]), &url, &cache).args(limit), 2);
    let after = |text: &str, words: &str| {
        let rest = text.split_once(words).unwrap_or_else(|| panic!("no {words:?} in {text}")).1;
        rest.split([' ', ')']).next().unwrap_or_default().to_owned()
    };
    let (least, shard_size) = (after(&printed, "give at least "), after(&printed, "--shard-size "));
    assert!(!run.exists() && !content_of_tree(&cache).iter().any(|name| name.ends_with(".arrow")));
    let printed = succeed(&mut prepare_imagenet(&["inspect", text(&place.data), "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap()["smallest_cache_bytes"].to_string(), least);

    succeed(&mut place.train(&folder, 2, &[]));
    succeed(at(&mut place.train(&run, 2, &[]), &url, &cache).args(["--cache-limit", &least]));
    assert!(result(&run) == result(&folder));

    let [folder, run, cache] = ["small-folder", "small-run", "small-cache"].map(|name| place.path(name));
    place.data = place.path("small");
    let photos = ["train", "val"].map(|split| place.path(split));
    let mut prepare = prepare_imagenet(&["--train", text(&photos[0]), "--val", text(&photos[1])]);
    succeed(prepare.args(["--size", "32", "--shard-size", &shard_size, "--out", text(&place.data)]));
    let url = format!("file://{}", place.data.display());
    let output = at(&mut place.train(&run, 2, &[]), &url, &cache).args(limit).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", all_output(&output));
    let window = after(&all_output(&output), "images are shuffled among ");
    succeed(&mut place.train(&folder, 2, &["--window", &window]));
    assert!(result(&run) == result(&folder));

    let [run, cache] = ["large-run", "large-cache"].map(|name| place.path(name));
    let larger = (window.parse::<u32>().unwrap() + 1).to_string();
    let windows = ["--window", &*larger];
    let printed = fail(at(&mut place.train(&run, 2, &windows), &url, &cache).args(limit), 2);
    let (least, fitting) = (after(&printed, "give at least "), after(&printed, "or a window of "));
    assert_eq!(fitting.trim_end_matches(','), window);
    assert!(!run.exists() && !content_of_tree(&cache).iter().any(|name| name.ends_with(".arrow")));
    succeed(at(&mut place.train(&run, 2, &windows), &url, &cache).args(["--cache-limit", &least]));
}

#[test]
fn a_plain_web_server_that_goes_away_for_a_while_is_waited_for() {
    let python = Python::find();
    if !python.has(&["http.server"]) {
        return;
    }
    let place = Prepared::new();
    let [folder, run, cache] = ["folder", "run", "cache"].map(|name| place.path(name));
    succeed(&mut place.train(&folder, 1, &[]));
    let port = free_port();
    let server = Server::of_folder(&place.data, port);
    let url = server.address.clone();
    // With what lies beside the shards alone, the server is needed for the first shard.
    succeed(&mut prepare_imagenet(&["inspect", &url, "--cache", text(&cache)]));
    let opened = content_of_tree(&cache);
    assert!(
        opened.iter().any(|name| name == "dataset.json")
            && !opened.iter().any(|name| name.ends_with(".arrow"))
    );
    drop(server);
    let mut child = start(&mut at(&mut place.train(&run, 1, &[]), &url, &cache));
    thread::sleep(Duration::from_secs(3));
    assert!(child.try_wait().unwrap().is_none(), "it did not wait");
    let _server = Server::of_folder(&place.data, port);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", all_output(&output));
    assert!(result(&run) == result(&folder));
}

/// The names of all files below a folder.
fn content_of_tree(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.path().is_dir() {
            true if entry.file_name() == "locks" => {}
            true => names.extend(content_of_tree(&entry.path())),
            false => names.push(entry.file_name().into_string().unwrap()),
        }
    }
    names
}

#[test]
fn a_data_set_is_prepared_into_object_storage_and_trained_on_from_there() {
    let python = Python::find();
    if !python.has(&["moto.server"]) {
        return;
    }
    let place = Prepared::new();
    let port = free_port();
    let port_text = port.to_string();
    let arguments = ["-m", "moto.server", "-H", "127.0.0.1", "-p", &port_text];
    let server = Server::start(&python, &arguments, place.folders.path(), port);
    let url = "s3://bucket/sets/mini";
    let prepare = |work: &str| {
        let mut command = prepare_imagenet(&["--train", text(place.folders.path()), "--size", "32"]);
        command.args(["--shard-size", "20kB", "--out", url, "--work", text(&place.path(work))]);
        command
    };
    let printed = fail(with_s3(&mut prepare("work"), &server), 1);
    assert!(printed.contains("s3://bucket/sets/mini/dataset.json: "), "{printed}");
    assert_eq!(request(&server, "PUT", "/bucket").0, 200);

    let output = with_s3(&mut prepare("work"), &server).output().unwrap();
    assert!(output.status.success(), "{}", all_output(&output));
    let files = content_of_tree(&place.path("work")).iter().filter(|name| name.ends_with(".arrow")).count();
    assert!(files > 5, "{files} shards");
    // The shards, the mean image, the record of the preparation, and `dataset.json`.
    let expected = format!("uploaded {} files", files + 3);
    assert!(all_output(&output).contains(&expected), "{}", all_output(&output));
    assert_eq!(request(&server, "DELETE", "/bucket/sets/mini/train-00001.arrow").0, 204);
    let again = with_s3(&mut prepare("work"), &server).output().unwrap();
    let parts = ["uploaded 2 files".to_owned(), format!("{} were there already", files + 1)];
    assert!(parts.iter().all(|part| all_output(&again).contains(part)), "{}", all_output(&again));

    let cache = place.path("cache");
    let [inspect, verify] = ["inspect", "verify"].map(|command| {
        let mut command = prepare_imagenet(&[command, url, "--cache", text(&cache), "--json"]);
        let printed = succeed(with_s3(&mut command, &server));
        serde_json::from_str::<Value>(&printed).unwrap()
    });
    assert_eq!(inspect["image_size"], 32, "{inspect}");
    assert_eq!(verify["problems"], Value::Array(Vec::new()), "{verify}");

    let mut work = Prepared { data: place.path("work"), ..place };
    let [folder, run] = ["folder", "run"].map(|name| work.path(name));
    succeed(&mut work.train(&folder, 2, &["--limit-batches", "3"]));
    work.data = "s3".into();
    let new_cache = work.path("new-cache");
    let mut train = at(&mut work.train(&run, 2, &["--limit-batches", "3"]), url, &new_cache);
    succeed(with_s3(&mut train, &server));
    assert!(result(&run) == result(&folder));

    let mut none = trainer(&["--data", "s3://no-such-bucket/set", "--cache", text(&new_cache)]);
    let printed = fail(with_s3(&mut none, &server), 2);
    assert!(printed.contains("no dataset.json") && printed.contains("NoSuchBucket"), "{printed}");
}
