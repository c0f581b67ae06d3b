//! Output shape and cost of every layer, before any graph is built.

use std::fmt::Display;

use super::{LayerKind, Recipe, RecipeError};

/// Most values of a layer's parameters, and of its outputs for one image.
const MOST_VALUES: u64 = 1 << 40;

/// The output of one layer for one image, and its cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerShape {
    /// Name of the layer.
    pub name: String,
    /// Output channels C.
    pub channels: usize,
    /// Output height H and width W in pixels; 1 after a linear layer.
    pub side_px: usize,
    /// Weights and biases.
    pub parameters: u64,
    /// Multiply-adds of a forward pass.
    pub multiply_adds: u64,
}

impl LayerShape {
    /// Outputs for one image.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.channels * self.side_px * self.side_px
    }
}

impl Recipe {
    /// The shape of every layer's output for images of `input.crop_px` pixels and `channels` channels in a
    /// data set of `classes` classes.
    ///
    /// # Errors
    /// [`RecipeError::Shape`] names the layer that does not fit and the conflicting numbers.
    pub fn shapes(&self, channels: usize, classes: usize) -> Result<Vec<LayerShape>, RecipeError> {
        self.shapes_at(self.input.crop_px, channels, classes)
    }

    /// As [`shapes`](Self::shapes), for images of `side_px` pixels.
    ///
    /// # Errors
    /// Those of [`shapes`](Self::shapes).
    pub fn shapes_at(
        &self,
        side_px: usize,
        channels: usize,
        classes: usize,
    ) -> Result<Vec<LayerShape>, RecipeError> {
        let mut at = LayerShape { name: String::new(), channels, side_px, parameters: 0, multiply_adds: 0 };
        let mut shapes = Vec::with_capacity(self.network.layer.len());
        for layer in &self.network.layer {
            at = after(&at, &layer.kind, classes).map_err(|reason| RecipeError::Shape {
                recipe: self.name.clone(),
                layer: layer.name.clone(),
                reason,
            })?;
            at.name.clone_from(&layer.name);
            shapes.push(at.clone());
        }
        Ok(shapes)
    }
}

fn after(before: &LayerShape, kind: &LayerKind, classes: usize) -> Result<LayerShape, String> {
    let mut shape = LayerShape { parameters: 0, multiply_adds: 0, ..before.clone() };
    match kind {
        LayerKind::Conv(conv) => {
            if !before.channels.is_multiple_of(conv.groups) {
                return Err(format!("{} channels do not split into {} groups", before.channels, conv.groups));
            }
            shape.channels = conv.out;
            shape.side_px = positions(before.side_px, conv.kernel, conv.stride, conv.pad)?;
            let kernel =
                product("inputs of an output", &[before.channels / conv.groups, conv.kernel, conv.kernel])?;
            let outputs = product("outputs", &[shape.channels, shape.side_px, shape.side_px])?;
            shape.parameters = product("parameters", &[conv.out as u64, kernel + 1])?;
            shape.multiply_adds = outputs.saturating_mul(kernel);
        }
        LayerKind::Local(local) => {
            shape.channels = local.out;
            shape.side_px = positions(before.side_px, local.kernel, local.stride, local.pad)?;
            let kernel = product("inputs of an output", &[before.channels, local.kernel, local.kernel])?;
            let outputs = product("outputs", &[shape.channels, shape.side_px, shape.side_px])?;
            shape.parameters = product("parameters", &[outputs, kernel + 1])?;
            shape.multiply_adds = outputs.saturating_mul(kernel);
        }
        LayerKind::Linear(linear) => {
            shape.channels = linear.out.unwrap_or(classes);
            shape.side_px = 1;
            shape.multiply_adds = product("parameters", &[before.outputs(), shape.channels])?;
            shape.parameters = shape.multiply_adds + shape.channels as u64;
        }
        LayerKind::Pool(pool) => {
            let (kernel, stride) = (pool.kernel, pool.stride);
            shape.side_px = positions(before.side_px, kernel, stride, pool.pad)?;
            // The remaining pixels are in a window that ends beyond them.
            let reached = (shape.side_px - 1) * stride + kernel;
            if pool.ceil && reached < before.side_px {
                shape.side_px += 1;
            }
        }
        LayerKind::Activation(_) | LayerKind::Lrn(_) | LayerKind::Dropout(_) => {}
    }
    Ok(shape)
}

