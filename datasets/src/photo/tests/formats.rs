//! Kinds of files in which other readers have gone wrong.

use super::*;

/// A GIF file of one picture, at this place of a screen of 4×3 pixels.
fn gif_at(left: u16, top: u16, transparent: Option<u8>, local: bool) -> Vec<u8> {
    let palette = [10, 20, 30, 200, 0, 0, 0, 200, 0, 0, 0, 200];
    let mut bytes = Vec::new();
    let mut encoder = ::gif::Encoder::new(&mut bytes, 4, 3, if local { &[] } else { &palette[..] }).unwrap();
    let frame = ::gif::Frame {
        left,
        top,
        width: 2,
        height: 1,
        transparent,
        palette: local.then(|| palette.to_vec()),
        buffer: vec![1, 2].into(),
        ..::gif::Frame::default()
    };
    encoder.write_frame(&frame).unwrap();
    drop(encoder);
    bytes
}

#[test]
fn a_picture_of_a_gif_file_keeps_its_place_on_the_screen() {
    let colors = [[10, 20, 30], [200, 0, 0], [0, 200, 0], [0, 0, 200]];
    for local in [false, true] {
        for (transparent, ground) in [(None, 0), (Some(1), 1), (Some(3), 3)] {
            let photo = decode(&gif_at(1, 2, transparent, local)).unwrap();
            assert_eq!((photo.width, photo.height), (4, 3));
            let mut expected = [colors[ground]; 12];
            (expected[9], expected[10]) = (colors[1], colors[2]);
            assert_eq!(photo.rgb, expected.concat(), "{transparent:?}, {local}");
        }
        let beyond = decode(&gif_at(3, 4, None, local)).unwrap();
        assert_eq!((beyond.width, beyond.height), (5, 5));
        assert_eq!(beyond.rgb[..69], colors[0].repeat(23), "{local}");
        assert_eq!(beyond.rgb[69..], [colors[1], colors[2]].concat(), "{local}");
    }
    let file = gif_at(0, 0, None, false);
    for kept in 13..file.len() - 3 {
        let truncated = PhotoError::Truncated { format: "GIF", bytes: kept };
        assert_eq!(decode(&file[..kept]), Err(truncated), "of {} bytes", file.len());
    }
}

#[test]
fn the_first_frame_of_a_webp_animation_keeps_its_colours_on_black() {
    let half = ImageBuffer::from_pixel(4, 4, Rgba([200u8, 100, 50, 77]));
    let mut still = Vec::new();
    DynamicImage::from(half).write_to(&mut Cursor::new(&mut still), ImageFormat::WebP).unwrap();
    let chunk = |name: &[u8; 4], content: &[u8]| {
        [&name[..], &(content.len() as u32).to_le_bytes(), content, &[0][..content.len() % 2]].concat()
    };
    // Of 8×8 pixels, with alpha; the frame is at 2, 4, and is to be blended.
    let header = chunk(b"VP8X", &[0x12, 0, 0, 0, 7, 0, 0, 7, 0, 0]);
    let frame = [&[1, 0, 0, 2, 0, 0, 3, 0, 0, 3, 0, 0, 100, 0, 0, 0][..], &still[12..]].concat();
    let frames =
        [chunk(b"ANIM", &[255, 255, 255, 255, 0, 0]), chunk(b"ANMF", &frame), chunk(b"ANMF", &frame)];
    let body = [&b"WEBP"[..], &header, &frames.concat()].concat();
    let photo = decode(&chunk(b"RIFF", &body)).unwrap();
    assert_eq!((photo.width, photo.height), (8, 8));
    let pixel = |x: u32, y: u32| if (2..6).contains(&x) && y >= 4 { [200, 100, 50] } else { [0; 3] };
    let expected: Vec<u8> = (0..64).flat_map(|i| pixel(i % 8, i / 8)).collect();
    assert_eq!(photo.rgb, expected);
}

