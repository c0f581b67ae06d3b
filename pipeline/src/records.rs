//! The records of a split, across its shards.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::dataset_error::DatasetError;
use crate::decode::JpegDecoder;
use crate::mapping::Mapping;
use crate::room::{Room, bytes_of, two_largest};
use crate::shard::{Record, Shard, ShardError};
use crate::shard_check;
use crate::shard_files::ShardFiles;
use crate::view::{Pixels, Scratch, View};
use crate::{DatasetInfo, Encoding, ImageSizes, LabelKind, ShardInfo, Split};

/// All records of a split, numbered across its shards.
///
/// A shard is mapped when one of its records is first used. Shards that are not in a folder are let go when
/// nobody holds them any more, or, if nobody did, when the next one is mapped.
#[derive(Debug)]
pub struct Records {
    info: Arc<DatasetInfo>,
    files: Arc<dyn ShardFiles>,
    split: Split,
    slots: Vec<Slot>,
    /// Records before each shard, then the total.
    starts: Vec<usize>,
    /// Who needs each shard. Locked while files are asked for or let go, so that no shard goes that has just
    /// been asked for.
    holders: Mutex<Vec<Holders>>,
    /// The last shard that was mapped while nobody held it.
    unheld: Mutex<Option<usize>>,
}

/// How many need a shard.
#[derive(Clone, Copy, Debug, Default)]
struct Holders {
    /// Now or soon.
    all: u32,
    /// Now.
    using: u32,
}

/// The place of a shard.
#[derive(Debug, Default)]
struct Slot {
    mapped: RwLock<Option<Arc<MappedShard>>>,
    /// The process a thread of which maps it, or 0. It is no lock: who waits for it looks whether it still
    /// should, and in a forked child that thread does not exist.
    mapping: AtomicU32,
}

/// A shard with a bit for each record: whether its checksum has been verified.
#[derive(Debug)]
struct MappedShard {
    shard: Shard,
    verified: Vec<AtomicU64>,
}

/// A record, which keeps its shard mapped.
#[derive(Clone, Debug)]
pub struct StoredRecord {
    mapped: Arc<MappedShard>,
    row: usize,
}

impl Records {
    pub(crate) fn new(info: Arc<DatasetInfo>, files: Arc<dyn ShardFiles>, split: Split) -> Self {
        let mut starts = vec![0];
        for shard in info.shards(split) {
            starts.push(starts[starts.len() - 1] + shard.images as usize);
        }
        let shards = starts.len() - 1;
        let slots = (0..shards).map(|_| Slot::default()).collect();
        let holders = Mutex::new(vec![Holders::default(); shards]);
        Self { info, files, split, slots, starts, holders, unheld: Mutex::default() }
    }

    /// The number of records.
    #[expect(clippy::len_without_is_empty, reason = "a split without records is refused when it is opened")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }

    /// What the labels are, and the number K of classes or numbers.
    #[must_use]
    pub fn labels(&self) -> (LabelKind, usize) {
        (self.info.labels, self.info.classes.len())
    }

    /// The sizes of the images.
    #[must_use]
    pub fn image_sizes(&self) -> ImageSizes {
        self.info.image_sizes()
    }

