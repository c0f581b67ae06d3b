//! Attention, and the rotation of its queries and keys by their places: RotaryEmbedding.

use crate::builder::Builder;
use crate::error::Result;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation, given};
use crate::node::Tensor;
use crate::onnx::NodeProto;
use crate::operator::Operator;
use crate::types::ElementType::{Bool, I64};

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family =
    &[(&ATTENTION, Some(import_attention)), (&ROTARY_EMBEDDING, Some(import_rotary_embedding))];
static ATTENTION: Operator = Operator::decomposed("Attention", 23);
static ROTARY_EMBEDDING: Operator = Operator::decomposed("RotaryEmbedding", 23);

/// Below all scores, and finite in every type, so that no row is of infinities only.
const NEVER: f64 = -60000.0;

/// How scores are computed from the products of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// The factor of the products; 1/√D if `None`.
    pub scale: Option<f64>,
    /// The size c that scores are kept below, as c·tanh(x/c); 0 for none.
    pub softcap: f64,
    /// Whether a query attends to no key after its own place.
    pub is_causal: bool,
}

impl Builder {
    /// softmax(Q·Kᵀ·scale + mask)·V of queries `[N,H,L,D]`, keys `[N,G,S,D]` and values `[N,G,S,E]`, where H
    /// is a multiple of G: `[N,H,L,E]`. A Boolean mask is true where a query attends to a key; a query that
    /// attends to none gives 0. Masks broadcast to `[N,H,L,S]`.
    ///
    /// # Errors
    /// The operands are not floating-point, or their shapes do not fit.
    pub fn attention(
        &mut self,
        operands: [Tensor; 3],
        mask: Option<Tensor>,
        attention: Attention,
    ) -> Result<Tensor> {
        let [q, mut k, mut v] = operands;
        let shapes = operands.map(|operand| self.shape(operand).to_vec());
        let fits = match shapes.each_ref().map(Vec::as_slice) {
            [&[n, heads, _, depth], &[m, groups, keys, width], &[o, others, values, _]] => {
                n == m
                    && n == o
                    && groups == others
                    && groups > 0
                    && heads % groups == 0
                    && depth == width
                    && keys == values
            }
            _ => false,
        };
        if !fits {
            let reason = "queries must be [N,H,L,D], keys [N,G,S,D] and values [N,G,S,E], H a multiple of G";
            return Err(self.mismatch(ATTENTION.name, &operands, reason));
        }
        let (heads, rows, depth, keys) = (shapes[0][1], shapes[0][2], shapes[0][3], shapes[1][2]);
        let times = heads / shapes[1][1];
        if times > 1 {
            (k, v) = (self.repeat_heads(k, times)?, self.repeat_heads(v, times)?);
        }
        let q = self.scale(q, attention.scale.unwrap_or_else(|| 1.0 / (depth as f64).sqrt()))?;
        let k = self.swap_last(k)?;
        let mut scores = self.matmul(q, k)?;
        if attention.softcap > 0.0 {
            let ratio = self.scale(scores, 1.0 / attention.softcap)?;
            let ratio = self.tanh(ratio)?;
            scores = self.scale(ratio, attention.softcap)?;
        }
        let mut allowed = mask.filter(|&mask| self.element(mask) == Bool);
        if let Some(mask) = mask.filter(|_| allowed.is_none()) {
            scores = self.add(scores, mask)?;
        }
        if attention.is_causal {
            let before = self.none_after(rows, keys)?;
            allowed = Some(match allowed {
                Some(allowed) => self.and(allowed, before)?,
                None => before,
            });
        }
        let element = self.element(scores);
        if let Some(allowed) = allowed {
            let never = self.scalar(element, NEVER);
            scores = self.select(allowed, scores, never)?;
        }
        let last = self.shape(scores).len() - 1;
        let mut weights = self.softmax(scores, last)?;
        if let Some(allowed) = allowed {
            let zero = self.scalar(element, 0.0);
            weights = self.select(allowed, weights, zero)?;
        }
        self.matmul(weights, v)
    }

    /// Each head of `x` `[N,G,S,D]` repeated: `[N,G·times,S,D]`.
    fn repeat_heads(&mut self, x: Tensor, times: usize) -> Result<Tensor> {
        let &[n, groups, rows, depth] = self.shape(x) else {
            return Err(self.mismatch(ATTENTION.name, &[x], "the operand must be [N,G,S,D]"));
        };
        let single = self.unsqueeze(x, &[2])?;
        let all = self.expand(single, &[n, groups, times, rows, depth])?;
        self.reshape(all, &[n, groups * times, rows, depth])
    }

    /// A Boolean `[rows,columns]` that is true where the column is not after the row.
    fn none_after(&mut self, rows: usize, columns: usize) -> Result<Tensor> {
        let (row, column) = (self.counting(rows, &[rows, 1]), self.counting(columns, &[columns]));
        self.less_or_equal(column, row)
    }

