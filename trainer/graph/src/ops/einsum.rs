//! Einsum: sums of products by Einstein's notation, as transposes, reshapes and matrix products.

use std::collections::HashMap;

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation};
use crate::node::Tensor;
use crate::onnx::NodeProto;
use crate::operator::Operator;

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[(&EINSUM, Some(import_einsum))];
static EINSUM: Operator = Operator::decomposed("Einsum", 12);

/// A letter of the equation, or an axis of its ellipsis, counted from the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Label {
    Ellipsis(usize),
    Letter(char),
}

/// A tensor with the label of each axis.
struct Term {
    tensor: Tensor,
    labels: Vec<Label>,
}

impl Term {
    fn has(&self, label: &Label) -> bool {
        self.labels.contains(label)
    }
}

/// The labels of a term of the equation; the ellipsis stands for `hidden` axes.
fn labels(term: &str, hidden: usize) -> std::result::Result<Vec<Label>, String> {
    let mut list = Vec::new();
    let mut rest = term;
    while let Some(letter) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("...") {
            list.extend((0..hidden).rev().map(Label::Ellipsis));
            rest = after;
        } else if letter.is_ascii_alphabetic() {
            list.push(Label::Letter(letter));
            rest = &rest[1..];
        } else {
            return Err(format!("`{term}` holds `{letter}`, expected letters and one `...`"));
        }
    }
    Ok(list)
}

/// The labels of each operand and of the result.
fn parse(equation: &str, ranks: &[usize]) -> std::result::Result<(Vec<Vec<Label>>, Vec<Label>), String> {
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != ranks.len() {
        return Err(format!("`{equation}` has {} terms for {} operands", terms.len(), ranks.len()));
    }
    let (mut operands, mut most_hidden) = (Vec::new(), 0);
    for (term, &rank) in terms.iter().zip(ranks) {
        let letters = term.chars().filter(char::is_ascii_alphabetic).count();
        let hidden = if term.contains("...") { rank.saturating_sub(letters) } else { 0 };
        let list = labels(term, hidden)?;
        if list.len() != rank {
            return Err(format!("`{term}` stands for an operand of {rank} axes"));
        }
        most_hidden = most_hidden.max(hidden);
        operands.push(list);
    }
    let result = match right {
        Some(right) => labels(right, most_hidden)?,
        None => {
            let count = |label: &Label| operands.iter().flatten().filter(|other| *other == label).count();
            let mut letters: Vec<Label> = operands
                .iter()
                .flatten()
                .filter(|label| matches!(label, Label::Letter(_)) && count(label) == 1)
                .copied()
                .collect();
            letters.sort_unstable();
            (0..most_hidden).rev().map(Label::Ellipsis).chain(letters).collect()
        }
    };
    if (1..result.len()).any(|at| result[..at].contains(&result[at])) {
        return Err(format!("`{equation}` repeats an index in its result"));
    }
    if let Some(label) = result.iter().find(|label| !operands.iter().flatten().any(|other| other == *label)) {
        return Err(format!("`{equation}` has {label:?} in its result only"));
    }
    Ok((operands, result))
}

impl Builder {
    /// The sum of products of `operands` that `equation` describes, such as `bhid,bhjd->bhij`; `...` stands
    /// for axes that broadcast, and an index repeated within a term for a diagonal.
    ///
    /// # Errors
    /// The equation does not fit the operands, or repeats an index in its result.
    pub fn einsum(&mut self, equation: &str, operands: &[Tensor]) -> Result<Tensor> {
        let ranks: Vec<usize> = operands.iter().map(|&operand| self.shape(operand).len()).collect();
        let (lists, result) =
            parse(equation, &ranks).map_err(|reason| self.mismatch(EINSUM.name, operands, reason))?;
        let mut lengths: HashMap<Label, usize> = HashMap::new();
        for (&operand, list) in operands.iter().zip(&lists) {
            for (&label, &length) in list.iter().zip(self.shape(operand)) {
                let known = lengths.entry(label).or_insert(length);
                if *known == 1 {
                    *known = length;
                } else if length != 1 && length != *known {
                    let reason = format!("{label:?} of `{equation}` is {known} long and {length}");
                    return Err(self.mismatch(EINSUM.name, operands, reason));
                }
            }
        }
        let mut terms = Vec::with_capacity(operands.len());
        for (&tensor, list) in operands.iter().zip(lists) {
            // An axis of length 1 that broadcasts needs no label.
            let shape = self.shape(tensor).to_vec();
            let is_kept = |axis: usize| shape[axis] == lengths[&list[axis]];
            let kept: Vec<usize> = (0..shape.len()).filter(|&axis| is_kept(axis)).collect();
            let tensor = self.reshape(tensor, &kept.iter().map(|&axis| shape[axis]).collect::<Vec<_>>())?;
            let term = Term { tensor, labels: kept.iter().map(|&axis| list[axis]).collect() };
            terms.push(self.diagonal(term)?);
        }
        let mut terms = terms.into_iter();
        let Some(mut product) = terms.next() else {
            return Err(self.mismatch(EINSUM.name, operands, "at least one operand is needed"));
        };
        while let Some(term) = terms.next() {
            let later: Vec<Label> =
                terms.as_slice().iter().flat_map(|term| &term.labels).chain(&result).copied().collect();
            product = self.join(product, term, &later)?;
        }
        let sum = self.sum_over(product, |label| !result.contains(label))?;
        self.ordered(&sum, &result)
    }

