//! The node tests of the `onnx` package, run forward through the import, and differentiated; skipped where
//! Python (`FOVEA_TEST_PYTHON`, else `python3`) does not have the package.

use std::env;
use std::panic::catch_unwind;
use std::process::Command;

use fovea_runtime::testing::{self, Data};

use super::constant::{Values, of_tensor};
use super::*;
use crate::onnx::TensorProto;
use crate::{ElementType, GraphError, Lowering, Target, TensorType};

/// Cases that are refused or have other values, by their names, and a part of what is said of them.
const EXCEPTIONS: &[(&str, &str)] = &[
    // Types that networks do not compute in.
    ("cast_FLOAT_to_BFLOAT16", "which is not supported"),
    ("maxpool_2d_uint8", "must be floating-point"),
    ("reduce_max_bool_inputs", "given Booleans"),
    ("reduce_max_empty_set_bool", "given Booleans"),
    ("reduce_min_bool_inputs", "given Booleans"),
    // A slice of nothing.
    ("slice_start_out_of_bounds", "takes nothing from axis 1"),
    // Corners are those of the pixels that are made, as in ONNX Runtime and PyTorch, not of a length with a
    // fraction.
    ("resize_downsample_scales_cubic_align_corners", "the value"),
    ("resize_downsample_scales_linear_align_corners", "the value"),
    // Training forms, which are evaluated here; types that are computed in f32; a remainder of infinity.
    ("batchnorm_epsilon_training_mode", "the value"),
    ("batchnorm_example_training_mode", "the value"),
    ("training_dropout", "the value"),
    ("training_dropout_default", "the value"),
    ("training_dropout_default_mask", "the value"),
    ("training_dropout_mask", "the value"),
    ("attention_3d_causal_bf16", "the value"),
    ("attention_4d_attn_mask_causal_bf16", "the value"),
    ("attention_4d_causal_bf16", "the value"),
    ("celu_bfloat16", "the value"),
    ("mod_float_edge_cases_fmod_0_float16", "the value"),
    ("mod_float_edge_cases_fmod_0_float32", "the value"),
    ("mod_float_edge_cases_fmod_0_float64", "the value"),
];

/// Parts of refusals that are meant: what generates text keeps in a cache, scores as an output, windows.
const REFUSALS: [&str; 3] =
    ["a cache of keys and values, expected none", "gives its scores", "_window_size`"];

/// Operands that are known when a network is read: names of floating-point inputs.
const KNOWN: [&str; 5] = ["roi", "scales", "ratio", "mean", "var"];

fn tensor(path: &Path) -> Option<Constant> {
    let tensor = TensorProto::decode(fs::read(path).ok()?.as_slice()).ok()?;
    of_tensor(&tensor, "".as_ref()).ok()
}

