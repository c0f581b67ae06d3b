//! Import of small networks written by hand.

mod batch;
mod branches;
mod copied;
mod drawn;
mod files;
mod golden;
mod gradients;
mod head;
mod random;
mod refused;
mod sequences;
mod trained;

use std::iter;

use fovea_runtime::testing::{self, Data};
use prost::Message;
use tempfile::NamedTempFile;

use super::limits::{CONSTANT, LENGTH};
use super::*;
use crate::onnx::tensor_proto::DataType;
use crate::onnx::tensor_shape_proto::{Dimension, dimension};
use crate::onnx::{
    AttributeProto, FunctionProto, OperatorSetIdProto, SparseTensorProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use crate::{ElementType, Init, Lowering, Parameter, ParameterKind, Target, TensorType};

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

/// A list of any length, as [`attribute`] makes it of several.
fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let attribute = AttributeProto { name: Some(name.into()), ints: ints.to_vec(), ..Default::default() };
    AttributeProto { r#type: Some(7), ..attribute }
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
            node("Softmax", &["logits"], "probabilities", vec![attribute("axis", &[-1])]),
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
        output: vec![port("probabilities", DataType::Float, &[0, CLASSES as i64])],
        ..Default::default()
    }
}

fn model(graph: GraphProto) -> Vec<u8> {
    model_of(17, graph)
}

fn model_of(opset: i64, graph: GraphProto) -> Vec<u8> {
    let set = OperatorSetIdProto { domain: None, version: Some(opset) };
    let ir_version = Some(8);
    ModelProto { ir_version, opset_import: vec![set], graph: Some(graph), ..Default::default() }
        .encode_to_vec()
}

fn file(bytes: &[u8]) -> NamedTempFile {
    let file = tempfile::Builder::new().suffix(".onnx").tempfile().unwrap();
    fs::write(file.path(), bytes).unwrap();
    file
}

/// The parameters of the network in the file `path`, in evaluation.
fn parameters(path: &Path) -> Result<Vec<Parameter>> {
    let mut g = Builder::new("parameters", Lowering::evaluation(Target::Cpu));
    let x = g.input("x", TensorType::f32([1, 3, PX, PX]))?;
    let forward = Imported::read(path)?.forward(&mut g, x, Mode::Evaluate)?;
    Ok(forward.parameters.into_iter().map(|(parameter, _)| parameter).collect())
}

fn images() -> (&'static str, &'static [usize], Data) {
    let x = (0..ROWS * 3 * PX * PX).map(|i| ((i * 31) % 17) as f32 / 17.0 - 0.5).collect();
    ("x", &[ROWS, 3, PX, PX], Data::F32(x))
}

/// The names of the parameters of a network, and its logits as a graph of ours.
fn imported(path: &Path) -> Result<(Vec<String>, Vec<f64>)> {
    let mut g = Builder::new("imported", Lowering::evaluation(Target::Cpu));
    let x = g.input("x", TensorType::f32([ROWS, 3, PX, PX]))?;
    let forward = Imported::read(path)?.forward(&mut g, x, Mode::Evaluate)?;
    g.output("logits", forward.logits)?;
    let mut inputs = vec![images()];
    for (parameter, _) in &forward.parameters {
        inputs.push((&parameter.name, &parameter.shape, Data::F32(parameter.initial(0, 0))));
    }
    let given = testing::run(&mut testing::session(&g.finish().to_bytes()), &inputs).remove("logits");
    Ok((forward.parameters.iter().map(|(parameter, _)| parameter.name.clone()).collect(), given.unwrap()))
}

/// A graph of these nodes from `x` `[batch,3,6,6]` to `logits` with these axes; a length of 0 is free.
fn graph_of(batch: i64, node: Vec<NodeProto>, initializer: Vec<TensorProto>, logits: &[i64]) -> GraphProto {
    GraphProto {
        node,
        initializer,
        input: vec![port("x", DataType::Float, &[batch, 3, PX as i64, PX as i64])],
        output: vec![port("logits", DataType::Float, logits)],
        ..Default::default()
    }
}

