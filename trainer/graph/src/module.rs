//! The interface of a network, and what it declares: parameters, dropout masks, buffers.

use std::fmt;

use crate::{Builder, GraphError, Init, Result, Tensor};

/// A network: turns images into logits, one for each class.
pub trait Network: fmt::Debug + Send + Sync {
    /// Name in files and messages.
    fn name(&self) -> &str;

    /// Appends the network to `g`, from `x` `[N,3,H,W]` in f32 or f16; parameters and masks become graph
    /// inputs.
    ///
    /// It computes in the type of `x`; parameters are f32 whatever it is.
    ///
    /// # Errors
    /// A node does not fit the ones before it or cannot be expressed, or a name is used twice.
    fn forward(&self, g: &mut Builder, x: Tensor, mode: Mode) -> Result<Forward>;

    /// Names of the activations that [`forward_with_tap`](Self::forward_with_tap) gives, from input to
    /// logits.
    fn taps(&self) -> Vec<String>;

    /// The tap of the last hidden activation: the input of the layer that makes the logits, before any
    /// dropout. `None` when there is no such layer.
    fn last_hidden(&self) -> Option<String>;

    /// Like [`forward`](Self::forward) in evaluation; also returns the activation called `tap`.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward), and when no activation has this name.
    fn forward_with_tap(&self, g: &mut Builder, x: Tensor, tap: &str) -> Result<(Forward, Tensor)>;
}

/// The error of an activation that `network` does not have.
pub fn unknown_tap(network: &dyn Network, tap: &str) -> GraphError {
    let names = network.taps();
    let known = if names.is_empty() { "none has a name".to_owned() } else { names.join(", ") };
    let reason = format!("it has no layer `{tap}`; its layers: {known}");
    GraphError::Network { network: network.name().to_owned(), reason }
}

/// Whether a graph is for training or for evaluation; dropout differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Dropout masks are inputs.
    Train,
    /// No masks.
    Evaluate,
}

/// What role a parameter plays; learning rates and decay may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Weights of a layer.
    Weight,
    /// Bias of a layer.
    Bias,
    /// Factors of the channels, as of a normalisation, or slopes.
    Scale,
}

/// A trained f32 tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Name of the graph input, `layer.weight` or `layer.bias`.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Role.
    pub kind: ParameterKind,
    /// Initial values.
    pub init: Init,
    /// Weight decay instead of the optimizer's.
    pub weight_decay: Option<f64>,
}

impl Parameter {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of axes; of biases and scales, which files have as `[C,1,1]` too, those longer than 1.
    #[must_use]
    pub fn axes(&self) -> usize {
        match self.kind {
            ParameterKind::Weight => self.shape.len(),
            ParameterKind::Bias | ParameterKind::Scale => {
                self.shape.iter().filter(|&&length| length > 1).count().max(1)
            }
        }
    }

    /// The initial values in a run with `seed`; `index` is the parameter's position in the network.
    #[must_use]
    pub fn initial(&self, seed: u64, index: usize) -> Vec<f32> {
        let mut values = vec![0.0; self.len()];
        self.init.fill(seed, index, &mut values);
        values
    }
}

/// A Boolean input that the host draws for every step.
#[derive(Clone, Debug, PartialEq)]
pub struct DropoutMask {
    /// Name of the graph input.
    pub name: String,
    /// Shape; the first axis is that of the rows of the batch, unless all share what is drawn.
    pub shape: Vec<usize>,
    /// Probability of true.
    pub keep: f64,
}

/// How the numbers of a noise are distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Uniform from 0 to 1, without 1.
    Uniform,
    /// Normal with a mean of 0 and a standard deviation of 1.
    Normal,
}

/// An f32 input of random numbers that the host draws for every step.
#[derive(Clone, Debug, PartialEq)]
pub struct Noise {
    /// Name of the graph input.
    pub name: String,
    /// Shape; the first axis is that of the rows of the batch, unless all share what is drawn.
    pub shape: Vec<usize>,
    /// Distribution of the numbers.
    pub distribution: Distribution,
}

/// The inputs that the host draws for every step, each list in order; none in evaluation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawn {
    /// Masks of dropout and of stochastic depth.
    pub masks: Vec<DropoutMask>,
    /// Random numbers.
    pub noises: Vec<Noise>,
}

/// An f32 tensor that training updates without gradients, such as running statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// Name of the graph input.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Initial values.
    pub init: Init,
}

impl Buffer {
    /// The initial values in a run with `seed`; `index` is the buffer's position in the network.
    #[must_use]
    pub fn initial(&self, seed: u64, index: usize) -> Vec<f32> {
        let mut values = vec![0.0; self.len()];
        self.init.fill(seed, index, &mut values);
        values
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A buffer in a graph.
#[derive(Clone, Debug)]
pub struct BufferUse {
    /// The buffer.
    pub buffer: Buffer,
    /// Its graph input.
    pub value: Tensor,
    /// Its value after the batch; may be `None` in evaluation.
    pub new: Option<Tensor>,
}

/// Name of the mask input of the dropout called `dropout`.
#[must_use]
pub fn mask_name(dropout: &str) -> String {
    format!("{dropout}.mask")
}

/// Name of the input of the random numbers called `numbers`.
#[must_use]
pub(crate) fn noise_name(numbers: &str) -> String {
    format!("{numbers}.noise")
}

/// The forward direction of a network in a builder.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Logits `[N,K]`.
    pub logits: Tensor,
    /// Parameters in order with their graph inputs.
    pub parameters: Vec<(Parameter, Tensor)>,
    /// What the host draws.
    pub drawn: Drawn,
    /// Buffers in order.
    pub buffers: Vec<BufferUse>,
}

impl Forward {
    /// A network without a node, whose logits are `x`.
    #[must_use]
    pub fn new(x: Tensor) -> Self {
        Self { logits: x, parameters: Vec::new(), drawn: Drawn::default(), buffers: Vec::new() }
    }
}
