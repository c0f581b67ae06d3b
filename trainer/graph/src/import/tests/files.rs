//! Values in a file beside the network, and networks that are written again.

use super::*;

#[test]
fn values_in_a_file_beside_the_network_are_read_and_only_there() {
    let folder = tempfile::tempdir().unwrap();
    let save = |location: &str, offset: &str, length: &str| {
        let mut graph = by_hand();
        let weights = &mut graph.initializer[0];
        let bytes: Vec<u8> = weights.float_data.drain(..).flat_map(f32::to_le_bytes).collect();
        fs::write(folder.path().join("w.data"), [&[9; 16][..], &bytes].concat()).unwrap();
        weights.data_location = Some(1);
        weights.external_data = [("location", location), ("offset", offset), ("length", length)]
            .map(|(key, value)| StringStringEntryProto { key: Some(key.into()), value: Some(value.into()) })
            .to_vec();
        let path = folder.path().join("network.onnx");
        fs::write(&path, model(graph)).unwrap();
        parameters(&path)
    };
    let inside = save("w.data", "16", "432").unwrap();
    let whole = file(&model(by_hand()));
    assert_eq!(inside, parameters(whole.path()).unwrap());
    for (location, offset, length, expected) in [
        ("w.data", "17", "432", "expected 432 bytes at byte 17, the file has 448 bytes"),
        ("w.data", "18446744073709551615", "432", "the file has 448 bytes"),
        ("w.data", "0", "12", "has 3 values, expected 108"),
        ("../w.data", "16", "432", "only lie in the folder"),
        ("/etc/passwd", "0", "432", "only lie in the folder"),
        ("nothing", "0", "432", "No such file"),
        (".", "0", "0", "not a file"),
        ("w.data", "x", "432", "the offset \"x\""),
    ] {
        let error = save(location, offset, length).unwrap_err().to_string();
        assert!(error.contains("`c.weight`") && error.contains(expected), "{location}: {error}");
    }
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
    let error = save("link", "0", "8").unwrap_err().to_string();
    assert!(error.contains("outside of that folder"), "{error}");
}

