//! Data sets behind a server that fails in every way.

mod kills;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fovea_files::seal;
use fovea_pipeline::shard_files::ShardFiles;
use fovea_pipeline::{DatasetError, ShardInfo};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::address::Address;
use crate::cache::{Cache, Place};
use crate::download::Download;
use crate::fault::Kind;
use crate::open::{open, source_of};
use crate::settings::{Settings, Stop};
use crate::shards::{Failure, Shards};
use crate::test_server::{Answer, Request, Server};
use crate::{RemoteError, upload};

const SHARD_BYTES: usize = 200_000;
const PART_BYTES: usize = 64 << 10;
const PARTS: usize = 4;

/// Bytes that no other shard has.
fn content(shard: usize) -> Vec<u8> {
    (0..SHARD_BYTES).map(|byte| (byte * 31 + byte / 256 + shard * 7) as u8).collect()
}

fn name(shard: usize) -> String {
    format!("train-{shard:05}.arrow")
}

fn info(shard: usize) -> ShardInfo {
    let bytes = content(shard);
    ShardInfo {
        file: name(shard),
        images: 10,
        bytes: bytes.len() as u64,
        blake3: blake3::hash(&bytes).to_string(),
        records_blake3: None,
    }
}

/// The files of a data set of three shards, whose bytes are no images.
fn files() -> HashMap<String, Vec<u8>> {
    let mean = b"the mean image".to_vec();
    let json = json!({
        "format_version": 1, "writer": "test", "source": "test", "image_size": 20, "encoding": "raw",
        "train": ([0, 1, 2].map(info)), "val": [], "statistics": null, "classes": [],
        "mean_image_blake3": blake3::hash(&mean).to_string(),
    });
    let json = serde_json::to_vec(&seal(json).unwrap()).unwrap();
    let mut files: HashMap<_, _> = (0..3).map(|shard| (name(shard), content(shard))).collect();
    files.extend([("dataset.json".to_owned(), json), ("mean_image.npy".to_owned(), mean)]);
    files
}

/// Patient enough for a busy machine, and no longer.
fn settings() -> Settings {
    Settings {
        patience: Duration::from_secs(20),
        silence: Duration::from_secs(1),
        connections: 2,
        part_bytes: PART_BYTES as u64,
        stop: Stop::default(),
    }
}

/// Gives up soon.
fn impatient() -> Settings {
    Settings { patience: Duration::from_millis(700), silence: Duration::from_millis(200), ..settings() }
}

fn cache(folder: &Path, limit: Option<u64>) -> Cache {
    Cache { folder: folder.into(), limit }
}

/// The shards behind a server, and the folder of their cache.
fn shards_of(server: &Server, settings: &Settings, limit: Option<u64>) -> (Shards, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (shards_in(server, settings, limit, folder.path()), folder)
}

fn shards_in(server: &Server, settings: &Settings, limit: Option<u64>, folder: &Path) -> Shards {
    shards_at(&server.url(), settings, limit, folder)
}

fn shards_at(url: &str, settings: &Settings, limit: Option<u64>, folder: &Path) -> Shards {
    let address = Address::parse(url).unwrap();
    let source = source_of(&address, settings).unwrap();
    let place = Place::new(&cache(folder, limit), &address.base, b"{}").unwrap();
    Shards::new(address, source, place, settings)
}

fn fetch(shards: &Shards, shard: usize) -> Result<Vec<u8>, String> {
    match shards.fetch(&info(shard), &|| true) {
        Ok(path) => Ok(fs::read(path).unwrap()),
        Err(Failure::Failed(reason)) => Err(reason),
        Err(Failure::Stopped) => Err("stopped".into()),
    }
}

/// Answers the first requests for a shard in one way and the others well.
fn first(times: usize, answer: Answer) -> impl FnMut(&Request) -> Answer + Send {
    let mut left = times;
    move |_| match left {
        0 => Answer::Good,
        _ => {
            left -= 1;
            answer
        }
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} did not come to be");
        thread::sleep(Duration::from_millis(5));
    }
}

fn partial_files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => partial_files(&path),
            path => usize::from(path.extension().is_some_and(|extension| extension == "partial")),
        })
        .sum()
}

