//! Memory that the consumer supplies.

use super::*;

/// Memory with a mark by which it is recognised.
#[derive(Debug)]
struct MarkedMemory(Box<[[u64; 8]]>);

// SAFETY: boxed memory stays where it is and is owned by this value alone.
unsafe impl BatchMemory for MarkedMemory {
    fn bytes(&self) -> &[u8] {
        // SAFETY: integers may be read as bytes.
        unsafe { self.0.align_to().1 }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: integers may be written as bytes.
        unsafe { self.0.align_to_mut().1 }
    }
}

/// Gives memory, and lists where.
struct MarkingProvider {
    given: Vec<*const u8>,
    bytes_short: usize,
    /// What the address is beyond a multiple of 64.
    misaligned_bytes: usize,
}

impl MemoryProvider for MarkingProvider {
    fn allocate(
        &mut self,
        bytes: usize,
    ) -> Result<Box<dyn BatchMemory>, Box<dyn std::error::Error + Send + Sync>> {
        // The allocator aligns large blocks to 16 bytes; try until one happens to be aligned as wanted.
        for _ in 0..1000 {
            let memory =
                MarkedMemory(vec![[0; 8]; bytes.div_ceil(64) - self.bytes_short.div_ceil(64)].into());
            if memory.bytes().as_ptr().addr() % 64 == self.misaligned_bytes {
                self.given.push(memory.bytes().as_ptr());
                return Ok(Box::new(memory));
            }
            std::mem::forget(memory);
        }
        Err("no such memory in a thousand attempts".into())
    }
}

#[test]
fn batches_live_in_the_memory_that_the_consumer_supplies() {
    let (_directory, records) = records(Encoding::Raw, 53);
    let expected = deliver(&records, one_epoch());
    let mut provider = MarkingProvider { given: Vec::new(), bytes_short: 0, misaligned_bytes: 0 };
    let loader = Loader::start_with_memory(records, one_epoch(), &mut provider).unwrap();
    assert_eq!(provider.given.len(), 3);
    for (batch, expected) in loader.zip(&expected) {
        let batch = batch.unwrap();
        assert!(provider.given.contains(&batch.image_bytes().as_ptr()));
        assert_eq!(&see(batch), expected);
    }
}

#[test]
fn memory_that_is_too_small_or_not_aligned_is_refused() {
    let (_directory, records) = records(Encoding::Raw, 53);
    for (bytes_short, misaligned_bytes, gave) in [(64, 0, "gave 6080 bytes"), (0, 16, "gave 6144 bytes")] {
        let mut provider = MarkingProvider { given: Vec::new(), bytes_short, misaligned_bytes };
        let error = Loader::start_with_memory(Arc::clone(&records), one_epoch(), &mut provider);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(gave) && error.contains("expected 6144 aligned to 64"), "{error}");
    }
}
