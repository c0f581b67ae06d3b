//! Files that become networks: our own, one written by hand, and those that cannot.

use std::path::PathBuf;

use prost::Message;

use super::*;
use crate::{
    backend::{Device, OrtBackend, OrtOptions, Pass, Rows, Setup, TrainingBackend, Update, Updated},
    graph::{ElementType, Lowering, Target, TensorType},
    models::{Classifier, GraphOptions, Init, ParameterKind, PixelType, TrainingGraphs, inference},
    onnx::{
        AttributeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
        tensor_proto::DataType,
        tensor_shape_proto::{Dimension, dimension},
        type_proto,
    },
    recipe::Recipe,
    support::{self, Data},
};

const ROWS: usize = 3;
const PX: usize = 6;
const CLASSES: usize = 5;

fn attribute(name: &str, ints: &[i64]) -> AttributeProto {
    let mut attribute = AttributeProto { name: Some(name.into()), ..Default::default() };
    match *ints {
        [single] if name != "shape" => (attribute.i, attribute.r#type) = (Some(single), Some(2)),
        _ => (attribute.ints, attribute.r#type) = (ints.to_vec(), Some(7)),
    }
    attribute
}

fn node(operator: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        name: Some(format!("{output}_node")),
        op_type: Some(operator.into()),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.into()],
        attribute: attributes,
        ..Default::default()
    }
}

fn port(name: &str, element: DataType, axes: &[i64]) -> ValueInfoProto {
    let dim = axes.iter().map(|&length| {
        let value = match length {
            0 => dimension::Value::DimParam("N".into()),
            length => dimension::Value::DimValue(length),
        };
        Dimension { value: Some(value), ..Default::default() }
    });
    let tensor = type_proto::Tensor {
        elem_type: Some(element as i32),
        shape: Some(TensorShapeProto { dim: dim.collect() }),
    };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value, ..Default::default() }),
        ..Default::default()
    }
}

fn floats(name: &str, shape: &[i64]) -> TensorProto {
    let count: i64 = shape.iter().product();
    TensorProto {
        name: Some(name.into()),
        dims: shape.to_vec(),
        data_type: Some(DataType::Float as i32),
        float_data: (0..count).map(|i| ((i * 7919) % 101) as f32 / 101.0 - 0.45).collect(),
        ..Default::default()
    }
}

fn integers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: vec![values.len() as i64],
        data_type: Some(DataType::Int64 as i32),
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

/// A small network as a framework writes it: convolution, pool, dropout, two matrix products, softmax.
fn by_hand() -> GraphProto {
    GraphProto {
        name: Some("by_hand".into()),
        node: vec![
            node(
                "Conv",
                &["x", "c.weight", "c.bias"],
                "c",
                vec![attribute("pads", &[1, 1, 1, 1]), attribute("kernel_shape", &[3, 3])],
            ),
            node("Relu", &["c"], "r", vec![]),
            node(
                "MaxPool",
                &["r"],
                "p",
                vec![attribute("kernel_shape", &[2, 2]), attribute("strides", &[2, 2])],
            ),
            node("Reshape", &["p", "shape"], "f", vec![]),
            node("Dropout", &["f"], "d", vec![]),
            node("MatMul", &["d", "m.weight"], "m", vec![]),
            node("Add", &["m", "m.bias"], "a", vec![]),
            node("Mul", &["a", "factor"], "h", vec![]),
            node("Gemm", &["h", "g.weight", "g.bias"], "logits", vec![attribute("transB", &[1])]),
            node("Softmax", &["logits"], "answers", vec![attribute("axis", &[-1])]),
        ],
        initializer: vec![
            floats("c.weight", &[4, 3, 3, 3]),
            floats("c.bias", &[4]),
            integers("shape", &[0, -1]),
            floats("m.weight", &[36, 7]),
            floats("m.bias", &[7]),
            floats("factor", &[]),
            floats("g.weight", &[CLASSES as i64, 7]),
            floats("g.bias", &[CLASSES as i64]),
        ],
        input: vec![port("x", DataType::Float, &[0, 3, PX as i64, PX as i64])],
        output: vec![port("answers", DataType::Float, &[0, CLASSES as i64])],
        ..Default::default()
    }
}

fn model(graph: GraphProto) -> Vec<u8> {
    let set = OperatorSetIdProto { domain: None, version: Some(17) };
    let ir_version = Some(8);
    ModelProto { ir_version, opset_import: vec![set], graph: Some(graph), ..Default::default() }
        .encode_to_vec()
}

struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn file(bytes: &[u8]) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.onnx");
    fs::write(&path, bytes).unwrap();
    File { _folder: folder, path }
}

fn classifier(path: &Path) -> Classifier {
    let file = Some(path.to_owned());
    Classifier { name: "file".into(), input_px: PX, classes: CLASSES, layers: Vec::new(), file }
}

