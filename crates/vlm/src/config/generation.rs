//! `generation_config.json`: where to stop and how to sample unless the caller says otherwise.
//!
//! It does not know how sampling works; `generate` does.

use serde_json::Value;

use super::fields::Fields;
use crate::error::Error;

/// Stop tokens and the sampling settings the model's makers recommend.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerationConfig {
    /// Generation stops at any of these.
    pub eos_token_ids: Vec<u32>,
    /// Whether there is a `generation_config.json`: transformers stops where it says and nowhere
    /// else, even if it says nothing.
    pub is_written: bool,
    pub bos_token_id: Option<u32>,
    pub pad_token_id: Option<u32>,
    pub do_sample: Option<bool>,
    pub temperature: Option<f64>,
    pub top_k: Option<usize>,
    pub top_p: Option<f64>,
    pub repetition_penalty: Option<f64>,
    pub max_new_tokens: Option<usize>,
}

impl GenerationConfig {
    /// From `config.json`: its own ids, else the decoder's, else none.
    pub(crate) fn from_config(fields: &Fields) -> Result<Self, Error> {
        Self::read(fields, &fields.object("text_config")?)
    }

    /// From the keys of the whole model, else those of its decoder.
    pub(super) fn read(fields: &Fields, text: &Fields) -> Result<Self, Error> {
        let decoder = text.str("model_type", fields.str("model_type", "llama")?)?;
        let default = match decoder {
            "mllama" | "mllama_text_model" => vec![128_001],
            qwen if qwen.starts_with("qwen") => Vec::new(),
            _ => vec![2],
        };
        let eos = fields.token_ids("eos_token_id")?;
        let eos = eos.or(text.token_ids("eos_token_id")?).unwrap_or(default);
        let bos = fields.opt_u32("bos_token_id")?;
        let pad = fields.opt_u32("pad_token_id")?;
        Ok(GenerationConfig {
            eos_token_ids: eos,
            bos_token_id: bos.or(text.opt_u32("bos_token_id")?),
            pad_token_id: pad.or(text.opt_u32("pad_token_id")?),
            ..Default::default()
        })
    }

    /// What `generation_config.json` says replaces what `config.json` said.
    pub(crate) fn update(&mut self, json: &Value) -> Result<(), Error> {
        let fields = Fields::root(json)?;
        self.is_written = true;
        self.eos_token_ids = fields.token_ids("eos_token_id")?.unwrap_or_default();
        self.bos_token_id = fields.opt_u32("bos_token_id")?.or(self.bos_token_id);
        self.pad_token_id = fields.opt_u32("pad_token_id")?.or(self.pad_token_id);
        if fields.has("do_sample") {
            self.do_sample = Some(fields.bool("do_sample", false)?);
        }
        self.temperature = fields.opt_f64("temperature")?;
        self.top_k = fields.opt_usize("top_k")?;
        self.top_p = fields.opt_f64("top_p")?;
        self.repetition_penalty = fields.opt_f64("repetition_penalty")?;
        self.max_new_tokens = fields.opt_usize("max_new_tokens")?;
        Ok(())
    }
}
