//! Updates against values of PyTorch 2.15: its optimizers for Nesterov, AdamW and RMSprop, and the formulas
//! of timm over its tensors for LARS and LAMB.

use fovea_runtime::testing::{self, Data};

use super::*;

const FIRST: [f32; 4] = [0.5, -1.25, 2.0, 0.0625];
const DECAYING: ParameterGroup = ParameterGroup { learning_rate_factor: 2.0, weight_decay: 0.1 };
const PLAIN: ParameterGroup = ParameterGroup { learning_rate_factor: 2.0, weight_decay: 0.0 };

/// The gradients of a step; every third is four times as large.
fn gradients(step: u64) -> [f64; 4] {
    let size = if step.is_multiple_of(3) { 2.0 } else { 0.5 };
    [0.0, 1.0, 2.0, 3.0].map(|i| f64::from(((1.7 * step as f64 + 2.3 * i).sin() * size) as f32))
}

/// An update whose rate, times the groups' factor, is 0.01 at first and 5 % of that more in each step.
fn update(step: u64) -> Update {
    Update::new(0.005 * (1.0 + 0.05 * step as f64), step)
}

/// Weights and slots after 20 steps in plain Rust.
fn by_steps(optimizer: &dyn Optimizer, group: &ParameterGroup) -> Vec<Vec<f32>> {
    let (mut weights, mut slots) = (FIRST, vec![vec![0.0; 4]; optimizer.slots().len()]);
    for step in 0..20 {
        let values = optimizer.values(group, &update(step));
        optimizer.step(&values, &mut weights, &mut slots, &gradients(step));
    }
    [vec![weights.to_vec()], slots].concat()
}

/// Weights and slots after 20 runs of the graph.
fn by_graph(optimizer: &dyn Optimizer, group: &ParameterGroup) -> Vec<Vec<f32>> {
    let mut session = testing::session(&update_graph(optimizer).unwrap().to_bytes());
    let inputs: Vec<_> = optimizer.slots().iter().map(|slot| names::slot_input(slot)).collect();
    let (mut weights, mut slots) = (FIRST.to_vec(), vec![vec![0.0; 4]; inputs.len()]);
    for step in 0..20 {
        let list = |values: &[f32]| Data::F32(values.to_vec());
        let given = gradients(step).map(|gradient| gradient as f32);
        let mut feeds: Vec<(&str, &[usize], Data)> =
            vec![(names::WEIGHTS, &[4], list(&weights)), (names::GRADIENTS, &[4], list(&given))];
        feeds.extend(inputs.iter().zip(&slots).map(|(name, slot)| (name.as_str(), &[4][..], list(slot))));
        let values = optimizer.values(group, &update(step));
        let named = optimizer.hyperparameters().iter().zip(values);
        feeds.extend(named.map(|(name, value)| (*name, &[][..], Data::F32(vec![value as f32]))));
        let new = testing::run(&mut session, &feeds);
        let narrow = |name: &str| new[name].iter().map(|&value| value as f32).collect::<Vec<_>>();
        weights = narrow(names::NEW_WEIGHTS);
        slots = optimizer.slots().iter().map(|slot| narrow(&names::slot_output(slot))).collect();
    }
    [vec![weights], slots].concat()
}

fn check(optimizer: &dyn Optimizer, group: &ParameterGroup, expected: &[[f64; 4]]) {
    for (by, found) in [("steps", by_steps(optimizer, group)), ("graph", by_graph(optimizer, group))] {
        assert_eq!(found.len(), expected.len(), "{optimizer:?}");
        for (found, expected) in found.iter().zip(expected) {
            let size = expected.iter().fold(0.0f64, |most, value| most.max(value.abs()));
            for (a, b) in found.iter().zip(expected) {
                let difference = (f64::from(*a) - b).abs() / size;
                assert!(difference < 1e-6, "{optimizer:?} by {by}: {found:?}, expected {expected:?}");
            }
        }
    }
}

#[test]
fn nesterovs_momentum_is_that_of_pytorch() {
    let expected = [
        [0.442_546_07, -1.148_127_2, 1.762_563_1, -0.004_821_140_8],
        [0.323_691_64, 0.347_122_04, -0.125_825_9, 0.990_191_04],
    ];
    check(&Nesterov { momentum: 0.9 }, &DECAYING, &expected);
}

