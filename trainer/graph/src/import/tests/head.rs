//! New last layers for other classes.

use super::*;

#[test]
fn a_head_for_other_classes_is_made_new_whatever_it_consists_of() {
    let shapes = |change: fn(&mut GraphProto)| {
        let mut graph = by_hand();
        change(&mut graph);
        let file = file(&model(graph));
        let network = Imported::read(file.path())?.with_classes(7)?;
        let mut g = Builder::new("head", Lowering::evaluation(Target::Cpu));
        let x = g.input("x", TensorType::f32([ROWS, 3, PX, PX]))?;
        let forward = network.forward(&mut g, x, Mode::Evaluate)?;
        assert_eq!(g.shape(forward.logits), [ROWS, 7]);
        let fresh = forward.parameters.iter().filter(|(p, _)| !matches!(p.init, Init::Values(_)));
        Ok::<_, GraphError>(fresh.map(|(p, _)| (p.name.clone(), p.shape.clone())).collect::<Vec<_>>())
    };
    let expected = [("g.weight".to_owned(), vec![7, 7]), ("g.bias".to_owned(), vec![7])];
    assert_eq!(shapes(|_| ()).unwrap(), expected);
    // A product and a sum, with transposed weights, and a reshape to the old number of classes.
    let by_parts: fn(&mut GraphProto) = |graph| {
        graph.node.truncate(8);
        graph.node.extend([
            node("Transpose", &["g.weight"], "gt", vec![attribute("perm", &[1, 0])]),
            node("MatMul", &["h", "gt"], "product", vec![]),
            node("Add", &["g.bias", "product"], "sum", vec![]),
            node("Reshape", &["sum", "to"], "probabilities", vec![]),
        ]);
        graph.initializer.push(integers("to", &[-1, CLASSES as i64]));
    };
    assert_eq!(shapes(by_parts).unwrap().len(), 2);
    // A convolution over pixels, as in SqueezeNet.
    let by_pixels: fn(&mut GraphProto) = |graph| {
        graph.node.truncate(3);
        graph.node.extend([
            node("Conv", &["p", "k.weight"], "k", vec![]),
            node("Relu", &["k"], "kr", vec![]),
            node("GlobalAveragePool", &["kr"], "probabilities", vec![]),
        ]);
        graph.initializer.push(floats("k.weight", &[CLASSES as i64, 4, 1, 1]));
    };
    assert_eq!(shapes(by_pixels).unwrap(), [("k.weight".to_owned(), vec![7, 4, 1, 1])]);
    // As many places as classes.
    let by_places: fn(&mut GraphProto) = |graph| {
        graph.node.truncate(1);
        let axes = vec![ints("axes", &[2]), attribute("keepdims", &[0])];
        graph.node.extend([
            node("Conv", &["c", "k.weight"], "k", vec![]),
            node("Reshape", &["k", "to"], "rows", vec![]),
            node("ReduceMean", &["rows"], "probabilities", axes),
        ]);
        let classes = CLASSES as i64;
        graph
            .initializer
            .extend([floats("k.weight", &[classes, 4, 2, 6]), integers("to", &[-1, classes, classes])]);
    };
    assert_eq!(shapes(by_places).unwrap(), [("k.weight".to_owned(), vec![7, 4, 2, 6])]);
    // A convolution whose channels come last, with a bias in another type and shape.
    let channels_last: fn(&mut GraphProto) = |graph| {
        graph.node.truncate(3);
        graph.node.extend([
            node("GlobalAveragePool", &["p"], "m", vec![]),
            node("Conv", &["m", "k.weight"], "k", vec![]),
            node("Cast", &["k.bias"], "kb", vec![attribute("to", &[1])]),
            node("Reshape", &["kb", "column"], "kc", vec![]),
            node("Add", &["k", "kc"], "sum", vec![]),
            node("Transpose", &["sum"], "last", vec![attribute("perm", &[0, 2, 3, 1])]),
            node("Reshape", &["last", "to"], "probabilities", vec![]),
        ]);
        let classes = CLASSES as i64;
        graph.initializer.extend([
            floats("k.weight", &[classes, 4, 1, 1]),
            floats("k.bias", &[classes]),
            integers("column", &[1, classes, 1, 1]),
            integers("to", &[-1, classes]),
        ]);
    };
    assert_eq!(
        shapes(channels_last).unwrap(),
        [("k.weight".to_owned(), vec![7, 4, 1, 1]), ("k.bias".to_owned(), vec![7])]
    );
    // A linear layer, and an offset of its own for each class.
    let with_offset: fn(&mut GraphProto) = |graph| {
        graph.node.truncate(9);
        graph.node[8].output[0] = "linear".into();
        graph.node.push(node("Add", &["linear", "prior"], "probabilities", vec![]));
        graph.initializer.push(floats("prior", &[CLASSES as i64]));
    };
    assert_eq!(shapes(with_offset).unwrap().len(), 3);
    // A single logit, whose bias has a single value; and one that is added to all.
    fn single(graph: &mut GraphProto) {
        graph.node.truncate(8);
        graph.node.extend([
            node("MatMul", &["h", "one.weight"], "product", vec![]),
            node("Add", &["product", "one.bias"], "probabilities", vec![]),
        ]);
        graph.initializer.extend([floats("one.weight", &[7, 1]), floats("one.bias", &[1])]);
    }
    let expected = [("one.weight".to_owned(), vec![7, 7]), ("one.bias".to_owned(), vec![7])];
    assert_eq!(shapes(single).unwrap(), expected);
    let added: fn(&mut GraphProto) = |graph| {
        single(graph);
        graph.initializer.push(floats("wide.weight", &[7, 3]));
        graph.node[8].input[1] = "wide.weight".into();
    };
    assert_eq!(shapes(added).unwrap(), [("wide.weight".to_owned(), vec![7, 7])]);
    let shared = shapes(|graph| {
        let head = graph.node.len() - 2;
        graph.node.insert(head, node("MatMul", &["h", "square"], "again", vec![]));
        graph.node[head + 1].input = vec!["again".into(), "square".into()];
        graph.node[head + 1].attribute.clear();
        graph.initializer.push(floats("square", &[7, 7]));
    });
    let error = shared.unwrap_err().to_string();
    assert!(error.contains("another layer uses the values `square` of its head too"), "{error}");
    let none = shapes(|graph| {
        graph.node.truncate(5);
        graph.output[0] = port("f", DataType::Float, &[0, 36]);
    });
    let error = none.unwrap_err().to_string();
    assert!(error.contains("(MaxPool)") && error.contains("a linear layer"), "{error}");
}
