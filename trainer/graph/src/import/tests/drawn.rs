//! What the host draws: stochastic depth and noises.

use super::*;
use crate::{Distribution, Drawn};

/// A network of these nodes from `x` `[batch,3,6,6]` to `y`, and its global average.
fn file_of(batch: i64, mut nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> NamedTempFile {
    nodes.push(node("GlobalAveragePool", &["y"], "logits", vec![]));
    file(&model(graph_of(batch, nodes, initializer, &[batch, 3, 1, 1])))
}

/// Logits in `mode` of a [network](file_of) of these nodes for images of ones, and what the host draws: the
/// first row of a mask drops, the others keep; all numbers of a noise's row n are n + 0.25.
pub(super) fn averages(
    batch: i64,
    nodes: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
    mode: Mode,
) -> Result<(Vec<f64>, Drawn)> {
    let file = file_of(batch, nodes, initializer);
    let mut g = Builder::new("averages", Lowering::training(Target::Cpu));
    let x = g.input("x", TensorType::f32([ROWS, 3, PX, PX]))?;
    let forward = Imported::read(file.path())?.forward(&mut g, x, mode)?;
    g.output("logits", forward.logits)?;
    let graph = g.finish();
    let images = Data::F32(vec![1.0; ROWS * 3 * PX * PX]);
    let mut inputs = vec![("x", vec![ROWS, 3, PX, PX], images)];
    for mask in &forward.drawn.masks {
        let row = mask.shape[1..].iter().product::<usize>();
        let values = (0..mask.shape[0] * row).map(|i| i >= row).collect();
        inputs.push((&mask.name, mask.shape.clone(), Data::Bool(values)));
    }
    for noise in &forward.drawn.noises {
        let row = noise.shape[1..].iter().product::<usize>();
        let values = (0..noise.shape[0] * row).map(|i| (i / row) as f32 + 0.25).collect();
        inputs.push((&noise.name, noise.shape.clone(), Data::F32(values)));
    }
    for (parameter, _) in &forward.parameters {
        let values = Data::F32(parameter.initial(0, 0));
        inputs.push((&parameter.name, parameter.shape.clone(), values));
    }
    let inputs: Vec<_> = inputs.iter().map(|(n, s, d)| (*n, s.as_slice(), d.clone())).collect();
    let logits = testing::run(&mut testing::session(&graph.to_bytes()), &inputs).remove("logits").unwrap();
    Ok((logits, forward.drawn))
}

#[test]
fn stochastic_depth_is_drawn_by_the_host_and_does_nothing_in_evaluation() {
    // As PyTorch traces it for a batch of 2, which is in the shape of the constant; and for a shape of x.
    let like = |operator: &str, operands: [&str; 2]| {
        vec![
            node("RandomUniformLike", &["zeros"], "u", vec![]),
            node(operator, &operands, "kept", vec![]),
            node("Cast", &["kept"], "mask", vec![attribute("to", &[1])]),
            node("Div", &["mask", "keep"], "scaled", vec![]),
            node("Mul", &["x", "scaled"], "y", vec![]),
        ]
    };
    let floor = vec![
        node("RandomUniform", &[], "u", vec![attribute("shape", &[2, 1, 1, 1])]),
        node("Add", &["keep", "u"], "shifted", vec![]),
        node("Floor", &["shifted"], "mask", vec![]),
        node("Div", &["mask", "keep"], "scaled", vec![]),
        node("Mul", &["x", "scaled"], "y", vec![]),
    ];
    let bernoulli = vec![
        node("Bernoulli", &["keeps"], "mask", vec![]),
        node("Div", &["mask", "keep"], "scaled", vec![]),
        node("Mul", &["x", "scaled"], "y", vec![]),
    ];
    let constants = || {
        vec![
            number("zeros", &[2, 1, 1, 1], 0.0),
            number("keep", &[], 0.75),
            number("keeps", &[2, 1, 1, 1], 0.75),
        ]
    };
    let (zero, kept) = ([0.0; 3], [1.0 / 0.75; 6]);
    for nodes in [like("Less", ["u", "keep"]), like("Greater", ["keep", "u"]), floor, bernoulli] {
        let (logits, Drawn { masks, noises }) = averages(2, nodes.clone(), constants(), Mode::Train).unwrap();
        assert!(noises.is_empty());
        assert_eq!((&masks[0].shape[..], masks[0].keep, masks.len()), (&[ROWS, 1, 1, 1][..], 0.75, 1));
        for (a, b) in logits.iter().zip([&zero[..], &kept[..]].concat()) {
            assert!((a - b).abs() < 1e-6, "{logits:?}");
        }
        let (logits, drawn) = averages(2, nodes, constants(), Mode::Evaluate).unwrap();
        assert!(
            drawn == Drawn::default() && logits.iter().all(|value| (value - 1.0).abs() < 1e-6),
            "{logits:?}"
        );
    }
    // One draw for all images.
    let mut all = constants();
    all[0] = number("zeros", &[1, 1, 1, 1], 0.0);
    let (logits, Drawn { masks, .. }) = averages(2, like("Less", ["u", "keep"]), all, Mode::Train).unwrap();
    assert_eq!((&masks[0].shape[..], masks[0].keep, masks.len()), (&[1, 1, 1, 1][..], 0.75, 1));
    assert!(logits.iter().all(|&value| value == 0.0), "{logits:?}");
    let mut other = like("Less", ["u", "keep"]);
    other[2] = node("Or", &["kept", "kept"], "mask", vec![]);
    let error = averages(2, other, constants(), Mode::Evaluate).unwrap_err().to_string();
    assert!(error.contains("`mask_node` (Or) computes with a random mask"), "{error}");
}

#[test]
fn a_mask_of_several_rows_for_each_image_is_drawn_by_image() {
    let nodes = vec![
        node("Reshape", &["x", "apart"], "rows", vec![]),
        node("Dropout", &["rows", "ratio", "yes"], "kept", vec![]),
        node("Reshape", &["kept", "together"], "y", vec![]),
    ];
    let px = PX as i64;
    let initializers = vec![
        integers("apart", &[-1, 1, px, px]),
        integers("together", &[-1, 3, px, px]),
        number("ratio", &[], 0.5),
        TensorProto {
            name: Some("yes".into()),
            data_type: Some(DataType::Bool as i32),
            int32_data: vec![1],
            ..Default::default()
        },
    ];
    let (logits, Drawn { masks, .. }) = averages(2, nodes, initializers, Mode::Train).unwrap();
    assert_eq!((&masks[0].shape[..], masks.len()), (&[ROWS, 3 * PX * PX][..], 1));
    assert_rows(&logits, [0.0, 2.0, 2.0]);
}

/// A number that an attribute gives.
fn real(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: Some(name.into()), f: Some(value), r#type: Some(1), ..Default::default() }
}

/// Each logit of the three rows, three times.
fn assert_rows(logits: &[f64], expected: [f64; ROWS]) {
    for (at, logit) in logits.iter().enumerate() {
        assert!((logit - expected[at / 3]).abs() < 1e-5, "{logits:?} for {expected:?}");
    }
}

#[test]
fn noises_are_drawn_by_the_host_and_are_their_mean_in_evaluation() {
    // Row n of a noise is n + 0.25; the images are 1.
    let like = |operator, attributes| {
        vec![node(operator, &["x"], "u", attributes), node("Add", &["x", "u"], "y", vec![])]
    };
    let of_shape = vec![
        node("RandomNormal", &[], "u", vec![attribute("shape", &[2, 1, 6, 6])]),
        node("Mul", &["x", "u"], "y", vec![]),
    ];
    let normal = || like("RandomNormalLike", vec![real("mean", 3.0), real("scale", 2.0)]);
    let uniform = || like("RandomUniformLike", vec![real("low", -1.0), real("high", 3.0)]);
    let (wide, narrow) = ([ROWS, 3, PX, PX], [ROWS, 1, PX, PX]);
    for (nodes, shape, distribution, train, evaluate) in [
        (normal(), wide, Distribution::Normal, [4.5, 6.5, 8.5], 4.0),
        (uniform(), wide, Distribution::Uniform, [1.0, 5.0, 9.0], 2.0),
        (of_shape, narrow, Distribution::Normal, [0.25, 1.25, 2.25], 0.0),
    ] {
        let (logits, Drawn { masks, noises }) = averages(2, nodes.clone(), vec![], Mode::Train).unwrap();
        let [noise] = &noises[..] else { panic!("{noises:?}") };
        assert!(masks.is_empty());
        assert_eq!(
            (&noise.name[..], &noise.shape[..], noise.distribution),
            ("u.noise", &shape[..], distribution)
        );
        assert_rows(&logits, train);
        let (logits, drawn) = averages(2, nodes, vec![], Mode::Evaluate).unwrap();
        assert_eq!(drawn, Drawn::default());
        assert_rows(&logits, [evaluate; ROWS]);
    }
    let (low, high) = (real("low", 1.0), real("high", 1.0));
    let error = averages(2, like("RandomUniformLike", vec![low, high]), vec![], Mode::Train).unwrap_err();
    assert!(error.to_string().contains("`u_node` (RandomUniformLike) draws from 1..1"), "{error}");
}

#[test]
fn nodes_that_use_the_same_random_numbers_see_the_same() {
    let nodes = vec![
        node("RandomUniformLike", &["zeros"], "u", vec![]),
        node("Less", &["u", "keep"], "kept", vec![]),
        node("Cast", &["kept"], "mask", vec![attribute("to", &[1])]),
        node("Mul", &["mask", "u"], "product", vec![]),
        node("Add", &["x", "product"], "y", vec![]),
    ];
    let constants = || vec![number("zeros", &[2, 1, 1, 1], 0.0), number("keep", &[], 0.75)];
    let (logits, Drawn { masks, noises }) = averages(2, nodes.clone(), constants(), Mode::Train).unwrap();
    assert!(masks.is_empty() && noises.len() == 1);
    assert_rows(&logits, [1.25, 1.0, 1.0]);
    // Each is its expectation.
    let (logits, _) = averages(2, nodes, constants(), Mode::Evaluate).unwrap();
    assert_rows(&logits, [1.0 + 0.75 * 0.5; ROWS]);
}

#[test]
fn numbers_that_normalise_noisy_images_are_not_trained() {
    let graph = |first: [&str; 2]| {
        let nodes = vec![
            node("RandomNormalLike", &["x"], "u", vec![]),
            node("Mul", &["u", "strength"], "v", vec![]),
            node("Add", &first, "noisy", vec![]),
            node("Sub", &["noisy", "mean"], "y", vec![]),
        ];
        let strength = vec![number("strength", &[1, 3, 1, 1], 0.1), number("mean", &[1, 3, 1, 1], 0.4)];
        let mut g = Builder::new("noisy", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([ROWS, 3, PX, PX])).unwrap();
        let file = file_of(2, nodes, strength);
        let forward = Imported::read(file.path()).unwrap().forward(&mut g, x, Mode::Train).unwrap();
        forward.parameters.into_iter().map(|(parameter, _)| parameter.name).collect::<Vec<_>>()
    };
    // How strong a noise is may be learned.
    assert_eq!(graph(["x", "v"]), ["strength", "mean"]);
    assert_eq!(graph(["x", "u"]), [""; 0]);
}