    /// How the images are stored.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.info.encoding
    }

    /// The shards, in order.
    #[must_use]
    pub fn shards(&self) -> &[ShardInfo] {
        self.info.shards(self.split)
    }

    /// The records before each shard, then the total.
    #[must_use]
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// Whether every shard stays where it is.
    pub(crate) fn are_permanent(&self) -> bool {
        self.files.are_permanent()
    }

    /// The record at `index`, unchecked against its checksum. Waits for its shard.
    ///
    /// # Errors
    /// [`DatasetError`] when its shard cannot be read, or is not the one that `dataset.json` means.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn record(&self, index: usize) -> Result<StoredRecord, DatasetError> {
        self.record_while(index, &|| true)
    }

    /// The record at `index`, as by [`record`](Self::record), waiting for its shard while `is_wanted`.
    ///
    /// # Errors
    /// As [`record`](Self::record), and [`DatasetError::Unwanted`].
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn record_while(
        &self,
        index: usize,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<StoredRecord, DatasetError> {
        let (number, row) = self.locate(index);
        if let Some(mapped) = self.slots[number].mapped() {
            return Ok(StoredRecord { mapped, row });
        }
        let mapped = self.map(number, is_wanted)?;
        self.forget_unheld(number);
        Ok(StoredRecord { mapped, row })
    }

    /// The record at `index` if its shard is mapped.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    #[must_use]
    pub fn record_if_mapped(&self, index: usize) -> Option<StoredRecord> {
        let (number, row) = self.locate(index);
        Some(StoredRecord { mapped: self.slots[number].mapped()?, row })
    }

    /// The number of the shard of record `index`, and the record's position in it.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    #[must_use]
    pub fn locate(&self, index: usize) -> (usize, usize) {
        assert!(index < self.len(), "record {index} of {} records", self.len());
        let shard = self.starts.partition_point(|&start| start <= index) - 1;
        (shard, index - self.starts[shard])
    }

    /// The size of windows ([`Order::Windowed`](crate::order::Order::Windowed)) of which two fit where the
    /// shards are brought, beside two shards of the split that is evaluated between them: the other one, or
    /// this one if it is the only one; `None` if all shards do.
    ///
    /// # Errors
    /// [`DatasetError::NoRoom`] when windows of one shard do not.
    pub fn window_that_fits(&self) -> Result<Option<NonZeroU32>, DatasetError> {
        let Some(capacity) = self.files.capacity() else { return Ok(None) };
        let room = Room::of(&self.info);
        if capacity < room.training_bytes {
            return Err(DatasetError::NoRoom { capacity, remedy: room.remedy(capacity) });
        }
        let Windows { all_bytes, beside_bytes, two_bytes } = self.windows();
        if all_bytes <= capacity {
            return Ok(None);
        }
        let left = capacity.saturating_sub(beside_bytes);
        let window = u32::try_from(left / two_bytes.max(1)).unwrap_or(u32::MAX);
        // Of shards that differ, the two largest fit.
        Ok(Some(NonZeroU32::new(window).unwrap_or(NonZeroU32::MIN)))
    }

    /// Checks that a window of `window` shards is no larger than
    /// [`window_that_fits`](Self::window_that_fits).
    ///
    /// # Errors
    /// [`DatasetError::NoRoom`] when even windows of one shard do not fit, [`DatasetError::Window`].
    pub fn check_window(&self, window: NonZeroU32) -> Result<(), DatasetError> {
        match (self.window_that_fits()?, self.files.capacity()) {
            (Some(fits), Some(capacity)) if window > fits => {
                let Windows { all_bytes, beside_bytes, two_bytes } = self.windows();
                let needed = two_bytes.saturating_mul(window.get().into()).saturating_add(beside_bytes);
                Err(DatasetError::Window { window, fits, capacity, needed_bytes: needed.min(all_bytes) })
            }
            _ => Ok(()),
        }
    }

    fn windows(&self) -> Windows {
        let shards = |split| self.info.shards(split);
        let other = Split::ALL.into_iter().find(|&split| split != self.split && !shards(split).is_empty());
        let beside = |split| two_largest(shards(split));
        let largest = self.shards().iter().map(|shard| shard.bytes).max().unwrap_or_default();
        Windows {
            all_bytes: bytes_of(self.shards()).saturating_add(other.map_or(0, beside)),
            beside_bytes: beside(other.unwrap_or(self.split)),
            two_bytes: largest.saturating_mul(2),
        }
    }

    /// Maps shard `number`, and checks that it is the one that `dataset.json` means.
    fn map(&self, number: usize, is_wanted: &dyn Fn() -> bool) -> Result<Arc<MappedShard>, DatasetError> {
        let slot = &self.slots[number];
        let listed = &self.shards()[number];
        let _one_at_a_time = Mapping::of(&slot.mapping, is_wanted)
            .ok_or_else(|| DatasetError::Unwanted { file: listed.file.clone() })?;
        if let Some(mapped) = slot.mapped() {
            return Ok(mapped);
        }
        let shard = Shard::open(&self.files.fetch(listed, is_wanted)?)?;
        let disagreements = shard_check::disagreements(&self.info, &shard, self.split, number);
        if let Some(disagreement) = disagreements.into_iter().next() {
            return Err(disagreement);
        }
        shard_check::check_content(&shard, listed)?;
        let shard = shard.without_classes();
        let verified = (0..shard.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let mapped = Arc::new(MappedShard { shard, verified });
        *slot.mapped.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&mapped));
        Ok(mapped)
    }

    /// Lets go of the shard that was mapped before `number` while nobody held it.
    fn forget_unheld(&self, number: usize) {
        let holders = lock(&self.holders);
        if holders[number].all > 0 {
            return;
        }
        let before = lock(&self.unheld).replace(number).filter(|&before| before != number);
        if let Some(before) = before.filter(|&before| holders[before].all == 0)
            && self.slots[before].mapped().is_some()
        {
            self.unmap(before, false);
        }
    }

    /// Unmaps a shard, which may go.
    fn unmap(&self, number: usize, is_needed_soon: bool) {
        if self.are_permanent() {
            return;
        }
        *self.slots[number].mapped.write().unwrap_or_else(PoisonError::into_inner) = None;
        let shard = &self.shards()[number];
        match is_needed_soon {
            true => self.files.set_aside(shard),
            false => self.files.release(shard),
        }
    }

    /// Says that these shards are needed soon, in this order, until what is returned is dropped.
    #[must_use]
    pub(crate) fn hold(self: &Arc<Self>, shards: Vec<u32>) -> Hold {
        let listed = self.shards();
        let mut holders = lock(&self.holders);
        for &shard in &shards {
            holders[shard as usize].all += 1;
        }
        let needed: Vec<&ShardInfo> = shards.iter().map(|&shard| &listed[shard as usize]).collect();
        self.files.fetch_ahead(&needed);
        drop(holders);
        Hold { records: Arc::clone(self), shards, is_used: AtomicBool::new(false) }
    }
}

