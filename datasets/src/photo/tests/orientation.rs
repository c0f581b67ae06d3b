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

/// EXIF data with this orientation, as a SHORT.
fn exif(orientation: u16, big_endian: bool) -> Vec<u8> {
    exif_of(3, orientation, big_endian)
}

/// EXIF data with this orientation as a value of this type.
fn exif_of(kind: u16, orientation: u16, big_endian: bool) -> Vec<u8> {
    let long = |number: u16| if big_endian { [0, number] } else { [number, 0] };
    let [first, second] = long(8);
    let [one, and_half] = long(1);
    let [value, rest] = if matches!(kind, 4 | 9 | 13) { long(orientation) } else { [orientation, 0] };
    let words = [42, first, second, 1, 0x112, kind, one, and_half, value, rest, 0, 0];
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
    tiff(&[&TIFF_TAGS[..], &[(274, &[orientation])]].concat(), &[&image])
}

/// Those of the squares.
const TIFF_TAGS: [(u16, &[u16]); 5] =
    [(256, &[48]), (257, &[32]), (258, &[8, 8, 8]), (262, &[2]), (277, &[3])];

/// Metadata in XMP, with the orientation once as an attribute and once as an element.
fn xmp(orientation: u16, is_attribute: bool) -> String {
    match is_attribute {
        true => format!(
            "<x xmlns:tiff='t'><d tiff:Make='tiff:Orientation' tiff:Orientation=\"{orientation}\"/></x>"
        ),
        false => format!("<x><tiff:Orientation>{orientation}</tiff:Orientation></x>"),
    }
}

fn png_with_text(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let file = png(&squares());
    [&file[..33], &chunk(name, content), &file[33..]].concat()
}

/// As ImageMagick and others write it.
fn raw_profile(exif: &[u8]) -> String {
    let mut text = format!("\nexif\n{:8}\n", exif.len() + 6);
    for (index, byte) in b"Exif\0\0".iter().chain(exif).enumerate() {
        text += &format!("{}{byte:02x}", if index > 0 && index % 36 == 0 { "\n" } else { "" });
    }
    text + "\n"
}

fn packed(text: &str) -> Vec<u8> {
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packer, text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

fn turned(bytes: &[u8], orientation: Orientation) -> (u32, Vec<u8>) {
    let mut photo = Photo::default();
    PhotoFile::parse(bytes).unwrap().decode(orientation, &mut photo).unwrap();
    names(&photo)
}

/// Files with this orientation in every place but the usual one.
fn other_places(number: u16, big_endian: bool) -> Vec<(&'static str, Vec<u8>)> {
    let long = exif_of(4, number, big_endian);
    let profile = raw_profile(&exif(number, big_endian));
    let xmp = xmp(number, big_endian);
    let webp = webp_with(b"no EXIF data");
    let webp = [&webp[..], b"XMP ", &(xmp.len() as u32).to_le_bytes(), xmp.as_bytes(), &[0][..xmp.len() % 2]]
        .concat();
    let with_flag =
        [&webp[..4], &(webp.len() as u32 - 8).to_le_bytes(), &webp[8..20], &[webp[20] | 4], &webp[21..]];
    let segment = [b"http://ns.adobe.com/xap/1.0/\0", xmp.as_bytes()].concat();
    let file = jpeg_with(b"no EXIF data");
    let length = (segment.len() as u16 + 2).to_be_bytes();
    let in_words: Vec<u16> =
        xmp.as_bytes().chunks(2).map(|c| u16::from_le_bytes([c[0], *c.get(1).unwrap_or(&0)])).collect();
    // The reader takes the number of values for that of bytes.
    let in_words = [&in_words[..], &vec![0; xmp.len() - in_words.len()]].concat();
    let turned = png_with_text(b"tEXt", [b"Raw profile type exif\0", profile.as_bytes()].concat().as_slice());
    vec![
        ("JPEG, a LONG", jpeg_with(&long)),
        ("PNG, a LONG", png_with(&long, false)),
        ("WebP, a LONG", webp_with(&long)),
        ("PNG, a raw profile", turned),
        (
            "PNG, a packed raw profile",
            png_with_text(b"zTXt", &[&b"Raw profile type exif\0\0"[..], &packed(&profile)].concat()),
        ),
        ("PNG, XMP", png_with_text(b"iTXt", &[&b"XML:com.adobe.xmp\0\0\0\0\0"[..], xmp.as_bytes()].concat())),
        (
            "PNG, packed XMP",
            png_with_text(b"iTXt", &[&b"XML:com.adobe.xmp\0\x01\0en\0\0"[..], &packed(&xmp)].concat()),
        ),
        ("WebP, XMP", with_flag.concat()),
        ("JPEG, XMP", [&file[..2], &[0xff, 0xe1], &length, &segment, &file[2..]].concat()),
        ("TIFF, XMP", tiff(&[&TIFF_TAGS[..], &[(700, &in_words)]].concat(), &[&squares().into_rgb8()])),
    ]
}

#[test]
fn an_orientation_in_exif_data_comes_before_that_of_other_places() {
    let upright = exif(1, false);
    let place = |name: &[u8; 4], content: &[u8], exif: &[u8]| {
        let file = png_with_text(name, content);
        [&file[..33], &chunk(b"eXIf", exif), &file[33..]].concat()
    };
    let xmp = [&b"XML:com.adobe.xmp\0\0\0\0\0"[..], xmp(6, true).as_bytes()].concat();
    let profile = [b"Raw profile type exif\0", raw_profile(&exif(6, false)).as_bytes()].concat();
    for (name, content) in [(b"iTXt", &xmp), (b"tEXt", &profile)] {
        let file = place(name, content, &upright);
        assert!(!PhotoFile::parse(&file).unwrap().is_turned());
        assert!(PhotoFile::parse(&png_with_text(name, content)).unwrap().is_turned());
    }
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
            for (format, bytes) in files.into_iter().chain(other_places(number, big_endian)) {
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
    for (at, value) in [(0, b'X'), (2, 43), (4, 0xff), (7, 0xff), (8, 0xff), (10, 0), (12, 1), (14, 2)] {
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
