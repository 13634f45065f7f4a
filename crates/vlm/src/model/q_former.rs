//! The Q-Former of BLIP-2 (Li et al. 2023, §3.1) and InstructBLIP (Dai et al. 2023, §2.3): learned
//! queries look at a picture's patches and become its tokens.
//!
//! A BERT encoder whose every n-th layer also attends to the patches; InstructBLIP's queries see
//! the question beside them. Follows `modeling_{blip_2,instructblip}.py`. It knows no pixels and
//! no tokenizer.
//!
//! Shapes: `N` tiles, `P` patches (and the class token), `D_v` width of the vision features,
//! `Q` queries, `L` tokens of the question, `T = Q + L`, `D_q` width of the Q-Former, `D` hidden
//! size of the language model.

use candle_core::Tensor;

use super::attention::attend;
use super::loader::Loader;
use super::nn::{Activation, Attend, Embedding, LayerNorm, Linear, Projections};
use super::nn::{merge_heads, split_heads};
use super::projector::Projected;
use crate::config::{Config, QFormerConfig, QFormerText};
use crate::error::Error;
use crate::probe::Rows;

/// Queries, the encoder, and the linear map into the language model.
pub struct QFormer {
    /// `(1, Q, D_q)`
    query_tokens: Tensor,
    text: Option<TextEmbeddings>,
    layernorm: LayerNorm,
    layers: Vec<Layer>,
    language_projection: Linear,
    config: QFormerConfig,
}

/// Words of the question and their places.
struct TextEmbeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    sizes: QFormerText,
}

impl QFormer {
    pub(super) fn load(
        loader: &mut Loader,
        prefix: &str,
        (config, whole): (&QFormerConfig, &Config),
    ) -> Result<Self, Error> {
        let (d_q, eps) = (config.hidden_size, config.layer_norm_eps);
        let d_v = whole.vision_feature_size();
        let embeddings = format!("{prefix}.embeddings");
        let text = config.text.map(|sizes| TextEmbeddings::load(loader, &embeddings, sizes, d_q));
        let layernorm = match config.text {
            Some(_) => format!("{embeddings}.layernorm"),
            None => format!("{prefix}.layernorm"),
        };
        let name = |i: usize| format!("{prefix}.encoder.layer.{i}");
        let layers = 0..config.num_hidden_layers;
        Ok(QFormer {
            query_tokens: loader.tensor("query_tokens", &[1, config.num_query_tokens, d_q])?,
            text: text.transpose()?,
            layernorm: loader.layer_norm(&layernorm, d_q, eps)?,
            layers: layers
                .map(|i| {
                    let d_v = config.has_cross_attention(i).then_some(d_v);
                    Layer::load(loader, &name(i), (config, d_v))
                })
                .collect::<Result<_, _>>()?,
            language_projection: {
                let d = whole.text_config.hidden_size;
                loader.linear("language_projection", (d, d_q), true)?
            },
            config: config.clone(),
        })
    }

    /// `features (N, P, D_v)` and the question that InstructBLIP's queries read, `(L)` ids of the
    /// Q-Former's own tokenizer → `image_embeds (N, Q, D)`, and what each query looked at in the
    /// last layer that looks, the mean over its heads.
    ///
    /// Errors: a question missing, too long or of another tokenizer.
    pub(super) fn forward(
        &self,
        features: &Tensor,
        qformer_input_ids: &[u32],
    ) -> Result<Projected, Error> {
        let n_queries = self.config.num_query_tokens;
        let mut x = self.embed(features.dim(0)?, qformer_input_ids)?; // (N, T, D_q)
        let looks = |i: &usize| self.config.has_cross_attention(*i);
        let last_look = (0..self.layers.len()).rev().find(looks);
        let mut patch_attention = None;
        for (i, layer) in self.layers.iter().enumerate() {
            let rows = (Some(i) == last_look).then_some(Rows::All);
            let (y, weights) = layer.forward(&x, (features, n_queries), rows)?;
            patch_attention = patch_attention.or(weights);
            x = y;
        }
        let queries = x.narrow(1, 0, n_queries)?.contiguous()?; // (N, Q, D_q)
        let patch_attention = patch_attention.map(|weights| weights.mean(1)); // (N, Q, P)
        Ok(Projected {
            image_embeds: self.language_projection.forward(&queries)?, // (N, Q, D)
            patch_attention: patch_attention.transpose()?,
        })
    }