/// Parameters and buffers of a graph of these nodes from `x` `[N,3,6,6]` to the global average of `last`.
fn declared(
    mut nodes: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
    last: &str,
) -> Result<[Vec<String>; 2]> {
    nodes.push(node("GlobalAveragePool", &[last], "logits", vec![]));
    let file = file(&model(graph_of(0, nodes, initializer, &[0, 4, 1, 1])));
    let mut g = Builder::new("declared", Lowering::training(Target::Cpu));
    let x = g.input("x", TensorType::f32([ROWS, 3, PX, PX]))?;
    let forward = Imported::read(file.path())?.forward(&mut g, x, Mode::Train)?;
    assert_eq!(g.shape(forward.logits).len(), 2);
    let names = forward.parameters.iter().map(|(parameter, _)| parameter.name.clone()).collect();
    let buffers = forward.buffers.iter().map(|used| {
        assert!(used.new.is_some());
        used.buffer.name.clone()
    });
    Ok([names, buffers.collect()])
}

#[test]
fn an_imported_network_computes_what_the_file_does_and_declares_its_parameters() {
    let bytes = model(by_hand());
    let file = file(&bytes);
    let network = Imported::read(file.path()).unwrap();
    let x: Vec<f32> = (0..ROWS * 3 * PX * PX).map(|i| ((i * 31) % 17) as f32 / 17.0 - 0.5).collect();
    let images: (&str, &[usize], Data) = ("x", &[ROWS, 3, PX, PX], Data::F32(x));
    let expected = testing::run(&mut testing::session(&bytes), std::slice::from_ref(&images));

    let mut g = Builder::new("imported", Lowering::evaluation(Target::Cpu));
    let input = g.input("x", TensorType::f32([ROWS, 3, PX, PX])).unwrap();
    let forward = network.forward(&mut g, input, Mode::Evaluate).unwrap();
    let probabilities = g.softmax(forward.logits, 1).unwrap();
    g.output("probabilities", probabilities).unwrap();
    let mut inputs = vec![images];
    let names: Vec<&str> = forward.parameters.iter().map(|(parameter, _)| parameter.name.as_str()).collect();
    assert_eq!(names, ["c.weight", "c.bias", "m.weight", "m.bias", "g.weight", "g.bias"]);
    for (parameter, _) in &forward.parameters {
        let is_bias = parameter.name.ends_with("bias");
        assert_eq!(parameter.kind, if is_bias { ParameterKind::Bias } else { ParameterKind::Weight });
        inputs.push((&parameter.name, &parameter.shape, Data::F32(parameter.initial(9, 0))));
    }
    let given = testing::run(&mut testing::session(&g.finish().to_bytes()), &inputs);
    for (a, b) in given["probabilities"].iter().zip(&expected["probabilities"]) {
        assert!((a - b).abs() < 1e-6, "{a} against {b}");
    }
    assert!(matches!(forward.parameters[0].0.init, Init::Values(_)));

    // In half precision, with dropout.
    let mut g = Builder::new("training", Lowering::training(Target::Cpu));
    let input = g.input("x", TensorType::new(ElementType::F16, [ROWS, 3, PX, PX])).unwrap();
    let forward = network.forward(&mut g, input, Mode::Train).unwrap();
    let masks: Vec<_> = forward.drawn.masks.iter().map(|mask| (mask.name.as_str(), mask.keep)).collect();
    assert_eq!(masks, [("d.mask", 0.5)]);
    g.output("logits", forward.logits).unwrap();
    let _runs = testing::session(&g.finish().to_bytes());
}

