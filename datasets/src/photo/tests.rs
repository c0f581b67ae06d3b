use std::io::Cursor;

use fovea_pipeline::geometry::Size;
use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgb, Rgba};

use super::*;

mod formats;
mod orientation;

/// A picture with slopes and an edge, `u8 [H,W,3]`.
fn picture(width: u32, height: u32) -> Vec<u8> {
    let mut rgb = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let edge = if (x + 2 * y) / 16 % 2 == 0 { 40 } else { 0 };
            rgb.extend([(x * 200 / width) as u8 + edge, (y * 200 / height) as u8, 90]);
        }
    }
    rgb
}

fn jpeg(
    width: u16,
    height: u16,
    color: jpeg_encoder::ColorType,
    pixels: &[u8],
    progressive: bool,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 95);
    encoder.set_progressive(progressive);
    encoder.encode(pixels, width, height, color).unwrap();
    bytes
}

fn png(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
    bytes
}

fn decode(bytes: &[u8]) -> Result<Photo, PhotoError> {
    let mut photo = Photo::default();
    PhotoFile::parse(bytes)?.decode(Orientation::Ignore, &mut photo)?;
    Ok(photo)
}

fn largest_difference(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn color_jpegs_decode_to_what_was_encoded() {
    let rgb = picture(120, 77);
    for progressive in [false, true] {
        let photo = decode(&jpeg(120, 77, jpeg_encoder::ColorType::Rgb, &rgb, progressive)).unwrap();
        assert_eq!((photo.width, photo.height), (120, 77));
        let mean: f64 = photo.rgb.iter().zip(&rgb).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>()
            / rgb.len() as f64;
        assert!(mean < 3.0, "progressive {progressive}: mean difference {mean}");
    }
}

#[test]
fn grey_jpegs_have_three_equal_channels() {
    let grey: Vec<u8> = (0..64 * 48).map(|i| (i / 13) as u8).collect();
    let photo = decode(&jpeg(64, 48, jpeg_encoder::ColorType::Luma, &grey, false)).unwrap();
    assert!(photo.rgb.chunks(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]));
    let red: Vec<u8> = photo.rgb.iter().step_by(3).copied().collect();
    assert!(largest_difference(&red, &grey) < 20);
}

#[test]
fn cmyk_jpegs_are_read_as_adobe_writes_them() {
    // Inverted: 255 is no ink. Cyan ink alone is a picture without red.
    let inks = [(0, 255, 255, 255, [0, 255, 255]), (255, 255, 255, 128, [128, 128, 128])];
    for color in [jpeg_encoder::ColorType::Cmyk, jpeg_encoder::ColorType::CmykAsYcck] {
        for (c, m, y, k, expected) in inks {
            // The encoder inverts what it is given, as Adobe does.
            let pixels = [255 - c, 255 - m, 255 - y, 255 - k].repeat(32 * 32);
            let photo = decode(&jpeg(32, 32, color, &pixels, false)).unwrap();
            let difference = largest_difference(&photo.rgb, &expected.repeat(32 * 32));
            assert!(difference <= 4, "{color:?} {expected:?}: {:?}, off by {difference}", &photo.rgb[..3]);
        }
    }
}

#[test]
fn sixteen_bit_and_transparent_pngs_become_eight_bit_rgb() {
    let deep: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_pixel(5, 4, Luma([0x8080]));
    assert_eq!(decode(&png(&deep.into())).unwrap().rgb, [0x80; 60]);
    let clear = ImageBuffer::from_pixel(3, 2, Rgba([10u8, 20, 30, 0]));
    let photo = decode(&png(&clear.into())).unwrap();
    assert_eq!(photo.rgb, [10, 20, 30].repeat(6), "transparency is dropped, not blended");
}

#[test]
fn a_jpeg_that_was_cut_and_closed_again_is_refused() {
    let bytes = jpeg(160, 120, jpeg_encoder::ColorType::Rgb, &picture(160, 120), false);
    let mut cut = bytes[..bytes.len() * 2 / 3].to_vec();
    cut.extend([0xff, 0xd9]);
    assert_eq!(decode(&cut), Err(PhotoError::Truncated { format: "JPEG", bytes: cut.len() }));
}