/// The number of a layer's values of a kind.
fn product<T: Copy + Display + TryInto<u64>>(values: &str, factors: &[T]) -> Result<u64, String> {
    let times = |product: u64, factor: &T| product.checked_mul((*factor).try_into().ok()?);
    let product = factors.iter().try_fold(1, times).filter(|product| *product <= MOST_VALUES);
    product.ok_or_else(|| {
        let factors: Vec<String> = factors.iter().map(T::to_string).collect();
        format!("{} {values} are more than the {MOST_VALUES} that are possible", factors.join(" x "))
    })
}

/// Positions of a window along one side.
fn positions(side: usize, kernel: usize, stride: usize, pad: usize) -> Result<usize, String> {
    let padded = side + 2 * pad;
    match padded.checked_sub(kernel) {
        Some(room) => Ok(room / stride + 1),
        None => {
            Err(format!("a window of {kernel} pixels is larger than its input of {padded}, padding included"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(recipe: &Recipe, channels: usize, classes: usize) -> (u64, u64) {
        let shapes = recipe.shapes(channels, classes).unwrap();
        (shapes.iter().map(|s| s.parameters).sum(), shapes.iter().map(|s| s.multiply_adds).sum())
    }

    #[test]
    fn alexnet_has_the_papers_sides_parameters_and_cost() {
        let recipe = Recipe::load("alexnet", &[]).unwrap();
        let shapes = recipe.shapes(3, 1000).unwrap();
        let side = |name: &str| {
            let shape = shapes.iter().find(|shape| shape.name == name).unwrap();
            (shape.channels, shape.side_px)
        };
        assert_eq!(side("conv1"), (96, 55));
        assert_eq!(side("conv2"), (256, 27));
        assert_eq!(side("conv3"), (384, 13));
        assert_eq!(side("pool5"), (256, 6));
        assert_eq!(side("fc8"), (1000, 1));
        let (parameters, multiply_adds) = totals(&recipe, 3, 1000);
        assert_eq!(parameters, 60_965_224);
        assert_eq!((multiply_adds as f64 / 1e6).round() / 1e3, 0.724);
    }

    #[test]
    fn pools_of_the_cifar_networks_have_cuda_convnets_sides() {
        for (name, expected) in
            [("cifar-quick", &[16, 8, 4][..]), ("cifar-13pct", &[12, 6]), ("cifar-11pct", &[12, 6])]
        {
            let shapes = Recipe::load(name, &[]).unwrap().shapes(3, 10).unwrap();
            let sides: Vec<_> =
                shapes.iter().filter(|s| s.name.starts_with("pool")).map(|s| s.side_px).collect();
            assert_eq!(sides, expected, "{name}");
        }
        let sides = ["alexnet", "alexnet-no-overlap", "alexnet-caffe", "alexnet-torchvision"].map(|name| {
            let shapes = Recipe::load(name, &[]).unwrap().shapes(3, 1000).unwrap();
            shapes.iter().filter(|s| s.name.starts_with("pool")).map(|s| s.side_px).collect::<Vec<_>>()
        });
        assert!(sides.iter().all(|sides| sides == &[27, 13, 6]), "{sides:?}");
    }

    #[test]
    fn a_227_input_without_padding_gives_the_same_55_positions() {
        let set = ["input.crop_px=227".to_owned(), "network.layer.conv1.pad=0".to_owned()];
        let recipe = Recipe::load("alexnet", &set).unwrap();
        assert_eq!(recipe.shapes(3, 1000).unwrap()[0].side_px, 55);
    }

    #[test]
    fn a_layer_that_does_not_fit_is_an_error_with_the_numbers() {
        let set = ["network.layer.conv4.groups=5".to_owned(), "network.layer.conv4.out=385".to_owned()];
        let error = Recipe::load("alexnet", &set).unwrap().shapes(3, 1000).unwrap_err();
        assert!(
            error.to_string().contains("layer `conv4`: 384 channels do not split into 5 groups"),
            "{error}"
        );
        let error =
            Recipe::load("alexnet", &["input.crop_px=40".to_owned()]).unwrap().shapes(3, 10).unwrap_err();
        assert!(error.to_string().contains("layer `pool5`: a window of 3 pixels is larger"), "{error}");
    }

    #[test]
    fn every_built_in_recipe_fits_together() {
        for name in Recipe::built_in() {
            let recipe = Recipe::load(name, &[]).unwrap();
            for channels in if name == "demo" { 1..=3 } else { 3..=3 } {
                recipe.shapes(channels, 10).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
}
