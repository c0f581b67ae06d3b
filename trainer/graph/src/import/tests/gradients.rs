//! Files with their gradients.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::Port;

fn request(wrt: &[&str]) -> Gradients {
    let wrt = wrt.iter().map(|&name| match name {
        "weights" => Wrt::Weights,
        "inputs" => Wrt::Inputs,
        name => Wrt::Named(name.into()),
    });
    Gradients {
        of: Vec::new(),
        objective: Objective::Outputs,
        wrt: wrt.collect(),
        mode: Mode::Evaluate,
        shapes: BTreeMap::new(),
    }
}

fn differentiated(graph: GraphProto, request: &Gradients) -> Result<Differentiated> {
    request.of_file(file(&model(graph)).path())
}

fn refusal(graph: GraphProto, request: &Gradients) -> String {
    differentiated(graph, request).unwrap_err().to_string()
}

fn names(ports: &[Port]) -> Vec<&str> {
    ports.iter().map(|port| port.name.as_str()).collect()
}

/// Values in −0.5..0.5, none near another.
fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * 7919 + seed * 31) % 997) as f32 / 997.0 - 0.5).collect()
}

/// Values of the inputs of a result, but for those that it has itself.
type Inputs = BTreeMap<String, (Vec<usize>, Data)>;

fn run(made: &Differentiated, inputs: &Inputs) -> HashMap<String, Vec<f64>> {
    let given: Vec<_> =
        inputs.iter().map(|(name, (shape, data))| (name.as_str(), shape.as_slice(), data.clone())).collect();
    testing::run(&mut testing::session(&made.bytes), &given)
}

/// Compares the gradients of `made` with differences of what `objective` makes of its outputs; returns the
/// number of values that were compared.
fn compare(
    made: &Differentiated,
    inputs: &Inputs,
    objective: impl Fn(&HashMap<String, Vec<f64>>) -> f64,
) -> usize {
    const STEP: f32 = 1.0 / 128.0;
    let mut session = testing::session(&made.bytes);
    let mut run = |inputs: &Inputs| {
        let given: Vec<_> = inputs
            .iter()
            .map(|(name, (shape, data))| (name.as_str(), shape.as_slice(), data.clone()))
            .collect();
        testing::run(&mut session, &given)
    };
    let gradients = run(inputs);
    let mut compared = 0;
    for name in inputs.keys() {
        let Some(gradient) = gradients.get(&format!("{name}.grad")) else { continue };
        let scale = gradient.iter().fold(0f64, |most, value| most.max(value.abs()));
        assert!(scale > 1e-3, "the gradient of {name} is {scale} at most");
        for at in (0..gradient.len()).step_by(gradient.len().div_ceil(25)) {
            let mut at_offset = |offset: f32| {
                let mut moved = inputs.clone();
                let Some((_, Data::F32(values))) = moved.get_mut(name) else { panic!("{name} is f32") };
                values[at] += offset;
                objective(&run(&moved))
            };
            let numeric = (at_offset(STEP) - at_offset(-STEP)) / f64::from(2.0 * STEP);
            let error = (numeric - gradient[at]).abs() / scale;
            assert!(error < 5e-3, "{name}, value {at}: {} against {numeric}", gradient[at]);
            compared += 1;
        }
    }
    compared
}

/// The inputs of a result: images, the weights of the file, and others.
fn inputs(made: &Differentiated, rows: usize, others: &[(&str, &[usize], Data)]) -> Inputs {
    let images = (vec![rows, 3, PX, PX], Data::F32(values(rows * 3 * PX * PX, 1)));
    let mut inputs = Inputs::from([("x".to_owned(), images)]);
    for (seed, port) in made.weights.iter().enumerate() {
        let values = Data::F32(values(port.ty.len(), seed + 5));
        inputs.insert(port.name.clone(), (port.ty.shape.clone(), values));
    }
    inputs.extend(
        others.iter().map(|(name, shape, data)| ((*name).to_owned(), (shape.to_vec(), data.clone()))),
    );
    inputs
}

#[test]
fn gradients_of_outputs_times_seeds_are_those_of_differences_for_any_number_of_rows() {
    let made = differentiated(by_hand(), &request(&["weights", "inputs"])).unwrap();
    assert_eq!(names(&made.inputs), ["x", "grad.probabilities"]);
    assert_eq!(names(&made.weights), ["c.weight", "c.bias", "m.weight", "m.bias", "g.weight", "g.bias"]);
    assert_eq!(names(&made.outputs)[0], "probabilities");
    assert!(made.outputs[0].free_batch && made.inputs[1].free_batch);
    for rows in [1, 4] {
        let seed = values(rows * CLASSES, 2);
        let expected: Vec<f64> = seed.iter().map(|&value| value.into()).collect();
        let inputs = inputs(&made, rows, &[("grad.probabilities", &[rows, CLASSES], Data::F32(seed))]);
        let objective = |outputs: &HashMap<String, Vec<f64>>| {
            outputs["probabilities"].iter().zip(&expected).map(|(y, seed)| y * seed).sum()
        };
        assert!(compare(&made, &inputs, objective) > 7 * 4);
    }
}

