//! Rotary position embedding: which angles each position gets.
//!
//! Frequencies are those of `modeling_rope_utils` (default, linear, dynamic, llama3, yarn), in f32
//! as there; in three dimensions each turns by one of them (Qwen2-VL, section 2.1). It does not
//! rotate anything; `nn::rope` does.
//!
//! Shapes: `B` batch, `T` tokens, `P` patches, `d` head size.

use candle_core::{Device, Tensor};

use super::Positions;
use crate::config::{MultimodalRotary, RopeScaling, TextConfig, Yarn};
use crate::error::{Context, Error};

/// The frequencies of a decoder.
pub(super) struct Rotary {
    inv_freq: Vec<f32>,
    /// Which dimension of a position each frequency turns by.
    dimensions: Vec<usize>,
    theta: f64,
    head_dim: usize,
    /// factor and trained length of dynamic scaling
    dynamic: Option<(f64, usize)>,
    /// of cosines and sines
    scale: f32,
}

/// Cosines and sines, each `(B|1, T, d/2)`.
#[derive(Clone)]
pub(super) struct Angles {
    pub cos: Tensor,
    pub sin: Tensor,
}

impl Rotary {
    pub(super) fn new(config: &TextConfig) -> Self {
        let mut inv_freq = frequencies(config.rope_theta, config.head_dim);
        let (mut dynamic, mut scale) = (None, 1.0);
        match &config.rope_scaling {
            RopeScaling::Default => {}
            RopeScaling::Linear { factor } => {
                inv_freq.iter_mut().for_each(|f| *f /= *factor as f32);
            }
            RopeScaling::Dynamic { factor } => {
                dynamic = Some((*factor, config.max_position_embeddings));
            }
            RopeScaling::Llama3 { .. } => llama3(&mut inv_freq, &config.rope_scaling),
            RopeScaling::Yarn(scaling) => {
                scale = scaling.attention_factor as f32;
                yarn(&mut inv_freq, scaling, config.rope_theta);
            }
            RopeScaling::Factors(factors) => {
                inv_freq.iter_mut().zip(factors).for_each(|(f, factor)| *f /= *factor as f32);
            }
        }
        let (theta, head_dim) = (config.rope_theta, config.head_dim);
        let dimensions = match &config.multimodal_rotary {
            None => vec![0; inv_freq.len()],
            Some(multimodal) => dimensions(multimodal),
        };
        Rotary { inv_freq, dimensions, theta, head_dim, dynamic, scale }
    }

    /// The angles of `n_tokens` tokens at `positions`.
    pub(super) fn angles(
        &self,
        positions: &Positions,
        n_tokens: usize,
        device: &Device,
    ) -> Result<Angles, Error> {
        let (batch, positions) = match positions {
            Positions::From(first) => {
                (1, (*first..first + n_tokens).map(|p| p as u32).collect::<Vec<_>>())
            }
            Positions::Ids(ids) => (ids.dim(ids.rank() - 2)?, ids.flatten_all()?.to_vec1::<u32>()?),
        };
        let longest = positions.iter().max().map_or(0, |&p| p as usize + 1);
        let stretched = self.stretched(longest);
        let inv_freq = stretched.as_ref().unwrap_or(&self.inv_freq);
        // One row of positions for each dimension, or one for all.
        let n = batch * n_tokens;
        let turns = |token: usize| {
            let positions = &positions;
            let position = move |d: usize| positions[(d * n + token) % positions.len()] as f32;
            inv_freq.iter().zip(&self.dimensions).map(move |(f, &d)| position(d) * f)
        };
        let angles: Vec<f32> = (0..n).flat_map(turns).collect();
        Angles::new((&angles, self.scale), (batch, n_tokens, inv_freq.len()), device)
    }

    /// Dynamic scaling: a larger base once the sequence is longer than the model was trained for.
    fn stretched(&self, n_tokens: usize) -> Option<Vec<f32>> {
        let (factor, trained) = self.dynamic?;
        if n_tokens <= trained {
            return None;
        }
        let growth = factor * n_tokens as f64 / trained as f64 - (factor - 1.0);
        let d = self.head_dim as f64;
        Some(frequencies(self.theta * growth.powf(d / (d - 2.0)), self.head_dim))
    }
}

impl Angles {
    /// Cosines and sines, each times `scale`.
    fn new(
        (angles, scale): (&[f32], f32),
        dims: (usize, usize, usize),
        device: &Device,
    ) -> Result<Self, Error> {
        let cos: Vec<f32> = angles.iter().map(|angle| angle.cos() * scale).collect();
        let sin: Vec<f32> = angles.iter().map(|angle| angle.sin() * scale).collect();
        Ok(Angles {
            cos: Tensor::from_vec(cos, dims, device).context("rotary cosines")?,
            sin: Tensor::from_vec(sin, dims, device).context("rotary sines")?,
        })
    }

