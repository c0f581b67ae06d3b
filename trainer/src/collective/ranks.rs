//! What training needs of the other processes.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::tree::sum_in_tree;
use super::{Alone, Collective, CollectiveError};

/// Values of one piece in an exchange of gradients: 1 MiB stays in the caches while pieces are added.
const PIECE: usize = 256 * 1024;

/// How long the processes may take to begin a run, if that is longer than the deadline: one of them may fetch
/// ONNX Runtime or optimise a large network.
const TO_BEGIN: Duration = Duration::from_secs(900);

/// The processes of a run, as one of them sees them.
pub struct Ranks {
    collective: Box<dyn Collective>,
    deadline: Duration,
    /// Pieces of gradients: those sent if they do not fill their pieces, and those received.
    sent: Vec<f32>,
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
        let mut ranks = Self { collective, deadline, sent: Vec::new(), received: Vec::new() };
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

    /// Replaces the values by the sums over all processes, added in the tree of their ranks: each process
    /// adds up one part of them and gives it to the others.
    ///
    /// # Errors
    /// Those of [`Collective`].
    pub fn sum(&mut self, values: &mut [f32]) -> Result<(), CollectiveError> {
        let world = self.world();
        if world == 1 {
            return Ok(());
        }
        for values in values.chunks_mut(PIECE * world) {
            let piece = values.len().div_ceil(world);
            self.received.resize(piece * world, 0.0);
            if values.len() == piece * world {
                self.collective
                    .all_to_all(bytemuck::cast_slice(values), bytemuck::cast_slice_mut(&mut self.received))?;
                let sum = sum_of_rows(&mut self.received, piece);
                self.collective.all_gather(bytemuck::cast_slice(sum), bytemuck::cast_slice_mut(values))?;
            } else {
                // The last values, which do not fill their pieces.
                self.sent.clear();
                self.sent.extend_from_slice(values);
                self.sent.resize(piece * world, 0.0);
                self.collective.all_to_all(
                    bytemuck::cast_slice(&self.sent),
                    bytemuck::cast_slice_mut(&mut self.received),
                )?;
                let sum = sum_of_rows(&mut self.received, piece);
                self.collective
                    .all_gather(bytemuck::cast_slice(sum), bytemuck::cast_slice_mut(&mut self.sent))?;
                values.copy_from_slice(&self.sent[..values.len()]);
            }
        }
        Ok(())
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

/// Adds rows of `length` values in the tree; the sum is in the first row.
fn sum_of_rows(rows: &mut [f32], length: usize) -> &[f32] {
    let rows = rows.chunks_exact_mut(length);
    let sum = sum_in_tree(rows, |sum, row| sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += *value));
    sum.map_or(&[], |sum| &*sum)
}
