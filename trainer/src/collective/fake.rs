//! Ranks that are threads of one process, with faults.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::{Collective, CollectiveError};

/// What goes wrong with a rank.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// It begins each operation this much later.
    pub delay: Duration,
    /// It is gone after this many operations.
    pub dies_after: Option<usize>,
    /// It takes part in no operation after this many, but stays.
    pub hangs_after: Option<usize>,
}

/// A rank that is a thread.
pub(crate) struct Fake {
    rank: usize,
    /// To and from each rank.
    to: Vec<Sender<Vec<u8>>>,
    from: Vec<Receiver<Vec<u8>>>,
    deadline: Duration,
    faults: Faults,
    operations: usize,
}

/// As many connected ranks as there are faults.
pub(crate) fn ranks_with(faults: &[Faults]) -> Vec<Fake> {
    let world = faults.len();
    let mut to: Vec<Vec<_>> = (0..world).map(|_| Vec::new()).collect();
    let mut from: Vec<Vec<_>> = (0..world).map(|_| Vec::new()).collect();
    for sender in &mut to {
        for receiver in &mut from {
            let (send, receive) = channel();
            sender.push(send);
            receiver.push(receive);
        }
    }
    let ends = to.into_iter().zip(from).zip(faults);
    ends.enumerate()
        .map(|(rank, ((to, from), &faults))| {
            let deadline = Duration::from_secs(60);
            Fake { rank, to, from, deadline, faults, operations: 0 }
        })
        .collect()
}

/// Runs `work` as each of `world` ranks; its results, in their order.
pub(crate) fn with_ranks<R: Send>(world: usize, work: impl Fn(Fake) -> R + Sync) -> Vec<R> {
    run(ranks_with(&vec![Faults::default(); world]), work)
}

/// Runs `work` as each of the ranks.
pub(crate) fn run<R: Send>(ranks: Vec<Fake>, work: impl Fn(Fake) -> R + Sync) -> Vec<R> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = ranks.into_iter().map(|rank| scope.spawn(move || work(rank))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a rank panics")).collect()
    })
}

impl Fake {
    /// Sends one message to each rank and receives one from each.
    fn exchange(
        &mut self,
        operation: &'static str,
        messages: Vec<Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>, CollectiveError> {
        thread::sleep(self.faults.delay);
        let (rank, world) = (self.rank, self.world());
        let failed = |reason: &str| CollectiveError::Failed { rank, world, operation, reason: reason.into() };
        if self.faults.dies_after.is_some_and(|after| self.operations >= after) {
            self.to.clear();
            self.from.clear();
            return Err(failed("this rank is dead"));
        }
        if self.faults.hangs_after.is_some_and(|after| self.operations >= after) {
            thread::sleep(3 * self.deadline);
            return Err(failed("this rank has hung"));
        }
        self.operations += 1;
        for (to, message) in self.to.iter().zip(messages) {
            to.send(message).map_err(|_| failed("a rank is gone"))?;
        }
        let receive = |from: &Receiver<Vec<u8>>| match from.recv_timeout(self.deadline) {
            Ok(message) => Ok(message),
            Err(RecvTimeoutError::Timeout) => {
                Err(CollectiveError::Deadline { rank, world, operation, waited: self.deadline })
            }
            Err(RecvTimeoutError::Disconnected) => Err(failed("a rank is gone")),
        };
        self.from.iter().map(receive).collect()
    }
}

impl Collective for Fake {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.to.len().max(1)
    }

    fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline.min(Duration::from_secs(60));
    }

    fn all_to_all(&mut self, send: &[&[u8]], receive: &mut [&mut [u8]]) -> Result<(), CollectiveError> {
        let messages = send.iter().map(|piece| piece.to_vec()).collect();
        let messages = self.exchange("all-to-all", messages)?;
        let own = self.rank;
        for (_, (to, message)) in
            receive.iter_mut().zip(messages).enumerate().filter(|(from, _)| *from != own)
        {
            to.copy_from_slice(&message);
        }
        Ok(())
    }

    fn all_gather(&mut self, send: &[u8], receive: &mut [u8]) -> Result<(), CollectiveError> {
        let messages = vec![send.to_vec(); self.world()];
        receive.copy_from_slice(&self.exchange("all-gather", messages)?.concat());
        Ok(())
    }

    fn broadcast(&mut self, bytes: &mut [u8]) -> Result<(), CollectiveError> {
        let messages = vec![bytes.to_vec(); self.world()];
        bytes.copy_from_slice(&self.exchange("broadcast", messages)?[0]);
        Ok(())
    }

    fn abort(&mut self, code: i32) -> ! {
        panic!("rank {} aborts with code {code}", self.rank)
    }
}