/// A case is run in f32; `None` if it has other tensors than those of a network.
fn run(folder: &Path) -> Option<std::result::Result<(), String>> {
    let model = ModelProto::decode(fs::read(folder.join("model.onnx")).ok()?.as_slice()).ok()?;
    let opset = model.opset_import.iter().find(|set| is_of_onnx(set.domain()))?.version?;
    let mut graph = model.graph?;
    let mut g = Builder::new("case", Lowering::training(Target::Cpu));
    let (mut constants, mut tensors, mut data) = (HashMap::new(), Vec::new(), Vec::new());
    for (at, input) in graph.input.iter().filter(|input| !input.name().is_empty()).enumerate() {
        let constant = tensor(&folder.join(format!("input_{at}.pb")))?;
        match &constant.values {
            Values::Floats(values) if !constant.shape.is_empty() && !KNOWN.contains(&input.name()) => {
                if values.is_empty() {
                    return None;
                }
                let ty = TensorType::f32(constant.shape.clone());
                tensors.push((input.name().to_owned(), g.input(input.name(), ty).ok()?));
                data.push((input.name().to_owned(), constant.shape.clone(), Data::F32(values.to_vec())));
            }
            _ => {
                constants.insert(input.name().to_owned(), constant);
            }
        }
    }
    // The statistics of a normalisation and the mask of a dropout are no values of a network.
    let has_parts = graph.node.iter().all(|node| is_one_of(node, &["Split", "TopK"]));
    let count = if has_parts { graph.output.len() } else { 1 };
    let names: Vec<String> = graph.output.iter().take(count).map(|output| output.name().to_owned()).collect();
    let mut expected = Vec::new();
    for (at, name) in names.iter().enumerate() {
        expected.push(tensor(&folder.join(format!("output_{at}.pb")))?);
        graph.node.push(NodeProto {
            op_type: Some("Identity".into()),
            input: vec![name.clone()],
            output: vec![format!("{name}.copy")],
            ..Default::default()
        });
    }
    let file =
        Imported { path: folder.to_owned(), nodes: graph.node, constants, opset, ..Default::default() };
    let built = (|| {
        let x = g.input("images", TensorType::f32([1, 3, 1, 1]))?;
        let mut translation =
            Translation::new(&file, &mut g, &[("images", x)], Mode::Evaluate, HashMap::new());
        for (name, tensor) in &tensors {
            translation.define(name, *tensor);
        }
        let mut outputs = Vec::new();
        for node in &file.nodes {
            translation.append(node, || file.import(node))?;
            if node.output[0].ends_with(".copy") {
                outputs.push(translation.value_of(node)?);
            }
        }
        let mut total = g.scalar(ElementType::F32, 0.0);
        for (at, &y) in outputs.iter().enumerate() {
            let z = if g.element(y) == ElementType::Bool { g.cast(y, ElementType::F32)? } else { y };
            let z = g.identity(z)?;
            g.output(&format!("output {at}"), z)?;
            if g.element(y) == ElementType::F32 {
                let sum = g.sum(y)?;
                total = g.add(total, sum)?;
            }
        }
        let inputs: Vec<Tensor> = tensors.iter().map(|(_, tensor)| *tensor).collect();
        for (at, gradient) in g.grad(total, &inputs)?.into_iter().enumerate() {
            g.output(&format!("gradient {at}"), gradient)?;
        }
        Ok::<_, GraphError>(outputs)
    })();
    let outputs = match built {
        Ok(outputs) => outputs,
        Err(error) => return Some(Err(error.to_string())),
    };
    let shapes: Vec<Vec<usize>> = outputs.iter().map(|&y| g.shape(y).to_vec()).collect();
    let data: Vec<_> =
        data.iter().map(|(name, shape, data)| (name.as_str(), shape.as_slice(), data.clone())).collect();
    let graph = g.finish();
    // Statistics and scalar biases are known when a network is read, and inputs of its graphs nevertheless.
    let constant = |name: &str| {
        let Constant { shape, values: Values::Floats(values) } = file.constants.get(name)? else {
            return None;
        };
        Some((shape.as_slice(), Data::F32(values.to_vec())))
    };
    let needed: Vec<String> = graph.inputs().into_iter().map(|port| port.name).collect();
    let data: Vec<_> = needed
        .iter()
        .filter_map(|name| {
            let given =
                data.iter().find(|(given, ..)| given == name).map(|(_, shape, data)| (*shape, data.clone()));
            let (shape, data) = given.or_else(|| constant(name))?;
            Some((name.as_str(), shape, data))
        })
        .collect();
    let given = testing::run(&mut testing::session(&graph.to_bytes()), &data);
    for (at, expected) in expected.iter().enumerate() {
        if shapes[at] != expected.shape {
            return Some(Err(format!("the shape {:?}, expected {:?}", shapes[at], expected.shape)));
        }
        let values: Vec<f64> = match &expected.values {
            Values::Floats(values) => values.iter().map(|&value| value.into()).collect(),
            Values::Integers(values) => values.iter().map(|&value| value as f64).collect(),
            Values::Booleans(values) => values.iter().map(|&value| value.into()).collect(),
        };
        for (a, b) in given[&format!("output {at}")].iter().zip(&values) {
            let is_same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 2e-3 * b.abs().max(0.1);
            if !is_same {
                return Some(Err(format!("the value {a} in output {at}, expected {b}")));
            }
        }
    }
    Some(Ok(()))
}

fn is_exception(name: &str, reason: &str) -> bool {
    let is_named = |case: &str| name.strip_prefix("test_").is_some_and(|rest| rest == case);
    EXCEPTIONS.iter().any(|(case, part)| is_named(case) && reason.contains(part))
        || REFUSALS.iter().any(|part| reason.contains(part))
}

#[test]
fn node_tests_of_the_onnx_package_have_the_values_that_it_expects() {
    let python = env::var_os("FOVEA_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let folder = tempfile::tempdir().unwrap();
    let operators: Vec<&str> =
        imports().filter(|(_, import)| import.is_some()).map(|(operator, _)| operator.name).collect();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/onnx_nodes.py");
    let written =
        Command::new(python).arg(script).arg(folder.path()).arg(operators.join(",")).output().unwrap();
    if !written.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&written.stderr).lines().last().unwrap_or_default());
        return;
    }
    let (mut passed, mut failures) = (0, Vec::new());
    let mut folders: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let outcome = catch_unwind(|| run(&folder))
            .unwrap_or_else(|panic| Some(Err(panic.downcast_ref::<String>().cloned().unwrap_or_default())));
        match outcome {
            None => {}
            Some(Ok(())) => passed += 1,
            Some(Err(reason)) if is_exception(&name, &reason) => {}
            Some(Err(reason)) => failures.push(format!("{name}: {reason}")),
        }
    }
    println!("{passed} cases passed");
    assert!(passed > 600, "only {passed} cases were run");
    assert!(failures.is_empty(), "{} of {passed} fail:\n{}", failures.len(), failures.join("\n"));
}
