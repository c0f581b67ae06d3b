//! Recurrent layers, step by step: RNN, LSTM and GRU.

use super::gate_functions::Function;
use crate::builder::Builder;
use crate::error::Result;
use crate::import::constant::Values;
use crate::import::file::NodeAttributes;
use crate::import::translation::{Family, Translation, given};
use crate::node::Tensor;
use crate::onnx::NodeProto;
use crate::operator::Operator;

/// The operators of this file, each with its import.
pub(super) const OPERATORS: Family = &[
    (&RNN, Some(|file, node| import(file, node, Cell::Rnn))),
    (&LSTM, Some(|file, node| import(file, node, Cell::Lstm))),
    (&GRU, Some(|file, node| import(file, node, Cell::Gru))),
];
static RNN: Operator = Operator::decomposed("RNN", 7);
static LSTM: Operator = Operator::decomposed("LSTM", 7);
static GRU: Operator = Operator::decomposed("GRU", 7);

/// What a step computes of its input x and of the state h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// h' = f(W·x + R·h).
    Rnn,
    /// Gates i, o, f and the candidate c̃ (Hochreiter & Schmidhuber, 1997).
    Lstm,
    /// Gates z, r and the candidate h̃ (Cho et al., 2014).
    Gru,
}

impl Cell {
    const fn operator(self) -> &'static Operator {
        match self {
            Self::Rnn => &RNN,
            Self::Lstm => &LSTM,
            Self::Gru => &GRU,
        }
    }

    /// Gates and candidates, each of as many values as the state.
    const fn gates(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }

    /// The functions f, g and h of ONNX that are used unless others are named.
    const fn functions(self) -> &'static [Function] {
        match self {
            Self::Rnn => &[Function::Tanh],
            Self::Lstm => &[Function::Sigmoid, Function::Tanh, Function::Tanh],
            Self::Gru => &[Function::Sigmoid, Function::Tanh],
        }
    }
}

/// A recurrent layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrent {
    /// What a step computes.
    pub cell: Cell,
    /// For each direction, whether it begins with the last step.
    pub backwards: Vec<bool>,
    /// The functions of the gates, of the candidate and, for LSTM, of the cell.
    pub functions: Vec<Function>,
    /// The size that the operands of functions are kept within.
    pub clip: Option<f64>,
    /// LSTM: whether the forget gate is 1 − i.
    pub couples_gates: bool,
    /// GRU: whether r multiplies R·h instead of h.
    pub resets_product: bool,
}

/// The weights of a recurrent layer, for D directions and G gates of H values.
#[derive(Clone, Copy, Debug)]
pub struct RecurrentWeights {
    /// `[D,G·H,I]`.
    pub input: Tensor,
    /// `[D,G·H,H]`.
    pub state: Tensor,
    /// `[D,2·G·H]`: those of the input, then those of the state.
    pub bias: Option<Tensor>,
    /// LSTM: `[D,3·H]`, for i, o and f.
    pub peepholes: Option<Tensor>,
}

/// What a recurrent layer computes.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// The state after each step, `[T,D,N,H]`.
    pub states: Tensor,
    /// That after the last step, `[D,N,H]`.
    pub last: Tensor,
    /// LSTM: the cell after the last step, `[D,N,H]`; else the same as `last`.
    pub last_cell: Tensor,
}

/// What all steps take; a state is `[D,1,N,H]`, so that a step computes all directions.
struct Operands<'a> {
    layer: &'a Recurrent,
    /// `[D,1,H,G·H]`; without the candidate for GRU.
    state: Tensor,
    /// GRU: `[D,1,H,H]` of the candidate, and the bias of its product with the state.
    candidate: Option<(Tensor, Option<Tensor>)>,
    /// `[D,1,1,H]` each.
    peepholes: Vec<Tensor>,
}

