//! `text_config`: the decoder's sizes, for Llama, Qwen2, Mistral and OPT, and what those of Qwen-VL
//! (`qwen_vl`) and Llama-3.2-Vision (`mllama`) add.
//!
//! Defaults are those of transformers 4.57.1. It does not know the layers themselves.

use super::fields::Fields;
use super::unsupported;
use crate::error::Error;
use crate::model::nn::Activation;

/// How rotary frequencies are stretched for longer contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    Default,
    /// Positions divided by `factor`.
    Linear {
        factor: f64,
    },
    /// The base grows with the sequence once it exceeds `max_position_embeddings`.
    Dynamic {
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, a smooth blend between.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_position_embeddings: f64,
    },
    /// Low frequencies divided, high ones kept, a ramp between, and every angle's cosine and sine
    /// scaled (YaRN, arXiv 2309.00071).
    Yarn(Yarn),
    /// Each frequency divided by its own factor, `(d/2)`: how a GGUF holds the result of Llama 3.1.
    Factors(Vec<f64>),
}

/// What YaRN is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Yarn {
    pub factor: f64,
    /// Of the cosines and sines.
    pub attention_factor: f64,
    /// Turns over the trained length above which a frequency is kept, and below which it is
    /// divided.
    pub beta_fast: f64,
    pub beta_slow: f64,
    pub original_max_position_embeddings: f64,
    /// Whether the ramp begins and ends at whole frequencies.
    pub truncate: bool,
}

/// Rotary positions in three dimensions: time, height, width (Qwen2-VL, section 2.1).
#[derive(Debug, Clone, PartialEq)]
pub struct MultimodalRotary {
    /// Frequencies for each dimension; together `head_dim / 2`.
    pub mrope_section: [usize; 3],
    /// The dimensions take turns (Qwen3-VL) instead of following each other.
    pub interleaved: bool,
}

/// Which layers have the sliding window.
#[derive(Debug, Clone, PartialEq)]
pub enum SlidingLayers {
    /// All from this one on (`max_window_layers`).
    From(usize),
    /// Each says so itself (`layer_types`).
    Listed(Vec<bool>),
}

/// Which published architecture the decoder follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextKind {
    /// Root-mean-square norms, rotary positions, a gated MLP: Llama, Qwen2 and Mistral.
    Llama,
    /// Layer norms, learned positions, a plain MLP, biases throughout (`OPTDecoder`).
    Opt,
}

/// Sizes of the language model, named as in `text_config`.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    pub kind: TextKind,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    pub hidden_act: Activation,
    pub max_position_embeddings: usize,
    /// Of every norm, layer norms too.
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub rope_scaling: RopeScaling,
    pub multimodal_rotary: Option<MultimodalRotary>,
    /// Queries and keys are normed, head by head, before they are turned (Qwen3).
    pub qk_norm: bool,
    /// `q_proj`, `k_proj` and `v_proj` have a bias.
    pub qkv_bias: bool,
    /// `o_proj` has a bias.
    pub o_bias: bool,
    pub mlp_bias: bool,
    pub tie_word_embeddings: bool,
    /// Keys further back than this are not seen, in some layers.
    pub sliding_window: Option<usize>,
    pub sliding_layers: SlidingLayers,
    /// Layers that look at pictures instead of the text before (Llama-3.2-Vision).
    pub cross_attention_layers: Vec<usize>,
}

impl TextConfig {
    /// `model_type` is the family's usual decoder, and `rms_norm_eps` the family's default when
    /// the whole object is missing.
    pub(crate) fn from_fields(
        parent: &Fields,
        model_type: &str,
        rms_norm_eps: f64,
    ) -> Result<Self, Error> {
        Self::read(&parent.object("text_config")?, model_type, rms_norm_eps)
    }

