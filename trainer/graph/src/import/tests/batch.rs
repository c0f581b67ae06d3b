//! Batches of another size than that of the trace.

use super::drawn::averages;
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

#[test]
fn constants_that_are_repeated_for_each_image_and_places_in_each_leave_the_batch_free() {
    let nodes = vec![
        node("Conv", &["x", "w"], "c", vec![]),
        node("GlobalAveragePool", &["c"], "pooled", vec![]),
        node("Flatten", &["pooled"], "f", vec![]),
        node("Shape", &["f"], "s", vec![]),
        node("Expand", &["order", "s"], "orders", vec![]),
        node("GatherElements", &["f", "orders"], "turned", vec![attribute("axis", &[1])]),
        node("Gather", &["s", "zero"], "n", vec![attribute("axis", &[0])]),
        node("Concat", &["n", "one"], "column", vec![attribute("axis", &[0])]),
        node("Expand", &["second", "column"], "seconds", vec![]),
        node("GatherND", &["f", "seconds"], "value", vec![attribute("batch_dims", &[1])]),
        node("Unsqueeze", &["value", "one"], "values", vec![]),
        node("Add", &["turned", "values"], "logits", vec![]),
    ];
    let initializer = vec![
        floats("w", &[4, 3, 1, 1]),
        TensorProto { dims: vec![1, 4], ..integers("order", &[2, 0, 3, 1]) },
        TensorProto { dims: vec![1, 1], ..integers("second", &[1]) },
        integers("zero", &[0]),
        integers("one", &[1]),
    ];
    let graph = graph_of(0, nodes, initializer, &[0, 4]);
    let bytes = model(GraphProto { name: Some("repeated".into()), ..graph });
    let file = file(&bytes);
    let network = Imported::read(file.path()).unwrap();
    let free = crate::free_batch(|batch| {
        let mut g = Builder::new("free", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([batch, 3, PX, PX]))?;
        let forward = network.forward(&mut g, x, Mode::Evaluate)?;
        let loss = g.sum(forward.logits)?;
        let gradient = g.grad(loss, &[x])?[0];
        g.output("logits", forward.logits)?;
        g.output("gradient", gradient)?;
        Ok(g.finish())
    });
    let mut ours = testing::session(&free.unwrap().to_bytes());
    let mut theirs = testing::session(&bytes);
    for rows in [1, 4] {
        let x = (0..rows * 3 * PX * PX).map(|i| ((i * 31) % 17) as f32 / 17.0 - 0.5).collect();
        let mut inputs = vec![("x", vec![rows, 3, PX, PX], Data::F32(x))];
        let expected = testing::run(&mut theirs, &borrowed(&inputs));
        let parameters = parameters(file.path()).unwrap();
        for parameter in &parameters {
            inputs.push((&parameter.name, parameter.shape.clone(), Data::F32(parameter.initial(0, 0))));
        }
        let given = testing::run(&mut ours, &borrowed(&inputs));
        assert_eq!((given["logits"].len(), given["gradient"].len()), (4 * rows, rows * 3 * PX * PX));
        for (a, b) in given["logits"].iter().zip(&expected["logits"]) {
            assert!((a - b).abs() < 1e-6, "{a} against {b}");
        }
    }
}

fn borrowed<'a>(inputs: &'a [(&str, Vec<usize>, Data)]) -> Vec<(&'a str, &'a [usize], Data)> {
    inputs.iter().map(|(name, shape, data)| (*name, shape.as_slice(), data.clone())).collect()
}
