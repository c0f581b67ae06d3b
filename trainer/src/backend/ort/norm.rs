//! The norm of the gradients of a step.

use std::ops::Range;

use ort::environment::Environment;
use ort::memory::Allocator;
use ort::session::Session;

use super::OrtOptions;
use super::flat::{Binding, SharedFlat};
use super::outputs::ScalarOutput;
use super::session::{Role, open};
use super::update::pieces;
use crate::backend::BackendError;
use crate::names;
use crate::optimizer::{clip_factor, squares_graph};

/// The norm over a range of a flat buffer, and its limit.
pub(super) struct Norm {
    session: Session,
    runs: Vec<(Binding, ScalarOutput)>,
    limit: f64,
}

impl Norm {
    pub fn new(
        environment: &Environment,
        options: &OrtOptions,
        range: Range<usize>,
        gradients: &SharedFlat,
        limit: f64,
    ) -> Result<Self, BackendError> {
        let session = open(environment, options, &squares_graph()?, Role::Step)?;
        let mut runs = Vec::new();
        for (start, len) in pieces(range, options.device, true) {
            let bind = || -> ort::Result<(Binding, ScalarOutput)> {
                let mut binding = Binding::new(&session)?;
                binding.input_view(names::GRADIENTS, gradients, start, &[len])?;
                let mut squares = ScalarOutput::new(&Allocator::default())?;
                squares.bind(names::SQUARES, &mut binding)?;
                Ok((binding, squares))
            };
            runs.push(bind().map_err(BackendError::session("bind the gradients"))?);
        }
        Ok(Self { session, runs, limit })
    }

    /// The factor that keeps the norm of the gradients under its limit.
    pub fn clip_factor(&mut self) -> Result<f64, BackendError> {
        let failed = BackendError::session("take the norm of the gradients");
        let mut sum = 0.0;
        for (binding, squares) in &mut self.runs {
            binding.run(&mut self.session).map_err(&failed)?;
            sum += f64::from(squares.read().map_err(&failed)?);
        }
        Ok(clip_factor(self.limit, sum.sqrt()))
    }
}
