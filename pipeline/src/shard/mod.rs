//! Shards: Arrow IPC files that hold one split of a data set, a part each.

/// Version of the layout that this crate writes and reads.
pub const FORMAT_VERSION: u32 = 1;