#[test]
fn every_node_of_a_file_can_be_tapped_by_its_name() {
    let bytes = model(by_hand());
    let file = file(&bytes);
    let network = Imported::read(file.path()).unwrap();
    let taps = network.taps();
    assert_eq!(taps.len(), 9, "all nodes but the softmax: {taps:?}");
    let activation = |tap: &str| {
        let mut g = Builder::new("tapped", Lowering::evaluation(Target::Cpu));
        let x = g.input("x", TensorType::f32([1, 3, PX, PX])).unwrap();
        let (forward, activation) = network.forward_with_tap(&mut g, x, tap)?;
        let shape = g.shape(activation).to_vec();
        g.output("activation", activation)?;
        let images = ("x", &[1, 3, PX, PX][..], Data::F32(vec![0.25; 3 * PX * PX]));
        let values = forward.parameters.iter().map(|(p, _)| p.initial(0, 0)).collect::<Vec<_>>();
        let parameters = forward.parameters.iter().zip(values);
        let inputs: Vec<_> = [images]
            .into_iter()
            .chain(parameters.map(|((p, _), v)| (p.name.as_str(), p.shape.as_slice(), Data::F32(v))))
            .collect();
        let graph = g.finish();
        let needed: Vec<String> = graph.inputs().into_iter().map(|port| port.name).collect();
        let inputs: Vec<_> =
            inputs.into_iter().filter(|(name, ..)| needed.iter().any(|n| n == name)).collect();
        Ok::<_, GraphError>((
            shape,
            testing::run(&mut testing::session(&graph.to_bytes()), &inputs).remove("activation").unwrap(),
        ))
    };
    let (shape, conv) = activation("c_node").unwrap();
    assert_eq!(shape, [1, 4, PX, PX]);
    let (_, relu) = activation("r_node").unwrap();
    let rectified: Vec<f64> = conv.iter().map(|value| value.max(0.0)).collect();
    assert!(relu == rectified && relu != conv);
    let error = activation("r").unwrap_err().to_string();
    assert!(error.contains("no layer `r`; its layers: c_node, r_node, "), "{error}");
}

#[test]
fn the_last_hidden_node_is_found_behind_dropout_and_reshaping() {
    let last_hidden = |change: fn(&mut GraphProto)| {
        let mut graph = by_hand();
        change(&mut graph);
        Imported::read(file(&model(graph)).path()).unwrap().last_hidden()
    };
    assert_eq!(last_hidden(|_| ()).as_deref(), Some("h_node"));
    // Without the layer in between, the matrix product takes the pooled values by way of a reshape and a
    // dropout.
    let shorter: fn(&mut GraphProto) = |graph| {
        graph.node[8].input[0] = "d".into();
        graph.initializer[6] = floats("g.weight", &[CLASSES as i64, 36]);
    };
    assert_eq!(last_hidden(shorter).as_deref(), Some("p_node"));
    assert_eq!(last_hidden(|graph| graph.node[8].input[0] = "x".into()), None);
    assert_eq!(last_hidden(|graph| graph.node.truncate(4)), None);
}

#[test]
fn lists_are_biases_where_they_are_added_in_whatever_shape() {
    let nodes = vec![
        node("Conv", &["x", "w"], "c", vec![]),
        node("Reshape", &["gain", "to"], "g", vec![]),
        node("Mul", &["c", "g"], "scaled", vec![]),
        node("Reshape", &["offset", "to"], "o", vec![]),
        node("Add", &["scaled", "o"], "shifted", vec![]),
        node("Mul", &["shifted", "scale"], "s", vec![]),
        node("Sub", &["s", "level"], "y", vec![]),
        node("GlobalAveragePool", &["y"], "logits", vec![]),
    ];
    let graph = GraphProto {
        node: nodes,
        initializer: vec![
            floats("w", &[4, 3, 1, 1]),
            floats("gain", &[4]),
            floats("offset", &[4]),
            integers("to", &[1, 4, 1, 1]),
            floats("scale", &[1, 4, 1, 1]),
            floats("level", &[4, 1, 1]),
        ],
        input: vec![port("x", DataType::Float, &[0, 3, PX as i64, PX as i64])],
        output: vec![port("logits", DataType::Float, &[0, 4, 1, 1])],
        ..Default::default()
    };
    let parameters = parameters(file(&model(graph)).path()).unwrap();
    let biases: Vec<&str> = parameters
        .iter()
        .filter(|parameter| parameter.kind == ParameterKind::Bias)
        .map(|parameter| parameter.name.as_str())
        .collect();
    assert_eq!(biases, ["offset", "level"]);
    assert_eq!(parameters.len(), 5);
}

