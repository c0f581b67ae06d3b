//! Spatial pooling of images: MaxPool, AveragePool, GlobalAveragePool.

use super::conv::Conv;
use super::pool_nd::{
    AVERAGE_POOL, MAX_POOL, MAX_POOL_GRADIENT, OWN_MAX_POOL, import_average_pool, import_global_lp_pool,
    import_global_max_pool, import_lp_pool, import_max_pool,
};
use crate::builder::Builder;
use crate::error::Result;
use crate::import::translation::Family;
use crate::node::{Attributes, Tensor, int, ints};
use crate::operator::{FLOATS, Operator};

/// The operators of this file and of `pool_nd.rs`, each with its import.
pub(super) const OPERATORS: Family = &[
    (&MAX_POOL, Some(import_max_pool)),
    (&OWN_MAX_POOL, None),
    (&MAX_POOL_GRADIENT, None),
    (&AVERAGE_POOL, Some(import_average_pool)),
    (&LP_POOL, Some(import_lp_pool)),
    (&GLOBAL_MAX_POOL, Some(import_global_max_pool)),
    (&GLOBAL_LP_POOL, Some(import_global_lp_pool)),
    (&GLOBAL_AVERAGE_POOL, Some(|file, node| file.unary(node, Builder::global_average_pool))),
];
static LP_POOL: Operator = Operator::decomposed("LpPool", 1);
static GLOBAL_LP_POOL: Operator = Operator::decomposed("GlobalLpPool", 1);
static GLOBAL_MAX_POOL: Operator = Operator::decomposed("GlobalMaxPool", 1);
static GLOBAL_AVERAGE_POOL: Operator = Operator::new("GlobalAveragePool", 1).on_cuda(FLOATS);

/// Window of a pooling operator, the same along both axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Side of the window.
    pub kernel: usize,
    /// Distance between windows; smaller than the side if windows overlap.
    pub stride: usize,
    /// Padding on each side; it is never the maximum and does not count in an average.
    pub padding: usize,
    /// Whether the last window may extend past the operand (ONNX's `ceil_mode`); requires a padding of 0.
    pub ceil: bool,
}

impl Pool {
    /// Number of windows along a side of `length`, into which at least one fits.
    fn positions(&self, length: usize) -> usize {
        let room = length + 2 * self.padding - self.kernel;
        1 + if self.ceil { room.div_ceil(self.stride) } else { room / self.stride }
    }

    /// Number of the operand's values in window `at` along a side of `length`.
    fn counted(&self, length: usize, at: usize) -> usize {
        let start = at * self.stride;
        let end = (start + self.kernel).min(length + self.padding);
        end - start.max(self.padding)
    }
}

impl Builder {
    /// Maximum over windows of `x` `[N,C,H,W]`; the first of equal maxima gets the gradient.
    ///
    /// # Errors
    /// `x` is not floating-point with four axes, or the window does not fit.
    pub fn max_pool(&mut self, x: Tensor, pool: Pool) -> Result<Tensor> {
        let (shape, attributes) = self.windows(&MAX_POOL, x, pool)?;
        if let Some(y) =
            self.own_max_pool(x, &shape, [&[pool.kernel; 2], &[pool.stride; 2], &[pool.padding; 2]])
        {
            return Ok(y);
        }
        Ok(self.max_pool_of(x, shape, attributes)[0])
    }

    /// Mean over windows of `x` `[N,C,H,W]`; padding does not count.
    ///
    /// # Errors
    /// `x` is not floating-point with four axes, or the window does not fit.
    pub fn average_pool(&mut self, x: Tensor, pool: Pool) -> Result<Tensor> {
        let (shape, attributes) = self.windows(&AVERAGE_POOL, x, pool)?;
        if pool.ceil {
            return self.average_pool_with_ceil(x, pool, [shape[2], shape[3]]);
        }
        let ty = self.ty(x).clone();
        let y = self.emit(&AVERAGE_POOL, &[x], attributes, ty.reshaped(shape.clone()));
        self.record(&[x], &[y], move |g, up| {
            let (images, height, width) = (shape[0] * shape[1], shape[2], shape[3]);
            let shares = g.window_counts(x, pool, [height, width], |count| 1.0 / count);
            let dy = g.reshape(up.single(), &[images, 1, height, width])?;
            let dy = g.mul(dy, shares)?;
            let window = [1, 1, pool.kernel, pool.kernel];
            let ones = g.floats(ty.reshaped(window), &vec![1.0; pool.kernel * pool.kernel]);
            let conv = Conv::new(pool.stride, pool.padding);
            let dx = g.conv_data_gradient(dy, ones, conv, &[images, 1, ty.shape[2], ty.shape[3]])?;
            Ok(vec![Some(g.reshape(dx, &ty.shape)?)])
        });
        Ok(y)
    }