    /// The same from the decoder's own keys.
    pub(super) fn read(
        fields: &Fields,
        model_type: &str,
        rms_norm_eps: f64,
    ) -> Result<Self, Error> {
        let model_type = fields.str("model_type", model_type)?;
        let eps = if fields.is_absent() { rms_norm_eps } else { 1e-6 };
        let mut config = Self::llama(fields, eps)?;
        match model_type {
            "llama" => {}
            "qwen2" => config.become_qwen2(fields)?,
            "mistral" => config.become_mistral(fields)?,
            "mllama_text_model" => config.become_mllama(fields)?,
            "opt" => config.become_opt(fields)?,
            found => {
                return Err(unsupported(
                    &fields.path("model_type"),
                    found,
                    "llama, qwen2, mistral, opt, mllama_text_model",
                ));
            }
        }
        config.check(fields)?;
        Ok(config)
    }

    /// Query heads that share one key and value head.
    pub fn n_groups(&self) -> usize {
        self.num_attention_heads / self.num_key_value_heads
    }

    /// Rows of the token embedding: the vocabulary, and with cross-attention layers 8 that the
    /// head does not predict, the first of them the picture token (`MllamaTextModel`).
    pub fn n_embeddings(&self) -> usize {
        self.vocab_size + if self.has_cross_attention() { 8 } else { 0 }
    }

    /// Whether pictures are seen by layers of their own, not among the tokens.
    pub fn has_cross_attention(&self) -> bool {
        !self.cross_attention_layers.is_empty()
    }

    /// The sliding window of one layer, if it has one.
    pub fn window_of(&self, layer_idx: usize) -> Option<usize> {
        self.sliding_window.filter(|_| match &self.sliding_layers {
            SlidingLayers::From(first) => layer_idx >= *first,
            SlidingLayers::Listed(layers) => layers.get(layer_idx).is_some_and(|slides| *slides),
        })
    }

    pub(super) fn llama(fields: &Fields, rms_norm_eps: f64) -> Result<Self, Error> {
        let hidden_size = fields.size("hidden_size", 4096)?;
        let num_attention_heads = fields.size("num_attention_heads", 32)?;
        let head_dim = fields.opt_usize("head_dim")?.unwrap_or(hidden_size / num_attention_heads);
        let attention_bias = fields.bool("attention_bias", false)?;
        Ok(TextConfig {
            kind: TextKind::Llama,
            vocab_size: fields.size("vocab_size", 32_000)?,
            hidden_size,
            intermediate_size: fields.size("intermediate_size", 11_008)?,
            num_hidden_layers: fields.size("num_hidden_layers", 32)?,
            num_attention_heads,
            num_key_value_heads: fields.size("num_key_value_heads", num_attention_heads)?,
            head_dim,
            hidden_act: fields.activation("hidden_act", "silu")?,
            max_position_embeddings: fields.size("max_position_embeddings", 2048)?,
            rms_norm_eps: fields.f64("rms_norm_eps", rms_norm_eps)?,
            rope_theta: fields.f64("rope_theta", 10_000.0)?,
            rope_scaling: rope_scaling(fields)?,
            multimodal_rotary: None,
            qk_norm: false,
            qkv_bias: attention_bias,
            o_bias: attention_bias,
            mlp_bias: fields.bool("mlp_bias", false)?,
            tie_word_embeddings: fields.bool("tie_word_embeddings", false)?,
            sliding_window: None,
            sliding_layers: SlidingLayers::From(0),
            cross_attention_layers: Vec::new(),
        })
    }

    fn become_qwen2(&mut self, fields: &Fields) -> Result<(), Error> {
        self.vocab_size = fields.size("vocab_size", 151_936)?;
        self.intermediate_size = fields.size("intermediate_size", 22_016)?;
        self.num_key_value_heads = fields.size("num_key_value_heads", 32)?;
        self.max_position_embeddings = fields.size("max_position_embeddings", 32_768)?;
        self.qkv_bias = true;
        self.o_bias = false;
        self.mlp_bias = false;
        self.slide(fields, 28)
    }

    /// The windows of Qwen2 and its kin: each layer's by `layer_types`, else of those from
    /// `max_window_layers` on.
    pub(super) fn slide(&mut self, fields: &Fields, usual_first: usize) -> Result<(), Error> {
        self.sliding_window = match fields.bool("use_sliding_window", false)? {
            true => window(fields)?,
            false => None,
        };
        let first = fields.usize("max_window_layers", usual_first)?;
        self.sliding_layers = match layer_types(fields)? {
            None => SlidingLayers::From(first),
            Some(layers) => SlidingLayers::Listed(layers),
        };
        Ok(())
    }

