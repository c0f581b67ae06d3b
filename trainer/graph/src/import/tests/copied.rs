//! Nodes of operators that are not known here.

use super::*;

/// A network around nodes that are only copied: an operator of another domain before the first parameter, one
/// on integers, and one that lacks an operand in the middle.
fn with_unknown_nodes() -> GraphProto {
    let mut graph = by_hand();
    graph.node[0].input[0] = "q".into();
    graph.node[1].input[0] = "b".into();
    let alpha =
        AttributeProto { name: Some("alpha".into()), f: Some(1.5), r#type: Some(1), ..Default::default() };
    let to = |ty: DataType| vec![attribute("to", &[ty as i64])];
    let gelu = node("QuickGelu", &["x"], "q", vec![alpha]);
    graph.node.splice(
        0..0,
        [
            node("Reshape", &["x", "signal_shape"], "signal", vec![]),
            node("STFT", &["signal", "step", "", "length"], "spectrum", vec![]),
            node("ReduceMean", &["spectrum", "axes"], "mean", vec![]),
            NodeProto { domain: Some("com.microsoft".into()), ..gelu },
        ],
    );
    let conv = graph.node.iter().position(|node| node.op_type() == "Conv").unwrap();
    graph.node.splice(
        conv + 1..conv + 1,
        [
            node("Mul", &["c", "hundred"], "scaled", vec![]),
            node("Cast", &["scaled"], "whole", to(DataType::Int64)),
            node("BitwiseNot", &["whole"], "inverse", vec![]),
            node("Cast", &["inverse"], "number", to(DataType::Float)),
            node("Add", &["c", "number"], "a0", vec![]),
            node("Add", &["a0", "mean"], "b", vec![]),
        ],
    );
    let scalar = |name, value| TensorProto { dims: vec![], ..integers(name, &[value]) };
    graph.initializer.extend([
        integers("signal_shape", &[0, 108, 1]),
        scalar("step", 20),
        scalar("length", 8),
        integers("axes", &[1, 2, 3]),
        TensorProto { float_data: vec![3.0], ..floats("hundred", &[]) },
    ]);
    let px = PX as i64;
    graph.value_info = vec![
        port("q", DataType::Float, &[0, 3, px, px]),
        port("inverse", DataType::Int64, &[0, 4, px, px]),
        port("spectrum", DataType::Float, &[0, 6, 5, 2]),
    ];
    graph
}

fn encoded(graph: GraphProto) -> Vec<u8> {
    let set =
        |domain: &str, version| OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) };
    let opset_import = vec![set("", 18), set("com.microsoft", 1)];
    ModelProto { ir_version: Some(8), opset_import, graph: Some(graph), ..Default::default() }.encode_to_vec()
}

#[test]
fn nodes_that_no_gradient_passes_through_are_copied_whatever_they_are() {
    let bytes = encoded(with_unknown_nodes());
    let x: Vec<f32> = (0..ROWS * 3 * PX * PX).map(|i| ((i * 31) % 17) as f32 / 17.0 - 0.5).collect();
    let images: (&str, &[usize], Data) = ("x", &[ROWS, 3, PX, PX], Data::F32(x));
    let expected = testing::run(&mut testing::session(&bytes), std::slice::from_ref(&images));

    let file = file(&bytes);
    let mut g = Builder::new("copied", Lowering::training(Target::Cpu));
    let input = g.input("x", TensorType::f32([ROWS, 3, PX, PX])).unwrap();
    let forward = Imported::read(file.path()).unwrap().forward(&mut g, input, Mode::Evaluate).unwrap();
    let probabilities = g.softmax(forward.logits, 1).unwrap();
    g.output("probabilities", probabilities).unwrap();
    let loss = g.sum(probabilities).unwrap();
    let parameters: Vec<Tensor> = forward.parameters.iter().map(|(_, input)| *input).collect();
    let gradients = g.grad(loss, &parameters).unwrap();
    for (at, gradient) in gradients.into_iter().enumerate() {
        g.output(&format!("gradient {at}"), gradient).unwrap();
    }
    let error = g.grad(loss, &[input]).unwrap_err().to_string();
    assert!(error.contains("QuickGelu"), "{error}");
    let mut inputs = vec![images];
    for (parameter, _) in &forward.parameters {
        inputs.push((&parameter.name, &parameter.shape, Data::F32(parameter.initial(0, 0))));
    }
    assert_eq!(forward.parameters.len(), 6);
    let graph = g.finish();
    let names: Vec<&str> = graph.operators().iter().map(|(operator, _)| operator.name).collect();
    assert!(["BitwiseNot", "QuickGelu", "STFT"].iter().all(|name| names.contains(name)), "{names:?}");
    let given = testing::run(&mut testing::session(&graph.to_bytes()), &inputs);
    for (a, b) in given["probabilities"].iter().zip(&expected["probabilities"]) {
        assert!((a - b).abs() < 1e-6, "{a} against {b}");
    }
}

#[test]
fn nodes_that_cannot_be_copied_are_refused_with_the_reason() {
    let refusal = |change: fn(&mut GraphProto)| {
        let mut graph = with_unknown_nodes();
        change(&mut graph);
        parameters(file(&encoded(graph)).path()).unwrap_err().to_string()
    };
    let error = refusal(|graph| graph.value_info.truncate(2));
    assert!(error.contains("`spectrum_node` (STFT) is not supported"), "{error}");
    assert!(
        error.contains("STFT (1: no gradient passes through it, but the file does not declare"),
        "{error}"
    );
    // Between parameters and the logits.
    let error = refusal(|graph| {
        graph.value_info.push(port("r", DataType::Float, &[0, 4, 6, 6]));
        let relu = graph.node.iter_mut().find(|node| node.op_type() == "Relu").unwrap();
        relu.op_type = Some("QuickGelu".into());
        relu.domain = Some("com.microsoft".into());
    });
    assert!(error.contains("`r_node` (QuickGelu) is not supported"), "{error}");
    assert!(error.contains("these that are not: com.microsoft.QuickGelu (1; near: Gelu"), "{error}");
    let error = refusal(|graph| graph.value_info[0] = port("q", DataType::Float, &[0, 3, 0, PX as i64]));
    assert!(error.contains("makes `q`, an axis of which has no length in the file"), "{error}");
    let error = refusal(|graph| graph.value_info[1] = port("inverse", DataType::Uint64, &[0, 4, 6, 6]));
    assert!(error.contains("makes `inverse`, which is UINT64"), "{error}");
}

#[test]
fn an_operator_of_a_file_is_kept_once() {
    let [a, b, c] = [("Own", "mine", 1), ("Own", "mine", 1), ("Own", "ai.onnx", 20)]
        .map(|(name, domain, version)| Operator::of_file(name, domain, version));
    assert!(std::ptr::eq(a, b) && !std::ptr::eq(a, c));
    assert_eq!((c.domain, c.since), ("", 20));
}
