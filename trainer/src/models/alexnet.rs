//! AlexNet (Krizhevsky, Sutskever, Hinton, NIPS 2012) with the options of its ablations.

use serde::{Deserialize, Serialize};

use super::network::{Activation, Layer, Network, Scaling};

/// Which α the constant of local response normalisation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrnAlpha {
    /// α multiplies the sum, as printed in section 3.3.
    #[default]
    Printed,
    /// α is divided by the number of channels in the sum first, as in the authors' code.
    Divided,
}

/// Geometry of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Side of the kernel.
    pub kernel: usize,
    /// Distance between kernel positions.
    pub stride: usize,
    /// Zeros on every side.
    pub padding: usize,
}

/// The network of the paper; fields are what its ablations and reductions change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlexNet {
    /// Side of the input images in pixels.
    pub input_px: usize,
    /// Number of classes.
    pub classes: usize,
    /// Geometry of conv1, which follows the size of the input.
    pub first: Kernel,
    /// Filters of conv1 to conv5; 0 leaves a layer out.
    pub filters: [usize; 5],
    /// Units of fc6 and fc7; 0 leaves a layer out.
    pub units: [usize; 2],
    /// Channel groups of conv2, conv4 and conv5: the two devices of the paper.
    pub groups: usize,
    /// Function after every layer but the last.
    pub activation: Activation,
    /// Local response normalisation after conv1 and conv2.
    pub lrn: bool,
    /// Meaning of α.
    pub lrn_alpha: LrnAlpha,
    /// 3×3 pooling windows with stride 2; 2×2 windows otherwise.
    pub overlapping_pooling: bool,
    /// Share of units dropped after fc6 and fc7; 0 for no dropout.
    pub dropout: f64,
    /// Where dropout's factor goes.
    pub dropout_scaling: Scaling,
    /// Standard deviation of initial weights; without it √(2 / inputs) for every layer (He et al. 2015).
    pub weight_std: Option<f64>,
    /// Initial bias of conv2, conv4, conv5, fc6, fc7; the others start at 0.
    pub bias: f32,
}

impl Default for AlexNet {
    fn default() -> Self {
        Self {
            input_px: 224,
            classes: 1000,
            first: Kernel { kernel: 11, stride: 4, padding: 2 },
            filters: [96, 256, 384, 384, 256],
            units: [4096, 4096],
            groups: 2,
            activation: Activation::Relu,
            lrn: true,
            lrn_alpha: LrnAlpha::Printed,
            overlapping_pooling: true,
            dropout: 0.5,
            dropout_scaling: Scaling::AtEvaluation,
            weight_std: Some(0.01),
            bias: 1.0,
        }
    }
}

impl AlexNet {
    /// A reduction with the same kinds of layers for images of 28 to 64 pixels, fit to be trained on a CPU.
    pub fn demo(input_px: usize, classes: usize) -> Self {
        // Pooling three times needs 15 places: larger images are halved by the first layer.
        let stride = if input_px > 40 { 2 } else { 1 };
        Self {
            input_px,
            classes,
            first: Kernel { kernel: 5, stride, padding: 2 },
            filters: [32, 64, 96, 96, 64],
            units: [256, 256],
            // Deep and narrow with N(0, 0.01) would sit at ln K for longer than the whole demonstration.
            weight_std: None,
            bias: 0.0,
            ..Self::default()
        }
    }

    /// The network as a list of layers.
    pub fn network(&self) -> Network {
        let five = Kernel { kernel: 5, stride: 1, padding: 2 };
        let three = Kernel { kernel: 3, stride: 1, padding: 1 };
        let mut layers = Vec::new();
        layers.extend(self.convolution(0, self.first, 1, 0.0, self.lrn, true));
        layers.extend(self.convolution(1, five, self.groups, self.bias, self.lrn, true));
        layers.extend(self.convolution(2, three, 1, 0.0, false, false));
        layers.extend(self.convolution(3, three, self.groups, self.bias, false, false));
        layers.extend(self.convolution(4, three, self.groups, self.bias, false, true));
        layers.extend(self.hidden("fc6", "dropout6", self.units[0]));
        layers.extend(self.hidden("fc7", "dropout7", self.units[1]));
        let (units, weight_std) = (self.classes, self.weight_std);
        layers.push(Layer::Linear { name: "fc8".into(), units, weight_std, bias: 0.0 });
        Network { name: "alexnet".into(), input_px: self.input_px, classes: self.classes, layers }
    }