impl Builder {
    /// The states of `layer` over `x` `[T,N,I]`, from the given state and cell, `[D,N,H]`, or from 0.
    ///
    /// # Errors
    /// Shapes do not fit, or functions are not as many as the cell has.
    pub fn recurrent(
        &mut self,
        x: Tensor,
        layer: &Recurrent,
        weights: RecurrentWeights,
        first: [Option<Tensor>; 2],
    ) -> Result<Steps> {
        let name = layer.cell.operator().name;
        let (shape, recurrent) = (self.shape(x).to_vec(), self.shape(weights.state).to_vec());
        let (&[steps, rows, width], &[directions, _, hidden]) = (&shape[..], &recurrent[..]) else {
            let reason = "the input must be [T,N,I] and the weights of the state [D,G·H,H]";
            return Err(self.mismatch(name, &[x, weights.state], reason));
        };
        let gates = layer.cell.gates() * hidden;
        let expected = [
            (Some(weights.input), vec![directions, gates, width]),
            (Some(weights.state), vec![directions, gates, hidden]),
            (weights.bias, vec![directions, 2 * gates]),
            (weights.peepholes, vec![directions, 3 * hidden]),
            (first[0], vec![directions, rows, hidden]),
            (first[1], vec![directions, rows, hidden]),
        ];
        for (operand, expected) in expected {
            if let Some(operand) = operand.filter(|&operand| *self.shape(operand) != expected) {
                let reason = format!("the second must be {expected:?} for a state of {hidden} values");
                return Err(self.mismatch(name, &[x, operand], reason));
            }
        }
        if steps == 0 || hidden == 0 {
            return Err(self.mismatch(
                name,
                &[x, weights.state],
                "there must be a step and a value of the state",
            ));
        }
        if layer.backwards.len() != directions || layer.functions.len() != layer.cell.functions().len() {
            let reason = format!("{directions} directions must have the functions of the cell");
            return Err(self.mismatch(name, &[x, weights.state], reason));
        }
        let (products, operands) = self.recurrent_operands(x, layer, weights)?;
        let zeros = self.zeros(self.ty(x).reshaped(vec![directions, 1, rows, hidden]))?;
        let mut now = [zeros; 2];
        for (now, first) in now.iter_mut().zip(first) {
            if let Some(first) = first {
                *now = self.unsqueeze(first, &[1])?;
            }
        }
        let step = match layer.cell {
            Cell::Rnn => Self::rnn_step,
            Cell::Lstm => Self::lstm_step,
            Cell::Gru => Self::gru_step,
        };
        let mut states = Vec::with_capacity(steps);
        for product in self.split_evenly(products, 1, steps)? {
            now = step(self, product, &operands, now)?;
            states.push(now[0]);
        }
        let states = self.concat(&states, 1)?;
        let states = self.in_order_of_steps(states, layer)?;
        Ok(Steps {
            states: self.transpose(states, &[1, 0, 2, 3])?,
            last: self.squeeze(now[0], &[1])?,
            last_cell: self.squeeze(now[1], &[1])?,
        })
    }

    /// `x` `[D,T,…]` with the steps of directions that are backwards in the other order.
    fn in_order_of_steps(&mut self, x: Tensor, layer: &Recurrent) -> Result<Tensor> {
        if !layer.backwards.contains(&true) {
            return Ok(x);
        }
        let mut parts = self.split_evenly(x, 0, layer.backwards.len())?;
        for (part, _) in parts.iter_mut().zip(&layer.backwards).filter(|(_, backwards)| **backwards) {
            *part = self.reverse(*part, 1)?;
        }
        self.concat(&parts, 0)
    }

