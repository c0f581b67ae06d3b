//! Processes that train together.
//!
//! A [`Collective`] moves bytes between the processes of a run; [`Ranks`] builds on it what training needs:
//! values that all agree on, and sums in an order that does not depend on the number of processes.
//!
//! | file | what |
//! | --- | --- |
//! | `alone.rs` | a process by itself |
//! | `mpi/` | any MPI library, loaded at run time |
//! | `launcher.rs` | who started this process, and as which of how many |
//! | `ranks.rs`, `tree.rs` | agreement and sums |
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
mod ranks;
mod tree;

use std::time::Duration;

pub use alone::Alone;
pub use error::CollectiveError;
pub use launcher::{Launcher, Place};
pub use mpi::{Mpi, launch_command};
pub use ranks::{Fingerprint, Ranks, check_parts};
pub(crate) use tree::Branches;
pub use tree::sum_in_tree;

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

    /// Cuts `send` into one piece for each process, of equal lengths, and puts the pieces that this process
    /// gets into `receive`, in the order of the ranks that sent them. Both have the same length, a multiple
    /// of the world.
    fn all_to_all(&mut self, send: &[u8], receive: &mut [u8]) -> Result<(), CollectiveError>;

    /// Puts the bytes that each process sends into `receive`, in the order of the ranks. All send equally
    /// many.
    fn all_gather(&mut self, send: &[u8], receive: &mut [u8]) -> Result<(), CollectiveError>;

    /// Gives the bytes of rank 0 to all processes.
    fn broadcast(&mut self, bytes: &mut [u8]) -> Result<(), CollectiveError>;

    /// Ends all processes of the run, this one with exit code `code`.
    fn abort(&mut self, code: i32) -> !;
}