#[test]
fn an_input_that_no_node_reads_is_none() {
    let mut graph = by_hand();
    graph.input.insert(0, port("size", DataType::Int64, &[2]));
    let file_of = |graph| parameters(file(&model(graph)).path()).unwrap();
    assert_eq!(file_of(graph), file_of(by_hand()));
}

#[test]
fn a_call_of_a_function_is_replaced_by_its_body() {
    let mut graph = by_hand();
    graph.node[1] = NodeProto { domain: Some("mine".into()), ..node("Rectify", &["c"], "r", vec![]) };
    let body = vec![
        node("Neg", &["a"], "b", vec![]),
        node("Relu", &["b"], "c", vec![]),
        node("Neg", &["c"], "d", vec![]),
    ];
    let function = FunctionProto {
        name: Some("Rectify".into()),
        domain: Some("mine".into()),
        input: vec!["a".into()],
        output: vec!["d".into()],
        node: body,
        ..Default::default()
    };
    let sets =
        ["", "mine"].map(|domain| OperatorSetIdProto { domain: Some(domain.into()), version: Some(17) });
    let encode = |graph: &GraphProto, functions| {
        let opset_import = sets.to_vec();
        let graph = Some(graph.clone());
        ModelProto { ir_version: Some(8), opset_import, graph, functions, ..Default::default() }
            .encode_to_vec()
    };
    let with = file(&encode(&graph, vec![function.clone()]));
    let network = Imported::read(with.path()).unwrap();
    assert!(network.taps().iter().any(|tap| tap == "r_node/c_node"), "{:?}", network.taps());
    // Two calls by nodes of one name, the second of which undoes what the first has done.
    let mut twice = graph.clone();
    let at = twice.node.iter().position(|node| node.op_type() == "Rectify").unwrap();
    let mut second = twice.node[at].clone();
    second.input = vec!["between".into()];
    twice.node[at].output = vec!["between".into()];
    twice.node.insert(at + 1, second);
    let twice = file(&encode(&twice, vec![function.clone()]));
    let network = Imported::read(twice.path()).unwrap();
    let taps = network.taps();
    assert!(taps.iter().any(|tap| tap.starts_with("r_node_") && tap.ends_with("/c_node")), "{taps:?}");
    // Nodes without a name have none in an export, which may not give a name twice.
    let mut nameless = function.clone();
    nameless.node.iter_mut().for_each(|node| node.name = None);
    let nameless = file(&encode(&graph, vec![nameless]));
    let written = Imported::read(nameless.path()).unwrap().rewritten(&|_| None, &[]).unwrap();
    let _loads = testing::session(&written);
    let mut doubled = function.clone();
    doubled.node.push(node("Relu", &["b"], "c", vec![]));
    let doubled = file(&encode(&graph, vec![doubled]));
    let error = Imported::read(doubled.path()).unwrap_err().to_string();
    assert!(error.contains("`r_node/c` is made twice"), "{error}");
    let mut endless = function;
    endless.node[1] = NodeProto { domain: Some("mine".into()), ..node("Rectify", &["b"], "c", vec![]) };
    let endless = file(&encode(&graph, vec![endless]));
    let error = Imported::read(endless.path()).unwrap_err().to_string();
    assert!(error.contains("`Rectify` calls itself"), "{error}");
}

#[test]
fn names_of_ours_are_kept_free() {
    let mut graph = by_hand();
    graph.initializer[1].name = Some("images".into());
    graph.node[0].input[2] = "images".into();
    // A name that the builder would have given to a node.
    graph.initializer[4].name = Some("Relu".into());
    graph.node[6].input[1] = "Relu".into();
    let file = file(&model(graph));
    let mut g = Builder::new("names", Lowering::evaluation(Target::Cpu));
    let x = g.input("x", TensorType::f32([1, 3, PX, PX])).unwrap();
    let network = Imported::read(file.path()).unwrap().reserving(&["images"]);
    let forward = network.forward(&mut g, x, Mode::Evaluate).unwrap();
    let names: Vec<&str> = forward.parameters.iter().map(|(p, _)| p.name.as_str()).collect();
    assert_eq!(names, ["c.weight", "network/images", "m.weight", "Relu", "g.weight", "g.bias"]);
    g.input("images", TensorType::f32([1])).unwrap();
}

