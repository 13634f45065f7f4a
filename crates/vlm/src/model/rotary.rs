//! Rotary position embedding: which angles each position gets.
//!
//! Frequencies are those of `modeling_rope_utils` (default, linear, dynamic, llama3), in f32 as
//! there. It does not rotate anything; `nn::rope` does.
//!
//! Shapes: `B` batch, `T` tokens, `d` head size.

use candle_core::{Device, Tensor};

use super::Positions;
use crate::config::{RopeScaling, TextConfig};
use crate::error::{Context, Error};

/// The frequencies of a decoder.
pub(super) struct Rotary {
    inv_freq: Vec<f32>,
    theta: f64,
    head_dim: usize,
    /// factor and trained length of dynamic scaling
    dynamic: Option<(f64, usize)>,
}

/// Cosines and sines, each `(B|1, T, d/2)`.
pub(super) struct Angles {
    pub cos: Tensor,
    pub sin: Tensor,
}

impl Rotary {
    pub(super) fn new(config: &TextConfig) -> Self {
        let mut inv_freq = frequencies(config.rope_theta, config.head_dim);
        let mut dynamic = None;
        match &config.rope_scaling {
            RopeScaling::Default => {}
            RopeScaling::Linear { factor } => {
                inv_freq.iter_mut().for_each(|f| *f /= *factor as f32);
            }
            RopeScaling::Dynamic { factor } => {
                dynamic = Some((*factor, config.max_position_embeddings));
            }
            RopeScaling::Llama3 { .. } => llama3(&mut inv_freq, &config.rope_scaling),
            RopeScaling::Factors(factors) => {
                inv_freq.iter_mut().zip(factors).for_each(|(f, factor)| *f /= *factor as f32);
            }
        }
        Rotary { inv_freq, theta: config.rope_theta, head_dim: config.head_dim, dynamic }
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
            Positions::Ids(ids) => (ids.dim(0)?, ids.flatten_all()?.to_vec1::<u32>()?),
        };
        let longest = positions.iter().max().map_or(0, |&p| p as usize + 1);
        let stretched = self.stretched(longest);
        let inv_freq = stretched.as_ref().unwrap_or(&self.inv_freq);
        let angles = || positions.iter().flat_map(|&p| inv_freq.iter().map(move |f| p as f32 * f));
        let dims = (batch, n_tokens, inv_freq.len());
        let cos: Vec<f32> = angles().map(f32::cos).collect();
        let sin: Vec<f32> = angles().map(f32::sin).collect();
        Ok(Angles {
            cos: Tensor::from_vec(cos, dims, device).context("rotary cosines")?,
            sin: Tensor::from_vec(sin, dims, device).context("rotary sines")?,
        })
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
