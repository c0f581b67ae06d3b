//! Where the members of a tar file lie, found by reading the headers only.
//!
//! The official training archive holds 1,281,167 photos in 138 GiB. Its headers are 0.6 GB of scattered
//! 512-byte blocks: they are read one by one at their known places, and the data between them never, so that
//! the kernel's readahead, which waits for a sequential pattern, fetches little more than the headers' pages.
//! Inner archives are independent of each other, so several threads index them and keep the disk's queue
//! full.
//!
//! An archive ends with two blocks of zeros and nothing but zeros behind them. A hole in a damaged file is
//! zeros too, so what looks like the end is believed only if it is at the end (`Walk::check_end`).

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::SourceError;
use crate::compression;
use crate::names::is_attribute_file;
use crate::positioned::PositionedFile;
use crate::tar_header::{self, BLOCK, Block, Fields, Kind, is_zero};
use crate::tar_members::{self, Content, Item, Member, Members};
use crate::tar_pax::PaxRecords;

/// A longer name or pax header is refused.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;
/// Enough outstanding reads for an SSD. They wait for the disk, not for a core.
const INDEX_THREADS: usize = 16;
/// The end marker.
const END_BYTES: u64 = 2 * BLOCK;
/// GNU tar and Python write whole records of this size, padded with zeros.
const RECORD_BYTES: u64 = 20 * BLOCK;
/// The end marker may begin in the last block of a record.
const MOST_USUAL_ZEROS: u64 = RECORD_BYTES + BLOCK;
/// The largest record whose padding is not taken for the zeros of a broken download.
const MAX_RECORD_BYTES: u64 = 1 << 20;
/// The search for what follows zeros ends after so many.
const MAX_ZEROS_READ: u64 = 64 << 20;
const READ_AT_ONCE: u64 = 16 << 10;

const INCOMPLETE: &str = "the file is incomplete: download or copy it again";
const DAMAGED: &str = "the file is damaged or no tar file: download or copy it again";
const HOLE: &str = "the file has a hole, as a broken download leaves it: download or copy it again";
const CONCATENATED: &str = "the file has a hole, or is several archives behind one another: download it again, \
                            or unpack it with tar --ignore-zeros and pack the files again";
const ZERO_TAIL: &str = "the file is incomplete, as a broken download leaves it: download or copy it again; if \
                         it is known to be whole, cut zeros off its end with truncate --size";
const SPARSE: &str = "pack the files again without --sparse";
const VOLUMES: &str = "unpack all volumes with tar --multi-volume and pack the files again";
const RENAME: &str = "rename the file and pack the archive again";
const COMPRESSED: &str =
    "archives inside an archive are read in place: unpack it and pack its files again, uncompressed";
const NO_MEMBERS: &str = "download it again, or pack it again without this archive";

/// Lists the regular files of the archive that fills `file`, by name.
pub(crate) fn index(file: &PositionedFile) -> Result<Members, SourceError> {
    let walk = Walk { file, start: 0, end: file.len(), archive: "the archive" };
    let (items, zero_tail_bytes) = walk.items()?;
    Ok(Members { zero_tail_bytes, ..tar_members::resolve(file.path(), items)? })
}