#[test]
fn pixels_of_a_bmp_file_that_would_begin_in_the_palette_begin_behind_it() {
    let grey: ImageBuffer<Luma<u8>, Vec<u8>> = ImageBuffer::from_fn(8, 4, |x, y| Luma([(x * 30 + y) as u8]));
    let mut bytes = Vec::new();
    DynamicImage::from(grey).write_to(&mut Cursor::new(&mut bytes), ImageFormat::Bmp).unwrap();
    let sound = decode(&bytes).unwrap();
    assert_eq!(sound.rgb[..6], [0, 0, 0, 30, 30, 30]);
    assert_eq!(bytes[10..14], 1078u32.to_le_bytes());
    bytes[10..14].copy_from_slice(&54u32.to_le_bytes());
    assert_eq!(decode(&bytes).unwrap(), sound);
}

/// The number of a tag and its values.
type Tag = (u16, &'static [u16]);

/// Tags of a picture of so many pixels.
fn size(width: &'static [u16], height: &'static [u16]) -> Vec<Tag> {
    vec![(256, width), (257, height)]
}

fn pixels_of(tags: &[(u16, &[u16])], parts: &[&[u8]]) -> Vec<u8> {
    decode(&tiff(tags, parts)).unwrap_or_else(|error| panic!("{tags:?}: {error}")).rgb
}

fn grey(levels: &[u8]) -> Vec<u8> {
    levels.iter().flat_map(|&level| [level; 3]).collect()
}

#[test]
fn tiff_files_of_few_bits_are_read() {
    let of = |bits: &'static [u16], photometric: &'static [u16]| {
        [size(&[3], &[2]), vec![(258, bits), (262, photometric)]].concat()
    };
    assert_eq!(pixels_of(&of(&[1], &[1]), &[&[0b1010_0000, 0b0100_0000]]), grey(&[255, 0, 255, 0, 255, 0]));
    assert_eq!(pixels_of(&of(&[1], &[0]), &[&[0b1010_0000, 0b0100_0000]]), grey(&[0, 255, 0, 255, 0, 255]));
    assert_eq!(pixels_of(&of(&[2], &[1]), &[&[0b0001_1000, 0b1100_0100]]), grey(&[0, 85, 170, 255, 0, 85]));
    assert_eq!(pixels_of(&of(&[4], &[0]), &[&[0x0f, 0x10, 0xab, 0xc0]]), grey(&[255, 0, 238, 85, 68, 51]));
    let reversed = [of(&[4], &[1]), vec![(266, &[2])]].concat();
    assert_eq!(pixels_of(&reversed, &[&[0xf0, 0x08, 0xd5, 0x03]]), grey(&[0, 255, 17, 170, 187, 204]));
    let palette: Vec<u16> = (0..48).map(|i| (i * 5) << 8 | 7).collect();
    let indexed = [of(&[4], &[3]), vec![(320, &palette)]].concat();
    let color = |i: u8| [i * 5, i * 5 + 80, i * 5 + 160];
    assert_eq!(pixels_of(&indexed, &[&[0x0f, 0x10, 0xab, 0xc0]]), [0, 15, 1, 10, 11, 12].map(color).concat());
}

#[test]
fn extra_samples_of_tiff_files_are_dropped_and_colours_that_alpha_has_multiplied_divided() {
    let of = |bits: &'static [u16], photometric: &'static [u16], extra: &'static [u16]| {
        let samples: &[u16] = [&[0][..], &[1], &[2], &[3], &[4]][bits.len()];
        [size(&[2], &[1]), vec![(258, bits), (262, photometric), (277, samples), (338, extra)]].concat()
    };
    assert_eq!(pixels_of(&of(&[8; 2], &[1], &[2]), &[&[7, 1, 9, 255]]), grey(&[7, 9]));
    let rgba = [10, 20, 30, 60, 1, 2, 3, 0];
    for extra in [&[0][..], &[2]] {
        assert_eq!(pixels_of(&of(&[8; 4], &[2], extra), &[&rgba]), [10, 20, 30, 1, 2, 3], "{extra:?}");
    }
    assert_eq!(pixels_of(&of(&[8; 4], &[2], &[1]), &[&rgba]), [42, 85, 127, 0, 0, 0]);
    // Differences of neighbours, packed.
    let packed = |bytes: &[u8]| {
        let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packer, bytes).unwrap();
        packer.finish().unwrap()
    };
    let predicted = [of(&[8; 4], &[2], &[0]), vec![(259, &[8]), (317, &[2])]].concat();
    let data = packed(&[10, 20, 30, 60, 247, 238, 229, 196]);
    assert_eq!(pixels_of(&predicted, &[&data]), [10, 20, 30, 1, 2, 3]);
    // Without compression the tag has no meaning.
    let unpacked = [of(&[8; 4], &[2], &[0]), vec![(317, &[2])]].concat();
    assert_eq!(pixels_of(&unpacked, &[&rgba]), [10, 20, 30, 1, 2, 3]);
}

