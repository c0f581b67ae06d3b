//! Reading a shard in place: the images are slices of the memory map.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::{Block, Footer, Message, MessageHeader, root_as_footer, root_as_message};
use bytes::Bytes;
use memmap2::{Advice, Mmap};

use super::index::Index;
use super::{ShardError, ShardHeader};
use crate::geometry::Size;
use crate::mapped::MappedFile;
use crate::{Encoding, ImageShape, Label, LabelKind};

/// A shard mapped into memory.
///
/// Opening copies the labels, places and sizes of the images, which take up to 16 bytes a record; the rest is
/// read from the map when it is used. If the file shrinks or the disk fails meanwhile, that ends the process
/// by SIGBUS, which [`report_bus_errors`](crate::report_bus_errors) turns into a message. An image that
/// changes is noticed by its checksum.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    header: ShardHeader,
    map: Arc<Mmap>,
    index: Index,
    /// For the message about a page that cannot be read.
    _registered: MappedFile,
}

/// One record of a shard.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// `u8 [3,H,W]` for raw shards, a JPEG file else.
    pub image: &'a [u8],
    /// Width and height of the image.
    pub size: Size,
    /// What it shows.
    pub label: Label<'a>,
}

impl Shard {
    /// Maps the shard at `path`.
    ///
    /// # Errors
    /// [`ShardError::Io`] when it cannot be opened, [`ShardError::Damaged`] when it is cut off or not an
    /// Arrow file, [`ShardError::Foreign`] or [`ShardError::Version`] when it is not one of this version's
    /// shards.
    pub fn open(path: &Path) -> Result<Self, ShardError> {
        let io_error = |action| move |source| ShardError::Io { path: path.into(), action, source };
        if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            return Err(io_error("open")(io::Error::other("it is not a regular file")));
        }
        let file = File::open(path).map_err(io_error("open"))?;
        // SAFETY: shards are written once, under a temporary name. What is trusted after it was checked is
        // copied; of the images, which stay in the map, any bytes are valid.
        let map = unsafe { Mmap::map(&file) }.map_err(io_error("map"))?;
        let map = Arc::new(map);
        let registered = MappedFile::new(path, &map);
        let buffer = Buffer::from(Bytes::from_owner(SharedMap(Arc::clone(&map))));

        let damaged = |reason: String| ShardError::Damaged { path: path.into(), reason };
        let footer = read_footer(&buffer).map_err(damaged)?;
        let schema = footer.schema().ok_or_else(|| damaged("its footer has no schema".into()))?;
        let schema = try_fb_to_schema(schema).map_err(|error| damaged(error.to_string()))?;
        let header = ShardHeader::from_schema(path, &schema)?;

