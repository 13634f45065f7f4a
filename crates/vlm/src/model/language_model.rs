//! The decoder: Llama, Qwen2, Mistral and Qwen3, which differ in biases, windows and norms of
//! queries and keys.
//!
//! It receives embeddings, not token ids, so that image embeddings enter the same way as words.
//! It does not know where they came from, nor how the next token is chosen.
//!
//! Shapes: `B` batch, `T` new tokens, `S` keys seen, `D` hidden size, `H` heads, `Hkv` key and
//! value heads, `d` head size, `V` vocabulary, `k` deepstack layers.

use candle_core::Tensor;

use super::attention::{attend, causal_mask, merge_heads, split_heads};
use super::kv_cache::KvCache;
use super::loader::Loader;
use super::nn::{Activation, Attend, Embedding, Linear, Projections, RmsNorm, rope, swiglu};
use super::rotary::{Angles, Rotary};
use super::{Mask, Positions};
use crate::config::TextConfig;
use crate::error::Error;
use crate::probe::Probe;

/// The decoder and its output head.
pub struct LanguageModel {
    pub embed_tokens: Embedding,
    layers: Vec<DecoderLayer>,
    norm: RmsNorm,
    lm_head: Linear,
    rotary: Rotary,
    config: TextConfig,
}

/// What every layer of one forward pass shares.
struct Pass<'a> {
    angles: Angles,
    mask: &'a Mask<'a>,
}

impl LanguageModel {
    /// `tied`: the head is the token embedding, and the checkpoint has no `head` of its own.
    pub(super) fn load(
        loader: &mut Loader,
        (prefix, head): (&str, &str),
        config: &TextConfig,
        tied: bool,
    ) -> Result<Self, Error> {
        let (v, d) = (config.vocab_size, config.hidden_size);
        let embed_tokens = loader.token_embedding(&format!("{prefix}.embed_tokens"), v, d)?;
        let name = |i: usize| format!("{prefix}.layers.{i}");
        let layers = loader.decoder(|loader| {
            let layers = 0..config.num_hidden_layers;
            layers.map(|i| DecoderLayer::load(loader, &name(i), config)).collect::<Result<_, _>>()
        })?;
        let norm = loader.rms_norm(&format!("{prefix}.norm"), d, config.rms_norm_eps)?;
        let lm_head = match tied {
            false => loader.linear(head, (v, d), false)?,
            true => {
                let weight = embed_tokens.weight.clone();
                Linear { weight, bias: None, compute: loader.compute }
            }
        };
        let rotary = Rotary::new(config);
        Ok(LanguageModel { embed_tokens, layers, norm, lm_head, rotary, config: config.clone() })
    }

    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// `inputs_embeds (B, T, D)` → hidden states after the final norm `(B, T, D)`. Wider ones,
    /// `(B, T, D · (1 + k))`, hold what is added after each of the first `k` layers (deepstack).
    pub(super) fn forward(
        &self,
        inputs_embeds: &Tensor,
        (positions, mask): (&Positions, &Mask),
        mut cache: Option<&mut KvCache>,
        probe: &mut Probe,
    ) -> Result<Tensor, Error> {
        let (_, t, _) = inputs_embeds.dims3()?;
        let device = inputs_embeds.device();
        let n_past = cache.as_ref().map_or(0, |cache| cache.len());
        let angles = self.rotary.angles(positions, t, device)?;
        let pass = Pass { angles, mask };
        let full = causal_mask(t, n_past, None, device)?;
        let windowed = causal_mask(t, n_past, self.config.sliding_window, device)?;
        let (mut x, deepstack) = self.split(inputs_embeds)?;
        for (layer_idx, layer) in self.layers.iter().enumerate() {
            let causal = match self.config.window_of(layer_idx) {
                None => full.as_ref(),
                Some(_) => windowed.as_ref(),
            };
            let cache = cache.as_deref_mut().map(|cache| (layer_idx, cache));
            let (y, weights) =
                layer.forward(&x, (&pass, causal), cache, probe.wants_attention(layer_idx))?;
            if let Some(weights) = weights {
                probe.offer_attention(layer_idx, weights);
            }
            let y = match deepstack.get(layer_idx) {
                Some(more) => (y + more)?,
                None => y,
            };
            probe.offer_hidden(layer_idx, &y);
            x = y;
        }
        if let Some(cache) = cache {
            cache.advance(t);
        }
        Ok(self.norm.forward(&x)?) // (B, T, D)
    }

    /// `(B, T, D · (1 + k))` → `(B, T, D)`, and the rest in order.
    fn split(&self, inputs_embeds: &Tensor) -> Result<(Tensor, Vec<Tensor>), Error> {
        let (_, _, width) = inputs_embeds.dims3()?;
        let d = self.config.hidden_size;
        if width == d {
            return Ok((inputs_embeds.clone(), Vec::new()));
        }
        let part = |i: usize| inputs_embeds.narrow(2, i * d, d)?.contiguous();
        let rest = (1..width / d).map(part).collect::<candle_core::Result<_>>()?;
        Ok((part(0)?, rest))
    }