#[test]
fn other_colours_of_tiff_files_are_read() {
    let of = |bits: &'static [u16], photometric: &'static [u16]| {
        let samples: &[u16] = [&[0][..], &[1], &[2], &[3], &[4]][bits.len()];
        [size(&[2], &[1]), vec![(258, bits), (262, photometric), (277, samples)]].concat()
    };
    let inks = pixels_of(&of(&[8; 4], &[5]), &[&[255, 0, 0, 0, 0, 0, 0, 127]]);
    assert!(largest_difference(&inks, &[0, 255, 255, 128, 128, 128]) <= 1, "{inks:?}");
    let ycbcr = [of(&[8; 3], &[6]), vec![(530, &[1, 1])]].concat();
    assert_eq!(pixels_of(&ycbcr, &[&[76, 85, 255, 150, 44, 21]]), [254, 0, 0, 0, 255, 1]);
    let deep = of(&[16; 3], &[2]);
    let samples: Vec<u8> =
        [0x8080u16, 0x1234, 0xffff, 0, 0x00ff, 0x0081].iter().flat_map(|n| n.to_le_bytes()).collect();
    assert_eq!(pixels_of(&deep, &[&samples]), [0x80, 0x12, 0xff, 0, 1, 1]);
}

#[test]
fn tiles_in_planes_are_put_together() {
    let tags = [
        size(&[20], &[18]),
        vec![(258, &[8, 8, 8]), (262, &[2]), (277, &[3]), (284, &[2]), (322, &[16]), (323, &[16])],
    ]
    .concat();
    let value = |plane: usize, x: usize, y: usize| (plane * 80 + x * 3 + y) as u8;
    let tile = |number: usize| -> Vec<u8> {
        let (plane, left, top) = (number / 4, number % 2 * 16, number / 2 % 2 * 16);
        (0..256).map(|i| value(plane, left + i % 16, top + i / 16)).collect()
    };
    let tiles: Vec<Vec<u8>> = (0..12).map(tile).collect();
    let tiles: Vec<&[u8]> = tiles.iter().map(Vec::as_slice).collect();
    let expected: Vec<u8> =
        (0..20 * 18).flat_map(|i| [0, 1, 2].map(|plane| value(plane, i % 20, i / 20))).collect();
    assert_eq!(pixels_of(&tags, &tiles), expected);
}