    /// Of patches at `(row, column)`, `(1, P, d/2)`: half the frequencies turn by the row, half by
    /// the column (`VisionRotaryEmbedding` of `modeling_qwen2_vl.py`).
    pub(super) fn planar(
        places: &[(usize, usize)],
        head_dim: usize,
        device: &Device,
    ) -> Result<Self, Error> {
        let inv_freq = frequencies(10_000.0, head_dim / 2);
        let turn = |at: usize| inv_freq.iter().map(move |f| at as f32 * f);
        let turns = places.iter().flat_map(|&(row, col)| turn(row).chain(turn(col)));
        let angles: Vec<f32> = turns.collect();
        Angles::new((&angles, 1.0), (1, places.len(), head_dim / 2), device)
    }

    /// Those of `n` rows of `t` tokens from token `first` on, `(n, t, d/2)`.
    pub(super) fn rows(&self, first: usize, (n, t): (usize, usize)) -> Result<Self, Error> {
        let cut = |all: &Tensor| {
            let d = all.dim(2)?;
            all.narrow(1, first, n * t)?.reshape((n, t, d))
        };
        Ok(Angles { cos: cut(&self.cos)?, sin: cut(&self.sin)? })
    }
}

/// Time first, then height, then width; or in turns while height and width have any left, as
/// `apply_interleaved_mrope` of `modeling_qwen3_vl.py` lays them out.
fn dimensions(multimodal: &MultimodalRotary) -> Vec<usize> {
    let sections = multimodal.mrope_section;
    let all = sections.iter().sum();
    if multimodal.interleaved {
        let turn = |i: usize| if i < 3 * sections[i % 3] { i % 3 } else { 0 };
        return (0..all).map(turn).collect();
    }
    let runs = sections.iter().enumerate();
    runs.flat_map(|(dimension, &n)| std::iter::repeat_n(dimension, n)).collect()
}

/// `1 / theta^(2i/d)`, `(d/2)`
fn frequencies(theta: f64, head_dim: usize) -> Vec<f32> {
    let exponent = |i: usize| (2 * i) as f32 / head_dim as f32;
    (0..head_dim / 2).map(|i| 1.0 / (theta as f32).powf(exponent(i))).collect()
}

/// Llama 3.1: long wavelengths are divided by `factor`, short ones kept, the rest blended.
fn llama3(inv_freq: &mut [f32], scaling: &RopeScaling) {
    let &RopeScaling::Llama3 {
        factor,
        low_freq_factor,
        high_freq_factor,
        original_max_position_embeddings: trained,
    } = scaling
    else {
        return;
    };
    for f in inv_freq {
        let frequency = f64::from(*f);
        let wavelength = std::f64::consts::TAU / frequency;
        if wavelength > trained / low_freq_factor {
            *f = (frequency / factor) as f32;
        } else if wavelength >= trained / high_freq_factor {
            let smooth =
                (trained / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
            *f = ((1.0 - smooth) * frequency / factor + smooth * frequency) as f32;
        }
    }
}

/// YaRN: frequencies that turn less than `beta_slow` times over the trained length are divided by
/// `factor`, those that turn more than `beta_fast` times kept, those between blended.
fn yarn(inv_freq: &mut [f32], scaling: &Yarn, theta: f64) {
    let d = 2.0 * inv_freq.len() as f64;
    let trained = scaling.original_max_position_embeddings;
    let dimension =
        |turns: f64| d * (trained / (turns * std::f64::consts::TAU)).ln() / (2.0 * theta.ln());
    let (mut low, mut high) = (dimension(scaling.beta_fast), dimension(scaling.beta_slow));
    if scaling.truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    let (low, high) = (low.max(0.0), high.min(d - 1.0));
    let width = if high == low { 0.001 } else { high - low };
    for (i, f) in inv_freq.iter_mut().enumerate() {
        let divided = ((i as f64 - low) / width).clamp(0.0, 1.0);
        let frequency = f64::from(*f);
        *f = (frequency / scaling.factor * divided + frequency * (1.0 - divided)) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_follow_each_other_or_take_turns() {
        let rows = [
            ([2, 3, 3], false, vec![0, 0, 1, 1, 1, 2, 2, 2]),
            ([4, 2, 2], true, vec![0, 1, 2, 0, 1, 2, 0, 0]),
            ([2, 3, 3], true, vec![0, 1, 2, 0, 1, 2, 0, 1]),
        ];
        for (mrope_section, interleaved, expected) in rows {
            let multimodal = MultimodalRotary { mrope_section, interleaved };
            assert_eq!(dimensions(&multimodal), expected, "{mrope_section:?} {interleaved}");
        }
    }
}