    fn become_mistral(&mut self, fields: &Fields) -> Result<(), Error> {
        self.intermediate_size = fields.size("intermediate_size", 14_336)?;
        self.num_key_value_heads = fields.size("num_key_value_heads", 8)?;
        self.max_position_embeddings = fields.size("max_position_embeddings", 131_072)?;
        self.qkv_bias = false;
        self.o_bias = false;
        self.mlp_bias = false;
        self.sliding_window = window(fields)?;
        Ok(())
    }

    /// OPT as BLIP-2 has it: of the switches of `OPTConfig` those that the 350M model alone uses
    /// are refused. With another embedding size the reference would lay pictures over words.
    fn become_opt(&mut self, fields: &Fields) -> Result<(), Error> {
        let switches = [
            ("do_layer_norm_before", true),
            ("_remove_final_layer_norm", false),
            ("enable_bias", true),
            ("layer_norm_elementwise_affine", true),
        ];
        for (key, supported) in switches {
            let found = fields.bool(key, supported)?;
            if found != supported {
                let (found, supported) = (found.to_string(), supported.to_string());
                return Err(unsupported(&fields.path(key), &found, &supported));
            }
        }
        let hidden_size = fields.size("hidden_size", 768)?;
        let embedded = fields.size("word_embed_proj_dim", hidden_size)?;
        if embedded != hidden_size {
            let (key, supported) = (fields.path("word_embed_proj_dim"), hidden_size.to_string());
            return Err(unsupported(&key, &embedded.to_string(), &supported));
        }
        let heads = fields.size("num_attention_heads", 12)?;
        *self = TextConfig {
            kind: TextKind::Opt,
            vocab_size: fields.size("vocab_size", 50_272)?,
            hidden_size,
            intermediate_size: fields.size("ffn_dim", 3072)?,
            num_hidden_layers: fields.size("num_hidden_layers", 12)?,
            num_attention_heads: heads,
            num_key_value_heads: heads,
            head_dim: hidden_size / heads,
            hidden_act: fields.activation("activation_function", "relu")?,
            max_position_embeddings: fields.size("max_position_embeddings", 2048)?,
            rms_norm_eps: 1e-5,
            qkv_bias: true,
            o_bias: true,
            mlp_bias: true,
            tie_word_embeddings: fields.bool("tie_word_embeddings", true)?,
            ..self.clone()
        };
        if heads * self.head_dim != hidden_size {
            let message = format!("{hidden_size} is not a multiple of {heads} heads");
            return Err(Error::config(fields.path("hidden_size"), message));
        }
        Ok(())
    }

    /// Whether `layer_types` says what the layers do: of decoders other than Qwen2's kin it
    /// changes nothing, as in transformers, so that another list than theirs would be ignored.
    fn check_layer_types(&self, fields: &Fields) -> Result<(), Error> {
        let Some(listed) = layer_types(fields)? else { return Ok(()) };
        let wrong = |message| Err(Error::config(fields.path("layer_types"), message));
        if listed.len() != self.num_hidden_layers {
            let (n, layers) = (listed.len(), self.num_hidden_layers);
            return wrong(format!("names {n} layers, but the decoder has {layers}"));
        }
        let differs = |(layer, slides): (usize, &bool)| self.window_of(layer).is_some() != *slides;
        match listed.iter().enumerate().position(differs) {
            None => Ok(()),
            Some(layer) if listed[layer] => {
                wrong(format!("gives layer {layer} a sliding window, but it has none"))
            }
            Some(layer) => wrong(format!("gives layer {layer} no sliding window, but it has one")),
        }
    }

