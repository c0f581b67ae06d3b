//! Several processes of one run, by every MPI of `FOVEA_TEST_MPIEXEC`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::remote;
use crate::support::*;
use crate::train::Prepared;

/// The programs that start processes, of one make of MPI each.
pub fn launchers() -> Vec<PathBuf> {
    let Some(list) = std::env::var_os("FOVEA_TEST_MPIEXEC") else {
        println!("skipped: FOVEA_TEST_MPIEXEC is not set");
        return Vec::new();
    };
    std::env::split_paths(&list).collect()
}

/// The options of a run of the demonstration.
const RUN: [&str; 12] = [
    "--recipe",
    "demo",
    "--set",
    "evaluation.at_end=center",
    "--epochs",
    "1",
    "--threads",
    "1",
    "--workers",
    "1",
    "--batch-size",
    "32",
];

pub const SHORT: &str = "--limit-batches=6";

pub fn is_open_mpi(mpiexec: &Path) -> bool {
    fs::canonicalize(mpiexec).unwrap().ends_with("orterun")
}

/// `trainer` alone, with the options of the run.
pub fn alone(more: &[&str]) -> Command {
    trainer(&[&RUN[..], more].concat())
}

/// `mpiexec -n RANKS trainer`, with the options of the run.
fn together(mpiexec: &Path, ranks: usize, more: &[&str]) -> Command {
    by(mpiexec, &["-n", &ranks.to_string()], &alone(more))
}

/// `mpiexec OPTIONS` of the command `trainer`.
pub fn by(mpiexec: &Path, options: &[&str], trainer: &Command) -> Command {
    let mut command = Command::new(mpiexec);
    if is_open_mpi(mpiexec) {
        command.arg("--oversubscribe");
    }
    command.args(options).arg(trainer.get_program()).args(trainer.get_args());
    for (name, value) in trainer.get_envs() {
        command.env(name, value.unwrap());
    }
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command
}

/// `trainer launch`, with the options of the run.
fn launched(mpiexec: &Path, ranks: usize, more: &[&str]) -> Command {
    let count = ranks.to_string();
    let mut command = trainer(&[&["launch", "--ranks", &count][..], &RUN[..], more].concat());
    let path = std::env::var_os("PATH").unwrap();
    let folders = [mpiexec.parent().unwrap().to_owned()].into_iter().chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders).unwrap());
    command
}

/// The last checkpoint's tensors and numbers, and the records of every epoch without times.
pub fn result(run: &Path) -> (Vec<u8>, serde_json::Value, Vec<String>) {
    let checkpoints = fs::read_dir(run.join("checkpoints")).unwrap();
    let last = checkpoints.map(|entry| entry.unwrap().path()).max().unwrap();
    let meta = serde_json::from_slice(&fs::read(last.join("checkpoint.json")).unwrap()).unwrap();
    let epochs = fs::read_to_string(run.join("epochs.csv")).unwrap();
    let epochs = epochs.lines().map(|line| line.split(',').take(9).collect::<Vec<_>>().join(","));
    (fs::read(last.join("state.safetensors")).unwrap(), meta, epochs.collect())
}

#[test]
fn any_number_of_processes_trains_to_the_bits_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let launchers = launchers();
    if launchers.is_empty() {
        return;
    }
    let path = |name: &str| folder.path().join(name);
    succeed(&mut alone(&[SHORT, "--parts", "4", "--run", text(&path("one"))]));
    let expected = result(&path("one"));
    for (at, mpiexec) in launchers.iter().enumerate() {
        let (two, four) = (path(&format!("two-{at}")), path(&format!("four-{at}")));
        succeed(&mut launched(mpiexec, 2, &[SHORT, "--parts", "4", "--run", text(&two)]));
        let mut command = together(mpiexec, 4, &[SHORT, "--run", text(&four)]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", all_output(&output));
        let shown = String::from_utf8_lossy(&output.stderr);
        assert!(shown.contains("rank 0 of 4 by ") && !shown.contains("rank 1 of 4"), "{shown}");
        for run in [two, four] {
            assert!(result(&run) == expected, "{} with {}", run.display(), mpiexec.display());
        }
    }
}

