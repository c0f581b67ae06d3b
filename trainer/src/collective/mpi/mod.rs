//! MPI, loaded at run time: any library of the three families, without anything of it at build time.

mod find;
mod library;

use std::ffi::{c_int, c_void};
use std::path::Path;
use std::process;
use std::time::Duration;

pub use find::{is_open_mpi, launch_command};

use self::library::{Handle, Library};
use super::waiting::{DEADLINES_TO_BEGIN, GiveUp, TO_ABORT, TimeLimit, Wait, give_up_after};
use super::{Collective, CollectiveError, Launcher, Place};

/// Most bytes of one call; the counts of MPI are C's `int`.
const MOST_BYTES: usize = 1 << 30;
/// The tag of all messages: those from one process to another arrive in order.
const TAG: c_int = 1;

/// The processes of an MPI job.
pub struct Mpi {
    library: Library,
    rank: usize,
    world: usize,
    deadline: Duration,
    give_up: GiveUp,
}

impl Mpi {
    /// Joins the job that `place` says this process is of, through the library at `path` or the one that
    /// belongs to the launcher. Call it once, from the thread that uses it.
    ///
    /// MPI's calls that begin and end a job return when the other processes have made them too, and cannot
    /// be interrupted: after ten times `deadline`, or after the deadline, `give_up` is called.
    ///
    /// # Errors
    /// [`CollectiveError::NoLibrary`], [`CollectiveError::NotMpi`], [`CollectiveError::Mixed`],
    /// [`CollectiveError::Given`].
    pub fn join(
        place: &Place,
        path: Option<&Path>,
        deadline: Duration,
        give_up: GiveUp,
    ) -> Result<Self, CollectiveError> {
        let library = find::load(place, path)?;
        let limit = deadline.saturating_mul(DEADLINES_TO_BEGIN);
        let limit = give_up_after(limit, (place.rank, place.world), "MPI_Init_thread", give_up);
        let (rank, world) = library.init().map_err(|reason| CollectiveError::Failed {
            rank: place.rank,
            world: place.world,
            operation: "MPI_Init_thread",
            reason,
        })?;
        drop(limit);
        if place.launcher == Launcher::Given && (rank, world) != (place.rank, place.world) {
            let reason = format!(
                "for {} this process is rank {rank} of {world}; start all processes with the mpiexec of that library",
                library.version()
            );
            return Err(CollectiveError::Given { rank: place.rank, world: place.world, reason });
        }
        if world != place.world {
            return Err(CollectiveError::Mixed {
                launcher: place.launcher.to_string(),
                launched: place.world,
                library: library.version(),
                world,
            });
        }
        Ok(Self { library, rank, world, deadline, give_up })
    }

    /// Name and version of the library.
    #[must_use]
    pub fn version(&self) -> String {
        self.library.version()
    }

    /// Begins an operation; its request is added to `requests`.
    fn begin(
        &self,
        operation: &'static str,
        requests: &mut Vec<Handle>,
        start: impl FnOnce(*mut Handle) -> c_int,
    ) -> Result<(), CollectiveError> {
        let mut request: Handle = 0;
        match start(&mut request) {
            0 => requests.push(request),
            code => return Err(self.failed(operation, self.library.message(code))),
        }
        Ok(())
    }

    /// Waits until the requests of an operation on `bytes` are complete on this side.
    fn complete(
        &self,
        operation: &'static str,
        bytes: usize,
        mut requests: Vec<Handle>,
    ) -> Result<(), CollectiveError> {
        let wait = Wait::start((self.rank, self.world), operation, bytes);
        loop {
            let mut failure = 0;
            requests.retain_mut(|request| {
                let mut done: c_int = 0;
                // Larger than the status of any family.
                let mut status = [0_u64; 32];
                // SAFETY: the request is one that was begun, and all pointers are valid.
                let code =
                    unsafe { (self.library.test)(request, &mut done, status.as_mut_ptr().cast::<c_void>()) };
                failure = if failure == 0 { code } else { failure };
                done == 0
            });
            if failure != 0 {
                return Err(self.failed(operation, self.library.message(failure)));
            }
            if requests.is_empty() {
                return Ok(());
            }
            wait.go_on(self.deadline)?;
        }
    }

    /// Runs an operation that `start` begins, until it is complete on this side.
    fn wait(
        &self,
        operation: &'static str,
        bytes: usize,
        start: impl FnOnce(*mut Handle) -> c_int,
    ) -> Result<(), CollectiveError> {
        let mut requests = Vec::with_capacity(1);
        self.begin(operation, &mut requests, start)?;
        self.complete(operation, bytes, requests)
    }

