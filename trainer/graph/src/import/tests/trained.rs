//! Which values of a file are parameters, which are statistics, and which stay.

use super::*;

#[test]
fn divisors_and_what_no_gradient_reaches_stay_as_they_are() {
    // As in windowed attention: regions are compared, and where they differ is masked. As in adaptive
    // pooling: sums are divided by counts.
    let nodes = vec![
        node("Conv", &["x", "w"], "c", vec![]),
        node("Sub", &["regions", "others"], "distance", vec![]),
        node("Equal", &["distance", "zeros"], "same", vec![]),
        node("Where", &["same", "c", "instead"], "kept", vec![]),
        node("Cast", &["rates"], "whole", vec![attribute("to", &[i64::from(DataType::Int64 as i32)])]),
        node("Cast", &["whole"], "again", vec![attribute("to", &[i64::from(DataType::Float as i32)])]),
        node("Add", &["kept", "again"], "sum", vec![]),
        node("Div", &["sum", "counts"], "mean", vec![]),
        node("Div", &["numerator", "mean"], "y", vec![]),
    ];
    let plane = |name| floats(name, &[6, 6]);
    let initializers = vec![
        floats("w", &[4, 3, 1, 1]),
        plane("regions"),
        plane("others"),
        plane("zeros"),
        plane("instead"),
        plane("rates"),
        plane("counts"),
        plane("numerator"),
    ];
    let [parameters, _] = declared(nodes, initializers, "y").unwrap();
    assert_eq!(parameters, ["w", "instead", "numerator"]);
}

#[test]
fn regions_stay_as_they_are() {
    let bins = || [attribute("output_height", &[2]), attribute("output_width", &[2])];
    let pooled = attribute("pooled_shape", &[2, 2]);
    let nodes = vec![
        node("Conv", &["x", "w"], "c", vec![]),
        node("RoiAlign", &["c", "corners", "images"], "aligned", bins().into()),
        node("MaxRoiPool", &["c", "regions"], "pooled", vec![pooled]),
        node("Add", &["aligned", "pooled"], "y", vec![]),
    ];
    let initializers = vec![
        floats("w", &[4, 3, 1, 1]),
        floats("corners", &[3, 4]),
        integers("images", &[0, 1, 1]),
        TensorProto { float_data: [1.0, 0.0, 1.0, 4.0, 5.0].repeat(3), ..floats("regions", &[3, 5]) },
    ];
    let [parameters, _] = declared(nodes, initializers, "y").unwrap();
    assert_eq!(parameters, ["w"]);
}

#[test]
fn initialisers_are_parameters_wherever_they_stand_unless_they_normalise_or_mask() {
    let nodes = vec![
        node("Sub", &["x", "mean"], "centred", vec![]),
        node("Div", &["centred", "std"], "normal", vec![]),
        node("Transpose", &["w"], "wt", vec![attribute("perm", &[1, 0, 2, 3])]),
        node("Identity", &["wt"], "wi", vec![]),
        node("Conv", &["normal", "wi"], "c", vec![]),
        node("Reshape", &["scale", "to"], "scale4", vec![]),
        node("Mul", &["c", "scale4"], "scaled", vec![]),
        node("Add", &["scaled", "mask"], "masked", vec![]),
        node("Mul", &["masked", "single"], "y", vec![]),
    ];
    let mut mask = floats("mask", &[6, 6]);
    mask.float_data = (0..36).map(|i| if i % 2 == 0 { 0.0 } else { -100.0 }).collect();
    let initializers = vec![
        floats("mean", &[3, 1, 1]),
        floats("std", &[3, 1, 1]),
        floats("w", &[3, 4, 1, 1]),
        floats("scale", &[4]),
        integers("to", &[4, 1, 1]),
        mask,
        floats("single", &[1]),
    ];
    let [parameters, buffers] = declared(nodes, initializers, "y").unwrap();
    assert_eq!(parameters, ["w", "scale"]);
    assert!(buffers.is_empty());
}