#[test]
fn a_shard_arrives_in_parts_once_and_is_in_the_cache_after_that() {
    let server = Server::start(files(), |_| Answer::Good);
    let (shards, folder) = shards_of(&server, &settings(), None);
    assert_eq!(fetch(&shards, 1).unwrap(), content(1));
    let mut ranges: Vec<_> = server.requests().iter().map(|request| request.range.clone().unwrap()).collect();
    ranges.sort_by_key(|range| range.start);
    let starts: Vec<_> = ranges.iter().map(|range| range.start).collect();
    assert_eq!(starts, [0, PART_BYTES, 2 * PART_BYTES, 3 * PART_BYTES]);
    assert_eq!(ranges[3].end, SHARD_BYTES);
    fetch(&shards, 1).unwrap();
    drop(shards);
    let later = shards_in(&server, &settings(), None, folder.path());
    assert_eq!(fetch(&later, 1).unwrap(), content(1));
    assert_eq!((server.requests().len(), partial_files(folder.path())), (PARTS, 0));
}

#[test]
fn a_file_of_another_size_in_the_cache_is_fetched_again() {
    let server = Server::start(files(), |_| Answer::Good);
    let (shards, _folder) = shards_of(&server, &settings(), None);
    let path = shards.fetch(&info(0), &|| true).unwrap();
    fs::write(&path, b"cut").unwrap();
    assert_eq!(fetch(&shards, 0).unwrap(), content(0));
}

#[test]
fn faults_that_pass_are_waited_for() {
    for answer in [
        Answer::Status(500, ""),
        Answer::Status(503, "<Error><Code>SlowDown</Code></Error>"),
        Answer::Status(429, ""),
        Answer::Status(400, "<Error><Code>ExpiredToken</Code></Error>"),
        Answer::Cut(0),
        Answer::Cut(1000),
        Answer::Short(10),
        Answer::OtherRange,
        Answer::Whole,
        Answer::WholeCut(100_000),
    ] {
        let server = Server::start(files(), first(3, answer));
        let (shards, folder) = shards_of(&server, &settings(), None);
        assert_eq!(fetch(&shards, 2).as_ref(), Ok(&content(2)), "{answer:?}");
        let gives_whole = matches!(answer, Answer::OtherRange | Answer::Whole | Answer::WholeCut(_));
        assert!(server.requests().len() > if gives_whole { 1 } else { 3 }, "{answer:?}");
        assert_eq!(partial_files(folder.path()), 0, "{answer:?}");
    }
}

#[test]
fn a_server_without_ranges_is_read_whole() {
    for answer in [Answer::Whole, Answer::OtherRange] {
        let ranged = move |request: &Request| if request.range.is_some() { answer } else { Answer::Good };
        let server = Server::start(files(), ranged);
        let (shards, _folder) = shards_of(&server, &settings(), None);
        assert_eq!(fetch(&shards, 0).as_ref(), Ok(&content(0)), "{answer:?}");
        let asked = server.requests().len();
        assert_eq!(fetch(&shards, 1).as_ref(), Ok(&content(1)), "{answer:?}");
        assert_eq!(server.requests().len(), asked + 1, "it is known for the second one");
    }
}

#[test]
fn a_download_goes_on_where_it_broke() {
    let server = Server::start(files(), first(5, Answer::Cut(20_000)));
    let one = Settings { connections: 1, part_bytes: 1 << 20, ..settings() };
    let (shards, _folder) = shards_of(&server, &one, None);
    assert_eq!(fetch(&shards, 0).unwrap(), content(0));
    let starts: Vec<_> =
        server.requests().iter().map(|request| request.range.clone().unwrap().start).collect();
    assert_eq!(starts, [0, 20_000, 40_000, 60_000, 80_000, 100_000]);
}

