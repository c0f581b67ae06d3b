//! A small real data set inside the binary: 6,000 training and 1,000 validation images of Fashion-MNIST.
//!
//! Source and licence (MIT, © Zalando SE) are in `data/README.md`.

use std::io::Cursor;

use fovea_pipeline::{Class, Split};
use image::DynamicImage;
use image::codecs::png::PngDecoder;

use crate::{Entry, Payload, Source, SourceError};

const SHEET: &[u8] = include_bytes!("../data/fashion-mnist-sample.png");
const SIDE: usize = 28;
/// Images side by side in the sheet; each class takes seven rows, the first six are for training.
const COLUMNS: usize = 100;
const TRAIN_ROWS: usize = 6;
const VAL_ROWS: usize = 1;
/// Ids that sort into the official order of the labels, and the official names.
const CLASSES: [(&str, &str); 10] = [
    ("0-t-shirt-top", "T-shirt/top"),
    ("1-trouser", "Trouser"),
    ("2-pullover", "Pullover"),
    ("3-dress", "Dress"),
    ("4-coat", "Coat"),
    ("5-sandal", "Sandal"),
    ("6-shirt", "Shirt"),
    ("7-sneaker", "Sneaker"),
    ("8-bag", "Bag"),
    ("9-ankle-boot", "Ankle boot"),
];

/// The embedded sample: ten classes of clothes, u8 `[28,28]` grey, served as RGB.
#[derive(Debug)]
pub struct EmbeddedSample {
    classes: Vec<Class>,
    train: Vec<Entry>,
    val: Vec<Entry>,
    /// Grey values of the sheet, one row of pixels after the other.
    pixels: Vec<u8>,
}

impl EmbeddedSample {
    /// Decodes the sample; it takes some milliseconds and 5.5 MB.
    ///
    /// # Panics
    /// Never, as a test decodes the very bytes that are compiled in.
    pub fn new() -> Self {
        let sheet = PngDecoder::new(Cursor::new(SHEET))
            .and_then(DynamicImage::from_decoder)
            .expect("the embedded sheet is a PNG file")
            .into_luma8();
        let classes = CLASSES.map(|(wnid, name)| Class {
            wnid: wnid.to_owned(),
            ilsvrc_id: None,
            name: name.to_owned(),
        });
        let entries = |rows: usize| {
            let entry = |i: usize| {
                let (class, i) = (i / (rows * COLUMNS), i % (rows * COLUMNS));
                Entry { key: format!("{}/{i:03}", CLASSES[class].0), label: class as u32 }
            };
            (0..CLASSES.len() * rows * COLUMNS).map(entry).collect()
        };
        Self {
            classes: classes.into(),
            train: entries(TRAIN_ROWS),
            val: entries(VAL_ROWS),
            pixels: sheet.into_raw(),
        }
    }
}

impl Default for EmbeddedSample {
    fn default() -> Self {
        Self::new()
    }
}

impl Source for EmbeddedSample {
    fn name(&self) -> &'static str {
        "embedded-sample"
    }

    fn classes(&self) -> &[Class] {
        &self.classes
    }

    fn entries(&self, split: Split) -> &[Entry] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
        }
    }

    fn read<'b>(
        &self,
        split: Split,
        index: usize,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Payload<'b>, SourceError> {
        let (first_row, rows) = match split {
            Split::Train => (0, TRAIN_ROWS),
            Split::Val => (TRAIN_ROWS, VAL_ROWS),
        };
        let (class, i) = (index / (rows * COLUMNS), index % (rows * COLUMNS));
        assert!(class < CLASSES.len(), "image {index} of {split}: the sample is smaller");
        let tile_row = class * (TRAIN_ROWS + VAL_ROWS) + first_row + i / COLUMNS;
        let tile_column = i % COLUMNS;
        buffer.clear();
        for y in 0..SIDE {
            let start = (tile_row * SIDE + y) * COLUMNS * SIDE + tile_column * SIDE;
            buffer.extend(self.pixels[start..start + SIDE].iter().flat_map(|&grey| [grey; 3]));
        }
        Ok(Payload::Pixels { width: SIDE as u32, height: SIDE as u32, rgb: buffer })
    }
}