    /// The diagonal of axes with the same label, so that each label has one.
    fn diagonal(&mut self, mut term: Term) -> Result<Term> {
        let repeated = |labels: &[Label]| (1..labels.len()).find(|&at| labels[..at].contains(&labels[at]));
        while let Some(second) = repeated(&term.labels) {
            let label = term.labels[second];
            let is_kept = |axis: &usize| term.labels[*axis] != label;
            let kept: Vec<usize> = (0..term.labels.len()).filter(is_kept).collect();
            let same = (0..term.labels.len()).filter(|axis| !is_kept(axis));
            let order: Vec<usize> = kept.iter().copied().chain(same).collect();
            let shape: Vec<usize> = kept.iter().map(|&axis| self.shape(term.tensor)[axis]).collect();
            let length = self.shape(term.tensor)[second];
            let (count, mut labels) =
                (order.len() - kept.len(), kept.iter().map(|&axis| term.labels[axis]).collect::<Vec<_>>());
            labels.push(label);
            let last = self.transpose(term.tensor, &order)?;
            let flat = self.reshape(last, &[&shape[..], &[length.pow(count as u32)]].concat())?;
            let step: usize = (0..count).map(|axis| length.pow(axis as u32)).sum();
            let places: Vec<i64> = (0..length).map(|at| (at * step) as i64).collect();
            let places = self.integers(&places);
            term = Term { tensor: self.gather(flat, places, kept.len())?, labels };
        }
        Ok(term)
    }

    /// Sums over the axes whose label `is_summed`.
    fn sum_over(&mut self, term: Term, is_summed: impl Fn(&Label) -> bool) -> Result<Term> {
        let (axes, labels): (Vec<usize>, Vec<usize>) =
            (0..term.labels.len()).partition(|&axis| is_summed(&term.labels[axis]));
        if axes.is_empty() {
            return Ok(term);
        }
        let tensor = self.reduce_sum(term.tensor, &axes, false)?;
        Ok(Term { tensor, labels: labels.into_iter().map(|axis| term.labels[axis]).collect() })
    }

    /// The tensor of `term` with its axes in the order of `labels`, which are all of its own.
    fn ordered(&mut self, term: &Term, labels: &[Label]) -> Result<Tensor> {
        let at = |label| term.labels.iter().position(|own| own == label).expect("it has the label");
        let order: Vec<usize> = labels.iter().map(at).collect();
        if order.is_sorted() { Ok(term.tensor) } else { self.transpose(term.tensor, &order) }
    }

    /// The product of two terms, summed over what is not `later` needed.
    fn join(&mut self, a: Term, b: Term, later: &[Label]) -> Result<Term> {
        let a = self.sum_over(a, |label| !b.has(label) && !later.contains(label))?;
        let b = self.sum_over(b, |label| !a.has(label) && !later.contains(label))?;
        let (common, rows): (Vec<Label>, Vec<Label>) = a.labels.iter().partition(|label| b.has(label));
        let (batch, inner): (Vec<Label>, Vec<Label>) =
            common.into_iter().partition(|label| later.contains(label));
        let columns: Vec<Label> = b.labels.iter().filter(|label| !a.has(label)).copied().collect();

        let lengths = |g: &Self, term: &Term, list: &[Label]| -> Vec<usize> {
            let axis = |label| term.labels.iter().position(|own| own == label).expect("it has the label");
            list.iter().map(|label| g.shape(term.tensor)[axis(label)]).collect()
        };
        let (outer, height) = (lengths(self, &a, &batch), lengths(self, &a, &rows));
        let (depth, width) = (lengths(self, &a, &inner), lengths(self, &b, &columns));
        let labels = [&batch[..], &rows, &columns].concat();
        let shape = [&outer[..], &height, &width].concat();
        let count = |list: &[usize]| list.iter().product::<usize>();
        let [n, m, k, o] = [&outer, &height, &depth, &width].map(|list| count(list));

        // A matrix product of one row and one column, or without a sum, is slower than the plain product.
        let is_plain = inner.is_empty() || (rows.is_empty() && columns.is_empty());
        let left = self.ordered(&a, &[&batch[..], &rows, &inner].concat())?;
        if is_plain {
            let right = self.ordered(&b, &[&batch[..], &columns, &inner].concat())?;
            let left = self.reshape(left, &[n, m, 1, k])?;
            let right = self.reshape(right, &[n, 1, o, k])?;
            let product = self.mul(left, right)?;
            let sum = if inner.is_empty() { product } else { self.reduce_sum(product, &[3], false)? };
            return Ok(Term { tensor: self.reshape(sum, &shape)?, labels });
        }
        let right = self.ordered(&b, &[&batch[..], &inner, &columns].concat())?;
        let product = if batch.is_empty() {
            let (left, right) = (self.reshape(left, &[m, k])?, self.reshape(right, &[k, o])?);
            self.matmul(left, right)?
        } else {
            let (left, right) = (self.reshape(left, &[n, m, k])?, self.reshape(right, &[n, k, o])?);
            self.matmul(left, right)?
        };
        Ok(Term { tensor: self.reshape(product, &shape)?, labels })
    }
}

