//! Files with branches.

use super::*;

fn branch(nodes: Vec<NodeProto>, results: &[&str], initializer: Vec<TensorProto>) -> GraphProto {
    let output = results.iter().map(|name| port(name, DataType::Float, &[])).collect();
    GraphProto { name: Some("branch".into()), node: nodes, output, initializer, ..Default::default() }
}

fn choice(condition: &str, branches: [GraphProto; 2], output: &str) -> NodeProto {
    let attributes = ["then_branch", "else_branch"].into_iter().zip(branches).map(|(name, graph)| {
        AttributeProto { name: Some(name.into()), g: Some(graph), r#type: Some(5), ..Default::default() }
    });
    node("If", &[condition], output, attributes.collect())
}

fn boolean(name: &str, value: bool) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        data_type: Some(DataType::Bool as i32),
        int32_data: vec![value.into()],
        ..Default::default()
    }
}

/// A network that multiplies by `t.weight` and a constant, or negates that, where images are higher than
/// `limit`, else by `e.weight`. Values of branches have the same names.
fn with_branches(limit: i64, inner: bool) -> GraphProto {
    let mut factor = node("Constant", &[], "k", vec![]);
    factor.attribute.push(AttributeProto {
        name: Some("value_float".into()),
        f: Some(2.5),
        r#type: Some(1),
        ..Default::default()
    });
    let nested = choice(
        "inner",
        [
            branch(vec![node("Neg", &["m"], "out", vec![])], &["out"], vec![]),
            branch(vec![node("Identity", &["m"], "out", vec![])], &["out"], vec![]),
        ],
        "k2",
    );
    let high = branch(
        vec![
            factor,
            node("Mul", &["c", "t.weight"], "s", vec![]),
            node("Mul", &["s", "k"], "m", vec![]),
            nested,
        ],
        &["k2"],
        vec![],
    );
    let low = branch(
        vec![node("Mul", &["c", "e.weight"], "s", vec![]), node("Relu", &["s"], "m", vec![])],
        &["m"],
        vec![floats("e.weight", &[4, 1, 1])],
    );
    GraphProto {
        name: Some("branches".into()),
        node: vec![
            node("Conv", &["x", "w"], "c", vec![]),
            node("Shape", &["c"], "shape", vec![]),
            node("Gather", &["shape", "axis"], "height", vec![]),
            node("Greater", &["height", "limit"], "is_high", vec![]),
            choice("is_high", [high, low], "y"),
            node("GlobalAveragePool", &["y"], "pooled", vec![]),
            node("Flatten", &["pooled"], "logits", vec![]),
        ],
        initializer: vec![
            floats("w", &[4, 3, 1, 1]),
            floats("t.weight", &[4, 1, 1]),
            integers("axis", &[2]),
            integers("limit", &[limit]),
            boolean("inner", inner),
        ],
        input: vec![port("x", DataType::Float, &[0, 3, PX as i64, PX as i64])],
        output: vec![port("logits", DataType::Float, &[0, 4])],
        ..Default::default()
    }
}

#[test]
fn the_branch_whose_condition_holds_is_translated_with_its_parameters_alone() {
    for (limit, inner, expected) in [(5, true, "t.weight"), (5, false, "t.weight"), (6, true, "e.weight")] {
        let bytes = model(with_branches(limit, inner));
        let whole = testing::run(&mut testing::session(&bytes), &[images()]).remove("logits").unwrap();
        let file = file(&bytes);
        let (names, logits) = imported(file.path()).unwrap();
        assert_eq!(names, ["w", expected]);
        for (a, b) in logits.iter().zip(&whole) {
            assert!((a - b).abs() < 1e-6, "{a} against {b}");
        }
        let summary = Imported::read(file.path()).unwrap().summary([PX, PX]).unwrap();
        let constant: Vec<_> = summary.constant.iter().map(|constant| constant.reason).collect();
        assert_eq!(constant, ["it is of a branch that does not run"]);
    }
}

#[test]
fn a_file_with_branches_is_written_again_with_them_and_other_values() {
    for (limit, name) in [(5, "t.weight"), (6, "e.weight")] {
        let file = file(&model(with_branches(limit, false)));
        let network = Imported::read(file.path()).unwrap();
        let others = vec![1.0, -2.0, 0.5, 3.0];
        let written = network.rewritten(&|asked| (asked == name).then(|| others.clone()), &[]).unwrap();
        let graph = ModelProto::decode(written.as_slice()).unwrap().graph.unwrap();
        assert!(graph.node.iter().any(|node| node.op_type() == "If" && node.attribute.len() == 2));
        let again = super::file(&written);
        let given = testing::run(&mut testing::session(&written), &[images()]).remove("logits").unwrap();
        let (_, logits) = imported(again.path()).unwrap();
        let (_, before) = imported(file.path()).unwrap();
        assert_ne!(before, logits);
        for (a, b) in logits.iter().zip(&given) {
            assert!((a - b).abs() < 1e-6, "{name}: {a} against {b}");
        }
    }
}

