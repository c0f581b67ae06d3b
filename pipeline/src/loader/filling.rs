//! A batch while workers fill it.
//!
//! Slots are claimed by incrementing an atomic number, so each belongs to one worker. That makes it sound to
//! write to them through a shared reference; all `unsafe` code for it is here.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use half::f16;

use super::plan::BatchPlan;
use crate::batch::{BatchShape, Buffer, NO_LABEL, ValueKind};
use crate::form::Slot;
use crate::labels::{Label, LabelKind};

/// A batch that is being filled.
#[derive(Debug)]
pub(super) struct Filling {
    pub plan: BatchPlan,
    /// The records that should be read ahead while this batch is filled.
    pub upcoming: Option<Arc<[u32]>>,
    shape: BatchShape,
    kind: ValueKind,
    labels: (LabelKind, usize),
    pointers: Pointers,
    /// The first unclaimed slot.
    next: AtomicUsize,
    /// Slots that are not complete.
    remaining: AtomicUsize,
    /// Slots whose record could not be used.
    failed: Mutex<Vec<usize>>,
    /// The owner of what `pointers` point to; taken when no slot remains.
    buffer: Mutex<Option<Buffer>>,
}

/// Into the memory that the buffer owns; valid while it is in `Filling::buffer`.
#[derive(Debug)]
struct Pointers {
    images: *mut u8,
    labels: *mut i64,
    marks: *mut u8,
    values: *mut f32,
    color_offsets: *mut [f32; 3],
    partners: *mut u32,
    shares: *mut f32,
}

// SAFETY: the memory belongs to the buffer, which is `Send`; slots are written by the one worker that claimed
// them.
unsafe impl Send for Pointers {}
// SAFETY: as above; the pointers themselves are never changed.
unsafe impl Sync for Pointers {}

/// A worker's exclusive right to some slots of a batch.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    filling: &'a Filling,
    slots: Range<usize>,
    /// Not `Clone`, not `Sync`: the slots are written through it.
    exclusive: PhantomData<*mut u8>,
}

impl Filling {
    pub fn new(
        mut buffer: Buffer,
        plan: BatchPlan,
        upcoming: Option<Arc<[u32]>>,
        shape: BatchShape,
        kind: ValueKind,
        labels: (LabelKind, usize),
    ) -> Self {
        buffer.records.clear();
        buffer.records.extend_from_slice(plan.records());
        buffer.positions.clear();
        buffer.positions.extend(0..plan.records().len() as u32);
        let remaining = AtomicUsize::new(plan.records().len().max(1));
        let pointers = Pointers {
            images: buffer.memory.bytes_mut().as_mut_ptr(),
            labels: buffer.labels.as_mut_ptr(),
            marks: buffer.marks.as_mut_ptr(),
            values: buffer.values.as_mut_ptr(),
            color_offsets: buffer.color_offsets.as_mut_ptr(),
            partners: buffer.partners.as_mut_ptr(),
            shares: buffer.shares.as_mut_ptr(),
        };
        Self {
            plan,
            upcoming,
            shape,
            kind,
            labels,
            pointers,
            next: AtomicUsize::new(0),
            remaining,
            failed: Mutex::new(Vec::new()),
            buffer: Mutex::new(Some(buffer)),
        }
    }

    /// Whether there are unclaimed slots.
    pub fn has_unclaimed(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.claimable()
    }

