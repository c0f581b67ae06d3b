//! What every source must do, whatever its layout.

use std::collections::HashSet;
use std::thread;

use fovea_pipeline::Split;

use crate::{Payload, Source};

/// The bytes of a payload with what kind it is.
fn bytes_of(
    source: &dyn Source,
    split: Split,
    index: usize,
    buffer: &mut Vec<u8>,
) -> (Option<(u32, u32)>, Vec<u8>) {
    let key = &source.entries(split)[index].key;
    match source.read(split, index, buffer) {
        Ok(Payload::File(bytes)) => (None, bytes.to_vec()),
        Ok(Payload::Pixels { width, height, rgb }) => {
            assert_eq!(rgb.len(), width as usize * height as usize * 3, "{split} image {key}: [H,W,3]");
            (Some((width, height)), rgb.to_vec())
        }
        Err(e) => panic!("{split} image {key}: {e}"),
    }
}

/// Runs all checks.
pub(crate) fn check(source: &dyn Source) {
    classes_are_sorted_and_unique(source);
    keys_are_sorted_and_unique_and_labels_in_range(source);
    reading_is_repeatable_in_any_order_and_from_many_threads(source);
}

fn classes_are_sorted_and_unique(source: &dyn Source) {
    assert!(!source.name().is_empty());
    assert!(!source.classes().is_empty(), "a source has classes");
    for pair in source.classes().windows(2) {
        assert!(pair[0].wnid < pair[1].wnid, "classes {:?} and {:?} are out of order", pair[0], pair[1]);
    }
    for class in source.classes() {
        assert!(!class.wnid.is_empty() && !class.name.is_empty(), "{class:?} has an empty name");
    }
    let ids: HashSet<_> = source.classes().iter().filter_map(|class| class.ilsvrc_id).collect();
    assert!(ids.is_empty() || ids.len() == source.classes().len(), "ILSVRC ids are not unique");
}

fn keys_are_sorted_and_unique_and_labels_in_range(source: &dyn Source) {
    let images: usize = Split::ALL.iter().map(|&split| source.entries(split).len()).sum();
    assert!(images > 0, "a source has images");
    for split in Split::ALL {
        let entries = source.entries(split);
        for pair in entries.windows(2) {
            assert!(pair[0].key < pair[1].key, "{split}: {:?} before {:?}", pair[0].key, pair[1].key);
        }
        for entry in entries {
            assert!((entry.label as usize) < source.classes().len(), "{split}: label of {entry:?}");
            assert!(!entry.key.starts_with('/') && !entry.key.contains('\\'), "{split}: key of {entry:?}");
        }
    }
}

fn reading_is_repeatable_in_any_order_and_from_many_threads(source: &dyn Source) {
    for split in Split::ALL {
        // Enough of a large source to notice mistakes, and all of a small one.
        let count = source.entries(split).len();
        let indices: Vec<usize> = (0..count).step_by((count / 500).max(1)).collect();
        let mut buffer = vec![0xaa; 5];
        let in_order: Vec<_> = indices.iter().map(|&i| bytes_of(source, split, i, &mut buffer)).collect();
        thread::scope(|scope| {
            for t in 0..4 {
                let (indices, in_order) = (&indices, &in_order);
                scope.spawn(move || {
                    let mut buffer = Vec::new();
                    for k in (0..indices.len()).rev().map(|k| (k + t * indices.len() / 4) % indices.len()) {
                        let again = bytes_of(source, split, indices[k], &mut buffer);
                        let key = &source.entries(split)[indices[k]].key;
                        assert!(again == in_order[k], "{split} image {key} reads differently in thread {t}");
                    }
                });
            }
        });
    }
}