        let decoder = FileDecoder::new(Arc::new(schema), footer.version()).with_require_alignment(true);
        let mut index = Index::default();
        for (number, block) in footer.recordBatches().into_iter().flatten().enumerate() {
            read_block(&buffer, block, &decoder, &header)
                .and_then(|batch| index.append(&batch, &header, &buffer))
                .map_err(|reason| damaged(format!("record batch {number}: {reason}")))?;
        }
        Ok(Self { path: path.into(), header, map, index, _registered: registered })
    }

    /// Where the shard is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The shard's header.
    #[must_use]
    pub fn header(&self) -> &ShardHeader {
        &self.header
    }

    /// The number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size of the file in bytes.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// Digest of what the shard says about its records, as in
    /// [`ShardInfo::records_blake3`](crate::ShardInfo::records_blake3).
    #[must_use]
    pub fn records_blake3(&self) -> String {
        self.index.blake3(&self.map)
    }

    /// The record at `index`, unchecked against its checksum.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    #[must_use]
    pub fn record(&self, index: usize) -> Record<'_> {
        assert!(index < self.len(), "record {index} of {}: {} records", self.path.display(), self.len());
        let size = self.index.image_size(index).unwrap_or(Size::square(self.header.image_size));
        Record { image: &self.map[self.index.image(index)], size, label: self.index.label(index, &self.map) }
    }

    /// The name of the image of record `index` in its source.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    #[must_use]
    pub fn key(&self, index: usize) -> String {
        self.index.key(index, &self.map)
    }

    /// Checks the record at `index` against its checksum.
    ///
    /// # Errors
    /// [`ShardError::Checksum`] when the image's bytes have changed.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn verify(&self, index: usize) -> Result<(), ShardError> {
        let (found, expected) =
            (crc32fast::hash(self.record(index).image), self.index.crc32(index, &self.map));
        if found == expected {
            return Ok(());
        }
        Err(ShardError::Checksum { path: self.path.clone(), index, key: self.key(index), found, expected })
    }

    /// Forgets the names of the classes, which the data set has as well.
    pub(crate) fn without_classes(mut self) -> Self {
        self.header.classes = Vec::new();
        self
    }

    /// Asks the system to read the image of record `index` soon, unless its first page is in memory already.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn will_need(&self, index: usize) {
        let image = self.record(index).image;
        if !is_resident(image) {
            let place = self.index.image(index);
            // Only a hint: a system that ignores it reads the pages when they are first accessed.
            let _ = self.map.advise_range(Advice::WillNeed, place.start, place.len());
        }
    }
}

/// Whether the page that `mapped` starts in is in memory.
///
/// This check costs a quarter of `madvise`, which walks over all pages; in a warm cache it saves the rest.
#[cfg(target_os = "linux")]
fn is_resident(mapped: &[u8]) -> bool {
    /// Every page of memory that Linux maps starts at a multiple of this.
    const SMALLEST_PAGE_BYTES: usize = 4096;
    let page = mapped.as_ptr().map_addr(|address| address & !(SMALLEST_PAGE_BYTES - 1));
    let mut state = 0;
    // SAFETY: the page is mapped, since the slice is; the call writes one byte for one page.
    let status = unsafe { libc::mincore(page.cast_mut().cast(), 1, &mut state) };
    status == 0 && state & 1 == 1
}

#[cfg(not(target_os = "linux"))]
fn is_resident(_mapped: &[u8]) -> bool {
    false
}

/// Bytes at the end of the file after the footer: its length and the magic word.
const TRAILER_BYTES: usize = 10;

/// Finds and checks the footer.
fn read_footer(file: &Buffer) -> Result<Footer<'_>, String> {
    let bytes = file.len();
    let trailer_start = bytes.checked_sub(TRAILER_BYTES).ok_or(format!("{bytes} bytes are too few"))?;
    let trailer = file[trailer_start..].try_into().expect("the slice has the trailer's length");
    let footer_bytes = read_footer_length(trailer)
        .map_err(|_| format!("no Arrow footer at its end, byte {trailer_start}: it may be cut off"))?;
    let footer_start = trailer_start
        .checked_sub(footer_bytes)
        .ok_or_else(|| format!("a footer of {footer_bytes} bytes in a file of {bytes}"))?;
    root_as_footer(&file[footer_start..trailer_start])
        .map_err(|error| format!("unreadable footer at byte {footer_start}: {error}"))
}

/// Reads one record batch after checking every offset in it, since the decoder does not.
fn read_block(
    file: &Buffer,
    block: &Block,
    decoder: &FileDecoder,
    header: &ShardHeader,
) -> Result<RecordBatch, String> {
    let place = block_range(block, file.len())
        .ok_or_else(|| format!("bytes {}+{}, outside the file", block.offset(), block.bodyLength()))?;
    let data = file.slice_with_length(place.start, place.len());
    let metadata_bytes = block.metaDataLength() as usize;
    check_buffers(&data[..metadata_bytes], data.len() - metadata_bytes, header)?;
    decoder
        .read_record_batch(block, &data)
        .map_err(|error| error.to_string())?
        .ok_or_else(|| "an empty message".into())
}