#[test]
fn jpeg_data_in_tiff_files_have_the_colours_that_the_file_says() {
    let rgb = picture(40, 24);
    let tags = |photometric: &'static [u16]| {
        [size(&[40], &[24]), vec![(258, &[8, 8, 8]), (259, &[7]), (262, photometric), (277, &[3])]].concat()
    };
    let close = |tags: &[(u16, &[u16])], data: &[u8]| {
        let found = pixels_of(tags, &[data]);
        found.iter().zip(&rgb).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / (rgb.len() as f64) < 3.0
    };
    let converted = jpeg(40, 24, jpeg_encoder::ColorType::Rgb, &rgb, false);
    let as_it_is = jpeg(40, 24, jpeg_encoder::ColorType::Ycbcr, &rgb, false);
    assert!(close(&tags(&[6]), &converted));
    assert!(close(&tags(&[2]), &as_it_is));
    assert!(!close(&tags(&[2]), &converted));
    let cut = decode(&tiff(&tags(&[6]), &[&[&converted[..converted.len() / 2], &[0xff, 0xd9]].concat()]));
    assert!(matches!(cut, Err(PhotoError::Truncated { format: "TIFF", .. })), "{cut:?}");
    // In one colour, as they are and with white as 0; and four inks.
    let levels: Vec<u8> = rgb.chunks(3).map(|pixel| pixel[0]).collect();
    let data = jpeg(40, 24, jpeg_encoder::ColorType::Luma, &levels, false);
    let one = |photometric: &'static [u16]| {
        [size(&[40], &[24]), vec![(258, &[8]), (259, &[7]), (262, photometric)]].concat()
    };
    let as_grey = pixels_of(&one(&[1]), &[&data]);
    assert!(largest_difference(&as_grey, &grey(&levels)) < 20);
    let inverted: Vec<u8> = pixels_of(&one(&[0]), &[&data]).iter().map(|level| 255 - level).collect();
    assert!(largest_difference(&inverted, &as_grey) <= 1);
    let inks = [200u8, 100, 50, 0].repeat(40 * 24);
    let data = jpeg(40, 24, jpeg_encoder::ColorType::Cmyk, &inks, false);
    let tags = [size(&[40], &[24]), vec![(258, &[8; 4]), (259, &[7]), (262, &[5]), (277, &[4])]].concat();
    // The encoder inverts what it is given.
    assert!(largest_difference(&pixels_of(&tags, &[&data]), &[0; 40 * 24 * 3]) < 4);
}

#[test]
fn a_tiff_file_with_wide_offsets_is_read() {
    let entries: [(u16, u16, u64); 8] = [
        (256, 3, 2),
        (257, 3, 1),
        (258, 3, 8),
        (262, 3, 1),
        (273, 16, 16),
        (277, 3, 1),
        (278, 3, 1),
        (279, 16, 2),
    ];
    let mut file = b"II+\0\x08\0\0\0\x18\0\0\0\0\0\0\0\x07\x09\0\0\0\0\0\0".to_vec();
    file.extend((entries.len() as u64).to_le_bytes());
    for (tag, kind, value) in entries {
        file.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        file.extend([1u64.to_le_bytes(), value.to_le_bytes()].concat());
    }
    file.extend([0; 8]);
    assert!(is_image(&file[..BEGINNING_BYTES.min(file.len())]));
    assert_eq!(decode(&file).unwrap().rgb, grey(&[7, 9]));
}

#[test]
fn tiff_files_that_are_not_read_are_refused_by_name() {
    let error = |tags: &[(u16, &[u16])]| {
        let tags = [&size(&[2], &[1])[..], tags].concat();
        decode(&tiff(&tags, &[&[0; 64]])).unwrap_err().to_string()
    };
    let cases: [(&[Tag], &str); 9] = [
        (&[(258, &[8; 3]), (262, &[8]), (277, &[3])], "L*a*b* colours"),
        (&[(258, &[12]), (262, &[1])], "samples of 12 bits"),
        (&[(258, &[16]), (262, &[1]), (339, &[2])], "samples of 16 bits with a sign"),
        (&[(258, &[32]), (262, &[1]), (339, &[3])], "floating-point samples that are not RGB"),
        (&[(258, &[8]), (262, &[1]), (259, &[6])], "old-style JPEG compression"),
        (&[(258, &[8]), (262, &[1]), (259, &[50000])], "Zstandard compression"),
        (
            &[(258, &[8; 3]), (262, &[6]), (277, &[3])],
            "YCbCr colours of a kind other than those of JPEG files",
        ),
        (&[(258, &[8]), (262, &[3])], "a palette of 0 numbers for 8 bits"),
        (&[(258, &[8]), (262, &[2])], "1 samples for a pixel, expected 3"),
    ];
    for (tags, reason) in cases {
        assert_eq!(error(tags), format!("unsupported TIFF: {reason}; convert it to PNG"));
    }
    assert!(error(&[(258, &[8])]).contains("unsupported TIFF"), "without colours");
}
