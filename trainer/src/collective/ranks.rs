//! What training needs of the other processes.

use std::mem;
use std::ops::Range;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::tree::sum_in_tree;
use super::{Alone, Collective, CollectiveError, Shares};

/// Most values that a process sums at once: 1 MiB of each process stays in the caches.
const SUMMED: usize = 256 * 1024;
/// Most values that go from one process to another at once without being computed with.
const GATHERED: usize = 16 * 1024 * 1024;

/// How long the processes may take to begin a run, if that is longer than the deadline: one of them may fetch
/// ONNX Runtime or optimise a large network.
const TO_BEGIN: Duration = Duration::from_secs(900);

/// The processes of a run, as one of them sees them.
pub struct Ranks {
    collective: Box<dyn Collective>,
    deadline: Duration,
    /// Values of the other processes, to be summed.
    received: Vec<f32>,
}

/// What must be the same in all processes of a run, as pairs of a field's name and its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// The fields, in an order that all processes share.
    pub fields: Vec<(&'static str, String)>,
}

impl Default for Ranks {
    /// A process by itself.
    fn default() -> Self {
        Self::new(Box::new(Alone), Duration::ZERO)
    }
}

impl Ranks {
    /// Processes connected by `collective`. A process that the others wait for longer than `deadline` in a
    /// step, or much longer before the first one, is taken for lost.
    #[must_use]
    pub fn new(collective: Box<dyn Collective>, deadline: Duration) -> Self {
        let mut ranks = Self { collective, deadline, received: Vec::new() };
        ranks.begins();
        ranks
    }

