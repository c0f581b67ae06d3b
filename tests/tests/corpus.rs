//! Replays `fuzz/corpus`: the seeds of the fuzzer and what it has found.

use std::any::Any;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use fovea_tests::readers::{READERS, Reader};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Beyond this a reader hangs; the slowest takes a second.
const MOST_TIME: Duration = Duration::from_secs(60);
/// A decoder may take so much beside the pixels, whatever the file.
const MOST_MEMORY_MB: f32 = 256.0;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

/// The entries of a folder in the order of their names.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder can be listed");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("the folder can be listed").path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("names are text")
}

/// What is wrong with how `reader` takes the file.
fn problem(reader: Reader, path: &Path) -> Option<String> {
    // One file at a time, as memory is that of all threads.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().expect("nothing panics in its turn");
    let bytes = fs::read(path).expect("the file can be read");
    let (sender, receiver) = channel();
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage_as_mb();
    thread::spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| reader(&bytes)));
        // Nobody listens after a timeout.
        let _ = sender.send(outcome.map_err(|panic| panic_text(&*panic)));
    });
    let outcome = match receiver.recv_timeout(MOST_TIME) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => return Some(format!("it is not done after {MOST_TIME:?}")),
        Err(RecvTimeoutError::Disconnected) => return Some("its thread ended".into()),
    };
    let memory = MEMORY.peak_usage_as_mb() - before;
    let is_valid = name(path).starts_with("valid");
    match outcome {
        Err(panic) => Some(format!("it panicked: {panic}")),
        Ok(_) if memory > MOST_MEMORY_MB => Some(format!("it took {memory} MB, expected {MOST_MEMORY_MB}")),
        Ok(Err(error)) if is_valid => Some(format!("it is valid, and was refused: {error}")),
        Ok(Err(error)) if error.contains('\n') => Some(format!("the error has several lines: {error}")),
        Ok(_) => None,
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a message").to_owned()
}

#[test]
fn every_file_of_the_corpus_is_read_or_refused_in_bounded_time_and_memory() {
    let mut problems = Vec::new();
    for (reader_name, reader) in READERS {
        let files = entries(&corpus().join(reader_name));
        assert!(files.iter().any(|path| name(path).starts_with("valid")), "{reader_name} reads none");
        for path in files {
            let found = problem(reader, &path);
            problems.extend(found.map(|problem| format!("{reader_name}/{}: {problem}", name(&path))));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_folder_of_the_corpus_belongs_to_a_reader() {
    let folders = entries(&corpus());
    let names: Vec<_> = folders.iter().map(|path| name(path)).collect();
    assert_eq!(names, READERS.map(|(name, _)| name));
}

#[test]
fn what_is_wrong_is_found() {
    let path = &corpus().join("npy/valid.npy");
    let problem = |reader: Reader| problem(reader, path).unwrap_or_default();
    assert_eq!(problem(|_| Ok(())), "");
    assert_eq!(problem(|_| panic!("a panic")), "it panicked: a panic");
    assert_eq!(problem(|_| Err("no".into())), "it is valid, and was refused: no");
    let greedy = |_: &[u8]| {
        let memory = vec![1u8; 300 << 20];
        assert_eq!(memory.iter().rev().step_by(4096).find(|byte| **byte != 1), None);
        Ok(())
    };
    assert!(problem(greedy).starts_with("it took "), "{}", problem(greedy));
}