#[test]
fn what_does_not_pass_is_an_error_at_once_that_says_what_helps() {
    for (answer, expected, most) in [
        (Answer::Status(404, ""), ["HTTP status 404", "check the URL"], 2),
        (
            Answer::Status(403, "<Error><Code>AccessDenied</Code></Error>"),
            ["403 Forbidden (AccessDenied)", "FOVEA_DATA_TOKEN"],
            4,
        ),
        (Answer::Status(401, ""), ["HTTP status 401", "FOVEA_DATA_TOKEN"], 4),
        (Answer::Status(400, "no such thing"), ["HTTP status 400", "(no such thing)"], 2),
    ] {
        let server = Server::start(files(), move |_| answer);
        let (shards, folder) = shards_of(&server, &settings(), None);
        let error = fetch(&shards, 1).unwrap_err();
        assert!(expected.iter().all(|part| error.contains(part)), "{answer:?}: {error}");
        assert!(server.requests().len() <= most, "{answer:?}: {} requests", server.requests().len());
        assert_eq!(partial_files(folder.path()), 0, "{answer:?}");
    }
}

#[test]
fn a_file_of_another_length_is_of_another_preparation() {
    let mut files = files();
    files.get_mut(&name(0)).unwrap().push(1);
    let server = Server::start(files, |_| Answer::Good);
    let (shards, _folder) = shards_of(&server, &settings(), None);
    let error = fetch(&shards, 0).unwrap_err();
    assert!(error.contains("has 200001 bytes, but dataset.json says 200000"), "{error}");
}

#[test]
fn wrong_bytes_are_fetched_once_more_and_then_an_error() {
    let server = Server::start(files(), first(1, Answer::Wrong));
    let (shards, _folder) = shards_of(&server, &settings(), None);
    assert_eq!(fetch(&shards, 0).unwrap(), content(0));
    assert_eq!(server.requests().len(), 2 * PARTS);

    let server = Server::start(files(), |_| Answer::Wrong);
    let (shards, folder) = shards_of(&server, &settings(), None);
    let error = fetch(&shards, 0).unwrap_err();
    let parts = ["after 2 downloads", &info(0).blake3, "upload it again"];
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    assert_eq!((server.requests().len(), partial_files(folder.path())), (2 * PARTS, 0));
}

#[test]
fn a_server_that_goes_away_for_a_while_is_waited_for() {
    let mut server = Server::start(files(), |_| Answer::Good);
    let (shards, _folder) = shards_of(&server, &settings(), None);
    fetch(&shards, 0).unwrap();
    server.go_away();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| fetch(&shards, 1));
        thread::sleep(Duration::from_millis(800));
        assert!(!waiting.is_finished());
        server.come_back();
        assert_eq!(waiting.join().unwrap().unwrap(), content(1));
    });
}

#[test]
fn patience_ends_with_what_was_tried() {
    let mut away = Server::start(files(), |_| Answer::Good);
    away.go_away();
    for (server, cause) in [
        (Server::start(files(), |_| Answer::Status(503, "")), "HTTP status 503"),
        (Server::start(files(), |_| Answer::Silent), "timeout"),
        (Server::start(files(), |_| Answer::Trickle), "the server gave"),
        (Server::start(files(), |_| Answer::Cut(0)), "byte"),
        (away, "refused"),
    ] {
        let (shards, folder) = shards_of(&server, &impatient(), None);
        let error = fetch(&shards, 0).unwrap_err();
        let parts = [cause, "attempts in", "check network and server"];
        assert!(parts.iter().all(|part| error.contains(part)), "{cause}: {error}");
        assert_eq!(partial_files(folder.path()), 0, "{cause}");
    }
}

#[test]
fn a_stop_and_the_end_of_interest_end_a_wait_at_once() {
    let server = Server::start(files(), |_| Answer::Silent);
    let patient =
        Settings { patience: Duration::from_secs(600), silence: Duration::from_secs(600), ..settings() };
    let (shards, _folder) = shards_of(&server, &patient, None);
    let is_wanted = AtomicBool::new(true);
    thread::scope(|scope| {
        let unwanted = scope.spawn(|| shards.fetch(&info(0), &|| is_wanted.load(Ordering::Relaxed)));
        let stopped = scope.spawn(|| shards.fetch(&info(1), &|| true));
        wait_until("both are asked for", || {
            server.requests_of(&name(0)) > 0 && server.requests_of(&name(1)) > 0
        });
        is_wanted.store(false, Ordering::Relaxed);
        assert!(matches!(unwanted.join().unwrap(), Err(Failure::Stopped)));
        assert!(!stopped.is_finished());
        patient.stop.set();
        assert!(matches!(stopped.join().unwrap(), Err(Failure::Stopped)));
    });
    assert!(matches!(
        open(&server.url(), &cache(Path::new("none"), None), &patient),
        Err(RemoteError::Stopped { .. })
    ));
}

