//! Writes MAT files with one struct array of synsets, as in the development kits.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// A node of the class tree.
#[derive(Clone, Debug)]
pub(crate) struct Synset {
    pub(crate) id: u32,
    pub(crate) wnid: String,
    pub(crate) words: String,
    pub(crate) children: Vec<u32>,
}

impl Synset {
    pub(crate) fn leaf(id: u32, wnid: &str, words: &str) -> Self {
        Self { id, wnid: wnid.to_owned(), words: words.to_owned(), children: Vec::new() }
    }
}

/// How to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MatWriter {
    pub(crate) year: u32,
    pub(crate) compressed: bool,
    pub(crate) big_endian: bool,
    /// Numbers as small elements and text as UTF-16, as MATLAB itself does, instead of doubles and UTF-8.
    pub(crate) compact: bool,
}

impl MatWriter {
    pub(crate) const USUAL: Self = Self { year: 2012, compressed: true, big_endian: false, compact: true };

    /// A whole file.
    pub(crate) fn file(self, synsets: &[Synset]) -> Vec<u8> {
        let mut file = b"MATLAB 5.0 MAT-file, made for a test".to_vec();
        file.resize(124, b' ');
        file.extend(self.u16(0x0100));
        file.extend(if self.big_endian { b"MI" } else { b"IM" });
        let synsets = self.synsets(synsets);
        if self.compressed {
            let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
            zlib.write_all(&synsets).expect("memory can be written");
            let zlib = zlib.finish().expect("memory can be written");
            file.extend(self.u32(15));
            file.extend(self.u32(zlib.len() as u32));
            file.extend(zlib);
        } else {
            file.extend(synsets);
        }
        file
    }

    fn synsets(self, synsets: &[Synset]) -> Vec<u8> {
        let id = format!("ILSVRC{}_ID", self.year);
        let fields =
            [&id, "WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images"];
        let mut body = self.small(5, &self.u32(32));
        let names: Vec<u8> = fields
            .iter()
            .flat_map(|field| {
                let mut name = field.as_bytes().to_vec();
                name.resize(32, 0);
                name
            })
            .collect();
        body.extend(self.element(1, &names));
        for synset in synsets {
            body.extend(self.number(synset.id));
            body.extend(self.text(&synset.wnid));
            body.extend(self.text(&synset.words));
            body.extend(self.text(""));
            body.extend(self.number(synset.children.len() as u32));
            body.extend(self.numbers(&synset.children));
            body.extend(self.number(0));
            body.extend(self.number(1300));
        }
        self.array(2, synsets.len(), "synsets", &body)
    }

    fn array(self, class: u32, count: usize, name: &str, content: &[u8]) -> Vec<u8> {
        let mut body = self.element(6, &[self.u32(class), self.u32(0)].concat());
        body.extend(self.element(5, &[self.u32(count as u32), self.u32(1)].concat()));
        body.extend(self.element(1, name.as_bytes()));
        body.extend(content);
        self.element(14, &body)
    }

    fn number(self, number: u32) -> Vec<u8> {
        self.numbers(&[number])
    }

    fn numbers(self, numbers: &[u32]) -> Vec<u8> {
        let content = match numbers {
            [number] if self.compact => self.small(4, &self.u16(*number as u16)),
            _ => {
                let bytes = |n: &u32| {
                    let n = f64::from(*n);
                    if self.big_endian { n.to_be_bytes() } else { n.to_le_bytes() }
                };
                self.element(9, &numbers.iter().flat_map(bytes).collect::<Vec<u8>>())
            }
        };
        self.array(6, numbers.len(), "", &content)
    }

    fn text(self, text: &str) -> Vec<u8> {
        let content = if self.compact {
            self.element(4, &text.encode_utf16().flat_map(|unit| self.u16(unit)).collect::<Vec<u8>>())
        } else {
            self.element(16, text.as_bytes())
        };
        self.array(4, text.chars().count(), "", &content)
    }

    fn element(self, kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = self.u32(kind).to_vec();
        bytes.extend(self.u32(data.len() as u32));
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    /// At most four bytes, within the tag.
    fn small(self, kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = self.u32((data.len() as u32) << 16 | kind).to_vec();
        bytes.extend(data);
        bytes.resize(8, 0);
        bytes
    }

    fn u16(self, n: u16) -> [u8; 2] {
        if self.big_endian { n.to_be_bytes() } else { n.to_le_bytes() }
    }

    fn u32(self, n: u32) -> [u8; 4] {
        if self.big_endian { n.to_be_bytes() } else { n.to_le_bytes() }
    }
}
