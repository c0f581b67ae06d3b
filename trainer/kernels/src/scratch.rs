//! Memory for intermediate values, kept from node to node: new memory costs a page fault for each 4 KiB.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// A buffer that goes back to the pool when it is dropped.
pub(crate) struct Scratch {
    values: Vec<f32>,
    len: usize,
}

impl Scratch {
    /// A buffer of `len` values, which are those of an earlier use.
    pub fn new(len: usize) -> Self {
        let mut pool = POOL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // The smallest one that fits, else the largest.
        let fitting = (0..pool.len()).filter(|&at| pool[at].len() >= len).min_by_key(|&at| pool[at].len());
        let at = fitting.or_else(|| (0..pool.len()).max_by_key(|&at| pool[at].len()));
        let mut values = at.map(|at| pool.swap_remove(at)).unwrap_or_default();
        drop(pool);
        if values.len() < len {
            values.resize(len, 0.0);
        }
        Self { values, len }
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        POOL.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(values);
    }
}
