//! Layers by their definitions, forward and backward next to each other, in f64.
//!
//! Activations are `[N,C,H,W]`; a fully connected layer is a convolution whose kernel is as large as its
//! input.

use ndarray::{Array4, Axis, Zip};

use crate::recipe::{Function, LrnLayer, LrnRegion, PoolLayer, PoolMode};

/// Activations or their gradients.
pub(super) type Activations = Array4<f64>;

/// Geometry of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
    pub groups: usize,
    /// Whether the last position may end beyond the input.
    pub ceil: bool,
}

impl Window {
    fn new(pool: &PoolLayer) -> Self {
        Self { kernel: pool.kernel, stride: pool.stride, pad: pool.pad, groups: 1, ceil: pool.ceil }
    }

    /// Positions along a side of `length` pixels.
    fn positions(self, length: usize) -> usize {
        let room = length + 2 * self.pad - self.kernel;
        1 + if self.ceil { room.div_ceil(self.stride) } else { room / self.stride }
    }

    /// A triple (p, i, h) for each output position p and kernel offset i that meets an input pixel h.
    fn pixels(self, length: usize) -> Vec<(usize, usize, usize)> {
        let mut met = Vec::new();
        for p in 0..self.positions(length) {
            for i in 0..self.kernel {
                // The padding shifts pixel 0 to position `pad`.
                if let Some(h) = (p * self.stride + i).checked_sub(self.pad).filter(|&h| h < length) {
                    met.push((p, i, h));
                }
            }
        }
        met
    }
}

/// Calls `visit` with the indices [n,o,p,q] of output, [n,c,h,w] of input and [o,c,i,j] of weights of every
/// product of a convolution.
fn products(
    [n, c, h, w]: [usize; 4],
    out: usize,
    window: Window,
    mut visit: impl FnMut([usize; 4], [usize; 4], [usize; 4]),
) {
    let (per_group_in, per_group_out) = (c / window.groups, out / window.groups);
    let (rows, columns) = (window.pixels(h), window.pixels(w));
    for image in 0..n {
        for o in 0..out {
            for channel in 0..per_group_in {
                let from = o / per_group_out * per_group_in + channel;
                for &(p, i, y) in &rows {
                    for &(q, j, x) in &columns {
                        visit([image, o, p, q], [image, from, y, x], [o, channel, i, j]);
                    }
                }
            }
        }
    }
}

fn shape_of(images: &Activations) -> [usize; 4] {
    let (n, c, h, w) = images.dim();
    [n, c, h, w]
}

/// y = w ∗ x + b, with w `[O,C/g,k,k]` and b `[O]`.
pub(super) fn conv(x: &Activations, w: &Activations, b: &[f64], window: Window) -> Activations {
    let [n, _, height, width] = shape_of(x);
    let out = w.dim().0;
    let mut y = Activations::zeros((n, out, window.positions(height), window.positions(width)));
    for (mut channel, &b) in y.axis_iter_mut(Axis(1)).zip(b) {
        channel.fill(b);
    }
    products(shape_of(x), out, window, |at, from, weight| y[at] += x[from] * w[weight]);
    y
}

/// Gradients of x, w and b.
pub(super) fn conv_backward(
    x: &Activations,
    w: &Activations,
    dy: &Activations,
    window: Window,
) -> (Activations, Activations, Vec<f64>) {
    let (mut dx, mut dw) = (Activations::zeros(x.dim()), Activations::zeros(w.dim()));
    products(shape_of(x), w.dim().0, window, |at, from, weight| {
        dx[from] += dy[at] * w[weight];
        dw[weight] += dy[at] * x[from];
    });
    (dx, dw, dy.axis_iter(Axis(1)).map(|channel| channel.sum()).collect())
}

/// y = w ∗ x + b with kernels w `[P,Q,k·k·C,O]` and biases b `[O,P,Q]` for every position.
pub(super) fn local(x: &Activations, w: &Activations, b: &[f64], window: Window) -> Activations {
    let [n, channels, ..] = shape_of(x);
    let (rows, columns, _, out) = w.dim();
    let mut y =
        Activations::from_shape_fn((n, out, rows, columns), |(_, o, p, q)| b[(o * rows + p) * columns + q]);
    products(shape_of(x), out, window, |at, from, weight| {
        y[at] += x[from] * w[at_place(at, weight, window.kernel, channels)];
    });
    y
}

/// Gradients of x, w and b of a locally connected layer.
pub(super) fn local_backward(
    x: &Activations,
    w: &Activations,
    dy: &Activations,
    window: Window,
) -> (Activations, Activations, Vec<f64>) {
    let channels = x.dim().1;
    let (mut dx, mut dw) = (Activations::zeros(x.dim()), Activations::zeros(w.dim()));
    products(shape_of(x), dy.dim().1, window, |at, from, weight| {
        let weight = at_place(at, weight, window.kernel, channels);
        dx[from] += dy[at] * w[weight];
        dw[weight] += dy[at] * x[from];
    });
    (dx, dw, dy.sum_axis(Axis(0)).into_iter().collect())
}

