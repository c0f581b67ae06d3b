//! Sessions that work on whole flat buffers: the update and the sum of gradients, in place.
//!
//! Input and output of a piece are the same memory. ONNX Runtime does not know that, but in these graphs every value is
//! read before the one output that replaces it is written, element by element.

use fovea_graph::Graph;
use fovea_runtime::Device;
use ort::environment::Environment;
use ort::session::Session;

use super::OrtOptions;
use super::feed::Feed;
use super::flat::{Binding, SharedFlat};
use super::session::{Role, open};
use crate::backend::layout::{Group, Layout};
use crate::backend::{BackendError, Update};
use crate::models::names;

/// Values of one run on the CPU: 1 MiB of each buffer stays in the caches from one operator to the next. It is a matter of
/// speed alone.
const CHUNK: usize = 256 * 1024;

/// Ranges of at most [`CHUNK`] values on the CPU; a GPU takes a range as it is.
fn pieces(range: std::ops::Range<usize>, device: Device) -> impl Iterator<Item = (usize, usize)> {
    let step = match device {
        Device::Cpu => CHUNK,
        Device::Cuda(_) => range.len().max(1),
    };
    range.clone().step_by(step).map(move |start| (start, step.min(range.end - start)))
}

/// The update of all parameters.
pub(super) struct Updater {
    session: Session,
    momentum: Feed<f32>,
    groups: Vec<GroupRuns>,
}

struct GroupRuns {
    group: Group,
    rate: Feed<f32>,
    decay: Feed<f32>,
    runs: Vec<Binding>,
}

impl Updater {
    pub fn new(
        environment: &Environment,
        options: &OrtOptions,
        graph: &Graph,
        layout: &Layout,
        [weights, momenta, gradients]: [&SharedFlat; 3],
    ) -> Result<Self, BackendError> {
        let session = open(environment, options, graph, Role::Step)?;
        let scalar = |name: &str| Feed::new(&session, options.device, name, &[]);
        let momentum = scalar(names::MOMENTUM)?;
        let mut groups = Vec::with_capacity(layout.groups.len());
        for group in &layout.groups {
            let (rate, decay) = (scalar(names::LEARNING_RATE)?, scalar(names::DECAY)?);
            let mut runs = Vec::new();
            for (start, len) in pieces(group.range.clone(), options.device) {
                let bind = || -> ort::Result<Binding> {
                    let mut binding = Binding::new(&session)?;
                    binding.input_view(names::WEIGHTS, weights, start, &[len])?;
                    binding.input_view(names::MOMENTA, momenta, start, &[len])?;
                    binding.input_view(names::GRADIENTS, gradients, start, &[len])?;
                    binding.output_view(names::NEW_WEIGHTS, weights, start, &[len])?;
                    binding.output_view(names::NEW_MOMENTA, momenta, start, &[len])?;
                    Ok(binding)
                };
                let mut binding = bind().map_err(BackendError::session("bind the parameters"))?;
                for feed in [&momentum, &rate, &decay] {
                    feed.bind(&mut binding)?;
                }
                runs.push(binding);
            }
            groups.push(GroupRuns { group: group.clone(), rate, decay, runs });
        }
        Ok(Self { session, momentum, groups })
    }

    pub fn run(&mut self, update: &Update) -> Result<(), BackendError> {
        self.momentum.fill(update.momentum as f32)?;
        for GroupRuns { group, rate, decay, runs } in &mut self.groups {
            let (new_rate, new_decay) = update.rate_and_decay(group.kind, group.weight_decay);
            rate.fill(new_rate as f32)?;
            decay.fill(new_decay as f32)?;
            for binding in runs {
                binding.run(&mut self.session).map_err(BackendError::session("update the weights"))?;
            }
        }
        Ok(())
    }
}

/// sum ← sum + gradients, for steps over several batches.
pub(super) struct Adder {
    session: Session,
    runs: Vec<Binding>,
}

impl Adder {
    pub fn new(
        environment: &Environment,
        options: &OrtOptions,
        graph: &Graph,
        layout: &Layout,
        sum: &SharedFlat,
        gradients: &SharedFlat,
    ) -> Result<Self, BackendError> {
        let session = open(environment, options, graph, Role::Step)?;
        let mut runs = Vec::new();
        for (start, len) in pieces(0..layout.len, options.device) {
            let bind = || -> ort::Result<Binding> {
                let mut binding = Binding::new(&session)?;
                binding.input_view(names::SUM, sum, start, &[len])?;
                binding.input_view(names::GRADIENTS, gradients, start, &[len])?;
                binding.output_view(names::NEW_SUM, sum, start, &[len])?;
                Ok(binding)
            };
            runs.push(bind().map_err(BackendError::session("bind the gradients"))?);
        }
        Ok(Self { session, runs })
    }

    pub fn run(&mut self) -> Result<(), BackendError> {
        for binding in &mut self.runs {
            binding.run(&mut self.session).map_err(BackendError::session("add gradients"))?;
        }
        Ok(())
    }
}