    /// This process's number.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.collective.rank()
    }

    /// The number of processes.
    #[must_use]
    pub fn world(&self) -> usize {
        self.collective.world()
    }

    /// Whether this process writes the files of the run.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Waits as long as the start of a run may take.
    fn begins(&mut self) {
        self.collective.set_deadline(self.deadline.max(TO_BEGIN));
    }

    /// Lengthens the deadline of every step: a process may have to wait so long for its data.
    pub fn lengthen_deadline(&mut self, longer: Duration) {
        self.deadline = self.deadline.saturating_add(longer);
    }

    /// Waits for the deadline from now on, and for `longer`: what the others may still have to do.
    pub fn wait_for(&mut self, longer: Duration) {
        self.collective.set_deadline(self.deadline.saturating_add(longer));
    }

    /// Ends all processes of the run, this one with exit code `code`.
    pub fn abort(&mut self, code: i32) -> ! {
        self.collective.abort(code)
    }

    /// Replaces the values by those of rank 0; all processes have equally many.
    ///
    /// # Errors
    /// Those of [`Collective`].
    pub fn share_values(&mut self, values: &mut [f32]) -> Result<(), CollectiveError> {
        self.collective.broadcast(bytemuck::cast_slice_mut(values))
    }

    /// The value of rank 0, which alone gives one.
    ///
    /// # Errors
    /// Those of [`Collective`].
    pub fn share<T: Serialize + DeserializeOwned>(&mut self, value: Option<T>) -> Result<T, CollectiveError> {
        let mut bytes = value.as_ref().map(encoded).unwrap_or_default();
        let mut length = (bytes.len() as u64).to_le_bytes();
        self.collective.broadcast(&mut length)?;
        bytes.resize(u64::from_le_bytes(length) as usize, 0);
        self.collective.broadcast(&mut bytes)?;
        self.decoded(&bytes)
    }

    /// The values of all processes, in the order of their ranks.
    ///
    /// # Errors
    /// Those of [`Collective`].
    pub fn gather<T: Serialize + DeserializeOwned>(&mut self, value: &T) -> Result<Vec<T>, CollectiveError> {
        let mut own = encoded(value);
        let lengths = self.gather_words([own.len() as u64])?;
        let longest = lengths.iter().map(|[length]| *length as usize).max().unwrap_or(0);
        own.resize(longest, 0);
        let mut all = vec![0; longest * self.world()];
        self.collective.all_gather(&own, &mut all)?;
        let values = all.chunks(longest.max(1)).zip(lengths);
        values.map(|(bytes, [length])| self.decoded(&bytes[..length as usize])).collect()
    }

    /// The numbers of all processes, in the order of their ranks.
    ///
    /// # Errors
    /// Those of [`Collective`].
    pub fn gather_words<const N: usize>(
        &mut self,
        words: [u64; N],
    ) -> Result<Vec<[u64; N]>, CollectiveError> {
        let own: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut all = vec![0; own.len() * self.world()];
        self.collective.all_gather(&own, &mut all)?;
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("a word has 8 bytes"));
        let of_rank =
            |bytes: &[u8]| -> [u64; N] { std::array::from_fn(|at| word(&bytes[8 * at..8 * at + 8])) };
        Ok(all.chunks_exact(8 * N).map(of_rank).collect())
    }

    /// Replaces the values of this process's share by their sums over all processes, added in the tree of the
    /// ranks. The other values stay.
    ///
    /// # Errors
    /// Those of [`Collective`].
    pub fn sum_share(&mut self, values: &mut [f32], shares: &Shares) -> Result<(), CollectiveError> {
        let (rank, world) = (self.rank(), self.world());
        for turn in shares.turns(SUMMED) {
            let own = turn[rank].clone();
            let rows: Vec<_> = (0..world - 1).map(|row| row * own.len()..(row + 1) * own.len()).collect();
            self.received.resize(rows.last().map_or(0, |row| row.end), 0.0);
            let send: Vec<&[u8]> = turn.iter().map(|to| bytemuck::cast_slice(&values[to.clone()])).collect();
            let mut receive = as_bytes(cut(&mut self.received, &rows));
            receive.insert(rank, &mut []);
            self.collective.all_to_all(&send, &mut receive)?;
            let mut rows = cut(&mut self.received, &rows);
            rows.insert(rank, &mut values[own.clone()]);
            sum_in_tree(rows, |sum, row| sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += *value));
            if rank > 0 {
                // The sum is where the values of the first process were.
                values[own.clone()].copy_from_slice(&self.received[..own.len()]);
            }
        }
        Ok(())
    }

    /// Replaces the values of the other processes' shares by theirs.
    ///
    /// # Errors
    /// Those of [`Collective`].
    pub fn gather_shares(&mut self, values: &mut [f32], shares: &Shares) -> Result<(), CollectiveError> {
        let (rank, world) = (self.rank(), self.world());
        for turn in shares.turns(GATHERED) {
            let mut receive = as_bytes(cut(values, &turn));
            let own = mem::take(&mut receive[rank]);
            self.collective.all_to_all(&vec![&*own; world], &mut receive)?;
        }
        Ok(())
    }

    /// All values, of which `own` is this process's share, in the first process; none in the others.
    ///
    /// # Errors
    /// Those of [`Collective`].
    pub fn gather_to_first(&mut self, own: &[f32], shares: &Shares) -> Result<Vec<f32>, CollectiveError> {
        let (rank, world) = (self.rank(), self.world());
        let start = shares.of(rank).start;
        let mut values = Vec::new();
        if self.is_first() {
            values.resize(shares.len(), 0.0);
            values[shares.of(0)].copy_from_slice(own);
        }
        for turn in shares.turns(GATHERED) {
            let mut send: Vec<&[u8]> = vec![&[]; world];
            let mut receive: Vec<&mut [u8]> = (0..world).map(|_| Default::default()).collect();
            if self.is_first() {
                receive = as_bytes(cut(&mut values, &turn));
            } else {
                send[0] = bytemuck::cast_slice(&own[turn[rank].start - start..turn[rank].end - start]);
            }
            self.collective.all_to_all(&send, &mut receive)?;
        }
        Ok(values)
    }

    /// As [`Collective::library_sum`].
    ///
    /// # Errors
    /// Those of [`Collective`].
    pub fn library_sum(&mut self, values: &[f32], sums: &mut [f32]) -> Result<bool, CollectiveError> {
        self.collective.library_sum(values, sums)
    }

    /// Does `work` in the first process, then in the others.
    ///
    /// # Errors
    /// Those of [`Collective`].
    pub fn first_before_others<T>(&mut self, work: impl FnOnce() -> T) -> Result<T, CollectiveError> {
        if !self.is_first() {
            self.gather_words([0])?;
            return Ok(work());
        }
        let result = work();
        self.gather_words([0])?;
        Ok(result)
    }

    /// Waits until every process has come here, and ends in an error in all of them if one has an error: a
    /// message, and whether the command is to blame.
    ///
    /// # Errors
    /// [`CollectiveError::Unready`] with the error of the lowest rank that has one; also those of
    /// [`Collective`].
    pub fn agree(&mut self, own: Result<(), (String, bool)>) -> Result<(), CollectiveError> {
        let all = self.gather(&own)?;
        let failed =
            (0..).zip(&all).find_map(|(rank, of_rank)| Some((rank, of_rank.as_ref().err()?.clone())));
        if let Some((rank, (message, is_usage))) = failed {
            let who = match all.iter().all(|of_rank| *of_rank == all[0]) {
                true => String::new(),
                false => format!("rank {rank} of {}: ", self.world()),
            };
            return Err(CollectiveError::Unready { who, message, is_usage });
        }
        Ok(())
    }

    /// Checks that all processes have the same fingerprint.
    ///
    /// # Errors
    /// [`CollectiveError::Differs`] with the first process and field; also those of [`Collective`].
    pub fn handshake(&mut self, own: &Fingerprint) -> Result<(), CollectiveError> {
        let values: Vec<String> = own.fields.iter().map(|(_, value)| value.clone()).collect();
        let all = self.gather(&values)?;
        for (rank, of_rank) in all.iter().enumerate() {
            let fields = own.fields.iter().zip(of_rank).zip(&all[0]);
            if let Some((((field, _), found), expected)) =
                fields.into_iter().find(|((_, found), first)| found != first)
            {
                let (field, found, expected) = ((*field).to_owned(), found.clone(), expected.clone());
                return Err(CollectiveError::Differs { rank, field, found, expected });
            }
        }
        Ok(())
    }

    fn decoded<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CollectiveError> {
        serde_json::from_slice(bytes).map_err(|reason| CollectiveError::Failed {
            rank: self.rank(),
            world: self.world(),
            operation: "an exchange of settings",
            reason: reason.to_string(),
        })
    }
}

