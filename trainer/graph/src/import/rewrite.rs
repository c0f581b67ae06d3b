//! A network's own file with other values: its nodes and names, in the form for evaluation.

use std::collections::{HashMap, HashSet};

use half::{bf16, f16};
use prost::Message;

use super::constant::{Constant, Values, folder_of, of_tensor};
use super::file::Imported;
use super::node::{is_constant, is_one_of};
use super::random::is_drawn;
use super::{branches, decoded, functions, keep_what_leads_to, merged};
use crate::model::metadata_of;
use crate::module::Mode;
use crate::onnx::attribute_proto::AttributeType;
use crate::onnx::tensor_proto::DataType;
use crate::onnx::tensor_shape_proto::dimension;
use crate::onnx::{AttributeProto, GraphProto, NodeProto, TensorProto, type_proto};
use crate::{Builder, Lowering, Result, Target, TensorType};

/// The largest message that readers of protocol buffers take.
pub(super) const LARGEST_BYTES: usize = i32::MAX as usize;

impl Imported {
    /// The bytes of the file with other values of its parameters and running statistics, each from `values`
    /// by its name in graphs, and with `metadata`. Nodes, tensors, inputs and outputs keep their names;
    /// normalisation, dropout and random numbers take their forms for evaluation; data of other files are
    /// taken in.
    ///
    /// # Errors
    /// [`GraphError::File`](crate::GraphError::File) if the file cannot be read any more, `values` have
    /// another number of values, or the result exceeds 2 GiB.
    pub fn rewritten(
        &self,
        values: &dyn Fn(&str) -> Option<Vec<f32>>,
        metadata: &[(String, String)],
    ) -> Result<Vec<u8>> {
        let mut model = decoded(&self.path)?;
        let functions = std::mem::take(&mut model.functions);
        let mut graph = model.graph.take().unwrap_or_default();
        graph.node = functions::inline(graph.node, &functions).map_err(|reason| self.failed(reason))?;
        merged::separate(&mut graph, folder_of(&self.path)).map_err(|reason| self.failed(reason))?;
        branches::hoist(&mut graph);
        self.set_values(&mut graph, values)?;
        let expectations = self.expectations(&graph)?;
        branches::for_each(&mut graph.node, &mut |node| {
            // Without running statistics, it normalises by those of its input in evaluation as well.
            let has_statistics = node.input.get(3).is_some_and(|mean| self.constants.contains_key(mean));
            if !is_one_of(node, &["BatchNormalization"]) || has_statistics {
                evaluated(node, &expectations);
            }
        });
        let outputs: Vec<String> = graph.output.iter().map(|output| output.name().to_owned()).collect();
        graph.node = keep_what_leads_to(outputs, graph.node);
        self.set_classes(&mut graph);
        graph.value_info.clear();
        // Initialisers are inputs as well in old files, with their old shapes.
        let initializers: HashSet<&str> = graph.initializer.iter().map(TensorProto::name).collect();
        graph.input.retain(|input| !initializers.contains(input.name()));
        model.ir_version = Some(model.ir_version().max(4));
        model.graph = Some(graph);
        model.metadata_props.extend(metadata_of(metadata));
        let length = model.encoded_len();
        if length > LARGEST_BYTES {
            return Err(self.failed(format!("its export has {length} bytes, expected at most 2 GiB")));
        }
        Ok(model.encode_to_vec())
    }

    fn set_values(&self, graph: &mut GraphProto, values: &dyn Fn(&str) -> Option<Vec<f32>>) -> Result<()> {
        for tensor in &mut graph.initializer {
            let name = tensor.name().to_owned();
            self.set_tensor(&name, tensor, values)?;
        }
        for node in graph.node.iter_mut().filter(|node| is_constant(node)) {
            let Some(name) = node.output.first().cloned() else { continue };
            for tensor in node.attribute.iter_mut().filter_map(|attribute| attribute.t.as_mut()) {
                self.set_tensor(&name, tensor, values)?;
            }
        }
        Ok(())
    }

    /// Gives the tensor `name` its value now, inside of the file.
    fn set_tensor(
        &self,
        name: &str,
        tensor: &mut TensorProto,
        values: &dyn Fn(&str) -> Option<Vec<f32>>,
    ) -> Result<()> {
        let before = of_tensor(tensor, folder_of(&self.path)).map_err(|reason| self.failed(reason))?;
        let Some(now) = self.constants.get(name) else { return Ok(()) };
        let mut now = now.clone();
        if let Some(values) = values(&self.name_here(name)) {
            let (found, expected) = (values.len(), now.values.len());
            if found != expected {
                return Err(self.failed(format!("`{name}` has {expected} values, given {found}")));
            }
            now.values = Values::Floats(values.into());
        }
        // What the trace has repeated for each image is one image's.
        if now.shape.len() == before.shape.len()
            && now.shape != before.shape
            && now.shape.first() == Some(&1)
            && now.shape[1..] == before.shape[1..]
            && let Values::Floats(values) = &now.values
        {
            now = Constant::new(before.shape.clone(), Values::Floats(values.repeat(before.shape[0]).into()));
        }
        let is_external = tensor.data_location.take().is_some_and(|location| location != 0);
        tensor.external_data.clear();
        if now == before && !is_external {
            return Ok(());
        }
        let ty = DataType::try_from(tensor.data_type()).unwrap_or(DataType::Undefined);
        let raw = raw(ty, &now.values)
            .ok_or_else(|| self.failed(format!("`{name}` is of type {}", ty.as_str_name())))?;
        *tensor = TensorProto {
            name: tensor.name.take(),
            data_type: tensor.data_type,
            dims: now.shape.iter().map(|&length| length as i64).collect(),
            raw_data: Some(raw),
            ..Default::default()
        };
        Ok(())
    }

