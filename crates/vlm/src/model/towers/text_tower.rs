//! Texts to one vector each: the text towers of CLIP, of SigLIP and of the shipped model's regions.
//!
//! They differ in data only: whether a token sees what follows it, and which hidden state stands
//! for the text. It does not know how texts become ids.
//!
//! Shapes: `B` texts, `T` tokens, `D` hidden size, `E` width of the shared space.

use candle_core::{DType, Device, Tensor};

use crate::config::dual_encoder::{TextPooling, TextTowerConfig};
use crate::error::Error;
use crate::model::attention::{causal_mask, padding_mask};
use crate::model::encoder_layer::{CLIP, EncoderLayer, EncoderSizes};
use crate::model::loader::Loader;
use crate::model::nn::{Embedding, LayerNorm, Linear};

/// Where the parts lie in a checkpoint.
pub(in crate::model) struct TextTowerNames {
    pub tower: &'static str,
    pub projection: &'static str,
    pub projection_bias: bool,
}

/// A text encoder.
pub struct TextTower {
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<EncoderLayer>,
    final_layer_norm: LayerNorm,
    projection: Linear,
    is_causal: bool,
    pooling: TextPooling,
}

impl TextTower {
    pub(in crate::model) fn load(
        loader: &mut Loader,
        names: &TextTowerNames,
        config: &TextTowerConfig,
    ) -> Result<Self, Error> {
        let (d, eps) = (config.hidden_size, config.layer_norm_eps);
        let sizes = EncoderSizes {
            hidden_size: d,
            intermediate_size: config.intermediate_size,
            num_attention_heads: config.num_attention_heads,
            hidden_act: config.hidden_act,
            layer_norm_eps: eps,
        };
        let tower = names.tower;
        let tokens = format!("{tower}.embeddings.token_embedding");
        let positions = format!("{tower}.embeddings.position_embedding");
        let name = |i: usize| format!("{tower}.encoder.layers.{i}");
        let out = (config.projection_dim, d);
        Ok(TextTower {
            token_embedding: loader.embedding(&tokens, config.vocab_size, d)?,
            position_embedding: loader.embedding(&positions, config.max_position_embeddings, d)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| EncoderLayer::load(loader, &name(i), &CLIP, &sizes))
                .collect::<Result<_, Error>>()?,
            final_layer_norm: loader.layer_norm(&format!("{tower}.final_layer_norm"), d, eps)?,
            projection: loader.linear(names.projection, out, names.projection_bias)?,
            is_causal: config.is_causal,
            pooling: config.pooling,
        })
    }

    /// Positions that a text can have.
    pub fn n_positions(&self) -> Result<usize, Error> {
        Ok(self.position_embedding.weight.dims2()?.0)
    }

    /// Where the weights live.
    pub(in crate::model) fn device(&self) -> &Device {
        self.position_embedding.weight.device()
    }

    /// `input_ids (B, T)` u32, `mask (B, T)` 1 for a token and 0 for padding (all are tokens
    /// without one) → `(B, E)`. Errors when a text is longer than the positions.
    pub fn forward(&self, input_ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, Error> {
        let (_, t) = input_ids.dims2()?;
        let n_positions = self.n_positions()?;
        if t > n_positions {
            let expected = format!("(B, at most {n_positions})");
            let found = input_ids.dims().to_vec();
            return Err(Error::Shape { tensor: "input_ids", expected, found });
        }
        let positions = self.position_embedding.weight.dense()?.narrow(0, 0, t)?.unsqueeze(0)?;
        let mut x = self.token_embedding.forward(input_ids)?.broadcast_add(&positions)?;
        let hidden_keys = match (self.is_causal, mask) {
            // Padding comes last, so nothing that is pooled looks at it.
            (true, _) => causal_mask(t, 0, None, x.device())?,
            (false, Some(mask)) => Some(padding_mask(mask, t)?),
            (false, None) => None,
        };
        for layer in &self.layers {
            x = layer.forward(&x, hidden_keys.as_ref())?; // (B, T, D)
        }
        let x = self.final_layer_norm.forward(&x)?;
        Ok(self.projection.forward(&self.pool(&x, input_ids, mask)?)?) // (B, E)
    }

    /// `x (B, T, D)` → `(B, D)`
    fn pool(&self, x: &Tensor, input_ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, Error> {
        let (b, t, d) = x.dims3()?;
        let chosen = |choose: &dyn Fn(&[u32]) -> usize| -> Result<Tensor, Error> {
            let rows = input_ids.to_vec2::<u32>()?;
            let at = rows.iter().enumerate().map(|(i, row)| (i * t + choose(row)) as u32);
            let at = Tensor::from_vec(at.collect::<Vec<u32>>(), b, x.device())?;
            Ok(x.reshape((b * t, d))?.index_select(&at, 0)?) // (B, D)
        };
        match (self.pooling, mask) {
            // Without an end token the reference's argmax gives the first position.
            (TextPooling::EndToken(end), _) => {
                chosen(&|row| row.iter().position(|&id| id == end).unwrap_or(0))
            }
            (TextPooling::LargestId, _) => chosen(&|row| {
                let largest = row.iter().max();
                row.iter().position(|id| Some(id) == largest).unwrap_or(0)
            }),
            (TextPooling::Last, _) => chosen(&|row| row.len() - 1),
            (TextPooling::Mean, None) => Ok(x.mean(1)?),
            (TextPooling::Mean, Some(mask)) => {
                let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?; // (B, T, 1)
                let count = mask.sum(1)?.clamp(1f64, f64::INFINITY)?; // (B, 1)
                Ok(x.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&count)?)
            }
        }
    }
}
