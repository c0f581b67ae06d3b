//! The squares of the gradients of a step, from which their norm follows.

use std::ops::Range;

use fovea_runtime::OnnxRuntime;
use ort::memory::Allocator;
use ort::session::Session;

use super::OrtOptions;
use super::flat::{Binding, SharedFlat};
use super::outputs::ScalarOutput;
use super::session::{Role, open};
use super::update::pieces;
use crate::backend::BackendError;
use crate::names;
use crate::optimizer::squares_graph;

/// Sums of squares over pieces of a flat buffer.
pub(super) struct Squares {
    session: Session,
    runs: Vec<(Binding, ScalarOutput)>,
}

impl Squares {
    pub fn new(
        loaded: &OnnxRuntime,
        options: &OrtOptions,
        ranges: impl Iterator<Item = Range<usize>>,
        gradients: &SharedFlat,
    ) -> Result<Self, BackendError> {
        let session = open(loaded, options, &squares_graph()?, Role::Step)?;
        let mut runs = Vec::new();
        for (start, len) in ranges.flat_map(|range| pieces(range, options.device, true)) {
            let bind = || -> ort::Result<(Binding, ScalarOutput)> {
                let mut binding = Binding::new(&session)?;
                binding.input_view(names::GRADIENTS, gradients, start, &[len])?;
                let mut squares = ScalarOutput::new(&Allocator::default())?;
                squares.bind(names::SQUARES, &mut binding)?;
                Ok((binding, squares))
            };
            runs.push(bind().map_err(BackendError::session("bind the gradients"))?);
        }
        Ok(Self { session, runs })
    }

    /// The sum of each piece, in their order.
    pub fn sums(&mut self) -> Result<Vec<f64>, BackendError> {
        let failed = BackendError::session("take the norm of the gradients");
        let mut sums = Vec::with_capacity(self.runs.len());
        for (binding, squares) in &mut self.runs {
            binding.run(&mut self.session).map_err(&failed)?;
            sums.push(squares.read().map_err(&failed)?.into());
        }
        Ok(sums)
    }
}