    /// Claims up to `most` slots; none when all are claimed.
    pub fn claim(&self, most: usize) -> Option<Claim<'_>> {
        // Relaxed: only the uniqueness of the numbers matters.
        let start = self.next.fetch_add(most, Ordering::Relaxed);
        let end = self.claimable().min(start + most);
        (start < end).then_some(Claim { filling: self, slots: start..end, exclusive: PhantomData })
    }

    /// Slots that can be claimed. An empty batch has one, so that a worker claims and completes it.
    fn claimable(&self) -> usize {
        self.plan.records().len().max(1)
    }

    /// Gives the claim back. The last one returns the full buffer, the number of its samples, and the number
    /// of records that were skipped.
    pub fn complete(&self, claim: Claim<'_>, failed: &[usize]) -> Option<(Buffer, usize, usize)> {
        if !failed.is_empty() {
            self.failed.lock().expect("no worker panics while it holds this lock").extend(failed);
        }
        // Release what was written to the slots, acquire what the others wrote.
        let done = claim.slots.len();
        if self.remaining.fetch_sub(done, Ordering::AcqRel) > done {
            return None;
        }
        let failed = std::mem::take(&mut *self.failed.lock().expect("as above"));
        let mut buffer =
            self.buffer.lock().expect("as above").take().expect("only the last completion takes it");
        let len = buffer.records.len() - failed.len();
        self.remove_slots(&mut buffer, failed);
        self.clear_padding(&mut buffer, len);
        Some((buffer, len, self.plan.records().len() - len))
    }

    /// Moves the samples after each failed slot to the front, so that the first `len` slots hold samples.
    fn remove_slots(&self, buffer: &mut Buffer, mut failed: Vec<usize>) {
        failed.sort_unstable();
        let (views, slot_bytes) = (self.shape.views, self.slot_bytes());
        for slot in failed.into_iter().rev() {
            let end = buffer.records.len();
            buffer.records.remove(slot);
            buffer.positions.remove(slot);
            buffer.labels.copy_within(slot + 1..end, slot);
            let (marks, values) = (self.per_sample(buffer.marks.len()), self.per_sample(buffer.values.len()));
            buffer.marks.copy_within((slot + 1) * marks..end * marks, slot * marks);
            buffer.values.copy_within((slot + 1) * values..end * values, slot * values);
            buffer.shares.copy_within(slot + 1..end, slot);
            buffer.partners.copy_within(slot + 1..end, slot);
            // No sample is mixed with a failed one.
            for partner in buffer.partners[..end - 1].iter_mut().filter(|partner| **partner as usize > slot) {
                *partner -= 1;
            }
            buffer.color_offsets.copy_within((slot + 1) * views..end * views, slot * views);
            buffer
                .memory
                .bytes_mut()
                .copy_within((slot + 1) * slot_bytes..end * slot_bytes, slot * slot_bytes);
        }
    }

    fn clear_padding(&self, buffer: &mut Buffer, len: usize) {
        buffer.labels[len..].fill(NO_LABEL);
        let (marks, values) = (self.per_sample(buffer.marks.len()), self.per_sample(buffer.values.len()));
        buffer.marks[len * marks..].fill(0);
        buffer.values[len * values..].fill(0.0);
        buffer.color_offsets[len * self.shape.views..].fill([0.0; 3]);
        let slots = len * self.slot_bytes()..self.shape.samples * self.slot_bytes();
        buffer.memory.bytes_mut()[slots].fill(0);
    }

    /// Of `all` marks or numbers of a batch, those of a sample.
    fn per_sample(&self, all: usize) -> usize {
        all / self.shape.samples
    }

    fn slot_bytes(&self) -> usize {
        self.shape.views * self.shape.view_values() * self.kind.bytes()
    }
}