#[test]
fn running_statistics_are_buffers_that_training_moves() {
    let nodes = vec![
        node("Conv", &["x", "w"], "c", vec![]),
        node("BatchNormalization", &["c", "gain", "offset", "mean", "variance"], "y", vec![]),
    ];
    let initializers = vec![
        floats("w", &[4, 3, 1, 1]),
        floats("gain", &[4]),
        floats("offset", &[4]),
        floats("mean", &[4]),
        floats("variance", &[4]),
    ];
    let [parameters, buffers] = declared(nodes, initializers, "y").unwrap();
    assert_eq!(parameters, ["w", "gain", "offset"]);
    assert_eq!(buffers, ["mean", "variance"]);
}

/// A convolution by `batch_norm(w.reshape(1, O, -1), None, None, gain, training=True)`, as PyTorch's
/// exporters write it. The one with `training_mode` writes the weights again for the statistics.
fn standardised(training_mode: i64) -> (Vec<NodeProto>, Vec<TensorProto>) {
    let mut norm = node("BatchNormalization", &["flat", "gain", "val_3", "mean", "variance"], "n", vec![]);
    norm.attribute.push(attribute("training_mode", &[training_mode]));
    if training_mode == 1 {
        norm.output.extend(["new_mean".into(), "new_variance".into()]);
    }
    let of = if training_mode == 1 { "copy" } else { "flat" };
    let mean = |x: &str, y: &str, keep: i64| {
        node("ReduceMean", &[x], y, vec![attribute("axes", &[0, 2]), attribute("keepdims", &[keep])])
    };
    let nodes = vec![
        node("Reshape", &["w", "rows"], "flat", vec![]),
        mean(of, "mean", 0),
        mean(of, "means", 1),
        node("Sub", &[of, "means"], "centred", vec![]),
        node("Mul", &["centred", "centred"], "square", vec![]),
        mean("square", "variance", 0),
        norm,
        node("Reshape", &["n", "kernel"], "k", vec![]),
        node("Conv", &["x", "k"], "y", vec![]),
    ];
    let initializers = vec![
        floats("w", &[4, 3, 1, 1]),
        floats("copy", &[1, 4, 3]),
        floats("gain", &[4]),
        TensorProto { float_data: vec![0.0; 4], ..floats("val_3", &[4]) },
        integers("rows", &[1, 4, 3]),
        integers("kernel", &[4, 3, 1, 1]),
    ];
    (nodes, initializers)
}

#[test]
fn standardised_weights_are_one_parameter_without_running_statistics() {
    for training_mode in [0, 1] {
        let (nodes, initializers) = standardised(training_mode);
        let [parameters, buffers] = declared(nodes, initializers, "y").unwrap();
        assert_eq!((parameters, buffers), (vec!["w".to_owned(), "gain".into()], vec![]), "{training_mode}");
    }
}

#[test]
fn standardised_weights_are_written_again_with_their_own_statistics() {
    for training_mode in [0, 1] {
        let (mut node, initializer) = standardised(training_mode);
        node.push(self::node("GlobalAveragePool", &["y"], "logits", vec![]));
        let graph =
            GraphProto { name: Some("standardised".into()), ..graph_of(0, node, initializer, &[0, 4, 1, 1]) };
        let file = file(&model(graph));
        let network = Imported::read(file.path()).unwrap();
        let images: Vec<f32> = (0..ROWS * 3 * PX * PX).map(|i| ((i * 31) % 17) as f32 / 17.0).collect();
        // Standardised weights do not depend on a factor and an offset.
        let logits = |factor: f32, offset: f32| {
            let weights = |v: &f32| factor * v + offset;
            let values = |name: &str| {
                (name == "w").then(|| floats("w", &[4, 3, 1, 1]).float_data.iter().map(weights).collect())
            };
            let images: (&str, &[usize], Data) = ("x", &[ROWS, 3, PX, PX], Data::F32(images.clone()));
            let mut session = testing::session(&network.rewritten(&values, &[]).unwrap());
            testing::run(&mut session, &[images]).remove("logits").unwrap()
        };
        let (before, after) = (logits(1.0, 0.0), logits(3.0, 0.5));
        assert!(before.iter().any(|logit| logit.abs() > 0.01));
        for (a, b) in before.iter().zip(&after) {
            assert!((a - b).abs() < 1e-3, "{training_mode}: {a} against {b}");
        }
    }
}