#[test]
fn processes_share_the_cache_of_a_data_set_elsewhere() {
    let launchers = launchers();
    if launchers.is_empty() {
        return;
    }
    let place = Prepared::new();
    let url = format!("file://{}", place.data.display());
    let more = ["--parts", "2", "--threads", "1", "--workers", "1"];
    let one = place.path("one");
    succeed(&mut place.train(&one, 1, &more));
    for (at, mpiexec) in launchers.iter().enumerate() {
        let [two, cache] = ["two", "cache"].map(|name| place.path(&format!("{name}-{at}")));
        let trainer = remote::at(&mut place.train(&two, 1, &more), &url, &cache);
        succeed(&mut by(mpiexec, &["-n", "2"], &trainer));
        assert!(result(&two) == result(&one), "{}", mpiexec.display());
    }
}

/// Waits for a child to end within some time.
pub fn end(mut child: Child, within: Duration) -> Option<i32> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(begin.elapsed() < within, "the processes do not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes that train into `run`, without their launchers.
pub fn processes(run: &Path) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.unwrap().file_name().to_str()?.parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let arguments: Vec<&[u8]> = command.split(|&byte| byte == 0).collect();
        let is_trainer = arguments[0].ends_with(b"/trainer") && arguments.get(1) != Some(&&b"launch"[..]);
        (is_trainer && arguments.contains(&text(run).as_bytes())).then_some(pid)
    });
    all.collect()
}

/// The options of a long run of two processes.
pub fn long(run: &Path) -> [&str; 7] {
    ["--limit-batches=100000", "--parts", "2", "--deadline", "5", "--run", text(run)]
}

/// A long run of two processes that has done three updates.
fn running(mpiexec: &Path, run: &Path) -> Child {
    let mut command = launched(mpiexec, 2, &long(run));
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    await_updates(run);
    child
}

/// Waits until a run has done three updates.
pub fn await_updates(run: &Path) {
    let begin = Instant::now();
    while fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |lines| lines.lines().count()) < 3 {
        assert!(begin.elapsed() < Duration::from_secs(120), "the run does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn a_process_that_is_killed_or_stopped_ends_all() {
    let folder = tempfile::tempdir().unwrap();
    for (at, mpiexec) in launchers().iter().enumerate() {
        for (how, victim) in [("-KILL", 0), ("-KILL", 1), ("-STOP", 1)] {
            let run = folder.path().join(format!("run-{at}{how}-{victim}"));
            let child = running(mpiexec, &run);
            let mut pids = processes(&run);
            pids.sort_unstable();
            assert_eq!(pids.len(), 2, "{pids:?}");
            signal(how, pids[victim]);
            let code = end(child, Duration::from_secs(60));
            assert!(code.is_some_and(|code| code != 0), "{code:?} after {how} of {victim}");
            std::thread::sleep(Duration::from_millis(500));
            let left = processes(&run);
            assert!(left.is_empty(), "{left:?} remain after {how} of {victim} by {}", mpiexec.display());
        }
    }
}

#[test]
fn a_process_that_is_interrupted_before_it_has_joined_ends_all() {
    let folder = tempfile::tempdir().unwrap();
    for (at, mpiexec) in launchers().iter().enumerate() {
        for victim in 0..2 {
            let run = folder.path().join(format!("run-{at}-{victim}"));
            let mut command = launched(mpiexec, 2, &long(&run));
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let begin = Instant::now();
            let pids = loop {
                let mut pids = processes(&run);
                pids.retain(|&pid| handles_sigterm(pid));
                if pids.len() == 2 {
                    pids.sort_unstable();
                    break pids;
                }
                assert!(begin.elapsed() < Duration::from_secs(60), "the processes do not begin");
            };
            signal("-TERM", pids[victim]);
            // Others wait for one that has not joined for ten times the deadline.
            let code = end(child, Duration::from_secs(30));
            assert_eq!(code, Some(130), "process {victim} by {}", mpiexec.display());
            await_end(&run);
        }
    }
}

/// Whether a process has a handler of SIGTERM.
fn handles_sigterm(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    const SIGTERM: u32 = 15;
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << (SIGTERM - 1)) != 0)
}

#[test]
fn a_second_interrupt_or_the_end_of_the_launcher_leaves_no_process_behind() {
    let folder = tempfile::tempdir().unwrap();
    for (at, mpiexec) in launchers().iter().enumerate() {
        let run = folder.path().join(format!("twice-{at}"));
        let child = running(mpiexec, &run);
        // They cannot finish their step.
        processes(&run).into_iter().for_each(|pid| signal("-STOP", pid));
        for _ in 0..2 {
            signal("-INT", child.id());
            std::thread::sleep(Duration::from_millis(300));
        }
        assert_eq!(end(child, Duration::from_secs(30)), Some(130), "{}", mpiexec.display());
        await_end(&run);
        let run = folder.path().join(format!("killed-{at}"));
        let child = running(mpiexec, &run);
        signal("-KILL", child.id());
        assert_eq!(end(child, Duration::from_secs(30)), None);
        await_end(&run);
    }
}

