//! Functions of the gates of recurrent layers, by their names in files.

use crate::builder::Builder;
use crate::error::Result;
use crate::node::Tensor;

/// A function of gates, candidates or cells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// max(x, 0).
    Relu,
    /// tanh x.
    Tanh,
    /// 1/(1 + e⁻ˣ).
    Sigmoid,
    /// x/(1 + |x|).
    Softsign,
    /// ln(1 + eˣ).
    Softplus,
    /// a·x + b.
    Affine(f64, f64),
    /// x, or a·x below 0.
    LeakyRelu(f64),
    /// x above a, else 0.
    ThresholdedRelu(f64),
    /// a·tanh(b·x).
    ScaledTanh(f64, f64),
    /// a·x + b between 0 and 1.
    HardSigmoid(f64, f64),
    /// x, or a·(eˣ − 1) below 0.
    Elu(f64),
}

impl Function {
    /// The functions that `names` name for `directions` that have as many as `defaults` each, or `defaults`
    /// if none is named; the numbers of those that take some are in order in `numbers`, α and β.
    pub(super) fn named(
        names: &[String],
        numbers: [Vec<f64>; 2],
        defaults: &[Self],
        directions: usize,
    ) -> std::result::Result<Vec<Self>, String> {
        if names.is_empty() {
            return Ok(defaults.to_vec());
        }
        let count = defaults.len();
        if names.len() != count * directions {
            return Err(format!("has {} activations, expected {}", names.len(), count * directions));
        }
        let [mut alpha, mut beta] = numbers.map(Vec::into_iter);
        let mut list = Vec::with_capacity(names.len());
        for name in names {
            let mut a = |default| alpha.next().unwrap_or(default);
            let mut b = |default| beta.next().unwrap_or(default);
            list.push(match name.to_lowercase().as_str() {
                "relu" => Self::Relu,
                "tanh" => Self::Tanh,
                "sigmoid" => Self::Sigmoid,
                "softsign" => Self::Softsign,
                "softplus" => Self::Softplus,
                "affine" => Self::Affine(a(1.0), b(0.0)),
                "leakyrelu" => Self::LeakyRelu(a(0.01)),
                "thresholdedrelu" => Self::ThresholdedRelu(a(1.0)),
                "scaledtanh" => Self::ScaledTanh(a(1.0), b(1.0)),
                "hardsigmoid" => Self::HardSigmoid(a(0.2), b(0.5)),
                "elu" => Self::Elu(a(1.0)),
                _ => return Err(format!("has the activation `{name}`, which is not supported")),
            });
        }
        if list.chunks(count).any(|of_direction| *of_direction != list[..count]) {
            return Err("has other activations in its second direction, expected the same".into());
        }
        list.truncate(count);
        Ok(list)
    }

    pub(super) fn of(self, g: &mut Builder, x: Tensor) -> Result<Tensor> {
        match self {
            Self::Relu => g.relu(x),
            Self::Tanh => g.tanh(x),
            Self::Sigmoid => g.sigmoid(x),
            Self::Softsign => g.softsign(x),
            Self::Softplus => g.softplus(x),
            Self::Affine(a, b) => {
                let (scaled, b) = (g.scale(x, a)?, g.scalar(g.element(x), b));
                g.add(scaled, b)
            }
            Self::LeakyRelu(a) => g.leaky_relu(x, a),
            Self::ThresholdedRelu(a) => g.thresholded_relu(x, a),
            Self::ScaledTanh(a, b) => {
                let scaled = g.scale(x, b)?;
                let y = g.tanh(scaled)?;
                g.scale(y, a)
            }
            Self::HardSigmoid(a, b) => g.hard_sigmoid(x, a, b),
            Self::Elu(a) => g.elu(x, a),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Function;

    const LSTM: [Function; 3] = [Function::Sigmoid, Function::Tanh, Function::Tanh];

    #[test]
    fn functions_take_their_numbers_in_order() {
        let names = ["HardSigmoid", "Tanh", "ScaledTanh"].map(String::from);
        let list = Function::named(&names, [vec![0.3, 2.0], vec![0.4]], &LSTM, 1).unwrap();
        let expected = [Function::HardSigmoid(0.3, 0.4), Function::Tanh, Function::ScaledTanh(2.0, 1.0)];
        assert_eq!(list, expected);
        let none = || [vec![], vec![]];
        assert!(Function::named(&names, none(), &LSTM[..2], 1).unwrap_err().contains("expected 2"));
        let other = ["Relu", "Tanh"].map(String::from);
        assert!(Function::named(&other, none(), &LSTM[1..2], 2).unwrap_err().contains("second direction"));
        assert!(Function::named(&["Swish".into()], none(), &LSTM[1..2], 1).unwrap_err().contains("`Swish`"));
    }
}