#[test]
fn threads_end_with_the_shards() {
    let server = Server::start(files(), |_| Answer::Trickle);
    let (shards, folder) = shards_of(&server, &settings(), None);
    shards.fetch_ahead(&[&info(0), &info(1), &info(2)]);
    wait_until("they are fetched", || server.requests().len() >= 2);
    let alive = shards.alive();
    assert!(alive.strong_count() > 1);
    drop(shards);
    wait_until("no thread is left", || alive.strong_count() == 0);
    assert_eq!(partial_files(folder.path()), 0);
}

#[test]
fn shards_are_fetched_ahead_in_their_order() {
    let server = Server::start(files(), |_| Answer::Good);
    let (shards, folder) = shards_of(&server, &settings(), None);
    shards.fetch_ahead(&[&info(2), &info(0)]);
    wait_until("both are asked for in full", || server.requests().len() == 2 * PARTS);
    assert_eq!(fetch(&shards, 2).unwrap(), content(2));
    assert_eq!(fetch(&shards, 0).unwrap(), content(0));
    assert_eq!((server.requests().len(), server.requests_of(&name(1))), (2 * PARTS, 0));
    drop((shards, folder));
}

#[test]
fn what_failed_ahead_is_tried_again_when_it_is_needed() {
    let server = Server::start(files(), first(1, Answer::Status(404, "")));
    let one = Settings { connections: 1, ..settings() };
    let (shards, _folder) = shards_of(&server, &one, None);
    shards.fetch_ahead(&[&info(0)]);
    wait_until("it fails", || server.requests().len() == 1);
    assert_eq!(fetch(&shards, 0).unwrap(), content(0));
}

#[test]
fn an_error_of_a_fetch_is_not_the_last_word() {
    let server = Server::start(files(), first(1, Answer::Status(404, "")));
    let one = Settings { connections: 1, ..settings() };
    let (shards, _folder) = shards_of(&server, &one, None);
    fetch(&shards, 0).unwrap_err();
    assert_eq!(fetch(&shards, 0).unwrap(), content(0));
}

#[test]
fn several_processes_fetch_a_shard_once() {
    let server = Server::start(files(), |_| Answer::Good);
    let folder = tempfile::tempdir().unwrap();
    for limit in [None, Some(10 * SHARD_BYTES as u64)] {
        let asked = server.requests().len();
        let place = folder.path().join(format!("{limit:?}"));
        let all: Vec<_> = (0..6).map(|_| shards_in(&server, &settings(), limit, &place)).collect();
        thread::scope(|scope| {
            let fetched: Vec<_> = all.iter().map(|shards| scope.spawn(|| fetch(shards, 0))).collect();
            for bytes in fetched {
                assert_eq!(bytes.join().unwrap().unwrap(), content(0));
            }
        });
        assert_eq!(server.requests().len() - asked, PARTS);
    }
}

#[test]
fn a_process_that_holds_a_lock_and_does_nothing_is_named() {
    let server = Server::start(files(), |_| Answer::Good);
    let (shards, folder) = shards_of(&server, &impatient(), None);
    let place = Place::new(&cache(folder.path(), None), &server.url(), b"{}").unwrap();
    let lock = place.lock(&name(0)).unwrap().unwrap();
    let error = fetch(&shards, 0).unwrap_err();
    assert!(error.contains("another process has locked it"), "{error}");
    drop(lock);
    assert_eq!(fetch(&shards, 0).unwrap(), content(0));
}

#[test]
fn released_shards_make_room_for_others_and_those_in_use_do_not() {
    let server = Server::start(files(), |_| Answer::Good);
    let limit = 2 * SHARD_BYTES as u64;
    let (shards, folder) = shards_of(&server, &settings(), Some(limit));
    let place = Place::new(&cache(folder.path(), Some(limit)), &server.url(), b"{}").unwrap();
    let has = |shard| place.has(&name(shard), SHARD_BYTES as u64);
    fetch(&shards, 0).unwrap();
    fetch(&shards, 1).unwrap();
    shards.fetch_ahead(&[&info(2)]);
    thread::sleep(Duration::from_millis(200));
    assert!(has(0) && has(1) && !has(2));
    shards.release(&info(1));
    wait_until("the next one is there", || has(2));
    assert!(has(0) && !has(1));
    // One that is needed comes before one that will be.
    assert_eq!(fetch(&shards, 1).unwrap(), content(1));
    assert!(has(0) && has(1) && !has(2));
}