#[test]
fn scales_and_offsets_that_an_exporter_writes_for_a_normalisation_without_parameters_are_not_trained() {
    let trained = |scale: &str, value: f32| {
        let nodes = vec![
            node("Conv", &["x", "w"], "c", vec![]),
            node("InstanceNormalization", &["c", scale, "val_2"], "n", vec![]),
            node("InstanceNormalization", &["n", scale, "val_2"], "y", vec![]),
        ];
        let alike = |name: &str, value| TensorProto { float_data: vec![value; 4], ..floats(name, &[4]) };
        let initializers = vec![floats("w", &[4, 3, 1, 1]), alike(scale, value), alike("val_2", 0.0)];
        declared(nodes, initializers, "y").unwrap()[0].clone()
    };
    assert_eq!(trained("val_1", 1.0), ["w"]);
    assert_eq!(trained("val_1", 0.5), ["w", "val_1"]);
    assert_eq!(trained("norm.weight", 1.0), ["w", "norm.weight", "norm.weight_2"]);
}

#[test]
fn numbers_that_an_exporter_writes_into_a_part_of_another_value_are_not_trained() {
    let trained = |name: &str, value: f32| {
        let nodes = vec![
            node("Conv", &["x", "w"], "c", vec![]),
            node("ScatterND", &["regions", "at", name], "filled", vec![]),
            node("Mul", &["c", "filled"], "y", vec![]),
        ];
        let number = |value| TensorProto { float_data: vec![1.0, value], ..floats(name, &[2]) };
        let regions = floats("regions", &[4, 1, 1]);
        let at = TensorProto { dims: vec![2, 3], ..integers("at", &[0, 0, 0, 2, 0, 0]) };
        let initializers = vec![floats("w", &[4, 3, 1, 1]), regions, number(value), at];
        declared(nodes, initializers, "y").unwrap()[0].clone()
    };
    assert_eq!(trained("val_7", 1.0), ["w", "regions"]);
    assert_eq!(trained("val_7", 2.0), ["w", "regions", "val_7"]);
    assert_eq!(trained("patch.values", 1.0), ["w", "regions", "patch.values"]);
}

#[test]
fn places_that_take_one_initialiser_because_they_begin_alike_have_their_own() {
    let alike = |name: &str, value: f32| TensorProto { float_data: vec![value; 4], ..floats(name, &[4]) };
    let nodes = vec![
        node("Conv", &["x", "k", "zeros"], "c", vec![]),
        node("BatchNormalization", &["c", "ones", "zeros", "zeros", "ones"], "n", vec![]),
        // One matrix in two places is one parameter, and so is a list that has learnt.
        node("Conv", &["n", "w", "bias"], "d", vec![]),
        node("BatchNormalization", &["d", "ones", "zeros", "zeros", "ones"], "m", vec![]),
        node("Conv", &["m", "w", "bias"], "y", vec![]),
    ];
    let initializers = vec![
        floats("k", &[4, 3, 1, 1]),
        floats("w", &[4, 4, 1, 1]),
        floats("bias", &[4]),
        alike("ones", 1.0),
        alike("zeros", 0.0),
    ];
    let [parameters, buffers] = declared(nodes.clone(), initializers.clone(), "y").unwrap();
    assert_eq!(parameters, ["k", "zeros", "ones", "zeros_2", "w", "bias", "ones_3", "zeros_4"]);
    assert_eq!(buffers, ["zeros_3", "ones_2", "zeros_5", "ones_4"]);
    // The scale of a GroupNorm that the exporter has given another shape is a parameter in each place.
    let nodes = vec![
        node("Conv", &["x", "k"], "c", vec![]),
        node("Mul", &["c", "val_3"], "d", vec![]),
        node("Mul", &["d", "val_3"], "y", vec![]),
    ];
    let ones = TensorProto { float_data: vec![1.0; 4], ..floats("val_3", &[4, 1, 1]) };
    let [parameters, _] = declared(nodes, vec![floats("k", &[4, 3, 1, 1]), ones], "y").unwrap();
    assert_eq!(parameters, ["k", "val_3", "val_3_2"]);
}