#[test]
fn a_png_that_ends_early_is_refused() {
    let image = ImageBuffer::from_raw(160, 120, picture(160, 120)).unwrap();
    let bytes = png(&DynamicImage::ImageRgb8(image));
    assert_eq!(
        decode(&bytes[..bytes.len() / 2]),
        Err(PhotoError::Truncated { format: "PNG", bytes: bytes.len() / 2 })
    );
}

#[test]
fn corrupt_exif_and_junk_after_the_image_are_overlooked() {
    let bytes = jpeg(40, 30, jpeg_encoder::ColorType::Rgb, &picture(40, 30), false);
    let expected = decode(&bytes).unwrap();
    // An EXIF segment whose content is nonsense and holds markers of its own, as thumbnails do.
    let mut exif = vec![0xff, 0xd8, 0xff, 0xe1, 0x00, 0x12];
    exif.extend(b"Exif\0\0\xff\xda\x00\x03\xff\xd9II*\0");
    let mut odd = [&exif[..], &bytes[2..]].concat();
    odd.extend(b"trailing junk");
    assert_eq!(decode(&odd).unwrap(), expected);
}

#[test]
fn what_is_no_image_is_named() {
    let reason = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
    assert_eq!(reason(b""), "the file is empty");
    assert_eq!(
        reason(b"<!DOCTYPE html>\n<html><body>Not found</body></html>"),
        "not an image that can be read: text that begins with `<!DOCTYPE html> <html><b`"
    );
    assert_eq!(reason(b"%PDF-1.7"), "not an image that can be read: a PDF file");
    for (beginning, name) in [
        (&b"\xff\xd8\xff\xf7"[..], "a JPEG-LS file"),
        (b"\0\0\x01\0\x01\0", "a Windows icon"),
        (b"\x0a\x05\x01\x08", "a PCX file"),
    ] {
        assert_eq!(reason(beginning), format!("not an image that can be read: {name}; convert it to PNG"));
    }
    assert_eq!(reason(b"\0\0\0\x18ftypmp42"), "not an image that can be read: a video");
    assert_eq!(
        reason(&[0; 9]),
        "not an image that can be read: it begins with the bytes [00, 00, 00, 00, 00, 00, 00, 00]"
    );
    assert!(reason(&[0xff, 0xd8]).starts_with("truncated JPEG"), "{}", reason(&[0xff, 0xd8]));
    assert!(reason(&[0xff, 0xd8, 0xff, 0xd9]).contains("JPEG"), "{}", reason(&[0xff, 0xd8, 0xff, 0xd9]));
}

#[test]
fn an_image_that_would_fill_the_memory_is_refused_by_its_header() {
    let mut bytes = jpeg(8, 8, jpeg_encoder::ColorType::Rgb, &[0; 192], false);
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    assert_eq!(decode(&bytes), Err(PhotoError::TooLarge { width: 65535, height: 65535 }));
}

#[test]
fn one_pixel_becomes_a_square() {
    let photo = decode(&jpeg(1, 1, jpeg_encoder::ColorType::Rgb, &[200, 100, 50], false)).unwrap();
    assert_eq!((photo.width, photo.height), (1, 1));
    for fit in Fit::ALL {
        let mut shaper = Shaper::new(16, fit, Filter::Lanczos3);
        assert_eq!(shaper.shape(1, 1, &photo.rgb).rgb, photo.rgb.repeat(256));
    }
}

#[test]
fn short_side_keeps_the_centre_and_squash_keeps_everything() {
    // 96×32: a black, a white and a black square.
    let rgb: Vec<u8> =
        (0..96 * 32).flat_map(|i| [if (32..64).contains(&(i % 96)) { 255 } else { 0 }; 3]).collect();
    for filter in [Filter::Lanczos3, Filter::Bicubic, Filter::Bilinear] {
        let mut centre = Shaper::new(32, Fit::ShortSide, filter);
        assert!(centre.shape(96, 32, &rgb).rgb.iter().all(|&value| value == 255), "{filter:?}");
        let mut whole = Shaper::new(30, Fit::Squash, filter);
        let row = &whole.shape(96, 32, &rgb).rgb[..90];
        assert_eq!((row[0], row[45], row[89]), (0, 255, 0), "{filter:?}");
    }
}

#[test]
fn planes_hold_one_channel_after_the_other() {
    let mut planes = [0; 6];
    to_planes(&[1, 2, 3, 4, 5, 6], &mut planes);
    assert_eq!(planes, [1, 4, 2, 5, 3, 6]);
}