    /// A convolution and what follows it.
    fn convolution(
        &self,
        at: usize,
        geometry: Kernel,
        groups: usize,
        bias: f32,
        normalised: bool,
        pooled: bool,
    ) -> Vec<Layer> {
        let activation = Layer::Activation { function: self.activation };
        let pool = self.pool();
        let mut layers = Vec::new();
        if self.filters[at] > 0 {
            layers.push(Layer::Conv {
                name: format!("conv{}", at + 1),
                filters: self.filters[at],
                kernel: geometry.kernel,
                stride: geometry.stride,
                padding: geometry.padding,
                groups,
                weight_std: self.weight_std,
                bias,
            });
        }
        match (self.filters[at] > 0, normalised, pooled) {
            (true, true, true) => layers.extend([activation, self.normalisation(), pool]),
            // A rising function and a maximum may change places; after the pool it has a quarter of the work.
            (true, false, true) => layers.extend([pool, activation]),
            (true, _, false) => layers.push(activation),
            (false, _, true) => layers.push(pool),
            (false, _, false) => {}
        }
        layers
    }

    /// A fully connected hidden layer and what follows it.
    fn hidden(&self, name: &str, dropout: &str, units: usize) -> Vec<Layer> {
        if units == 0 {
            return Vec::new();
        }
        let (weight_std, bias) = (self.weight_std, self.bias);
        let mut layers = vec![
            Layer::Linear { name: name.into(), units, weight_std, bias },
            Layer::Activation { function: self.activation },
        ];
        if self.dropout > 0.0 {
            let (rate, scaling) = (self.dropout, self.dropout_scaling);
            layers.push(Layer::Dropout { name: dropout.into(), rate, scaling });
        }
        layers
    }

    fn normalisation(&self) -> Layer {
        let size = 5;
        let alpha = match self.lrn_alpha {
            LrnAlpha::Printed => 1e-4,
            LrnAlpha::Divided => 1e-4 / size as f64,
        };
        Layer::Lrn { size, alpha, beta: 0.75, k: 2.0 }
    }

    fn pool(&self) -> Layer {
        let kernel = if self.overlapping_pooling { 3 } else { 2 };
        Layer::MaxPool { kernel, stride: 2, padding: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::AlexNet;
    use crate::models::Layer;

    fn count(net: &AlexNet) -> usize {
        net.network().parameters().unwrap().iter().map(|p| p.len()).sum()
    }

    #[test]
    fn the_network_of_the_paper_has_its_number_of_parameters() {
        assert_eq!(count(&AlexNet::default()), 60_965_224);
    }

    #[test]
    fn every_middle_layer_can_be_left_out() {
        for (at, layer) in ["conv2", "conv3", "conv4", "conv5", "fc6", "fc7"].into_iter().enumerate() {
            let mut net = AlexNet::default();
            match at {
                0..4 => net.filters[at + 1] = 0,
                _ => net.units[at - 4] = 0,
            }
            let parameters = net.network().parameters().unwrap();
            assert_eq!(parameters.len(), 14, "without {layer}");
            assert!(!parameters.iter().any(|p| p.name.starts_with(layer)), "without {layer}");
        }
    }

    #[test]
    fn the_reduction_fits_small_images() {
        for px in [28, 32, 64] {
            let network = AlexNet::demo(px, 10).network();
            assert!(network.parameters().is_ok(), "{px} pixels");
            for kind in ["Lrn", "MaxPool", "Dropout", "groups: 2"] {
                assert!(format!("{:?}", network.layers).contains(kind), "{kind}");
            }
        }
    }

    #[test]
    fn options_change_the_layers_that_they_name() {
        let layers = |net: AlexNet| net.network().layers;
        let has = |layers: &[Layer], test: fn(&Layer) -> bool| layers.iter().any(test);
        let plain = layers(AlexNet { lrn: false, dropout: 0.0, ..AlexNet::default() });
        assert!(!has(&plain, |l| matches!(l, Layer::Lrn { .. } | Layer::Dropout { .. })));
        let two = layers(AlexNet { overlapping_pooling: false, ..AlexNet::default() });
        assert!(has(&two, |l| matches!(l, Layer::MaxPool { kernel: 2, stride: 2, .. })));
        let divided = layers(AlexNet { lrn_alpha: super::LrnAlpha::Divided, ..AlexNet::default() });
        assert!(has(&divided, |l| matches!(l, Layer::Lrn { alpha, .. } if *alpha == 2e-5)));
    }
}