#[test]
fn initialisers_that_were_merged_because_they_begin_alike_are_parameters_of_their_own() {
    let norm = |x: &str, layer: &str, y: &str| {
        let parts = ["gain", "offset", "mean", "variance"].map(|part| format!("{layer}.{part}"));
        let mut inputs = vec![x];
        inputs.extend(parts.iter().map(String::as_str));
        node("BatchNormalization", &inputs, y, vec![])
    };
    let merged = ["gain", "offset", "mean", "variance"]
        .map(|part| node("Identity", &[&format!("a.{part}")], &format!("b.{part}"), vec![]));
    let alike = |name: &str, value: f32| TensorProto { float_data: vec![value; 4], ..floats(name, &[4]) };
    let nodes = [
        &merged[..],
        &[
            // One matrix in two places is one parameter.
            node("Identity", &["w"], "v", vec![]),
            node("Conv", &["x", "k"], "c", vec![]),
            norm("c", "a", "n"),
            node("Conv", &["n", "w"], "d", vec![]),
            norm("d", "b", "m"),
            node("Conv", &["m", "v"], "y", vec![]),
        ],
    ]
    .concat();
    let initializers = vec![
        floats("k", &[4, 3, 1, 1]),
        floats("w", &[4, 4, 1, 1]),
        alike("a.gain", 1.0),
        alike("a.offset", 0.0),
        // Statistics are never shared.
        floats("a.mean", &[4]),
        alike("a.variance", 1.0),
    ];
    let [parameters, buffers] = declared(nodes, initializers, "y").unwrap();
    assert_eq!(parameters, ["w", "k", "a.gain", "a.offset", "b.gain", "b.offset"]);
    assert_eq!(buffers, ["a.mean", "a.variance", "b.mean", "b.variance"]);
}

#[test]
fn lists_of_values_are_biases_and_scales_in_whatever_shape() {
    let nodes = vec![
        node("Conv", &["x", "w"], "c", vec![]),
        node("Mul", &["c", "gain"], "scaled", vec![]),
        node("Reshape", &["offset", "to"], "column", vec![]),
        node("Add", &["scaled", "column"], "moved", vec![]),
        node("PRelu", &["moved", "slope"], "r", vec![]),
        node("InstanceNormalization", &["r", "i.gain", "i.offset"], "i", vec![]),
        node("Add", &["i", "positions"], "y", vec![]),
        node("GlobalAveragePool", &["y"], "logits", vec![]),
    ];
    let initializer = vec![
        floats("w", &[4, 3, 1, 1]),
        floats("gain", &[4, 1, 1]),
        floats("offset", &[4]),
        integers("to", &[4, 1, 1]),
        floats("slope", &[4, 1, 1]),
        floats("i.gain", &[4]),
        floats("i.offset", &[4]),
        floats("positions", &[1, 4, 6, 6]),
    ];
    let file = file(&model(graph_of(0, nodes, initializer, &[0, 4, 1, 1])));
    let mut g = Builder::new("kinds", Lowering::training(Target::Cpu));
    let x = g.input("x", TensorType::f32([ROWS, 3, PX, PX])).unwrap();
    let forward = Imported::read(file.path()).unwrap().forward(&mut g, x, Mode::Train).unwrap();
    let found: Vec<_> = forward.parameters.iter().map(|(p, _)| (&p.name[..], p.kind, p.axes())).collect();
    use ParameterKind::{Bias, Scale, Weight};
    let expected = [
        ("w", Weight, 4),
        ("gain", Scale, 1),
        ("offset", Bias, 1),
        ("slope", Scale, 1),
        ("i.gain", Scale, 1),
        ("i.offset", Bias, 1),
        ("positions", Weight, 4),
    ];
    assert_eq!(found, expected);
}

