//! `trainer launch`: starts the processes of a run on this machine.

use std::env;
use std::ffi::OsString;
use std::num::NonZero;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use fovea_tools::errln;
use fovea_tools::signals::FinishFirst;
use fovea_tools::terminal::{INTERRUPTED, USAGE};
use fovea_trainer::collective::launch_command;
use fovea_trainer::training::TrainingError;

use super::WrongUsage;
use super::args::{LaunchArgs, LaunchedArgs};

pub fn launch(args: &LaunchArgs) -> anyhow::Result<ExitCode> {
    start(args.ranks, &args.train.launched)
}

/// Starts this command `ranks` times, without its options `launch` and `--ranks`.
pub fn start(ranks: NonZero<usize>, args: &LaunchedArgs) -> anyhow::Result<ExitCode> {
    if args.rank.is_some() {
        let message = "--rank and --world are for processes that another launcher starts; leave them out";
        return Err(WrongUsage(message.into()).into());
    }
    let library = args.mpi_library.as_deref();
    let mut command = launch_command(ranks.get(), library).map_err(TrainingError::from)?;
    let program = PathBuf::from(command.get_program());
    let trainer = env::current_exe().context("the path of this program is unknown")?;
    command.arg(trainer).args(without(env::args_os().skip(1), "--ranks"));
    // In a group of its own it gets the terminal's Ctrl-C from here alone, once.
    command.stdin(Stdio::null()).process_group(0);
    let mut child = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let (asked, group) = (Arc::clone(&interrupted), child.id());
    let _finish = FinishFirst::calling(move || {
        asked.store(true, Ordering::Relaxed);
        fovea_tools::signals::send_interrupt(group);
    });
    let status = child.wait().with_context(|| format!("{} cannot be waited for", program.display()))?;
    if interrupted.load(Ordering::Relaxed) {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    match status.code() {
        Some(0) => Ok(ExitCode::SUCCESS),
        Some(code) if code == i32::from(USAGE) => Ok(ExitCode::from(USAGE)),
        Some(code) if code == i32::from(INTERRUPTED) => Ok(ExitCode::from(INTERRUPTED)),
        Some(1) => Ok(ExitCode::FAILURE),
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
            Ok(ExitCode::FAILURE)
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