#[test]
fn a_file_is_written_again_with_other_values_under_its_own_names_for_evaluation() {
    let mut norm = node("BatchNormalization", &["c", "gain", "offset", "mean", "variance"], "n", vec![]);
    norm.attribute.push(attribute("training_mode", &[1]));
    norm.output.extend(["new_mean".into(), "new_variance".into()]);
    let mut drop = node("Dropout", &["scaled", "ratio", "training"], "d", vec![]);
    drop.output.push("dropped".into());
    let graph = GraphProto {
        node: vec![
            node("Conv", &["x", "w"], "c", vec![]),
            norm,
            node("RandomUniformLike", &["zeros"], "u", vec![]),
            node("Less", &["u", "keep"], "kept", vec![]),
            node("Cast", &["kept"], "depth", vec![attribute("to", &[1])]),
            node("Mul", &["n", "depth"], "scaled", vec![]),
            drop,
            node("GlobalAveragePool", &["d"], "pooled", vec![]),
            node("Flatten", &["pooled"], "f", vec![attribute("axis", &[1])]),
            node("Gemm", &["f", "g.weight"], "logits", vec![attribute("transB", &[1])]),
        ],
        initializer: vec![
            floats("w", &[4, 3, 1, 1]),
            floats("gain", &[4]),
            floats("offset", &[4]),
            floats("mean", &[4]),
            number("variance", &[4], 1.0),
            number("zeros", &[ROWS as i64, 1, 1, 1], 0.0),
            number("keep", &[], 0.75),
            number("ratio", &[], 0.5),
            TensorProto {
                name: Some("training".into()),
                data_type: Some(DataType::Bool as i32),
                int32_data: vec![1],
                ..Default::default()
            },
            floats("g.weight", &[CLASSES as i64, 4]),
        ],
        input: vec![port("x", DataType::Float, &[ROWS as i64, 3, PX as i64, PX as i64])],
        output: vec![port("logits", DataType::Float, &[ROWS as i64, CLASSES as i64])],
        ..Default::default()
    };
    let file = file(&model(graph));
    let network = Imported::read(file.path()).unwrap().with_classes(7).unwrap();
    let mut g = Builder::new("evaluation", Lowering::evaluation(Target::Cpu));
    let x = g.input("x", TensorType::f32([ROWS, 3, PX, PX])).unwrap();
    let forward = network.forward(&mut g, x, Mode::Evaluate).unwrap();
    g.output("logits", forward.logits).unwrap();
    let shapes = forward.parameters.iter().map(|(p, _)| (p.name.clone(), p.shape.clone()));
    let shapes =
        shapes.chain(forward.buffers.iter().map(|b| (b.buffer.name.clone(), b.buffer.shape.clone())));
    let value = |i: usize| 0.2 + ((i * 37) % 11) as f32 / 11.0;
    let trained: HashMap<String, (Vec<usize>, Vec<f32>)> = shapes
        .map(|(name, shape)| (name, (shape.clone(), (0..shape.iter().product()).map(value).collect())))
        .collect();
    assert_eq!(trained.len(), 6);
    let images: Vec<f32> = (0..ROWS * 3 * PX * PX).map(|i| ((i * 31) % 17) as f32 / 17.0 - 0.5).collect();
    let images: (&str, &[usize], Data) = ("x", &[ROWS, 3, PX, PX], Data::F32(images));
    let tensors =
        trained.iter().map(|(name, (shape, values))| (&**name, &**shape, Data::F32(values.clone())));
    let inputs: Vec<_> = [images.clone()].into_iter().chain(tensors).collect();
    let expected =
        testing::run(&mut testing::session(&g.finish().to_bytes()), &inputs).remove("logits").unwrap();

    let values = |name: &str| trained.get(name).map(|(_, values)| values.clone());
    let written = network.rewritten(&values, &[("classes".into(), "[]".into())]).unwrap();
    let logits = testing::run(&mut testing::session(&written), &[images]).remove("logits").unwrap();
    assert_eq!(logits.len(), ROWS * 7);
    for (a, b) in logits.iter().zip(&expected) {
        assert!((a - b).abs() < 1e-5, "{a} against {b}");
    }
    let model = ModelProto::decode(written.as_slice()).unwrap();
    assert_eq!(model.metadata_props[0].key(), "classes");
    let graph = model.graph.unwrap();
    let names: Vec<&str> = graph.node.iter().map(NodeProto::name).collect();
    assert_eq!(
        names,
        ["c_node", "n_node", "depth_node", "scaled_node", "d_node", "pooled_node", "f_node", "logits_node"]
    );
    let error = network.rewritten(&|_| Some(vec![0.0]), &[]).unwrap_err().to_string();
    assert!(error.contains("`w` has 12 values, given 1"), "{error}");
}

#[test]
fn sparse_initialisers_are_those_that_they_stand_for() {
    // 4x3x1x1 weights of which three are not 0, by their flat places and by axes.
    let sparse = |indices: TensorProto| SparseTensorProto {
        values: Some(TensorProto { float_data: vec![2.0, -1.0, 3.0], ..floats("w", &[3]) }),
        indices: Some(indices),
        dims: vec![4, 3, 1, 1],
    };
    let by_axes = [0, 0, 0, 0, 1, 2, 0, 0, 3, 1, 0, 0];
    let by_axes = TensorProto { dims: vec![3, 4], ..integers("places", &by_axes) };
    let beyond = integers("places", &[0, 5, 12]);
    let graph = |indices| {
        let nodes =
            vec![node("Conv", &["x", "w"], "c", vec![]), node("GlobalAveragePool", &["c"], "logits", vec![])];
        let sparse_initializer = vec![sparse(indices)];
        GraphProto { sparse_initializer, ..graph_of(0, nodes, vec![], &[0, 4, 1, 1]) }
    };
    for indices in [integers("places", &[0, 5, 10]), by_axes] {
        let [parameter] = &parameters(file(&model(graph(indices))).path()).unwrap()[..] else { panic!() };
        let values = [2.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0];
        assert_eq!((&parameter.name[..], &parameter.initial(0, 0)[..]), ("w", &values[..]));
    }
    let error = parameters(file(&model(graph(beyond))).path()).unwrap_err().to_string();
    assert!(error.contains("`w` has an index [12] beyond its shape [4, 3, 1, 1]"), "{error}");
    let error = parameters(file(&model(graph(integers("places", &[0, 5])))).path()).unwrap_err().to_string();
    assert!(error.contains("`w` has 3 values and 2 indices"), "{error}");
}
