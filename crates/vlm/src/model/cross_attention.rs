//! Decoder layers that look at pictures instead of the text before (Llama-3.2-Vision).
//!
//! What they look at does not change while a text is read: its keys and values are computed once
//! and kept in the `KvCache`, with which rows of text see which of them. A row that sees no picture
//! spreads its attention over everything and skips the MLP, as in `modeling_mllama.py`. It does not
//! know how pictures became states.
//!
//! Shapes: `B` batch, `T` new tokens, `S` cross-attention states, `D` hidden size, `H` heads, `Hkv`
//! key and value heads, `d` head size.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::Vlm;
use super::attention::{MASKED, attend};
use super::gate::Gate;
use super::kv_cache::KvCache;
use super::loader::Loader;
use super::mlp::Mlp;
use super::nn::{Attend, Linear, Projections, RmsNorm};
use super::nn::{merge_heads, split_heads};
use crate::config::TextConfig;
use crate::error::{Context, Error};
use crate::probe::Rows;
use crate::processor::Visible;

/// What the cross-attention layers of one conversation, or of a batch of them, see.
#[derive(Clone)]
pub(super) struct CrossAttentionStates {
    /// Keys and values `(B, Hkv, S, d)` of each such layer.
    layers: BTreeMap<usize, (Tensor, Tensor)>,
    /// For each of the batch.
    visible: Vec<Vec<Visible>>,
}

/// What is different for each row of text.
pub(super) struct CrossAttentionMask {
    /// additive, `(B, 1, T, S)`; `None` when every row sees everything
    mask: Option<Tensor>,
    /// 1 for rows that see a picture and 0 for others, `(B, T, 1)`; `None` when all do
    /// (`full_text_row_masked_out_mask`).
    sees: Option<Tensor>,
}

impl CrossAttentionStates {
    /// What `layers`, by their index, see: `states (B, S, D)`.
    pub fn new<'a>(
        layers: impl Iterator<Item = (usize, &'a CrossAttentionLayer)>,
        states: &Tensor,
    ) -> Result<Self, Error> {
        let layers = layers.map(|(layer_idx, layer)| Ok((layer_idx, layer.look_at(states)?)));
        let layers = layers.collect::<Result<_, Error>>()?;
        Ok(CrossAttentionStates { layers, visible: vec![Vec::new(); states.dim(0)?] })
    }

    /// Keys and values of a layer.
    pub fn layer(&self, layer_idx: usize) -> Option<&(Tensor, Tensor)> {
        self.layers.get(&layer_idx)
    }

    /// The mask of `n_new` rows after `n_past`.
    pub fn mask(
        &self,
        n_new: usize,
        n_past: usize,
        device: &Device,
    ) -> Result<CrossAttentionMask, Error> {
        let n_states = self.layers.values().next().map_or(Ok(0), |(keys, _)| keys.dim(2))?;
        let b = self.visible.len();
        let mut mask = vec![MASKED; b * n_new * n_states];
        let mut sees = vec![0f32; b * n_new];
        for (i, row) in mask.chunks_exact_mut(n_states.max(1)).enumerate() {
            let token = n_past + i % n_new;
            for visible in self.visible[i / n_new].iter().filter(|v| v.tokens.contains(&token)) {
                if let Some(states) = row.get_mut(visible.states.clone()) {
                    states.fill(0.0);
                    sees[i] = 1.0;
                }
            }
            if sees[i] == 0.0 {
                row.fill(0.0);
            }
        }
        let all_visible = mask.iter().all(|&hidden| hidden == 0.0);
        let all_see = sees.iter().all(|&sees| sees == 1.0);
        let tensor = |values, dims: &[usize]| {
            Tensor::from_vec(values, dims, device).context("cross-attention mask")
        };
        Ok(CrossAttentionMask {
            mask: (!all_visible).then(|| tensor(mask, &[b, 1, n_new, n_states])).transpose()?,
            sees: (!all_see).then(|| tensor(sees, &[b, n_new, 1])).transpose()?,
        })
    }
}

impl Vlm {
    /// What the decoder reads of prompts of equal length, `input_ids (B · T)` → `(B, T, D)`: what
    /// [`Vlm::pack`] gave for their pictures stands among the words; or, where pictures are seen by
    /// layers of their own, the words alone, and what those layers see is set in `cache`.
    /// `visible`: the `cross_attention_mask` of each prompt.
    ///
    /// Errors: as [`Vlm::merge`]; prompts with more cross-attention states than others.
    pub fn fuse(
        &self,
        input_ids: &[u32],
        packed: &Tensor,
        visible: Vec<Vec<Visible>>,
        cache: &mut KvCache,
    ) -> Result<Tensor, Error> {
        let (b, d) = (visible.len().max(1), self.config.text_config.hidden_size);
        if !self.config.text_config.has_cross_attention() {
            return self.merge_batch(input_ids, b, packed);
        }
        self.look_at(cache, &packed.reshape((b, (), d)).context("one state after another")?)?;
        cache.set_visible(visible);
        let ids = Tensor::from_slice(input_ids, input_ids.len(), self.device())?;
        self.embed_tokens(&ids.reshape((b, ())).context("prompts of equal length")?)
    }

