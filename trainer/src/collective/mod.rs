//! Processes that train together.
//!
//! A [`Collective`] moves bytes between the processes of a run; [`Ranks`] builds on it what training needs:
//! values that all agree on, and sums in an order that does not depend on the number of processes.
//!
//! | file | what |
//! | --- | --- |
//! | `alone.rs` | a process by itself |
//! | `mpi/` | any MPI library, loaded at run time |
//! | `nccl/` | NVIDIA's NCCL, loaded at run time: processes that have a GPU each |
//! | `waiting.rs` | how a process waits for the others, and for how long |
//! | `launcher.rs` | who started this process, and as which of how many |
//! | `ranks.rs`, `tree.rs` | agreement and sums |
//! | `shares.rs` | which values each process owns |
//!
//! A *rank* is a process's number, counted from 0; the *world* is how many there are.

mod alone;
#[cfg(test)]
mod conformance;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod launcher;
mod mpi;
mod nccl;
mod ranks;
mod shares;
mod tree;
mod waiting;

use std::time::Duration;

pub use alone::Alone;
pub use error::CollectiveError;
pub use launcher::{Launcher, Place};
pub use mpi::{Mpi, is_open_mpi, launch_command};
pub use nccl::{Beside, Nccl, Rendezvous};
pub use ranks::{Fingerprint, Ranks, check_parts};
pub use shares::Shares;
pub(crate) use shares::common;
pub(crate) use tree::Branches;
pub use tree::sum_in_tree;
pub use waiting::GiveUp;

/// Moves bytes between the processes of a run. All of them make the same calls in the same order.
///
/// # Errors
/// Every operation fails with [`CollectiveError::Deadline`] when the other processes do not take part before
/// the deadline, and with another [`CollectiveError`] when the connection to them is lost. No operation works
/// after an error.
pub trait Collective {
    /// This process's number.
    fn rank(&self) -> usize;

    /// The number of processes.
    fn world(&self) -> usize;

    /// How long each later operation waits for the other processes.
    fn set_deadline(&mut self, deadline: Duration);

    /// Sends `send[r]` to each other process `r`, and puts what comes from it into `receive[r]`, which has
    /// the length that it sends; pieces may be empty. Those of this process itself are left alone.
    fn all_to_all(&mut self, send: &[&[u8]], receive: &mut [&mut [u8]]) -> Result<(), CollectiveError>;

    /// Puts the bytes that each process sends into `receive`, in the order of the ranks. All send equally
    /// many.
    fn all_gather(&mut self, send: &[u8], receive: &mut [u8]) -> Result<(), CollectiveError>;

    /// Gives the bytes of rank 0 to all processes.
    fn broadcast(&mut self, bytes: &mut [u8]) -> Result<(), CollectiveError>;

    /// The sums of `send` over all processes, by the sum of the library, to compare with in a benchmark: in
    /// an order of its own, and without a deadline. False if it has none.
    fn library_sum(&mut self, send: &[f32], sums: &mut [f32]) -> Result<bool, CollectiveError> {
        let _ = (send, sums);
        Ok(false)
    }

    /// Ends all processes of the run, this one with exit code `code`.
    fn abort(&mut self, code: i32) -> !;
}