impl Claim<'_> {
    /// The claimed slots that hold samples.
    pub fn slots(&self) -> Range<usize> {
        self.slots.start..self.slots.end.min(self.filling.plan.records().len())
    }

    /// The place of one view of a sample.
    ///
    /// # Panics
    /// When the slot is not claimed or there is no such view.
    pub fn image(&mut self, slot: usize, view: usize) -> Slot<'_> {
        // SAFETY: the borrow of the claim keeps it from handing the place out twice.
        unsafe { self.place(slot, view) }
    }

    /// The places of one view of two samples, and of its colour offsets.
    ///
    /// # Panics
    /// When a slot is not claimed, both are the same, or there is no such view.
    pub fn pair(&mut self, slots: [usize; 2], view: usize) -> ((Slot<'_>, Slot<'_>), [&mut [f32; 3]; 2]) {
        assert_ne!(slots[0], slots[1]);
        // SAFETY: as in `image`; places of different slots do not overlap.
        let [first, second] = slots.map(|slot| unsafe { self.place(slot, view) });
        let (offsets, views) = (self.filling.pointers.color_offsets, self.filling.shape.views);
        // SAFETY: as above; there are as many colour offsets as views.
        let offsets = slots.map(|slot| unsafe { &mut *offsets.add(slot * views + view) });
        ((first, second), offsets)
    }

    /// The place of one view of a sample.
    ///
    /// # Safety
    /// No other reference to the place may be alive, and the result must not outlive a borrow of the claim.
    unsafe fn place<'b>(&self, slot: usize, view: usize) -> Slot<'b> {
        let shape = self.filling.shape;
        assert!(self.slots().contains(&slot) && view < shape.views);
        let values = shape.view_values();
        let first = (slot * shape.views + view) * values;
        let images = self.filling.pointers.images;
        // SAFETY: `slot` is below the number of samples that the memory was made for, and only this claim may
        // use it. The memory is aligned to more than any value, stays where it is while the filling owns the
        // buffer, and any bytes are a value.
        unsafe {
            match self.filling.kind {
                ValueKind::U8 => Slot::U8(std::slice::from_raw_parts_mut(images.add(first), values)),
                ValueKind::F32 => {
                    Slot::F32(std::slice::from_raw_parts_mut(images.cast::<f32>().add(first), values))
                }
                ValueKind::F16 => {
                    Slot::F16(std::slice::from_raw_parts_mut(images.cast::<f16>().add(first), values))
                }
            }
        }
    }

    /// Sets the label of a sample.
    ///
    /// # Panics
    /// When the slot is not claimed.
    pub fn set_label(&mut self, slot: usize, label: Label<'_>) {
        assert!(self.slots().contains(&slot));
        let Pointers { labels, marks, values, .. } = self.filling.pointers;
        let (kind, outputs) = self.filling.labels;
        assert_eq!(label.kind(), kind);
        // SAFETY: as in `image`; there are as many labels as samples, and for labels of the kind of the batch
        // as many marks, or numbers, as samples and outputs.
        unsafe {
            labels.add(slot).write(label.class().into());
            match label {
                Label::Class(_) => {}
                Label::MultiHot(own) => {
                    assert_eq!(own.len(), outputs);
                    marks.add(slot * outputs).copy_from_nonoverlapping(own.as_ptr(), outputs);
                }
                Label::Values(own) => {
                    assert_eq!(own.len(), outputs);
                    values.add(slot * outputs).copy_from_nonoverlapping(own.as_ptr(), outputs);
                }
            }
        }
    }

    /// Sets the sample that a sample is mixed with, and its share of itself.
    ///
    /// # Panics
    /// When the slot is not claimed.
    pub fn set_partner(&mut self, slot: usize, partner: usize, share: f32) {
        assert!(self.slots().contains(&slot));
        let Pointers { partners, shares, .. } = self.filling.pointers;
        // SAFETY: as in `image`; there are as many partners and shares as samples.
        unsafe {
            partners.add(slot).write(partner as u32);
            shares.add(slot).write(share);
        }
    }

    /// Sets the colour offset of one view of a sample.
    ///
    /// # Panics
    /// When the slot is not claimed or there is no such view.
    pub fn set_color_offset(&mut self, slot: usize, view: usize, offset: [f32; 3]) {
        let views = self.filling.shape.views;
        assert!(self.slots().contains(&slot) && view < views);
        // SAFETY: as in `image`; there are as many colour offsets as views.
        unsafe { self.filling.pointers.color_offsets.add(slot * views + view).write(offset) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::augment::Chain;
    use crate::geometry::Size;
    use crate::loader::LoaderConfig;
    use crate::loader::plan::BatchPlans;
    use crate::memory::{HostMemory, MemoryProvider};
    use crate::order::Order;
    use crate::test_support;
    use crate::{Dataset, Encoding, Split};

    const VIEWS: usize = 2;

    /// A batch of eight slots with two views of 1×1 pixels each, for records 0 to 7.
    fn filling() -> Filling {
        let shape = BatchShape { samples: 8, views: VIEWS, size: Size::square(1) };
        let kind = ValueKind::F16;
        let buffer = Buffer {
            memory: HostMemory.allocate(shape.values() * kind.bytes()).unwrap(),
            labels: vec![NO_LABEL; 8],
            marks: Vec::new(),
            values: vec![0.0; 8 * 2],
            color_offsets: vec![[0.0; 3]; 8 * VIEWS],
            records: Vec::new(),
            positions: Vec::new(),
            partners: vec![0; 8],
            shares: vec![0.0; 8],
        };
        let config = LoaderConfig {
            batch_size: 8,
            order: Order::Sequential,
            ..LoaderConfig::training(Chain::empty(shape.size))
        };
        let directory = test_support::dataset(Encoding::Raw, 8);
        let records = Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap();
        let (plan, _) = BatchPlans::new(&config, &Arc::new(records)).next().unwrap();
        Filling::new(buffer, plan, None, shape, kind, (LabelKind::Values, 2))
    }

    /// What is written for a view of a sample.
    fn value(slot: usize, view: usize) -> f32 {
        (10 * slot + view) as f32
    }

    #[test]
    fn failed_slots_are_closed_up_in_any_order_of_failure() {
        let filling = filling();
        let mut claims: Vec<Claim<'_>> = std::iter::from_fn(|| filling.claim(3)).collect();
        let slots: Vec<Range<usize>> = claims.iter().map(Claim::slots).collect();
        assert_eq!(slots, [0..3, 3..6, 6..8]);
        assert!(!filling.has_unclaimed());
        for claim in &mut claims {
            for slot in claim.slots() {
                claim.set_label(slot, Label::Values(&[slot as f32, 0.5]));
                for view in 0..VIEWS {
                    claim.set_color_offset(slot, view, [value(slot, view); 3]);
                    let Slot::F16(place) = claim.image(slot, view) else { panic!("the values are f16") };
                    place.fill(f16::from_f32(value(slot, view)));
                }
            }
        }
        let [first, second, third] = claims.try_into().unwrap();
        assert!(filling.complete(third, &[6]).is_none());
        assert!(filling.complete(first, &[0, 1]).is_none());
        let (buffer, len, skipped) = filling.complete(second, &[4]).expect("no slot remains");
        assert_eq!((len, skipped), (4, 4));
        let kept = [2, 3, 5, 7];
        assert_eq!(buffer.records, kept.map(|slot| slot as u32));
        assert_eq!(buffer.positions, kept.map(|slot| slot as u32));
        assert_eq!(buffer.labels, [0, 0, 0, 0, NO_LABEL, NO_LABEL, NO_LABEL, NO_LABEL]);
        let own = kept.iter().flat_map(|&slot| [slot as f32, 0.5]).chain([0.0; 8]);
        assert_eq!(buffer.values, own.collect::<Vec<_>>());
        let values = kept.iter().flat_map(|&slot| (0..VIEWS).map(move |view| value(slot, view)));
        let values: Vec<f32> = values.chain([0.0; 4 * VIEWS]).collect();
        let offsets: Vec<[f32; 3]> = values.iter().map(|&value| [value; 3]).collect();
        assert_eq!(buffer.color_offsets, offsets);
        let images: Vec<u8> =
            values.iter().flat_map(|&value| [f16::from_f32(value).to_le_bytes(); 3].concat()).collect();
        assert_eq!(buffer.memory.bytes()[..images.len()], images);
    }
}