    /// `x` `[N,S,H,D]` with the first pairs of each head turned: (a,b) becomes (a·cos − b·sin,
    /// a·sin + b·cos). `cosines` and `sines` are `[N,S,1,R/2]` or broadcast to it, and R values of a head are
    /// turned; a pair is of neighbours if `interleaved`, else of values R/2 apart.
    ///
    /// # Errors
    /// Shapes do not fit.
    pub fn rotary_embedding(
        &mut self,
        x: Tensor,
        [cosines, sines]: [Tensor; 2],
        interleaved: bool,
    ) -> Result<Tensor> {
        let half = self.shape(cosines).last().copied().unwrap_or(0);
        let &[n, rows, heads, depth] = self.shape(x) else {
            return Err(self.mismatch(ROTARY_EMBEDDING.name, &[x], "the operand must be [N,S,H,D]"));
        };
        if 2 * half > depth || half == 0 {
            let reason = format!("{half} pairs must be in a head of {depth} values");
            return Err(self.mismatch(ROTARY_EMBEDDING.name, &[x, cosines], reason));
        }
        let rest = (2 * half < depth).then(|| self.slice(x, 3, 2 * half, depth)).transpose()?;
        let turned = if rest.is_some() { self.slice(x, 3, 0, 2 * half)? } else { x };
        // Pairs along an axis of their own, so that both orders are computed alike.
        let (shape, axis) = if interleaved { ([half, 2], 4) } else { ([2, half], 3) };
        let pairs = self.reshape(turned, &[&[n, rows, heads], &shape[..]].concat())?;
        let parts = self.split_evenly(pairs, axis, 2)?;
        let [a, b] = [parts[0], parts[1]].map(|part| self.squeeze(part, &[axis]));
        let (a, b) = (a?, b?);
        let (first, second) = (self.mul(a, cosines)?, self.mul(b, sines)?);
        let real = self.sub(first, second)?;
        let (first, second) = (self.mul(a, sines)?, self.mul(b, cosines)?);
        let imaginary = self.add(first, second)?;
        let [real, imaginary] = [real, imaginary].map(|part| self.unsqueeze(part, &[axis]));
        let pairs = self.concat(&[real?, imaginary?], axis)?;
        let turned = self.reshape(pairs, &[n, rows, heads, 2 * half])?;
        match rest {
            Some(rest) => self.concat(&[turned, rest], 3),
            None => Ok(turned),
        }
    }

    /// `x` `[N,S,H·D]` as `[N,S,H,D]`.
    fn heads_apart(&mut self, operator: &'static str, x: Tensor, heads: i64) -> Result<Tensor> {
        match (self.shape(x), usize::try_from(heads)) {
            (&[n, rows, width], Ok(heads)) if heads > 0 && width % heads == 0 => {
                self.reshape(x, &[n, rows, heads, width / heads])
            }
            _ => {
                let reason = format!("the operand must be [N,S,H·D] with {heads} heads");
                Err(self.mismatch(operator, &[x], reason))
            }
        }
    }
}

fn import_attention<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let attributes = NodeAttributes(node);
    for (at, name) in [(4, "past_key"), (5, "past_value"), (6, "nonpad_kv_seqlen")] {
        if given(node, at) {
            return Err(
                file.at_node(node, format!("takes `{name}`, a cache of keys and values, expected none"))
            );
        }
    }
    for side in ["left_window_size", "right_window_size"] {
        if attributes.int(side, -1) >= 0 {
            return Err(file.at_node(node, format!("has `{side}`, expected a mask as an operand")));
        }
    }
    if node.output.get(3).is_some_and(|name| !name.is_empty()) {
        let reason = "gives its scores as `qk_matmul_output`, expected only what they lead to";
        return Err(file.at_node(node, reason));
    }
    let mut operands = Vec::with_capacity(3);
    let mut is_flat = false;
    for (at, heads) in ["q_num_heads", "kv_num_heads", "kv_num_heads"].into_iter().enumerate() {
        let mut x = file.operand(node, at)?;
        if file.g.shape(x).len() == 3 {
            is_flat = true;
            x = file.g.heads_apart(ATTENTION.name, x, attributes.int(heads, 0))?;
            x = file.g.transpose(x, &[0, 2, 1, 3])?;
        }
        operands.push(x);
    }
    let (q, k, v) = (operands[0], operands[1], operands[2]);
    let mask = if given(node, 3) { Some(file.operand(node, 3)?) } else { None };
    let scale = Some(attributes.float("scale", 0.0)).filter(|&scale| scale != 0.0);
    let (softcap, is_causal) = (attributes.float("softcap", 0.0), attributes.int("is_causal", 0) != 0);
    let mut y = file.g.attention([q, k, v], mask, Attention { scale, softcap, is_causal })?;
    for (at, present) in [(1, k), (2, v)] {
        if let Some(name) = node.output.get(at) {
            file.define(name, present);
        }
    }
    if is_flat {
        let &[n, heads, rows, depth] = file.g.shape(y) else {
            return Err(file.at_node(node, "has queries, keys and values with different numbers of axes"));
        };
        y = file.g.transpose(y, &[0, 2, 1, 3])?;
        y = file.g.reshape(y, &[n, rows, heads * depth])?;
    }
    Ok(y)
}