fn import_einsum<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let operands: Vec<Tensor> =
        (0..node.input.len()).map(|at| file.operand(node, at)).collect::<Result<_>>()?;
    file.g.einsum(&NodeAttributes(node).text("equation"), &operands)
}

#[cfg(test)]
mod tests {
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, Lowering, Target, TensorType};

    #[test]
    fn gradients_of_einsum_agree_with_finite_differences() {
        for (equation, a, b) in [
            ("ij,jk->ik", vec![2, 3], vec![3, 4]),
            ("bhid,bhjd->bhij", vec![2, 2, 3, 2], vec![2, 2, 4, 2]),
            ("bhij,bhjd->bihd", vec![2, 2, 3, 4], vec![2, 2, 4, 2]),
            ("nchw,ck->nkhw", vec![2, 3, 2, 2], vec![3, 2]),
            ("i,j->ji", vec![3], vec![2]),
            ("bi,bi->b", vec![3, 4], vec![3, 4]),
            ("...i,ij", vec![2, 3, 4], vec![4, 2]),
            ("b...d,...d->b...", vec![2, 3, 4], vec![1, 4]),
            ("ij,kj->", vec![2, 3], vec![4, 3]),
        ] {
            check_gradients(Case::f64(equation).normal(a).normal(b), |g, x| g.einsum(equation, x));
        }
        for (equation, shape) in
            [("ii", vec![3, 3]), ("biji->bj", vec![2, 3, 4, 3]), ("iii->i", vec![2, 2, 2])]
        {
            check_gradients(Case::f64(equation).normal(shape), |g, x| g.einsum(equation, x));
        }
        check_gradients(Case::f64("diagonals").normal([2, 2, 3]).normal([3, 3]), |g, x| {
            g.einsum("iij,jj->ij", x)
        });
        check_gradients(Case::f64("transposed sum").normal([2, 3, 4]), |g, x| g.einsum("abc -> ca", x));
        check_gradients(Case::f64("three").normal([2, 3]).normal([3, 4]).normal([4, 2]), |g, x| {
            g.einsum("ij,jk,kl->il", x)
        });
    }

    #[test]
    fn values_of_einsum_are_those_of_numpy() {
        let count = |n: usize| (0..n).map(|i| i as f64).collect::<Vec<_>>();
        let pair = || Case::f64("einsum").values([2, 3], count(6)).values([2, 3], count(6));
        assert_eq!(evaluate(pair(), |g, x| g.einsum("ij,kj->ki", x)), [5.0, 14.0, 14.0, 50.0]);
        assert_eq!(evaluate(pair(), |g, x| g.einsum("ij,ij->j", x)), [9.0, 17.0, 29.0]);
        let one = || Case::f64("einsum").values([2, 3], count(6));
        assert_eq!(evaluate(one(), |g, x| g.einsum("ba", x)), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let square = || Case::f64("einsum").values([3, 3], count(9));
        assert_eq!(evaluate(square(), |g, x| g.einsum("ii", x)), [12.0]);
        assert_eq!(evaluate(square(), |g, x| g.einsum("ii->i", x)), [0.0, 4.0, 8.0]);
        let cube = Case::f64("einsum").values([2, 2, 2], count(8));
        assert_eq!(evaluate(cube, |g, x| g.einsum("iii->i", x)), [0.0, 7.0]);
    }

    #[test]
    fn equations_that_do_not_fit_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([2, 3])).unwrap();
        for equation in ["ii->i", "ij->ii", "ij,jk->ik", "ijk->i", "ij->k", "i1->i", ""] {
            assert!(g.einsum(equation, &[x]).is_err(), "{equation}");
        }
        assert!(g.einsum("ij,ji->ij", &[x, x]).is_err());
    }
}