/// Checks that `world` processes can share the parts of a batch: each computes a whole branch of the tree in
/// which they are added.
///
/// # Errors
/// [`CollectiveError::Parts`].
pub fn check_parts(parts: usize, world: usize) -> Result<(), CollectiveError> {
    let fits = |world: usize| parts.is_multiple_of(world) && (parts / world).is_power_of_two();
    if fits(world) {
        return Ok(());
    }
    let fitting: Vec<String> =
        (1..=parts.min(1 << 16)).filter(|&world| fits(world)).map(|world| world.to_string()).collect();
    Err(CollectiveError::Parts { parts, world, fitting: fitting.join(" or ") })
}

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain values become JSON")
}

/// Ranges of `values` that follow each other.
fn cut<'a>(values: &'a mut [f32], ranges: &[Range<usize>]) -> Vec<&'a mut [f32]> {
    let (mut rest, mut done) = (values, 0);
    let piece = |range: &Range<usize>| {
        let (piece, after) = mem::take(&mut rest)[range.start - done..].split_at_mut(range.len());
        (rest, done) = (after, range.end);
        piece
    };
    ranges.iter().map(piece).collect()
}

fn as_bytes(pieces: Vec<&mut [f32]>) -> Vec<&mut [u8]> {
    pieces.into_iter().map(bytemuck::cast_slice_mut).collect()
}