    /// Values that random numbers have in evaluation.
    fn expectations(&self, graph: &GraphProto) -> Result<HashMap<String, Constant>> {
        if !graph.node.iter().any(|node| is_drawn(node.op_type())) {
            return Ok(HashMap::new());
        }
        let [height, width] = self.input_px().unwrap_or([224; 2]);
        let mut g = Builder::new("evaluation", Lowering::evaluation(Target::Cpu));
        let shape = [self.input.batch.unwrap_or(1), 3, height, width];
        let x = g.input("images", TensorType::f32(shape))?;
        let translation = self.translate(&mut g, x, Mode::Evaluate, |_, _, _| ())?;
        Ok(translation.expectations())
    }

    /// The number of classes in the shape of the logits; other outputs may depend on it, and keep only their
    /// number of axes.
    fn set_classes(&self, graph: &mut GraphProto) {
        let Some(classes) = self.classes else { return };
        for output in graph.output.iter_mut().skip(1) {
            if let Some(type_proto::Value::TensorType(tensor)) =
                output.r#type.as_mut().and_then(|ty| ty.value.as_mut())
            {
                tensor.shape.iter_mut().flat_map(|shape| &mut shape.dim).for_each(|axis| axis.value = None);
            }
        }
        let ty = graph.output.first_mut().and_then(|output| output.r#type.as_mut());
        let Some(type_proto::Value::TensorType(tensor)) = ty.and_then(|ty| ty.value.as_mut()) else { return };
        if let Some(axis) = tensor.shape.as_mut().and_then(|shape| shape.dim.get_mut(1)) {
            axis.value = Some(dimension::Value::DimValue(classes as i64));
        }
    }
}

/// The form of a node for evaluation.
fn evaluated(node: &mut NodeProto, expectations: &HashMap<String, Constant>) {
    if is_one_of(node, &["BatchNormalization"]) {
        node.attribute.retain(|attribute| attribute.name() != "training_mode");
        node.output.truncate(1);
    } else if is_one_of(node, &["Dropout"]) {
        node.input.truncate(1);
        node.output.truncate(1);
    } else if let Some(constant) = node.output.first().and_then(|output| expectations.get(output))
        && let Some(raw) = raw(DataType::Float, &constant.values)
    {
        let tensor = TensorProto {
            dims: constant.shape.iter().map(|&length| length as i64).collect(),
            data_type: Some(DataType::Float as i32),
            raw_data: Some(raw),
            ..Default::default()
        };
        let mut value = AttributeProto { name: Some("value".into()), t: Some(tensor), ..Default::default() };
        value.set_type(AttributeType::Tensor);
        node.op_type = Some("Constant".into());
        node.input.clear();
        node.attribute = vec![value];
    }
}

/// Little-endian bytes of values as elements of a type; `None` for types that are not read.
pub(super) fn raw(ty: DataType, values: &Values) -> Option<Vec<u8>> {
    Some(match (ty, values) {
        (DataType::Float, Values::Floats(values)) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        (DataType::Double, Values::Floats(values)) => {
            values.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect()
        }
        (DataType::Float16, Values::Floats(values)) => {
            values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()
        }
        (DataType::Bfloat16, Values::Floats(values)) => {
            values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect()
        }
        (DataType::Int64, Values::Integers(values)) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        (DataType::Int32, Values::Integers(values)) => {
            values.iter().flat_map(|&v| (v as i32).to_le_bytes()).collect()
        }
        (DataType::Uint32, Values::Integers(values)) => {
            values.iter().flat_map(|&v| (v as u32).to_le_bytes()).collect()
        }
        (DataType::Int16 | DataType::Uint16, Values::Integers(values)) => {
            values.iter().flat_map(|&v| (v as i16).to_le_bytes()).collect()
        }
        (DataType::Int8 | DataType::Uint8, Values::Integers(values)) => {
            values.iter().map(|&v| v as u8).collect()
        }
        (DataType::Bool, Values::Booleans(values)) => values.iter().map(|&v| v.into()).collect(),
        _ => return None,
    })
}
