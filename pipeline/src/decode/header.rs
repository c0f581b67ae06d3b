//! What the segments before the image data of a JPEG file say.

use super::scans::{Part, ScanHeader, parts};

const MARKER: u8 = 0xff;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
/// The frame header of JPEG-LS, which is another format.
const JPEG_LS: u8 = 0xf7;

/// What an XMP segment begins with.
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// Narrower or lower images are left to the exact decoder: the fast one has wrong colours at their edges.
const FAST_FROM_PX: u16 = 8;

/// The frame header and what else decides how a file is decoded.
#[derive(Debug, Default)]
pub(super) struct Header<'b> {
    /// The last byte of the marker, 0xc0 to 0xcf, or that of JPEG-LS.
    frame: u8,
    precision_bits: u8,
    height: u16,
    width: u16,
    /// Identifier and sampling factors of each component.
    components: Vec<(u8, u8)>,
    has_jfif: bool,
    adobe_transform: Option<u8>,
    /// The content of the first EXIF segment: a TIFF structure.
    pub(super) exif: Option<&'b [u8]>,
    /// The content of the first XMP segment: XML.
    pub(super) xmp: Option<&'b [u8]>,
    /// The position in the file of the first scan's header, after the marker.
    scan: Option<usize>,
    components_in_scan: u8,
}

impl<'b> Header<'b> {
    /// Walks over the segments (a thumbnail in one of them has markers of its own), as far as they go.
    pub(super) fn read(bytes: &'b [u8]) -> Self {
        let mut header = Self::default();
        header.walk(bytes);
        header
    }

