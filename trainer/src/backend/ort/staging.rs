//! Host memory for batches that the device copies from.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, ptr, slice};

use fovea_pipeline::memory::{ALIGNMENT_BYTES, BatchMemory, MemoryProvider};
use ort::memory::Allocator;

/// Allocates blocks with an allocator of ONNX Runtime: page-locked memory if the device is a GPU, which reads
/// it without another copy.
pub(super) struct StagingMemory {
    allocator: Arc<Mutex<Allocator>>,
}

impl StagingMemory {
    pub fn new(allocator: Allocator) -> Self {
        Self { allocator: Arc::new(Mutex::new(allocator)) }
    }
}

impl MemoryProvider for StagingMemory {
    fn allocate(&mut self, bytes: usize) -> Result<Box<dyn BatchMemory>, Box<dyn Error + Send + Sync>> {
        let len = bytes.max(1);
        let start = {
            let allocator = self.allocator.lock().unwrap_or_else(PoisonError::into_inner);
            allocator.alloc::<u8>(len)?.into_raw().cast::<u8>()
        };
        let block = Block { start, len, allocator: Arc::clone(&self.allocator) };
        if !start.addr().is_multiple_of(ALIGNMENT_BYTES) {
            return Err(format!("staging memory is not aligned to {ALIGNMENT_BYTES} bytes").into());
        }
        // SAFETY: the block was just allocated with this length. The trait lends it as initialised bytes.
        unsafe { ptr::write_bytes(start, 0, len) };
        Ok(Box::new(block))
    }
}

struct Block {
    start: *mut u8,
    len: usize,
    allocator: Arc<Mutex<Allocator>>,
}

// SAFETY: only this value owns the memory, and the allocator is used under its lock.
unsafe impl Send for Block {}

// SAFETY: allocated memory keeps its address until it is freed in `drop`, its alignment was checked, and no
// other owner has its address.
unsafe impl BatchMemory for Block {
    fn bytes(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes that live as long as `self`.
        unsafe { slice::from_raw_parts(self.start, self.len) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed for writing.
        unsafe { slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let allocator = self.allocator.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the block came from this allocator and is freed once.
        unsafe { allocator.free(self.start) };
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use fovea_runtime::testing;

    use super::*;

    #[test]
    fn blocks_keep_their_content_and_outlive_their_provider() {
        let _loaded = testing::runtime();
        let mut provider = StagingMemory::new(Allocator::default());
        let mut blocks: Vec<_> = (0..3).map(|_| provider.allocate(1000).unwrap()).collect();
        drop(provider);
        for (block, value) in blocks.iter_mut().zip(1..) {
            assert!(block.bytes().len() >= 1000 && block.bytes().iter().all(|&byte| byte == 0));
            block.bytes_mut().fill(value);
        }
        let other = std::thread::spawn(move || {
            for (block, value) in blocks.iter().zip(1..) {
                assert!(block.bytes().iter().all(|&byte| byte == value));
            }
        });
        other.join().unwrap();
    }
}