    pub(super) fn check(&self, fields: &Fields) -> Result<(), Error> {
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if heads % kv_heads != 0 {
            let message = format!("{kv_heads} does not divide the {heads} attention heads");
            return Err(Error::config(fields.path("num_key_value_heads"), message));
        }
        self.check_layer_types(fields)?;
        if self.head_dim == 0 || self.head_dim % 2 != 0 {
            let message = format!("{} is not an even number above 0", self.head_dim);
            return Err(Error::config(fields.path("head_dim"), message));
        }
        if let RopeScaling::Factors(factors) = &self.rope_scaling
            && factors.len() != self.head_dim / 2
        {
            let message = format!("{} rotary factors do not fit it", factors.len());
            return Err(Error::config(fields.path("head_dim"), message));
        }
        if let Some(MultimodalRotary { mrope_section, .. }) = &self.multimodal_rotary
            && mrope_section.iter().sum::<usize>() != self.head_dim / 2
        {
            let half = self.head_dim / 2;
            let message = format!("{mrope_section:?} are not the {half} frequencies of a head");
            return Err(Error::config(fields.path("rope_scaling.mrope_section"), message));
        }
        Ok(())
    }
}

/// `sliding_window`, which is none where the file says `null`.
fn window(fields: &Fields) -> Result<Option<usize>, Error> {
    let window = fields.opt_usize("sliding_window")?;
    Ok(if fields.names("sliding_window") { window } else { Some(4096) })
}

/// `layer_types`: for each layer whether it has the window.
fn layer_types(fields: &Fields) -> Result<Option<Vec<bool>>, Error> {
    let slides = |name: &String| match name.as_str() {
        "full_attention" => Ok(false),
        "sliding_attention" => Ok(true),
        found => {
            let supported = "full_attention, sliding_attention";
            Err(unsupported(&fields.path("layer_types"), found, supported))
        }
    };
    let names = fields.strings("layer_types")?;
    names.map(|names| names.iter().map(slides).collect()).transpose()
}

/// `rope_scaling`, whose kind is called `rope_type` or, in older files, `type`.
fn rope_scaling(fields: &Fields) -> Result<RopeScaling, Error> {
    let scaling = fields.object("rope_scaling")?;
    if scaling.is_absent() {
        return Ok(RopeScaling::Default);
    }
    let factor = || scaling.required_f64("factor");
    match scaling.str("rope_type", scaling.str("type", "default")?)? {
        // The multimodal kind changes positions, not frequencies.
        "default" | "mrope" => Ok(RopeScaling::Default),
        "linear" => Ok(RopeScaling::Linear { factor: factor()? }),
        "dynamic" => Ok(RopeScaling::Dynamic { factor: factor()? }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: factor()?,
            low_freq_factor: scaling.required_f64("low_freq_factor")?,
            high_freq_factor: scaling.required_f64("high_freq_factor")?,
            original_max_position_embeddings: scaling
                .required_f64("original_max_position_embeddings")?,
        }),
        "yarn" => yarn(fields, &scaling).map(RopeScaling::Yarn),
        "factors" => Ok(RopeScaling::Factors(scaling.numbers("factors")?)),
        found => {
            let supported = "default, mrope, linear, dynamic, llama3, yarn";
            Err(unsupported(&scaling.path("rope_type"), found, supported))
        }
    }
}

/// `_compute_yarn_parameters` of `modeling_rope_utils.py`.
fn yarn(fields: &Fields, scaling: &Fields) -> Result<Yarn, Error> {
    let factor = scaling.required_f64("factor")?;
    let given = |key: &str| Ok::<_, Error>(scaling.opt_f64(key)?.filter(|&number| number != 0.0));
    let scale = |mscale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 };
    let usual = match (given("mscale")?, given("mscale_all_dim")?) {
        (Some(one), Some(all)) => scale(one) / scale(all),
        _ => scale(1.0),
    };
    let longest = fields.f64("max_position_embeddings", 32_768.0)?;
    Ok(Yarn {
        factor,
        attention_factor: scaling.opt_f64("attention_factor")?.unwrap_or(usual),
        beta_fast: given("beta_fast")?.unwrap_or(32.0),
        beta_slow: given("beta_slow")?.unwrap_or(1.0),
        original_max_position_embeddings: given("original_max_position_embeddings")?
            .unwrap_or(longest),
        truncate: scaling.bool("truncate", true)?,
    })
}
