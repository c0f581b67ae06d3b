//! A file with its gradients: its inputs and outputs under their own names, and gradients beside them, in a
//! graph that any ONNX Runtime runs.
//!
//! Unlike a network to be trained, the file may have any inputs and outputs: what is differentiated is the
//! sum of its outputs, each multiplied by a seed, which is an input of the result; or a loss of its logits.

mod build;
mod inputs;
mod names;
mod request;

use std::path::Path;

use prost::Message;

use self::build::Plan;
use self::inputs::inputs;
use self::names::Names;
pub use self::request::{Differentiated, Gradients, Objective, Wrt};
use super::batch::cut_repeated;
use super::constant::Values;
use super::file::Imported;
use super::operand_of_last;
use super::rewrite::LARGEST_BYTES;
use crate::module::Mode;
use crate::onnx::tensor_proto::DataType;
use crate::onnx::{StringStringEntryProto, TensorProto};
use crate::{Graph, GraphError, Result, free_batch};

impl Gradients {
    /// The file `path` with these gradients, for ONNX Runtime on a CPU.
    ///
    /// Inputs and outputs keep their names and types. The gradient of NAME is the output `NAME.grad`.
    /// Initialisers that gradients are with respect to are inputs too, whose values are those of the file
    /// unless others are given; so are running statistics in training, whose next values are outputs
    /// `NAME.next`.
    ///
    /// # Errors
    /// [`GraphError::File`] or [`GraphError::Node`] if the file cannot be used, has no value of a name that
    /// is asked for, or does not depend on it.
    pub fn of_file(&self, path: &Path) -> Result<Differentiated> {
        let (mut file, graph, metadata) = Imported::open(path)?;
        let inputs = inputs(&file, &graph, &self.shapes)?;
        let names = Names::new(self, &file, &graph)?;
        let constants = &file.constants;
        file.asked = names.asked().filter(|name| constants.contains_key(*name)).map(str::to_owned).collect();
        if self.objective == Objective::CrossEntropy {
            file.logits =
                operand_of_last(&["Softmax", "LogSoftmax"], &graph.node, &names.of[0].name).to_owned();
        }
        let is_free = inputs.iter().any(|input| input.has_free_batch());
        let batched = inputs.iter().find(|input| input.element.is_float()).or(inputs.first());
        file.input.batch = batched.and_then(|input| input.own_batch);
        if batched.is_some_and(|input| input.axes.first() != Some(&input.own_batch)) {
            cut_repeated(&graph, &mut file.constants, file.input.batch);
        }
        file.set_nodes(graph.node, names.of.iter().map(|output| output.name.clone()))?;
        let plan = Plan { request: self, file: &file, inputs: &inputs, names: &names };
        let built = if is_free { free_batch(|batch| plan.graph(batch)) } else { plan.graph(1) };
        let built = built.map_err(|error| match (error, batched) {
            (GraphError::BatchDependent { .. }, Some(input)) => file.failed(format!(
                "its gradients depend on the number of rows; give it, as in --shape {}",
                input.shape_argument(Some(8))
            )),
            (error, _) => error,
        })?;
        self.with_values(&file, &names, built, metadata)
    }

    /// The file of a graph, whose parameters and running statistics are inputs, with their values.
    fn with_values(
        &self,
        file: &Imported,
        names: &Names,
        mut graph: Graph,
        metadata: Vec<StringStringEntryProto>,
    ) -> Result<Differentiated> {
        let (mut weights, mut initializers) = (Vec::new(), Vec::new());
        for port in graph.inputs() {
            let Some(Values::Floats(values)) = file.constants.get(&port.name).map(|found| &found.values)
            else {
                continue;
            };
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            if self.mode == Mode::Train || names.wrt.iter().any(|(name, _)| *name == port.name) {
                initializers.push(TensorProto {
                    name: Some(port.name.clone()),
                    dims: port.ty.shape.iter().map(|&length| length as i64).collect(),
                    data_type: Some(DataType::Float as i32),
                    raw_data: Some(bytes),
                    ..Default::default()
                });
                weights.push(port);
            } else {
                graph.set_input(&port.name, bytes)?;
            }
        }
        let is_weight = |name: &str| weights.iter().any(|port| port.name == name);
        let inputs = graph.inputs().into_iter().filter(|port| !is_weight(&port.name)).collect();
        let outputs = graph.outputs();
        let mut model = graph.to_model();
        model.metadata_props = metadata;
        if let Some(graph) = &mut model.graph {
            graph.initializer.extend(initializers);
            graph.input.sort_by_key(|input| is_weight(input.name()));
        }
        let length = model.encoded_len();
        if length > LARGEST_BYTES {
            return Err(file.failed(format!("with gradients it has {length} bytes, expected at most 2 GiB")));
        }
        Ok(Differentiated { inputs, outputs, bytes: model.encode_to_vec(), weights })
    }
}