#[test]
fn weights_that_are_not_given_are_those_of_the_file_and_outputs_are_its_outputs() {
    let bytes = model(by_hand());
    let made = request(&["c.weight"]).of_file(file(&bytes).path()).unwrap();
    assert_eq!(names(&made.weights), ["c.weight"]);
    assert_eq!(names(&made.outputs), ["probabilities", "c.weight.grad"]);
    let images = ("x", &[2, 3, PX, PX][..], Data::F32(values(2 * 3 * PX * PX, 1)));
    let seed = ("grad.probabilities", &[2, CLASSES][..], Data::F32(values(2 * CLASSES, 2)));
    let expected = testing::run(&mut testing::session(&bytes), std::slice::from_ref(&images));
    let given = testing::run(&mut testing::session(&made.bytes), &[images, seed]);
    for (a, b) in given["probabilities"].iter().zip(&expected["probabilities"]) {
        assert!((a - b).abs() < 1e-6, "{a} against {b}");
    }
}

#[test]
fn the_loss_is_the_mean_cross_entropy_of_the_logits_over_rows_with_a_label() {
    let made = differentiated(
        by_hand(),
        &Gradients { objective: Objective::CrossEntropy, ..request(&["weights", "inputs"]) },
    )
    .unwrap();
    assert_eq!(names(&made.inputs), ["x", "labels"]);
    let labels = [2, -1, 4];
    let inputs = inputs(&made, 3, &[("labels", &[3], Data::I64(labels.to_vec()))]);
    let outputs = run(&made, &inputs);
    let probabilities: Vec<&[f64]> = outputs["probabilities"].chunks(CLASSES).collect();
    let expected = -(probabilities[0][2].ln() + probabilities[2][4].ln()) / 2.0;
    assert!((outputs["loss"][0] - expected).abs() < 1e-5, "{:?} against {expected}", outputs["loss"]);
    assert!(compare(&made, &inputs, |outputs| outputs["loss"][0]) > 7 * 4);
}

#[test]
fn a_value_between_nodes_is_differentiated_and_given_like_an_input() {
    let request = Gradients { of: vec!["logits".into()], ..request(&["p", "x"]) };
    let made = differentiated(by_hand(), &request).unwrap();
    assert_eq!(names(&made.outputs), ["logits", "p", "p.grad", "x.grad"]);
    let seed: Vec<f32> = (0..2 * CLASSES).map(|at| f32::from(u8::from(at % CLASSES == 1))).collect();
    let outputs = run(&made, &inputs(&made, 2, &[("grad.logits", &[2, CLASSES], Data::F32(seed))]));
    // From the pooled values on the network is linear, so that the logits are their product with the
    // gradient, plus what they are where the pooled values are 0.
    let (p, gradient) = (&outputs["p"], &outputs["p.grad"]);
    let images = p.len() / 2;
    let linear = |image: usize| -> f64 {
        let at = image * images..(image + 1) * images;
        p[at.clone()].iter().zip(&gradient[at]).map(|(p, gradient)| p * gradient).sum()
    };
    let rest: Vec<f64> = (0..2).map(|image| outputs["logits"][image * CLASSES + 1] - linear(image)).collect();
    assert!((rest[0] - rest[1]).abs() < 1e-5, "{rest:?}");
}

/// `y = Σ tanh(scale·a·b)`, a scalar, of `a` `[N,4]` and `b` `[4,2]`.
fn of_two_inputs() -> GraphProto {
    GraphProto {
        node: vec![
            node("MatMul", &["a", "b"], "product", vec![]),
            node("Mul", &["product", "scale"], "scaled", vec![]),
            node("Tanh", &["scaled"], "t", vec![]),
            node("ReduceSum", &["t"], "y", vec![attribute("keepdims", &[0])]),
        ],
        initializer: vec![floats("scale", &[])],
        input: vec![port("a", DataType::Float, &[0, 4]), port("b", DataType::Float, &[4, 2])],
        output: vec![port("y", DataType::Float, &[])],
        ..Default::default()
    }
}

