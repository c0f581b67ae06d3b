//! Small data sets for tests.

use std::path::Path;

use fovea_files::seal;
use ndarray::Array3;
use ndarray_npy::WriteNpyExt;
use tempfile::TempDir;

use crate::geometry::Size;
use crate::labels::{Label, Labels};
use crate::shard::{ShardHeader, ShardWriter};
use crate::{Class, ColorStatistics, DatasetInfo, Encoding, ImageShape, LabelKind, ShardInfo, Split};

/// Side of the images in pixels.
pub const SIDE: u32 = 20;

pub fn classes(count: usize) -> Vec<Class> {
    (0..count)
        .map(|i| Class { wnid: format!("n{i:08}"), ilsvrc_id: None, name: format!("class {i}") })
        .collect()
}

pub fn header(encoding: Encoding, shard: u32) -> ShardHeader {
    ShardHeader {
        format_version: 1,
        writer: "test".into(),
        source: "test".into(),
        split: Split::Train,
        shard,
        encoding,
        image_size: SIDE,
        image_shape: ImageShape::Square,
        labels: LabelKind::Class,
        classes: classes(10),
    }
}

/// Planar pixels in which every image differs from the others.
pub fn pixels(image: usize) -> Vec<u8> {
    let area = (SIDE * SIDE) as usize;
    (0..3 * area).map(|i| (image * 13 + (i / area) * 80 + (i % area) / 7) as u8).collect()
}

/// Planar pixels of an image of any size, `u8 [3,H,W]`.
pub fn sized_pixels(image: usize, size: Size) -> Vec<u8> {
    let (width, height) = (size.width as usize, size.height as usize);
    let places = (0..height).flat_map(move |y| (0..width).map(move |x| 3 * y + 5 * x));
    (0..3).flat_map(|c| places.clone().map(move |place| (image * 13 + c * 80 + place) as u8)).collect()
}

/// The image as a record's bytes.
pub fn encoded(encoding: Encoding, image: usize) -> Vec<u8> {
    encode(encoding, pixels(image), Size::square(SIDE))
}

/// Planar pixels as a record's bytes.
fn encode(encoding: Encoding, planar: Vec<u8>, size: Size) -> Vec<u8> {
    match encoding {
        Encoding::Raw => planar,
        Encoding::Jpeg => {
            let area = size.area();
            let rgb: Vec<u8> = (0..area).flat_map(|i| [0, 1, 2].map(|c| planar[c * area + i])).collect();
            let mut jpeg = Vec::new();
            jpeg_encoder::Encoder::new(&mut jpeg, 90)
                .encode(&rgb, size.width as u16, size.height as u16, jpeg_encoder::ColorType::Rgb)
                .expect("the pixels fit the size");
            jpeg
        }
    }
}

/// Writes one shard with the images `images`; image i has label i mod 10 and key `image-i`.
pub fn write_shard(
    directory: &Path,
    encoding: Encoding,
    shard: u32,
    images: std::ops::Range<usize>,
) -> ShardInfo {
    let mut writer = ShardWriter::create(directory, header(encoding, shard)).unwrap();
    for image in images {
        writer.append(&encoded(encoding, image), (image % 10) as u32, &format!("image-{image}")).unwrap();
    }
    writer.finish().unwrap().info
}

/// A data set of `images` training images in three shards.
pub fn dataset(encoding: Encoding, images: usize) -> TempDir {
    dataset_of(encoding, &[0, images / 2, images * 3 / 4, images])
}

/// A data set of training images in shards between these bounds.
pub fn dataset_of(encoding: Encoding, bounds: &[usize]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let shards = (0..).zip(bounds.windows(2));
    let train =
        shards.map(|(i, ends)| write_shard(directory.path(), encoding, i, ends[0]..ends[1])).collect();
    write_dataset_json(directory.path(), encoding, train);
    directory
}

/// The label of image `image` in data sets with labels of `kind`.
pub fn label_of(kind: LabelKind, image: usize) -> Labels {
    let outputs = classes(10).len();
    let mut labels = Labels::new(kind, outputs);
    let marks: Vec<u8> = (0..outputs).map(|class| u8::from((image + class).is_multiple_of(3))).collect();
    let values: Vec<f32> = (0..outputs).map(|number| image as f32 - number as f32 / 8.0).collect();
    labels.push(match kind {
        LabelKind::Class => Label::Class(image as u32 % 10),
        LabelKind::MultiHot => Label::MultiHot(&marks),
        LabelKind::Values => Label::Values(&values),
    });
    labels
}

