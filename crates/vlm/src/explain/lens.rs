//! Image tokens read as words: the final norm and the output head on their hidden states (logit
//! lens, nostalgebraist 2020; on image tokens Neo et al., arXiv 2410.07149).
//!
//! The states are kept once, when the prompt is read, so that a word costs one product per image
//! token. A shipped model was trained to name the thing under each token in what its first layer
//! reads; for others a calibration says which layer tells most.
//!
//! Shapes: `T` tokens of a forward, `N` image tokens, `D` hidden size, `V` vocabulary.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use crate::{Error, Vlm};

/// Memory for states at most, so that an answer's evidence stays within 32 MiB; without room for
/// all of a prompt's image tokens the later ones are not read.
const MAX_BYTES: usize = 16 << 20;
/// A state is a sink where a dimension in which the first token stands out is this many times the
/// state's root mean square (arXiv 2503.03321).
const SINK: f32 = 20.0;
/// Multiplications for the exact normaliser of the states read at once; above it is estimated.
const EXACT: usize = 400_000_000;
/// Words that an estimate looks at.
const SAMPLED: usize = 512;

/// What is kept of the image tokens of a cache.
#[derive(Debug)]
pub struct Lens {
    layer: usize,
    /// By position in the prompt.
    states: BTreeMap<usize, State>,
    sink_dims: Vec<usize>,
}

#[derive(Debug)]
struct State {
    /// `(D)`, after the final norm.
    normed: Vec<f32>,
    /// The logarithm of the softmax's sum over the vocabulary.
    log_norm: f32,
    sink: bool,
}

impl Lens {
    /// Of layer `layer`: see `Calibration::lens_layer`.
    pub fn new(layer: usize) -> Lens {
        Lens { layer, states: BTreeMap::new(), sink_dims: Vec::new() }
    }

    /// The decoder layer to probe; `None` when the lens reads what the first layer does.
    pub fn probed_layer(&self) -> Option<usize> {
        self.layer.checked_sub(1)
    }

    /// Forgets what is at position `len` and after.
    pub fn truncate(&mut self, len: usize) {
        self.states.split_off(&len);
    }

    /// Keeps those of `positions` that `hidden (1, T, D)`, the states from position `from` on,
    /// holds. Wider ones, as with deepstack, begin with what is wanted.
    pub fn read(
        &mut self,
        vlm: &Vlm,
        (hidden, from): (&Tensor, usize),
        positions: &[usize],
    ) -> Result<(), Error> {
        let (_, t, _) = hidden.dims3()?;
        let d = vlm.config.text_config.hidden_size;
        if from == 0 {
            self.sink_dims = outstanding(&rows(hidden, &[0], d)?[0]);
        }
        let room = (MAX_BYTES / 4 / d.max(1)).saturating_sub(self.states.len());
        let new = positions.iter().copied();
        let new = new.filter(|at| (from..from + t).contains(at) && !self.states.contains_key(at));
        let new: Vec<usize> = new.take(room).collect();
        if new.is_empty() {
            return Ok(());
        }
        let at: Vec<u32> = new.iter().map(|&position| (position - from) as u32).collect();
        let raw = rows(hidden, &at, d)?;
        let index = Tensor::from_slice(&at, at.len(), hidden.device())?;
        let states = hidden.squeeze(0)?.narrow(1, 0, d)?.contiguous()?.index_select(&index, 0)?;
        let normed = vlm.language_model.normed(&states)?; // (N, D)
        let log_norms = log_norms(vlm, &normed)?;
        let normed = normed.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        for (((position, raw), normed), log_norm) in new.iter().zip(raw).zip(normed).zip(log_norms)
        {
            let sink = is_sink(&raw, &self.sink_dims);
            self.states.insert(*position, State { normed, log_norm, sink });
        }
        Ok(())
    }

    /// The log probability of `token` as the word at each of `positions`, `(N)`; `None` when not
    /// all of them were read.
    pub fn log_probabilities(
        &self,
        vlm: &Vlm,
        token: u32,
        positions: &[usize],
    ) -> Result<Option<Vec<f32>>, Error> {
        let read = positions.iter().all(|position| self.states.contains_key(position));
        if !read || positions.is_empty() {
            return Ok(None);
        }
        let word = vlm.language_model.head_rows(&[token])?.to_dtype(DType::F32)?;
        let word = word.flatten_all()?.to_vec1::<f32>()?; // (D)
        let value = |position: &usize| {
            let state = &self.states[position];
            let dot: f32 = state.normed.iter().zip(&word).map(|(a, b)| a * b).sum();
            dot - state.log_norm
        };
        Ok(Some(positions.iter().map(value).collect()))
    }

    /// Whether each of `positions` is a sink, `(N)`.
    pub fn sinks(&self, positions: &[usize]) -> Vec<bool> {
        let is_sink = |position| self.states.get(position).is_some_and(|state| state.sink);
        positions.iter().map(is_sink).collect()
    }
}

/// Rows `at` of `hidden (1, T, D · (1 + k))`, the first `d` numbers of each.
fn rows(hidden: &Tensor, at: &[u32], d: usize) -> Result<Vec<Vec<f32>>, Error> {
    let at = Tensor::from_slice(at, at.len(), hidden.device())?;
    let rows = hidden.squeeze(0)?.index_select(&at, 0)?.narrow(1, 0, d)?;
    Ok(rows.to_dtype(DType::F32)?.to_vec2::<f32>()?)
}

/// `(N)`: the logarithm of each state's softmax sum, exact or estimated from a sample of words.
fn log_norms(vlm: &Vlm, normed: &Tensor) -> Result<Vec<f32>, Error> {
    let (n, d) = normed.dims2()?;
    let v = vlm.config.text_config.vocab_size;
    let (logits, missing) = if n * d * v <= EXACT {
        (vlm.logits(normed)?, 0.0)
    } else {
        let step = v.div_ceil(SAMPLED);
        let ids: Vec<u32> = (0..v).step_by(step).map(|id| id as u32).collect();
        let head = vlm.language_model.head_rows(&ids)?.to_dtype(normed.dtype())?;
        (normed.matmul(&head.t()?)?, (v as f32 / ids.len() as f32).ln())
    }; // (N, V)
    let logits = logits.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    Ok(logits.iter().map(|row| kernels::loss::log_sum_exp(row) + missing).collect())
}

/// The dimensions in which a state stands out.
fn outstanding(state: &[f32]) -> Vec<usize> {
    let scale = root_mean_square(state);
    let all = state.iter().enumerate();
    all.filter(|(_, value)| value.abs() >= SINK * scale).map(|(dim, _)| dim).collect()
}

fn is_sink(state: &[f32], dims: &[usize]) -> bool {
    let scale = root_mean_square(state);
    dims.iter().any(|&dim| state.get(dim).is_some_and(|value| value.abs() >= SINK * scale))
}

fn root_mean_square(state: &[f32]) -> f32 {
    let sum: f32 = state.iter().map(|value| value * value).sum();
    (sum / state.len().max(1) as f32).sqrt().max(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_stands_out_where_the_first_token_does() {
        let mut first = vec![1.0; 1000];
        first[7] = 900.0;
        let dims = outstanding(&first);
        assert_eq!(dims, [7]);
        let mut other = vec![1.0; 1000];
        assert!(!is_sink(&other, &dims));
        other[8] = 900.0;
        assert!(!is_sink(&other, &dims));
        other[7] = -900.0;
        assert!(is_sink(&other, &dims));
    }
}