    /// The products of all inputs with their weights, `[D,T,N,G·H]`, each direction in the order of its
    /// steps, and what the steps take.
    fn recurrent_operands<'a>(
        &mut self,
        x: Tensor,
        layer: &'a Recurrent,
        weights: RecurrentWeights,
    ) -> Result<(Tensor, Operands<'a>)> {
        let (shape, recurrent) = (self.shape(x).to_vec(), self.shape(weights.state).to_vec());
        let (steps, rows, directions) = (shape[0], shape[1], recurrent[0]);
        let (gates, hidden) = (recurrent[1], recurrent[2]);
        let inputs = self.reshape(x, &[1, steps * rows, shape[2]])?;
        let input = self.swap_last(weights.input)?;
        let mut products = self.matmul(inputs, input)?;
        products = self.reshape(products, &[directions, steps, rows, gates])?;
        let state = self.swap_last(weights.state)?;
        let mut state = self.unsqueeze(state, &[1])?;
        let mut candidate_bias = None;
        if let Some(bias) = weights.bias {
            let bias = self.reshape(bias, &[directions, 1, 1, 2 * gates])?;
            let halves = self.split_evenly(bias, 3, 2)?;
            let mut of_state = halves[1];
            if layer.cell == Cell::Gru && layer.resets_product {
                let parts = self.split(of_state, 3, &[2 * hidden, hidden])?;
                candidate_bias = Some(parts[1]);
                of_state = self.pad(parts[0], &[0; 4], &[0, 0, 0, hidden])?;
            }
            let sum = self.add(halves[0], of_state)?;
            products = self.add(products, sum)?;
        }
        let products = self.in_order_of_steps(products, layer)?;
        let mut candidate = None;
        if layer.cell == Cell::Gru {
            let parts = self.split(state, 3, &[2 * hidden, hidden])?;
            state = parts[0];
            candidate = Some((parts[1], candidate_bias));
        }
        let peepholes = match weights.peepholes {
            Some(peepholes) => {
                let peepholes = self.reshape(peepholes, &[directions, 1, 1, 3 * hidden])?;
                self.split_evenly(peepholes, 3, 3)?
            }
            None => Vec::new(),
        };
        Ok((products, Operands { layer, state, candidate, peepholes }))
    }

    fn rnn_step(
        &mut self,
        product: Tensor,
        operands: &Operands<'_>,
        now: [Tensor; 2],
    ) -> Result<[Tensor; 2]> {
        let sum = self.with_state(product, now[0], operands.state)?;
        let state = self.gate(sum, operands, 0)?;
        Ok([state; 2])
    }

    fn lstm_step(
        &mut self,
        product: Tensor,
        operands: &Operands<'_>,
        now: [Tensor; 2],
    ) -> Result<[Tensor; 2]> {
        let [state, cell] = now;
        let sums = self.with_state(product, state, operands.state)?;
        let sums = self.split_evenly(sums, 3, 4)?;
        let i = self.peep(sums[0], operands, 0, cell)?;
        let i = self.gate(i, operands, 0)?;
        let f = if operands.layer.couples_gates {
            let one = self.scalar(self.element(i), 1.0);
            self.sub(one, i)?
        } else {
            let f = self.peep(sums[2], operands, 2, cell)?;
            self.gate(f, operands, 0)?
        };
        let candidate = self.gate(sums[3], operands, 1)?;
        let (kept, new) = (self.mul(f, cell)?, self.mul(i, candidate)?);
        let cell = self.add(kept, new)?;
        let o = self.peep(sums[1], operands, 1, cell)?;
        let o = self.gate(o, operands, 0)?;
        let shown = operands.layer.functions[2].of(self, cell)?;
        Ok([self.mul(o, shown)?, cell])
    }

    fn gru_step(
        &mut self,
        product: Tensor,
        operands: &Operands<'_>,
        now: [Tensor; 2],
    ) -> Result<[Tensor; 2]> {
        let state = now[0];
        let Some((weights, bias)) = operands.candidate else { return Ok(now) };
        let hidden = self.shape(state)[3];
        let parts = self.split(product, 3, &[2 * hidden, hidden])?;
        let sums = self.with_state(parts[0], state, operands.state)?;
        let gates = self.gate(sums, operands, 0)?;
        let gates = self.split_evenly(gates, 3, 2)?;
        let (z, r) = (gates[0], gates[1]);
        let sum = if operands.layer.resets_product {
            let mut product = self.matmul(state, weights)?;
            if let Some(bias) = bias {
                product = self.add(product, bias)?;
            }
            let product = self.mul(r, product)?;
            self.add(parts[1], product)?
        } else {
            let reset = self.mul(r, state)?;
            self.with_state(parts[1], reset, weights)?
        };
        let candidate = self.gate(sum, operands, 1)?;
        // (1 − z)·h̃ + z·h.
        let change = self.sub(state, candidate)?;
        let change = self.mul(z, change)?;
        Ok([self.add(candidate, change)?; 2])
    }

    fn with_state(&mut self, product: Tensor, state: Tensor, weights: Tensor) -> Result<Tensor> {
        let of_state = self.matmul(state, weights)?;
        self.add(product, of_state)
    }

    /// `sum` and what gate `at` sees of the cell.
    fn peep(&mut self, sum: Tensor, operands: &Operands<'_>, at: usize, cell: Tensor) -> Result<Tensor> {
        let Some(&weights) = operands.peepholes.get(at) else { return Ok(sum) };
        let seen = self.mul(cell, weights)?;
        self.add(sum, seen)
    }

    /// Function `at` of the layer on x, which is clipped first if the layer says so.
    fn gate(&mut self, x: Tensor, operands: &Operands<'_>, at: usize) -> Result<Tensor> {
        let x = match operands.layer.clip {
            Some(clip) => self.clip(x, -clip, clip)?,
            None => x,
        };
        operands.layer.functions[at].of(self, x)
    }
}