#[test]
fn jpegs_of_shards_are_about_as_large_as_expected() {
    let rgb = picture(256, 256);
    let mut sizes = Vec::new();
    for quality in [50, 90, 100] {
        let mut file = Vec::new();
        encode_jpeg(&rgb, Size::square(256), quality, &mut file);
        let expected = expected_jpeg_bytes(256 * 256, quality);
        let ratio = file.len() as f64 / expected as f64;
        assert!((0.2..5.0).contains(&ratio), "quality {quality}: {} bytes, expected {expected}", file.len());
        assert_eq!(decode(&file).unwrap().width, 256);
        sizes.push(file.len());
    }
    assert!(sizes.is_sorted(), "{sizes:?}");
}

#[test]
fn planes_of_a_file_are_its_pixels_decoded_and_made_square() {
    let rgb = picture(40, 24);
    let file = jpeg(40, 24, jpeg_encoder::ColorType::Rgb, &rgb, false);
    let mut photo = Photo::default();
    PhotoFile::parse(&file).unwrap().decode(Orientation::Ignore, &mut photo).unwrap();
    let mut shaper = Shaper::new(16, Fit::ShortSide, Filter::Bilinear);
    let square = shaper.shape(40, 24, &photo.rgb).rgb.to_vec();
    let (planes, size) = shaper.planes_of(&file, Orientation::Ignore).unwrap();
    let expected: Vec<u8> = (0..3).flat_map(|c| square.iter().skip(c).step_by(3).copied()).collect();
    assert_eq!((planes, size), (expected, Size::square(16)));
    assert!(matches!(shaper.planes_of(&file[..200], Orientation::Ignore), Err(PhotoError::Truncated { .. })));
    assert_eq!(shaper.planes_of(&[], Orientation::Ignore), Err(PhotoError::Empty));
}

#[test]
fn fits_and_filters_are_parsed_printed_and_stored_by_the_same_name() {
    for fit in Fit::ALL {
        assert_eq!(fit.to_string().parse(), Ok(fit));
        assert_eq!(serde_json::to_value(fit).unwrap(), fit.to_string());
    }
    for filter in Filter::ALL {
        assert_eq!(filter.to_string().parse(), Ok(filter));
        assert_eq!(serde_json::to_value(filter).unwrap(), filter.to_string());
    }
    let error = "fill".parse::<Fit>().unwrap_err().to_string();
    assert_eq!(error, "unknown fit \"fill\", expected one of short-side, squash, keep");
    let error = "box".parse::<Filter>().unwrap_err().to_string();
    assert_eq!(error, "unknown filter \"box\", expected one of lanczos3, bicubic, bilinear");
}

/// The same picture in each format that is read without loss.
fn lossless_files() -> Vec<(&'static str, Vec<u8>)> {
    let image = DynamicImage::ImageRgb8(ImageBuffer::from_raw(40, 30, picture(40, 30)).unwrap());
    let formats = [
        ("PNG", ImageFormat::Png),
        ("WebP", ImageFormat::WebP),
        ("BMP", ImageFormat::Bmp),
        ("TIFF", ImageFormat::Tiff),
        ("PNM", ImageFormat::Pnm),
    ];
    let write = |format| {
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
        bytes
    };
    formats.map(|(name, format)| (name, write(format))).into()
}

fn gif() -> Vec<u8> {
    let image = ImageBuffer::from_pixel(12, 10, Rgba([200u8, 100, 0, 255]));
    let mut bytes = Vec::new();
    DynamicImage::from(image).write_to(&mut Cursor::new(&mut bytes), ImageFormat::Gif).unwrap();
    bytes
}

#[test]
fn every_format_is_read_by_its_content() {
    for (format, bytes) in lossless_files() {
        assert!(is_image(&bytes[..bytes.len().min(BEGINNING_BYTES)]), "{format}");
        let photo = decode(&bytes).unwrap_or_else(|error| panic!("{format}: {error}"));
        assert_eq!((photo.width, photo.height), (40, 30), "{format}");
        assert_eq!(photo.rgb, picture(40, 30), "{format}");
        let error = decode(&bytes[..bytes.len() / 2]).unwrap_err().to_string();
        assert!(error.contains(format), "{error}");
    }
    assert!(is_image(&gif()));
    let photo = decode(&gif()).unwrap();
    assert_eq!(largest_difference(&photo.rgb, &[200, 100, 0].repeat(120)), 0);
    for other in [
        &b"name,label\n1.jpg,7"[..],
        b"BMW and 17 other makes of cars, one a line, in four columns",
        b"P5 is the fifth class",
        b"P1",
        b"P3\n# Notes\nabout 3 things",
        b"\xff\xd8",
        b"",
    ] {
        assert!(!is_image(other), "{other:?}");
    }
    assert!(is_image(b"P5\n# Made by a program\n4 3\n255\n"));
}

