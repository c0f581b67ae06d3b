//! Errors of processes that train together.

use std::path::PathBuf;
use std::time::Duration;

/// Processes cannot train together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CollectiveError {
    /// The other processes did not take part in time.
    #[error(
        "rank {rank} of {world} waited {} s for the other processes in {operation}: one of them hangs, was stopped or lost \
         its network; resume the run, with a longer --deadline if they are only slow",
        waited.as_secs()
    )]
    Deadline {
        /// This process.
        rank: usize,
        /// Number of processes.
        world: usize,
        /// What it waited in.
        operation: &'static str,
        /// How long.
        waited: Duration,
    },
    /// The library that connects the processes reports an error.
    #[error("rank {rank} of {world}: {operation} failed: {reason}")]
    Failed {
        /// This process.
        rank: usize,
        /// Number of processes.
        world: usize,
        /// What failed.
        operation: &'static str,
        /// The library's message.
        reason: String,
    },
    /// No MPI library was found.
    #[error(
        "{launcher} started this process as one of {world}, but no MPI library can be loaded ({}); install the one that \
         {launcher} is of, or name it with --mpi-library",
        tried.join("; ")
    )]
    NoLibrary {
        /// Who started it.
        launcher: String,
        /// Number of processes.
        world: usize,
        /// What was tried, with the reasons.
        tried: Vec<String>,
    },
    /// The file is not an MPI library.
    #[error("{}: {reason}; name a library such as libmpi.so.40, libmpi.so.12 or libmpi_abi.so.1", path.display())]
    NotMpi {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The MPI library and the launcher are not of one make.
    #[error(
        "{launcher} started {launched} processes, but {library} knows of {world}: library and launcher are of different makes \
         of MPI; start the run with the mpiexec of that library, or name the launcher's with --mpi-library"
    )]
    Mixed {
        /// Who started the process.
        launcher: String,
        /// Number of processes by the launcher.
        launched: usize,
        /// Name and version of the library.
        library: String,
        /// Number of processes by the library.
        world: usize,
    },
    /// A variable of the environment is not a number, or not in its range.
    #[error("{variable}={value:?} in the environment is not {expected}")]
    Environment {
        /// Its name.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// Rank and world that were given cannot be.
    #[error("--rank {rank} --world {world}: {reason}")]
    Given {
        /// The rank.
        rank: usize,
        /// The number of processes.
        world: usize,
        /// The reason, and what to do.
        reason: String,
    },
    /// The launcher provides no MPI.
    #[error(
        "{launcher} started this process as rank {rank} of {world}, without MPI; start the processes with mpiexec, srun \
         or `trainer launch`, or let them train by NCCL with --collective nccl"
    )]
    NoMpi {
        /// Who started the process.
        launcher: String,
        /// This process.
        rank: usize,
        /// Number of processes.
        world: usize,
    },
    /// NCCL cannot be used.
    #[error(
        "{launcher} started this process as rank {rank} of {world}, to train by NCCL, which cannot be used: {reason}; on \
         CPUs processes train by MPI: start them with mpiexec, srun or `trainer launch` without --collective"
    )]
    NoNccl {
        /// Who started the process.
        launcher: String,
        /// This process.
        rank: usize,
        /// Number of processes.
        world: usize,
        /// The reason.
        reason: String,
    },
    /// The file is not NCCL.
    #[error("{}: {reason}; name a library such as libnccl.so.2", path.display())]
    NotNccl {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// There is no address at which the processes could meet.
    #[error(
        "{reason}; give all processes --rendezvous with the host of rank 0 and a port that is free there"
    )]
    NoAddress {
        /// What was found.
        reason: String,
    },
    /// The processes do not meet.
    #[error("rank {rank} of {world} cannot meet the others at {address}: {reason}")]
    NotMet {
        /// This process.
        rank: usize,
        /// Number of processes.
        world: usize,
        /// Where rank 0 listens.
        address: String,
        /// The reason, and what to do.
        reason: String,
    },
    /// Another process has ended without a word.
    #[error(
        "rank {rank} of {world}: rank {lost} is gone: it was killed, or lost its network; go on from the last checkpoint \
         with --resume"
    )]
    Gone {
        /// This process.
        rank: usize,
        /// Number of processes.
        world: usize,
        /// The other one.
        lost: usize,
    },
    /// There is no program that starts processes with MPI.
    #[error(
        "no mpiexec is installed; install MPI, with `pip install mpich` or as Debian's package openmpi-bin, or start \
             one process with: trainer --parts {ranks}"
    )]
    NoLauncher {
        /// Number of processes to start.
        ranks: usize,
    },
    /// The processes are not of one run.
    #[error(
        "rank {rank} has {field} {found}, rank 0 has {expected}; start all processes with the same command and data"
    )]
    Differs {
        /// The process that differs.
        rank: usize,
        /// What differs.
        field: String,
        /// Its value.
        found: String,
        /// The value of rank 0.
        expected: String,
    },
    /// A process cannot begin.
    #[error("{who}{message}")]
    Unready {
        /// That process, unless all have the same error.
        who: String,
        /// Its error.
        message: String,
        /// Whether the command is to blame.
        is_usage: bool,
    },
    /// The parts of a batch cannot be shared among the processes.
    #[error(
        "{parts} parts of a batch cannot be shared by {world} processes: each needs 1, 2, 4, 8 … of them; give --parts \
         {world} in a new run, or start {fitting} processes"
    )]
    Parts {
        /// Parts of a batch.
        parts: usize,
        /// Number of processes.
        world: usize,
        /// Numbers of processes that would do.
        fitting: String,
    },
}

impl CollectiveError {
    /// Whether the command, the environment or the installation is to blame; nothing has been trained then.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::NotMpi { .. }
            | Self::Mixed { .. }
            | Self::Environment { .. }
            | Self::Given { .. }
            | Self::NoMpi { .. }
            | Self::NoNccl { .. }
            | Self::NotNccl { .. }
            | Self::NoAddress { .. }
            | Self::Differs { .. }
            | Self::Parts { .. } => true,
            Self::Deadline { .. }
            | Self::Failed { .. }
            | Self::NotMet { .. }
            | Self::Gone { .. }
            | Self::NoLibrary { .. }
            | Self::NoLauncher { .. } => false,
            Self::Unready { is_usage, .. } => *is_usage,
        }
    }
}