fn import_rotary_embedding<'a>(file: &mut Translation<'a>, node: &'a NodeProto) -> Result<Tensor> {
    let (attributes, x) = (NodeAttributes(node), file.operand(node, 0)?);
    let shape = file.g.shape(x).to_vec();
    let whole = if shape.len() == 3 {
        file.g.heads_apart(ROTARY_EMBEDDING.name, x, attributes.int("num_heads", 0))?
    } else {
        file.g.transpose(x, &[0, 2, 1, 3])?
    };
    let mut caches = [file.operand(node, 1)?, file.operand(node, 2)?];
    for cache in &mut caches {
        if given(node, 3) {
            let places = file.operand(node, 3)?;
            let places = file.g.cast(places, I64)?;
            *cache = file.g.gather(*cache, places, 0)?;
        }
        *cache = file.g.unsqueeze(*cache, &[2])?;
    }
    let half = file.g.shape(caches[0]).last().copied().unwrap_or(0);
    let asked = attributes.int("rotary_embedding_dim", 0);
    if asked != 0 && usize::try_from(asked) != Ok(2 * half) {
        let reason = format!("turns {asked} values of a head by {half} angles, expected {}", asked / 2);
        return Err(file.at_node(node, reason));
    }
    let y = file.g.rotary_embedding(whole, caches, attributes.int("interleaved", 0) != 0)?;
    if shape.len() == 3 { file.g.reshape(y, &shape) } else { file.g.transpose(y, &[0, 2, 1, 3]) }
}

#[cfg(test)]
mod tests {
    use super::Attention;
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, ElementType, Lowering, Target, TensorType};

    const PLAIN: Attention = Attention { scale: None, softcap: 0.0, is_causal: false };

    fn case(name: &str) -> Case {
        Case::f64(name).normal([2, 4, 3, 2]).normal([2, 2, 5, 2]).normal([2, 2, 5, 3])
    }

    #[test]
    fn gradients_of_attention_agree_with_finite_differences() {
        check_gradients(case("Attention"), |g, x| g.attention([x[0], x[1], x[2]], None, PLAIN));
        check_gradients(case("Attention, causal"), |g, x| {
            let causal = Attention { scale: Some(0.3), is_causal: true, ..PLAIN };
            g.attention([x[0], x[1], x[2]], None, causal)
        });
        check_gradients(case("Attention, bounded, with a bias").normal([4, 3, 5]), |g, x| {
            g.attention([x[0], x[1], x[2]], Some(x[3]), Attention { softcap: 2.0, ..PLAIN })
        });
        check_gradients(case("Attention, masked"), |g, x| {
            let list = g.floats(
                TensorType::new(ElementType::F64, [3, 5]),
                &[1., 0., 1., 1., 0., 0., 0., 0., 0., 0., 0., 1., 1., 0., 1.],
            );
            let zero = g.scalar(ElementType::F64, 0.0);
            let mask = g.greater(list, zero)?;
            g.attention([x[0], x[1], x[2]], Some(mask), PLAIN)
        });
    }

    #[test]
    fn gradients_of_turned_pairs_agree_with_finite_differences() {
        for interleaved in [false, true] {
            let case = Case::f64("RotaryEmbedding").normal([2, 3, 2, 6]).normal([3, 1, 2]).normal([3, 1, 2]);
            check_gradients(case, |g, x| g.rotary_embedding(x[0], [x[1], x[2]], interleaved));
        }
    }

    #[test]
    fn a_query_attends_to_what_it_may() {
        let ones = || {
            Case::f64("Attention")
                .values([1, 1, 2, 1], vec![1.0, 1.0])
                .values([1, 1, 2, 1], vec![1.0, 1.0])
                .values([1, 1, 2, 1], vec![2.0, 4.0])
        };
        let causal = Attention { is_causal: true, ..PLAIN };
        assert_eq!(evaluate(ones(), |g, x| g.attention([x[0], x[1], x[2]], None, causal)), [2.0, 3.0]);
        // A row without a key gives 0.
        let y = evaluate(ones(), |g, x| {
            let zero = g.scalar(ElementType::F64, 3.0);
            let all = g.greater(x[2], zero)?;
            let mask = g.reshape(all, &[2, 1])?;
            g.attention([x[0], x[1], x[2]], Some(mask), PLAIN)
        });
        assert_eq!(y, [0.0, 3.0]);
    }

    #[test]
    fn heads_that_do_not_fit_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let q = g.input("q", TensorType::f32([1, 3, 4, 8])).unwrap();
        let k = g.input("k", TensorType::f32([1, 2, 4, 8])).unwrap();
        assert!(g.attention([q, k, k], None, PLAIN).is_err());
        assert!(g.attention([q, q, k], None, PLAIN).is_err());
        let wide = g.input("wide", TensorType::f32([1, 4, 1, 5])).unwrap();
        assert!(g.rotary_embedding(q, [wide, wide], false).is_err());
    }
}
