//! The memory of batches.
//!
//! By default it is ordinary memory of the process. A consumer can supply other memory, for instance memory
//! that a GPU reads directly, through a [`MemoryProvider`].

use std::error::Error;
use std::fmt::Debug;
use std::fs;

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

/// Memory that a batch cannot be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given} bytes at {address:#x}, expected {expected} aligned to {ALIGNMENT_BYTES}")]
pub struct UnfitMemory {
    /// Bytes there are.
    pub given: usize,
    /// Where they begin.
    pub address: usize,
    /// Bytes of the images.
    pub expected: usize,
}

/// Checks that images of `bytes` bytes can be in `memory`.
pub(crate) fn check(memory: &dyn BatchMemory, bytes: usize) -> Result<(), UnfitMemory> {
    let (given, address) = (memory.bytes().len(), memory.bytes().as_ptr().addr());
    if given >= bytes && address.is_multiple_of(ALIGNMENT_BYTES) {
        return Ok(());
    }
    Err(UnfitMemory { given, address, expected: bytes })
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

/// Bytes of memory that this process can have: all of the machine's, or fewer where a limit is set
/// (`ulimit -v`); `None` where the system does not say.
#[must_use]
pub fn most_bytes() -> Option<u64> {
    // `MemTotal:       24683404 kB`
    let machine = number(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")?.saturating_mul(1024);
    // `Max address space         unlimited            unlimited            bytes`
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    Some(number(&limits, "Max address space").map_or(machine, |limit| limit.min(machine)))
}

/// The number after the name of a line.
fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_the_name_of_their_line() {
        let text = "MemTotal:   24683404 kB\nMax address space   unlimited   unlimited   bytes\n";
        assert_eq!(number(text, "MemTotal:"), Some(24_683_404));
        assert_eq!(number(text, "Max address space"), None);
        assert_eq!(number(text, "MemFree:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_machine_has_memory() {
        assert!(most_bytes().is_some_and(|bytes| bytes > 1 << 26));
    }
}
