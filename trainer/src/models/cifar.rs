//! The quick CIFAR-10 network of cuda-convnet: four layers, 18 % test error.

use super::network::{Activation, Layer, Network};

/// The quick network for 32×32 images and 10 classes, with or without response normalisation.
///
/// Weights start with a standard deviation of 1e-4 in conv1 and 0.01 after it. Without normalisation and weight decay,
/// and with [`Activation::Tanh`] instead of [`Activation::Relu`], it is a natural reading of the unnamed network of
/// figure 1 of the AlexNet paper.
pub fn cifar_quick(lrn: bool, function: Activation) -> Network {
    let conv = |name: &str, filters, weight_std| Layer::Conv {
        name: name.into(),
        filters,
        kernel: 5,
        stride: 1,
        padding: 2,
        groups: 1,
        weight_std: Some(weight_std),
        bias: 0.0,
    };
    let activation = || Layer::Activation { function };
    let average = || Layer::AveragePool { kernel: 3, stride: 2, padding: 0 };
    let normalisation = || lrn.then_some(Layer::Lrn { size: 3, alpha: 5e-5, beta: 0.75, k: 1.0 });
    let mut layers =
        vec![conv("conv1", 32, 1e-4), Layer::MaxPool { kernel: 3, stride: 2, padding: 0 }, activation()];
    layers.extend(normalisation());
    layers.extend([conv("conv2", 32, 0.01), activation(), average()]);
    layers.extend(normalisation());
    layers.extend([conv("conv3", 64, 0.01), activation(), average()]);
    layers.push(Layer::Linear { name: "fc10".into(), units: 10, weight_std: Some(0.01), bias: 0.0 });
    Network { name: "cifar_quick".into(), input_px: 32, classes: 10, layers }
}

#[cfg(test)]
mod tests {
    use super::cifar_quick;
    use crate::models::Activation;

    #[test]
    fn normalisation_adds_no_parameters() {
        let count =
            |lrn| cifar_quick(lrn, Activation::Relu).parameters().unwrap().iter().map(|p| p.len()).sum();
        let (with, without): (usize, usize) = (count(true), count(false));
        assert_eq!(with, without);
        assert_eq!(with, 2_432 + 25_632 + 51_264 + 64 * 9 * 10 + 10);
    }
}
