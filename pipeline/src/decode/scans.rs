//! The parts of a JPEG file from its first scan on.

const MARKER: u8 = 0xff;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// What follows a marker.
pub(super) enum Part<'b> {
    /// The header of a scan, after the marker, and its data.
    Scan(&'b [u8]),
    /// Another marker, and its segment from its length on.
    Segment(u8, &'b [u8]),
    /// The end of the image.
    End,
}

/// The parts up to the end of the image, or to where one is cut; the first scan has its header at `scan`.
/// Stray bytes between segments are passed over, as by decoders.
pub(super) fn parts(bytes: &[u8], scan: usize) -> impl Iterator<Item = Part<'_>> {
    // The marker.
    let mut at = scan - 2;
    std::iter::from_fn(move || {
        at += bytes.get(at..)?.iter().position(|&byte| byte == MARKER)?;
        at += bytes[at..].iter().position(|&byte| byte != MARKER)? + 1;
        let marker = bytes[at - 1];
        if marker == END_OF_IMAGE {
            at = bytes.len();
            return Some(Part::End);
        }
        let length = usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let start = at;
        at += length;
        let segment = bytes.get(start..at)?;
        if marker != START_OF_SCAN {
            return Some(Part::Segment(marker, segment));
        }
        let is_end = |pair: &[u8]| pair[0] == MARKER && !matches!(pair[1], 0 | 0xd0..=0xd7 | MARKER);
        at += bytes[at..].windows(2).position(is_end)?;
        Some(Part::Scan(&bytes[start..at]))
    })
}

/// What the header of a scan says.
pub(super) struct ScanHeader<'b> {
    selectors: &'b [u8],
    /// The first and last of the coefficients that it holds, of 64.
    pub(super) first: u8,
    pub(super) last: u8,
    /// The bit from which on earlier scans hold them, 0 if none does, and that from which on this one does.
    pub(super) earlier_bit: u8,
    pub(super) bit: u8,
}

impl<'b> ScanHeader<'b> {
    /// `None` if the header of `scan` is damaged.
    pub(super) fn read(scan: &'b [u8]) -> Option<Self> {
        let count = usize::from(*scan.get(2)?);
        let (selectors, rest) = scan.get(3..)?.split_at_checked(2 * count)?;
        let &[first, last, bits] = rest.first_chunk()?;
        Some(Self { selectors, first, last, earlier_bit: bits >> 4, bit: bits & 15 })
    }

    /// The identifiers of its components.
    pub(super) fn components(&self) -> impl Iterator<Item = u8> {
        self.selectors.iter().step_by(2).copied()
    }
}
