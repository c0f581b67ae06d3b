//! Which operators ONNX Runtime runs on a GPU.

/// Operators of the standard set that the CUDA provider of ONNX Runtime has kernels for, in the types that training uses
/// (f32; u8 and Boolean where they move or choose data; i64 for indices), from the list in its `docs/OperatorKernels.md`.
/// An operator that is not here would run on the CPU, with copies there and back in every step.
pub const KERNELS_OF_CUDA: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "ArgMax",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "CumSum",
    "Div",
    "Equal",
    "Exp",
    "Expand",
    "Flatten",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "Greater",
    "GreaterOrEqual",
    "Identity",
    "LRN",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "MatMul",
    "Max",
    "MaxPool",
    "Min",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "Pad",
    "Pow",
    "Range",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "ScatterElements",
    "Shape",
    "Sigmoid",
    "Sign",
    "Slice",
    "Softmax",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "Where",
];

#[cfg(test)]
mod tests {
    use super::KERNELS_OF_CUDA;
    use crate::{
        graph::Target,
        models::{Classifier, GraphOptions, TrainingGraphs},
        recipe::Recipe,
    };

    #[test]
    fn graphs_for_a_gpu_hold_only_operators_that_run_there() {
        for name in Recipe::built_in() {
            let recipe = Recipe::load(name, &[]).unwrap();
            let options = GraphOptions::of_recipe(&recipe, 4, Target::Cuda);
            let graphs = TrainingGraphs::build(&Classifier::new(&recipe, 10), &options).unwrap();
            for graph in [&graphs.train, &graphs.update, &graphs.accumulate, &graphs.evaluate] {
                for operator in graph.operators() {
                    let known = KERNELS_OF_CUDA.contains(&operator);
                    assert!(known, "{name}: {operator} of {} has no CUDA kernel", graph.name());
                }
            }
        }
    }
}
