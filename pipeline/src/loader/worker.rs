//! What each worker thread does.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TryRecvError, select};

use super::filling::{Claim, Filling};
use super::plan::{BatchPlan, BatchPlans};
use super::stats::{Counters, add};
use super::{Checksums, LoaderConfig, LoaderError, OnBadRecord, Views};
use crate::batch::{Batch, BatchShape, Buffer};
use crate::decode::JpegDecoder;
use crate::random::view_rng;
use crate::records::Records;
use crate::threads::panic_text;
use crate::view::Scratch;

/// Samples that a worker claims at a time, at most.
const MOST_CLAIMED: usize = 16;

/// What the workers of a loader share.
#[derive(Debug)]
pub(super) struct Shared {
    records: Arc<Records>,
    config: LoaderConfig,
    shape: BatchShape,
    claimed: usize,
    state: Mutex<State>,
    free: Receiver<Buffer>,
    return_to: Sender<Buffer>,
    /// Disconnected when the loader is dropped.
    stopped: Receiver<Infallible>,
    /// Set when a worker has met an error.
    failed: AtomicBool,
    outgoing: Mutex<Outgoing>,
    counters: Arc<Counters>,
    held: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct State {
    plans: BatchPlans,
    /// The batch with unclaimed slots.
    current: Option<Arc<Filling>>,
}

/// Puts finished batches in order.
#[derive(Debug)]
struct Outgoing {
    channel: Sender<Result<Batch, LoaderError>>,
    next: u64,
    early: BTreeMap<u64, Batch>,
}

/// What one worker reuses from sample to sample.
#[derive(Default)]
struct Workspace {
    decoder: JpegDecoder,
    scratch: Scratch,
}

impl Shared {
    #[expect(clippy::too_many_arguments, reason = "called once, to take apart what `Loader::start` made")]
    pub fn new(
        records: Arc<Records>,
        config: LoaderConfig,
        plans: BatchPlans,
        free: Receiver<Buffer>,
        return_to: Sender<Buffer>,
        stopped: Receiver<Infallible>,
        outgoing: Sender<Result<Batch, LoaderError>>,
        counters: Arc<Counters>,
        held: Arc<AtomicUsize>,
    ) -> Self {
        // Small enough that workers finish a batch at about the same time, large enough that claiming costs
        // nothing.
        let claimed = (config.batch_size / (8 * config.workers)).clamp(1, MOST_CLAIMED);
        // A worker that mixes claims whole pairs.
        let claimed = if config.mixing.is_none() { claimed } else { claimed.next_multiple_of(2) };
        Self {
            shape: config.shape(),
            claimed,
            state: Mutex::new(State { plans, current: None }),
            free,
            return_to,
            stopped,
            failed: AtomicBool::new(false),
            outgoing: Mutex::new(Outgoing { channel: outgoing, next: 0, early: BTreeMap::new() }),
            counters,
            held,
            records,
            config,
        }
    }