#[test]
fn a_summary_has_layers_products_and_what_is_not_trained() {
    let mut graph = by_hand();
    graph.initializer.push(floats("unused", &[3]));
    let file = file(&model(graph));
    let summary = Imported::read(file.path()).unwrap().summary([PX, PX]).unwrap();
    // 4·3·3² + 4, 36·7 + 7, 7·5 + 5.
    assert_eq!(summary.trained, 112 + 259 + 40);
    assert_eq!((summary.classes, summary.running), (CLASSES, 0));
    let conv = &summary.layers[0];
    assert_eq!((conv.name.as_str(), &conv.shape[..]), ("c_node", &[1, 4, PX, PX][..]));
    assert_eq!((conv.parameters, conv.multiply_adds), (112, 36 * 4 * 27));
    let products: u64 = summary.layers.iter().map(|layer| layer.multiply_adds).sum();
    assert_eq!(products, 36 * 4 * 27 + 36 * 7 + 7 * 5);
    let constant: Vec<_> = summary.constant.iter().map(|c| (c.name.as_str(), c.values, c.reason)).collect();
    assert_eq!(constant, [("factor", 1, "a single value"), ("unused", 3, "the logits do not depend on it")]);
}

#[test]
fn a_sigmoid_at_the_end_is_left_out_where_logits_are_wanted() {
    let mut graph = by_hand();
    let last = graph.node.len() - 1;
    let logits = graph.node[last].input[0].clone();
    graph.node[last] = node("Sigmoid", &[&logits], graph.output[0].name(), vec![]);
    let file = file(&model(graph));
    let network = Imported::read(file.path()).unwrap();
    assert_ne!(network.logits, logits);
    let without = network.without_sigmoid().unwrap();
    assert_eq!(without.logits, logits);
    assert!(without.nodes.iter().all(|node| node.op_type() != "Sigmoid"));
}

#[test]
fn products_of_attention_and_of_recurrent_layers_are_counted() {
    let heads = [("q_num_heads", &[4][..]), ("kv_num_heads", &[4])].map(|(name, n)| attribute(name, n));
    let graph = GraphProto {
        node: vec![
            node("Reshape", &["x", "rows"], "r", vec![]),
            node("Attention", &["r", "r", "r"], "a", heads.to_vec()),
            node("LSTM", &["a", "w", "s"], "y", vec![attribute("layout", &[1])]),
            node("Reshape", &["y", "flat"], "logits", vec![]),
        ],
        initializer: vec![
            integers("rows", &[0, 3, -1]),
            floats("w", &[1, 8, 36]),
            floats("s", &[1, 8, 2]),
            integers("flat", &[0, 6]),
        ],
        input: vec![port("x", DataType::Float, &[0, 3, PX as i64, PX as i64])],
        output: vec![port("logits", DataType::Float, &[0, 6])],
        ..Default::default()
    };
    let file = file(&model_of(23, graph));
    let summary = Imported::read(file.path()).unwrap().summary([PX, PX]).unwrap();
    let products: Vec<_> = summary.layers.iter().map(|layer| layer.multiply_adds).collect();
    // Three rows by three keys of 36 values, twice; three steps by 8·36 and 8·2 weights.
    assert_eq!(products, [0, 2 * 3 * 3 * 36, 3 * (8 * 36 + 8 * 2), 0]);
}

fn number(name: &str, shape: &[i64], value: f32) -> TensorProto {
    let count = shape.iter().product::<i64>() as usize;
    TensorProto { float_data: vec![value; count], ..floats(name, shape) }
}