/// Lists the members of several archives inside `file`, in the archives' order.
///
/// # Errors
/// Also when an archive has no members at all.
pub(crate) fn index_inner(file: &PositionedFile, archives: &[Member]) -> Result<Vec<Members>, SourceError> {
    let results: Vec<OnceLock<Result<Members, SourceError>>> =
        archives.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(archive) = archives.get(i) else { break };
            let members = index_one(file, archive);
            if members.is_err() {
                next.store(archives.len(), Ordering::Relaxed);
            }
            results[i].get_or_init(|| members);
        }
    };
    thread::scope(|scope| {
        // This thread works too, and alone where the system starts no other.
        for _ in 1..INDEX_THREADS.min(archives.len()) {
            if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    // After a failure some archives have no result; the failure itself is among the others.
    results.into_iter().filter_map(OnceLock::into_inner).collect()
}

fn index_one(file: &PositionedFile, archive: &Member) -> Result<Members, SourceError> {
    let Range { start, end } = archive.range();
    let walk = Walk { file, start, end, archive: &format!("{:?}", archive.name) };
    let (items, zero_tail_bytes) = walk.items()?;
    if items.is_empty() {
        let expected = format!("members of {}", walk.archive);
        return Err(walk.damaged(start, &expected, "an empty archive".to_owned(), NO_MEMBERS));
    }
    Ok(Members { zero_tail_bytes, ..tar_members::resolve(file.path(), items)? })
}

/// An archive at `start..end` of `file`; errors call it `archive`.
struct Walk<'a> {
    file: &'a PositionedFile,
    start: u64,
    end: u64,
    archive: &'a str,
}

impl Walk<'_> {
    /// Reads all headers. Also returns [`Members::zero_tail_bytes`].
    fn items(&self) -> Result<(Vec<Item>, u64), SourceError> {
        self.refuse_compressed()?;
        let mut items = Vec::new();
        let mut at = self.start;
        let (mut global, mut next) = (PaxRecords::default(), PaxRecords::default());
        while let Some(fields) = self.header(at)? {
            let size = match next.size.or(global.size) {
                Some(size) if matches!(fields.kind, Kind::File | Kind::Sparse) => size,
                _ => fields.size.ok_or_else(|| {
                    let found = "a field that is no number".to_owned();
                    self.damaged(at, "a header with the member's size", found, DAMAGED)
                })?,
            };
            if next.volume || global.volume || fields.kind == Kind::Continuation {
                return Err(self.unsupported(
                    at,
                    "a part of a file that continues in another volume",
                    VOLUMES,
                ));
            }
            let data = self.data(at, size, &fields)?;
            // Data is padded to whole blocks.
            let after = data.end.saturating_add((BLOCK - size % BLOCK) % BLOCK);
            match fields.kind {
                Kind::LongName => next.path = Some(self.long_name(&data)?),
                Kind::LongLink => next.link = Some(self.long_name(&data)?),
                Kind::Pax => self.read_pax(&data, &mut next)?,
                Kind::GlobalPax => self.read_pax(&data, &mut global)?,
                _ => items.extend(self.item(at, fields, data, std::mem::take(&mut next), &global)?),
            }
            at = after;
        }
        if next != PaxRecords::default() {
            let expected = "the member that the long name or pax header before it is for";
            return Err(self.damaged(at, expected, "the end marker".to_owned(), HOLE));
        }
        let zeros = self.end - at;
        Ok((items, if zeros > MOST_USUAL_ZEROS { zeros } else { 0 }))
    }

    fn refuse_compressed(&self) -> Result<(), SourceError> {
        let mut block: Block = [0; BLOCK as usize];
        let length = (self.end - self.start).min(BLOCK) as usize;
        self.file.read_at(self.start, &mut block[..length])?;
        match compression::name_of(&block) {
            Some(format) if !tar_header::is_header(&block) => {
                let expected = format!("a header of {}", self.archive);
                Err(self.damaged(self.start, &expected, format.to_owned(), COMPRESSED))
            }
            _ => Ok(()),
        }
    }

    /// The header at `at`; `None` at the end of the archive.
    fn header(&self, at: u64) -> Result<Option<Fields>, SourceError> {
        let left = self.end.saturating_sub(at);
        if left < BLOCK {
            let expected = format!("a header of 512 bytes or the end marker of {}", self.archive);
            return Err(self.damaged(at, &expected, format!("{left} bytes"), INCOMPLETE));
        }
        let mut block: Block = [0; BLOCK as usize];
        self.file.read_at(at, &mut block)?;
        if is_zero(&block) {
            return self.check_end(at).map(|()| None);
        }
        if let Err(found) = tar_header::check(&block) {
            return Err(self.damaged(at, &format!("a header of {}", self.archive), found, DAMAGED));
        }
        Ok(Some(tar_header::fields(&block)))
    }

    /// Checks that the zeros at `at` are the end: at least two blocks, to the end of the archive, and not
    /// more than fill a record.
    fn check_end(&self, at: u64) -> Result<(), SourceError> {
        let zeros = self.end - at;
        let expected = format!("the end marker of {}, 1024 zero bytes", self.archive);
        if zeros < END_BYTES {
            return Err(self.damaged(at, &expected, zeros.to_string(), INCOMPLETE));
        }
        let expected = format!("only zeros behind the end marker of {}", self.archive);
        if let Some(other) = self.first_other_byte(at)? {
            let mut block: Block = [0; BLOCK as usize];
            let place = other - (other - self.start) % BLOCK;
            let is_header = self.end - place >= BLOCK && {
                self.file.read_at(place, &mut block)?;
                tar_header::is_header(&block)
            };
            let found = format!("{} zero bytes and then other data at byte {other}", other - at);
            let one_block = place - at < END_BYTES;
            let remedy = if is_header && !one_block { CONCATENATED } else { HOLE };
            return Err(self.damaged(at, &expected, found, remedy));
        }
        if zeros > END_BYTES && !fills_record(zeros, self.end - self.start) {
            let expected =
                format!("a header of {}, or its end marker and the padding of a record", self.archive);
            let found = match zeros {
                0..=MAX_ZEROS_READ => format!("{zeros} zero bytes to its end"),
                _ => format!("more than {MAX_ZEROS_READ} zero bytes"),
            };
            return Err(self.damaged(at, &expected, found, ZERO_TAIL));
        }
        Ok(())
    }

    /// The place of the first byte from `at` on that is not zero; `None` if there is none up to the end or
    /// far too many zeros before it.
    fn first_other_byte(&self, mut at: u64) -> Result<Option<u64>, SourceError> {
        let stop = self.end.min(at.saturating_add(MAX_ZEROS_READ));
        let mut buffer = vec![0; READ_AT_ONCE as usize];
        while at < stop {
            let bytes = &mut buffer[..(stop - at).min(READ_AT_ONCE) as usize];
            self.file.read_at(at, bytes)?;
            if let Some(zeros) = bytes.iter().position(|&b| b != 0) {
                return Ok(Some(at + zeros as u64));
            }
            at += bytes.len() as u64;
        }
        Ok(None)
    }

    /// Where the data of the member whose header is at `at` lies.
    fn data(&self, at: u64, size: u64, fields: &Fields) -> Result<Range<u64>, SourceError> {
        let start = at + BLOCK;
        match start.checked_add(size) {
            Some(end) if end <= self.end => Ok(start..end),
            _ => {
                let name = String::from_utf8_lossy(&fields.name);
                let expected = format!("{size} bytes of member {name:?} of {}", self.archive);
                Err(self.damaged(start, &expected, format!("{} bytes", self.end - start), INCOMPLETE))
            }
        }
    }

    /// The member whose header is at `at`; `None` for one that does not matter.
    fn item(
        &self,
        at: u64,
        fields: Fields,
        data: Range<u64>,
        next: PaxRecords,
        global: &PaxRecords,
    ) -> Result<Option<Item>, SourceError> {
        let sparse = next.sparse || global.sparse || fields.kind == Kind::Sparse;
        let path = if sparse { next.sparse_name.or(next.path) } else { next.path };
        let bytes = path.or_else(|| global.path.clone()).unwrap_or(fields.name);
        let name = String::from_utf8_lossy(&bytes);
        if sparse {
            return Err(self.unsupported(at, &format!("a sparse file called {name:?}"), SPARSE));
        }
        if fields.kind == Kind::Other {
            return Ok(None);
        }
        let clean_name = tar_members::clean(&name).map_err(|problem| SourceError::UnsafeName {
            path: self.file.path().to_owned(),
            offset: at,
            name: name.clone().into_owned(),
            problem,
        })?;
        if std::str::from_utf8(&bytes).is_err() && !is_attribute_file(&clean_name) {
            let expected = format!("names in UTF-8 in {}", self.archive);
            return Err(self.damaged(at, &expected, format!("{name:?}"), RENAME));
        }
        let link = || next.link.or_else(|| global.link.clone()).unwrap_or(fields.link);
        let content = match fields.kind {
            Kind::HardLink => Content::HardLink(link()),
            Kind::SymbolicLink => Content::SymbolicLink(link()),
            Kind::Special => Content::Special,
            Kind::File if !name.ends_with('/') => Content::File(data),
            _ => Content::Folder,
        };
        let is_renamed = tar_members::is_renamed(&name);
        Ok(Some(Item { name: clean_name, is_renamed, at, content }))
    }

    fn extension_data(&self, data: &Range<u64>) -> Result<Vec<u8>, SourceError> {
        let size = data.end - data.start;
        if size > MAX_EXTENSION_BYTES {
            let expected = format!("a long name or pax header of at most {MAX_EXTENSION_BYTES} bytes");
            return Err(self.damaged(data.start, &expected, format!("one of {size} bytes"), DAMAGED));
        }
        let mut bytes = vec![0; size as usize];
        self.file.read_at(data.start, &mut bytes)?;
        Ok(bytes)
    }

    fn long_name(&self, data: &Range<u64>) -> Result<Vec<u8>, SourceError> {
        Ok(tar_header::until_zero(&self.extension_data(data)?).to_vec())
    }

    fn read_pax(&self, data: &Range<u64>, records: &mut PaxRecords) -> Result<(), SourceError> {
        let bytes = self.extension_data(data)?;
        records.read(&bytes).map_err(|found| self.damaged(data.start, "a pax record", found, DAMAGED))
    }

    fn unsupported(&self, at: u64, found: &str, remedy: &'static str) -> SourceError {
        self.damaged(at, &format!("a whole regular file in {}", self.archive), found.to_owned(), remedy)
    }

    fn damaged(&self, offset: u64, expected: &str, found: String, remedy: &'static str) -> SourceError {
        SourceError::Damaged {
            path: self.file.path().to_owned(),
            offset,
            expected: expected.to_owned(),
            found,
            remedy,
        }
    }
}

/// Whether an archive of `length` bytes that ends with `zeros` is one of whole records, filled up with them:
/// records of 10,240 bytes or of a power of two, or such multiples of 10,240.
fn fills_record(zeros: u64, length: u64) -> bool {
    [BLOCK, RECORD_BYTES].into_iter().any(|smallest| {
        (0..)
            .map(|power| smallest << power)
            .take_while(|&record| record <= MAX_RECORD_BYTES)
            // The end marker may begin in the last block of a record; tar --concatenate adds a record.
            .any(|record| {
                let more = if record == RECORD_BYTES { record } else { BLOCK };
                length.is_multiple_of(record) && zeros <= record + more
            })
    })
}

#[cfg(test)]
mod tests;
