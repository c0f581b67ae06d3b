//! Batches of another size than that of the trace.

use super::*;

#[test]
fn a_batch_that_a_trace_has_fixed_becomes_that_of_the_graph_or_is_named() {
    let build = |shape: &[i64], between: &[i64]| {
        let mut graph = by_hand();
        graph.input = vec![port("x", DataType::Float, &[2, 3, PX as i64, PX as i64])];
        graph.initializer[2] = integers("shape", shape);
        if !between.is_empty() {
            graph.initializer.push(integers("between", between));
            graph.node.insert(3, node("Reshape", &["p", "between"], "torn", vec![]));
            graph.node[4].input[0] = "torn".into();
        }
        let file = file(&model(graph));
        let mut g = Builder::new("batch", Lowering::evaluation(Target::Cpu));
        let x = g.input("x", TensorType::f32([ROWS, 3, PX, PX]))?;
        Imported::read(file.path())?.forward(&mut g, x, Mode::Evaluate).map(|_| ())
    };
    build(&[2, 36], &[]).unwrap();
    build(&[2, -1], &[]).unwrap();
    build(&[2, 36], &[72]).unwrap();
    let error = build(&[2, 36], &[3, 24]).unwrap_err().to_string();
    assert!(error.contains("`torn_node` (Reshape)") && error.contains("with a dynamic batch"), "{error}");
}

#[test]
fn what_a_trace_has_repeated_for_its_batch_is_repeated_for_that_of_the_graph() {
    let run =
        |nodes, initializers| averages(2, nodes, initializers, Mode::Evaluate).map(|(logits, _)| logits);
    let image = (3 * PX * PX) as i64;
    let shape = [2, 3, PX as i64, PX as i64];
    // A token that an exporter has expanded and folded into two equal parts, and one that it expands.
    let beside = |token: &str| {
        let sliced = node("Slice", &["c", "zero", "three", "one"], "y", vec![]);
        vec![node("Concat", &[token, "x"], "c", vec![attribute("axis", &[1])]), sliced]
    };
    let ends = [integers("zero", &[0]), integers("three", &[3]), integers("one", &[1])];
    let token = |batch| vec![number("token", &[batch, 1, PX as i64, PX as i64], 4.0)];
    let folded = run(beside("token"), [&token(2)[..], &ends].concat()).unwrap();
    let expand = node("Expand", &["token", "to"], "expanded", vec![]);
    let to = integers("to", &[2, 1, PX as i64, PX as i64]);
    let expanded =
        run([&[expand], &beside("expanded")[..]].concat(), [&token(1)[..], &ends, &[to]].concat()).unwrap();
    for logits in [folded, expanded] {
        let of_image = [4.0, 1.0, 1.0];
        assert!(logits.chunks(3).all(|image| image == of_image) && logits.len() == 9, "{logits:?}");
    }
    // A state that is the same for every image, as exporters write that before the first step of an LSTM.
    let nodes = vec![
        node("ConstantOfShape", &["to"], "state", vec![]),
        node("Shape", &["x"], "now", vec![]),
        node("Expand", &["state", "now"], "states", vec![]),
        node("Add", &["x", "states"], "y", vec![]),
    ];
    assert_eq!(run(nodes, vec![integers("to", &shape)]).unwrap(), [1.0; 9]);
    // Views into the values of all images, as PyTorch's exporter writes as_strided.
    let strided = |indices: Vec<i64>| {
        let mut indices = integers("indices", &indices);
        indices.dims = shape.to_vec();
        let nodes = vec![
            node("Reshape", &["x", "flat"], "f", vec![]),
            node("Gather", &["f", "indices"], "y", vec![attribute("axis", &[0])]),
        ];
        run(nodes, vec![integers("flat", &[-1]), indices])
    };
    assert_eq!(strided((0..2 * image).collect()).unwrap(), [1.0; 9]);
    let error = strided((0..image).chain(0..image).collect()).unwrap_err().to_string();
    assert!(error.contains("`y_node` (Gather)") && error.contains("with a dynamic batch"), "{error}");
}

#[test]
fn what_is_computed_from_shapes_fits_the_batch_of_the_graph() {
    // x.reshape(shape(x)[0], -1, 6) and back, as exporters write it; and a batch of the trace in a constant.
    let nodes = vec![
        node("Conv", &["x", "w"], "c", vec![]),
        node("Shape", &["c"], "s", vec![]),
        node("Gather", &["s", "zero"], "n", vec![]),
        node("Unsqueeze", &["n", "zeros"], "n1", vec![]),
        node("Concat", &["n1", "rest"], "flat", vec![attribute("axis", &[0])]),
        node("Reshape", &["c", "flat"], "f", vec![]),
        node("Reshape", &["f", "s"], "y", vec![]),
    ];
    let mut zero = integers("zero", &[0]);
    zero.dims = vec![];
    let initializers =
        vec![floats("w", &[4, 3, 1, 1]), zero, integers("zeros", &[0]), integers("rest", &[-1, 6])];
    declared(nodes, initializers, "y").unwrap();
}