    /// The queries, and after them the question, for each tile: `(N, T, D_q)`.
    fn embed(&self, n: usize, qformer_input_ids: &[u32]) -> Result<Tensor, Error> {
        let mut x = self.query_tokens.clone(); // (1, Q, D_q)
        if let Some(text) = &self.text {
            x = Tensor::cat(&[x, text.forward(qformer_input_ids)?], 1)?; // (1, T, D_q)
        }
        let (_, t, d_q) = x.dims3()?;
        let x = self.layernorm.forward(&x)?;
        Ok(x.broadcast_as((n, t, d_q))?.contiguous()?)
    }
}

impl TextEmbeddings {
    fn load(
        loader: &mut Loader,
        prefix: &str,
        sizes: QFormerText,
        d_q: usize,
    ) -> Result<Self, Error> {
        let (words, places) = (sizes.vocab_size, sizes.max_position_embeddings);
        let positions = format!("{prefix}.position_embeddings");
        Ok(TextEmbeddings {
            word_embeddings: loader.embedding(&format!("{prefix}.word_embeddings"), words, d_q)?,
            position_embeddings: loader.embedding(&positions, places, d_q)?,
            sizes,
        })
    }

    /// `(L)` → `(1, L, D_q)`
    fn forward(&self, ids: &[u32]) -> Result<Tensor, Error> {
        let QFormerText { vocab_size, max_position_embeddings: limit } = self.sizes;
        if ids.is_empty() {
            let expected = "(L), L > 0: the queries read the question".into();
            return Err(Error::Shape { tensor: "qformer_input_ids", expected, found: vec![0] });
        }
        if ids.len() > limit {
            let hint = "the Q-Former reads no more; shorten the question or start a new chat";
            return Err(Error::ContextOverflow { tokens: ids.len(), limit, hint: hint.into() });
        }
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::TokenId { id, vocab_size });
        }
        let device = self.word_embeddings.weight.device();
        let words = Tensor::from_slice(ids, (1, ids.len()), device)?;
        let places = Tensor::arange(0, ids.len() as u32, device)?.unsqueeze(0)?;
        let places = self.position_embeddings.forward(&places)?;
        Ok((self.word_embeddings.forward(&words)? + places)?)
    }
}

/// Everyone looks at everyone; the queries look at the patches; queries and words go through MLPs
/// of their own.
struct Layer {
    attention: Attention,
    crossattention: Option<Attention>,
    query_mlp: FeedForward,
    text_mlp: Option<FeedForward>,
}

impl Layer {
    /// `d_v`: the width of the patches, where the layer looks at them.
    fn load(
        loader: &mut Loader,
        prefix: &str,
        (config, d_v): (&QFormerConfig, Option<usize>),
    ) -> Result<Self, Error> {
        let d_q = config.hidden_size;
        let mut attention =
            |name: &str, d_in| Attention::load(loader, &format!("{prefix}.{name}"), (config, d_in));
        let own = attention("attention", d_q)?;
        let crossattention = d_v.map(|d_v| attention("crossattention", d_v)).transpose()?;
        let text = config.text.map(|_| FeedForward::load(loader, prefix, ("", config)));
        Ok(Layer {
            attention: own,
            crossattention,
            query_mlp: FeedForward::load(loader, prefix, ("_query", config))?,
            text_mlp: text.transpose()?,
        })
    }

