//! NCCL, loaded at run time: processes that have a GPU each.
//!
//! What is exchanged lies in the host's memory and goes through buffers on the GPU. Every function of NCCL
//! returns at once, and a process waits for its work by asking: for an error of the network, for what the
//! others say, and until the deadline.

mod library;
mod meeting;

use std::ffi::c_int;
use std::path::Path;
use std::process;
use std::ptr;
use std::time::Duration;

use fovea_runtime::copies::{CopyStream, DevicePointer};

pub use self::meeting::Rendezvous;

use self::library::{BYTE, Comm, Config, FLOAT, IN_PROGRESS, Id, Library, SUM, Stream};
use self::meeting::{Meeting, News};
use super::waiting::{DEADLINES_TO_BEGIN, GiveUp, TO_ABORT, TimeLimit, Wait, give_up_after};
use super::{Collective, CollectiveError, Launcher, Mpi, Place};

/// Most bytes of a broadcast that are on the GPU at once.
const BROADCAST_AT_ONCE: usize = 256 << 20;
/// Pieces begin at multiples of this many bytes, which is what the GPU reads at once.
const ALIGNMENT: usize = 16;

/// What connects the processes beside NCCL.
pub enum Beside {
    /// They meet at this address.
    Meeting(Rendezvous),
    /// The job of MPI that started them.
    Mpi(Box<Mpi>),
}

/// That connection, once they have met.
enum Connection {
    Meeting(Meeting),
    Mpi(Box<Mpi>),
}

/// The processes of an NCCL communicator.
pub struct Nccl {
    library: Library,
    comm: Comm,
    stream: CopyStream,
    connection: Connection,
    rank: usize,
    world: usize,
    deadline: Duration,
    give_up: GiveUp,
    /// What is sent, and what is received.
    sent: Buffer,
    received: Buffer,
}

/// Memory of the GPU that grows.
#[derive(Default)]
struct Buffer {
    memory: DevicePointer,
    bytes: usize,
}

impl Buffer {
    /// Memory for at least this many bytes; what it held is lost.
    fn of(&mut self, bytes: usize, stream: &CopyStream) -> Result<DevicePointer, String> {
        if bytes > self.bytes {
            self.free(stream)?;
            self.memory = stream.allocate(bytes)?;
            self.bytes = bytes;
        }
        Ok(self.memory)
    }

    fn free(&mut self, stream: &CopyStream) -> Result<(), String> {
        if self.bytes > 0 {
            self.bytes = 0;
            // SAFETY: the memory is of `allocate`, and every operation on it has been waited for.
            unsafe { stream.free(self.memory) }?;
        }
        Ok(())
    }
}

impl Nccl {
    /// Whether processes of this launcher train by NCCL unless they are told otherwise.
    #[must_use]
    pub fn is_default_of(launcher: Launcher) -> bool {
        // Theirs are connected by nothing else.
        matches!(launcher, Launcher::Torchrun | Launcher::Trainer)
    }

    /// Joins the processes that `place` says this one is of, through the library at `path`, with buffers on
    /// the GPU of `stream`. `give_up` ends the process when another has ended the run, or when NCCL does not
    /// return from ending it.
    ///
    /// # Errors
    /// [`CollectiveError::NotNccl`], [`CollectiveError::NotMet`], and those of [`Collective`].
    pub fn join(
        place: &Place,
        path: &Path,
        stream: CopyStream,
        beside: Beside,
        deadline: Duration,
        give_up: GiveUp,
    ) -> Result<Self, CollectiveError> {
        let library = Library::load(path)
            .map_err(|reason| CollectiveError::NotNccl { path: path.to_owned(), reason })?;
        let (rank, world) = (place.rank, place.world);
        let limit = deadline.saturating_mul(DEADLINES_TO_BEGIN);
        let make = || {
            let mut id = Id([0; 128]);
            // SAFETY: the function writes one id.
            match unsafe { (library.ncclGetUniqueId)(&raw mut id) } {
                0 => Ok(id),
                code => Err(CollectiveError::Failed {
                    rank,
                    world,
                    operation: "ncclGetUniqueId",
                    reason: library.message(code),
                }),
            }
        };
        let (connection, id) = match beside {
            Beside::Meeting(address) => {
                let (meeting, id) = Meeting::begin(place, &address, limit, make)?;
                (Connection::Meeting(meeting), id)
            }
            Beside::Mpi(mut mpi) => {
                let mut id = if rank == 0 { make()? } else { Id([0; 128]) };
                mpi.broadcast(&mut id.0)?;
                (Connection::Mpi(mpi), id)
            }
        };
        let (sent, received) = Default::default();
        let comm = ptr::null_mut();
        let mut joined =
            Self { library, comm, stream, connection, rank, world, deadline: limit, give_up, sent, received };
        if let Err(error) = joined.begin(id) {
            joined.end(1);
            return Err(error);
        }
        joined.deadline = deadline;
        Ok(joined)
    }

