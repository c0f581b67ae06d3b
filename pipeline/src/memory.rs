//! The memory of batches.
//!
//! By default it is ordinary memory of the process. A consumer can supply other memory, for instance memory
//! that a GPU reads directly, through a [`MemoryProvider`].

use std::error::Error;
use std::fmt::Debug;

use memmap2::{MmapMut, MmapOptions};

/// Alignment that batch memory must have.
pub const ALIGNMENT_BYTES: usize = 64;

/// Memory for the images of one batch.
///
/// # Safety
/// Until it is dropped, an implementation must return the same address and length from every call, aligned to
/// [`ALIGNMENT_BYTES`], and no other code may access the memory.
pub unsafe trait BatchMemory: Send + Debug {
    /// The memory.
    fn bytes(&self) -> &[u8];

    /// The memory, for writing.
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// Where the loader gets memory from.
///
/// It is called on the thread that starts the loader. The memory reaches the consumer inside batches and is
/// dropped there or on the thread that drops the loader.
pub trait MemoryProvider {
    /// Memory of at least `bytes` bytes.
    ///
    /// # Errors
    /// When there is not enough memory.
    fn allocate(&mut self, bytes: usize) -> Result<Box<dyn BatchMemory>, Box<dyn Error + Send + Sync>>;
}

/// Ordinary memory of the process, in huge pages where the system has them.
#[derive(Debug, Default)]
pub struct HostMemory;

#[derive(Debug)]
struct HostBatchMemory(MmapMut);

// SAFETY: an anonymous map stays where it is until it is dropped, starts at a page, and is owned by this
// value alone.
unsafe impl BatchMemory for HostBatchMemory {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl MemoryProvider for HostMemory {
    fn allocate(&mut self, bytes: usize) -> Result<Box<dyn BatchMemory>, Box<dyn Error + Send + Sync>> {
        let map = MmapOptions::new().len(bytes.max(1)).map_anon()?;
        #[cfg(target_os = "linux")]
        {
            // Only a hint: a system without huge pages uses small ones.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Ok(Box::new(HostBatchMemory(map)))
    }
}