    /// `x (N, T, D_q)`, the queries first, and `features (N, P, D_v)` → `(N, T, D_q)` and, where
    /// asked for, the weights `(N, H, Q, P)` of the look at the patches.
    fn forward(
        &self,
        x: &Tensor,
        (features, n_queries): (&Tensor, usize),
        rows: Option<Rows>,
    ) -> Result<(Tensor, Option<Tensor>), Error> {
        let n_words = x.dim(1)? - n_queries;
        let (x, _) = self.attention.forward(x, x, None)?;
        let mut queries = x.narrow(1, 0, n_queries)?.contiguous()?; // (N, Q, D_q)
        let mut weights = None;
        if let Some(crossattention) = &self.crossattention {
            (queries, weights) = crossattention.forward(&queries, features, rows)?;
        }
        let queries = self.query_mlp.forward(&queries)?;
        match &self.text_mlp {
            Some(text_mlp) if n_words > 0 => {
                let words = x.narrow(1, n_queries, n_words)?.contiguous()?; // (N, L, D_q)
                let words = text_mlp.forward(&words)?;
                Ok((Tensor::cat(&[queries, words], 1)?, weights))
            }
            _ => Ok((queries, weights)),
        }
    }
}

/// `norm(x + dense(attention(x, of)))`
struct Attention {
    query: Linear,
    key_value: Projections<2>,
    dense: Linear,
    norm: LayerNorm,
    n_heads: usize,
}

impl Attention {
    fn load(
        loader: &mut Loader,
        prefix: &str,
        (config, d_in): (&QFormerConfig, usize),
    ) -> Result<Self, Error> {
        let (d_q, eps) = (config.hidden_size, config.layer_norm_eps);
        let inner = format!("{prefix}.attention");
        let key_value = [("key", d_q), ("value", d_q)];
        Ok(Attention {
            query: loader.linear(&format!("{inner}.query"), (d_q, d_q), true)?,
            key_value: loader.projections(&inner, key_value, (d_in, true))?,
            dense: loader.linear(&format!("{prefix}.output.dense"), (d_q, d_q), true)?,
            norm: loader.layer_norm(&format!("{prefix}.output.LayerNorm"), d_q, eps)?,
            n_heads: config.num_attention_heads,
        })
    }

    /// `x (N, T, D_q)` looks at `of (N, S, D_in)` → `(N, T, D_q)` and the weights `(N, H, T, S)`
    /// where asked for.
    fn forward(
        &self,
        x: &Tensor,
        of: &Tensor,
        rows: Option<Rows>,
    ) -> Result<(Tensor, Option<Tensor>), Error> {
        let q = split_heads(&self.query.forward(x)?, self.n_heads)?; // (N, H, T, d)
        let [k, v] = self.key_value.forward(of)?;
        let k = split_heads(&k, self.n_heads)?; // (N, H, S, d)
        let v = split_heads(&v, self.n_heads)?;
        let scale = 1.0 / (q.dim(3)? as f32).sqrt();
        let how = Attend { mask: None, scale, compute: self.query.compute };
        let (out, weights) = attend((&q, &k, &v), &how, rows)?;
        let out = self.dense.forward(&merge_heads(&out)?)?; // (N, T, D_q)
        Ok((self.norm.forward(&(out + x)?)?, weights))
    }
}

/// `norm(x + output(act(intermediate(x))))`
struct FeedForward {
    intermediate: Linear,
    hidden_act: Activation,
    output: Linear,
    norm: LayerNorm,
}

impl FeedForward {
    fn load(
        loader: &mut Loader,
        prefix: &str,
        (suffix, config): (&str, &QFormerConfig),
    ) -> Result<Self, Error> {
        let (d_q, wide, eps) =
            (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let intermediate = format!("{prefix}.intermediate{suffix}.dense");
        let output = format!("{prefix}.output{suffix}");
        Ok(FeedForward {
            intermediate: loader.linear(&intermediate, (wide, d_q), true)?,
            hidden_act: config.hidden_act,
            output: loader.linear(&format!("{output}.dense"), (d_q, wide), true)?,
            norm: loader.layer_norm(&format!("{output}.LayerNorm"), d_q, eps)?,
        })
    }

    /// `(N, T, D_q)` → `(N, T, D_q)`
    fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        let wide = self.hidden_act.apply(&self.intermediate.forward(x)?)?;
        Ok(self.norm.forward(&(self.output.forward(&wide)? + x)?)?)
    }
}