/// Waits until no process trains into `run`.
fn await_end(run: &Path) {
    let begin = Instant::now();
    while !processes(run).is_empty() {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{:?} remain in {}",
            processes(run),
            run.display()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_interrupted_run_resumes_with_another_number_of_processes_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    for (at, mpiexec) in launchers().iter().enumerate() {
        let run = folder.path().join(format!("run-{at}"));
        let child = running(mpiexec, &run);
        signal("-TERM", child.id());
        assert_eq!(end(child, Duration::from_secs(60)), Some(130));
        assert!(processes(&run).is_empty());
        let lines = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let limit = format!("--limit-batches={}", lines.lines().count() + 3);
        let resume = ["--resume", text(&run), &limit, "--threads=1", "--set=evaluation.at_end=center"];
        succeed(&mut trainer(&resume));
        let whole = folder.path().join(format!("whole-{at}"));
        succeed(&mut alone(&[&limit, "--parts", "2", "--run", text(&whole)]));
        assert!(result(&run) == result(&whole), "{}", mpiexec.display());
    }
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    for mpiexec in launchers() {
        let error = |command: &mut Command, code: i32| {
            let output = command.output().unwrap();
            let shown = all_output(&output);
            assert_eq!(output.status.code(), Some(code), "{shown}");
            let errors: Vec<String> =
                shown.lines().filter(|line| line.starts_with("error: ")).map(str::to_owned).collect();
            assert_eq!(errors.len(), 1, "{shown}");
            assert!(!run.exists(), "{shown}");
            errors[0].clone()
        };
        let shown = error(&mut launched(&mpiexec, 3, &["--parts", "4", "--run", text(&run)]), 2);
        assert!(shown.contains("4 parts of a batch cannot be shared by 3 processes"), "{shown}");
        let shown = error(&mut launched(&mpiexec, 2, &["--data", "/none", "--run", text(&run)]), 2);
        assert!(shown.starts_with("error: /none"), "{shown}");

        let given = ["--rank", "0", "--world", "2", "--parts", "2", "--run", text(&run)];
        let shown = error(&mut together(&mpiexec, 2, &given), 2);
        assert!(shown.contains("--rank 0 --world 2: ") && shown.contains("in the environment"), "{shown}");
        let shown = error(&mut launched(&mpiexec, 2, &given), 2);
        assert!(shown.contains("--rank and --world are for processes that another launcher"), "{shown}");

        let mut differing = together(&mpiexec, 1, &["--parts", "2", "--seed", "1", "--run", text(&run)]);
        let other = alone(&["--parts", "2", "--seed", "2", "--run", text(&run)]);
        differing.args([":", "-n", "1"]).arg(other.get_program()).args(other.get_args());
        let shown = error(&mut differing, 2);
        assert!(shown.contains("rank 1 has --seed 2, rank 0 has 1"), "{shown}");

        // What one process alone finds before it has joined.
        let bench = |recipe: &str| trainer(&["bench", "--steps", "2", "--recipe", recipe]);
        let (mut differing, other) = (by(&mpiexec, &["-n", "1"], &bench("demo")), bench("none"));
        differing.args([":", "-n", "1"]).arg(other.get_program()).args(other.get_args());
        let shown = error(&mut differing, 2);
        assert!(shown.starts_with("error: rank 1 of 2: there is no recipe and no file `none`"), "{shown}");
    }
}

#[test]
fn a_benchmark_of_several_processes_says_what_the_exchange_costs() {
    for mpiexec in launchers() {
        let bench = ["bench", "--recipe", "demo", "--classes", "10", "--batch-size", "8", "--steps", "3"];
        let launched = |more: &[&str]| {
            let mut command = trainer(&[&bench[..], more].concat());
            let path = std::env::var_os("PATH").unwrap();
            let folders =
                [mpiexec.parent().unwrap().to_owned()].into_iter().chain(std::env::split_paths(&path));
            command.env("PATH", std::env::join_paths(folders).unwrap());
            command
        };
        let shown = succeed(&mut launched(&["--ranks", "2", "--parts", "4", "--threads", "1", "--json"]));
        let found: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(
            (&found["ranks"], &found["parts"], &found["batch_rows"]),
            (&2.into(), &4.into(), &8.into())
        );
        assert_eq!(found["step_s"].as_array().unwrap().len(), 3);
        // Each of two processes sends half of the gradients, and half of the weights.
        let bytes = found["sent_bytes"].as_u64().unwrap();
        assert!(bytes > 100_000 && bytes.is_multiple_of(256), "{shown}");
        let spans = ["computing_s", "waiting_s", "exchange_s", "update_s", "alone_s", "efficiency"];
        let spans = spans.into_iter().chain(["exchange_alone_s", "allreduce_s"]);
        assert!(spans.clone().all(|span| found[span].as_f64().unwrap() > 0.0), "{shown}");
        let message = fail(&mut launched(&["--ranks", "2", "--parts", "3"]), 2);
        assert!(message.contains("3 parts of a batch cannot be shared by 2 processes"), "{message}");
    }
    let message = fail(&mut trainer(&["bench", "--parts", "2"]), 2);
    assert!(message.contains("add --ranks"), "{message}");
}

/// The functions of an MPI whose job has two processes and whose messages fail, with one that never returns.
fn mpi_that_hangs_in(function: &str) -> String {
    let functions = ["Isend", "Irecv", "Iallgather", "Allreduce", "Ibcast", "Test", "Comm_set_errhandler"]
        .into_iter()
        .map(|name| (name, "void", if name == "Comm_set_errhandler" { "return 0;" } else { "return 5;" }))
        .chain([
            ("Abort", "void", "return 0;"),
            ("Finalize", "void", "return 0;"),
            ("Init_thread", "void", "return 0;"),
            ("Comm_rank", "long comm, int *rank", "*rank = 0; return 0;"),
            ("Comm_size", "long comm, int *size", "*size = 2; return 0;"),
            ("Error_string", "void", "return 1;"),
            ("Get_library_version", "char *text, int *length", "*length = 0; return 0;"),
        ]);
    let functions = functions.map(|(name, arguments, body)| {
        let body = if name == function { "for (;;) pause();" } else { body };
        format!("int MPI_{name}({arguments}) {{ {body} }}\n")
    });
    ["#include <unistd.h>\n".to_owned()].into_iter().chain(functions).collect()
}

#[test]
fn an_mpi_that_never_returns_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let given = ["--rank", "0", "--world", "2", "--parts", "2"];
    for (function, message) in [
        // Ten times the deadline.
        (
            "Init_thread",
            "rank 0 of 2 waited 1 s for the other processes in MPI_Init_thread: one of them hangs",
        ),
        // The error that came before.
        ("Abort", "rank 0 of 2: an all-gather exchange failed: code 5"),
    ] {
        let library = folder.path().join(format!("libmpi_{function}.so"));
        if !has_compiled(&mpi_that_hangs_in(function), &library) {
            return;
        }
        let run = folder.path().join("run");
        let options = ["--deadline", "0.1", "--mpi-library", text(&library), "--run", text(&run)];
        let shown = fail(&mut alone(&[&given[..], &options].concat()), 1);
        assert_eq!(shown.matches("error: ").count(), 1, "{shown}");
        assert!(shown.contains(message), "{shown}");
        assert!(!run.exists());
    }
}

