//! Which operators ONNX Runtime runs on a GPU.

use crate::graph::{
    ElementType::{self, Bool, F16, F32, I64, U8},
    Graph,
};

/// An operator and the types that the CUDA provider has kernels for.
type Kernel = (&'static str, &'static [ElementType]);

const FLOATS: &[ElementType] = &[F16, F32];
const NUMBERS: &[ElementType] = &[F16, F32, I64];
const CHOSEN: &[ElementType] = &[F16, F32, I64, U8];
const MOVED: &[ElementType] = &[F16, F32, I64, U8, Bool];
const LOGICAL: &[ElementType] = &[Bool];

/// Operators of operator set 18 with the types of their data that the CUDA provider has kernels for, as far as graphs use
/// them: f16, f32, i64, u8 and Boolean.
///
/// From the table of the provider in ONNX Runtime's `docs/OperatorKernels.md`, as of 1.24 and later. A kernel counts if it
/// is registered for the version that an operator has in set 18; one whose range of versions begins earlier and has no end
/// does not. `ScatterElements` and `ReduceMean` lack such a kernel in older releases.
const KERNELS_OF_CUDA: &[Kernel] = &[
    ("Abs", NUMBERS),
    ("Add", NUMBERS),
    ("And", LOGICAL),
    ("ArgMax", FLOATS),
    ("AveragePool", FLOATS),
    ("BatchNormalization", FLOATS),
    ("Cast", MOVED),
    ("Clip", CHOSEN),
    ("Concat", MOVED),
    ("Conv", FLOATS),
    ("ConvTranspose", FLOATS),
    ("CumSum", NUMBERS),
    ("Div", NUMBERS),
    ("Equal", &[F16, F32, I64, Bool]),
    ("Exp", FLOATS),
    ("Expand", MOVED),
    ("Flatten", MOVED),
    ("Gather", MOVED),
    ("Gemm", FLOATS),
    ("GlobalAveragePool", FLOATS),
    ("Greater", NUMBERS),
    ("GreaterOrEqual", NUMBERS),
    ("Identity", MOVED),
    ("LRN", FLOATS),
    ("LeakyRelu", FLOATS),
    ("Less", NUMBERS),
    ("LessOrEqual", NUMBERS),
    ("Log", FLOATS),
    ("LogSoftmax", FLOATS),
    ("MatMul", FLOATS),
    ("Max", NUMBERS),
    ("MaxPool", &[F16, F32, U8]),
    ("Min", NUMBERS),
    ("Mul", NUMBERS),
    ("Neg", NUMBERS),
    ("Not", LOGICAL),
    ("Or", LOGICAL),
    ("Pad", &[F16, F32, Bool]),
    ("Pow", NUMBERS),
    ("Range", &[F32, I64]),
    ("ReduceMax", NUMBERS),
    ("ReduceMean", FLOATS),
    ("ReduceSum", NUMBERS),
    ("Relu", FLOATS),
    ("Reshape", MOVED),
    ("ScatterElements", MOVED),
    ("Shape", MOVED),
    ("Sigmoid", FLOATS),
    ("Sign", CHOSEN),
    ("Slice", MOVED),
    ("Softmax", FLOATS),
    ("Split", MOVED),
    ("Sqrt", FLOATS),
    ("Squeeze", MOVED),
    ("Sub", NUMBERS),
    ("Sum", FLOATS),
    ("Tanh", FLOATS),
    ("Tile", NUMBERS),
    ("Transpose", MOVED),
    ("Unsqueeze", MOVED),
    ("Where", CHOSEN),
];

/// Operators of `graph`, with the type of their data, that the CUDA provider has no kernel for: ONNX Runtime would run them
/// on the CPU, with copies there and back in every step.
pub fn without_cuda_kernel(graph: &Graph) -> Vec<(&'static str, ElementType)> {
    let mut used = graph.operators_with_types();
    used.retain(|(operator, element)| {
        !KERNELS_OF_CUDA.iter().any(|(known, types)| known == operator && types.contains(element))
    });
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::{Device, OrtOptions, Precision},
        graph::{Builder, Lowering, Target, TensorType},
        models::{Classifier, TrainingGraphs},
        recipe::Recipe,
    };

    #[test]
    fn graphs_for_a_gpu_hold_only_operators_that_run_there() {
        for name in Recipe::built_in() {
            let recipe = Recipe::load(name, &[]).unwrap();
            for precision in [Precision::F32, Precision::Tf32, Precision::F16] {
                let options = OrtOptions { precision, ..OrtOptions::new(Device::Cuda(0)) }.graphs(&recipe, 4);
                let graphs = TrainingGraphs::build(&Classifier::new(&recipe, 10), &options).unwrap();
                for graph in [&graphs.train, &graphs.update, &graphs.accumulate, &graphs.evaluate] {
                    assert_eq!(without_cuda_kernel(graph), [], "{name}: {}", graph.name());
                }
            }
        }
    }

    #[test]
    fn an_operator_is_judged_by_the_type_of_its_data() {
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
        assert_eq!(without_cuda_kernel(&g.finish()), [("Pad", I64)]);
    }
}
