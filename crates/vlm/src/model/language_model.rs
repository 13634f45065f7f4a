//! The decoder: Llama, Qwen2, Mistral and Qwen3, which differ in biases, windows and norms of
//! queries and keys, OPT, which has other norms, positions and MLPs, and that of Llama-3.2-Vision,
//! with layers between that look at pictures.
//!
//! It receives embeddings, not token ids, so that image embeddings enter the same way as words.
//! It does not know where they came from, nor how the next token is chosen.
//!
//! Shapes: `B` batch, `T` new tokens, `S` keys seen, `D` hidden size, `H` heads, `Hkv` key and
//! value heads, `d` head size, `V` vocabulary, `k` deepstack layers.

use candle_core::{Device, Tensor};

use super::attention::{attend, causal_mask};
use super::cross_attention::{CrossAttentionLayer, CrossAttentionStates};
use super::kv_cache::KvCache;
use super::loader::Loader;
use super::mlp::Mlp;
use super::nn::{Attend, Embedding, Linear, Norm, Projections, RmsNorm, rope};
use super::nn::{merge_heads, split_heads};
use super::rotary::{Angles, Rotary};
use super::{Mask, Positions};
use crate::config::{TextConfig, TextKind};
use crate::error::Error;
use crate::probe::Probe;

/// The decoder and its output head.
pub struct LanguageModel {
    pub embed_tokens: Embedding,
    layers: Vec<Layer>,
    norm: Norm,
    lm_head: Linear,
    positions: PositionEmbedding,
    config: TextConfig,
}

enum Layer {
    SelfAttention(DecoderLayer),
    CrossAttention(CrossAttentionLayer),
}

impl Layer {
    fn load(
        loader: &mut Loader,
        prefix: &str,
        layer_idx: usize,
        config: &TextConfig,
    ) -> Result<Self, Error> {
        let prefix = format!("{prefix}.layers.{layer_idx}");
        match config.cross_attention_layers.contains(&layer_idx) {
            false => Ok(Layer::SelfAttention(DecoderLayer::load(loader, &prefix, config)?)),
            true => Ok(Layer::CrossAttention(CrossAttentionLayer::load(loader, &prefix, config)?)),
        }
    }
}

/// How tokens know their place.
enum PositionEmbedding {
    Rotary(Rotary),
    /// Added to the embeddings, `(OPT_OFFSET + positions, D)`.
    Learned(Embedding),
}

/// Rows of OPT's position table before that of position 0 (`OPTLearnedPositionalEmbedding`).
const OPT_OFFSET: usize = 2;

/// Names of the parts that decoders call differently.
struct Names {
    input_norm: &'static str,
    o_proj: &'static str,
    mlp_norm: &'static str,
    last_norm: &'static str,
}

impl Names {
    const LLAMA: Names = Names {
        input_norm: "input_layernorm",
        o_proj: "o_proj",
        mlp_norm: "post_attention_layernorm",
        last_norm: "norm",
    };
    const OPT: Names = Names {
        input_norm: "self_attn_layer_norm",
        o_proj: "out_proj",
        mlp_norm: "final_layer_norm",
        last_norm: "final_layer_norm",
    };

    fn of(config: &TextConfig) -> &'static Names {
        match config.kind {
            TextKind::Llama => &Names::LLAMA,
            TextKind::Opt => &Names::OPT,
        }
    }
}

/// What every layer of one forward pass shares.
struct Pass {
    /// where positions are rotary
    angles: Option<Angles>,
    /// Which keys are seen: by layers that see all that is before, and through a sliding window.
    full: Option<Tensor>,
    windowed: Option<Tensor>,
}

