//! Operators that ONNX Runtime runs on a GPU, and graphs that it can record.

use fovea_graph::{ADDRESSES_AS_ARGUMENTS, ElementType, Graph, Operator, TensorType};

/// Operators of `graph`, with the type of their data, for which no CUDA kernel is known.
pub(super) fn without_cuda_kernel(graph: &Graph) -> Vec<(&'static Operator, ElementType)> {
    let mut used = graph.operators();
    used.retain(|(operator, element)| !operator.cuda.contains(element));
    used
}

/// Whether a CUDA graph of `graph` computes the same at every replay.
///
/// Kernels that concatenate or split many or unequal pieces, and batched matrix products, read addresses from
/// a list that is copied from the host at every replay; in releases of ONNX Runtime without its change 32121
/// that host memory may have been overwritten by then.
pub(super) fn is_replayable(graph: &Graph) -> bool {
    let are_arguments = |pieces: &[&TensorType]| {
        pieces.len() <= ADDRESSES_AS_ARGUMENTS && pieces.iter().all(|piece| piece.shape == pieces[0].shape)
    };
    graph.nodes().all(|(operator, operands, results)| match operator.name {
        "Concat" => are_arguments(&operands),
        "Split" => are_arguments(&results),
        "MatMul" => operands.iter().all(|operand| operand.rank() <= 2),
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use fovea_graph::ops::Conv;
    use fovea_graph::{Builder, DOMAIN, Lowering, Result, Target, Tensor};
    use fovea_runtime::Device;

    use super::*;
    use crate::backend::{OrtOptions, Precision};
    use crate::models::{Classifier, TrainingGraphs};
    use crate::optimizer::{accumulate_graph, from_recipe, update_graph};
    use crate::recipe::Recipe;

    #[test]
    fn graphs_for_a_gpu_hold_only_operators_that_run_there() {
        for name in Recipe::built_in().filter(|name| *name != "finetune") {
            let recipe = Recipe::load(name, &[]).unwrap();
            for precision in [Precision::F32, Precision::Tf32, Precision::F16] {
                let update = update_graph(&*from_recipe(&recipe)).unwrap();
                for own_operators in [false, true] {
                    let options = OrtOptions { precision, own_operators, ..OrtOptions::new(Device::Cuda(0)) };
                    let network = Classifier::new(&recipe, 10).unwrap();
                    let graphs = TrainingGraphs::build(&network, &options.graphs(&recipe, 4)).unwrap();
                    for graph in [&graphs.train, &update, &accumulate_graph().unwrap(), &graphs.evaluate] {
                        assert_eq!(without_cuda_kernel(graph), [], "{name}: {}", graph.name());
                    }
                }
            }
        }
    }

    #[test]
    fn kernels_of_our_own_on_a_gpu_are_those_of_pools_and_normalisation_in_single_precision() {
        let recipe = Recipe::load("alexnet", &[]).unwrap();
        let own = |own_operators, precision| {
            let options = OrtOptions { precision, own_operators, ..OrtOptions::new(Device::Cuda(0)) };
            let network = Classifier::new(&recipe, 10).unwrap();
            let graphs = TrainingGraphs::build(&network, &options.graphs(&recipe, 4)).unwrap();
            let own = graphs.train.nodes().filter(|(operator, ..)| operator.domain == DOMAIN);
            let mut names: Vec<&str> = own.map(|(operator, ..)| operator.name).collect();
            names.sort_unstable();
            names
        };
        let pools =
            ["MaxPool", "MaxPool", "MaxPool", "MaxPoolGradient", "MaxPoolGradient", "MaxPoolGradient"];
        let expected = [&["Lrn", "Lrn", "LrnGradient", "LrnGradient"][..], &pools].concat();
        assert_eq!(own(true, Precision::Tf32), expected);
        // Normalisation is in single precision there too.
        assert_eq!(own(true, Precision::F16), expected[..4]);
        assert!(own(false, Precision::Tf32).is_empty());
    }

    #[test]
    fn the_step_of_alexnet_is_recorded_and_steps_with_address_lists_are_not() {
        let recipe = Recipe::load("alexnet", &[]).unwrap();
        for precision in [Precision::F32, Precision::Tf32, Precision::F16] {
            let options = OrtOptions { precision, ..OrtOptions::new(Device::Cuda(0)) }.graphs(&recipe, 128);
            let graphs = TrainingGraphs::build(&Classifier::new(&recipe, 1000).unwrap(), &options).unwrap();
            assert!(is_replayable(&graphs.train), "{precision:?}");
        }
        let judged = |build: &dyn Fn(&mut Builder, Tensor) -> Result<Tensor>| {
            let mut g = Builder::new("listed", Lowering::training(Target::Cuda));
            let x = g.input("x", TensorType::f32([66, 4])).unwrap();
            let y = build(&mut g, x).unwrap();
            g.output("y", y).unwrap();
            is_replayable(&g.finish())
        };
        let joined = |lengths: &[usize]| {
            judged(&|g, x| {
                let parts = g.split(x, 0, lengths)?;
                g.concat(&parts, 1)
            })
        };
        assert!(joined(&[22; 3]) && !joined(&[2; 33]));
        let parted = |lengths: &[usize]| judged(&|g, x| Ok(g.split(x, 0, lengths)?[0]));
        assert!(parted(&[33; 2]) && !parted(&[32, 34]));
        let both = |x: usize| judged(&|g, y| g.slice(y, 0, 0, x).and_then(|x| g.concat(&[x, y], 0)));
        assert!(both(66) && !both(65));
        let product = |shape: &[usize], other: &[usize]| {
            judged(&|g, x| {
                let (x, y) = (g.reshape(x, shape)?, g.reshape(x, other)?);
                g.matmul(x, y)
            })
        };
        assert!(product(&[66, 4], &[4, 66]) && !product(&[6, 11, 4], &[6, 4, 11]));
    }

    #[test]
    fn weight_gradients_are_joined_from_pieces_alike_on_a_gpu() {
        // Products of eight offsets and of one would be unequal, and 121 offsets too many for one.
        for (channels, kernel) in [(64, 3), (32, 5), (3, 11)] {
            for target in [Target::Cuda, Target::CudaTf32, Target::CudaF16] {
                let mut g = Builder::new("large", Lowering::training(target));
                let x = g.input("x", TensorType::f32([2, channels, 80, 80])).unwrap();
                let w = g.input("w", TensorType::f32([8, channels, kernel, kernel])).unwrap();
                let y = g.conv(x, w, None, Conv::new(1, kernel / 2)).unwrap();
                let loss = g.sum(y).unwrap();
                let gradient = g.grad(loss, &[w]).unwrap()[0];
                g.output("dw", gradient).unwrap();
                assert!(is_replayable(&g.finish()), "{channels} channels, {kernel}x{kernel}, {target:?}");
            }
        }
    }

    #[test]
    fn an_operator_is_judged_by_the_type_of_its_data() {
        use ElementType::{Bool, F32, I64};
        let mut g = Builder::new("padded", Lowering::training(Target::Cuda));
        let condition = g.input("condition", TensorType::new(Bool, [2])).unwrap();
        for element in [F32, I64, Bool] {
            let x = g.input(&format!("x {element}"), TensorType::new(element, [2])).unwrap();
            let y = g.pad(x, &[1], &[1]).unwrap();
            g.output(&format!("y {element}"), y).unwrap();
            if element != Bool {
                let z = g.select(condition, x, x).unwrap();
                g.output(&format!("z {element}"), z).unwrap();
            }
        }
        let missing = without_cuda_kernel(&g.finish());
        assert_eq!(
            missing.iter().map(|&(operator, element)| (operator.name, element)).collect::<Vec<_>>(),
            [("Pad", I64)]
        );
    }
}
