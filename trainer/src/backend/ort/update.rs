//! Sessions over whole flat buffers: the update and the sum of gradients, in place.
//!
//! Input and output of a piece are the same memory. ONNX Runtime is not aware of it, but in these graphs
//! every value is read before the only output that replaces it is written, element by element.

use std::ops::Range;
use std::sync::Arc;

use fovea_runtime::{Device, OnnxRuntime};
use ort::session::Session;

use super::OrtOptions;
use super::feed::Feed;
use super::flat::{Binding, SharedFlat};
use super::session::{Role, open};
use crate::backend::BackendError;
use crate::backend::layout::Layout;
use crate::collective::common;
use crate::names;
use crate::optimizer::{Optimizer, ParameterGroup, Update, accumulate_graph, update_graph};

/// Values of one run on the CPU: 1 MiB of each buffer stays in the caches from one operator to the next.
/// Processes own whole runs, and squares of gradients are added run by run.
const CHUNK: usize = 256 * 1024;

/// Ranges of at most [`CHUNK`] values on the CPU; the whole range on a GPU, or if it must not be divided.
pub(super) fn pieces(
    range: Range<usize>,
    device: Device,
    divisible: bool,
) -> impl Iterator<Item = (usize, usize)> {
    let step = match device {
        Device::Cpu if divisible => CHUNK,
        _ => range.len().max(1),
    };
    range.clone().step_by(step).map(move |start| (start, step.min(range.end - start)))
}

/// Numbers of values that shares may not divide: in processes of any number, the same runs update the same
/// values on the CPU.
pub(super) fn units(layout: &Layout, is_layerwise: bool) -> impl Iterator<Item = usize> {
    let groups = layout.groups.iter().map(move |(range, _)| (range.clone(), !is_layerwise));
    let all = groups.chain([(layout.buffers.clone(), true)]);
    all.flat_map(|(range, divisible)| pieces(range, Device::Cpu, divisible)).map(|(_, len)| len)
}

/// The update of a share of the parameters and buffers.
pub(super) struct Updater {
    session: Session,
    optimizer: Arc<dyn Optimizer>,
    groups: Vec<GroupRuns>,
    /// Adds the step's changes to buffers; `None` if the process owns none.
    buffers: Option<Adder>,
}

struct GroupRuns {
    group: ParameterGroup,
    hyperparameters: Vec<Feed<f32>>,
    runs: Vec<Binding>,
}

/// The flat buffers of the state.
pub(super) struct Flats {
    pub weights: SharedFlat,
    /// One for each slot of the optimizer.
    pub slots: Vec<Slot>,
    pub gradients: SharedFlat,
}

/// A slot of the values that a process owns.
pub(super) struct Slot {
    pub flat: SharedFlat,
    /// The values of the layout that it has.
    pub range: Range<usize>,
}

impl Updater {
    pub fn new(
        loaded: &OnnxRuntime,
        options: &OrtOptions,
        optimizer: &Arc<dyn Optimizer>,
        layout: &Layout,
        flats: &Flats,
        own: &Range<usize>,
    ) -> Result<Self, BackendError> {
        let session = open(loaded, options, &update_graph(&**optimizer)?, Role::Step)?;
        let mut groups = Vec::with_capacity(layout.groups.len());
        for (range, group) in &layout.groups {
            let range = common(range, own);
            let feeds = optimizer.hyperparameters().iter();
            let feeds = feeds.map(|name| Feed::new(&session, options.device, name, &[]));
            let hyperparameters = feeds.collect::<Result<Vec<_>, _>>()?;
            let mut runs = Vec::new();
            for (start, len) in pieces(range, options.device, !optimizer.is_layerwise()) {
                let bind = || -> ort::Result<Binding> {
                    let mut binding = Binding::new(&session)?;
                    binding.input_view(names::WEIGHTS, &flats.weights, start, &[len])?;
                    binding.input_view(names::GRADIENTS, &flats.gradients, start, &[len])?;
                    binding.output_view(names::NEW_WEIGHTS, &flats.weights, start, &[len])?;
                    for (name, Slot { flat, range }) in optimizer.slots().iter().zip(&flats.slots) {
                        let start = start - range.start;
                        binding.input_view(&names::slot_input(name), flat, start, &[len])?;
                        binding.output_view(&names::slot_output(name), flat, start, &[len])?;
                    }
                    Ok(binding)
                };
                let mut binding = bind().map_err(BackendError::session("bind the parameters"))?;
                for feed in &hyperparameters {
                    feed.bind(&mut binding)?;
                }
                runs.push(binding);
            }
            groups.push(GroupRuns { group: *group, hyperparameters, runs });
        }
        let buffers = common(&layout.buffers, own);
        let buffers = if buffers.is_empty() {
            None
        } else {
            Some(Adder::new(loaded, options, buffers, &flats.weights, &flats.gradients)?)
        };
        Ok(Self { session, optimizer: Arc::clone(optimizer), groups, buffers })
    }

    /// The slot of the running average of the weights.
    pub fn average(&self) -> Option<usize> {
        self.optimizer.average()
    }

    pub fn run(&mut self, update: &Update) -> Result<(), BackendError> {
        for GroupRuns { group, hyperparameters, runs } in &mut self.groups {
            for (feed, value) in hyperparameters.iter_mut().zip(self.optimizer.values(group, update)) {
                feed.fill(value as f32)?;
            }
            for binding in runs {
                binding.run(&mut self.session).map_err(BackendError::session("update the weights"))?;
            }
        }
        self.buffers.as_mut().map_or(Ok(()), Adder::run)
    }
}

/// sum ← sum + addend over a range: gradients of later micro-batches, changes of buffers.
pub(super) struct Adder {
    session: Session,
    runs: Vec<Binding>,
}

impl Adder {
    pub fn new(
        loaded: &OnnxRuntime,
        options: &OrtOptions,
        range: Range<usize>,
        sum: &SharedFlat,
        addend: &SharedFlat,
    ) -> Result<Self, BackendError> {
        let session = open(loaded, options, &accumulate_graph()?, Role::Step)?;
        let mut runs = Vec::new();
        for (start, len) in pieces(range, options.device, true) {
            let bind = || -> ort::Result<Binding> {
                let mut binding = Binding::new(&session)?;
                binding.input_view(names::SUM, sum, start, &[len])?;
                binding.input_view(names::GRADIENTS, addend, start, &[len])?;
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