    /// `(…, D)` → `(…, V)`
    pub(super) fn logits(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        Ok(self.lm_head.forward(hidden)?)
    }
}

/// `x + attention(norm(x))`, then `x + swiglu(norm(x))`.
struct DecoderLayer {
    input_layernorm: RmsNorm,
    qkv_proj: Projections<3>,
    /// of queries and of keys, over `d`
    qk_norm: Option<[RmsNorm; 2]>,
    o_proj: Linear,
    post_attention_layernorm: RmsNorm,
    gate_up_proj: Projections<2>,
    down_proj: Linear,
    hidden_act: Activation,
    n_heads: usize,
    n_kv_heads: usize,
}

impl DecoderLayer {
    fn load(loader: &mut Loader, prefix: &str, config: &TextConfig) -> Result<Self, Error> {
        let (d, eps) = (config.hidden_size, config.rms_norm_eps);
        let q = config.num_attention_heads * config.head_dim;
        let kv = config.num_key_value_heads * config.head_dim;
        let wide = config.intermediate_size;
        let attn = format!("{prefix}.self_attn");
        let mlp = format!("{prefix}.mlp");
        let norm2 = format!("{prefix}.post_attention_layernorm");
        let qkv = [("q_proj", q), ("k_proj", kv), ("v_proj", kv)];
        let gate_up = [("gate_proj", wide), ("up_proj", wide)];
        let input_layernorm = loader.rms_norm(&format!("{prefix}.input_layernorm"), d, eps)?;
        let qkv_proj = loader.projections(&attn, qkv, (d, config.qkv_bias))?;
        let head_norm = |loader: &mut Loader, name: &str| {
            loader.rms_norm(&format!("{attn}.{name}"), config.head_dim, eps)
        };
        let qk_norm = match config.qk_norm {
            true => Some([head_norm(loader, "q_norm")?, head_norm(loader, "k_norm")?]),
            false => None,
        };
        Ok(DecoderLayer {
            input_layernorm,
            qkv_proj,
            qk_norm,
            o_proj: loader.linear(&format!("{attn}.o_proj"), (d, q), config.o_bias)?,
            post_attention_layernorm: loader.rms_norm(&norm2, d, eps)?,
            gate_up_proj: loader.projections(&mlp, gate_up, (d, config.mlp_bias))?,
            down_proj: loader.linear(&format!("{mlp}.down_proj"), (d, wide), config.mlp_bias)?,
            hidden_act: config.hidden_act,
            n_heads: config.num_attention_heads,
            n_kv_heads: config.num_key_value_heads,
        })
    }

    /// `x (B, T, D)` → `(B, T, D)` and, where asked for, weights `(B, H, rows, S)`.
    fn forward(
        &self,
        x: &Tensor,
        (pass, causal): (&Pass, Option<&Tensor>),
        cache: Option<(usize, &mut KvCache)>,
        rows: Option<crate::probe::Rows>,
    ) -> Result<(Tensor, Option<Tensor>), Error> {
        let h = self.input_layernorm.forward(x)?;
        let [q, k, v] = self.qkv_proj.forward(&h)?;
        let mut q = split_heads(&q, self.n_heads)?; // (B, H, T, d)
        let mut k = split_heads(&k, self.n_kv_heads)?; // (B, Hkv, T, d)
        let v = split_heads(&v, self.n_kv_heads)?;
        if let Some([q_norm, k_norm]) = &self.qk_norm {
            (q, k) = (q_norm.forward(&q)?, k_norm.forward(&k)?);
        }
        let q = rope(&q, &pass.angles.cos, &pass.angles.sin)?;
        let k = rope(&k, &pass.angles.cos, &pass.angles.sin)?;
        let (k, v) = match cache {
            Some((layer_idx, cache)) => cache.append(layer_idx, &k, &v)?, // (B, Hkv, S, d)
            None => (k, v),
        };
        let mask = match pass.mask {
            Mask::Causal => causal,
            Mask::Additive(mask) => Some(*mask),
        };
        let scale = 1.0 / (q.dim(3)? as f32).sqrt();
        let how = Attend { mask, scale, compute: self.qkv_proj.compute() };
        let (out, weights) = attend((&q, &k, &v), &how, rows)?;
        let x = (x + self.o_proj.forward(&merge_heads(&out)?)?)?;
        let h = self.post_attention_layernorm.forward(&x)?;
        let [gate, up] = self.gate_up_proj.forward(&h)?;
        let mlp = self.down_proj.forward(&swiglu(&gate, &up, self.hidden_act)?)?;
        Ok(((x + mlp)?, weights))
    }
}
