//! The memory that batches are made of.
//!
//! By default it is the program's own. A consumer can supply other memory, such as memory that a GPU reads
//! directly, by a [`MemoryProvider`].

use std::error::Error;
use std::fmt::Debug;

use memmap2::{MmapMut, MmapOptions};

/// Alignment that batch memory must have.
pub const ALIGNMENT_BYTES: usize = 64;

/// Memory for the images of one batch.
///
/// # Safety
/// Until it is dropped, an implementation must return the same address and length from every call, aligned to
/// [`ALIGNMENT_BYTES`], and nobody else may access the memory.
pub unsafe trait BatchMemory: Send + Debug {
    /// The memory.
    fn bytes(&self) -> &[u8];

    /// The memory, to be written.
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// Where the loader gets memory from.
///
/// It is called on the thread that starts the loader. The memory comes back to the consumer inside each batch, and is
/// dropped there or, when the loader is dropped, on the thread that drops it.
pub trait MemoryProvider {
    /// Memory of at least `bytes` bytes.
    ///
    /// # Errors
    /// When there is not so much.
    fn allocate(&mut self, bytes: usize) -> Result<Box<dyn BatchMemory>, Box<dyn Error + Send + Sync>>;
}

/// Ordinary memory of the program, in huge pages where the system has them.
#[derive(Debug, Default)]
pub struct HostMemory;

#[derive(Debug)]
struct HostBatchMemory(MmapMut);

// SAFETY: an anonymous map stays where it is until it is dropped, starts at a page, and is owned by this value alone.
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
