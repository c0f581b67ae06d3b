//! From numbers to bytes in steps that compilers have vectors for, which `as` from a float is not.

/// Rounds to the nearest byte, halves up: as `round`, then `as`.
#[inline(always)]
pub fn to_byte(value: f32) -> u8 {
    /// The largest number below a half: a half itself would round 0.49999997 up.
    const HALF: f32 = 0.499_999_97;
    cut_to_byte(value.clamp(0.0, 255.0) + HALF)
}

/// Cuts off what is behind the point, as `as` does; the value must be 0 or more, and below 256.
#[inline(always)]
pub fn cut_to_byte(value: f32) -> u8 {
    /// From here on, floats are whole numbers apart: the lowest bits are the number.
    const WHOLE: f32 = 8_388_608.0;
    (value.floor() + WHOLE).to_bits() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_rounded_as_by_round_and_as() {
        let steps = (-4000..=260_000).map(|i| i as f32 / 1000.0);
        let halves = (0..=256).map(|i| i as f32 + 0.5);
        let near = halves.clone().flat_map(|half| [half.next_down(), half.next_up()]);
        let others = [0.499_999_97, -0.0, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30];
        for value in steps.chain(halves).chain(near).chain(others) {
            assert_eq!(to_byte(value), value.round() as u8, "{value:?}");
        }
    }
}
