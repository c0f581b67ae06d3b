//! Pools of any geometry.

use super::PoolNd;
use crate::gradcheck::{Case, check_gradients, evaluate, gradient};
use crate::ops::windows::Windows;
use crate::{Builder, Lowering, Target, TensorType};

fn pool(kernel: &[usize], strides: &[usize], before: &[usize], after: &[usize]) -> PoolNd {
    let [kernel, strides, before, after] = [kernel, strides, before, after].map(<[usize]>::to_vec);
    let dilations = vec![1; kernel.len()];
    PoolNd { kernel, windows: Windows { strides, before, after, dilations }, ceil: false }
}

fn ceil(pool: PoolNd) -> PoolNd {
    PoolNd { ceil: true, ..pool }
}

fn dilated(mut pool: PoolNd, dilations: &[usize]) -> PoolNd {
    pool.windows.dilations = dilations.to_vec();
    pool
}

#[test]
fn own_operators_find_the_same_maxima_and_gradients() {
    let standard = Lowering::training(Target::Cpu).of_files(true);
    let own = Lowering { own_operators: true, ..standard };
    for (pool, shape) in [
        (pool(&[3, 3], &[2, 2], &[1, 1], &[1, 1]), [2, 3, 8, 7]),
        (pool(&[2, 3], &[2, 1], &[0, 1], &[1, 0]), [1, 20, 5, 6]),
        (ceil(pool(&[3, 3], &[2, 2], &[0, 0], &[0, 0])), [2, 2, 6, 8]),
    ] {
        let case = |lowering| Case::f32("MaxPool, own").distinct(shape).lowering(lowering);
        // Of a sum in which every maximum has another weight.
        let slopes = [own, standard].map(|form| {
            gradient(case(form), |g, x| {
                let y = g.max_pool_nd(x[0], &pool)?;
                g.mul(y, y)
            })
        });
        assert_eq!(slopes[0], slopes[1], "{pool:?}");
        let results = [own, standard].map(|form| evaluate(case(form), |g, x| g.max_pool_nd(x[0], &pool)));
        assert_eq!(results[0], results[1], "{pool:?}");
    }
}

#[test]
fn gradients_of_pools_of_any_geometry_agree_with_finite_differences() {
    let cases: [(PoolNd, &[usize]); 11] = [
        (pool(&[3, 2], &[2, 1], &[0, 0], &[0, 0]), &[2, 2, 6, 5]),
        (pool(&[3, 3], &[2, 2], &[0, 1], &[1, 0]), &[2, 2, 6, 5]),
        (ceil(pool(&[3, 3], &[2, 2], &[1, 1], &[1, 1])), &[2, 2, 6, 5]),
        (ceil(pool(&[3, 2], &[2, 2], &[0, 0], &[0, 0])), &[1, 2, 6, 5]),
        (ceil(pool(&[2, 2], &[3, 3], &[0, 0], &[0, 0])), &[1, 2, 6, 5]),
        (pool(&[2, 3], &[2, 3], &[0, 0], &[0, 0]), &[2, 2, 4, 6]),
        (dilated(pool(&[2, 2], &[1, 2], &[1, 0], &[1, 0]), &[2, 3]), &[2, 2, 6, 7]),
        (pool(&[1, 2], &[1, 1], &[1, 2], &[2, 1]), &[2, 2, 3, 3]),
        (pool(&[3], &[2], &[1], &[1]), &[2, 3, 7]),
        (pool(&[2, 3, 2], &[1, 2, 2], &[0, 1, 0], &[0, 1, 1]), &[1, 2, 3, 5, 4]),
        (ceil(pool(&[2, 2, 2], &[2, 2, 2], &[0; 3], &[0; 3])), &[1, 2, 3, 4, 5]),
    ];
    for (pool, shape) in cases {
        check_gradients(Case::f64(&format!("MaxPool {pool:?}")).distinct(shape), |g, x| {
            // Windows of padding alone would drown the others in the differences.
            let y = g.max_pool_nd(x[0], &pool)?;
            g.clip(y, -10.0, 10.0)
        });
        for counts in [false, true] {
            check_gradients(Case::f32(&format!("AveragePool {pool:?}")).normal(shape), |g, x| {
                g.average_pool_nd(x[0], &pool, counts)
            });
        }
        for p in [1, 2, 3] {
            let case = Case::f32(&format!("LpPool {p} {pool:?}")).positive(shape);
            check_gradients(case, |g, x| {
                let signed = g.neg(x[0])?;
                g.lp_pool(signed, &pool, p)
            });
        }
    }
}

