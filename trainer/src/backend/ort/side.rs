//! Training on images of another side than those of evaluation: another session over the same buffers.

use super::bound::Train;
use super::kernels::is_replayable;
use super::options::{FIRST_GRAPH, OrtOptions};
use super::session::{Role, open};
use super::{OrtBackend, Plan};
use crate::backend::{BackendError, Setup};
use crate::models::TrainingGraphs;

impl OrtBackend {
    /// Opens a session that trains on images of `px` pixels, in place of the present one.
    pub(super) fn train_at(&mut self, px: usize) -> Result<(), BackendError> {
        let Plan { recipe, network } = &self.plan;
        let batch_rows = self.limits.rows;
        let setup = Setup { recipe, network: network.at(px), batch_rows, mean: &[], seed: 0, place: (0, 1) };
        setup.check_size(px)?;
        let (graph, drawn) = TrainingGraphs::train(&setup.network, &self.options.graphs(recipe, batch_rows))?;
        let cuda_graph = self.options.cuda_graph && is_replayable(&graph);
        let options = OrtOptions { cuda_graph, ..self.options };
        let session = open(self.loaded, &options, &graph, Role::Train)?;
        let mut train = Train::new(session, &options, &setup, &drawn)?;
        self.begin_step();
        // They are bound to the present session.
        self.further.clear();
        self.written = 0;
        self.network.drawn = drawn;
        train.binding = train.bound(
            &self.batch,
            &self.network,
            &self.layout,
            &self.flats.weights,
            &self.flats.gradients,
        )?;
        options.record(&mut train.binding, FIRST_GRAPH)?;
        self.train = train;
        self.options = options;
        self.train_limits = self.limits.at(px);
        Ok(())
    }
}