/// Index of the weight [o,c,i,j] of the kernel at the position of output [n,o,p,q].
fn at_place(
    [_, _, p, q]: [usize; 4],
    [o, c, i, j]: [usize; 4],
    kernel: usize,
    channels: usize,
) -> [usize; 4] {
    [p, q, (i * kernel + j) * channels + c, o]
}

pub(super) fn activation(function: Function, x: &Activations) -> Activations {
    x.mapv(|x| match function {
        Function::Relu => x.max(0.0),
        Function::Tanh => x.tanh(),
        Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
    })
}

/// The gradient of x from y = f(x).
pub(super) fn activation_backward(function: Function, y: &Activations, dy: &Activations) -> Activations {
    Zip::from(y).and(dy).map_collect(|&y, &dy| match function {
        Function::Relu if y > 0.0 => dy,
        Function::Relu => 0.0,
        Function::Tanh => dy * (1.0 - y * y),
        Function::Sigmoid => dy * y * (1.0 - y),
    })
}

/// s = k + α·Σ x² over the neighbours.
fn lrn_sums(lrn: &LrnLayer, x: &Activations) -> Activations {
    Activations::from_shape_fn(x.dim(), |(n, c, h, w)| {
        let sum: f64 = neighbours(lrn, [n, c, h, w], shape_of(x)).map(|at| x[at].powi(2)).sum();
        lrn.k + lrn.printed_alpha() * sum
    })
}

/// The positions that are summed over at a position.
fn neighbours(
    lrn: &LrnLayer,
    [n, c, h, w]: [usize; 4],
    shape: [usize; 4],
) -> impl Iterator<Item = [usize; 4]> {
    let half = lrn.size / 2;
    let around = |at: usize, length: usize| at.saturating_sub(half)..(at + half + 1).min(length);
    let (channels, rows, columns) = match lrn.region {
        LrnRegion::Channels => (around(c, shape[1]), h..h + 1, w..w + 1),
        LrnRegion::Pixels => (c..c + 1, around(h, shape[2]), around(w, shape[3])),
    };
    channels.flat_map(move |c| {
        let columns = columns.clone();
        rows.clone().flat_map(move |h| columns.clone().map(move |w| [n, c, h, w]))
    })
}

/// y = x / s^β.
pub(super) fn lrn(lrn: &LrnLayer, x: &Activations) -> Activations {
    Zip::from(x).and(&lrn_sums(lrn, x)).map_collect(|&x, &s| x / s.powf(lrn.beta))
}

/// dx = dy / s^β − 2αβ·x·Σ dy·x / s^(β+1), the sum over the neighbours.
pub(super) fn lrn_backward(lrn: &LrnLayer, x: &Activations, dy: &Activations) -> Activations {
    let s = lrn_sums(lrn, x);
    Activations::from_shape_fn(x.dim(), |(n, c, h, w)| {
        let at = [n, c, h, w];
        let through = |at: [usize; 4]| dy[at] * x[at] / s[at].powf(lrn.beta + 1.0);
        let others: f64 = neighbours(lrn, at, shape_of(x)).map(through).sum();
        dy[at] / s[at].powf(lrn.beta) - 2.0 * lrn.printed_alpha() * lrn.beta * x[at] * others
    })
}

/// Calls `visit` with each output index and the input indices of its window.
fn windows(pool: &PoolLayer, [n, c, h, w]: [usize; 4], mut visit: impl FnMut([usize; 4], &[[usize; 4]])) {
    let window = Window::new(pool);
    let (rows, columns) = (window.pixels(h), window.pixels(w));
    for (image, channel) in (0..n).flat_map(|image| (0..c).map(move |channel| (image, channel))) {
        for p in 0..window.positions(h) {
            for q in 0..window.positions(w) {
                let inside: Vec<_> = rows
                    .iter()
                    .filter(|row| row.0 == p)
                    .flat_map(|row| {
                        columns.iter().filter(|column| column.0 == q).map(|column| (row.2, column.2))
                    })
                    .map(|(y, x)| [image, channel, y, x])
                    .collect();
                visit([image, channel, p, q], &inside);
            }
        }
    }
}

pub(super) fn pool(pool: &PoolLayer, x: &Activations) -> Activations {
    let window = Window::new(pool);
    let [n, c, height, width] = shape_of(x);
    let mut y = Activations::zeros((n, c, window.positions(height), window.positions(width)));
    windows(pool, shape_of(x), |at, inside| {
        let values = inside.iter().map(|&from| x[from]);
        y[at] = match pool.mode {
            PoolMode::Max => values.fold(f64::NEG_INFINITY, f64::max),
            PoolMode::Avg => values.sum::<f64>() / inside.len() as f64,
        };
    });
    y
}

/// The gradient of x; the first of equal maxima gets it.
pub(super) fn pool_backward(
    pool: &PoolLayer,
    x: &Activations,
    y: &Activations,
    dy: &Activations,
) -> Activations {
    let mut dx = Activations::zeros(x.dim());
    windows(pool, shape_of(x), |at, inside| match pool.mode {
        PoolMode::Max => {
            if let Some(&winner) = inside.iter().find(|&&from| x[from] == y[at]) {
                dx[winner] += dy[at];
            }
        }
        PoolMode::Avg => {
            for &from in inside {
                dx[from] += dy[at] / inside.len() as f64;
            }
        }
    });
    dx
}