#[test]
fn a_file_written_by_hand_gives_its_own_answers_and_the_parameters_that_are_trained() {
    let bytes = model(by_hand());
    let file = file(&bytes);
    let network = classifier(&file.path);
    let x: Vec<f32> = (0..ROWS * 3 * PX * PX).map(|i| ((i * 31) % 17) as f32 / 17.0 - 0.5).collect();
    let images: (&str, &[usize], Data) = ("x", &[ROWS, 3, PX, PX], Data::F32(x));
    let expected = support::run(&mut support::session(&bytes), std::slice::from_ref(&images));

    let mut g = Builder::new("imported", Lowering::evaluation(Target::Cpu));
    let input = g.input("x", TensorType::f32([ROWS, 3, PX, PX])).unwrap();
    let forward = network.forward(&mut g, input, Mode::Evaluate).unwrap();
    let answers = g.softmax(forward.logits, 1).unwrap();
    g.output("answers", answers).unwrap();
    let mut inputs = vec![images];
    let names: Vec<&str> = forward.parameters.iter().map(|(parameter, _)| parameter.name.as_str()).collect();
    assert_eq!(names, ["c.weight", "c.bias", "m.weight", "m.bias", "g.weight", "g.bias"]);
    for (parameter, _) in &forward.parameters {
        let is_bias = parameter.name.ends_with("bias");
        assert_eq!(parameter.kind, if is_bias { ParameterKind::Bias } else { ParameterKind::Weight });
        inputs.push((&parameter.name, &parameter.shape, Data::F32(parameter.initial(9, 0))));
    }
    let given = support::run(&mut support::session(&g.finish().to_bytes()), &inputs);
    for (a, b) in given["answers"].iter().zip(&expected["answers"]) {
        assert!((a - b).abs() < 1e-6, "{a} against {b}");
    }
    assert!(matches!(forward.parameters[0].0.init, Init::Values(_)));

    let graphs = TrainingGraphs::build(&network, &GraphOptions::new(ROWS)).unwrap();
    assert_eq!((graphs.masks.len(), graphs.masks[0].name.as_str(), graphs.masks[0].keep), (1, "d.mask", 0.5));
    // Half precision and export work as for any network.
    let half = GraphOptions { compute: ElementType::F16, ..GraphOptions::new(ROWS) };
    support::session(&TrainingGraphs::build(&network, &half).unwrap().train.to_bytes());
    let values: Vec<Vec<f32>> = graphs.parameters.iter().map(|p| p.initial(0, 0)).collect();
    let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
    inference(&network, &GraphOptions::new(1), PixelType::F32, &[0.0; 3], &values).unwrap();
}

/// Weights and momenta after an update, and the loss before it.
fn one_step(recipe: &Recipe, mean: &[f32], seed: u64) -> (f64, Vec<f32>, HashMap<String, Vec<f32>>) {
    let setup = Setup { recipe, classes: CLASSES, batch_rows: ROWS, mean, seed };
    let mut backend = OrtBackend::new(support::runtime(), &setup, OrtOptions::new(Device::Cpu)).unwrap();
    let px = recipe.input.crop_px;
    let images: Vec<u8> = (0..ROWS * 3 * px * px).map(|i| (i * 7919 % 251) as u8).collect();
    let rows = Rows { images: &images, color_offsets: &[[3.0, 0.0, -2.0]; ROWS], labels: &[0, 4, 2] };
    let mut probabilities = vec![0.0; ROWS * CLASSES];
    backend.evaluate(rows, &mut probabilities).unwrap();
    let pass = Pass { seed: 1, step: 0, part: 0, gradient_scale: 1.0 / ROWS as f32 };
    let loss = backend.accumulate(rows, pass).unwrap().loss;
    let update = Update {
        learning_rate: 0.1,
        momentum: 0.9,
        weight_decay: 0.01,
        bias_lr_mult: 2.0,
        bias_decay: false,
    };
    assert_eq!(backend.update(update).unwrap(), Updated::Done);
    let mut state = HashMap::new();
    backend
        .export(&mut |tensors| {
            state =
                tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.values.to_vec())).collect();
        })
        .unwrap();
    (loss, probabilities, state)
}