/// A chunk of a PNG file.
fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let named = [&name[..], content].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&named);
    [&(content.len() as u32).to_be_bytes()[..], &named, &crc.sum().to_be_bytes()].concat()
}

/// A TIFF file with these tags, whose values are of 16 bits each, and of these strips or tiles.
fn tiff(tags: &[(u16, &[u16])], parts: &[&[u8]]) -> Vec<u8> {
    let mut file = b"II*\0\0\0\0\0".to_vec();
    let mut offsets = Vec::new();
    for part in parts {
        offsets.push(file.len() as u32);
        file.extend(*part);
        file.resize(file.len().next_multiple_of(2), 0);
    }
    let is_tiled = tags.iter().any(|(tag, _)| *tag == 322);
    let lengths: Vec<u32> = parts.iter().map(|part| part.len() as u32).collect();
    let mut contents: Vec<(u16, u16, usize, Vec<u8>)> = vec![
        (
            if is_tiled { 324 } else { 273 },
            4,
            parts.len(),
            offsets.iter().flat_map(|n| n.to_le_bytes()).collect(),
        ),
        (
            if is_tiled { 325 } else { 279 },
            4,
            parts.len(),
            lengths.iter().flat_map(|n| n.to_le_bytes()).collect(),
        ),
    ];
    for &(tag, values) in tags {
        contents.push((tag, 3, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect()));
    }
    contents.sort_unstable();
    let mut directory = (contents.len() as u16).to_le_bytes().to_vec();
    for (tag, kind, count, mut content) in contents {
        if content.len() > 4 {
            let at = (file.len() as u32).to_le_bytes();
            file.append(&mut content);
            content.extend(at);
        }
        content.resize(4, 0);
        directory.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        directory.extend((count as u32).to_le_bytes());
        directory.extend(content);
    }
    let at = (file.len() as u32).to_le_bytes();
    file[4..8].copy_from_slice(&at);
    file.extend(directory);
    file.extend([0; 4]);
    file
}

#[test]
fn metadata_that_unpack_to_gigabytes_cost_neither_memory_nor_the_photo() {
    let mut packed = flate2::write::ZlibEncoder::new(b"ICC\0\0".to_vec(), flate2::Compression::fast());
    for _ in 0..512 {
        std::io::Write::write_all(&mut packed, &[0; 1 << 20]).unwrap();
    }
    let bomb = chunk(b"iCCP", &packed.finish().unwrap());
    let (_, bytes) = &lossless_files()[0];
    let file = [&bytes[..33], &bomb, &bytes[33..]].concat();
    let before = peak_memory_bytes();
    let decoded = decode(&file);
    if let Err(error) = decoded {
        assert!(error.to_string().starts_with("damaged PNG"), "{error}");
    }
    let grown = peak_memory_bytes() - before;
    assert!(grown < 256 << 20, "{} MiB", grown >> 20);
}

/// The most memory that this process has had, where the system shows it, else 0.
fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).map_or(0, |kb: u64| kb << 10)
}