#[test]
fn files_may_have_any_inputs_and_a_single_value_needs_no_seed() {
    let made = differentiated(of_two_inputs(), &request(&["inputs", "scale"])).unwrap();
    assert_eq!(names(&made.inputs), ["a", "b"]);
    assert_eq!(names(&made.weights), ["scale"], "a single value too if it is named");
    let inputs = Inputs::from([
        ("a".to_owned(), (vec![3, 4], Data::F32(values(12, 1)))),
        ("b".to_owned(), (vec![4, 2], Data::F32(values(8, 2)))),
        ("scale".to_owned(), (vec![], Data::F32(vec![0.7]))),
    ]);
    assert_eq!(compare(&made, &inputs, |outputs| outputs["y"][0]), 12 + 8 + 1);
}

#[test]
fn inputs_and_outputs_keep_their_types_and_fixed_batches_are_replaced_on_demand() {
    let mut graph = by_hand();
    graph.input = vec![port("x", DataType::Float16, &[2, 3, PX as i64, PX as i64])];
    graph.output = vec![port("probabilities", DataType::Float16, &[2, CLASSES as i64])];
    graph.initializer[2] = integers("shape", &[2, 36]);
    let made = differentiated(graph.clone(), &request(&["inputs"])).unwrap();
    let types = |ports: &[Port]| ports.iter().map(|port| port.ty.to_string()).collect::<Vec<_>>();
    assert_eq!(types(&made.inputs), ["f16[2,3,6,6]", "f16[2,5]"]);
    assert_eq!(types(&made.outputs), ["f16[2,5]", "f16[2,3,6,6]"]);
    assert!(!made.inputs[0].free_batch);
    let free = BTreeMap::from([("x".to_owned(), vec![None, Some(3), Some(PX), Some(PX)])]);
    let made = differentiated(graph.clone(), &Gradients { shapes: free, ..request(&["inputs"]) }).unwrap();
    assert!(made.inputs.iter().chain(&made.outputs).all(|port| port.free_batch));
    let four = BTreeMap::from([("x".to_owned(), vec![Some(4), Some(3), Some(PX), Some(PX)])]);
    let made = differentiated(graph, &Gradients { shapes: four, ..request(&["inputs"]) }).unwrap();
    assert_eq!(types(&made.outputs), ["f16[4,5]", "f16[4,3,6,6]"]);
}

#[test]
fn in_training_the_next_statistics_are_outputs_and_masks_inputs() {
    let mut graph = by_hand();
    graph.node[1] = node("BatchNormalization", &["c", "gain", "offset", "mean", "variance"], "r", vec![]);
    graph.initializer.extend(["gain", "offset", "mean", "variance"].map(|name| floats(name, &[4])));
    graph.initializer.last_mut().unwrap().float_data = vec![1.0, 2.0, 0.5, 0.7];
    let rows = BTreeMap::from([("x".to_owned(), vec![Some(3), Some(3), Some(PX), Some(PX)])]);
    let asked = Gradients {
        objective: Objective::CrossEntropy,
        mode: Mode::Train,
        shapes: rows,
        ..request(&["weights"])
    };
    let made = differentiated(graph.clone(), &asked).unwrap();
    assert_eq!(names(&made.inputs), ["x", "d.mask", "labels"]);
    assert!(["gain", "offset", "mean", "variance"].iter().all(|name| names(&made.weights).contains(name)));
    let added = [
        ("labels", &[3][..], Data::I64(vec![0, 1, 2])),
        ("d.mask", &[3, 36], Data::Bool((0..3 * 36).map(|at| at % 3 != 0).collect())),
    ];
    let mut inputs = inputs(&made, 3, &added);
    // Normalisation takes away what it adds.
    inputs.remove("c.bias");
    inputs.insert("variance".into(), (vec![4], Data::F32(vec![1.0; 4])));
    assert!(compare(&made, &inputs, |outputs| outputs["loss"][0]) > 7 * 4);
    let outputs = run(&made, &inputs);
    assert!(outputs["mean.next"].len() == 4 && outputs["variance.next"].iter().all(|&v| v != 1.0));

    let evaluated =
        differentiated(graph.clone(), &Gradients { mode: Mode::Evaluate, ..asked.clone() }).unwrap();
    assert!(!names(&evaluated.outputs).iter().any(|name| name.ends_with(".next")));
    let free = refusal(graph, &Gradients { shapes: BTreeMap::new(), ..asked });
    assert!(free.contains("number of rows") && free.contains("--shape x=8,3,6,6"), "{free}");
}

