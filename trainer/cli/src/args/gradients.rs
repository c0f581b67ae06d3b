//! The command line of `gradients`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use fovea_graph::Wrt;

/// Write an .onnx file with its gradients as another one, which any ONNX Runtime runs
///
/// The result computes the outputs of FILE, and for each NAME of --wrt an output NAME.grad: the gradient of
/// the sum of all values of the outputs, each multiplied by its seed. Seeds are inputs grad.OUTPUT, of the
/// output's shape; an output of a single value has none. With --loss cross-entropy it is the gradient of the
/// output `loss` instead, and there is one more input, `labels`, `i64 [N]`. Inputs and outputs keep their
/// names and types. Initialisers that gradients are with respect to are inputs that may be left out: they
/// have the values of FILE unless others are given.
#[derive(Args, Debug)]
pub struct GradientsArgs {
    /// The .onnx file
    #[arg(value_name = "FILE")]
    pub network: PathBuf,
    /// With respect to what: `weights` (all parameters that training changes), `inputs`, or values by name:
    /// inputs, initialisers, outputs of nodes. What a node makes is an output as well
    #[arg(long, required = true, value_name = "weights|inputs|NAME,…", value_delimiter = ',', value_parser = wrt)]
    pub wrt: Vec<Wrt>,
    /// Outputs that are kept and differentiated, or other values of the file [default: all outputs]
    #[arg(long, value_name = "OUTPUT,…", value_delimiter = ',')]
    pub of: Vec<String>,
    /// Differentiate this loss of the logits `[N,K]`, the mean over the rows whose label is not negative; a
    /// softmax that makes the output is not part of the logits [default: the outputs, multiplied by seeds]
    #[arg(long, value_enum)]
    pub loss: Option<Loss>,
    /// Normalise by the statistics of the batch, whose running values are inputs that may be left out and
    /// outputs NAME.next, and take dropout masks as inputs [default: as in evaluation]
    #[arg(long)]
    pub training: bool,
    /// Lengths of the axes of an input where the file leaves them free; N as the first is any number of rows.
    /// Can be repeated
    #[arg(long, value_name = "INPUT=N,3,224,224", value_parser = shape)]
    pub shape: Vec<(String, Vec<Option<usize>>)>,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Loss {
    /// Softmax cross-entropy
    CrossEntropy,
}

#[expect(clippy::unnecessary_wraps, reason = "a parser of clap returns a result")]
fn wrt(text: &str) -> Result<Wrt, String> {
    Ok(match text {
        "weights" => Wrt::Weights,
        "inputs" => Wrt::Inputs,
        name => Wrt::Named(name.to_owned()),
    })
}

/// The name of an input and the lengths of its axes, `None` for N.
fn shape(text: &str) -> Result<(String, Vec<Option<usize>>), String> {
    let expected =
        || "expected INPUT=LENGTH,LENGTH,… with N or a number first, as in x=N,3,224,224".to_owned();
    let (name, lengths) = text.rsplit_once('=').ok_or_else(expected)?;
    let length = |(at, length): (usize, &str)| match (at, length) {
        (0, "N") => Some(None),
        (_, length) => length.parse().ok().filter(|&length: &usize| length > 0).map(Some),
    };
    let lengths: Option<Vec<_>> = lengths.split(',').enumerate().map(length).collect();
    Ok((name.to_owned(), lengths.ok_or_else(expected)?))
}

#[cfg(test)]
mod tests {
    use super::shape;

    #[test]
    fn lengths_of_axes_are_numbers_and_the_first_may_be_free() {
        assert_eq!(shape("x=N,3,8,8"), Ok(("x".into(), vec![None, Some(3), Some(8), Some(8)])));
        assert_eq!(shape("a=b=2"), Ok(("a=b".into(), vec![Some(2)])));
        for bad in ["x", "x=", "x=3,N", "x=0,3", "x=-1", "x=3,,3"] {
            assert!(shape(bad).is_err(), "{bad}");
        }
    }
}
