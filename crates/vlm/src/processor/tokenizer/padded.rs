//! Texts -> rows of ids of equal length, as the text tower of a dual encoder receives them.
//!
//! Follows how `CLIPProcessor`, `SiglipProcessor` and `Siglip2Processor` call their tokenizers in
//! transformers' zero-shot pipeline: CLIP pads to the longest text, the others to the tower's
//! length, and all cut what is longer. Knows no weights.
//!
//! Legend: `B` texts, `T` tokens.

use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::Value;
use tokenizers::TruncationParams;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NormalizerWrapper, Prepend, Replace, Sequence, Strip};

use super::{Tokenizer, failed, wrong};
use crate::Error;
use crate::config::{DualEncoderType, read_json};

/// Rows of ids, on the CPU.
#[derive(Clone, Debug)]
pub struct PaddedTexts {
    /// (B, T) u32
    pub input_ids: Tensor,
    /// (B, T) u32, 1 for a token and 0 for padding; `None` where the model was trained to see its
    /// padding.
    pub attention_mask: Option<Tensor>,
}

/// A tokenizer that pads and cuts.
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    /// Longest row.
    max_length: usize,
    /// Every row is that long.
    pads_to_max_length: bool,
    pad_token_id: u32,
    has_attention_mask: bool,
}

impl TextTokenizer {
    /// Reads the tokenizer's files of a model folder; rows are no longer than the model's
    /// `max_position_embeddings`.
    ///
    /// Errors: as [`Tokenizer::load`]; no padding token; no room for the tokens around a text.
    pub fn load(
        dir: &Path,
        model_type: DualEncoderType,
        max_position_embeddings: usize,
    ) -> Result<TextTokenizer, Error> {
        let mut tokenizer = Tokenizer::load(dir)?;
        let path = dir.join("tokenizer_config.json");
        let settings = if path.exists() { read_json(&path)? } else { Value::Null };
        let class = settings["tokenizer_class"].as_str();
        let is_siglip = match class {
            Some(class) => class.starts_with("SiglipTokenizer"),
            None => model_type == DualEncoderType::Siglip,
        };
        if is_siglip {
            let lower_case = settings["do_lower_case"].as_bool().unwrap_or(true);
            tokenizer.canonicalise(lower_case)?;
        }
        let usual = match model_type {
            DualEncoderType::Clip => "<|endoftext|>",
            DualEncoderType::Siglip if is_siglip => "</s>",
            _ => "<pad>",
        };
        let pad_token = tokenizer.special("pad_token").unwrap_or(usual);
        let missing = || wrong(&path, format!("the padding token {pad_token} is not a token"));
        let pad_token_id = tokenizer.id(pad_token).ok_or_else(missing)?;
        let trained = settings["model_max_length"].as_u64().unwrap_or(u64::MAX);
        let max_length =
            max_position_embeddings.min(usize::try_from(trained).unwrap_or(usize::MAX));
        tokenizer.cut(max_length).map_err(|message| wrong(&path, message))?;
        let inputs = settings["model_input_names"].as_array();
        Ok(TextTokenizer {
            tokenizer,
            max_length,
            pads_to_max_length: model_type != DualEncoderType::Clip,
            pad_token_id,
            has_attention_mask: inputs.is_none_or(|names| names.contains(&"attention_mask".into())),
        })
    }

    /// Each text as one row, with the tokens that the checkpoint puts around it.
    pub fn encode(&self, texts: &[&str]) -> Result<PaddedTexts, Error> {
        let rows = texts.iter().map(|text| self.tokenizer.encode_with(text, true));
        let rows = rows.collect::<Result<Vec<Vec<u32>>, Error>>()?;
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let t = if self.pads_to_max_length { self.max_length } else { longest };
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        for row in &rows {
            let n_padding = t - row.len();
            ids.extend(row);
            ids.extend(std::iter::repeat_n(self.pad_token_id, n_padding));
            mask.extend(std::iter::repeat_n(1u32, row.len()));
            mask.extend(std::iter::repeat_n(0u32, n_padding));
        }
        let tensor = |values| Tensor::from_vec(values, (rows.len(), t), &Device::Cpu);
        let attention_mask = self.has_attention_mask.then(|| tensor(mask)).transpose()?;
        Ok(PaddedTexts { input_ids: tensor(ids)?, attention_mask })
    }
}

impl Tokenizer {
    /// Later rows are at most `max_length` long, the tokens around a text included.
    fn cut(&mut self, max_length: usize) -> Result<(), String> {
        let n_around = self.encode_with("", true).map_err(|error| error.to_string())?.len();
        if max_length <= n_around {
            return Err(format!("rows of {max_length} tokens leave no room for a text"));
        }
        let truncation = TruncationParams { max_length, ..TruncationParams::default() };
        let cut = self.inner.with_truncation(Some(truncation));
        cut.map(drop).map_err(|error| error.to_string())
    }

    /// What `SiglipTokenizer` does to a text before its vocabulary is asked: lower case, no ASCII
    /// punctuation, single spaces, one mark of a space before the first word if there is one. A
    /// `tokenizer.json` that does so itself finds nothing to do.
    fn canonicalise(&mut self, lower_case: bool) -> Result<(), Error> {
        let regex = |pattern: &str, with: &str| {
            let pattern = ReplacePattern::Regex(pattern.to_owned());
            Replace::new(pattern, with).map(NormalizerWrapper::from)
        };
        let mut steps: Vec<NormalizerWrapper> = vec![
            Replace::new("▁", " ").map_err(failed)?.into(),
            Prepend::new("▁".to_owned()).into(),
            regex(r"[!-/:-@\[-`{-~]", "").map_err(failed)?,
            regex(r"\s+", " ").map_err(failed)?,
            Strip::new(true, true).into(),
            regex("^▁$", "").map_err(failed)?,
        ];
        if lower_case {
            steps.push(Lowercase.into());
        }
        steps.extend(self.inner.get_normalizer().cloned());
        self.inner.with_normalizer(Some(Sequence::new(steps))).map(drop).map_err(failed)
    }
}