#[test]
fn what_cannot_be_differentiated_is_refused_with_the_names_that_exist() {
    let of = |of: &[&str], wrt: &[&str]| Gradients {
        of: of.iter().map(|&name| name.to_owned()).collect(),
        ..request(wrt)
    };
    let shaped = |name: &str, lengths: &[usize]| Gradients {
        shapes: BTreeMap::from([(name.to_owned(), lengths.iter().map(|&length| Some(length)).collect())]),
        ..request(&["inputs"])
    };
    let loss = |wrt: &[&str]| Gradients { objective: Objective::CrossEntropy, ..request(wrt) };
    let same: fn(&mut GraphProto) = |_| ();
    type Change = fn(&mut GraphProto);
    let cases: [(&str, Change, Gradients, &[&str]); 17] = [
        ("an unknown name", same, request(&["c.wieght"]), &["no value `c.wieght`", "near: c.weight"]),
        ("an unknown output", same, of(&["logit"], &["inputs"]), &["no output", "`logit`", "near: logits"]),
        ("an unknown input", same, shaped("y", &[1, 3, 6, 6]), &["no input `y`", "near: x"]),
        ("another shape", same, shaped("x", &[1, 3, 8, 8]), &["do not fit --shape", "x=N,3,6,6"]),
        ("integers", same, request(&["shape"]), &["`shape`", "not floating-point"]),
        ("no path", same, of(&["c"], &["g.weight"]), &["no gradient reaches `g.weight`"]),
        ("no path from a node", same, of(&["c"], &["a"]), &["no gradient reaches `a`"]),
        (
            "no weights",
            |graph| graph.node.drain(..).for_each(drop),
            request(&["weights"]),
            &["no node computes"],
        ),
        (
            "a name that is taken",
            |graph| graph.initializer.push(floats("c.bias.grad", &[4])),
            request(&["c.bias"]),
            &["`c.bias.grad`", "rename it"],
        ),
        (
            "two outputs and a loss",
            |graph| graph.output.push(port("logits", DataType::Float, &[0, 5])),
            loss(&["inputs"]),
            &["several outputs", "--of probabilities"],
        ),
        (
            "a loss of no logits",
            |graph| graph.output[0] = port("c", DataType::Float, &[0, 4, 6, 6]),
            loss(&["inputs"]),
            &["`c`", "expected [N,K]"],
        ),
        (
            "an output that is an initialiser",
            |graph| graph.output[0] = port("g.bias", DataType::Float, &[5]),
            request(&["inputs"]),
            &["`g.bias` is an input or initialiser"],
        ),
        (
            "free lengths",
            |graph| graph.input[0] = port("x", DataType::Float, &[0, 3, 0, 0]),
            request(&["inputs"]),
            &["`x`", "--shape x=N,3,224,224"],
        ),
        (
            "text",
            |graph| graph.input[0] = port("x", DataType::String, &[0, 3, 6, 6]),
            request(&["inputs"]),
            &["`x` is STRING"],
        ),
        (
            "two outputs of one name",
            |graph| graph.output.push(port("probabilities", DataType::Float, &[0, 5])),
            request(&["inputs"]),
            &["two outputs `probabilities`"],
        ),
        (
            "unknown operators",
            |graph| {
                graph.node[1].op_type = Some("Reru".into());
                graph.node[4].op_type = Some("DropOut".into());
            },
            request(&["inputs"]),
            &["Reru (1; near: Relu,", "DropOut (1; near: Dropout,"],
        ),
        (
            "no gradient on the way",
            |graph| {
                graph.node[1] = node("Cast", &["c"], "i", vec![attribute("to", &[DataType::Int64 as i64])]);
                let to = attribute("to", &[DataType::Float as i64]);
                graph.node.insert(2, node("Cast", &["i"], "r", vec![to]));
            },
            request(&["inputs"]),
            &["no gradient reaches what is asked for"],
        ),
    ];
    for (case, change, asked, expected) in cases {
        let mut graph = by_hand();
        change(&mut graph);
        let error = refusal(graph, &asked);
        assert!(expected.iter().all(|part| error.contains(part)), "{case}: {error}");
    }
}

#[test]
fn running_statistics_are_no_weights() {
    let mut graph = by_hand();
    let statistics = ["n.gain", "n.offset", "n.mean", "n.variance"];
    let norm = node(
        "BatchNormalization",
        &["c", statistics[0], statistics[1], statistics[2], statistics[3]],
        "n",
        vec![],
    );
    graph.node.insert(1, norm);
    graph.node[2].input[0] = "n".into();
    graph
        .initializer
        .extend(statistics.map(|name| TensorProto { float_data: vec![0.5; 4], ..floats(name, &[4]) }));
    let trained = ["c.weight", "c.bias", "n.gain", "n.offset", "m.weight", "m.bias", "g.weight", "g.bias"];
    let made = differentiated(graph.clone(), &request(&["weights"])).unwrap();
    assert_eq!(names(&made.weights), trained);
    assert!(!names(&made.outputs).iter().any(|name| name.contains("n.mean")));
    // They are asked for by name.
    let made = differentiated(graph, &request(&["n.mean"])).unwrap();
    assert_eq!((names(&made.weights), names(&made.outputs)[1]), (vec!["n.mean"], "n.mean.grad"));
}
