//! One header of a tar file, in any dialect: Unix V7, POSIX ustar and pax, GNU, star, Solaris.

use tar::Header;

/// Everything in a tar file is in blocks of this size.
pub(crate) const BLOCK: u64 = 512;
pub(crate) type Block = [u8; BLOCK as usize];

/// What a header introduces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file. An unknown type is one too, as POSIX demands.
    File,
    Folder,
    HardLink,
    SymbolicLink,
    /// The name of the next member, in GNU's form.
    LongName,
    /// The link target of the next member, in GNU's form.
    LongLink,
    /// Records about the next member.
    Pax,
    /// Records about all members that follow.
    GlobalPax,
    /// A file with holes, in GNU's old form.
    Sparse,
    /// The rest of a member that began in another volume.
    Continuation,
    /// A device or a FIFO.
    Special,
    /// A volume label, an attribute of other systems.
    Other,
}

/// The fields of a header that matter.
#[derive(Debug)]
pub(crate) struct Fields {
    pub(crate) kind: Kind,
    /// Not necessarily the member's name: a preceding header may replace it.
    pub(crate) name: Vec<u8>,
    /// Where a link leads.
    pub(crate) link: Vec<u8>,
    /// Bytes of data behind the header; `None` if the field is no number.
    pub(crate) size: Option<u64>,
}

/// Whether `block` is a header with a valid checksum.
pub(crate) fn is_header(block: &Block) -> bool {
    check(block).is_ok()
}

/// Says what is wrong with the checksum of `block`, if anything.
pub(crate) fn check(block: &Block) -> Result<(), String> {
    let sums = checksums(block);
    match Header::from_byte_slice(block).cksum() {
        _ if is_zero(block) => Err("a block of zeros".to_owned()),
        Ok(sum) if sums.contains(&sum) => Ok(()),
        Ok(sum) => Err(format!("a block that says checksum {sum} but sums up to {}", sums[0])),
        Err(_) => Err("a block without a checksum".to_owned()),
    }
}

pub(crate) fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|&b| b == 0)
}

/// The fields of a header whose checksum is right.
pub(crate) fn fields(block: &Block) -> Fields {
    let header = Header::from_byte_slice(block);
    let name = name(block);
    let kind = match block[156] {
        // V7 marks a folder by a trailing slash only.
        b'\0' | b'0' | b'7' if name.ends_with(b"/") => Kind::Folder,
        b'1' => Kind::HardLink,
        b'2' => Kind::SymbolicLink,
        // A dumpdir, `D`, is a folder whose data lists its content.
        b'5' | b'D' => Kind::Folder,
        b'L' => Kind::LongName,
        b'K' => Kind::LongLink,
        // `X` is what Solaris called it before it was standardised.
        b'x' | b'X' => Kind::Pax,
        b'g' => Kind::GlobalPax,
        b'S' => Kind::Sparse,
        b'M' => Kind::Continuation,
        b'3' | b'4' | b'6' => Kind::Special,
        // Access lists, inodes, old long names and extended attributes; a volume label.
        b'A' | b'I' | b'N' | b'E' | b'V' => Kind::Other,
        _ => Kind::File,
    };
    let size = match block[156] {
        // These have no data, whatever their size field says.
        b'1'..=b'6' => Some(0),
        _ if block[124..136].iter().all(|b| matches!(b, b' ' | b'\0')) => Some(0),
        // A negative number, or one beyond 64 bits.
        0.. if block[124] & 0x80 != 0 && (block[124] != 0x80 || block[125..128] != [0; 3]) => None,
        _ => header.entry_size().ok(),
    };
    let link = header.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default();
    Fields { kind, name, link, size }
}

/// Time of the last change in seconds from the Unix epoch; 0 if the field is no number.
pub(crate) fn time_of_change(block: &Block) -> i64 {
    Header::from_byte_slice(block).mtime().map_or(0, |seconds| seconds as i64)
}

/// The name, with ustar's prefix before it.
fn name(block: &Block) -> Vec<u8> {
    let name = until_zero(&block[..100]);
    if &block[257..263] != b"ustar\0" {
        return name.to_vec();
    }
    // star keeps two times at the end of the field.
    let prefix = if &block[508..512] == b"tar\0" { &block[345..476] } else { &block[345..500] };
    match until_zero(prefix) {
        [] => name.to_vec(),
        prefix => [prefix, b"/", name].concat(),
    }
}

/// The bytes before the first zero.
pub(crate) fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}

/// The sum of a header's bytes with its checksum field taken as spaces: as unsigned bytes, which is right,
/// and as signed bytes, which some old programs wrote.
pub(crate) fn checksums(block: &Block) -> [u32; 2] {
    let field = 148..156;
    let bytes = || block.iter().enumerate().map(|(i, &b)| if field.contains(&i) { b' ' } else { b });
    let unsigned = bytes().map(u32::from).sum();
    let signed: i32 = bytes().map(|b| i32::from(b as i8)).sum();
    [unsigned, signed as u32]
}
