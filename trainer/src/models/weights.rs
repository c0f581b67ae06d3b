//! A network that begins with the values of a `.safetensors` file, by the names of a PyTorch `state_dict`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use fovea_files::read_regular;
use fovea_graph::{
    Builder, Forward, GraphError, Init, Lowering, Mode, Network, Parameter, Result, Target, Tensor,
    TensorType,
};
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// Names of each kind that an error shows.
const SHOWN: usize = 6;
/// End of the names of counters that PyTorch keeps and nothing here needs.
const COUNTER: &str = "num_batches_tracked";

/// End of the names of running variances.
const VARIANCE: &str = "running_var";

/// A network with other initial values.
#[derive(Debug)]
pub struct Initialised {
    inner: Arc<dyn Network>,
    values: BTreeMap<String, Init>,
}

impl Initialised {
    /// `network`, for images of `input_px` pixels, with the values in `path`; and the names of the
    /// parameters of the head that keep their own, since the file has them for other classes. This is an
    /// error unless the head `is_new`. `constant` has the values that training leaves as they are.
    ///
    /// # Errors
    /// [`GraphError::Weights`] when the file cannot be read, lacks a value of the network, has one that the
    /// network lacks, another one of a constant, one of another shape or one that is not finite; those of
    /// [`Network::forward`].
    pub fn new<'a>(
        network: Arc<dyn Network>,
        input_px: usize,
        path: &Path,
        is_new: bool,
        constant: impl Fn(&str) -> Option<&'a [f32]>,
    ) -> Result<(Self, Vec<String>)> {
        let mut g = Builder::new(network.name(), Lowering::evaluation(Target::Cpu));
        let x = g.input("x", TensorType::f32([1, 3, input_px, input_px]))?;
        let Forward { parameters, buffers, .. } = network.forward(&mut g, x, Mode::Evaluate)?;
        let parameters: Vec<Parameter> = parameters.into_iter().map(|(parameter, _)| parameter).collect();
        let head: Vec<&str> = parameters[head(&parameters)..].iter().map(|p| p.name.as_str()).collect();
        let expected = parameters.iter().map(|parameter| (&parameter.name, &parameter.shape));
        let expected = expected.chain(buffers.iter().map(|used| (&used.buffer.name, &used.buffer.shape)));

        let failed = |reason: String| GraphError::Weights { path: path.to_owned(), reason };
        let bytes = read_regular(path).map_err(|reason| failed(reason.to_string()))?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|reason| failed(format!("it is not a safetensors file: {reason}{}", hint(path))))?;
        let mut given: BTreeMap<String, TensorView<'_>> =
            file.tensors().into_iter().filter(|(name, _)| !name.ends_with(COUNTER)).collect();
        let is_other_head = is_new && is_head_for_other_classes(&parameters, &given);
        let (mut values, mut other_classes) = (BTreeMap::new(), Vec::new());
        let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
        for (name, shape) in expected {
            match given.remove(name) {
                None => missing.push(name.clone()),
                Some(tensor) if tensor.shape() == shape => {
                    let floats = floats(&tensor).ok_or_else(|| {
                        failed(format!("`{name}` is {:?}, expected F32, F16, BF16 or F64", tensor.dtype()))
                    })?;
                    let (least, expected) = match name.ends_with(VARIANCE) {
                        true => (0.0, "finite numbers of 0 or above"),
                        false => (f32::MIN, "finite numbers"),
                    };
                    if let Some(value) = floats.iter().find(|value| !(least..=f32::MAX).contains(value)) {
                        return Err(failed(format!("`{name}` has the value {value}, expected {expected}")));
                    }
                    values.insert(name.clone(), Init::Values(floats.into()));
                }
                Some(_) if is_other_head && head.contains(&name.as_str()) => other_classes.push(name.clone()),
                Some(tensor) => {
                    misshapen.push(format!("{name} {:?} (the network has {shape:?})", tensor.shape()));
                }
            }
        }
        let (mut unexpected, mut other_constants) = (Vec::new(), Vec::new());
        for (name, tensor) in given {
            match constant(&name) {
                None => unexpected.push(name),
                Some(values) if floats(&tensor).as_deref() == Some(values) => {}
                Some(_) => other_constants.push(name),
            }
        }
        let problems: Vec<String> = [
            ("lacks", missing),
            ("has what the network does not have", unexpected),
            ("has in another shape", misshapen),
            (
                "has other values of constants than the network's file, which should be exported with these",
                other_constants,
            ),
        ]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("it {what}: {}", listed(&names)))
        .collect();
        match problems.is_empty() {
            true => Ok((Self { inner: network, values }, other_classes)),
            false => Err(failed(format!("{}; names are those of a state_dict", problems.join("; ")))),
        }
    }

    fn initialise(&self, mut forward: Forward) -> Forward {
        let parameters =
            forward.parameters.iter_mut().map(|(parameter, _)| (&parameter.name, &mut parameter.init));
        let buffers = forward.buffers.iter_mut().map(|used| (&used.buffer.name, &mut used.buffer.init));
        for (name, init) in parameters.chain(buffers) {
            if let Some(values) = self.values.get(name) {
                init.clone_from(values);
            }
        }
        forward
    }
}

