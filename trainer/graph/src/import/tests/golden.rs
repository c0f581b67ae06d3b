//! Gradients and running statistics of tiny networks of torchvision against those of PyTorch in f64, which
//! `tests/golden/make.py` has stored.

use std::collections::BTreeMap;

use super::super::constant::{Values, of_tensor};
use super::*;

/// Largest error of a value, relative to the largest of its tensor, or to a hundredth of the largest
/// gradient.
const TOLERANCE: f64 = 1e-5;
const ROWS: usize = 8;
/// Number of classes.
const LABELS: i64 = 5;

/// Compares everything that is stored of the network `name`, for images of `px` pixels; returns the largest
/// error and the number of tensors.
fn compare(name: &str, px: usize, mode: Mode) -> (f64, usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let request = Gradients {
        of: Vec::new(),
        objective: Objective::CrossEntropy,
        wrt: vec![Wrt::Weights, Wrt::Inputs],
        mode,
        shapes: BTreeMap::from([("x".to_owned(), vec![Some(ROWS), Some(3), Some(px), Some(px)])]),
    };
    let made = request.of_file(&folder.join(format!("{name}.onnx"))).unwrap();
    let bytes = fs::read(folder.join(format!("{name}.values"))).unwrap();
    let stored = GraphProto::decode(bytes.as_slice()).unwrap();
    let x = (0..ROWS * 3 * px * px).map(|at| (at * 7919 % 997) as f32 / 200.0 - 2.5).collect();
    let labels = (0..ROWS as i64).map(|row| row % LABELS).collect();
    let mut inputs =
        vec![("x", vec![ROWS, 3, px, px], Data::F32(x)), ("labels", vec![ROWS], Data::I64(labels))];
    // Dropout has a probability of 0.
    for port in made.inputs.iter().filter(|port| port.ty.element == ElementType::Bool) {
        inputs.push((&port.name, port.ty.shape.clone(), Data::Bool(vec![true; port.ty.len()])));
    }
    let inputs: Vec<_> =
        inputs.iter().map(|(name, shape, data)| (*name, shape.as_slice(), data.clone())).collect();
    let outputs = testing::run(&mut testing::session(&made.bytes), &inputs);
    // Gradients of what normalisation takes away again are 0 but for rounding.
    let gradients = outputs.iter().filter(|(name, _)| name.ends_with(".grad"));
    let least =
        0.01 * gradients.flat_map(|(_, values)| values).fold(0f64, |most, value| most.max(value.abs()));
    let (mut worst, mut compared) = (0.0, 0);
    for tensor in stored.initializer.iter().filter(|tensor| tensor.name() != "labels") {
        let Values::Floats(expected) = of_tensor(tensor, &folder).unwrap().values else {
            panic!("{} is not floating-point", tensor.name())
        };
        let Some(given) = outputs.get(tensor.name()) else { panic!("{name} has no {}", tensor.name()) };
        let scale = expected.iter().fold(least, |most, &value| most.max(f64::from(value).abs()));
        for (at, (&given, &expected)) in given.iter().zip(expected.iter()).enumerate() {
            let error = (given - f64::from(expected)).abs() / scale;
            assert!(error <= TOLERANCE, "{name}, {} at {at}: {given} against {expected}", tensor.name());
            worst = f64::max(worst, error);
        }
        compared += 1;
    }
    (worst, compared)
}

#[test]
fn gradients_and_statistics_of_whole_networks_are_those_of_pytorch() {
    for (name, px, mode) in [
        ("resnet18", 64, Mode::Train),
        ("mobilenet_v3_small", 48, Mode::Train),
        ("convnext_tiny", 32, Mode::Evaluate),
        ("vit", 32, Mode::Evaluate),
    ] {
        let (worst, compared) = compare(name, px, mode);
        println!("{name}: {compared} tensors, largest error {worst:.1e}");
        assert!(compared > 20, "{name}: {compared} tensors");
    }
}