#[test]
fn the_last_window_starts_inside_and_averages_count_as_in_pytorch() {
    let line =
        |values: usize| Case::f32("pool").values([1, 1, values], (1..=values).map(|v| v as f64).collect());
    let average =
        |pool: &PoolNd, values, counts| evaluate(line(values), |g, x| g.average_pool_nd(x[0], pool, counts));
    let max = |pool: &PoolNd, values| evaluate(line(values), |g, x| g.max_pool_nd(x[0], pool));
    // F.avg_pool1d(x, 3, 2, 1, ceil_mode=True, count_include_pad=…) of 1, 2, … 6: the last window holds
    // one value, and a padding that counts.
    let overlapping = ceil(pool(&[3], &[2], &[1], &[1]));
    assert_eq!(average(&overlapping, 6, true), [1.0, 3.0, 5.0, 3.0]);
    assert_eq!(average(&overlapping, 6, false), [1.5, 3.0, 5.0, 6.0]);
    assert_eq!(max(&overlapping, 6), [2.0, 4.0, 6.0, 6.0]);
    // F.avg_pool1d(x, 2, 3, 1, ceil_mode=True) of 1 … 6: a fourth window would start in the padding.
    let apart = ceil(pool(&[2], &[3], &[1], &[1]));
    assert_eq!(average(&apart, 6, true), [0.5, 3.5, 3.0]);
    assert_eq!(average(&apart, 5, true), [0.5, 3.5]);
    assert_eq!(max(&apart, 5), [1.0, 4.0]);
    // F.max_pool1d(x, 2, 1, dilation=2), and with a padding of 1.
    assert_eq!(max(&dilated(pool(&[2], &[1], &[0], &[0]), &[2]), 5), [3.0, 4.0, 5.0]);
    assert_eq!(max(&dilated(pool(&[2], &[1], &[1], &[1]), &[2]), 4), [2.0, 3.0, 4.0, 3.0]);
    // F.lp_pool1d(x, 2.0, 2) of 1 … 4.
    let root = evaluate(line(4), |g, x| g.lp_pool(x[0], &pool(&[2], &[2], &[0], &[0]), 2));
    assert!((root[0] - 5f64.sqrt()).abs() < 1e-6 && (root[1] - 5.0).abs() < 1e-6, "{root:?}");
}

#[test]
fn negative_values_are_higher_than_the_padding() {
    let case = Case::f32("MaxPool").values([1, 1, 2], vec![-5.0, -7.0]);
    let uneven = pool(&[2], &[1], &[0], &[1]);
    assert_eq!(evaluate(case, |g, x| g.max_pool_nd(x[0], &uneven)), [-5.0, -7.0]);
}

#[test]
fn a_window_of_zeros_has_a_gradient_of_zeros_in_the_root_of_its_powers() {
    let mut g = Builder::new("zeros", Lowering::training(Target::Cpu));
    let x = g.input("x", TensorType::f32([1, 1, 4])).unwrap();
    let y = g.lp_pool(x, &pool(&[2], &[2], &[0], &[0]), 2).unwrap();
    let loss = g.sum(y).unwrap();
    let dx = g.grad(loss, &[x]).unwrap()[0];
    g.output("dx", dx).unwrap();
    let dx = crate::gradcheck::run_f32(&g.finish(), &[("x", &[0.0, 0.0, 3.0, 4.0])]).remove("dx").unwrap();
    assert_eq!(&dx[..2], [0.0, 0.0]);
    assert!((dx[2] - 0.6).abs() < 1e-6 && (dx[3] - 0.8).abs() < 1e-6, "{dx:?}");
}

#[test]
fn a_window_that_ends_behind_the_operand_has_what_there_is() {
    let mut wide = ceil(pool(&[9, 9], &[9, 9], &[0, 1], &[0, 1]));
    (0..2).for_each(|a| wide.shorten(a, 2));
    assert_eq!(wide.kernel, [2, 4]);
    let case = || Case::f32("AveragePool").values([1, 1, 2, 2], vec![1.0, 2.0, 3.0, 6.0]);
    assert_eq!(evaluate(case(), |g, x| g.average_pool_nd(x[0], &wide, false)), [3.0]);
    assert_eq!(evaluate(case(), |g, x| g.average_pool_nd(x[0], &wide, true)), [1.5]);
    assert_eq!(evaluate(case(), |g, x| g.max_pool_nd(x[0], &wide)), [6.0]);
    // Not one that is as long as two strides, nor without `ceil_mode`.
    for mut other in [ceil(pool(&[9], &[3], &[0], &[0])), pool(&[9], &[9], &[0], &[0])] {
        other.shorten(0, 2);
        assert_eq!(other.kernel, [9]);
    }
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    let mut g = Builder::new("test", Lowering::training(Target::Cpu));
    let x = g.input("x", TensorType::f32([1, 1, 4])).unwrap();
    let wide = pool(&[7], &[1], &[1], &[1]);
    let error = g.max_pool_nd(x, &wide).unwrap_err().to_string();
    assert!(error.contains("must fit into the padded operand"), "{error}");
    assert!(g.average_pool_nd(x, &wide, false).is_err());
    assert!(g.average_pool_nd(x, &pool(&[2, 2], &[1, 1], &[0; 2], &[0; 2]), false).is_err());
    assert!(g.lp_pool(x, &pool(&[2], &[1], &[0], &[0]), 0).is_err());
}