/// Shards that are needed.
#[derive(Debug)]
pub(crate) struct Hold {
    records: Arc<Records>,
    shards: Vec<u32>,
    is_used: AtomicBool,
}

impl Hold {
    /// Says that the shards are needed now. From the end of the last hold that says so on, nobody maps them.
    pub fn begin(&self) {
        let mut holders = lock(&self.records.holders);
        if !self.is_used.swap(true, Ordering::Relaxed) {
            self.shards.iter().for_each(|&shard| holders[shard as usize].using += 1);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let was_used = *self.is_used.get_mut();
        let mut holders = lock(&self.records.holders);
        for shard in self.shards.iter().map(|&shard| shard as usize) {
            let left = &mut holders[shard];
            left.all -= 1;
            left.using -= u32::from(was_used);
            if left.all == 0 {
                self.records.unmap(shard, false);
            } else if was_used && left.using == 0 && self.records.slots[shard].mapped().is_some() {
                self.records.unmap(shard, true);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    fn mapped(&self) -> Option<Arc<MappedShard>> {
        self.mapped.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl StoredRecord {
    /// Its image, label and checksum.
    #[must_use]
    pub fn get(&self) -> Record<'_> {
        self.mapped.shard.record(self.row)
    }

    /// Position in the class list; 0 for labels of other kinds.
    #[must_use]
    pub fn label(&self) -> i64 {
        self.get().label.class().into()
    }

    /// Name of the image in its source.
    #[must_use]
    pub fn key(&self) -> String {
        self.mapped.shard.key(self.row)
    }

    /// Checks the image against its checksum, unless that was done before.
    ///
    /// Checking 192 KB takes as long as cropping them, so each record is checked once while its shard is
    /// mapped. Its pages stay in the page cache after that, or are read again from the same disk.
    ///
    /// # Errors
    /// [`ShardError::Checksum`] when the image's bytes have changed.
    pub fn verify(&self) -> Result<(), ShardError> {
        let (word, bit) = (&self.mapped.verified[self.row / 64], 1 << (self.row % 64));
        // Relaxed: the bit guards no other memory; the worst is to check a record twice.
        if word.load(Ordering::Relaxed) & bit == 0 {
            self.mapped.shard.verify(self.row)?;
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Asks the system to read the image soon, unless its first page is in memory already.
    pub fn will_need(&self) {
        self.mapped.shard.will_need(self.row);
    }

    /// The pixels, unchecked against the checksum: the record's own bytes, or those in `decoder`.
    ///
    /// # Errors
    /// [`ShardError::Decode`] when the record is no JPEG file of the record's size.
    pub fn pixels<'a>(&'a self, decoder: &'a mut JpegDecoder) -> Result<Pixels<'a>, ShardError> {
        let shard = &self.mapped.shard;
        let Record { image, size, .. } = self.get();
        match shard.header().encoding {
            Encoding::Raw => Ok(Pixels::planar(image, size)),
            Encoding::Jpeg => match decoder.decode(image, size) {
                Ok(pixels) => Ok(Pixels::interleaved(pixels, size)),
                Err(reason) => {
                    let path = shard.path().into();
                    Err(ShardError::Decode { path, index: self.row, key: self.key(), reason })
                }
            },
        }
    }

    /// The view of the whole image, checked against its checksum at its first use.
    ///
    /// # Errors
    /// [`ShardError::Checksum`] when the image's bytes have changed, [`ShardError::Decode`] when they are no
    /// image.
    pub fn view<'a>(
        &'a self,
        decoder: &'a mut JpegDecoder,
        scratch: &'a mut Scratch,
    ) -> Result<View<'a>, ShardError> {
        self.verify()?;
        Ok(self.pixels(decoder)?.view(scratch))
    }
}

/// The room that windows need.
struct Windows {
    /// Bytes of all shards, and of two of the other split.
    all_bytes: u64,
    /// Bytes of two shards of the split that is evaluated.
    beside_bytes: u64,
    /// Bytes of two windows of one shard.
    two_bytes: u64,
}

#[cfg(test)]
mod tests;
