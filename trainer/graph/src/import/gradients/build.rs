//! The graph of a file with its gradients.

use std::collections::HashMap;

use super::super::bound::Found;
use super::super::file::Imported;
use super::super::translation::Translation;
use super::inputs::FileInput;
use super::names::{LABELS, LOSS, Names, Output, gradient_name, seed_name};
use super::request::{Gradients, Objective};
use crate::module::{Forward, Mode};
use crate::{Builder, ElementType, Graph, Lowering, Network, Result, Target, Tensor, TensorType};

/// What a graph is made of.
pub(super) struct Plan<'a> {
    pub request: &'a Gradients,
    pub file: &'a Imported,
    pub inputs: &'a [FileInput],
    pub names: &'a Names,
}

/// The inputs of a graph, by name.
struct Declared<'a> {
    given: HashMap<&'a str, Tensor>,
    /// What the network takes in their places.
    inputs: Vec<(&'a str, Tensor)>,
}

/// What a gradient is with respect to.
struct WithRespectTo<'a> {
    name: &'a str,
    tensor: Tensor,
    /// Whether the user has named it.
    is_named: bool,
    /// Whether a node makes it.
    is_made: bool,
}

impl Plan<'_> {
    /// The graph; free batches have `batch` rows. Parameters and running statistics are inputs.
    pub fn graph(&self, batch: usize) -> Result<Graph> {
        let Self { request, file, names, .. } = self;
        let forms = Lowering::training(Target::Cpu);
        // Some of the faster forms for files depend on the number of rows.
        let is_free = self.inputs.iter().any(FileInput::has_free_batch);
        let mut g = Builder::new(file.name(), if is_free { forms } else { forms.of_files(true) });
        let kept = names.of.iter().map(|output| output.name.clone());
        for name in kept.chain(names.added(request.objective)).chain(names.asked().map(str::to_owned)) {
            g.reserve(&name);
        }
        let traced = self.traced(batch)?;
        let Declared { given, inputs } =
            self.declare(&mut g, |input| input.axes.first().map(|rows| rows.unwrap_or(batch)))?;
        let mut translation = Translation::new(file, &mut g, &inputs, request.mode, traced);
        file.append_nodes(&mut translation, |_, _, _| ())?;
        let mut found = HashMap::new();
        let of = names.of.iter().map(|output| output.name.as_str());
        for name in of.chain(names.asked()).chain([file.logits.as_str()]) {
            found.extend(translation.found(name).map(|value| (name, value)));
        }
        let forward = translation.into_forward();

        let kept = self.kept(&mut g, &found)?;
        let objective = match request.objective {
            Objective::Outputs => self.seeded(&mut g, &kept)?,
            Objective::CrossEntropy => vec![self.loss(&mut g, found.get(file.logits.as_str()))?],
        };
        let wrt = self.wrt(&g, &given, &found, &forward)?;
        let tensors: Vec<Tensor> = wrt.iter().map(|wrt| wrt.tensor).collect();
        let gradients = g.vector_jacobian_product(&objective, &tensors)?;
        if gradients.iter().all(Option::is_none) && !wrt.iter().any(|wrt| wrt.is_named) {
            let reason =
                "no gradient reaches what is asked for: what is differentiated does not depend on it";
            return Err(file.failed(reason.into()));
        }

        for (name, found) in &kept {
            g.output(name, found.tensor)?;
        }
        if request.objective == Objective::CrossEntropy {
            g.output(LOSS, objective[0].0)?;
        }
        for (wrt, gradient) in wrt.iter().zip(gradients) {
            let name = wrt.name;
            let Some(gradient) = gradient else {
                if wrt.is_named {
                    let reason =
                        format!("no gradient reaches `{name}`: what is differentiated does not depend on it");
                    return Err(file.failed(reason));
                }
                continue;
            };
            if wrt.is_made && !kept.iter().any(|(output, _)| *output == name) {
                g.output(name, wrt.tensor)?;
            }
            g.output(&gradient_name(name), gradient)?;
        }
        for used in forward.buffers.iter().filter(|_| request.mode == Mode::Train) {
            if let Some(new) = used.new {
                g.output(&format!("{}.next", used.buffer.name), new)?;
            }
        }
        Ok(g.finish())
    }

    /// Declares the inputs of the file, with `rows` as the length of the first axis of each.
    fn declare(&self, g: &mut Builder, rows: impl Fn(&FileInput) -> Option<usize>) -> Result<Declared<'_>> {
        let mut declared = Declared { given: HashMap::new(), inputs: Vec::new() };
        for input in self.inputs {
            let rest = input.axes.iter().skip(1).flatten().copied();
            let shape: Vec<usize> = rows(input).into_iter().chain(rest).collect();
            let tensor = g.input(&input.name, TensorType::new(input.element, shape))?;
            declared.given.insert(input.name.as_str(), tensor);
            // The network computes in single precision, whatever its file is in.
            let value = if input.element.is_float() { g.cast(tensor, ElementType::F32)? } else { tensor };
            declared.inputs.push((input.name.as_str(), value));
        }
        Ok(declared)
    }

    /// Shapes for the batch that the file fixes, where the graph has another: `batch` rows, where it is free.
    fn traced(&self, batch: usize) -> Result<HashMap<String, Vec<usize>>> {
        let rows = |input: &FileInput| Some(input.axes.first()?.unwrap_or(batch));
        let changes = |input: &FileInput| input.own_batch.is_some() && input.own_batch != rows(input);
        if !self.inputs.iter().any(changes) {
            return Ok(HashMap::new());
        }
        let mut g = Builder::new("trace", Lowering::evaluation(Target::Cpu));
        let Declared { inputs, .. } = self.declare(&mut g, |input| input.own_batch.or(rows(input)))?;
        let mut translation = Translation::new(self.file, &mut g, &inputs, self.request.mode, HashMap::new());
        self.file.append_nodes(&mut translation, |_, _, _| ())?;
        Ok(translation.shapes())
    }

    /// The outputs that are kept, in the type of the file.
    fn kept(&self, g: &mut Builder, found: &HashMap<&str, Found>) -> Result<Vec<(&str, Found)>> {
        let mut kept = Vec::new();
        for Output { name, element } in &self.names.of {
            let name = name.as_str();
            let Some(&found) = found.get(name) else {
                let reason = format!("no node computes its output `{name}` from its inputs");
                return Err(self.file.failed(reason));
            };
            let mut tensor = found.tensor;
            if let Some(element) =
                element.filter(|element| element.is_float() && g.element(tensor).is_float())
            {
                tensor = g.cast(tensor, element)?;
            }
            kept.push((name, Found { tensor, ..found }));
        }
        Ok(kept)
    }

    /// The outputs with their seeds.
    fn seeded(&self, g: &mut Builder, kept: &[(&str, Found)]) -> Result<Vec<(Tensor, Tensor)>> {
        let mut seeded = Vec::new();
        for (name, found) in kept.iter().filter(|(_, found)| found.is_computed) {
            let output = found.tensor;
            let ty = g.ty(output).clone();
            if !ty.element.is_float() {
                continue;
            }
            let seed = if ty.len() == 1 {
                let one = g.scalar(ty.element, 1.0);
                g.reshape(one, &ty.shape)?
            } else {
                g.input(&seed_name(name), ty)?
            };
            seeded.push((output, seed));
        }
        if seeded.is_empty() {
            let reason = "none of its outputs is floating-point and depends on its inputs or weights";
            return Err(self.file.failed(reason.into()));
        }
        Ok(seeded)
    }

    /// The mean cross-entropy of the logits, and its seed.
    fn loss(&self, g: &mut Builder, logits: Option<&Found>) -> Result<(Tensor, Tensor)> {
        let file = self.file;
        let Some(&Found { tensor: mut logits, is_computed: true }) = logits else {
            return Err(file.failed("its logits do not depend on its inputs or weights".into()));
        };
        let shape = g.shape(logits).to_vec();
        if shape.len() > 2 && shape[2..].iter().all(|&length| length == 1) {
            logits = g.flatten(logits, 1)?;
        }
        let &[rows, _] = g.shape(logits) else {
            return Err(file.failed(format!(
                "its logits `{}` have the shape {shape:?}, expected [N,K], one for each class",
                file.logits
            )));
        };
        let labels = g.input(LABELS, TensorType::new(ElementType::I64, [rows]))?;
        let zero = g.scalar(ElementType::I64, 0.0);
        let valid = g.less_or_equal(zero, labels)?;
        let sum = g.cross_entropy(logits, labels, valid)?.loss;
        let counted = g.cast(valid, ElementType::F32)?;
        let count = g.sum(counted)?;
        let loss = g.div(sum, count)?;
        let one = g.scalar(ElementType::F32, 1.0);
        Ok((loss, one))
    }

    /// What the gradients are with respect to.
    fn wrt<'a>(
        &'a self,
        g: &Builder,
        given: &HashMap<&str, Tensor>,
        found: &HashMap<&str, Found>,
        forward: &Forward,
    ) -> Result<Vec<WithRespectTo<'a>>> {
        let parameters = forward.parameters.iter().map(|(parameter, input)| (&parameter.name, *input));
        let buffers = forward.buffers.iter().map(|used| (&used.buffer.name, used.value));
        let parameters: HashMap<&str, Tensor> =
            parameters.chain(buffers).map(|(name, input)| (name.as_str(), input)).collect();
        let mut all = Vec::new();
        for (name, is_named) in &self.names.wrt {
            let (name, is_named) = (name.as_str(), *is_named);
            let made = || found.get(name).filter(|found| found.is_computed).map(|found| found.tensor);
            let tensor = given.get(name).or_else(|| parameters.get(name)).copied();
            let is_made = tensor.is_none();
            match tensor.or_else(|| if is_named { made() } else { None }) {
                Some(tensor) if g.element(tensor).is_float() => {
                    all.push(WithRespectTo { name, tensor, is_named, is_made });
                }
                None if !is_named => {}
                Some(tensor) => {
                    if is_named {
                        let element = g.element(tensor);
                        return Err(self.file.failed(format!("`{name}` is {element} and has no gradient")));
                    }
                }
                None => {
                    let reason =
                        format!("no gradient reaches `{name}`: what is differentiated does not depend on it");
                    return Err(self.file.failed(reason));
                }
            }
        }
        if all.is_empty() {
            let reason = "nothing of what is asked for is a floating-point input or weight that is used";
            return Err(self.file.failed(reason.into()));
        }
        Ok(all)
    }
}