#[test]
fn constants_of_our_own_exports_are_not_trained() {
    let nodes = || {
        vec![
            node("Conv", &["x", "w"], "c", vec![]),
            node("Mul", &["c", "norm/constant_2"], "scaled", vec![]),
            node("Mul", &["scaled", "constants"], "more", vec![]),
            node("GlobalAveragePool", &["more"], "logits", vec![]),
        ]
    };
    for (producer, expected) in
        [("fovea", &["w", "constants"][..]), ("pytorch", &["w", "norm/constant_2", "constants"])]
    {
        let plane = |name| floats(name, &[4, 1, 1]);
        let initializers = vec![floats("w", &[4, 3, 1, 1]), plane("norm/constant_2"), plane("constants")];
        let graph = graph_of(0, nodes(), initializers, &[0, 4, 1, 1]);
        let mut model = ModelProto::decode(&model(graph)[..]).unwrap();
        model.producer_name = Some(producer.into());
        let found = parameters(file(&model.encode_to_vec()).path()).unwrap();
        assert_eq!(found.iter().map(|p| &p.name[..]).collect::<Vec<_>>(), expected, "{producer}");
    }
}

/// Normalises `x` by `mean`, `variance`, `gain` and `offset` as Keras with JAX writes it.
fn in_parts() -> Vec<NodeProto> {
    vec![
        node("Reshape", &["mean", "to"], "mean4", vec![]),
        node("Reshape", &["variance", "to"], "variance4", vec![]),
        node("Add", &["variance4", "epsilon"], "sum", vec![]),
        node("Sqrt", &["sum"], "root", vec![]),
        node("Div", &["one", "root"], "inverse", vec![]),
        node("Reshape", &["gain", "to"], "gain4", vec![]),
        node("Mul", &["inverse", "gain4"], "factor", vec![]),
        node("Neg", &["mean4"], "minus", vec![]),
        node("Mul", &["minus", "factor"], "shift", vec![]),
        node("Reshape", &["offset", "to"], "offset4", vec![]),
        node("Add", &["shift", "offset4"], "level", vec![]),
        node("Mul", &["c", "factor"], "scaled", vec![]),
        node("Add", &["scaled", "level"], "y", vec![]),
    ]
}