#[test]
fn branches_of_functions_have_names_of_their_calls() {
    let mut graph = with_branches(5, false);
    let calls = graph.node.split_off(4);
    let mut body = vec![calls[0].clone()];
    for node in &mut body {
        node.output = vec!["result".into()];
    }
    let function = FunctionProto {
        name: Some("Choose".into()),
        domain: Some("mine".into()),
        input: ["c", "is_high", "t.weight", "inner"].map(String::from).to_vec(),
        output: vec!["result".into()],
        node: body,
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(17) }],
        ..Default::default()
    };
    let operands = ["c", "is_high", "t.weight", "inner"];
    graph.node.push(NodeProto { domain: Some("mine".into()), ..node("Choose", &operands, "y", vec![]) });
    graph.node.extend_from_slice(&calls[1..]);
    let sets =
        ["", "mine"].map(|domain| OperatorSetIdProto { domain: Some(domain.into()), version: Some(17) });
    let model = ModelProto {
        ir_version: Some(8),
        opset_import: sets.to_vec(),
        graph: Some(graph),
        functions: vec![function],
        ..Default::default()
    };
    let with_function = file(&model.encode_to_vec());
    let without = file(&super::model(with_branches(5, false)));
    assert_eq!(imported(with_function.path()).unwrap(), imported(without.path()).unwrap());
}

#[test]
fn a_condition_that_is_not_known_and_a_branch_that_does_not_fit_are_refused() {
    let refusal = |change: fn(&mut GraphProto)| {
        let mut graph = with_branches(5, true);
        change(&mut graph);
        imported(file(&model(graph)).path()).unwrap_err().to_string()
    };
    let error = refusal(|graph| {
        let to = attribute("to", &[DataType::Bool as i64]);
        graph.node[3] = node("Cast", &["c"], "is_high", vec![to]);
    });
    assert!(error.contains("`y_node` (If) chooses by `is_high`, which is not known"), "{error}");
    assert!(error.contains("export the network without control flow"), "{error}");
    let error = refusal(|graph| graph.node[4].attribute.truncate(1));
    assert!(error.contains("`y_node` (If) has no else_branch"), "{error}");
    let error = refusal(|graph| graph.node[4].attribute[1].g.as_mut().unwrap().output.clear());
    assert!(error.contains("`y_node` (If) has 1 outputs, and its else_branch 0"), "{error}");
    let unknown = |graph: &mut GraphProto, at: usize| {
        let nodes = &mut graph.node[4].attribute[at].g.as_mut().unwrap().node;
        nodes.last_mut().unwrap().op_type = Some("Gelato".into());
        nodes.last_mut().unwrap().attribute.clear();
    };
    let mut graph = with_branches(5, true);
    unknown(&mut graph, 1);
    imported(file(&model(graph)).path()).unwrap();
    let mut graph = with_branches(5, true);
    unknown(&mut graph, 0);
    let error = imported(file(&model(graph)).path()).unwrap_err().to_string();
    assert!(error.contains("(Gelato) is not supported"), "{error}");
}

#[test]
fn an_identity_matrix_of_any_shape_is_known() {
    let mut graph = by_hand();
    graph.node.splice(
        6..7,
        [
            node("EyeLike", &["m"], "eye", vec![attribute("k", &[1])]),
            node("Mul", &["m", "eye"], "marked", vec![]),
            node("Add", &["marked", "m.bias"], "a", vec![]),
        ],
    );
    let bytes = model(graph);
    let whole = testing::run(&mut testing::session(&bytes), &[images()]).remove("probabilities").unwrap();
    let (_, logits) = imported(file(&bytes).path()).unwrap();
    for (row, expected) in logits.chunks(CLASSES).zip(whole.chunks(CLASSES)) {
        let sum: f64 = row.iter().map(|logit| logit.exp()).sum();
        for (logit, expected) in row.iter().zip(expected) {
            assert!((logit.exp() / sum - expected).abs() < 1e-6);
        }
    }
}
