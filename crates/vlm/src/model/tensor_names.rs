//! Where each part of the shared model lies in a checkpoint; each family's own is in `family`.
//!
//! Checkpoints have been written under more than one set of names; each alias is rewritten to the
//! name that `save_pretrained` of transformers 4.57 writes. It knows no shapes and no layers.

use crate::config::{Config, VisionKind};
use crate::weights::TensorMap;

/// Prefixes of the parts, and other prefixes that mean the same.
pub(crate) struct TensorNames {
    pub vision_encoder: &'static str,
    pub projector: &'static str,
    pub language_model: &'static str,
    pub lm_head: &'static str,
    /// the parameter that ends rows of picture tokens
    pub image_newline: Option<&'static str>,
    /// found in the wild → ours; the first that fits is applied
    pub aliases: &'static [(&'static str, &'static str)],
    /// ours → its place among the modules of transformers 4.57, where that is another
    pub modules: &'static [(&'static str, &'static str)],
    /// parts that answer no question: SigLIP's pooling head
    pub unused: &'static [&'static str],
}

impl TensorNames {
    /// Rewrites aliases and drops what the model does not use; whether the head is tied.
    pub(super) fn adopt(&self, config: &Config, tensors: &mut TensorMap) -> bool {
        self.rename(config, tensors);
        let tied = self.is_tied(config, Some(tensors));
        if tied {
            // `save_pretrained` leaves a tied head out; other tools write it twice.
            tensors.ignore(|name| self.ours(name).starts_with(self.lm_head));
        }
        tied
    }

    /// A name found somewhere as ours.
    pub(crate) fn ours(&self, name: &str) -> String {
        let alias = self.aliases.iter().find(|(from, _)| name.starts_with(from));
        alias.map_or(name.to_owned(), |(from, to)| format!("{to}{}", &name[from.len()..]))
    }

    /// One of ours by its place among the modules of transformers 4.57.
    pub(crate) fn of_modules(&self, name: &str) -> String {
        let place = self.modules.iter().find(|(ours, _)| name.starts_with(ours));
        place.map_or(name.to_owned(), |(ours, place)| format!("{place}{}", &name[ours.len()..]))
    }

    fn rename(&self, config: &Config, tensors: &mut TensorMap) {
        tensors.rename(|name| Some(self.ours(name)));
        let unused = |name: String| self.unused.iter().any(|prefix| name.starts_with(prefix));
        tensors.ignore(|name| unused(self.ours(name)));
        if config.vision_config.kind == VisionKind::Idefics3 {
            return;
        }
        // Older LLaVA checkpoints of some tools nest the tower without `vision_model`.
        let nested = self.vision_encoder;
        if !tensors.names().any(|name| name.starts_with(nested)) {
            tensors.rename(|name| {
                let rest = name.strip_prefix("vision_tower.")?;
                Some(format!("{nested}.{rest}"))
            });
        }
    }

    /// Whether the output head is the token embedding: the decoder's config says so, or the whole
    /// model's does and the checkpoint has no head.
    pub(super) fn is_tied(&self, config: &Config, tensors: Option<&TensorMap>) -> bool {
        let head = format!("{}.weight", self.lm_head);
        let has_head = tensors.is_some_and(|tensors| tensors.contains(&head));
        config.text_config.tie_word_embeddings || (config.tie_word_embeddings && !has_head)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{DType, Device, Tensor};
    use serde_json::json;

    use super::*;

    /// The second of two names for the same tensor is left over, and listed.
    #[test]
    fn a_tensor_that_is_there_under_two_names_is_listed() {
        let json = json!({
            "model_type": "qwen2_vl", "hidden_size": 3584, "num_attention_heads": 28,
            "num_key_value_heads": 4, "tie_word_embeddings": true,
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        });
        let config = Config::from_json(&json).expect("a config");
        let names = ["model.language_model.norm.weight", "model.norm.weight", "lm_head.weight"];
        let named = |value: usize| {
            let tensor = Tensor::full(value as f32, 1, &Device::Cpu).expect("a tensor");
            (names[value].to_owned(), tensor)
        };
        let mut tensors = TensorMap::from((0..3).map(named).collect::<HashMap<_, _>>());
        config.tensor_names().adopt(&config, &mut tensors);
        let taken = tensors.take("model.norm.weight", &[1]).expect("taken");
        assert_eq!(taken.to_vec1::<f32>().expect("a value"), [1.0], "the one that has our name");
        let message = tensors.finish().expect_err("left over").to_string();
        assert!(message.contains("1 unexpected (model.language_model.norm.weight)"), "{message}");
    }

    #[test]
    fn both_sets_of_names_of_qwen_vl_are_known() {
        let rows = [
            ("qwen2_5_vl", "model.visual.merger.ln_q.weight", "visual.merger.ln_q.weight"),
            ("qwen2_5_vl", "visual.merger.ln_q.weight", "visual.merger.ln_q.weight"),
            ("qwen2_vl", "model.language_model.norm.weight", "model.norm.weight"),
            ("qwen2_vl", "model.norm.weight", "model.norm.weight"),
            ("qwen3_vl", "model.visual.pos_embed.weight", "model.visual.pos_embed.weight"),
            ("qwen3_vl", "visual.pos_embed.weight", "model.visual.pos_embed.weight"),
            ("qwen3_vl", "lm_head.weight", "lm_head.weight"),
        ];
        for (model_type, found, ours) in rows {
            let json = json!({
                "model_type": model_type,
                "hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4,
                "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
                "text_config": (model_type == "qwen3_vl").then(|| json!({"hidden_size": 3584})),
            });
            let config = Config::from_json(&json).expect(model_type);
            let tensor = Tensor::zeros(1, DType::F32, &Device::Cpu).expect("a tensor");
            let mut tensors = TensorMap::from(HashMap::from([(found.to_owned(), tensor)]));
            config.tensor_names().adopt(&config, &mut tensors);
            assert_eq!(tensors.names().collect::<Vec<_>>(), [ours], "{model_type}");
        }
    }
}