fn block_range(block: &Block, file_bytes: usize) -> Option<Range<usize>> {
    let start = usize::try_from(block.offset()).ok()?;
    let metadata = usize::try_from(block.metaDataLength()).ok()?;
    let body = usize::try_from(block.bodyLength()).ok()?;
    let end = start.checked_add(metadata)?.checked_add(body)?;
    (end <= file_bytes).then_some(start..end)
}

/// Bytes of the units that each buffer of a record batch consists of: for every column the validity bits, the
/// offsets if its values differ in length, and the values.
fn buffer_units(header: &ShardHeader) -> Vec<usize> {
    let image: &[usize] = match (header.encoding, header.image_shape) {
        (Encoding::Raw, ImageShape::Square) => &[1, 1],
        (Encoding::Raw, ImageShape::Keep) | (Encoding::Jpeg, _) => &[1, 4, 1],
    };
    let label: &[usize] = match header.labels {
        LabelKind::Class => &[1, 8],
        LabelKind::MultiHot => &[1, 1, 1],
        LabelKind::Values => &[1, 1, 4],
    };
    let size: &[usize] = if header.image_shape.is_square() { &[] } else { &[1, 4, 1, 4] };
    [image, label, &[1, 4, 1], &[1, 4], size].concat()
}

/// Checks that the message is a record batch whose columns have no more elements than its body has bytes, and
/// whose buffers lie within that and hold whole units.
fn check_buffers(metadata: &[u8], body_bytes: usize, header: &ShardHeader) -> Result<(), String> {
    // An encapsulated message: 0xFFFFFFFF, length, flatbuffer (older writers leave the first word out).
    let flatbuffer = match metadata {
        [0xff, 0xff, 0xff, 0xff, _, _, _, _, flatbuffer @ ..] => flatbuffer,
        [_, _, _, _, flatbuffer @ ..] => flatbuffer,
        _ => return Err("its header is cut off".into()),
    };
    let message: Message<'_> = root_as_message(flatbuffer).map_err(|error| error.to_string())?;
    if message.header_type() != MessageHeader::RecordBatch {
        return Err("not a record batch".into());
    }
    let batch = message.header_as_record_batch().ok_or("an empty record batch")?;
    let elements = if header.labels.is_class() { 1 } else { header.classes.len().max(1) };
    let most = body_bytes / elements;
    let lengths = batch.nodes().into_iter().flatten().map(|column| column.length());
    if let Some(length) = lengths
        .chain([batch.length()])
        .find(|&length| !usize::try_from(length).is_ok_and(|length| length <= body_bytes))
    {
        return Err(format!("a column of {length} elements in {body_bytes} bytes"));
    }
    if usize::try_from(batch.length()).is_ok_and(|rows| rows > most) {
        return Err(format!("{} labels of {elements} elements in {body_bytes} bytes", batch.length()));
    }
    let units = buffer_units(header);
    let buffers = batch.buffers().ok_or("a record batch without buffers")?;
    if buffers.len() != units.len() {
        return Err(format!("{} buffers, expected {}", buffers.len(), units.len()));
    }
    for (index, (part, unit)) in buffers.iter().zip(units).enumerate() {
        let fits = usize::try_from(part.offset())
            .ok()
            .zip(usize::try_from(part.length()).ok())
            .filter(|(offset, length)| offset.is_multiple_of(unit) && length.is_multiple_of(unit))
            .and_then(|(offset, length)| offset.checked_add(length))
            .is_some_and(|end| end <= body_bytes);
        if !fits {
            return Err(format!(
                "buffer {index} at {}+{}, expected multiples of {unit} within {body_bytes} bytes",
                part.offset(),
                part.length()
            ));
        }
    }
    Ok(())
}

/// A reference to the map that Arrow's buffers can own.
struct SharedMap(Arc<Mmap>);

impl AsRef<[u8]> for SharedMap {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
