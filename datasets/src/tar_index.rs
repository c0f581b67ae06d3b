//! Where the members of a tar file lie, found by reading the headers only.
//!
//! The official training archive holds 1,281,167 photos in 138 GiB. Its headers are 0.6 GB of scattered
//! 512-byte blocks: they are read one by one at their known places, and the data between them never, so that
//! the kernel's readahead, which waits for a sequential pattern, fetches little more than the headers' pages.
//! Inner archives are independent of each other, so several threads index them and keep the disk's queue
//! full.

use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tar::{EntryType, Header, PaxExtensions};

use crate::SourceError;
use crate::collection::is_image_name;
use crate::positioned::PositionedFile;

const BLOCK: u64 = 512;
pub(crate) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// A longer name or pax header is refused.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;
/// Enough outstanding reads for an SSD. They wait for the disk, not for a core.
const INDEX_THREADS: usize = 16;

const INCOMPLETE: &str = "the file is incomplete: download or copy it again";
const DAMAGED: &str = "the file is damaged or no tar file: download or copy it again";
const UNSUPPORTED: &str = "pack the archive again with regular files only";
const COMPRESSED: &str =
    "archives inside an archive are read in place: unpack it and pack its files again, uncompressed";

/// A regular file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Relative path with `/`, without `.` and `..`.
    pub(crate) name: String,
    /// Place of the first byte of its data in the outermost file.
    pub(crate) offset: u64,
    /// Size of its data in bytes.
    pub(crate) size: u64,
}

impl Member {
    /// The bytes of its data in the outermost file.
    pub(crate) fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.size
    }
}

/// Whether `block`, the start of a file, is a tar header with a valid checksum.
pub(crate) fn is_header(block: &[u8; BLOCK as usize]) -> bool {
    let header = Header::from_byte_slice(block);
    block.iter().any(|&b| b != 0) && header.cksum().is_ok_and(|sum| checksums(block).contains(&sum))
}

/// Lists the regular files of the archive that fills `file`, in their order.
pub(crate) fn index(file: &PositionedFile) -> Result<Vec<Member>, SourceError> {
    index_range(file, 0..file.len(), "the archive")
}

/// Lists the members of several archives inside `file`, in the archives' order.
pub(crate) fn index_inner(
    file: &PositionedFile,
    archives: &[Member],
) -> Result<Vec<Vec<Member>>, SourceError> {
    let results: Vec<OnceLock<Result<Vec<Member>, SourceError>>> =
        archives.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..INDEX_THREADS.min(archives.len()) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(archive) = archives.get(i) else { break };
                    let members = index_range(file, archive.range(), &format!("{:?}", archive.name));
                    if members.is_err() {
                        next.store(archives.len(), Ordering::Relaxed);
                    }
                    results[i].get_or_init(|| members);
                }
            });
        }
    });
    // After a failure some archives have no result; the failure itself is among the others.
    results.into_iter().filter_map(OnceLock::into_inner).collect()
}

/// Lists the regular files of the archive that lies at `range` of `file`; errors call it `archive`.
fn index_range(file: &PositionedFile, range: Range<u64>, archive: &str) -> Result<Vec<Member>, SourceError> {
    let walk = Walk { file, end: range.end, archive };
    walk.refuse_gzip(range.start)?;
    let mut members = Vec::new();
    let mut at = range.start;
    let mut extension = Extension::default();
    while let Some(header) = walk.header(at)? {
        let kind = header.entry_type();
        let size = match extension.size {
            Some(size) if !is_extension(kind) => size,
            _ => walk.size(at, &header)?,
        };
        let data = walk.data(at, size, &header)?;
        match kind {
            EntryType::GNULongName => extension.name = Some(walk.long_name(&data)?),
            EntryType::XHeader => walk.read_pax(&data, &mut extension)?,
            EntryType::GNULongLink | EntryType::XGlobalHeader => {}
            EntryType::Regular | EntryType::Continuous => {
                let name = extension.name.take().unwrap_or_else(|| header.path_bytes().into_owned());
                let name = safe_name(file.path(), at, &name)?;
                // The old format marks a folder by a trailing slash only.
                if let Some(name) = name {
                    members.push(Member { name, offset: data.start, size });
                }
                extension = Extension::default();
            }
            other => {
                let name = extension.name.take().unwrap_or_else(|| header.path_bytes().into_owned());
                let name = String::from_utf8_lossy(&name);
                if other.is_gnu_sparse() || is_image_name(&name) {
                    let found = format!("{} called {name:?}", describe(other));
                    return Err(walk.damaged(at, "a regular file", found, UNSUPPORTED));
                }
                extension = Extension::default();
            }
        }
        at = walk.after(&data);
    }
    Ok(members)
}