fn import<'a>(file: &mut Translation<'a>, node: &'a NodeProto, cell: Cell) -> Result<Tensor> {
    let attributes = NodeAttributes(node);
    let backwards = match attributes.text("direction").as_str() {
        "" | "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        other => return Err(file.at_node(node, format!("has the direction `{other}`"))),
    };
    let numbers =
        ["activation_alpha", "activation_beta"].map(|name| attributes.floats(name).unwrap_or_default());
    let names = attributes.texts("activations");
    let functions = Function::named(&names, numbers, cell.functions(), backwards.len())
        .map_err(|reason| file.at_node(node, reason))?;
    let layer = Recurrent {
        cell,
        backwards,
        functions,
        clip: Some(attributes.float("clip", 0.0)).filter(|&clip| clip > 0.0),
        couples_gates: attributes.int("input_forget", 0) != 0,
        resets_product: attributes.int("linear_before_reset", 0) != 0,
    };
    let rows_first = attributes.int("layout", 0) != 0;
    let mut x = file.operand(node, 0)?;
    if rows_first {
        x = file.g.transpose(x, &[1, 0, 2])?;
    }
    let steps = file.g.shape(x).first().copied().unwrap_or(0);
    if let Some(lengths) = file.integers(node, 4)?
        && lengths.iter().any(|&length| usize::try_from(length) != Ok(steps))
    {
        let reason = format!("has sequences of different lengths, expected {steps} steps in all");
        return Err(file.at_node(node, reason));
    }
    let weights = RecurrentWeights {
        input: file.weight(node, 1)?,
        state: file.weight(node, 2)?,
        bias: if given(node, 3) { Some(file.bias(node, 3)?) } else { None },
        peepholes: if given(node, 7) { Some(file.weight(node, 7)?) } else { None },
    };
    let order: &[usize] = if rows_first { &[1, 0, 2] } else { &[0, 1, 2] };
    let state = first_state(file, node, 5, order)?;
    let first_cell = if cell == Cell::Lstm { first_state(file, node, 6, order)? } else { None };
    let made = file.g.recurrent(x, &layer, weights, [state, first_cell])?;
    let mut all = [made.states, made.last, made.last_cell];
    if rows_first {
        let orders: [&[usize]; 3] = [&[2, 0, 1, 3], order, order];
        for (value, order) in all.iter_mut().zip(orders) {
            *value = file.g.transpose(*value, order)?;
        }
    }
    for (name, &value) in node.output.iter().zip(&all).skip(1) {
        file.define(name, value);
    }
    Ok(all[0])
}

/// The state that a layer begins with, `[D,N,H]`, from an operand with its axes in `order`; `None` if it is
/// 0, for whatever batch the file has been exported.
fn first_state<'a>(
    file: &mut Translation<'a>,
    node: &'a NodeProto,
    at: usize,
    order: &[usize],
) -> Result<Option<Tensor>> {
    let is_zero = |values: &Values| match values {
        Values::Floats(values) => values.iter().all(|&value| value == 0.0),
        Values::Integers(_) | Values::Booleans(_) => false,
    };
    if !given(node, at) || file.constant(node, at).is_some_and(|constant| is_zero(&constant.values)) {
        return Ok(None);
    }
    let state = file.operand(node, at)?;
    if order.is_sorted() { Ok(Some(state)) } else { Ok(Some(file.g.transpose(state, order)?)) }
}

#[cfg(test)]
mod tests {
    use super::{Cell, Function, Recurrent, RecurrentWeights};
    use crate::gradcheck::{Case, check_gradients, evaluate};
    use crate::{Builder, Lowering, Result, Target, Tensor, TensorType};

    fn layer(cell: Cell, backwards: &[bool]) -> Recurrent {
        Recurrent {
            cell,
            backwards: backwards.to_vec(),
            functions: cell.functions().to_vec(),
            clip: None,
            couples_gates: false,
            resets_product: false,
        }
    }

    /// All states, the last state and the last cell, for operands x, W, R, B, h, c and peepholes.
    fn all(g: &mut Builder, x: &[Tensor], layer: &Recurrent) -> Result<Tensor> {
        let weights =
            RecurrentWeights { input: x[1], state: x[2], bias: Some(x[3]), peepholes: x.get(6).copied() };
        let made = g.recurrent(x[0], layer, weights, [Some(x[4]), Some(x[5])])?;
        let mut parts = Vec::new();
        for value in [made.states, made.last, made.last_cell] {
            let count = g.shape(value).iter().product();
            parts.push(g.reshape(value, &[count])?);
        }
        g.concat(&parts, 0)
    }

    /// Three steps of two rows of two values, with a state of two values.
    fn case(layer: &Recurrent) -> Case {
        let (d, gates) = (layer.backwards.len(), 2 * layer.cell.gates());
        Case::f64(layer.cell.operator().name)
            .normal([3, 2, 2])
            .normal([d, gates, 2])
            .normal([d, gates, 2])
            .normal([d, 2 * gates])
            .normal([d, 2, 2])
            .normal([d, 2, 2])
    }

