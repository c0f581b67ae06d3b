//! Changes of each value by itself: posterising, solarising, stretching and equalising.

/// Keeps the upper bits of every value.
///
/// # Panics
/// When there are more than 8.
pub fn posterize(bits: u32, planes: [&mut [u8]; 3]) {
    assert!(bits <= 8, "{bits} bits of a byte");
    let mask = (0xff00_u32 >> bits) as u8;
    planes.into_iter().flatten().for_each(|value| *value &= mask);
}

/// Inverts every value that is not below the threshold.
pub fn solarize(threshold: f32, planes: [&mut [u8]; 3]) {
    // The least value that is inverted; 256 is none.
    let least = threshold.ceil() as u16;
    for value in planes.into_iter().flatten() {
        *value = if u16::from(*value) >= least { 255 - *value } else { *value };
    }
}

/// Stretches every channel to 0..=255.
pub fn stretch_contrast(planes: [&mut [u8]; 3]) {
    for plane in planes {
        let (least, most) = plane.iter().fold((255, 0), |(least, most), &v| (v.min(least), v.max(most)));
        if least >= most {
            continue;
        }
        let step = f32::from(most - least) * (1.0 / 255.0);
        let table: [u8; 256] = std::array::from_fn(|value| ((value as f32 - f32::from(least)) / step) as u8);
        look_up(&table, plane);
    }
}

/// Spreads the values of every channel so that each is about as frequent as any other, as Pillow does.
pub fn equalize(planes: [&mut [u8]; 3]) {
    for plane in planes {
        let mut counts = [0_u32; 256];
        plane.iter().for_each(|&value| counts[usize::from(value)] += 1);
        let largest = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
        let step = (plane.len() as u32 - counts[largest]) / 255;
        if step == 0 {
            continue;
        }
        let mut below = step / 2;
        let table = counts.map(|count| {
            let value = (below / step).min(255) as u8;
            below += count;
            value
        });
        look_up(&table, plane);
    }
}

fn look_up(table: &[u8; 256], plane: &mut [u8]) {
    plane.iter_mut().for_each(|value| *value = table[usize::from(*value)]);
}
