//! The first directory of a TIFF structure, which EXIF data are too.

/// A directory's entries, which have not been looked at.
pub(super) struct Directory<'b> {
    bytes: &'b [u8],
    is_big_endian: bool,
    /// BigTIFF has offsets of 64 bits.
    is_wide: bool,
    first_entry: usize,
    entries: u64,
}

/// An entry of a directory.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    /// The type of its values.
    pub(super) kind: u16,
    pub(super) count: u64,
    /// The position of its values, or of their position, in the structure.
    pub(super) value_at: usize,
}

impl<'b> Directory<'b> {
    /// Reads the header; `None` if it is another one. As other readers do, this one forgives an exchanged
    /// byte order of the version.
    pub(super) fn read(bytes: &'b [u8]) -> Option<Self> {
        let (is_big_endian, is_wide) = match bytes.first_chunk()? {
            [b'I', b'I', 42, 0] | [b'I', b'I', 0, 42] => (false, false),
            [b'M', b'M', 0, 42] | [b'M', b'M', 42, 0] => (true, false),
            b"II+\0" => (false, true),
            b"MM\0+" => (true, true),
            _ => return None,
        };
        let mut directory = Self { bytes, is_big_endian, is_wide, first_entry: 0, entries: 0 };
        let (header, offset, count) = if is_wide { (8, 8, 8) } else { (4, 4, 2) };
        let at = usize::try_from(directory.number(header, offset)?).ok()?;
        directory.entries = directory.number(at, count)?;
        directory.first_entry = at.checked_add(count)?;
        Some(directory)
    }

    /// The first entry with this tag, as far as the directory goes.
    pub(super) fn find(&self, tag: u16) -> Option<Entry> {
        let (size, count) = if self.is_wide { (20, 8) } else { (12, 4) };
        let mut at = self.first_entry;
        for _ in 0..self.entries {
            if self.number(at, 2)? == u64::from(tag) {
                let kind = self.number(at + 2, 2)? as u16;
                return Some(Entry { kind, count: self.number(at + 4, count)?, value_at: at + 4 + count });
            }
            at += size;
        }
        None
    }

    /// The value of an entry that holds one whole number.
    pub(super) fn whole_number(&self, entry: Entry) -> Option<u64> {
        // SBYTE, SHORT or SSHORT, LONG, SLONG or the position of a directory.
        let bytes = match entry.kind {
            6 => 1,
            3 | 8 => 2,
            4 | 9 | 13 => 4,
            _ => return None,
        };
        if entry.count == 1 { self.number(entry.value_at, bytes) } else { None }
    }

    /// The values of an entry of bytes that do not fit into it.
    pub(super) fn content(&self, entry: Entry) -> Option<&'b [u8]> {
        let at = self.number(entry.value_at, if self.is_wide { 8 } else { 4 })?;
        let from = usize::try_from(at).ok()?;
        self.bytes.get(from..from.checked_add(usize::try_from(entry.count).ok()?)?)
    }

    /// Two bytes that hold a number, in the byte order of the structure.
    pub(super) fn short(&self, number: u16) -> [u8; 2] {
        if self.is_big_endian { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn number(&self, at: usize, bytes: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(bytes)?)?;
        let add = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
        Some(if self.is_big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
    }
}
