//! Processes that are killed while a shard arrives in a cache that they share with others.

use std::env;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

const URL: &str = "FOVEA_TEST_URL";
const FOLDER: &str = "FOVEA_TEST_FOLDER";
const LIMIT: &str = "FOVEA_TEST_LIMIT";

/// The limit of a cache that has one.
const ROOM: u64 = 2 * SHARD_BYTES as u64;

/// A process that has the first shard from the server in the cache, and compares its bytes.
fn process(server: &Server, folder: &Path, is_limited: bool) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "tests::kills::has_a_shard", "--ignored"]);
    command.env(URL, server.url()).env(FOLDER, folder).stdout(Stdio::null());
    if is_limited {
        command.env(LIMIT, "");
    }
    command.spawn().unwrap()
}

#[test]
#[ignore = "what the processes of the other tests do"]
fn has_a_shard() {
    let (Ok(url), Some(folder)) = (env::var(URL), env::var_os(FOLDER)) else {
        panic!("the other tests set {URL} and {FOLDER}")
    };
    let limit = env::var_os(LIMIT).map(|_| ROOM);
    let shards = shards_at(&url, &settings(), limit, Path::new(&folder));
    assert_eq!(fetch(&shards, 0).unwrap(), content(0));
}

/// The number of files in a cache that are shards, or will be.
fn shards_below(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    entries
        .filter(|path| path.file_name().is_none_or(|name| name != "locks"))
        .map(|path| match path.is_dir() {
            true => shards_below(&path),
            false => usize::from(path.to_string_lossy().contains(".arrow")),
        })
        .sum()
}

/// Kills the first of two processes when so many parts of a shard have arrived and no more will, and compares
/// what the other one does, and one that comes later.
fn kill_after(parts: usize, is_limited: bool) {
    let folder = tempfile::tempdir().unwrap();
    let (is_stuck, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (stuck, number) = (Arc::clone(&is_stuck), Arc::clone(&asked));
    let server = Server::start(files(), move |_| {
        let is_late = number.fetch_add(1, Ordering::SeqCst) >= parts;
        if is_late && stuck.load(Ordering::SeqCst) { Answer::Silent } else { Answer::Good }
    });
    let mut killed = process(&server, folder.path(), is_limited);
    wait_until("a request that is not answered", || asked.load(Ordering::SeqCst) > parts);
    assert_eq!((partial_files(folder.path()), shards_below(folder.path())), (1, 1));
    let mut other = process(&server, folder.path(), is_limited);
    assert!(killed.try_wait().unwrap().is_none(), "it is over before it is killed");
    killed.kill().unwrap();
    killed.wait().unwrap();
    is_stuck.store(false, Ordering::SeqCst);
    assert!(other.wait().unwrap().success(), "{parts} parts, limited: {is_limited}");
    assert_eq!((partial_files(folder.path()), shards_below(folder.path())), (0, 1));

    let before = server.requests().len();
    assert!(process(&server, folder.path(), is_limited).wait().unwrap().success());
    assert_eq!(server.requests().len(), before, "the shard was in the cache");
}

#[test]
fn a_process_that_is_killed_while_a_shard_arrives_leaves_it_to_another() {
    for parts in [0, 1, PARTS - 1] {
        for is_limited in [false, true] {
            kill_after(parts, is_limited);
        }
    }
}

#[test]
fn what_a_killed_process_has_left_is_fetched_anew_by_one_that_comes_later() {
    let folder = tempfile::tempdir().unwrap();
    let is_stuck = Arc::new(AtomicBool::new(true));
    let stuck = Arc::clone(&is_stuck);
    let server = Server::start(files(), move |request| {
        let is_last = request.range.as_ref().is_some_and(|range| range.end == SHARD_BYTES);
        if is_last && stuck.load(Ordering::SeqCst) { Answer::Trickle } else { Answer::Good }
    });
    for is_limited in [false, true] {
        let mut killed = process(&server, folder.path(), is_limited);
        let is_last =
            |request: &Request| request.range.as_ref().is_some_and(|range| range.end == SHARD_BYTES);
        let before = server.requests().iter().filter(|request| is_last(request)).count();
        wait_until("the last part", || {
            server.requests().iter().filter(|request| is_last(request)).count() > before
        });
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert_eq!((partial_files(folder.path()), shards_below(folder.path())), (1, 1));
    }
    is_stuck.store(false, Ordering::SeqCst);
    assert!(process(&server, folder.path(), true).wait().unwrap().success());
    assert_eq!((partial_files(folder.path()), shards_below(folder.path())), (0, 1));
}