    fn failed(&self, operation: &'static str, reason: String) -> CollectiveError {
        CollectiveError::Failed { rank: self.rank, world: self.world, operation, reason }
    }
}

impl Collective for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.world
    }

    fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    fn all_to_all(&mut self, send: &[&[u8]], receive: &mut [&mut [u8]]) -> Result<(), CollectiveError> {
        assert_eq!(
            (send.len(), receive.len()),
            (self.world, self.world),
            "there is a piece for each process"
        );
        let (operation, mut requests, mut bytes) = ("an exchange of values", Vec::new(), 0);
        let (byte, world) = (self.library.byte, self.library.comm_world);
        let others = (1..self.world).map(|further| (self.rank + further) % self.world);
        for (from, to) in others.clone().rev().zip(others) {
            let pieces = [
                (self.library.irecv, receive[from].as_mut_ptr(), receive[from].len(), from),
                // The library only reads what it sends.
                (self.library.isend, send[to].as_ptr().cast_mut(), send[to].len(), to),
            ];
            for (begin, data, length, other) in pieces.into_iter().filter(|(_, _, length, _)| *length > 0) {
                assert!(length <= MOST_BYTES, "{operation} of {length} bytes is one call");
                bytes += length;
                self.begin(operation, &mut requests, |request| {
                    // SAFETY: the pieces live until `complete` returns, and after an error the process ends.
                    unsafe { begin(data.cast(), length as c_int, byte, other as c_int, TAG, world, request) }
                })?;
            }
        }
        self.complete(operation, bytes, requests)
    }

    fn all_gather(&mut self, send: &[u8], receive: &mut [u8]) -> Result<(), CollectiveError> {
        assert_eq!(send.len() * self.world, receive.len(), "there is room for the bytes of every rank");
        if send.is_empty() {
            // Of nothing, Rust's address is the one by which Open MPI knows its MPI_IN_PLACE.
            return Ok(());
        }
        let operation = "an all-gather exchange";
        assert!(receive.len() <= MOST_BYTES, "{operation} of {} bytes is one call", receive.len());
        let (byte, world, count) = (self.library.byte, self.library.comm_world, send.len() as c_int);
        let (from, to) = (send.as_ptr().cast(), receive.as_mut_ptr().cast());
        self.wait(operation, receive.len(), |request| {
            // SAFETY: both buffers hold what is sent and received; they live until `wait` returns, and after
            // an error the process ends.
            unsafe { (self.library.iallgather)(from, count, byte, to, count, byte, world, request) }
        })
    }

    fn broadcast(&mut self, bytes: &mut [u8]) -> Result<(), CollectiveError> {
        let (library, byte, world) = (&self.library, self.library.byte, self.library.comm_world);
        for bytes in bytes.chunks_mut(MOST_BYTES) {
            self.wait("a broadcast", bytes.len(), |request| {
                // SAFETY: as above.
                unsafe {
                    (library.ibcast)(bytes.as_mut_ptr().cast(), bytes.len() as c_int, byte, 0, world, request)
                }
            })?;
        }
        Ok(())
    }

    fn library_sum(&mut self, send: &[f32], sums: &mut [f32]) -> Result<bool, CollectiveError> {
        assert_eq!(send.len(), sums.len(), "there is room for every sum");
        let Ok(count) = c_int::try_from(send.len()) else { return Ok(false) };
        let Library { float, sum, comm_world, .. } = self.library;
        // SAFETY: both buffers have `count` values.
        let code = unsafe {
            let (from, to) = (send.as_ptr().cast(), sums.as_mut_ptr().cast());
            (self.library.allreduce)(from, to, count, float, sum, comm_world)
        };
        match code {
            0 => Ok(true),
            code => Err(self.failed("MPI_Allreduce", self.library.message(code))),
        }
    }

    fn abort(&mut self, code: i32) -> ! {
        let give_up = self.give_up;
        let _limit = TimeLimit::start(TO_ABORT, move || give_up(code, None));
        // SAFETY: MPI is initialised until this is dropped.
        unsafe { (self.library.abort)(self.library.comm_world, code) };
        process::exit(code)
    }
}

impl Drop for Mpi {
    /// Leaves the job, as every process does at the end of a run.
    fn drop(&mut self) {
        let _limit = give_up_after(self.deadline, (self.rank, self.world), "MPI_Finalize", self.give_up);
        // SAFETY: MPI is initialised, and no operation is in progress: each has been waited for, or an error
        // has ended the run by `abort`.
        unsafe { (self.library.finalize)() };
    }
}