/// A data set of `images` training images in two shards, with labels of `kind`.
pub fn labelled_dataset(kind: LabelKind, encoding: Encoding, images: usize) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let train = [0..images / 3, images / 3..images].into_iter().zip(0..).map(|(images, shard)| {
        let header =
            ShardHeader { labels: kind, format_version: kind.format_version(), ..header(encoding, shard) };
        let mut writer = ShardWriter::create(directory.path(), header).unwrap();
        for image in images {
            let labels = label_of(kind, image);
            writer
                .append_labelled(&encoded(encoding, image), labels.get(0), &format!("image-{image}"))
                .unwrap();
        }
        writer.finish().unwrap().info
    });
    write_labelled_json(directory.path(), kind, encoding, train.collect());
    directory
}

/// The header of a shard of images whose shorter side is `side`.
pub fn header_of_sizes(encoding: Encoding, side: u32) -> ShardHeader {
    let (image_shape, format_version) = (ImageShape::Keep, 3);
    ShardHeader { image_size: side, image_shape, format_version, ..header(encoding, 0) }
}

/// A data set of training images of these sizes, whose shorter side is `side`; the pixels of image i are
/// [`sized_pixels`].
pub fn dataset_of_sizes(encoding: Encoding, side: u32, sizes: &[Size]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let header = header_of_sizes(encoding, side);
    let mut writer = ShardWriter::create(directory.path(), header.clone()).unwrap();
    for (image, &size) in sizes.iter().enumerate() {
        let bytes = encode(encoding, sized_pixels(image, size), size);
        let label = Label::Class(image as u32 % 10);
        writer.append_sized(&bytes, size, label, &format!("image-{image}")).unwrap();
    }
    let train = vec![writer.finish().unwrap().info];
    let info = DatasetInfo {
        format_version: header.format_version,
        image_size: side,
        image_shape: header.image_shape,
        mean_image_blake3: None,
        ..info(LabelKind::Class, encoding, train)
    };
    write_json(directory.path(), &info);
    directory
}

/// Writes the `dataset.json` of these training shards, and a mean image.
pub fn write_dataset_json(directory: &Path, encoding: Encoding, train: Vec<ShardInfo>) {
    write_labelled_json(directory, LabelKind::Class, encoding, train);
}

fn write_labelled_json(directory: &Path, labels: LabelKind, encoding: Encoding, train: Vec<ShardInfo>) {
    let side = SIDE as usize;
    let mean = Array3::from_shape_fn((3, side, side), |(c, y, x)| (c * 80 + y + x) as f32 / 3.0);
    let mut npy = Vec::new();
    mean.write_npy(&mut npy).unwrap();
    std::fs::write(directory.join(DatasetInfo::MEAN_IMAGE_FILE_NAME), &npy).unwrap();
    let digest = Some(blake3::hash(&npy).to_string());
    write_json(directory, &DatasetInfo { mean_image_blake3: digest, ..info(labels, encoding, train) });
}

/// What a data set holds that has shards of these sizes in bytes, of ten images each.
pub fn info_of_sizes(train: &[u64], val: &[u64]) -> DatasetInfo {
    let shards = |sizes: &[u64]| {
        let shard = |&bytes: &u64| ShardInfo {
            file: String::new(),
            images: 10,
            bytes,
            blake3: String::new(),
            records_blake3: None,
        };
        sizes.iter().map(shard).collect()
    };
    DatasetInfo { val: shards(val), ..info(LabelKind::Class, Encoding::Raw, shards(train)) }
}

/// The description of training images, without a mean image.
fn info(labels: LabelKind, encoding: Encoding, train: Vec<ShardInfo>) -> DatasetInfo {
    DatasetInfo {
        format_version: labels.format_version(),
        writer: "test".into(),
        source: "test".into(),
        image_size: SIDE,
        image_shape: ImageShape::Square,
        encoding,
        train,
        val: Vec::new(),
        statistics: Some(ColorStatistics::imagenet()),
        mean_image_blake3: None,
        turned_images: 0,
        cut_images: 0,
        labels,
        classes: classes(10),
    }
}

fn write_json(directory: &Path, info: &DatasetInfo) {
    let json = serde_json::to_string_pretty(&seal(info).unwrap()).unwrap();
    std::fs::write(directory.join(DatasetInfo::FILE_NAME), json).unwrap();
}