    /// Mean over windows that may extend past `x`, with an output of `out`: zeros are appended, and the mean
    /// over whole windows is corrected for them, because providers count the elements of such windows
    /// differently.
    fn average_pool_with_ceil(&mut self, x: Tensor, pool: Pool, out: [usize; 2]) -> Result<Tensor> {
        let whole = Pool { ceil: false, ..pool };
        let mut after = [0; 4];
        for axis in 0..2 {
            let end = (out[axis] - 1) * pool.stride + pool.kernel;
            after[2 + axis] = end.saturating_sub(self.shape(x)[2 + axis]);
        }
        let whole_count = (pool.kernel * pool.kernel) as f64;
        let shares = self.window_counts(x, pool, out, |count| whole_count / count);
        let padded = self.pad(x, &[0; 4], &after)?;
        let means = self.average_pool(padded, whole)?;
        self.mul(means, shares)
    }

    /// `factor` times the sum over windows of `x` `[N,C,H,W]`.
    pub(crate) fn window_sum(&mut self, x: Tensor, pool: Pool, factor: f64) -> Result<Tensor> {
        let means = self.average_pool(x, pool)?;
        let out = [self.shape(means)[2], self.shape(means)[3]];
        let counts = self.window_counts(x, pool, out, |count| factor * count);
        self.mul(means, counts)
    }

    /// `map` of the number of values of `x` in each window, `[1,1,P,Q]`.
    fn window_counts(
        &mut self,
        x: Tensor,
        pool: Pool,
        [height, width]: [usize; 2],
        map: impl Fn(f64) -> f64,
    ) -> Tensor {
        let ty = self.ty(x).clone();
        let count = |i: usize| pool.counted(ty.shape[2], i / width) * pool.counted(ty.shape[3], i % width);
        let values: Vec<f64> = (0..height * width).map(|i| map(count(i) as f64)).collect();
        self.floats(ty.reshaped([1, 1, height, width]), &values)
    }

    /// Mean over each channel: `[N,C,H,W]` → `[N,C,1,1]`, and the same for any number of spatial axes.
    ///
    /// # Errors
    /// `x` is not floating-point with three axes or more.
    pub fn global_average_pool(&mut self, x: Tensor) -> Result<Tensor> {
        let ty = self.ty(x).clone();
        self.floating(GLOBAL_AVERAGE_POOL.name, x)?;
        if ty.rank() < 3 {
            let reason = "the operand must have the axes [N,C,…]";
            return Err(self.mismatch(GLOBAL_AVERAGE_POOL.name, &[x], reason));
        }
        let shape: Vec<usize> = (0..ty.rank()).map(|a| if a < 2 { ty.shape[a] } else { 1 }).collect();
        let y = self.emit(&GLOBAL_AVERAGE_POOL, &[x], vec![], ty.reshaped(shape));
        self.record(&[x], &[y], move |g, up| {
            let count: usize = ty.shape[2..].iter().product();
            let dy = g.scale(up.single(), 1.0 / count as f64)?;
            Ok(vec![Some(g.expand(dy, &ty.shape)?)])
        });
        Ok(y)
    }

    /// Output shape of pooling `x`, and the attributes of the operator.
    fn windows(
        &self,
        operator: &'static Operator,
        x: Tensor,
        pool: Pool,
    ) -> Result<(Vec<usize>, Attributes)> {
        self.images(operator.name, x)?;
        let Pool { kernel, stride, padding, ceil } = pool;
        let mut shape = self.shape(x).to_vec();
        let fits = kernel > 0
            && stride > 0
            && padding < kernel
            && !(ceil && (padding > 0 || stride > kernel))
            && shape[2..].iter().all(|&l| l + 2 * padding >= kernel);
        if !fits {
            let reason = format!(
                "{pool:?} must fit into the operand, with a padding smaller than the kernel, and 0 with ceil"
            );
            return Err(self.mismatch(operator.name, &[x], reason));
        }
        for length in &mut shape[2..] {
            *length = pool.positions(*length);
        }
        let mut attributes = vec![
            ints("kernel_shape", &[kernel; 2]),
            ints("strides", &[stride; 2]),
            ints("pads", &[padding; 4]),
        ];
        if ceil {
            attributes.push(int("ceil_mode", 1));
        }
        Ok((shape, attributes))
    }