impl Pass {
    /// `t` tokens after `n_past`.
    fn new(
        angles: Option<Angles>,
        mask: &Mask,
        (t, n_past): (usize, usize),
        (window, device): (Option<usize>, &Device),
    ) -> Result<Pass, Error> {
        let (full, windowed) = match mask {
            Mask::Causal => {
                (causal_mask(t, n_past, None, device)?, causal_mask(t, n_past, window, device)?)
            }
            Mask::Additive(mask) => (Some((*mask).clone()), Some((*mask).clone())),
            Mask::Windowed { full, windowed } => (Some((*full).clone()), Some((*windowed).clone())),
        };
        Ok(Pass { angles, full, windowed })
    }
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
        let n_rows = config.n_embeddings();
        let embed_tokens = loader.token_embedding(&format!("{prefix}.embed_tokens"), n_rows, d)?;
        let layers = loader.decoder(|loader| {
            let layers = 0..config.num_hidden_layers;
            layers.map(|i| Layer::load(loader, prefix, i, config)).collect::<Result<_, _>>()
        })?;
        let last_norm = format!("{prefix}.{}", Names::of(config).last_norm);
        let how = (config.kind == TextKind::Llama, config.rms_norm_eps);
        let norm = loader.norm(&last_norm, d, how)?;
        let lm_head = match tied {
            false => loader.linear(head, (v, d), false)?,
            true => {
                let weight = embed_tokens.weight.clone();
                Linear { weight, bias: None, compute: loader.compute, adapters: Vec::new() }
            }
        };
        let positions = match config.kind {
            TextKind::Llama => PositionEmbedding::Rotary(Rotary::new(config)),
            TextKind::Opt => {
                let rows = OPT_OFFSET + config.max_position_embeddings;
                let name = format!("{prefix}.embed_positions");
                PositionEmbedding::Learned(loader.embedding(&name, rows, d)?)
            }
        };
        let config = config.clone();
        Ok(LanguageModel { embed_tokens, layers, norm, lm_head, positions, config })
    }

    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// What the cross-attention layers make of `states (B, S, D)`.
    pub(super) fn look_at(&self, states: &Tensor) -> Result<CrossAttentionStates, Error> {
        let layers = self.layers.iter().enumerate().filter_map(|(layer_idx, layer)| match layer {
            Layer::SelfAttention(_) => None,
            Layer::CrossAttention(layer) => Some((layer_idx, layer)),
        });
        CrossAttentionStates::new(layers, states)
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
        let (inputs_embeds, deepstack) = self.split(inputs_embeds)?;
        let (mut x, angles) = self.place(&inputs_embeds, positions)?;
        let window = (self.config.sliding_window, device);
        let pass = Pass::new(angles, mask, (t, n_past), window)?;
        let states = cache.as_ref().and_then(|cache| cache.cross_attention.clone());
        let seen = states.as_ref().map(|states| states.mask(t, n_past, device)).transpose()?;
        for (layer_idx, layer) in self.layers.iter().enumerate() {
            let mask = match self.config.window_of(layer_idx) {
                None => pass.full.as_ref(),
                Some(_) => pass.windowed.as_ref(),
            };
            let rows = probe.wants_attention(layer_idx);
            let (y, weights) = match layer {
                Layer::SelfAttention(layer) => {
                    let cache = cache.as_deref_mut().map(|cache| (layer_idx, cache));
                    layer.forward(&x, (&pass, mask), cache, rows)?
                }
                Layer::CrossAttention(layer) => {
                    let states = states.as_ref().and_then(|states| states.layer(layer_idx));
                    match states.zip(seen.as_ref()) {
                        Some((states, seen)) => layer.forward(&x, states, seen, rows)?,
                        None => continue, // without pictures it is left out
                    }
                }
            };
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

    /// What the first layer reads, `(B, T, D)`, and the angles of rotary positions.
    fn place(
        &self,
        inputs_embeds: &Tensor,
        positions: &Positions,
    ) -> Result<(Tensor, Option<Angles>), Error> {
        let (_, t, _) = inputs_embeds.dims3()?;
        let device = inputs_embeds.device();
        match &self.positions {
            PositionEmbedding::Rotary(rotary) => {
                Ok((inputs_embeds.clone(), Some(rotary.angles(positions, t, device)?)))
            }
            PositionEmbedding::Learned(table) => {
                let rows = match positions {
                    Positions::From(first) => {
                        let first = (first + OPT_OFFSET) as u32;
                        Tensor::arange(first, first + t as u32, device)?.unsqueeze(0)?
                    }
                    Positions::Ids(ids) => (*ids + OPT_OFFSET as f64)?,
                }; // (B|1, T)
                Ok((inputs_embeds.broadcast_add(&table.forward(&rows)?)?, None))
            }
        }
    }

    /// The final norm of states of any layer, `(…, D)`
    pub(crate) fn normed(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        Ok(self.norm.forward(hidden)?)
    }

    /// The head's rows of some words, `(ids, D)`: their products with a state are its logits.
    pub(crate) fn head_rows(&self, ids: &[u32]) -> Result<Tensor, Error> {
        let rows = Embedding { weight: self.lm_head.weight.clone() };
        let ids = Tensor::from_slice(ids, ids.len(), self.lm_head.weight.device())?;
        Ok(rows.forward(&ids)?)
    }

    /// `(…, D)` → `(…, V)`
    pub(super) fn logits(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        Ok(self.lm_head.forward(hidden)?)
    }
}

/// `x + attention(norm(x))`, then `x + mlp(norm(x))`.
struct DecoderLayer {
    input_layernorm: Norm,
    qkv_proj: Projections<3>,
    /// of queries and of keys, over `d`
    qk_norm: Option<[RmsNorm; 2]>,
    o_proj: Linear,
    post_attention_layernorm: Norm,
    mlp: Mlp,
    n_heads: usize,
    n_kv_heads: usize,
}

impl DecoderLayer {
    fn load(loader: &mut Loader, prefix: &str, config: &TextConfig) -> Result<Self, Error> {
        let (d, names) = (config.hidden_size, Names::of(config));
        let q = config.num_attention_heads * config.head_dim;
        let kv = config.num_key_value_heads * config.head_dim;
        let attn = format!("{prefix}.self_attn");
        let o_proj = format!("{attn}.{}", names.o_proj);
        let qkv = [("q_proj", q), ("k_proj", kv), ("v_proj", kv)];
        let norm = |loader: &mut Loader, name: &str| {
            let rms = config.kind == TextKind::Llama;
            loader.norm(&format!("{prefix}.{name}"), d, (rms, config.rms_norm_eps))
        };
        let input_layernorm = norm(loader, names.input_norm)?;
        let qkv_proj = loader.projections(&attn, qkv, (d, config.qkv_bias))?;
        let head_norm = |loader: &mut Loader, name: &str| {
            loader.rms_norm(&format!("{attn}.{name}"), config.head_dim, config.rms_norm_eps)
        };
        let qk_norm = match config.qk_norm {
            true => Some([head_norm(loader, "q_norm")?, head_norm(loader, "k_norm")?]),
            false => None,
        };
        Ok(DecoderLayer {
            input_layernorm,
            qkv_proj,
            qk_norm,
            o_proj: loader.linear(&o_proj, (d, q), config.o_bias)?,
            post_attention_layernorm: norm(loader, names.mlp_norm)?,
            mlp: Mlp::load(loader, prefix, config)?,
            n_heads: config.num_attention_heads,
            n_kv_heads: config.num_key_value_heads,
        })
    }

    /// `x (B, T, D)` → `(B, T, D)` and, where asked for, weights `(B, H, rows, S)`.
    fn forward(
        &self,
        x: &Tensor,
        (pass, mask): (&Pass, Option<&Tensor>),
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
        if let Some(Angles { cos, sin }) = &pass.angles {
            (q, k) = (rope(&q, cos, sin)?, rope(&k, cos, sin)?);
        }
        let (k, v) = match cache {
            Some((layer_idx, cache)) => cache.append(layer_idx, &k, &v)?, // (B, Hkv, S, d)
            None => (k, v),
        };
        let scale = 1.0 / (q.dim(3)? as f32).sqrt();
        let how = Attend { mask, scale, compute: self.qkv_proj.compute() };
        let (out, weights) = attend((&q, &k, &v), &how, rows)?;
        let x = (x + self.o_proj.forward(&merge_heads(&out)?)?)?;
        let h = self.post_attention_layernorm.forward(&x)?;
        Ok(((x + self.mlp.forward(&h)?)?, weights))
    }
}