    /// Makes the communicator of the processes that have this id.
    fn begin(&mut self, id: Id) -> Result<(), CollectiveError> {
        let operation = "ncclCommInitRankConfig";
        self.on_stream(operation)?;
        let (world, rank) = (self.world as c_int, self.rank as c_int);
        // SAFETY: the GPU is that of the calling thread, and the pointers are valid; the id is that of all.
        let code = unsafe {
            (self.library.ncclCommInitRankConfig)(&raw mut self.comm, world, id, rank, &Config::NON_BLOCKING)
        };
        self.complete(operation, code, 0)
    }

    /// Ends the run in all processes that have met, after an error.
    fn end(&mut self, code: i32) {
        if let Connection::Meeting(meeting) = &mut self.connection {
            meeting.end(code);
        }
        if !self.comm.is_null() {
            // SAFETY: the communicator lives, and nothing uses it after this.
            unsafe { (self.library.ncclCommAbort)(self.comm) };
            self.comm = ptr::null_mut();
        }
    }

    /// Name and version of the library.
    #[must_use]
    pub fn version(&self) -> String {
        format!("NCCL {}", self.library.version())
    }

    fn failed(&self, operation: &'static str, reason: String) -> CollectiveError {
        CollectiveError::Failed { rank: self.rank, world: self.world, operation, reason }
    }

    /// The error of a result of NCCL; none while it works.
    fn check(&self, operation: &'static str, code: c_int) -> Result<(), CollectiveError> {
        match code {
            0 | IN_PROGRESS => Ok(()),
            code => Err(self.failed(operation, self.library.message(code))),
        }
    }

    /// The stream, whose GPU becomes that of the calling thread.
    fn on_stream(&self, operation: &'static str) -> Result<Stream, CollectiveError> {
        self.stream.handle().map_err(|reason| self.failed(operation, reason))
    }

    /// Waits until an operation on `bytes`, which began with this result, is complete on this side.
    fn complete(
        &mut self,
        operation: &'static str,
        begun: c_int,
        bytes: usize,
    ) -> Result<(), CollectiveError> {
        self.check(operation, begun)?;
        let (rank, world) = (self.rank, self.world);
        let wait = Wait::start((rank, world), operation, bytes);
        loop {
            let mut state = 0;
            // SAFETY: the communicator lives, and the function writes one value.
            let asked = unsafe { (self.library.ncclCommGetAsyncError)(self.comm, &raw mut state) };
            self.check(operation, asked)?;
            self.check(operation, state)?;
            // While NCCL is still at it, the stream may not have the work yet.
            if state == 0 && self.stream.is_done().map_err(|reason| self.failed(operation, reason))? {
                return Ok(());
            }
            if let Connection::Meeting(meeting) = &mut self.connection {
                match meeting.news() {
                    None => {}
                    Some(News::Gone(lost)) => return Err(CollectiveError::Gone { rank, world, lost }),
                    Some(News::Ended(code)) => {
                        meeting.end(code);
                        (self.give_up)(code, None);
                    }
                }
            }
            wait.go_on(self.deadline)?;
        }
    }

    /// Puts pieces one after the other into the buffer of what is sent; gives their places.
    fn upload(
        &mut self,
        operation: &'static str,
        pieces: &[&[u8]],
    ) -> Result<Vec<DevicePointer>, CollectiveError> {
        let (mut offsets, mut new, mut end): (Vec<usize>, Vec<usize>, usize) = Default::default();
        for (at, piece) in pieces.iter().enumerate() {
            // The same piece for several processes is there once.
            if let Some(known) = pieces[..at].iter().position(|other| ptr::eq(*other, *piece)) {
                offsets.push(offsets[known]);
                continue;
            }
            offsets.push(end);
            end += piece.len().next_multiple_of(ALIGNMENT);
            new.push(at);
        }
        let copy = || -> Result<Vec<DevicePointer>, String> {
            let memory = self.sent.of(end, &self.stream)?;
            let places: Vec<DevicePointer> = offsets.iter().map(|offset| memory + *offset as u64).collect();
            for at in new.into_iter().filter(|at| !pieces[*at].is_empty()) {
                // SAFETY: the buffer has room for every piece, and its earlier operations are complete.
                unsafe { self.stream.upload(pieces[at], places[at]) }?;
            }
            Ok(places)
        };
        copy().map_err(|reason| self.failed(operation, reason))
    }

