//! Memory for intermediate values, kept from node to node: new memory costs a page fault for each 4 KiB.

use std::ops::{Deref, DerefMut, Range};
use std::sync::Mutex;

static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// Bytes of a cache line, where buffers begin.
const LINE: usize = 64;

/// A buffer that goes back to the pool when it is dropped.
pub(crate) struct Scratch {
    values: Vec<f32>,
    range: Range<usize>,
}

impl Scratch {
    /// A buffer of `len` values, which are those of an earlier use.
    pub fn new(len: usize) -> Self {
        let space = len + LINE / size_of::<f32>();
        let mut pool = POOL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // The smallest one that fits, else the largest.
        let fitting = (0..pool.len()).filter(|&at| pool[at].len() >= space).min_by_key(|&at| pool[at].len());
        let at = fitting.or_else(|| (0..pool.len()).max_by_key(|&at| pool[at].len()));
        let mut values = at.map(|at| pool.swap_remove(at)).unwrap_or_default();
        drop(pool);
        if values.len() < space {
            values.resize(space, 0.0);
        }
        let start = values.as_ptr().align_offset(LINE);
        Self { values, range: start..start + len }
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[self.range.clone()]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.range.clone()]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        POOL.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(values);
    }
}
