//! Convolutions of every kind and their gradients, against sums over all products in double precision.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::conv::Conv;
use crate::depthwise::Depthwise;
use crate::threads::Alone;

/// Calls `visit` with the places in x, weights and y of each product of the convolution.
fn products(conv: &Conv, mut visit: impl FnMut([usize; 3])) {
    let ([height, width], [rows, columns]) = (conv.input, conv.output);
    let (channels, filters) = (conv.channels / conv.groups, conv.filters / conv.groups);
    for (image, filter) in
        (0..conv.images).flat_map(|image| (0..conv.filters).map(move |filter| (image, filter)))
    {
        for (channel, p, q, i, j) in indices([channels, rows, columns, conv.kernel[0], conv.kernel[1]]) {
            let h = (p * conv.strides[0] + i * conv.dilations[0]).checked_sub(conv.pads[0]);
            let w = (q * conv.strides[1] + j * conv.dilations[1]).checked_sub(conv.pads[1]);
            let (Some(h), Some(w)) = (h.filter(|&h| h < height), w.filter(|&w| w < width)) else {
                continue;
            };
            let x = image * conv.channels + filter / filters * channels + channel;
            let y = image * conv.filters + filter;
            let weight = ((filter * channels + channel) * conv.kernel[0] + i) * conv.kernel[1] + j;
            visit([(x * height + h) * width + w, weight, (y * rows + p) * columns + q]);
        }
    }
}

fn indices(lengths: [usize; 5]) -> impl Iterator<Item = (usize, usize, usize, usize, usize)> {
    (0..lengths.iter().product()).map(move |mut at| {
        let mut next = |length: usize| {
            let index = at % length;
            at /= length;
            index
        };
        let [e, d, c, b, a] = [4, 3, 2, 1, 0].map(|axis: usize| next(lengths[axis]));
        (a, b, c, d, e)
    })
}

fn close(found: &[f32], expected: &[f64], what: &str) {
    let scale = expected.iter().fold(1.0f64, |largest, value| largest.max(value.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        assert!(error < 2e-6 * scale, "{what}, value {at}: {found}, expected {expected}");
    }
}

fn check(
    is_depthwise: bool,
    [images, channels, filters, groups]: [usize; 4],
    input: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
    pads: [usize; 2],
    dilations: [usize; 2],
) {
    let output =
        [0, 1].map(|a| (input[a] + 2 * pads[a] - (kernel[a] - 1) * dilations[a] - 1) / strides[a] + 1);
    let conv = Conv { images, channels, filters, groups, input, output, kernel, strides, pads, dilations };
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut draw = |len: usize| -> Vec<f32> { (0..len).map(|_| random.random::<f32>() - 0.5).collect() };
    let x = draw(images * channels * input[0] * input[1]);
    let dy = draw(images * filters * output[0] * output[1]);
    let (weights, bias) = (draw(filters * channels / groups * kernel[0] * kernel[1]), draw(filters));

    let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; weights.len()]);
    for (plane, y) in y.chunks_exact_mut(output[0] * output[1]).enumerate() {
        y.fill(f64::from(bias[plane % filters]));
    }
    products(&conv, |[at, weight, to]| {
        y[to] += f64::from(x[at]) * f64::from(weights[weight]);
        dx[at] += f64::from(dy[to]) * f64::from(weights[weight]);
        dw[weight] += f64::from(x[at]) * f64::from(dy[to]);
    });
    let what = format!("{conv:?}");
    let (mut found_y, mut found_dx) = (vec![f32::NAN; y.len()], vec![f32::NAN; x.len()]);
    let mut found_dw = vec![f32::NAN; weights.len()];
    if is_depthwise {
        let conv = Depthwise { images, channels, input, output, kernel, strides, pads, dilations };
        conv.forward(&x, &weights, Some(&bias), &mut found_y, &Alone(1));
        conv.data_gradient(&dy, &weights, &mut found_dx, &Alone(1));
        conv.weight_gradient(&x, &dy, &mut found_dw, &Alone(1));
    } else {
        conv.forward(&x, &weights, Some(&bias), &mut found_y, &Alone(1));
        conv.data_gradient(&dy, &weights, &mut found_dx, &Alone(1));
        conv.weight_gradient(&x, &dy, &mut found_dw, &Alone(1));
    }
    close(&found_y, &y, &what);
    close(&found_dx, &dx, &what);
    close(&found_dw, &dw, &what);
}

