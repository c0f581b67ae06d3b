//! Several processes of one run: how this one joins them, and how they end together.

use std::env;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fovea_pipeline::cores;
use fovea_pipeline::summary::count;
use fovea_runtime::copies::CopyStream;
use fovea_runtime::{Build, Options, RuntimeError, gpus, locate_nccl};
use fovea_tools::bars::FetchBar;
use fovea_tools::errln;
use fovea_tools::signals::{FinishFirst, at_once, end_at_once};
use fovea_tools::terminal::{INTERRUPTED, one_line};
use fovea_trainer::backend::BackendError;
use fovea_trainer::collective::{
    Beside, Collective, CollectiveError, Launcher, Mpi, Nccl, Place, Ranks, Rendezvous,
};
use fovea_trainer::training::TrainingError;

use super::args::{CollectiveKind, Command, LaunchedArgs, RuntimeArgs, TrainingArgs};
use super::{WrongUsage, exit_code, is_usage, print_error};

/// The processes that a launcher has started, or this one alone.
pub struct Joined {
    pub ranks: Ranks,
    /// `None` for a process by itself.
    pub place: Option<Place>,
}

/// Joins the processes of the launcher that has started this one, if one has. An interrupt meanwhile ends all
/// of them once they have met: a process that ended by itself would leave the others waiting for it.
pub fn join(args: &LaunchedArgs, deadline: Duration) -> anyhow::Result<Joined> {
    let known = Place::from_env().map_err(TrainingError::from)?;
    let place = match (known, args.rank, args.world) {
        (None, Some(rank), Some(world)) => Place::given(rank, world).map_err(TrainingError::from)?,
        (known, ..) => known,
    };
    let Some(place) = place else {
        return Ok(Joined { ranks: Ranks::default(), place: None });
    };
    let interrupted = Arc::new(AtomicBool::new(false));
    let finish = FinishFirst::calling({
        let interrupted = Arc::clone(&interrupted);
        move || interrupted.store(true, Ordering::Relaxed)
    });
    let (library, mut collective): (String, Box<dyn Collective>) = match kind(args, place.launcher) {
        CollectiveKind::Mpi => {
            let mpi = join_mpi(args, &place, deadline)?;
            (mpi.version(), Box::new(mpi))
        }
        CollectiveKind::Nccl => {
            let nccl = join_nccl(args, &place, deadline)?;
            (nccl.version(), Box::new(nccl))
        }
    };
    drop(finish);
    if interrupted.load(Ordering::Relaxed) {
        errln!("rank {} of {} was interrupted at the beginning", place.rank, place.world);
        collective.abort(INTERRUPTED.into());
    }
    if place.rank == 0 {
        errln!("{place}, through {library}");
    }
    Ok(Joined { ranks: Ranks::new(collective, deadline), place: Some(place) })
}

fn kind(args: &LaunchedArgs, launcher: Launcher) -> CollectiveKind {
    let meets = args.rendezvous.is_some() && launcher == Launcher::Given;
    let default = match Nccl::is_default_of(launcher) || meets {
        true => CollectiveKind::Nccl,
        false => CollectiveKind::Mpi,
    };
    args.collective.unwrap_or(default)
}

fn join_mpi(args: &LaunchedArgs, place: &Place, deadline: Duration) -> anyhow::Result<Mpi> {
    Ok(Mpi::join(place, args.mpi_library.as_deref(), deadline, give_up).map_err(TrainingError::from)?)
}

/// The number of GPUs that NCCL can use.
///
/// # Errors
/// There is none, or no driver.
pub fn gpus_for_nccl(args: &LaunchedArgs, place: &Place) -> anyhow::Result<u32> {
    Ok(gpus(nccl_library(args).is_none()).map_err(|error| match error {
        RuntimeError::NoDriver { reason } => {
            unusable(place, format!("the NVIDIA driver cannot be loaded: {reason}"))
        }
        RuntimeError::NoGpu { reason } => unusable(place, reason),
        other => unusable(place, other.to_string()),
    })?)
}

/// The library that the user names.
fn nccl_library(args: &LaunchedArgs) -> Option<PathBuf> {
    args.nccl_library.clone().or_else(|| env::var_os("FOVEA_NCCL").map(PathBuf::from))
}

fn unusable(place: &Place, reason: String) -> TrainingError {
    let launcher = place.launcher.to_string();
    CollectiveError::NoNccl { launcher, rank: place.rank, world: place.world, reason }.into()
}

