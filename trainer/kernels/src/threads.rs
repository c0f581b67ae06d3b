//! Work on several threads.

use std::marker::PhantomData;
use std::ops::Range;

/// Runs parts of a job, on any threads.
pub(crate) trait Threads {
    /// Their number.
    fn count(&self) -> usize;

    /// Runs `part` for each number below `count`.
    fn run(&self, count: usize, part: &(dyn Fn(usize) + Send + Sync));
}

/// A buffer whose ranges are written by different parts of a job.
pub(crate) struct Shared<'a> {
    start: *mut f32,
    len: usize,
    buffer: PhantomData<&'a mut [f32]>,
}

// SAFETY: `range` demands that threads use different ranges.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub fn new(buffer: &'a mut [f32]) -> Self {
        Self { start: buffer.as_mut_ptr(), len: buffer.len(), buffer: PhantomData }
    }

    /// Where the buffer begins.
    pub fn as_mut_ptr(&self) -> *mut f32 {
        self.start
    }

    /// The values of a range.
    ///
    /// # Safety
    /// No other range that is in use at the same time overlaps it.
    #[allow(clippy::mut_from_ref)] // The caller answers for it.
    pub unsafe fn range(&self, range: Range<usize>) -> &mut [f32] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: the range is in the buffer, which is borrowed mutably, and nobody else uses it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// All parts on the calling thread, as if there were so many.
#[cfg(test)]
pub(crate) struct Alone(pub usize);

#[cfg(test)]
impl Threads for Alone {
    fn count(&self) -> usize {
        self.0
    }

    fn run(&self, count: usize, part: &(dyn Fn(usize) + Send + Sync)) {
        (0..count).for_each(part);
    }
}