    /// Sets what the cross-attention layers see, for each of a batch: `states (B, S, D)`. Keys and
    /// values are computed here and stay in `cache` until it is cleared or others are set.
    ///
    /// Errors: states of another width.
    pub fn look_at(&self, cache: &mut KvCache, states: &Tensor) -> Result<(), Error> {
        let d = self.config.text_config.hidden_size;
        if !matches!(states.dims3(), Ok((_, _, found)) if found == d) {
            let (expected, found) = (format!("(B, S, {d})"), states.dims().to_vec());
            return Err(Error::Shape { tensor: "cross_attention_states", expected, found });
        }
        cache.cross_attention = Some(self.language_model.look_at(states)?);
        Ok(())
    }
}

impl KvCache {
    /// Says for each of the batch which rows of text see which states; without states nothing.
    pub fn set_visible(&mut self, visible: Vec<Vec<Visible>>) {
        if let Some(states) = &mut self.cross_attention {
            states.visible = visible;
        }
    }

    /// Forgets every picture.
    pub fn look_away(&mut self) {
        self.cross_attention = None;
    }
}

/// `x + gate · attention(norm(x), states)`, then `x + gate · mlp(norm(x))`.
pub(super) struct CrossAttentionLayer {
    input_layernorm: RmsNorm,
    q_proj: Linear,
    kv_proj: Projections<2>,
    o_proj: Linear,
    q_norm: RmsNorm,
    k_norm: RmsNorm,
    attn_gate: Gate,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
    mlp_gate: Gate,
    n_heads: usize,
    n_kv_heads: usize,
}

impl CrossAttentionLayer {
    pub fn load(loader: &mut Loader, prefix: &str, config: &TextConfig) -> Result<Self, Error> {
        let (d, eps, head_dim) = (config.hidden_size, config.rms_norm_eps, config.head_dim);
        let (q, kv) =
            (config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim);
        let attn = format!("{prefix}.cross_attn");
        let norm2 = format!("{prefix}.post_attention_layernorm");
        Ok(CrossAttentionLayer {
            input_layernorm: loader.rms_norm(&format!("{prefix}.input_layernorm"), d, eps)?,
            q_proj: loader.linear(&format!("{attn}.q_proj"), (q, d), false)?,
            kv_proj: loader.projections(&attn, [("k_proj", kv), ("v_proj", kv)], (d, false))?,
            o_proj: loader.linear(&format!("{attn}.o_proj"), (d, q), false)?,
            q_norm: loader.rms_norm(&format!("{attn}.q_norm"), head_dim, eps)?,
            k_norm: loader.rms_norm(&format!("{attn}.k_norm"), head_dim, eps)?,
            attn_gate: Gate::load(loader, &format!("{prefix}.cross_attn_attn_gate"))?,
            post_attention_layernorm: loader.rms_norm(&norm2, d, eps)?,
            mlp: Mlp::load(loader, prefix, config)?,
            mlp_gate: Gate::load(loader, &format!("{prefix}.cross_attn_mlp_gate"))?,
            n_heads: config.num_attention_heads,
            n_kv_heads: config.num_key_value_heads,
        })
    }

    /// `states (B, S, D)` → keys and values `(B, Hkv, S, d)`
    fn look_at(&self, states: &Tensor) -> Result<(Tensor, Tensor), Error> {
        let [k, v] = self.kv_proj.forward(states)?;
        let k = self.k_norm.forward(&split_heads(&k, self.n_kv_heads)?)?;
        Ok((k, split_heads(&v, self.n_kv_heads)?))
    }

    /// `x (B, T, D)`, keys and values `(B, Hkv, S, d)` → `(B, T, D)` and, where asked for, weights
    /// `(B, H, rows, S)`.
    pub fn forward(
        &self,
        x: &Tensor,
        (k, v): &(Tensor, Tensor),
        seen: &CrossAttentionMask,
        rows: Option<Rows>,
    ) -> Result<(Tensor, Option<Tensor>), Error> {
        let q = self.q_proj.forward(&self.input_layernorm.forward(x)?)?;
        let q = self.q_norm.forward(&split_heads(&q, self.n_heads)?)?; // (B, H, T, d)
        let scale = 1.0 / (q.dim(3)? as f32).sqrt();
        let how = Attend { mask: seen.mask.as_ref(), scale, compute: self.q_proj.compute };
        let (out, weights) = attend((&q, k, v), &how, rows)?;
        let out = self.o_proj.forward(&merge_heads(&out)?)?; // (B, T, D)
        let x = (x + self.attn_gate.forward(&out)?)?;
        let mut mlp = self.mlp.forward(&self.post_attention_layernorm.forward(&x)?)?;
        if let Some(sees) = &seen.sees {
            mlp = mlp.broadcast_mul(sees)?;
        }
        Ok(((x + self.mlp_gate.forward(&mlp)?)?, weights))
    }
}