#[test]
fn adamw_is_that_of_pytorch() {
    let expected = [
        [0.492_915_24, -1.253_501_4, 1.977_242, 0.041_688_405],
        [-0.012_701_651, 0.141_666_52, -0.176_076_34, 0.092_964_37],
        [0.014_187_259, 0.016_890_407, 0.016_436_286, 0.013_835],
    ];
    check(&AdamW::new([0.9, 0.999], 1e-8), &DECAYING, &expected);
}

#[test]
fn rmsprop_is_that_of_pytorch() {
    let expected = [
        [0.386_534_07, -1.235_690_1, 1.944_069_5, 0.002_474_714_5],
        [0.630_708_9, 0.749_494_43, 0.644_852_16, 0.559_962_57],
        [-0.276_265_8, 0.740_156_7, -0.657_701_13, 0.412_079_3],
    ];
    check(&RmsProp { momentum: 0.5, alpha: 0.9, epsilon: 1e-3 }, &DECAYING, &expected);
}

#[test]
fn lars_has_a_rate_for_the_layer_if_it_decays() {
    let lars = Lars { momentum: 0.9, trust_coefficient: 0.02, epsilon: 1e-8 };
    let expected = [
        [0.495_487_96, -1.241_848_8, 1.987_533_2, 0.060_127_44],
        [0.020_607_166, -0.026_559_861, 0.043_154_165, 0.019_297_462],
    ];
    check(&lars, &DECAYING, &expected);
    let expected = [
        [0.549_972_77, -1.384_461_3, 2.129_204_3, 0.024_790_51],
        [-0.127_016_51, 1.416_665, -1.760_763_2, 0.929_643_7],
    ];
    check(&lars, &PLAIN, &expected);
}

#[test]
fn lamb_has_a_rate_for_the_layer_if_it_decays() {
    let lamb = Lamb::new([0.9, 0.999], 1e-6);
    let means = [
        [-0.012_701_651, 0.141_666_52, -0.176_076_34, 0.092_964_37],
        [0.014_187_259, 0.016_890_407, 0.016_436_286, 0.013_835],
    ];
    let weights = [0.478_412_9, -1.242_692_2, 1.848_133_1, -0.039_218_377];
    check(&lamb, &DECAYING, &[weights, means[0], means[1]]);
    let weights = [0.507_698_36, -1.290_852_7, 2.036_205_5, 0.043_123_376];
    check(&lamb, &PLAIN, &[weights, means[0], means[1]]);
}

#[test]
fn weights_and_gradients_of_zeros_stay_finite() {
    let all: [&dyn Optimizer; 5] = [
        &Nesterov { momentum: 0.9 },
        &AdamW::new([0.9, 0.999], 1e-8),
        &RmsProp { momentum: 0.9, alpha: 0.9, epsilon: 1e-8 },
        &Lars { momentum: 0.9, trust_coefficient: 0.001, epsilon: 1e-8 },
        &Lamb::new([0.9, 0.999], 1e-6),
    ];
    for optimizer in all {
        let values = optimizer.values(&DECAYING, &update(0));
        let (mut weights, mut slots) = ([0.0], vec![vec![0.0]; optimizer.slots().len()]);
        optimizer.step(&values, &mut weights, &mut slots, &[0.0]);
        assert_eq!(weights, [0.0], "{optimizer:?}");
        let mut session = testing::session(&update_graph(optimizer).unwrap().to_bytes());
        let inputs: Vec<_> = optimizer.slots().iter().map(|slot| names::slot_input(slot)).collect();
        let zeros = || Data::F32(vec![0.0; 2]);
        let mut feeds: Vec<(&str, &[usize], Data)> =
            vec![(names::WEIGHTS, &[2], zeros()), (names::GRADIENTS, &[2], zeros())];
        feeds.extend(inputs.iter().map(|name| (name.as_str(), &[2][..], zeros())));
        let named = optimizer.hyperparameters().iter().zip(values);
        feeds.extend(named.map(|(name, value)| (*name, &[][..], Data::F32(vec![value as f32]))));
        assert_eq!(testing::run(&mut session, &feeds)[names::NEW_WEIGHTS], [0.0; 2], "{optimizer:?}");
    }
}

#[test]
fn gradients_of_several_micro_batches_are_added_up() {
    let inputs: [(&str, &[usize], Data); 2] =
        [(names::SUM, &[2], Data::F32(vec![1.0, 2.0])), (names::GRADIENTS, &[2], Data::F32(vec![3.0, 5.0]))];
    let graph = accumulate_graph().unwrap();
    let sum = testing::run(&mut testing::session(&graph.to_bytes()), &inputs);
    assert_eq!(sum[names::NEW_SUM], [4.0, 7.0]);
}