#[test]
fn an_exported_network_comes_in_again_and_takes_the_same_training_step() {
    let plain = ["network.layer.dropout.p=0".to_owned()];
    let recipe = Recipe::load("demo", &plain).unwrap();
    let mean = vec![120.0; 3 * 24 * 24];
    let network = Classifier::new(&recipe, CLASSES);
    let values: Vec<Vec<f32>> =
        network.parameters().unwrap().iter().enumerate().map(|(i, p)| p.initial(3, i)).collect();
    let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
    let options = GraphOptions::of_recipe(&recipe, 1, Target::Cpu);
    let exported = inference(&network, &options, PixelType::F32, &mean, &values).unwrap();
    let file = file(&exported.to_bytes());

    // The file subtracts and multiplies itself.
    let network = format!("network={{onnx={:?}}}", file.path.to_str().unwrap());
    let overrides = [network, "input.mean=none".into(), "input.scale=1".into()];
    let imported = Recipe::load("demo", &overrides).unwrap();
    let (loss, probabilities, state) = one_step(&recipe, &mean, 3);
    let (other_loss, other_probabilities, other_state) = one_step(&imported, &[], 77);
    assert!((loss - other_loss).abs() < 1e-5, "{loss} against {other_loss}");
    for (a, b) in probabilities.iter().zip(&other_probabilities) {
        assert!((a - b).abs() < 1e-6, "{a} against {b}");
    }
    assert_eq!(state.len(), other_state.len());
    for (name, values) in &state {
        for (a, b) in values.iter().zip(&other_state[name]) {
            assert!((a - b).abs() < 1e-5, "{name}: {a} against {b}");
        }
    }
}

#[test]
fn a_recipe_names_its_network_from_its_own_folder() {
    let file = file(&model(by_hand()));
    let folder = file.path.parent().unwrap();
    let mut table: toml::Table = Recipe::load("demo", &[]).unwrap().to_toml().parse().unwrap();
    table["network"] = "onnx = 'network.onnx'".parse::<toml::Table>().unwrap().into();
    let path = folder.join("mine.toml");
    fs::write(&path, table.to_string()).unwrap();
    let recipe = Recipe::load(path.to_str().unwrap(), &[]).unwrap();
    assert_eq!(recipe.network.onnx.as_deref(), Some(file.path.as_path()));
    assert_eq!(Recipe::from_toml(&recipe.to_toml(), "again").unwrap(), recipe);
    let hash = recipe.hash();
    let moved = folder.join("moved.onnx");
    fs::copy(&file.path, &moved).unwrap();
    let from = |file: &Path| {
        let network = format!("network={{onnx={:?}}}", file.to_str().unwrap());
        Recipe::load("demo", &[network]).unwrap()
    };
    assert_eq!(from(&moved).hash(), hash, "the same network elsewhere");
    fs::write(&moved, b"another").unwrap();
    assert_ne!(from(&moved).hash(), hash);
    let both = Recipe::load("demo", &["network.onnx=x.onnx".to_owned()]).unwrap_err().to_string();
    assert!(both.contains("`network.onnx` is x.onnx") && both.contains("not both"), "{both}");
}

/// What is said about a file.
fn refusal(change: impl FnOnce(&mut GraphProto)) -> String {
    let mut graph = by_hand();
    change(&mut graph);
    let file = file(&model(graph));
    let error = classifier(&file.path).parameters().unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn files_that_cannot_be_used_are_told_with_the_node_and_what_would_do() {
    type Damage = fn(&mut GraphProto);
    let cases: [(Damage, &[&str]); 9] = [
        (|g| g.node[1].op_type = Some("Gelu".into()), &["`r_node` (Gelu) is not supported", "Conv", "Relu"]),
        (
            |g| g.node[1].op_type = Some("BatchNormalization".into()),
            &["`r_node` (BatchNormalization)", "running statistics", "folded into the convolutions"],
        ),
        (|g| g.node[2].attribute.push(attribute("dilations", &[2, 2])), &["`p_node` (MaxPool)", "dilations"]),
        (|g| g.node[1].input[0] = "nothing".into(), &["`r_node` (Relu) takes `nothing`"]),
        (
            |g| g.input[0] = port("x", DataType::Uint8, &[0, 3, PX as i64, PX as i64]),
            &["`x` is UINT8", "f32 [N,3,H,W]"],
        ),
        (|g| g.input[0] = port("x", DataType::Float, &[0, 3, 7, 7]), &["images of 7x7 pixels", "have 6"]),
        (|g| g.output[0] = port("h", DataType::Float, &[0, 7]), &["gives [1, 7]", "5 classes"]),
        (|g| g.initializer[0].data_location = Some(1), &["`c.weight` lies in another file"]),
        (|g| g.initializer[0].dims[0] = 5, &["`c.weight` has 108 values, expected 135"]),
    ];
    for (change, parts) in cases {
        let error = refusal(change);
        for part in parts {
            assert!(error.contains(part), "`{part}` is missing: {error}");
        }
    }
    let missing = classifier(Path::new("/nowhere.onnx")).parameters().unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere.onnx: cannot be used as a network"), "{missing}");
    let text = file(b"no protobuf at all, certainly");
    let error = classifier(&text.path).parameters().unwrap_err().to_string();
    assert!(error.contains("no ONNX file"), "{error}");
}