    /// Room for what is received.
    fn room(&mut self, operation: &'static str, bytes: usize) -> Result<DevicePointer, CollectiveError> {
        self.received.of(bytes, &self.stream).map_err(|reason| self.failed(operation, reason))
    }

    fn download(
        &self,
        operation: &'static str,
        from: DevicePointer,
        to: &mut [u8],
    ) -> Result<(), CollectiveError> {
        if to.is_empty() {
            return Ok(());
        }
        // SAFETY: it is in the buffer of what is received, and the operation is complete.
        unsafe { self.stream.download(from, to) }.map_err(|reason| self.failed(operation, reason))
    }
}

impl Collective for Nccl {
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
        let (rank, world) = (self.rank, self.world);
        assert_eq!((send.len(), receive.len()), (world, world), "there is a piece for each process");
        let operation = "an exchange of values";
        let mut pieces = send.to_vec();
        pieces[rank] = &[];
        let from = self.upload(operation, &pieces)?;
        let mut offsets = Vec::with_capacity(world);
        let mut end = 0;
        for (other, piece) in receive.iter().enumerate() {
            offsets.push(end as u64);
            end += if other == rank { 0 } else { piece.len().next_multiple_of(ALIGNMENT) };
        }
        let to = self.room(operation, end)?;
        let stream = self.on_stream(operation)?;
        let Library { ncclGroupStart: start, ncclGroupEnd: close, ncclSend: send, ncclRecv: recv, .. } =
            self.library;
        // SAFETY: the buffers have room for every piece, and nothing else uses them until the operation is
        // complete; after an error the process ends.
        self.check(operation, unsafe { start() })?;
        for other in (0..world).filter(|&other| other != rank) {
            let peer = other as c_int;
            if !pieces[other].is_empty() {
                // SAFETY: likewise.
                let code = unsafe { send(from[other], pieces[other].len(), BYTE, peer, self.comm, stream) };
                self.check(operation, code)?;
            }
            if !receive[other].is_empty() {
                let (place, bytes) = (to + offsets[other], receive[other].len());
                // SAFETY: likewise.
                self.check(operation, unsafe { recv(place, bytes, BYTE, peer, self.comm, stream) })?;
            }
        }
        // SAFETY: likewise.
        let code = unsafe { close() };
        self.complete(operation, code, end)?;
        for (other, piece) in receive.iter_mut().enumerate().filter(|(other, _)| *other != rank) {
            self.download(operation, to + offsets[other], piece)?;
        }
        Ok(())
    }

    fn all_gather(&mut self, send: &[u8], receive: &mut [u8]) -> Result<(), CollectiveError> {
        assert_eq!(send.len() * self.world, receive.len(), "there is room for the bytes of every rank");
        if send.is_empty() {
            return Ok(());
        }
        let operation = "an all-gather exchange";
        let from = self.upload(operation, &[send])?[0];
        let to = self.room(operation, receive.len())?;
        let stream = self.on_stream(operation)?;
        // SAFETY: as in `all_to_all`.
        let code = unsafe { (self.library.ncclAllGather)(from, to, send.len(), BYTE, self.comm, stream) };
        self.complete(operation, code, receive.len())?;
        self.download(operation, to, receive)
    }

    fn broadcast(&mut self, bytes: &mut [u8]) -> Result<(), CollectiveError> {
        let operation = "a broadcast";
        for bytes in bytes.chunks_mut(BROADCAST_AT_ONCE) {
            let to = self.room(operation, bytes.len())?;
            let from = if self.rank == 0 { self.upload(operation, &[bytes])?[0] } else { to };
            let stream = self.on_stream(operation)?;
            // SAFETY: as in `all_to_all`; only rank 0 reads what it sends.
            let code =
                unsafe { (self.library.ncclBroadcast)(from, to, bytes.len(), BYTE, 0, self.comm, stream) };
            self.complete(operation, code, bytes.len())?;
            if self.rank > 0 {
                self.download(operation, to, bytes)?;
            }
        }
        Ok(())
    }

    fn library_sum(&mut self, send: &[f32], sums: &mut [f32]) -> Result<bool, CollectiveError> {
        assert_eq!(send.len(), sums.len(), "there is room for every sum");
        let operation = "ncclAllReduce";
        let from = self.upload(operation, &[bytemuck::cast_slice(send)])?[0];
        let to = self.room(operation, size_of_val(sums))?;
        let stream = self.on_stream(operation)?;
        // SAFETY: as in `all_to_all`.
        let code =
            unsafe { (self.library.ncclAllReduce)(from, to, send.len(), FLOAT, SUM, self.comm, stream) };
        self.complete(operation, code, size_of_val(sums))?;
        self.download(operation, to, bytemuck::cast_slice_mut(sums))?;
        Ok(true)
    }

    fn abort(&mut self, code: i32) -> ! {
        let give_up = self.give_up;
        let _limit = TimeLimit::start(TO_ABORT, move || give_up(code, None));
        self.end(code);
        match &mut self.connection {
            Connection::Mpi(mpi) => mpi.abort(code),
            Connection::Meeting(_) => process::exit(code),
        }
    }
}