#[test]
fn convolutions_and_gradients_agree_with_sums_over_all_products_for_any_geometry() {
    check(false, [2, 3, 5, 1], [7, 6], [3, 3], [1, 1], [1, 1], [1, 1]);
    check(false, [3, 13, 25, 1], [4, 4], [3, 3], [1, 1], [1, 1], [1, 1]);
    check(false, [2, 4, 14, 2], [9, 11], [3, 3], [2, 2], [1, 1], [1, 1]);
    check(false, [2, 3, 4, 1], [23, 20], [7, 7], [2, 2], [3, 3], [1, 1]);
    check(false, [1, 3, 4, 1], [23, 20], [5, 4], [4, 3], [2, 0], [1, 1]);
    check(false, [2, 6, 6, 3], [10, 9], [3, 2], [1, 2], [2, 1], [2, 3]);
    check(false, [3, 2, 3, 1], [1, 1], [3, 3], [1, 1], [1, 1], [1, 1]);
    check(false, [2, 5, 7, 1], [6, 5], [1, 1], [1, 1], [0, 0], [1, 1]);
    // Elements of the input that no window has; padding beyond the kernel's reach.
    check(false, [2, 5, 7, 1], [6, 5], [1, 1], [2, 3], [0, 0], [1, 1]);
    check(false, [1, 2, 2, 1], [5, 4], [2, 2], [3, 4], [2, 3], [1, 1]);
    // A stride along an axis of length 1.
    check(false, [3, 11, 6, 1], [25, 1], [3, 1], [1, 2], [2, 0], [1, 1]);
    // An inner dimension of several blocks, and many positions.
    check(false, [1, 90, 13, 1], [5, 5], [3, 3], [1, 1], [1, 1], [1, 1]);
    check(false, [2, 2, 3, 1], [40, 37], [3, 3], [1, 1], [1, 1], [1, 1]);
    // Several panels of filters and of channels, whose widths differ, in one group and in several.
    check(false, [2, 70, 145, 1], [5, 3], [3, 3], [1, 1], [1, 1], [1, 1]);
    check(false, [2, 140, 134, 2], [6, 5], [3, 2], [2, 2], [1, 1], [1, 1]);
}

#[test]
fn convolutions_of_random_geometry_agree_with_sums_over_all_products() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut draw = |from: usize, to: usize| random.random_range(from..=to);
    for case in 0..200 {
        let groups = [1, 1, 1, 2, 3, 5][draw(0, 5)];
        // Some have several panels of filters and of channels.
        let is_large = case % 10 == 0;
        let (channels, filters) =
            if is_large { (draw(1, 90), draw(1, 150)) } else { (draw(1, 12), draw(1, 40)) };
        let [kernel, dilations, strides, pads] =
            [(1, 5), (1, 3), (1, 4), (0, 4)].map(|(from, to)| [draw(from, to), draw(from, to)]);
        let input = [0, 1].map(|a| {
            let reach = (kernel[a] - 1) * dilations[a] + 1;
            draw(1, if is_large { 9 } else { 30 }).max(reach.saturating_sub(2 * pads[a]))
        });
        let sizes = [draw(1, 4), channels * groups, filters * groups, groups];
        check(false, sizes, input, kernel, strides, pads, dilations);
    }
}

#[test]
fn depthwise_ones_agree_with_sums_over_all_products_for_any_geometry() {
    check(true, [2, 16, 16, 16], [7, 7], [3, 3], [1, 1], [1, 1], [1, 1]);
    check(true, [5, 20, 20, 20], [9, 8], [3, 3], [2, 2], [1, 1], [1, 1]);
    check(true, [1, 3, 3, 3], [12, 17], [5, 5], [1, 1], [2, 2], [1, 1]);
    check(true, [2, 32, 32, 32], [10, 11], [5, 5], [2, 2], [2, 2], [1, 1]);
    check(true, [1, 17, 17, 17], [8, 9], [7, 7], [1, 1], [3, 3], [1, 1]);
    check(true, [2, 16, 16, 16], [11, 9], [3, 2], [3, 2], [2, 1], [2, 3]);
    check(true, [3, 1, 1, 1], [1, 1], [3, 3], [1, 1], [1, 1], [1, 1]);
    check(true, [1, 16, 16, 16], [6, 5], [1, 1], [1, 1], [0, 0], [1, 1]);
    // Padding beyond the kernel's reach, and rows and columns that no position meets.
    check(true, [1, 16, 16, 16], [5, 4], [2, 2], [3, 4], [2, 3], [1, 1]);
    // Several bands.
    check(true, [1, 16, 16, 16], [150, 90], [3, 3], [1, 1], [1, 1], [1, 1]);
    check(true, [1, 16, 16, 16], [150, 91], [3, 3], [2, 2], [0, 1], [1, 1]);
}