impl Network for Initialised {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn forward(&self, g: &mut Builder, x: Tensor, mode: Mode) -> Result<Forward> {
        Ok(self.initialise(self.inner.forward(g, x, mode)?))
    }

    fn taps(&self) -> Vec<String> {
        self.inner.taps()
    }

    fn last_hidden(&self) -> Option<String> {
        self.inner.last_hidden()
    }

    fn forward_with_tap(&self, g: &mut Builder, x: Tensor, tap: &str) -> Result<(Forward, Tensor)> {
        let (forward, activation) = self.inner.forward_with_tap(g, x, tap)?;
        Ok((self.initialise(forward), activation))
    }
}

/// Index of the first parameter of the head: the last one of two or more axes, which makes the logits.
#[must_use]
pub fn head(parameters: &[Parameter]) -> usize {
    parameters.iter().rposition(|parameter| parameter.axes() > 1).unwrap_or(0)
}

/// Whether all parameters of the head differ from those of the file in the number of classes alone: in one
/// axis each, which has one length in the network and another in the file.
fn is_head_for_other_classes(parameters: &[Parameter], given: &BTreeMap<String, TensorView<'_>>) -> bool {
    let classes = |parameter: &Parameter| {
        let shape = given.get(&parameter.name)?.shape();
        let mut differing = parameter.shape.iter().zip(shape).filter(|(here, there)| here != there);
        let (&here, &there) = differing.next()?;
        (parameter.shape.len() == shape.len() && differing.next().is_none()).then_some((here, there))
    };
    let all: Option<BTreeSet<_>> = parameters[head(parameters)..].iter().map(classes).collect();
    all.is_some_and(|all| all.len() == 1)
}

/// The values of a floating-point tensor.
fn floats(tensor: &TensorView<'_>) -> Option<Vec<f32>> {
    let bytes = tensor.data();
    Some(match tensor.dtype() {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes) as f32).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|&bytes| bf16::from_le_bytes(bytes).to_f32()).collect(),
        _ => return None,
    })
}

fn listed(names: &[String]) -> String {
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN { format!("{shown}, … ({} in all)", names.len()) } else { shown }
}