/// What a preceding header specifies for the next member.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

fn is_extension(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader
    )
}

fn describe(kind: EntryType) -> String {
    match kind {
        EntryType::Link => "a hard link".into(),
        EntryType::Symlink => "a symbolic link".into(),
        EntryType::GNUSparse => "a sparse file".into(),
        EntryType::Directory => "a folder".into(),
        other => format!("a member of type {:?}", char::from(other.as_byte())),
    }
}

/// One archive while its headers are read.
struct Walk<'a> {
    file: &'a PositionedFile,
    end: u64,
    archive: &'a str,
}

impl Walk<'_> {
    /// The error for an archive that begins at `at` and is compressed.
    fn refuse_gzip(&self, at: u64) -> Result<(), SourceError> {
        let mut magic = [0; GZIP_MAGIC.len()];
        if self.end.saturating_sub(at) >= magic.len() as u64 {
            self.file.read_at(at, &mut magic)?;
        }
        if magic != GZIP_MAGIC {
            return Ok(());
        }
        let expected = format!("a header of {}", self.archive);
        Err(self.damaged(at, &expected, "gzip data".into(), COMPRESSED))
    }

    /// The header at `at`; `None` at the end marker, a block of zeros.
    fn header(&self, at: u64) -> Result<Option<Header>, SourceError> {
        let left = self.end.saturating_sub(at);
        if left < BLOCK {
            let expected = format!("a header of 512 bytes or the end marker of {}", self.archive);
            return Err(self.damaged(at, &expected, format!("{left} bytes"), INCOMPLETE));
        }
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        self.file.read_at(at, block)?;
        if block.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        let sums = checksums(block);
        match header.cksum() {
            Ok(sum) if sums.contains(&sum) => Ok(Some(header)),
            Ok(sum) => {
                let found = format!("a block that says checksum {sum} but sums up to {}", sums[0]);
                Err(self.damaged(at, &format!("a header of {}", self.archive), found, DAMAGED))
            }
            Err(_) => {
                let found = "a block without a checksum".to_owned();
                Err(self.damaged(at, &format!("a header of {}", self.archive), found, DAMAGED))
            }
        }
    }

    fn size(&self, at: u64, header: &Header) -> Result<u64, SourceError> {
        match header.entry_type() {
            // These have no data, whatever their size field says.
            EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo => Ok(0),
            _ => header.entry_size().map_err(|_| {
                self.damaged(
                    at,
                    "a header with the member's size",
                    "a field that is no number".into(),
                    DAMAGED,
                )
            }),
        }
    }

    /// Where the data of the member whose header is at `at` lies.
    fn data(&self, at: u64, size: u64, header: &Header) -> Result<Range<u64>, SourceError> {
        let start = at + BLOCK;
        match start.checked_add(size) {
            Some(end) if end <= self.end => Ok(start..end),
            _ => {
                let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
                let expected = format!("{size} bytes of member {name:?} of {}", self.archive);
                Err(self.damaged(start, &expected, format!("{} bytes", self.end - start), INCOMPLETE))
            }
        }
    }

    /// Where the next header is: data is padded to whole blocks.
    fn after(&self, data: &Range<u64>) -> u64 {
        let padding = (BLOCK - (data.end - data.start) % BLOCK) % BLOCK;
        data.end.saturating_add(padding)
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
        let mut name = self.extension_data(data)?;
        name.truncate(name.iter().position(|&b| b == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn read_pax(&self, data: &Range<u64>, extension: &mut Extension) -> Result<(), SourceError> {
        let bytes = self.extension_data(data)?;
        for record in PaxExtensions::new(&bytes) {
            let malformed = |found: String| self.damaged(data.start, "a pax record", found, DAMAGED);
            let record = record.map_err(|e| malformed(e.to_string()))?;
            match record.key_bytes() {
                b"path" => extension.name = Some(record.value_bytes().to_vec()),
                b"size" => {
                    let value = String::from_utf8_lossy(record.value_bytes());
                    let size = value.parse().map_err(|_| malformed(format!("size {value:?}")))?;
                    extension.size = Some(size);
                }
                _ => {}
            }
        }
        Ok(())
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

/// The sum of a header's bytes with its checksum field taken as spaces: as unsigned bytes, which is right,
/// and as signed bytes, which some old programs wrote.
fn checksums(block: &[u8; BLOCK as usize]) -> [u32; 2] {
    let field = 148..156;
    let bytes = || block.iter().enumerate().map(|(i, &b)| if field.contains(&i) { b' ' } else { b });
    let unsigned = bytes().map(u32::from).sum();
    let signed: i32 = bytes().map(|b| i32::from(b as i8)).sum();
    [unsigned, signed as u32]
}

/// The member's name as a relative path; `None` for a folder.
fn safe_name(path: &Path, offset: u64, name: &[u8]) -> Result<Option<String>, SourceError> {
    let name = String::from_utf8_lossy(name);
    let unsafe_name = |problem| SourceError::UnsafeName {
        path: path.to_owned(),
        offset,
        name: name.clone().into_owned(),
        problem,
    };
    if name.starts_with('/') {
        return Err(unsafe_name("is absolute"));
    }
    if name.contains('\0') {
        return Err(unsafe_name("contains a zero byte"));
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(unsafe_name("contains \"..\""));
    }
    if name.ends_with('/') { Ok(None) } else { Ok(Some(parts.join("/"))) }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;
    use crate::tests::tar_bytes;

    fn file(bytes: &[u8]) -> PositionedFile {
        let mut file = tempfile::tempfile().expect("a temporary file can be made");
        file.write_all(bytes).expect("the temporary file is writable");
        PositionedFile::from_file(file, Path::new("test.tar")).expect("it has a size")
    }

    fn read(file: &PositionedFile, member: &Member) -> Vec<u8> {
        let mut bytes = vec![0; member.size as usize];
        file.read_at(member.offset, &mut bytes).expect("the member lies in the file");
        bytes
    }

    #[test]
    fn members_lie_where_the_tar_crate_finds_them() {
        let mut builder = tar::Builder::new(Vec::new());
        let long = "folder/".repeat(30);
        for (i, name) in ["a.jpg", "./b.jpg", &format!("{long}c.jpg"), "empty.jpg"].iter().enumerate() {
            let mut header = Header::new_gnu();
            header.set_size(i as u64 % 3 * 511);
            builder.append_data(&mut header, name, vec![i as u8; i % 3 * 511].as_slice()).expect("memory");
        }
        let mut folder = Header::new_gnu();
        folder.set_entry_type(EntryType::Directory);
        folder.set_size(0);
        builder.append_data(&mut folder, "folder/", [].as_slice()).expect("memory");
        // A name that only fits with ustar's prefix, and one from a pax header.
        let mut ustar = Header::new_ustar();
        ustar.set_size(3);
        builder
            .append_data(&mut ustar, format!("{}d.jpg", "folder/".repeat(20)), b"ddd".as_slice())
            .expect("memory");
        builder.append_pax_extensions([("path", "from/pax.jpg".as_bytes()), ("size", b"4")]).expect("memory");
        let mut short = Header::new_ustar();
        short.set_size(4);
        builder.append_data(&mut short, "replaced", b"pppp".as_slice()).expect("memory");
        let bytes = builder.into_inner().expect("memory");

        let members = index(&file(&bytes)).expect("the archive is sound");
        let mut archive = tar::Archive::new(Cursor::new(&bytes));
        let expected: Vec<(String, u64, u64)> = archive
            .entries()
            .expect("the archive is sound")
            .map(|entry| entry.expect("the archive is sound"))
            .filter(|entry| entry.header().entry_type().is_file())
            .map(|entry| {
                let name = entry
                    .path()
                    .expect("a name")
                    .to_str()
                    .expect("UTF-8")
                    .trim_start_matches("./")
                    .to_owned();
                (name, entry.raw_file_position(), entry.size())
            })
            .collect();
        let found: Vec<(String, u64, u64)> =
            members.into_iter().map(|member| (member.name, member.offset, member.size)).collect();
        assert_eq!(found.len(), 6);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_pax_size_replaces_that_of_the_header() {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([("size", b"600".as_slice())]).expect("memory");
        let mut header = Header::new_ustar();
        header.set_path("big.jpg").expect("a short name");
        header.set_size(0);
        header.set_cksum();
        let mut bytes = builder.into_inner().expect("memory");
        bytes.truncate(1024);
        bytes.extend(header.as_bytes());
        bytes.extend([7; 600]);
        bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
        let members = index(&file(&bytes)).expect("the archive is sound");
        assert_eq!(members, [Member { name: "big.jpg".to_owned(), offset: 1536, size: 600 }]);
    }

    #[test]
    fn inner_members_are_read_from_the_outer_file() {
        let inner =
            |n: u8| tar_bytes(&(0..n).map(|i| (format!("{n}_{i}.jpg"), vec![i; 600])).collect::<Vec<_>>());
        let outer: Vec<_> = (0..40).map(|n| (format!("{n}.tar"), inner(n))).collect();
        let file = file(&tar_bytes(&outer));
        let archives = index(&file).expect("the archive is sound");
        let members = index_inner(&file, &archives).expect("the archives are sound");
        assert_eq!(members.len(), 40);
        for (n, members) in members.iter().enumerate() {
            assert_eq!(members.len(), n);
            for (i, member) in members.iter().enumerate() {
                assert_eq!(member.name, format!("{n}_{i}.jpg"));
                assert_eq!(read(&file, member), vec![i as u8; 600]);
            }
        }
    }

    #[test]
    fn a_size_beyond_everything_is_an_error() {
        for size in [1 << 40, u64::MAX / 2, u64::MAX] {
            let mut header = Header::new_gnu();
            header.set_path("a.jpg").expect("a short name");
            header.set_size(size);
            header.set_cksum();
            let error = index(&file(&[header.as_bytes().as_slice(), &[0; 1024]].concat()));
            let message = error.expect_err("the size is wrong").to_string();
            assert!(message.contains("at byte 512") && message.contains("1024 bytes"), "{message}");
        }
    }

    #[test]
    fn a_header_with_a_flipped_bit_is_an_error() {
        let bytes = tar_bytes(&[("a.jpg".to_owned(), vec![1; 10]), ("b.jpg".to_owned(), vec![2; 10])]);
        for at in (1024..1024 + 257).step_by(8) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            let error = index(&file(&damaged)).expect_err("the second header is damaged");
            assert!(error.to_string().contains("test.tar: at byte 1024: expected a header"), "{at}: {error}");
        }
    }

    #[test]
    fn a_linked_image_is_refused_and_another_link_passed_over() {
        let archive = |name: &str| {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, name, "elsewhere").expect("memory");
            index(&file(&builder.into_inner().expect("memory")))
        };
        assert_eq!(archive("README").expect("it is no image"), []);
        let message = archive("cat/a.jpg").expect_err("its image is elsewhere").to_string();
        assert!(message.contains("a symbolic link called \"cat/a.jpg\""), "{message}");
    }

    #[test]
    fn an_old_header_with_a_signed_checksum_is_accepted() {
        let mut header = Header::new_gnu();
        header.set_path("ä.jpg").expect("a short name");
        header.set_size(0);
        let signed = checksums(header.as_bytes())[1];
        header.as_old_mut().cksum.copy_from_slice(format!("{signed:06o}\0 ").as_bytes());
        assert_ne!(signed, checksums(header.as_bytes())[0]);
        let members = index(&file(&[header.as_bytes().as_slice(), &[0; 512]].concat())).expect("it is sound");
        assert_eq!(members[0].name, "ä.jpg");
    }
}