    fn walk(&mut self, bytes: &'b [u8]) -> Option<()> {
        let mut position = 2;
        loop {
            position += bytes.get(position..)?.iter().position(|&byte| byte == MARKER)?;
            position += bytes[position..].iter().position(|&byte| byte != MARKER)?;
            let marker = bytes[position];
            position += 1;
            match marker {
                0x00 | 0x01 | 0xd0..=0xd8 => continue,
                END_OF_IMAGE => return None,
                START_OF_SCAN => {
                    self.scan = Some(position);
                    self.components_in_scan = *bytes.get(position + 2)?;
                    return Some(());
                }
                _ => {}
            }
            let length = usize::from(u16::from_be_bytes([*bytes.get(position)?, *bytes.get(position + 1)?]));
            let content = bytes.get(position + 2..position + length).unwrap_or_default();
            match (marker, content) {
                // Tables, and a marker that is reserved, have numbers between.
                (0xc0..=0xcf, &[precision, h1, h0, w1, w0, _, ref components @ ..])
                    if !matches!(marker, 0xc4 | 0xc8 | 0xcc) =>
                {
                    self.frame = marker;
                    self.precision_bits = precision;
                    self.height = u16::from_be_bytes([h1, h0]);
                    self.width = u16::from_be_bytes([w1, w0]);
                    self.components = components.chunks_exact(3).map(|c| (c[0], c[1])).collect();
                }
                (JPEG_LS, _) => self.frame = JPEG_LS,
                (0xe0, [b'J', b'F', b'I', b'F', 0, ..]) => self.has_jfif = true,
                (0xee, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..]) => {
                    self.adobe_transform = Some(*transform);
                }
                (0xe1, [b'E', b'x', b'i', b'f', 0, _, tiff @ ..]) if self.exif.is_none() => {
                    self.exif = Some(tiff)
                }
                (0xe1, content) if self.xmp.is_none() => self.xmp = content.strip_prefix(XMP),
                _ => {}
            }
            position += length;
        }
    }

    /// Where the end-of-image marker behind the image data begins; `None` without one. A file without image
    /// data ends where it ends: a decoder says what is wrong with its header.
    pub(super) fn end(&self, bytes: &[u8]) -> Option<usize> {
        let Some(scan) = self.scan else { return Some(bytes.len()) };
        let end = bytes[scan..].windows(2).rposition(|pair| pair == [MARKER, END_OF_IMAGE])?;
        Some(scan + end)
    }

    /// The number, from 1, of a component of which one of several scans is missing, as far as later scans or
    /// the end tell. Decoders take zeros for it. What is behind damage between scans is left to them.
    pub(super) fn missing_scan(&self, bytes: &[u8]) -> Option<usize> {
        if self.has_one_scan() {
            return None;
        }
        let in_steps = matches!(self.frame, 0xc2 | 0xca);
        // From which bit on a coefficient is known.
        let mut known = vec![[None; 64]; self.components.len()];
        for part in parts(bytes, self.scan?) {
            match part {
                Part::Scan(scan) => {
                    let scan = ScanHeader::read(scan)?;
                    for id in scan.components() {
                        let index = self.components.iter().position(|(component, _)| *component == id)?;
                        if !in_steps {
                            known[index][0] = Some(0);
                            continue;
                        }
                        if scan.first > 0 && known[index][0].is_none() {
                            return Some(index + 1);
                        }
                        for bit in known[index].get_mut(scan.first.into()..=scan.last.into())? {
                            if bit.unwrap_or(0) != scan.earlier_bit {
                                return Some(index + 1);
                            }
                            *bit = Some(scan.bit);
                        }
                    }
                }
                Part::Segment(..) => {}
                Part::End => return known.iter().position(|bits| bits[0].is_none()).map(|index| index + 1),
            }
        }
        None
    }

    /// How many colour components there are.
    pub(super) fn component_count(&self) -> usize {
        self.components.len()
    }

    pub(super) fn is_progressive(&self) -> bool {
        self.frame == 0xc2
    }

    /// Whether the first scan is the only one.
    pub(super) fn has_one_scan(&self) -> bool {
        !self.is_progressive() && usize::from(self.components_in_scan) == self.components.len()
    }

    /// Whether it is of the usual kind, which the fast decoder reads to the right pixels.
    pub(super) fn is_usual(&self) -> bool {
        let large = self.width >= FAST_FROM_PX && self.height >= FAST_FROM_PX;
        let huffman = matches!(self.frame, 0xc0..=0xc2) && self.precision_bits == 8;
        large && huffman && (self.is_progressive() || self.has_one_scan()) && self.has_usual_colors()
    }

    /// Colours and sampling on which all decoders agree. libjpeg trusts JFIF before Adobe's marker before the
    /// identifiers.
    fn has_usual_colors(&self) -> bool {
        match self.components[..] {
            [_] => true,
            [(r, luma), (g, 0x11), (b, 0x11)] => {
                matches!(luma, 0x11 | 0x12 | 0x21 | 0x22)
                    && matches!(self.adobe_transform, None | Some(1))
                    && ([r, g, b] == [1, 2, 3] || (self.has_jfif && [r, g, b] != *b"RGB"))
            }
            [(_, first), (_, 0x11), (_, 0x11), (_, black)] => {
                matches!(first, 0x11 | 0x12 | 0x21 | 0x22)
                    && (black == 0x11 || black == first)
                    && matches!(self.adobe_transform, Some(0 | 2))
            }
            _ => false,
        }
    }

    /// The position of the first scan's header, after the marker.
    pub(super) fn scan(&self) -> Option<usize> {
        self.scan
    }

    /// Width and height in pixels.
    pub(super) fn dimensions(&self) -> (u32, u32) {
        (u32::from(self.width), u32::from(self.height))
    }

    /// Whether it is a sequential file in three colours of which a scan may hold two.
    pub(super) fn may_have_mixed_scans(&self) -> bool {
        matches!(self.frame, 0xc0 | 0xc1)
            && self.precision_bits == 8
            && self.height > 0
            && self.components.len() == 3
            && !self.has_one_scan()
    }

    /// Whether three components are YCbCr and not RGB, by libjpeg's rule.
    pub(super) fn is_ycbcr(&self) -> bool {
        match (self.has_jfif, self.adobe_transform) {
            (true, _) => true,
            (false, Some(transform)) => transform != 0,
            (false, None) => !self.components.iter().map(|(id, _)| id).eq(b"RGB"),
        }
    }

    /// Why no decoder reads it; `None` if one may.
    pub(super) fn unsupported(&self) -> Option<String> {
        match self.frame {
            JPEG_LS => return Some("it is a JPEG-LS file; convert it to PNG".into()),
            0xc5..=0xc7 | 0xcd..=0xcf => return Some("it is coded hierarchically".into()),
            _ => {}
        }
        match self.components.len() {
            0 | 1 | 3 | 4 => None,
            count => Some(format!("it has {count} colour components, expected 1 (grey), 3 or 4 (CMYK)")),
        }
    }
}