#[test]
fn a_limit_that_is_too_small_is_an_error_with_one_that_is_not() {
    let server = Server::start(files(), |_| Answer::Good);
    let limit = 2 * SHARD_BYTES as u64;
    let (shards, folder) = shards_of(&server, &settings(), Some(limit));
    fetch(&shards, 0).unwrap();
    fetch(&shards, 1).unwrap();
    let error = fetch(&shards, 2).unwrap_err();
    assert!(
        error.contains("400000 bytes, is too small") && error.contains("at least 600000 bytes"),
        "{error}"
    );
    let error = open(&server.url(), &cache(folder.path(), Some(399_999)), &settings()).unwrap_err();
    assert!(matches!(error, RemoteError::SmallLimit { limit: 399_999, .. }), "{error}");
    assert!(error.to_string().contains("(to read images one by one 400000)"), "{error}");
    open(&server.url(), &cache(folder.path(), Some(400_000)), &settings()).unwrap();
}

#[test]
fn a_cache_that_is_full_of_what_others_use_is_an_error() {
    let server = Server::start(files(), |_| Answer::Good);
    let limit = Some(2 * SHARD_BYTES as u64);
    let quick = Settings { patience: Duration::from_millis(100), ..settings() };
    let (one, folder) = shards_of(&server, &settings(), limit);
    let other = shards_in(&server, &quick, limit, folder.path());
    fetch(&one, 0).unwrap();
    fetch(&one, 1).unwrap();
    let error = fetch(&other, 2).unwrap_err();
    assert!(error.contains("full of shards that other processes use"), "{error}");
    one.release(&info(0));
    assert_eq!(fetch(&other, 2).unwrap(), content(2));
}

#[test]
fn a_full_disk_is_an_error_of_the_disk() {
    let server = Server::start(files(), |_| Answer::Good);
    let address = Address::parse(&server.url()).unwrap();
    let (settings, is_whole) = (settings(), AtomicBool::new(false));
    let source = source_of(&address, &settings).unwrap();
    let download = Download {
        source: &*source,
        name: &name(0),
        bytes: SHARD_BYTES as u64,
        settings: &settings,
        is_whole: &is_whole,
    };
    let fault = download.run(&File::options().write(true).open("/dev/full").unwrap()).unwrap_err();
    assert!(fault.kind == Kind::Disk && fault.text.contains("No space left"), "{fault}");
}

#[test]
fn a_data_set_is_opened_with_what_lies_beside_its_shards() {
    let mut set = files();
    set.insert("preparation.json".into(), b"{}".to_vec());
    let server = Server::start(set.clone(), |_| Answer::Good);
    let folder = tempfile::tempdir().unwrap();
    let dataset = open(&server.url(), &cache(folder.path(), None), &settings()).unwrap();
    for file in ["dataset.json", "mean_image.npy", "preparation.json"] {
        assert_eq!(fs::read(dataset.directory().join(file)).unwrap(), set[file]);
    }
    let asked = server.requests().len();
    open(&server.url(), &cache(folder.path(), None), &settings()).unwrap();
    assert_eq!(server.requests().len(), asked + 1, "dataset.json alone is looked at again");
}

#[test]
fn a_place_without_a_data_set_is_refused_with_the_remedy() {
    let server = Server::start(HashMap::new(), |_| Answer::Good);
    let folder = tempfile::tempdir().unwrap();
    let error_of = |url: &str| open(url, &cache(folder.path(), None), &settings()).unwrap_err().to_string();
    let error = error_of(&server.url());
    assert!(error.contains("no dataset.json") && error.contains("404"), "{error}");
    let error = error_of(&format!("file://{}", folder.path().display()));
    assert!(error.contains("no dataset.json"), "{error}");
    let page = HashMap::from([("dataset.json".to_owned(), b"<html>sign in</html>".to_vec())]);
    let server = Server::start(page, |_| Answer::Good);
    let error = error_of(&server.url());
    assert!(error.contains("/set/dataset.json: expected value at line 1"), "{error}");
}