#[test]
fn statistics_of_normalisations_in_parts_stay_as_they_are() {
    let list = |name: &str| TensorProto { float_data: vec![0.5; 4], ..floats(name, &[4]) };
    let initializers = || {
        let lists = ["mean", "variance", "gain", "offset"].map(list);
        let rest = [
            floats("w", &[4, 3, 1, 1]),
            integers("to", &[1, 4, 1, 1]),
            number("epsilon", &[], 0.001),
            number("one", &[], 1.0),
        ];
        lists.into_iter().chain(rest).collect::<Vec<_>>()
    };
    let conv = || node("Conv", &["x", "w"], "c", vec![]);
    let nodes = iter::once(conv()).chain(in_parts()).collect();
    let [parameters, buffers] = declared(nodes, initializers(), "y").unwrap();
    assert_eq!((parameters, buffers.len()), (["w", "gain", "offset"].map(str::to_owned).to_vec(), 0));
    // Subtracted, then multiplied by the inverse deviation, then scaled, as with PyTorch.
    let mut nodes = vec![conv()];
    nodes.extend(in_parts().into_iter().take(6));
    nodes.extend([
        node("Sub", &["c", "mean4"], "centred", vec![]),
        node("Mul", &["centred", "inverse"], "normal", vec![]),
        node("Mul", &["normal", "gain4"], "scaled", vec![]),
        node("Reshape", &["offset", "to"], "offset4", vec![]),
        node("Add", &["scaled", "offset4"], "y", vec![]),
    ]);
    let [parameters, _] = declared(nodes, initializers(), "y").unwrap();
    assert_eq!(parameters, ["w", "gain", "offset"]);
    // The deviation is part of the scale.
    let nodes = vec![
        conv(),
        node("Reshape", &["mean", "to"], "mean4", vec![]),
        node("Sub", &["c", "mean4"], "centred", vec![]),
        node("Mul", &["centred", "gain5"], "scaled", vec![]),
        node("Add", &["scaled", "offset5"], "y", vec![]),
    ];
    let plane = |name| TensorProto { dims: vec![1, 4, 1, 1], ..list(name) };
    let all = initializers().into_iter().chain([plane("gain5"), plane("offset5")]).collect();
    let [parameters, _] = declared(nodes, all, "y").unwrap();
    assert_eq!(parameters, ["w", "gain5", "offset5"]);
    // What is subtracted from what nothing divides is a bias, and what a product takes is a scale.
    let nodes = vec![
        conv(),
        node("Reshape", &["mean", "to"], "mean4", vec![]),
        node("Sub", &["c", "mean4"], "moved", vec![]),
        node("Reshape", &["variance", "to"], "variance4", vec![]),
        node("Mul", &["moved", "variance4"], "y", vec![]),
    ];
    let [parameters, _] = declared(nodes, initializers(), "y").unwrap();
    assert_eq!(parameters, ["w", "mean", "variance"]);
}

#[test]
fn kernels_of_ones_that_sum_windows_stay_as_they_are() {
    let nodes = || {
        vec![
            node("Conv", &["x", "w"], "c", vec![]),
            node("Conv", &["c", "ones"], "y", vec![attribute("group", &[4])]),
        ]
    };
    let of = |ones: TensorProto| {
        declared(nodes(), vec![floats("w", &[4, 3, 1, 1]), ones], "y").unwrap()[0].clone()
    };
    assert_eq!(of(number("ones", &[4, 1, 2, 2], 1.0)), ["w"]);
    assert_eq!(of(number("ones", &[4, 1, 2, 2], 0.5)), ["w", "ones"]);
    assert_eq!(of(number("ones", &[4, 1, 1, 1], 1.0)), ["w", "ones"]);
}

#[test]
fn biases_in_constant_nodes_are_trained_where_a_layer_takes_them() {
    let constant = |name: &str| {
        let mut value = AttributeProto { t: Some(floats(name, &[4])), ..attribute("value", &[]) };
        (value.ints, value.r#type) = (vec![], Some(4));
        NodeProto { input: vec![], ..node("Constant", &[], name, vec![value]) }
    };
    let axes = || vec![ints("axes", &[2, 3]), attribute("keepdims", &[0])];
    let nodes = vec![
        node("Conv", &["x", "w"], "c", vec![]),
        node("ReduceMean", &["c"], "mean", axes()),
        constant("bias"),
        node("MatMul", &["mean", "m"], "product", vec![]),
        node("Add", &["product", "bias"], "sum", vec![]),
        constant("other"),
        node("Mul", &["sum", "other"], "logits", vec![]),
    ];
    let initializers = vec![floats("w", &[4, 3, 1, 1]), floats("m", &[4, 4])];
    let file = file(&model(graph_of(0, nodes, initializers, &[0, 4])));
    let summary = Imported::read(file.path()).unwrap().summary([PX, PX]).unwrap();
    assert_eq!(summary.trained, 12 + 16 + 4);
    // The other is named.
    let constant: Vec<_> =
        summary.constant.iter().map(|constant| (&constant.name[..], constant.values)).collect();
    assert_eq!(constant, [("other", 4)]);
}