#[test]
fn without_mpi_a_launch_says_what_to_install() {
    let mut command = trainer(&["launch", "--ranks", "2"]);
    let message = fail(command.env("PATH", "/nowhere").env_remove("FOVEA_MPI"), 1);
    assert!(message.contains("no mpiexec is installed; install MPI"), "{message}");
}

#[test]
fn a_launcher_of_one_process_commands_is_refused() {
    let mut command = trainer(&["recipes"]);
    let message = fail(command.env("PMI_RANK", "1").env("PMI_SIZE", "2"), 2);
    assert!(message.contains("`trainer recipes` is one process, but MPICH started 2"), "{message}");
    let given = ["--epochs", "1", "--rank", "1", "--world", "2"];
    let message = fail(trainer(&given).env("RANK", "0").env("WORLD_SIZE", "2"), 2);
    assert!(message.contains("torchrun started this process as rank 0 of 2"), "{message}");
    let message = fail(&mut trainer(&["--epochs", "1", "--rank", "2", "--world", "2"]), 2);
    assert!(message.contains("--rank 2 --world 2: ranks of 2 are 0 to 1"), "{message}");
    let mut command = trainer(&["--epochs", "1"]);
    let message = fail(command.env("RANK", "1").env("WORLD_SIZE", "2"), 2);
    assert!(message.contains("torchrun started this process as rank 1 of 2"), "{message}");
}