    #[test]
    fn gradients_of_recurrent_layers_agree_with_finite_differences() {
        for cell in [Cell::Rnn, Cell::Lstm, Cell::Gru] {
            for backwards in [&[false][..], &[true], &[false, true]] {
                let layer = layer(cell, backwards);
                check_gradients(case(&layer), |g, x| all(g, x, &layer));
            }
        }
        let peeping = Recurrent { couples_gates: true, ..layer(Cell::Lstm, &[false]) };
        for layer in [layer(Cell::Lstm, &[false, true]), peeping] {
            let d = layer.backwards.len();
            check_gradients(case(&layer).normal([d, 6]), |g, x| all(g, x, &layer));
        }
        let reset = Recurrent { resets_product: true, ..layer(Cell::Gru, &[true]) };
        check_gradients(case(&reset), |g, x| all(g, x, &reset));
    }

    #[test]
    fn operands_of_functions_are_clipped() {
        let layer = Recurrent {
            functions: vec![Function::Affine(2.0, 1.0)],
            clip: Some(3.0),
            ..layer(Cell::Rnn, &[false])
        };
        let case = Case::f64("RNN")
            .values([2, 1, 1], vec![1.0, 10.0])
            .values([1, 1, 1], vec![1.0])
            .values([1, 1, 1], vec![0.5]);
        let states = evaluate(case, |g, x| {
            let weights = RecurrentWeights { input: x[1], state: x[2], bias: None, peepholes: None };
            Ok(g.recurrent(x[0], &layer, weights, [None; 2])?.states)
        });
        assert_eq!(states, [3.0, 7.0]);
    }

    #[test]
    fn gates_have_the_order_and_the_part_that_onnx_gives_them() {
        // A step from h = 4 and c = 8 whose functions change nothing: W is the sum of each gate.
        let step = |layer: Recurrent, w: &[f64], r: &[f64], bias_of_state: &[f64]| {
            let identity = vec![Function::Affine(1.0, 0.0); layer.functions.len()];
            let layer = Recurrent { functions: identity, ..layer };
            let gates = w.len();
            let case = Case::f64("step")
                .values([1, 1, 1], vec![1.0])
                .values([1, gates, 1], w.to_vec())
                .values([1, gates, 1], r.to_vec())
                .values([1, 2 * gates], [&vec![0.0; gates], bias_of_state].concat())
                .values([1, 1, 1], vec![4.0])
                .values([1, 1, 1], vec![8.0]);
            evaluate(case, |g, x| all(g, x, &layer))[1..].to_vec()
        };
        let (lstm, gru) = (layer(Cell::Lstm, &[false]), layer(Cell::Gru, &[false]));
        let coupled = Recurrent { couples_gates: true, ..lstm.clone() };
        assert_eq!(step(lstm, &[0.5, 2.0, 0.25, 4.0], &[0.0; 4], &[0.0; 4]), [8.0, 4.0]);
        assert_eq!(step(coupled, &[0.5, 2.0, 0.25, 4.0], &[0.0; 4], &[0.0; 4]), [12.0, 6.0]);
        let product = Recurrent { resets_product: true, ..gru.clone() };
        let (w, r, bias) = ([0.5, 0.25, 2.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]);
        assert_eq!(step(gru, &w, &r, &bias)[0], 4.0);
        assert_eq!(step(product, &w, &r, &bias)[0], 3.625);
    }

    #[test]
    fn weights_that_do_not_fit_are_refused() {
        let mut g = Builder::new("test", Lowering::training(Target::Cpu));
        let x = g.input("x", TensorType::f32([3, 2, 4])).unwrap();
        let w = g.input("w", TensorType::f32([1, 20, 4])).unwrap();
        let r = g.input("r", TensorType::f32([1, 20, 5])).unwrap();
        let weights = RecurrentWeights { input: w, state: r, bias: None, peepholes: None };
        assert!(g.recurrent(x, &layer(Cell::Lstm, &[false]), weights, [None; 2]).is_ok());
        assert!(g.recurrent(x, &layer(Cell::Lstm, &[false, true]), weights, [None; 2]).is_err());
        let none = g.input("none", TensorType::f32([0, 2, 4])).unwrap();
        assert!(g.recurrent(none, &layer(Cell::Lstm, &[false]), weights, [None; 2]).is_err());
        assert!(g.recurrent(x, &layer(Cell::Gru, &[false]), weights, [None; 2]).is_err());
        assert!(g.recurrent(x, &layer(Cell::Lstm, &[false]), weights, [Some(x), None]).is_err());
    }
}