#[test]
fn files_beside_the_shards_that_arrive_damaged_are_fetched_again() {
    for file in ["dataset.json", "mean_image.npy"] {
        for (answer, times) in [(Answer::Wrong, 1), (Answer::Cut(5), 3), (Answer::Status(500, ""), 2)] {
            let mut left = times;
            let server =
                Server::start(files(), move |request: &Request| match request.name == file && left > 0 {
                    true => {
                        left -= 1;
                        answer
                    }
                    false => Answer::Good,
                });
            let folder = tempfile::tempdir().unwrap();
            let opened = open(&server.url(), &cache(folder.path(), None), &settings());
            // The first byte of JSON is none that a hash is needed for.
            if (file, answer) == ("dataset.json", Answer::Wrong) {
                opened.unwrap_err();
            } else {
                opened.unwrap_or_else(|error| panic!("{file} {answer:?}: {error}"));
            }
        }
    }
}

#[test]
fn a_password_goes_to_the_host_that_it_is_for_and_stays_out_of_messages() {
    let there = Server::start(files(), |_| Answer::Good);
    let port = there.port();
    let here = Server::start(files(), move |_| Answer::Elsewhere(port));
    let url = here.url().replace("http://", "http://ada:secret@");
    let folder = tempfile::tempdir().unwrap();
    open(&url, &cache(folder.path(), None), &settings()).unwrap();
    let sent = |server: &Server| server.requests()[0].authorization.clone();
    assert_eq!((sent(&here).as_deref(), sent(&there)), (Some("Basic YWRhOnNlY3JldA=="), None));
    let none = Server::start(HashMap::new(), |_| Answer::Good);
    let url = none.url().replace("http://", "http://ada:secret@");
    let error = open(&url, &cache(folder.path(), None), &settings()).unwrap_err().to_string();
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn a_folder_of_a_network_is_cached_as_a_server_is() {
    let there = tempfile::tempdir().unwrap();
    for (name, bytes) in files() {
        fs::write(there.path().join(name), bytes).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", there.path().display());
    let dataset = open(&url, &cache(folder.path(), None), &settings()).unwrap();
    assert!(dataset.directory().starts_with(folder.path()));
    let address = Address::parse(&url).unwrap();
    let place = Place::new(&cache(folder.path(), None), &url, b"{}").unwrap();
    let shards = Shards::new(address.clone(), source_of(&address, &settings()).unwrap(), place, &settings());
    assert_eq!(fetch(&shards, 1).unwrap(), content(1));
    fs::remove_file(there.path().join(name(2))).unwrap();
    let files: &dyn ShardFiles = &shards;
    let error = files.fetch(&info(2), &|| true).unwrap_err();
    assert!(matches!(&error, DatasetError::NotFetched { file, .. } if file.ends_with(&name(2))), "{error}");
}

#[test]
fn only_object_storage_is_written_to() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("dataset.json"), &files()["dataset.json"]).unwrap();
    for (url, reason) in [("https://127.0.0.1:1/set", "read only"), ("file:///set", "by its path")] {
        let error = upload(folder.path(), url, &settings(), &|_| ()).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains(url), "{error}");
    }
}

#[test]
fn shards_are_fetched_by_many_threads_at_the_same_time() {
    let server = Server::start(files(), |_| Answer::Good);
    let (shards, _folder) = shards_of(&server, &settings(), Some(3 * SHARD_BYTES as u64));
    let (shards, done) = (Arc::new(shards), AtomicUsize::new(0));
    thread::scope(|scope| {
        for thread in 0..8 {
            let (shards, done) = (&shards, &done);
            scope.spawn(move || {
                for round in 0..20 {
                    let shard = (thread + round) % 3;
                    assert_eq!(fetch(shards, shard).unwrap(), content(shard));
                    shards.release(&info(shard));
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(done.load(Ordering::Relaxed), 160);
}

/// What `dataset.json` must be for the tests above: one whose changes are noticed.
#[test]
fn the_data_set_of_the_tests_is_sealed() {
    let json: Value = serde_json::from_slice(&files()["dataset.json"]).unwrap();
    assert!(json["sha256"].is_string());
}