/// What to do about a file of PyTorch's own format.
fn hint(path: &Path) -> &'static str {
    let is_torch =
        ["pt", "pth", "bin", "ckpt"].iter().any(|&ending| path.extension().is_some_and(|e| e == ending));
    if is_torch {
        "; write one: safetensors.torch.save_file(model.state_dict(), \"weights.safetensors\")"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use safetensors::serialize_to_file;

    use super::*;
    use crate::models::Classifier;
    use crate::recipe::Recipe;
    use crate::state::TensorRef;

    /// Writes tensors of a small recipe's network, after `change`, and loads them into it.
    fn load(classes: usize, change: impl Fn(&mut Vec<(String, Vec<usize>, f32)>)) -> Result<Classifier> {
        let recipe = |set: &[String]| Recipe::load("cifar-quick", set).unwrap();
        let parameters = Classifier::new(&recipe(&[]), 10).unwrap().parameters().unwrap();
        let mut tensors: Vec<_> =
            parameters.into_iter().enumerate().map(|(at, p)| (p.name, p.shape, at as f32)).collect();
        change(&mut tensors);
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("weights.safetensors");
        let values: Vec<Vec<f32>> =
            tensors.iter().map(|(_, shape, value)| vec![*value; shape.iter().product()]).collect();
        let views = tensors
            .iter()
            .zip(&values)
            .map(|((name, shape, _), values)| (name.clone(), TensorRef { shape, values }));
        serialize_to_file(views, None, &path).unwrap();
        Classifier::new(&recipe(&[format!("network.weights={path:?}")]), classes)
    }

    #[test]
    fn a_network_begins_with_the_values_of_the_file() {
        let network =
            load(10, |tensors| tensors.push(("bn1.num_batches_tracked".into(), vec![1], 0.0))).unwrap();
        for (at, parameter) in network.parameters().unwrap().iter().enumerate() {
            assert!(parameter.initial(7, at).iter().all(|&value| value == at as f32), "{parameter:?}");
        }
        assert!(network.kept_head.is_empty());
    }

    #[test]
    fn a_head_for_other_classes_stays_new() {
        let network = load(3, |_| ()).unwrap();
        assert_eq!(network.kept_head, ["fc10.weight", "fc10.bias"]);
        let parameters = network.parameters().unwrap();
        assert_eq!(parameters[6].init, Init::Normal { std: 0.01 });
        assert_eq!(parameters[4].initial(0, 4)[0], 4.0);
    }

    #[test]
    fn a_head_that_differs_in_more_than_the_classes_is_refused() {
        let shape_of = |at: usize, shape: &'static [usize]| {
            move |tensors: &mut Vec<(String, Vec<usize>, f32)>| tensors[at].1 = shape.to_vec()
        };
        for (at, shape) in [(6, &[64, 10][..]), (6, &[4, 64]), (6, &[10, 64, 1]), (7, &[4])] {
            let error = load(10, shape_of(at, shape)).unwrap_err().to_string();
            assert!(
                error.contains("another shape: fc10.") && error.contains("cannot be used as weights"),
                "{error}"
            );
        }
    }

    #[test]
    fn values_that_are_not_finite_are_refused() {
        for value in [f32::NAN, f32::INFINITY] {
            let error = load(10, |tensors| tensors[2].2 = value).unwrap_err().to_string();
            assert!(error.contains(&format!("`conv2.weight` has the value {value}")), "{error}");
        }
    }

    #[test]
    fn negative_variances_are_refused() {
        let recipe = |weights: &str| {
            let set = ["input.crop_px=32", "input.image_px=32"].map(str::to_owned);
            let weights = (!weights.is_empty()).then(|| format!("network.weights={weights:?}"));
            Recipe::load("resnet18", &set.into_iter().chain(weights).collect::<Vec<_>>()).unwrap()
        };
        let (parameters, buffers) = Classifier::new(&recipe(""), 10).unwrap().declared().unwrap();
        let shapes = parameters.into_iter().map(|parameter| (parameter.name, parameter.shape));
        let shapes: Vec<_> =
            shapes.chain(buffers.into_iter().map(|buffer| (buffer.name, buffer.shape))).collect();
        let values = vec![-0.5; shapes.iter().map(|(_, shape)| shape.iter().product()).max().unwrap_or(0)];
        let views = shapes.iter().map(|(name, shape)| {
            let values = &values[..shape.iter().product()];
            (name.clone(), TensorRef { shape, values })
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        serialize_to_file(views, None, &path).unwrap();
        let error = Classifier::new(&recipe(path.to_str().unwrap()), 10).unwrap_err().to_string();
        assert!(
            error.contains("running_var` has the value -0.5, expected finite numbers of 0 or above"),
            "{error}"
        );
    }

    #[test]
    fn what_does_not_fit_is_listed_by_name() {
        let error = load(10, |tensors| {
            tensors[0].0 = "features.0.weight".into();
            tensors[2].1 = vec![32, 32, 3, 3];
        })
        .unwrap_err()
        .to_string();
        for part in [
            "weights.safetensors",
            "lacks: conv1.weight;",
            "does not have: features.0.weight;",
            "another shape: conv2.weight [32, 32, 3, 3] (the network has [32, 32, 5, 5])",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn constants_of_the_network_must_be_those_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let network = Classifier::new(&Recipe::load("cifar-quick", &[]).unwrap(), 10).unwrap();
        let parameters = network.parameters().unwrap();
        let values: Vec<Vec<f32>> = parameters.iter().map(|parameter| vec![0.5; parameter.len()]).collect();
        let mut tensors: Vec<(String, TensorRef<'_>)> = parameters
            .iter()
            .zip(&values)
            .map(|(parameter, values)| {
                (parameter.name.clone(), TensorRef { shape: &parameter.shape, values })
            })
            .collect();
        tensors.push(("slope".into(), TensorRef { shape: &[1], values: &[0.25] }));
        serialize_to_file(tensors, None, &path).unwrap();
        let load = |slope: &[f32]| {
            let constant = |name: &str| (name == "slope").then_some(slope);
            Initialised::new(Arc::clone(&network.network), 32, &path, false, constant).map(|_| ())
        };
        load(&[0.25]).unwrap();
        let error = load(&[0.5]).unwrap_err().to_string();
        assert!(error.contains("other values of constants than the network's file"), "{error}");
        assert!(error.contains(": slope;"), "{error}");
    }

    #[test]
    fn a_file_of_another_format_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pth");
        fs::write(&path, b"PK\x03\x04").unwrap();
        let recipe = Recipe::load("cifar-quick", &[format!("network.weights={path:?}")]).unwrap();
        let error = Classifier::new(&recipe, 10).unwrap_err().to_string();
        assert!(error.contains("weights.pth") && error.contains("save_file(model.state_dict()"), "{error}");
        let recipe = Recipe::load("cifar-quick", &["network.weights='/dev/null'".into()]).unwrap();
        let error = Classifier::new(&recipe, 10).unwrap_err().to_string();
        assert!(error.contains("/dev/null") && error.contains("it is a character device"), "{error}");
    }
}
