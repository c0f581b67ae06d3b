//! Files that cannot be used.

use super::*;

/// The error for a changed network.
fn refusal(change: impl FnOnce(&mut GraphProto)) -> String {
    let mut graph = by_hand();
    change(&mut graph);
    let file = file(&model(graph));
    let error = parameters(file.path()).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn a_file_that_cannot_be_used_is_an_error_with_the_node_and_what_is_expected() {
    type Damage = fn(&mut GraphProto);
    let cases: [(Damage, &[&str]); 22] = [
        (
            |g| {
                g.node[1].op_type = Some("Gelato".into());
                g.node[4].op_type = Some("Loop".into());
            },
            &[
                "`r_node` (Gelato) is not supported",
                "Gelato (1; near: Gelu,",
                "Loop (1: export the network without control flow)",
            ],
        ),
        (
            |g| g.node[1].domain = Some("my.own".into()),
            &["`r_node` (Relu) is not supported", "my.own.Relu (1; near: Relu,"],
        ),
        (
            |g| g.node[1].op_type = Some("QLinearSigmoid".into()),
            &["QLinearSigmoid (1: use the file from before quantisation)"],
        ),
        (
            |g| {
                g.node[2].op_type = Some("NonZero".into());
            },
            &["`p_node` (NonZero) depends on the images"],
        ),
        (
            |g| g.node[2].attribute.push(attribute("dilations", &[0, 2])),
            &["`p_node` (MaxPool)", "dilations [0, 2]"],
        ),
        (|g| g.node[1].input[0] = "nothing".into(), &["`r_node` (Relu) takes `nothing`"]),
        (|g| g.node[1].input.clear(), &["`r_node` (Relu) lacks operand 1"]),
        (
            |g| g.node[1].input[0] = "p".into(),
            &["`r_node` (Relu) takes `p`", "one after it", "without a circle"],
        ),
        (
            |g| {
                g.node[4].output.push("kept".into());
                g.node[5].input[0] = "kept".into();
            },
            &["`m_node` (MatMul) takes `kept`, an output of `d_node` (Dropout) that is not supported"],
        ),
        (
            |g| g.node[2].output[0] = "r".into(),
            &["`r` is made twice, by node `r_node` (Relu) and by node `p_node` (MaxPool)"],
        ),
        (
            |g| g.initializer.push(floats("c.bias", &[4])),
            &["`c.bias` is made twice, by an initialiser and by an initialiser"],
        ),
        (
            |g| g.initializer[0].float_data[5] = f32::NAN,
            &["`c_node` (Conv)", "`c.weight`", "number 6 is NaN"],
        ),
        (
            |g| g.initializer[6].float_data[0] = f32::NEG_INFINITY,
            &["`logits_node` (Gemm)", "`g.weight`", "number 1 is -inf"],
        ),
        (|g| g.input[0] = port("x", DataType::Float, &[0, 3, -6, 6]), &["`x` has an axis of length -6"]),
        (
            |g| g.output[0] = port("c.bias", DataType::Float, &[4]),
            &["no node computes its output `c.bias` from the images"],
        ),
        (|g| g.output.clear(), &["it has no output"]),
        (|g| g.output.push(g.output[0].clone()), &["it has two outputs `probabilities`"]),
        (
            |g| g.input[0] = port("x", DataType::Uint8, &[0, 3, PX as i64, PX as i64]),
            &["`x` is UINT8", "f32 [N,3,H,W]"],
        ),
        (|g| g.input[0] = port("x", DataType::Float, &[0, 3, 7, 7]), &["images of 7x7 pixels", "have 6"]),
        (
            |g| g.initializer[0].data_location = Some(1),
            &["`c.weight` is stored in another file, which is not named"],
        ),
        (
            |g| {
                g.input.push(port("y", DataType::Float, &[1]));
                g.node.push(node("Relu", &["y"], "z", vec![]));
            },
            &["has 2 inputs (`x`, `y`)", "the images"],
        ),
        (|g| g.initializer[0].dims[0] = 5, &["`c.weight` has 108 values, expected 135"]),
    ];
    for (change, parts) in cases {
        let error = refusal(change);
        for part in parts {
            assert!(error.contains(part), "`{part}` is missing: {error}");
        }
    }
    for (ir_version, part) in [(None, "ir_version is 0"), (Some(99), "ir_version is 99, expected 3 to 20")] {
        let bytes = model(by_hand());
        let other = ModelProto { ir_version, ..ModelProto::decode(bytes.as_slice()).unwrap() };
        let error = parameters(file(&other.encode_to_vec()).path()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let error = parameters(file(&[]).path()).unwrap_err().to_string();
    assert!(error.contains("it is empty"), "{error}");
    let missing = parameters(Path::new("/nowhere.onnx")).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere.onnx: cannot be used as a network"), "{missing}");
    let text = file(b"no protobuf at all, certainly");
    let error = parameters(text.path()).unwrap_err().to_string();
    assert!(error.contains("not an ONNX file"), "{error}");
}

/// The error for a graph of these nodes from `x` `[N,3,6,6]`.
fn refusal_of(nodes: Vec<NodeProto>, initializers: Vec<TensorProto>) -> String {
    declared(nodes, initializers, "y").unwrap_err().to_string()
}

#[test]
fn numbers_beyond_any_network_are_refused_with_the_node_before_they_overflow_or_fill_memory() {
    let huge = [i64::MAX, i64::MIN, 1 << 40, LENGTH as i64 + 1];
    for huge in huge {
        for (operator, name) in [
            ("MaxPool", "kernel_shape"),
            ("MaxPool", "strides"),
            ("AveragePool", "dilations"),
            ("LpPool", "pads"),
            ("Conv", "group"),
            ("LRN", "size"),
            ("DepthToSpace", "blocksize"),
            ("TopK", "k"),
        ] {
            let given = if ["group", "size", "blocksize", "k"].contains(&name) { 1 } else { 2 };
            let mut attributes = vec![attribute(name, &[huge, 1][..given])];
            if operator.ends_with("Pool") && name != "kernel_shape" {
                attributes.push(attribute("kernel_shape", &[2, 2]));
            }
            let nodes = vec![node(operator, &["x", "w"], "y", attributes)];
            let error = refusal_of(nodes, vec![floats("w", &[4, 3, 1, 1])]);
            assert!(error.contains("`y_node`") && error.contains(&huge.to_string()), "{name}: {error}");
        }
        for (operator, values) in [
            ("Expand", &[1, 3, huge, 6][..]),
            ("Tile", &[1, 1, huge, 1]),
            ("Pad", &[0, 0, huge, 0, 0, 0, 0, huge]),
            ("Split", &[huge, 1]),
        ] {
            let nodes = vec![node(operator, &["x", "n"], "y", vec![])];
            let error = refusal_of(nodes, vec![integers("n", values)]);
            assert!(error.contains("`y_node`") && error.contains(&huge.to_string()), "{operator}: {error}");
        }
    }
    let area =
        |length: i64| vec![attribute("kernel_shape", &[length; 2]), attribute("pads", &[length / 2; 4])];
    let error = refusal_of(vec![node("MaxPool", &["x"], "y", area(1 << 13))], vec![]);
    assert!(error.contains("[8192, 8192]"), "{error}");
    let grown = |last| {
        let pads = integers("pads", &[0, 0, 0, 0, 0, 0, 1 << 13, 1 << 13]);
        refusal_of(vec![node("Pad", &["x", "pads"], "p", vec![]), last], vec![pads])
    };
    let error = grown(node("AveragePool", &["p"], "y", vec![attribute("kernel_shape", &[2, 2])]));
    assert!(error.contains("67190809 positions"), "{error}");
    let times = integers("n", &[1, 1, 1 << 18, 1 << 18]);
    let error = refusal_of(vec![node("Tile", &["x", "n"], "y", vec![])], vec![times]);
    assert!(error.contains("`y_node` (Tile) makes f32[3,3,1572864,1572864]"), "{error}");
}

#[test]
fn an_input_with_an_endless_axis_is_refused() {
    let error = refusal(|g| g.input[0] = port("x", DataType::Float, &[0, 3, 1 << 40, 1 << 40]));
    assert!(error.contains("`x` has an axis of 1099511627776"), "{error}");
}

#[test]
fn constants_that_are_large_together_are_refused() {
    let mut nodes: Vec<_> =
        (0..5).map(|at| node("ConstantOfShape", &["n"], &format!("k{at}"), vec![])).collect();
    nodes.push(node("Sum", &["x", "k0", "k1", "k2", "k3", "k4"], "y", vec![]));
    let error = refusal_of(nodes, vec![integers("n", &[CONSTANT as i64])]);
    assert!(
        error.contains("`k4_node` (ConstantOfShape) brings the computed constants to more than"),
        "{error}"
    );
}

#[test]
fn functions_that_call_each_other_twice_end_though_they_hold_no_node() {
    let names: Vec<_> = (0..30).map(|at| format!("F{at}")).collect();
    let functions = names.iter().enumerate().map(|(at, name)| FunctionProto {
        name: Some(name.clone()),
        domain: Some("mine".into()),
        node: names
            .get(at + 1)
            .into_iter()
            .flat_map(|next| {
                let call = NodeProto { domain: Some("mine".into()), ..node(next, &[], "z", vec![]) };
                [call.clone(), call]
            })
            .collect(),
        ..Default::default()
    });
    let call = NodeProto { domain: Some("mine".into()), ..node("F0", &[], "y", vec![]) };
    let error = functions::inline(vec![call], &functions.collect::<Vec<_>>()).unwrap_err();
    assert!(error.contains("called more than"), "{error}");
}

#[test]
fn all_nodes_that_cannot_be_translated_are_named() {
    let error = refusal(|graph| {
        graph.node[2].attribute.push(attribute("dilations", &[0, 2]));
        graph.node.push(node("Conv", &["c", "g.bias"], "other", vec![]));
        graph.node.push(node("Reshape", &["other", "shape"], "flat", vec![]));
        graph.node.push(node("Add", &["flat", "a"], "both", vec![]));
        graph.output[0] = port("both", DataType::Float, &[0, CLASSES as i64]);
    });
    assert!(
        error.contains("`p_node` (MaxPool)") && error.contains("and 1 more: `other_node` (Conv)"),
        "{error}"
    );
}

/// The network of a convolution of 4 channels, `operator` over it, and a mean that is flattened.
fn around(
    operator: &str,
    attributes: Vec<AttributeProto>,
    operands: &[&[i64]],
    opset: i64,
) -> (NamedTempFile, Vec<NodeProto>) {
    let names: Vec<String> = (0..operands.len()).map(|at| format!("operand{at}")).collect();
    let inputs: Vec<&str> = iter::once("c")
        .chain(operands.iter().zip(&names).map(|(list, name)| match list.is_empty() {
            true => "",
            false => name.as_str(),
        }))
        .collect();
    let conv = if operator == "Conv" { attributes.clone() } else { vec![attribute("pads", &[1, 1, 1, 1])] };
    let mut nodes = vec![node("Conv", &["x", "c.weight"], "c", conv)];
    if operator != "Conv" {
        nodes.push(node(operator, &inputs, "y", attributes));
    }
    let last = if operator == "Conv" { "c" } else { "y" };
    nodes.push(node("GlobalAveragePool", &[last], "mean", vec![]));
    nodes.push(node("Flatten", &["mean"], "logits", vec![]));
    let given = operands.iter().zip(&names).filter(|(list, _)| !list.is_empty());
    let constants = given.map(|(list, name)| integers(name, list));
    let graph = GraphProto {
        node: nodes.clone(),
        initializer: iter::once(floats("c.weight", &[4, 3, 3, 3])).chain(constants).collect(),
        input: vec![port("x", DataType::Float, &[0, 3, PX as i64, PX as i64])],
        output: vec![port("logits", DataType::Float, &[0, 4])],
        ..Default::default()
    };
    let set = OperatorSetIdProto { domain: None, version: Some(opset) };
    let proto =
        ModelProto { ir_version: Some(8), opset_import: vec![set], graph: Some(graph), ..Default::default() };
    (file(&proto.encode_to_vec()), nodes)
}

#[test]
fn no_number_of_a_file_is_too_large_or_negative_to_be_refused_or_used() {
    let extremes = [
        i64::MIN,
        -(1 << 31),
        -(1 << 28),
        -7,
        -1,
        0,
        7,
        1000,
        1 << 20,
        1 << 28,
        1 << 31,
        1 << 40,
        1 << 62,
        i64::MAX,
    ];
    let mut refused = 0;
    for v in extremes {
        let two = [v, v];
        let list = |name: &str, values: &[i64]| vec![attribute(name, values)];
        let window =
            |name: &str, values: &[i64]| vec![attribute("kernel_shape", &[2, 2]), attribute(name, values)];
        type Case = (&'static str, Vec<AttributeProto>, Vec<Vec<i64>>);
        let cases: Vec<Case> = vec![
            ("Conv", list("strides", &two), vec![]),
            ("Conv", list("pads", &[v, v, v, v]), vec![]),
            ("Conv", list("pads", &[0, 1, v, 1]), vec![]),
            ("Conv", list("dilations", &two), vec![]),
            ("Conv", list("group", &[v]), vec![]),
            ("Conv", list("kernel_shape", &two), vec![]),
            ("MaxPool", list("kernel_shape", &two), vec![]),
            ("MaxPool", window("strides", &two), vec![]),
            ("MaxPool", window("pads", &[v, v, v, v]), vec![]),
            ("MaxPool", window("dilations", &two), vec![]),
            ("AveragePool", list("kernel_shape", &two), vec![]),
            ("AveragePool", window("strides", &two), vec![]),
            ("AveragePool", window("pads", &[v, v, v, v]), vec![]),
            ("LRN", list("size", &[v]), vec![]),
            ("Softmax", list("axis", &[v]), vec![]),
            ("Flatten", list("axis", &[v]), vec![]),
            ("Transpose", list("perm", &[0, 1, 2, v]), vec![]),
            ("DepthToSpace", list("blocksize", &[v]), vec![]),
            ("SpaceToDepth", list("blocksize", &[v]), vec![]),
            ("Reshape", vec![], vec![vec![0, 4, v, v]]),
            ("Reshape", vec![], vec![vec![-1, 4, v, 6]]),
            ("Pad", vec![], vec![vec![0, 0, v, v, 0, 0, v, v]]),
            ("Pad", vec![], vec![vec![0, 0, 0, 0, 0, v, 0, 0]]),
            ("Slice", vec![], vec![vec![v], vec![5], vec![2]]),
            ("Slice", vec![], vec![vec![0], vec![v], vec![2]]),
            ("Slice", vec![], vec![vec![0], vec![5], vec![v]]),
            ("Slice", vec![], vec![vec![0], vec![5], vec![2], vec![v]]),
            ("Unsqueeze", vec![], vec![vec![v]]),
            ("Squeeze", vec![], vec![vec![v]]),
            ("Gather", list("axis", &[2]), vec![vec![v, 0]]),
            ("Gather", list("axis", &[v]), vec![vec![1, 0]]),
            ("Tile", vec![], vec![vec![1, 1, v, v]]),
            ("Col2Im", vec![], vec![vec![v, v], vec![2, 2]]),
            ("Col2Im", vec![], vec![vec![6, 6], vec![v, 2]]),
            ("Col2Im", window("strides", &two), vec![vec![6, 6], vec![2, 2]]),
            ("Expand", vec![], vec![vec![1, 4, v, 1]]),
            ("Split", list("axis", &[1]), vec![vec![v]]),
            ("Split", vec![attribute("axis", &[v]), attribute("num_outputs", &[1])], vec![]),
            ("Split", vec![attribute("axis", &[1]), attribute("num_outputs", &[v])], vec![]),
            ("ReduceMean", vec![], vec![vec![v]]),
            ("Resize", vec![], vec![vec![], vec![], vec![1, 4, v, v]]),
            ("CumSum", vec![], vec![vec![v]]),
            ("TopK", list("axis", &[1]), vec![vec![v]]),
            ("Trilu", vec![], vec![vec![v]]),
        ];
        for (operator, attributes, operands) in cases {
            let operands: Vec<&[i64]> = operands.iter().map(Vec::as_slice).collect();
            let (file, nodes) = around(operator, attributes, &operands, 18);
            let Err(error) = parameters(file.path()) else { continue };
            let error = error.to_string();
            assert!(
                error.contains("y_node")
                    || error.contains("c_node")
                    || error.contains("mean_node")
                    || error.contains("logits"),
                "{nodes:?}: {error}"
            );
            assert!(!error.contains('\n') && error.len() < 600, "{error}");
            refused += 1;
        }
    }
    assert!(refused > 300, "{refused}");
}

#[test]
fn a_tensor_that_doubles_again_and_again_is_refused_where_it_is_too_large() {
    let names: Vec<String> = (0..=40).map(|at| format!("t{at}")).collect();
    let axis = || vec![attribute("axis", &[2])];
    let doubled = names.windows(2).map(|pair| node("Concat", &[&pair[0], &pair[0]], &pair[1], axis()));
    let nodes = iter::once(node("Conv", &["x", "c.weight"], "t0", vec![])).chain(doubled).chain([
        node("GlobalAveragePool", &["t40"], "mean", vec![]),
        node("Flatten", &["mean"], "logits", vec![]),
    ]);
    let graph = GraphProto {
        node: nodes.collect(),
        initializer: vec![floats("c.weight", &[4, 3, 3, 3])],
        input: vec![port("x", DataType::Float, &[0, 3, PX as i64, PX as i64])],
        output: vec![port("logits", DataType::Float, &[0, 4])],
        ..Default::default()
    };
    let file = file(&model(graph));
    let error = parameters(file.path()).unwrap_err().to_string();
    assert!(error.contains("`t35_node` (Concat) makes f32[1,4,137438953472,4], more than"), "{error}");
}

#[test]
fn only_a_regular_file_is_read_as_a_network() {
    let error = parameters(Path::new("/dev/zero")).unwrap_err().to_string();
    assert!(error.contains("/dev/zero: cannot be used as a network: it is not a regular file"), "{error}");
}

#[test]
fn a_head_in_a_circle_is_not_looked_for_without_end() {
    let mut graph = by_hand();
    graph.node.push(node("Identity", &["there"], "here", vec![]));
    graph.node.push(node("Identity", &["here"], "there", vec![]));
    graph.output = vec![port("there", DataType::Float, &[0, 5])];
    let error = Imported::read(file(&model(graph)).path()).unwrap().with_classes(3).unwrap_err().to_string();
    assert!(error.contains("no linear layer makes its output `there`"), "{error}");
}