impl Drop for Nccl {
    /// Leaves the communicator, as every process does at the end of a run.
    fn drop(&mut self) {
        let operation = "ncclCommFinalize";
        let _limit = give_up_after(self.deadline, (self.rank, self.world), operation, self.give_up);
        if !self.comm.is_null() && self.on_stream(operation).is_ok() {
            // SAFETY: every operation has been waited for, or an error has ended the run.
            let code = unsafe { (self.library.ncclCommFinalize)(self.comm) };
            // An error of the end of a run that is complete is none of the run.
            let ended = self.complete(operation, code, 0);
            tracing::debug!(?ended, "left NCCL");
            // SAFETY: nothing uses the communicator any more.
            unsafe { (self.library.ncclCommDestroy)(self.comm) };
        }
        for buffer in [&mut self.sent, &mut self.received] {
            // The process ends.
            let _ = buffer.free(&self.stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use fovea_runtime::testing::{FakeDriver, FakeNccl};

    use super::super::conformance::conforms;
    use super::*;

    fn give_up(code: i32, error: Option<&CollectiveError>) -> ! {
        panic!("gives up with code {code}: {error:?}")
    }

    /// Runs `work` as each of `world` ranks.
    fn with_ranks<R: Send>(world: usize, work: impl Fn(Result<Nccl, CollectiveError>) -> R + Sync) -> Vec<R> {
        let (driver, nccl) = (FakeDriver::new(), FakeNccl::new());
        let address = Rendezvous::of_this_machine().unwrap();
        let join = |rank| {
            let launcher = Launcher::Trainer;
            let place = Place { launcher, rank, world, local_rank: rank, local_world: world };
            let beside = Beside::Meeting(address.clone());
            let stream = driver.stream().unwrap();
            work(Nccl::join(&place, nccl.path(), stream, beside, Duration::from_secs(30), give_up))
        };
        let results = thread::scope(|scope| {
            let join = &join;
            let ranks: Vec<_> = (0..world).map(|rank| scope.spawn(move || join(rank))).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        assert_eq!(driver.outstanding(), 0, "memory, streams and contexts are released");
        results
    }

    #[test]
    fn it_conforms() {
        for world in [1, 2, 3] {
            with_ranks(world, |nccl| conforms(&mut nccl.unwrap()));
        }
    }

    #[test]
    fn its_version_is_read() {
        assert_eq!(with_ranks(1, |nccl| nccl.unwrap().version()), ["NCCL 2.32.3"]);
    }

    #[test]
    fn who_takes_no_part_is_waited_for_until_the_deadline_and_who_is_gone_is_named() {
        let errors = with_ranks(2, |nccl| {
            let mut nccl = nccl.unwrap();
            if nccl.rank() == 1 {
                thread::sleep(Duration::from_millis(300));
                return None;
            }
            nccl.set_deadline(Duration::from_millis(50));
            nccl.all_gather(&[1], &mut [0; 2]).err()
        });
        let error = errors[0].as_ref().unwrap();
        assert!(matches!(error, CollectiveError::Deadline { rank: 0, world: 2, .. }), "{error}");
        let errors = with_ranks(2, |nccl| {
            let mut nccl = nccl.unwrap();
            if nccl.rank() == 1 {
                let Connection::Meeting(meeting) = &nccl.connection else { unreachable!() };
                meeting.break_off();
                return None;
            }
            nccl.all_gather(&[1], &mut [0; 2]).err()
        });
        assert_eq!(errors[0], Some(CollectiveError::Gone { rank: 0, world: 2, lost: 1 }));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_library_stays_loaded_for_threads_that_outlive_a_communicator() {
        let nccl = FakeNccl::new();
        Library::load(nccl.path()).unwrap();
        let mapped = fs::read_to_string("/proc/self/maps").unwrap();
        assert!(mapped.contains(nccl.path().to_str().unwrap()), "{mapped}");
    }

    #[test]
    fn what_is_not_nccl_is_refused_by_name() {
        let error = Library::load(Path::new("libc.so.6")).err().unwrap();
        assert_eq!(error, "it has no function ncclGetVersion");
    }
}
