//! Several processes of one run: how this one joins them, and how they end together.

use std::num::NonZero;
use std::process::ExitCode;
use std::time::Duration;

use fovea_pipeline::cores;
use fovea_pipeline::summary::count;
use fovea_tools::errln;
use fovea_tools::signals::end_at_once;
use fovea_tools::terminal::one_line;
use fovea_trainer::collective::{CollectiveError, Mpi, Place, Ranks};
use fovea_trainer::training::TrainingError;

use super::args::{Command, LaunchedArgs, TrainingArgs};
use super::{WrongUsage, exit_code, is_usage, print_error};

/// The processes that a launcher has started, or this one alone.
pub struct Joined {
    pub ranks: Ranks,
    /// `None` for a process by itself.
    pub place: Option<Place>,
}

/// Joins the processes of the launcher that has started this one, if one has.
pub fn join(args: &LaunchedArgs, deadline: Duration) -> anyhow::Result<Joined> {
    let known = Place::from_env().map_err(TrainingError::from)?;
    let place = match (known, args.rank, args.world) {
        (None, Some(rank), Some(world)) => Place::given(rank, world).map_err(TrainingError::from)?,
        (known, ..) => known,
    };
    let Some(place) = place else {
        return Ok(Joined { ranks: Ranks::default(), place: None });
    };
    let mpi =
        Mpi::join(&place, args.mpi_library.as_deref(), deadline, give_up).map_err(TrainingError::from)?;
    if place.rank == 0 {
        errln!("{place}, through {}", mpi.version());
    }
    Ok(Joined { ranks: Ranks::new(Box::new(mpi), deadline), place: Some(place) })
}

/// Ends this process where MPI does not return: at once, as what it does at the end of a process may hang.
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

/// Gives a process its share of the cores of its machine, where the command line gives no numbers of threads.
///
/// A process that computes several parts by itself uses as many threads as each of several processes would
/// on this machine, since sums in ONNX Runtime depend on the number of threads.
pub fn share_cores(training: &mut TrainingArgs, place: Option<&Place>, parts: usize) {
    let cores = cores().get();
    let share = |processes: usize| NonZero::new((cores / processes.max(1)).max(1));
    let threads = &mut training.device.runtime.threads;
    match place {
        Some(place) => {
            *threads = threads.or(share(place.local_world));
            training.workers = training.workers.or(share(place.local_world));
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
