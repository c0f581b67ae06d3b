//! Adds the gradients of all parameters to a network in an ONNX file, and writes the result as another.
//!
//! `cargo run -p fovea-graph --example differentiate -- NETWORK.onnx GRADIENTS.onnx`
//!
//! The result runs on any ONNX Runtime. Its inputs are images, labels, a flag for each row and the
//! parameters; its outputs are the loss and `<parameter>.gradient`.

use std::path::Path;
use std::{env, fs};

use fovea_graph::{Builder, ElementType, Imported, Lowering, Mode, Network, Target, TensorType};

const BATCH: usize = 8;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [_, from, to] = &env::args().collect::<Vec<_>>()[..] else {
        return Err("usage: differentiate NETWORK.onnx GRADIENTS.onnx".into());
    };
    let network = Imported::read(Path::new(from))?;
    let [height, width] = network.input_px().ok_or("the file does not fix the size of its images")?;

    let mut g = Builder::new("gradients", Lowering::training(Target::Cpu));
    let images = g.input("images", TensorType::f32([BATCH, 3, height, width]))?;
    let labels = g.input("labels", TensorType::new(ElementType::I64, [BATCH]))?;
    let valid = g.input("valid", TensorType::new(ElementType::Bool, [BATCH]))?;
    let forward = network.forward(&mut g, images, Mode::Train)?;
    let loss = g.cross_entropy(forward.logits, labels, valid)?.loss;
    let (parameters, tensors): (Vec<_>, Vec<_>) = forward.parameters.into_iter().unzip();
    for (parameter, gradient) in parameters.iter().zip(g.grad(loss, &tensors)?) {
        g.output(&format!("{}.gradient", parameter.name), gradient)?;
    }
    g.output("loss", loss)?;
    fs::write(to, g.finish().to_bytes())?;
    println!("{to}: gradients of {} parameters", parameters.len());
    Ok(())
}
