//! Several processes of one run, by a fake of NCCL and of NVIDIA's driver; they compute on the CPU.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use fovea_runtime::testing::{FakeDriver, FakeNccl};

use crate::ranks::{SHORT, alone, await_updates, by, end, launchers, long, processes, result, signal};
use crate::support::*;

/// The fakes, and a folder for runs.
struct Fakes {
    driver: FakeDriver,
    nccl: FakeNccl,
    folder: tempfile::TempDir,
}

impl Fakes {
    fn new() -> Self {
        Self { driver: FakeDriver::new(), nccl: FakeNccl::new(), folder: tempfile::tempdir().unwrap() }
    }

    /// The command, with the fakes in its environment.
    fn with<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let driver = self.driver.path().parent().unwrap();
        command.env("LD_LIBRARY_PATH", driver).env("FOVEA_NCCL", self.nccl.path())
    }

    /// Processes of a run as torchrun starts them.
    fn by_torchrun(&self, ranks: usize, more: &[&str]) -> Vec<Command> {
        // The next port is free as well, in all likelihood.
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let command = |rank: usize| {
            let mut command = alone(&[&["--device", "cpu"][..], more].concat());
            command.env("RANK", rank.to_string()).env("WORLD_SIZE", ranks.to_string());
            command.env("LOCAL_RANK", rank.to_string()).env("LOCAL_WORLD_SIZE", ranks.to_string());
            command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
            self.with(&mut command);
            command
        };
        (0..ranks).map(command).collect()
    }

    fn run(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

/// `trainer launch --collective nccl`, with the options of the run.
fn launched(ranks: usize, more: &[&str]) -> Command {
    let run = alone(more);
    let count = ranks.to_string();
    let mut command = trainer(&["launch", "--ranks", &count, "--collective", "nccl", "--device", "cpu"]);
    command.args(run.get_args());
    command
}

/// Starts processes, and waits for all of them.
fn outputs(commands: Vec<Command>) -> Vec<Output> {
    let start = |mut command: Command| -> Child {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = commands.into_iter().map(start).collect();
    children.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
}

/// The lines of all processes that say what is wrong.
fn errors(outputs: &[Output]) -> Vec<String> {
    let shown = outputs.iter().map(all_output).collect::<String>();
    shown.lines().filter(|line| line.starts_with("error: ")).map(str::to_owned).collect()
}

#[test]
fn processes_that_meet_by_nccl_train_to_the_bits_of_one() {
    let fakes = Fakes::new();
    let [one, two, four, by_mpi] = ["one", "two", "four", "by-mpi"].map(|name| fakes.run(name));
    succeed(&mut alone(&[SHORT, "--parts", "4", "--run", text(&one)]));
    let expected = result(&one);
    succeed(fakes.with(&mut launched(2, &[SHORT, "--parts", "4", "--run", text(&two)])));
    assert!(result(&two) == expected);
    let all = outputs(fakes.by_torchrun(4, &[SHORT, "--run", text(&four)]));
    let shown: String = all.iter().map(all_output).collect();
    assert!(all.iter().all(|output| output.status.success()), "{shown}");
    assert!(shown.contains("rank 0 of 4 by torchrun, through NCCL 2.32.3"), "{shown}");
    assert!(result(&four) == expected);
    if let Some(mpiexec) = launchers().first() {
        let more = [SHORT, "--device", "cpu", "--collective", "nccl", "--parts", "4", "--run", text(&by_mpi)];
        let mut trainer = alone(&more);
        // The library of MPI is found by the linker's path as well.
        fakes.with(&mut trainer);
        succeed(&mut by(mpiexec, &["-n", "2"], &trainer));
        assert!(result(&by_mpi) == expected);
    }
}

#[test]
fn a_process_that_is_killed_or_stopped_ends_all_and_an_interrupt_saves() {
    let fakes = Fakes::new();
    for (how, victim) in [("-KILL", 0), ("-KILL", 1), ("-STOP", 1), ("-TERM", 1)] {
        let run = fakes.run(&format!("run{how}-{victim}"));
        let mut command = launched(2, &long(&run));
        let child = fakes.with(&mut command).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        await_updates(&run);
        let mut pids = processes(&run);
        pids.sort_unstable();
        assert_eq!(pids.len(), 2, "{pids:?}");
        signal(how, pids[victim]);
        if how == "-STOP" {
            // Its end is waited for, so it must come to it.
            std::thread::sleep(Duration::from_secs(8));
            assert_eq!(processes(&run), [pids[victim]], "the other one has not ended");
            signal("-KILL", pids[victim]);
        }
        let expected = if how == "-TERM" { 130 } else { 1 };
        assert_eq!(end(child, Duration::from_secs(60)), Some(expected), "after {how} of {victim}");
        assert!(processes(&run).is_empty(), "after {how} of {victim}");
    }
}

#[test]
fn the_first_cause_is_told_once_and_ends_all() {
    let fakes = Fakes::new();
    let run = fakes.run("run");
    for (fails, cause) in [
        ("work 1", "error: rank 1 of 2: an all-gather exchange failed: unhandled system error: of the fake"),
        (
            "ncclCommGetAsyncError 0",
            "error: rank 0 of 2: ncclCommInitRankConfig failed: remote process exited: of the fake",
        ),
    ] {
        let mut commands = fakes.by_torchrun(2, &[SHORT, "--deadline", "5", "--run", text(&run)]);
        for command in &mut commands {
            command.env("FAKE_NCCL_FAILS", fails);
        }
        let all = outputs(commands);
        assert_eq!(errors(&all).first().map(String::as_str), Some(cause), "{all:?}");
        assert!(all.iter().all(|output| !output.status.success()), "{all:?}");
    }
    // One that is killed says nothing, so the other names it.
    let mut killed = fakes.by_torchrun(2, &long(&fakes.run("long")));
    let mut children: Vec<Child> = killed
        .iter_mut()
        .map(|command| command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    await_updates(&fakes.run("long"));
    children[1].kill().unwrap();
    let all: Vec<Output> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let gone = "error: rank 0 of 2: rank 1 is gone: it was killed, or lost its network; go on from the last checkpoint \
                with --resume";
    assert_eq!(errors(&all), [gone]);
    assert_eq!(all[0].status.code(), Some(1));
}

#[test]
fn without_a_gpu_without_nccl_and_without_an_address_the_remedy_is_told() {
    let fakes = Fakes::new();
    let started = |more: &[&str]| {
        let mut command = alone(&[&["--device", "cpu"][..], more].concat());
        command.env("RANK", "0").env("WORLD_SIZE", "2").env("FOVEA_NCCL", fakes.nccl.path());
        command
    };
    let shown = fail(started(&[]).env("LD_LIBRARY_PATH", fakes.folder.path()), 2);
    let expected = "torchrun started this process as rank 0 of 2, to train by NCCL, which cannot be used: the NVIDIA driver";
    assert!(shown.contains(expected) && shown.contains("start them with mpiexec, srun"), "{shown}");
    let shown = fail(launched(2, &[]).env("LD_LIBRARY_PATH", fakes.folder.path()), 2);
    assert_eq!(shown.matches("trainer launch started this process as rank 0 of 2").count(), 1, "{shown}");
    let shown = fail(fakes.with(&mut started(&[])), 2);
    assert!(
        shown.contains("MASTER_ADDR is not set in the environment; give all processes --rendezvous"),
        "{shown}"
    );
    let other = ["--nccl-library", "libc.so.6", "--rendezvous", "127.0.0.1:29501"];
    let shown = fail(fakes.with(&mut started(&other)), 2);
    assert!(
        shown.contains("libc.so.6: it has no function ncclGetVersion; name a library such as libnccl"),
        "{shown}"
    );
    let shown = fail(fakes.with(&mut started(&["--collective", "mpi"])), 2);
    assert!(shown.contains("without MPI; start the processes with mpiexec"), "{shown}");
    let shown = fail(&mut trainer(&["--rendezvous", "node1", "--epochs", "1"]), 2);
    assert!(shown.contains("`node1` is not a host and a port, such as node1:29501"), "{shown}");
    assert!(Path::new(fakes.driver.path()).exists());
}