/// Joins the others by NCCL, on the GPU with this process's number among those of the machine.
fn join_nccl(args: &LaunchedArgs, place: &Place, deadline: Duration) -> anyhow::Result<Nccl> {
    let gpus = gpus_for_nccl(args, place)?;
    let fetch = || locate_nccl(&Options::from_env(Build::Cuda), &mut FetchBar::default());
    let library = nccl_library(args).map_or_else(|| at_once(fetch), Ok).map_err(BackendError::from)?;
    let stream =
        CopyStream::open(place.local_rank as u32 % gpus).map_err(|reason| unusable(place, reason))?;
    let beside = match (&args.rendezvous, place.launcher) {
        (Some(address), _) => Beside::Meeting(address.clone()),
        (None, Launcher::Torchrun | Launcher::Trainer | Launcher::Given) => {
            Beside::Meeting(Rendezvous::from_env().map_err(TrainingError::from)?)
        }
        (None, Launcher::OpenMpi | Launcher::Mpich | Launcher::Slurm) => {
            Beside::Mpi(Box::new(join_mpi(args, place, deadline)?))
        }
    };
    Ok(Nccl::join(place, &library, stream, beside, deadline, give_up).map_err(TrainingError::from)?)
}

/// Ends this process where a library does not return, or as another process has ended the run: at once, as
/// what the library does at the end of a process may hang.
fn give_up(code: i32, error: Option<&CollectiveError>) -> ! {
    if let Some(error) = error {
        errln!("error: {error}");
    }
    end_at_once(code)
}

/// Checks rank and world of the command line in all processes: one that ended by itself before it has
/// joined would leave the others waiting for it.
pub fn confirm(ranks: &mut Ranks, args: &LaunchedArgs, place: Option<&Place>) -> anyhow::Result<()> {
    let confirmed = match (place, args.rank, args.world) {
        (Some(place), Some(rank), Some(world)) => place.confirm(rank, world),
        _ => Ok(()),
    };
    agreed(ranks, confirmed.map_err(TrainingError::from))
}

/// Refuses a launcher of several processes: only training, and its benchmark, are more than one process.
pub fn refuse(command: &Command) -> anyhow::Result<()> {
    if matches!(command, Command::Bench(args) if args.data.is_none() && args.state.is_none()) {
        return Ok(());
    }
    let command = command.name();
    match Place::from_env().map_err(TrainingError::from)? {
        None => Ok(()),
        Some(place) => Err(WrongUsage(format!(
            "`trainer {command}` is one process, but {} started {}; start it without a launcher, or with one process",
            place.launcher, place.world
        ))
        .into()),
    }
}

/// Whether a launcher has started several processes.
pub fn are_launched() -> bool {
    matches!(Place::from_env(), Ok(Some(_)))
}

/// Gives a process its share of the cores of its machine and its own GPU, where the command line gives no
/// number of threads or GPU.
pub fn share_machine(runtime: &mut RuntimeArgs, place: &Place) {
    runtime.threads = runtime.threads.or(NonZero::new((cores().get() / place.local_world).max(1)));
    runtime.device = runtime.device.of_process(place.local_rank as u32, gpus(true).unwrap_or(0));
}

/// Gives a process its share of its machine, where the command line does not.
///
/// A process that computes several parts by itself uses as many threads as each of several processes would
/// on this machine, since sums in ONNX Runtime depend on the number of threads.
pub fn share_cores(training: &mut TrainingArgs, place: Option<&Place>, parts: usize) {
    let cores = cores().get();
    let share = |processes: usize| NonZero::new((cores / processes.max(1)).max(1));
    let threads = &mut training.device.runtime.threads;
    match place {
        Some(place) => {
            training.workers = training.workers.or(share(place.local_world));
            share_machine(&mut training.device.runtime, place);
        }
        None if parts > 1 && threads.is_none() => {
            *threads = share(parts);
            errln!(
                "note: computes with {} of {}, as each of {parts} processes would, to the same bits; --threads {cores} is \
                 faster",
                threads.map_or(1, usize::from),
                count(cores as u64, "core")
            );
        }
        None => {}
    }
}

/// The result of this process, if no process has an error; else that error.
pub fn agreed<T, E>(ranks: &mut Ranks, own: Result<T, E>) -> anyhow::Result<T>
where
    anyhow::Error: From<E>,
{
    let own = own.map_err(anyhow::Error::from);
    if ranks.world() > 1 {
        let ready = own.as_ref().map(drop).map_err(|error| (one_line(error), is_usage(error)));
        ranks.agree(ready).map_err(TrainingError::from)?;
    }
    own
}

/// Ends the run in all processes after an error of this one. One that all of them have is printed by the
/// first; another is printed by the process that has it, which ends the others.
pub fn end(ranks: &mut Ranks, error: &anyhow::Error) -> ExitCode {
    let shared = match error.downcast_ref() {
        Some(TrainingError::NotFinite(_)) => true,
        Some(TrainingError::Collective(error)) => {
            matches!(error, CollectiveError::Unready { .. } | CollectiveError::Differs { .. })
        }
        _ => false,
    };
    let code = exit_code(error);
    if shared {
        if ranks.is_first() {
            print_error(error);
        }
        return ExitCode::from(code);
    }
    match error.downcast_ref() {
        // It says which rank it is of.
        Some(TrainingError::Collective(_)) => errln!("error: {}", one_line(error)),
        _ => errln!("error: rank {} of {}: {}", ranks.rank(), ranks.world(), one_line(error)),
    }
    ranks.abort(code.into())
}
