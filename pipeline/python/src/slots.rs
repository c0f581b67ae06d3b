//! The memory of batches, and where it goes when Python has done with it.
//!
//! A batch that Python receives keeps its memory, and the loader gets another slot in its place: one that
//! Python has given back, or a new one.

use std::collections::HashMap;
use std::error::Error;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use fovea_pipeline::memory::{BatchMemory, HostMemory, MemoryProvider};
use pyo3::prelude::*;

use crate::process::Process;

/// Slots that wait for their next use, at most; a loop holds one batch while it asks for the next.
const MOST_SPARE: usize = 2;

/// The slots of a loader in ordinary memory.
#[derive(Debug)]
pub struct Slots {
    bytes: usize,
    spare: Mutex<Vec<Box<dyn BatchMemory>>>,
    /// Slots that Python holds.
    held: AtomicUsize,
    /// Slots that were made because Python held as many as a loop needs.
    extra: AtomicUsize,
}

impl Slots {
    /// Of slots of `bytes` bytes.
    pub fn new(bytes: usize) -> Arc<Self> {
        let (spare, held, extra) = (Mutex::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { bytes, spare, held, extra })
    }

    /// A slot for the loader: one that was given back, or else a new one.
    pub fn take(&self) -> Result<Box<dyn BatchMemory>, Box<dyn Error + Send + Sync>> {
        if let Some(slot) = self.lock().pop() {
            return Ok(slot);
        }
        if self.held.load(Ordering::Relaxed) >= MOST_SPARE {
            self.extra.fetch_add(1, Ordering::Relaxed);
        }
        HostMemory.allocate(self.bytes)
    }

    /// Gives a slot to Python.
    pub fn hold(self: &Arc<Self>, mut memory: Box<dyn BatchMemory>) -> (*mut u8, Arc<Held>) {
        let data = memory.bytes_mut().as_mut_ptr();
        self.held.fetch_add(1, Ordering::Relaxed);
        let (memory, slots) = (Mutex::new(Some(memory)), Arc::downgrade(self));
        (data, Arc::new(Held { memory, slots, process: Process::current() }))
    }

    /// Bytes of a slot.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Slots that Python holds.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Slots that were made because Python kept others.
    pub fn extra(&self) -> usize {
        self.extra.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Box<dyn BatchMemory>>> {
        self.spare.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Keeps a slot for its next use; returns it if there are enough.
    fn give_back(&self, memory: Box<dyn BatchMemory>) -> Option<Box<dyn BatchMemory>> {
        self.held.fetch_sub(1, Ordering::Relaxed);
        let mut spare = self.lock();
        if spare.len() < MOST_SPARE {
            spare.push(memory);
            return None;
        }
        Some(memory)
    }
}

/// A slot that Python holds. When it is dropped, it goes back; or its memory is freed, if the loader has
/// enough or is gone.
#[derive(Debug)]
pub struct Held {
    /// Behind a lock only to be shared among threads; nobody waits for it.
    memory: Mutex<Option<Box<dyn BatchMemory>>>,
    slots: Weak<Slots>,
    process: Process,
}

impl Drop for Held {
    fn drop(&mut self) {
        let memory = self.memory.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        // In a forked child, a lock may be held by a thread that is not there.
        if !self.process.is_current() {
            std::mem::forget(memory);
        } else if let (Some(slots), Some(memory)) = (self.slots.upgrade(), memory) {
            // Freed without the lock, if it is freed.
            drop(slots.give_back(memory));
        }
    }
}

/// Memory from Python: tensors of page-locked memory that PyTorch allocates.
pub struct PinnedMemory<'a, 'py> {
    /// A function from bytes to a tensor `u8 [bytes]`.
    pub allocate: &'a Bound<'py, PyAny>,
    /// The tensors that were made, by their addresses.
    pub tensors: &'a mut HashMap<usize, Py<PyAny>>,
}

impl MemoryProvider for PinnedMemory<'_, '_> {
    fn allocate(&mut self, bytes: usize) -> Result<Box<dyn BatchMemory>, Box<dyn Error + Send + Sync>> {
        let tensor = self.allocate.call1((bytes,))?;
        let given: usize = tensor.call_method0("numel")?.extract()?;
        let address: usize = tensor.call_method0("data_ptr")?.extract()?;
        let address = NonNull::new(std::ptr::with_exposed_provenance_mut(address));
        let address = address.filter(|_| given >= bytes).ok_or("the allocator gave too little memory")?;
        self.tensors.insert(address.addr().get(), tensor.clone().unbind());
        Ok(Box::new(Pinned { _tensor: tensor.unbind(), address, bytes: given }))
    }
}

/// A tensor that the loader writes to.
#[derive(Debug)]
struct Pinned {
    /// Keeps the memory.
    _tensor: Py<PyAny>,
    address: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory is the tensor's, which may be dropped on any thread.
unsafe impl Send for Pinned {}

// SAFETY: a tensor's memory stays where it is, and Python sees the tensor only when the loader has given the
// memory away; its alignment is checked by the loader.
unsafe impl BatchMemory for Pinned {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the tensor has as many bytes there.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.bytes) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), self.bytes) }
    }
}