    /// Whether the loader has not been dropped, and no worker has failed.
    fn is_running(&self) -> bool {
        !self.failed.load(Ordering::Relaxed) && self.stopped.try_recv() != Err(TryRecvError::Disconnected)
    }
}

/// Makes batches until there are no more, the loader is dropped, or a worker fails.
pub(super) fn run(shared: &Shared) {
    let mut workspace = Workspace::default();
    let result = catch_unwind(AssertUnwindSafe(|| work(shared, &mut workspace)));
    let error = match result {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(panic) => LoaderError::WorkerPanicked { message: panic_text(&*panic).to_owned() },
    };
    shared.failed.store(true, Ordering::Relaxed);
    // The consumer may be gone.
    let _ = lock(&shared.outgoing).channel.send(Err(error));
}

fn work(shared: &Shared, workspace: &mut Workspace) -> Result<(), LoaderError> {
    let mut failed_slots = Vec::new();
    loop {
        let started = Instant::now();
        let filling = current(shared);
        add(&shared.counters.workers_waiting_ns, started.elapsed().as_nanos() as u64);
        let Some(filling) = filling else { return Ok(()) };
        while let Some(mut claim) = filling.claim(shared.claimed) {
            if shared.failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            let started = Instant::now();
            read_ahead(shared, &filling, &claim);
            failed_slots.clear();
            fill(shared, workspace, &filling, &mut claim, &mut failed_slots)?;
            let completed = filling.complete(claim, &failed_slots);
            add(&shared.counters.workers_busy_ns, started.elapsed().as_nanos() as u64);
            if let Some((buffer, len, skipped)) = completed {
                send(shared, &filling.plan, buffer, len, skipped);
            }
        }
    }
}

/// The batch with unclaimed slots, or else the next one; `None` after the last batch and when the loader is
/// dropped.
fn current(shared: &Shared) -> Option<Arc<Filling>> {
    // The worker that begins a batch may wait here for memory; the others wait for the lock instead.
    let mut state = lock(&shared.state);
    if let Some(filling) = state.current.as_ref().filter(|filling| filling.has_unclaimed()) {
        return Some(Arc::clone(filling));
    }
    state.current = None;
    let (plan, upcoming) = state.plans.next()?;
    let buffer = select! {
        recv(shared.free) -> buffer => buffer.ok()?,
        recv(shared.stopped) -> _ => return None,
    };
    let (kind, labels) = (shared.config.form.kind(), shared.records.labels());
    let filling = Arc::new(Filling::new(buffer, plan, upcoming, shared.shape, kind, labels));
    state.current = Some(Arc::clone(&filling));
    Some(filling)
}

/// Reads ahead the records of the same slots a few batches later.
fn read_ahead(shared: &Shared, filling: &Filling, claim: &Claim<'_>) {
    let Some(records) = &filling.upcoming else { return };
    let slots = claim.slots();
    for &record in &records[slots.start.min(records.len())..slots.end.min(records.len())] {
        if let Some(record) = shared.records.record_if_mapped(record as usize) {
            record.will_need();
        }
    }
}

/// Makes the claimed samples.
fn fill(
    shared: &Shared,
    workspace: &mut Workspace,
    filling: &Filling,
    claim: &mut Claim<'_>,
    failed_slots: &mut Vec<usize>,
) -> Result<(), LoaderError> {
    let mut bytes_read = 0;
    for slot in claim.slots() {
        match fill_slot(shared, workspace, &filling.plan, claim, slot) {
            Ok(record_bytes) => bytes_read += record_bytes,
            Err(LoaderError::Shard(_)) if shared.config.on_bad_record == OnBadRecord::Skip => {
                failed_slots.push(slot);
            }
            Err(error) => return Err(error),
        }
        filling.plan.is_done(slot);
    }
    mix(shared, &filling.plan, claim, failed_slots);
    let images = claim.slots().len() - failed_slots.len();
    let image_bytes = shared.shape.views * shared.shape.view_values() * shared.config.form.kind().bytes();
    add(&shared.counters.images, images as u64);
    add(&shared.counters.skipped, failed_slots.len() as u64);
    add(&shared.counters.bytes_read, bytes_read as u64);
    add(&shared.counters.bytes_written, (images * image_bytes) as u64);
    Ok(())
}

/// Makes one sample with all its views and returns the size of its record in bytes.
fn fill_slot(
    shared: &Shared,
    workspace: &mut Workspace,
    plan: &BatchPlan,
    claim: &mut Claim<'_>,
    slot: usize,
) -> Result<usize, LoaderError> {
    let index = plan.records()[slot] as usize;
    let is_wanted = || shared.is_running();
    plan.wait_for_turn(slot, &is_wanted);
    let record = shared.records.record_while(index, &is_wanted)?;
    if shared.config.checksums == Checksums::FirstUse {
        record.verify()?;
    }
    let Workspace { decoder, scratch } = workspace;
    let pixels = record.pixels(decoder)?;
    claim.set_label(slot, record.get().label);
    for number in 0..shared.shape.views {
        let mut view = pixels.view(scratch);
        match &shared.config.views {
            Views::Augmented { chain, .. } => {
                let position = plan.first_position + slot as u64;
                let mut rng = view_rng(shared.config.seed, plan.epoch, position, number as u32);
                chain.apply(&mut view, &mut rng);
            }
            Views::Test { views, crop } => views.apply(number, *crop, &mut view),
        }
        claim.set_color_offset(slot, number, view.color_offset());
        shared.config.form.write(shared.config.axes, &mut view, claim.image(slot, number));
    }
    Ok(record.get().image.len())
}

/// Mixes the claimed samples, if they are to be.
fn mix(shared: &Shared, plan: &BatchPlan, claim: &mut Claim<'_>, failed_slots: &[usize]) {
    let (size, axes, seed) = (shared.shape.size, shared.config.axes, shared.config.seed);
    let Some(mix) = shared.config.mixing.draw(seed, plan.epoch, plan.step_position, size) else { return };
    let share = mix.share(size);
    let slots = claim.slots();
    for first in slots.clone().step_by(2) {
        let pair = [first, first + 1];
        if pair.iter().all(|slot| slots.contains(slot) && !failed_slots.contains(slot)) {
            for view in 0..shared.shape.views {
                let (images, offsets) = claim.pair(pair, view);
                mix.apply(axes, size, images, offsets);
            }
            claim.set_partner(first, first + 1, share);
            claim.set_partner(first + 1, first, share);
        } else {
            pair.iter()
                .filter(|slot| slots.contains(slot))
                .for_each(|&slot| claim.set_partner(slot, slot, 1.0));
        }
    }
}

/// Sends a completed batch, after those before it.
fn send(shared: &Shared, plan: &BatchPlan, buffer: Buffer, len: usize, skipped: usize) {
    let batch = Batch {
        buffer: Some(buffer),
        return_to: shared.return_to.clone(),
        held: Arc::clone(&shared.held),
        shape: shared.shape,
        kind: shared.config.form.kind(),
        len,
        epoch: plan.epoch,
        index: plan.index,
        skipped,
        is_mixed: !shared.config.mixing.is_none(),
        label_kind: shared.records.labels().0,
    };
    let mut outgoing = lock(&shared.outgoing);
    outgoing.early.insert(plan.sequence, batch);
    loop {
        let next = outgoing.next;
        let Some(batch) = outgoing.early.remove(&next) else { return };
        outgoing.next += 1;
        // If the consumer is gone, the batch is dropped and the worker soon stops.
        let _ = outgoing.channel.send(Ok(batch));
    }
}

/// Locks data that stay consistent even if a worker panics while it holds the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
