//! Turning photos as their EXIF data say.

use super::*;

/// Side of the squares that test pictures consist of.
const CELL: u32 = 16;

/// What the squares look like, row after row, after each of the orientations 1 to 8.
const TURNED: [(u32, [u8; 6]); 8] = [
    (3, *b"abcdef"),
    (3, *b"cbafed"),
    (3, *b"fedcba"),
    (3, *b"defabc"),
    (2, *b"adbecf"),
    (2, *b"daebfc"),
    (2, *b"fcebda"),
    (2, *b"cfbead"),
];

/// Three squares beside and two above one another, each of its own grey.
fn squares() -> DynamicImage {
    let grey = |x, y| 40 * (x / CELL + 3 * (y / CELL)) as u8;
    ImageBuffer::from_fn(3 * CELL, 2 * CELL, |x, y| Rgb([grey(x, y); 3])).into()
}

/// The squares of a photo, named in the order in which they were stored.
fn names(photo: &Photo) -> (u32, Vec<u8>) {
    let (columns, rows) = (photo.width / CELL, photo.height / CELL);
    assert_eq!(photo.rgb.len(), (3 * photo.width * photo.height) as usize);
    let grey = |row: u32, column: u32| {
        let (x, y) = (column * CELL + CELL / 2, row * CELL + CELL / 2);
        photo.rgb[(3 * (y * photo.width + x)) as usize]
    };
    let name = |grey: u8| b'a' + (grey + 20) / 40;
    (columns, (0..rows).flat_map(|row| (0..columns).map(move |column| name(grey(row, column)))).collect())
}

/// EXIF data with this orientation.
fn exif(orientation: u16, big_endian: bool) -> Vec<u8> {
    let long = |number: u16| if big_endian { [0, number] } else { [number, 0] };
    let [first, second] = long(8);
    let [one, and_half] = long(1);
    let words = [42, first, second, 1, 0x112, 3, one, and_half, orientation, 0, 0, 0];
    if big_endian {
        [&b"MM"[..], &words.map(u16::to_be_bytes).concat()].concat()
    } else {
        [&b"II"[..], &words.map(u16::to_le_bytes).concat()].concat()
    }
}

fn jpeg_with(exif: &[u8]) -> Vec<u8> {
    let image = squares().into_rgb8();
    let file = jpeg(3 * CELL as u16, 2 * CELL as u16, jpeg_encoder::ColorType::Rgb, &image, false);
    let length = (exif.len() as u16 + 8).to_be_bytes();
    [&file[..2], &[0xff, 0xe1], &length, b"Exif\0\0", exif, &file[2..]].concat()
}

fn png_with(exif: &[u8], after_pixels: bool) -> Vec<u8> {
    let file = png(&squares());
    let at = if after_pixels { file.len() - 12 } else { 33 };
    [&file[..at], &chunk(b"eXIf", exif), &file[at..]].concat()
}

fn webp_with(exif: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = image::codecs::webp::WebPEncoder::new_lossless(&mut file);
    image::ImageEncoder::set_exif_metadata(&mut encoder, exif.to_vec()).unwrap();
    squares().write_with_encoder(encoder).unwrap();
    file
}

fn tiff_with(orientation: u16) -> Vec<u8> {
    let image = squares().into_rgb8();
    tiff(
        &[(256, &[48]), (257, &[32]), (258, &[8, 8, 8]), (262, &[2]), (274, &[orientation]), (277, &[3])],
        &image,
    )
}

fn turned(bytes: &[u8], orientation: Orientation) -> (u32, Vec<u8>) {
    let mut photo = Photo::default();
    PhotoFile::parse(bytes).unwrap().decode(orientation, &mut photo).unwrap();
    names(&photo)
}

#[test]
fn each_of_the_eight_orientations_is_applied_or_ignored_in_every_format_that_has_it() {
    for (number, (columns, expected)) in (1..).zip(TURNED) {
        for big_endian in [false, true] {
            let exif = exif(number, big_endian);
            let files = [
                ("JPEG", jpeg_with(&exif)),
                ("PNG", png_with(&exif, false)),
                ("PNG, after the pixels", png_with(&exif, true)),
                ("PNG, with a prefix", png_with(&[b"Exif\0\0", &exif[..]].concat(), false)),
                ("WebP", webp_with(&exif)),
                ("WebP, with a prefix", webp_with(&[b"Exif\0\0", &exif[..]].concat())),
                ("TIFF", tiff_with(number)),
            ];
            for (format, bytes) in files {
                let case = format!("{format}, orientation {number}, big endian {big_endian}");
                assert_eq!(PhotoFile::parse(&bytes).unwrap().is_turned(), number != 1, "{case}");
                assert_eq!(turned(&bytes, Orientation::Apply), (columns, expected.to_vec()), "{case}");
                assert_eq!(turned(&bytes, Orientation::Ignore), (3, TURNED[0].1.to_vec()), "{case}");
            }
        }
    }
}

#[test]
fn exif_data_without_sense_are_overlooked() {
    let sound = exif(6, false);
    let mut odd: Vec<Vec<u8>> = (0..sound.len() - 6).map(|length| sound[..length].to_vec()).collect();
    odd.extend([0, 9, 255, 256, 0xffff].map(|number| exif(number, true)));
    for (at, value) in [(0, b'X'), (2, 43), (4, 0xff), (7, 0xff), (8, 0xff), (10, 0), (12, 4), (14, 2)] {
        let mut changed = sound.clone();
        changed[at] = value;
        odd.push(changed);
    }
    for exif in odd.iter().filter(|exif| exif[..] != sound) {
        for bytes in [jpeg_with(exif), png_with(exif, false), webp_with(exif)] {
            let file = PhotoFile::parse(&bytes).unwrap_or_else(|error| panic!("{exif:?}: {error}"));
            // More entries than there are do not hide the first.
            if exif.get(8) != Some(&0xff) {
                assert!(!file.is_turned(), "{exif:?}");
                assert_eq!(turned(&bytes, Orientation::Apply), (3, TURNED[0].1.to_vec()), "{exif:?}");
            }
        }
    }
    for number in [0, 9, 0xffff] {
        assert_eq!(turned(&tiff_with(number), Orientation::Apply), (3, TURNED[0].1.to_vec()), "{number}");
    }
}

#[test]
fn a_turned_photo_becomes_a_square_as_it_is_seen() {
    let mut shaper = Shaper::new(2, Fit::Squash, Filter::Bilinear);
    let upright = shaper.planes_of(&png(&squares().rotate90()), Orientation::Ignore).unwrap();
    let file = png_with(&exif(6, false), false);
    assert_eq!(shaper.planes_of(&file, Orientation::Apply).unwrap(), upright);
    assert_ne!(shaper.planes_of(&file, Orientation::Ignore).unwrap(), upright);
}
