//! The gradient of limits and rectifiers.

use multiversion::multiversion;

use crate::threads::{Shared, Threads};

/// Values of a part of the job.
const PART: usize = 1 << 15;

/// Writes `dy` to `dx` where `x` is between `low` and `high`, else 0.
pub(crate) fn gradient([dy, x]: [&[f32]; 2], [low, high]: [f32; 2], dx: &mut [f32], threads: &dyn Threads) {
    let len = dx.len();
    let dx = Shared::new(dx);
    threads.run(len.div_ceil(PART), &|part| {
        let range = part * PART..len.min((part + 1) * PART);
        // SAFETY: each part has its own range.
        let dx = unsafe { dx.range(range.clone()) };
        inside([&dy[range.clone()], &x[range]], low, high, dx);
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn inside([dy, x]: [&[f32]; 2], low: f32, high: f32, dx: &mut [f32]) {
    for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
        *dx = if low < *x && *x < high { *dy } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::Alone;

    #[test]
    fn only_values_between_the_limits_get_a_gradient() {
        let x = [-1.0, 0.0, 0.5, 6.0, 7.0, f32::NAN];
        let dy = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut dx = [9.0; 6];
        gradient([&dy, &x], [0.0, 6.0], &mut dx, &Alone(1));
        assert_eq!(dx, [0.0, 0.0, 3.0, 0.0, 0.0, 0.0]);
        gradient([&dy, &x], [0.0, f32::INFINITY], &mut dx, &Alone(1));
        assert_eq!(dx, [0.0, 0.0, 3.0, 4.0, 5.0, 0.0]);
        let (x, dy) = (vec![1.0; 2 * PART + 3], vec![2.0; 2 * PART + 3]);
        let mut dx = vec![0.0; x.len()];
        gradient([&dy, &x], [0.0, 6.0], &mut dx, &Alone(1));
        assert_eq!(dx, dy);
    }
}