    /// Checks that the operand is floating-point `[N,C,H,W]`.
    pub(crate) fn images(&self, operator: &'static str, x: Tensor) -> Result<()> {
        self.floating(operator, x)?;
        if self.shape(x).len() != 4 {
            return Err(self.mismatch(operator, &[x], "the operand must have the axes [N,C,H,W]"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Pool;
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, Lowering, Target, TensorType};

    const fn pool(kernel: usize, stride: usize, padding: usize) -> Pool {
        Pool { kernel, stride, padding, ceil: false }
    }

    const fn ceil(kernel: usize, stride: usize) -> Pool {
        Pool { ceil: true, ..pool(kernel, stride, 0) }
    }

    const WINDOWS: [Pool; 6] =
        [pool(2, 2, 0), pool(3, 2, 0), pool(3, 1, 1), pool(3, 2, 1), ceil(3, 2), ceil(2, 2)];

    #[test]
    fn gradients_of_pooling_agree_with_finite_differences() {
        for pool in WINDOWS {
            check_gradients(Case::f64(&format!("MaxPool {pool:?}")).distinct([2, 3, 7, 6]), |g, x| {
                g.max_pool(x[0], pool)
            });
            check_gradients(Case::f32(&format!("AveragePool {pool:?}")).normal([2, 3, 7, 6]), |g, x| {
                g.average_pool(x[0], pool)
            });
        }
        check_gradients(Case::f32("GlobalAveragePool").normal([2, 3, 4, 5]), |g, x| {
            g.global_average_pool(x[0])
        });
    }

    #[test]
    fn the_first_of_equal_maxima_gets_the_whole_gradient() {
        let mut g = Builder::new("ties", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([1, 1, 2, 2])).unwrap();
        let y = g.max_pool(x, pool(2, 2, 0)).unwrap();
        let loss = g.sum(y).unwrap();
        let dx = g.grad(loss, &[x]).unwrap()[0];
        g.output("dx", dx).unwrap();
        let dx = crate::gradcheck::run_f32(&g.finish(), &[("x", &[1.0, 1.0, 1.0, 1.0])]);
        assert_eq!(dx["dx"], [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn averages_do_not_count_the_padding() {
        let case = Case::f32("AveragePool").values([1, 1, 2, 2], vec![1.0, 2.0, 3.0, 4.0]);
        let y = evaluate(case, |g, x| g.average_pool(x[0], pool(3, 2, 1)));
        assert_eq!(y, [2.5]);
    }

    #[test]
    fn a_window_past_the_end_counts_only_what_is_inside() {
        let case = || Case::f32("pool").values([1, 1, 2, 4], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(evaluate(case(), |g, x| g.max_pool(x[0], ceil(2, 2))), [6.0, 8.0]);
        let case = || Case::f32("pool").values([1, 1, 3, 4], (1..=12).map(f64::from).collect());
        assert_eq!(evaluate(case(), |g, x| g.max_pool(x[0], ceil(3, 2))), [11.0, 12.0]);
        assert_eq!(evaluate(case(), |g, x| g.average_pool(x[0], ceil(3, 2))), [6.0, 7.5]);
        let negative = Case::f32("pool").values([1, 1, 2, 3], vec![-1.0; 6]);
        assert_eq!(evaluate(negative, |g, x| g.max_pool(x[0], ceil(2, 2))), [-1.0, -1.0]);
    }

    #[test]
    fn windows_that_do_not_fit_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([1, 1, 2, 2])).unwrap();
        assert!(g.max_pool(x, pool(3, 1, 0)).is_err());
        assert!(g.average_pool(x, pool(2, 0, 0)).is_err());
        assert!(g.max_pool(x, pool(1, 1, 1)).is_err());
        assert!(g.max_pool(x, ceil(3, 1)).is_err());
        assert!(g.max_pool(x, ceil(1, 2)).is_err());
        assert!(g.average_pool(x, Pool { padding: 1, ..ceil(2, 2) }).is_err());
    }
}
