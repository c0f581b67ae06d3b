//! The options of a process that is one of several.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use fovea_trainer::collective::Rendezvous;

/// What connects the processes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CollectiveKind {
    Mpi,
    Nccl,
}

/// How a launcher has started this process.
#[derive(Args, Clone, Debug)]
pub struct LaunchedArgs {
    /// What connects the processes of a run: MPI, or NCCL for GPUs [default: nccl under torchrun, else mpi]
    #[arg(long, value_enum)]
    pub collective: Option<CollectiveKind>,
    /// MPI library that connects the processes of a run [default: FOVEA_MPI, else the launcher's]
    #[arg(long, value_name = "PATH")]
    pub mpi_library: Option<PathBuf>,
    /// NCCL's library [default: FOVEA_NCCL, else fetched into the cache]
    #[arg(long, value_name = "PATH")]
    pub nccl_library: Option<PathBuf>,
    /// Where rank 0 listens, without MPI [default: MASTER_ADDR, and the port after MASTER_PORT]
    #[arg(long, value_name = "HOST:PORT")]
    pub rendezvous: Option<Rendezvous>,
    /// This process's number among those of the run, from 0 [default: what the launcher says]
    #[arg(long, value_name = "N", requires = "world")]
    pub rank: Option<usize>,
    /// Number of processes that a launcher has started [default: what the launcher says]
    #[arg(long, value_name = "N", requires = "rank")]
    pub world: Option<usize>,
}
