//! Positions -> rotary angles, with the stretchings of `rope_scaling`.
//!
//! Follows transformers' `modeling_rope_utils.py`. Angles are computed in f32 as there.

use candle_core::{Device, Tensor};

use super::super::Positions;
use crate::config::{RopeScaling, TextConfig};
use crate::error::Error;

/// Turns positions into the cosines and sines that `nn::rope` takes.
pub(super) struct RotaryEmbedding {
    head_dim: usize,
    theta: f64,
    max_position_embeddings: usize,
    scaling: RopeScaling,
}

impl RotaryEmbedding {
    pub(super) fn new(config: &TextConfig) -> Self {
        RotaryEmbedding {
            head_dim: config.head_dim,
            theta: config.rope_theta,
            max_position_embeddings: config.max_position_embeddings,
            scaling: config.rope_scaling.clone(),
        }
    }

    /// Cosines and sines `(B|1, T, d/2)` of `n_tokens` positions.
    pub(super) fn angles(
        &self,
        positions: &Positions,
        n_tokens: usize,
        device: &Device,
    ) -> Result<(Tensor, Tensor), Error> {
        let rows: Vec<Vec<u32>> = match positions {
            Positions::From(start) => {
                vec![(*start as u32..(*start + n_tokens) as u32).collect()]
            }
            Positions::Ids(ids) => ids.to_vec2()?,
        };
        if rows.iter().any(|row| row.len() != n_tokens) {
            let found = vec![rows.len(), rows.first().map_or(0, Vec::len)];
            let expected = format!("(B, {n_tokens})");
            return Err(Error::Shape { tensor: "positions", expected, found });
        }
        let longest = rows.iter().flatten().max().map_or(0, |last| *last as usize + 1);
        let frequencies = self.frequencies(longest);
        let dims = (rows.len(), n_tokens, frequencies.len());
        let angles: Vec<f32> = rows
            .iter()
            .flatten()
            .flat_map(|position| frequencies.iter().map(|f| *position as f32 * f))
            .collect();
        let cos = angles.iter().map(|angle| angle.cos()).collect();
        let sin = angles.iter().map(|angle| angle.sin()).collect();
        Ok((Tensor::from_vec(cos, dims, device)?, Tensor::from_vec(sin, dims, device)?))
    }

    /// Angle per position of each pair of elements, for a sequence of `length`.
    fn frequencies(&self, length: usize) -> Vec<f32> {
        let d = self.head_dim as f64;
        let base = match self.scaling {
            RopeScaling::Dynamic { factor } if length > self.max_position_embeddings => {
                let ratio = length as f64 / self.max_position_embeddings as f64;
                self.theta * (factor * ratio - (factor - 1.0)).powf(d / (d - 2.0))
            }
            _ => self.theta,
        };
        let plain = |i: usize| 1.0 / base.powf(2.0 * i as f64 / d);
        (0..self.head_dim / 2).map(|i| self.scaled(plain(i)) as f32).collect()
    }

    fn scaled(&self, frequency: f64) -> f64 {
        match self.scaling {
            RopeScaling::Default | RopeScaling::Dynamic { .. } => frequency,
            RopeScaling::Linear { factor } => frequency / factor,
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => {
                let turns = original_max_position_embeddings * frequency / std::f64::consts::TAU;
                let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                let smooth = smooth.clamp(0.0, 1.0);
                frequency * (smooth + (1.0 - smooth) / factor)
            }
        }
    }
}
