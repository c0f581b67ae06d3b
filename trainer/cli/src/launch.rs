//! `trainer launch`: starts the processes of a run on this machine, by MPI's `mpiexec`, or itself for NCCL.

use std::env;
use std::ffi::OsString;
use std::num::NonZero;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use fovea_tools::errln;
use fovea_tools::signals::{self, FinishFirst};
use fovea_tools::terminal::{INTERRUPTED, USAGE};
use fovea_trainer::collective::{Launcher, Place, Rendezvous, is_open_mpi, launch_command};
use fovea_trainer::training::TrainingError;

use super::WrongUsage;
use super::args::{CollectiveKind, LaunchArgs, LaunchedArgs};
use super::ranks::gpus_for_nccl;

/// How long processes have to end after a second Ctrl-C; the mpiexec of Open MPI takes two seconds for that.
const TO_END: Duration = Duration::from_secs(5);

pub fn launch(args: &LaunchArgs) -> anyhow::Result<ExitCode> {
    start(args.ranks, &args.train.launched)
}

/// Starts this command `ranks` times, without its options `launch` and `--ranks`.
pub fn start(ranks: NonZero<usize>, args: &LaunchedArgs) -> anyhow::Result<ExitCode> {
    if args.rank.is_some() {
        let message = "--rank and --world are for processes that another launcher starts; leave them out";
        return Err(WrongUsage(message.into()).into());
    }
    let trainer = env::current_exe().context("the path of this program is unknown")?;
    let arguments = without(env::args_os().skip(1), "--ranks");
    let (program, commands) = match args.collective {
        None | Some(CollectiveKind::Mpi) => {
            let library = args.mpi_library.as_deref();
            let mut command = launch_command(ranks.get(), library).map_err(TrainingError::from)?;
            command.arg(&trainer).args(arguments);
            (PathBuf::from(command.get_program()), vec![command])
        }
        Some(CollectiveKind::Nccl) => {
            let commands = by_ourselves(ranks.get(), &trainer, &arguments, args)?;
            (trainer, commands)
        }
    };
    let mut children = Vec::with_capacity(commands.len());
    for mut command in commands {
        // In a group of its own it gets the terminal's Ctrl-C from here alone, once.
        command.stdin(Stdio::null()).process_group(0);
        signals::end_with_parent(&mut command);
        children.push(command.spawn().with_context(|| format!("{} cannot be started", program.display()))?);
    }
    let (is_open_mpi, is_forced) = (is_open_mpi(&program), Arc::new(AtomicBool::new(false)));
    let groups: Vec<u32> = children.iter().map(|child| child.id()).collect();
    let (forced, same) = (Arc::clone(&is_forced), groups.clone());
    let _finish = FinishFirst::calling_twice(
        move || {
            for &group in &groups {
                // Open MPI's mpiexec would kill its processes after two seconds.
                if !(is_open_mpi && signals::send_interrupt_to_children(group)) {
                    signals::send_interrupt(group);
                }
            }
        },
        move || {
            forced.store(true, Ordering::Relaxed);
            // They end at once, as by a second Ctrl-C of their own; who does not is killed.
            same.iter().copied().for_each(signals::send_interrupt);
            thread::sleep(TO_END);
            same.iter().copied().for_each(signals::kill);
        },
    );
    let mut statuses = Vec::with_capacity(children.len());
    for mut child in children {
        statuses.push(child.wait().with_context(|| format!("{} cannot be waited for", program.display()))?);
    }
    if is_forced.load(Ordering::Relaxed) {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    Ok(ended(&program, &statuses))
}

/// The commands of processes that meet at a free port of this machine.
fn by_ourselves(
    ranks: usize,
    trainer: &Path,
    arguments: &[OsString],
    args: &LaunchedArgs,
) -> anyhow::Result<Vec<Command>> {
    // An error once, not in each process.
    let first =
        Place { launcher: Launcher::Trainer, rank: 0, world: ranks, local_rank: 0, local_world: ranks };
    gpus_for_nccl(args, &first)?;
    let address = match &args.rendezvous {
        Some(_) => None,
        None => Some(Rendezvous::of_this_machine().context("this machine has no free port")?),
    };
    let command = |rank| {
        let mut command = Command::new(trainer);
        command.args(arguments).envs(Place::variables(rank, ranks));
        if let Some(address) = &address {
            command.args(["--rendezvous", &address.to_string()]);
        }
        command
    };
    Ok((0..ranks).map(command).collect())
}

/// How processes have ended: the first that was not ended by another one tells it.
fn ended(program: &Path, statuses: &[ExitStatus]) -> ExitCode {
    let failed = |status: &&ExitStatus| !status.success();
    let killed = statuses.iter().find(|status| status.code().is_none());
    let Some(status) = killed.or_else(|| statuses.iter().find(failed)) else { return ExitCode::SUCCESS };
    match status.code() {
        Some(code) if code == i32::from(USAGE) => ExitCode::from(USAGE),
        Some(code) if code == i32::from(INTERRUPTED) => ExitCode::from(INTERRUPTED),
        Some(1) => ExitCode::FAILURE,
        code => {
            let how = match (code, status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, signal) => format!("signal {}", signal.unwrap_or_default()),
            };
            errln!(
                "error: {} ended with {how}: a process was killed, or ran out of memory; go on from the last checkpoint \
                 with --resume",
                program.display()
            );
            ExitCode::FAILURE
        }
    }
}

/// The arguments of processes that this command starts: its own without `launch` and an option with a value.
pub fn without(mut arguments: impl Iterator<Item = OsString>, option: &str) -> Vec<OsString> {
    let mut others = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("launch") if others.is_empty() => {}
            Some(text) if text == option => drop(arguments.next()),
            Some(text) if text.strip_prefix(option).is_some_and(|rest| rest.starts_with('=')) => {}
            _ => others.push(argument),
        }
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_gets_the_arguments_of_training() {
        let given = ["launch", "--ranks", "2", "--data", "launch", "--ranks=2", "--run", "two"];
        let expected = ["--data", "launch", "--run", "two"];
        assert_eq!(without(given.into_iter().map(OsString::from), "--ranks"), expected.map(OsString::from));
    }
}