#[test]
fn changed_bytes_never_panic_nor_take_much_memory() {
    let mut seeds = lossless_files();
    seeds.push(("GIF", gif()));
    let rgb = picture(40, 30);
    seeds.push(("JPEG", jpeg(40, 30, jpeg_encoder::ColorType::Rgb, &rgb, false)));
    seeds.push(("JPEG", jpeg(40, 30, jpeg_encoder::ColorType::Rgb, &rgb, true)));
    let before = peak_memory_bytes();
    let mut random = 1u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize % below
    };
    let mut refused = 0;
    for (format, seed) in &seeds {
        for round in 0..700 {
            let mut bytes = seed.clone();
            for _ in 0..=round % 4 {
                // Headers have more to break than pixels.
                let within = if next(2) == 0 { bytes.len().min(120) } else { bytes.len() };
                let at = next(within);
                match next(4) {
                    0 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][next(5)],
                    1 => bytes[at] ^= 1 << next(8),
                    2 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, next(256) as u8),
                }
            }
            // What would be a long wait for a few bytes is another test's matter.
            match PhotoFile::parse(&bytes) {
                Ok(file) if file.pixels() > 1 << 22 => {}
                Ok(file) => {
                    let (width, height) = file.dimensions();
                    let mut photo = Photo::default();
                    match file.decode(Orientation::Ignore, &mut photo) {
                        Ok(()) => {
                            assert_eq!(photo.rgb.len(), 3 * width as usize * height as usize, "{format}")
                        }
                        Err(error) => {
                            refused += 1;
                            assert!(!error.to_string().contains('\n'), "{format}: {error}");
                        }
                    }
                }
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().contains('\n'), "{format}: {error}");
                }
            }
        }
    }
    assert!(refused > 1000, "{refused}");
    let grown = peak_memory_bytes() - before;
    assert!(grown < 512 << 20, "{} MiB", grown >> 20);
}

/// Weights of the old pixels of a part for each new one along an axis: a triangle, which widens when the
/// image shrinks.
fn triangles(length: usize, start: f64, part: f64, new: usize) -> Vec<Vec<f64>> {
    let scale = part / new as f64;
    let of_pixel = |i: usize| {
        let center = start + (i as f64 + 0.5) * scale;
        let weight = |x: usize| (1.0 - ((x as f64 + 0.5 - center) / scale.max(1.0)).abs()).max(0.0);
        let raw: Vec<f64> = (0..length).map(weight).collect();
        let sum: f64 = raw.iter().sum();
        raw.into_iter().map(|weight| weight / sum).collect()
    };
    (0..new).map(of_pixel).collect()
}

#[test]
fn keep_resizes_the_whole_photo_as_torchvision_does() {
    let mut state = 1_u64;
    let mut random = |below: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((state >> 33) * u64::from(below)) >> 31) as u32
    };
    let mut cut = 0;
    for number in 0..120 {
        let most = [2, 12, 40, 120][number % 4];
        let (width, height) = (1 + random(most), 1 + random([most, 3][number % 2]));
        let size = [1, 5, 16, 33][number / 4 % 4];
        let rgb: Vec<u8> = (0..3 * width * height).map(|i| (i * 37 % 251) as u8).collect();
        let mut shaper = Shaper::new(size, Fit::Keep, Filter::Bilinear);
        let shaped = shaper.shape(width, height, &rgb);

        let (shorter, longer) = (width.min(height), width.max(height));
        let kept = longer.min(16 * shorter);
        assert_eq!(shaped.is_cut, kept < longer);
        cut += u32::from(shaped.is_cut);
        // torchvision: int(size * long / short).
        let of_longer = (f64::from(size) * f64::from(kept) / f64::from(shorter)).floor() as u32;
        let expected = if width > height {
            (of_longer, size)
        } else {
            (size, if width == height { size } else { of_longer })
        };
        assert_eq!((shaped.size.width, shaped.size.height), expected, "{width}x{height} to {size}");

        let axis = |old: u32, new: u32| {
            let part = old.min(kept);
            triangles(old as usize, f64::from(old - part) / 2.0, part.into(), new as usize)
        };
        let (across, down) = (axis(width, shaped.size.width), axis(height, shaped.size.height));
        for (y, rows) in down.iter().enumerate() {
            for (x, columns) in across.iter().enumerate() {
                for channel in 0..3 {
                    let at = |row: usize, column: usize| {
                        f64::from(rgb[3 * (row * width as usize + column) + channel])
                    };
                    let value: f64 = rows
                        .iter()
                        .enumerate()
                        .filter(|(_, weight)| **weight > 0.0)
                        .map(|(row, weight)| {
                            let of_row = columns.iter().enumerate().map(|(column, w)| w * at(row, column));
                            weight * of_row.sum::<f64>()
                        })
                        .sum();
                    let found = shaped.rgb[3 * (y * shaped.size.width as usize + x) + channel];
                    let off = (f64::from(found) - value).abs();
                    assert!(off <= 1.1, "{width}x{height} to {}, {x}, {y}: {found}, {value}", shaped.size);
                }
            }
        }
    }
    assert!(cut > 3, "{cut} photos were longer than 16 to 1");
}
