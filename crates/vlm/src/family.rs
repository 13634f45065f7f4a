//! The families as tables: how a `config.json`, the names of tensors, and pictures in a prompt map
//! onto the shared parts. One file for each kin.
//!
//! A further family of parts that are there is a table in one of these files (or one more file), a
//! variant of [`ModelType`] and a place in [`ALL`]. It knows no shapes and no layers.

mod idefics3;
mod llava;
mod mllama;
mod q_former;
mod qwen_vl;
mod text;

use crate::config::fields::Fields;
use crate::config::{Config, ModelType, VisionKind};
use crate::error::Error;
use crate::model::tensor_names::TensorNames;
use crate::processor::image::Kind;
#[cfg(test)]
pub(crate) use {idefics3::TEMPLATE as IDEFICS3_TEMPLATE, llava::TEMPLATE as LLAVA_TEMPLATE};

/// Everything that one family has of its own.
pub struct Family {
    pub model_type: ModelType,
    /// As `model_type` of `config.json` has it.
    pub names: &'static [&'static str],
    /// Its name for people.
    pub title: &'static str,
    /// Reads the whole `config.json`, with transformers' defaults.
    pub(crate) config: fn(&Fields, ModelType) -> Result<Config, Error>,
    /// Where each part lies in a checkpoint.
    pub(crate) tensors: fn(&Config) -> &'static TensorNames,
    pub(crate) pictures: Pictures,
    /// The placeholder of a picture where the tokenizer names none.
    pub(crate) image_token: &'static str,
    /// The image processor of checkpoints whose files name none.
    pub(crate) image_processor: fn(VisionKind) -> Kind,
    /// What checkpoints without a template were taught; `None` where each was taught its own.
    pub(crate) chat_template: Option<&'static str>,
}

/// How pictures stand in a prompt.
#[derive(Clone, Copy)]
pub(crate) enum Pictures {
    /// Tiles, each announced by its row and column.
    Announced,
    /// The image token once for each embedding.
    Repeated,
    /// The same, before the text and the tokenizer's own first token.
    BeforeText,
    /// One image token; the patches are seen by cross-attention layers.
    CrossAttention,
    None,
}

/// Every family, in the order of [`ModelType`].
const ALL: [&Family; 12] = [
    &idefics3::IDEFICS3,
    &idefics3::SMOLVLM,
    &llava::LLAVA,
    &llava::LLAVA_NEXT,
    &llava::LLAVA_ONEVISION,
    &mllama::MLLAMA,
    &qwen_vl::QWEN2_VL,
    &qwen_vl::QWEN2_5_VL,
    &qwen_vl::QWEN3_VL,
    &q_former::BLIP_2,
    &q_former::INSTRUCT_BLIP,
    &text::TEXT,
];

/// The family that `config.json` names.
pub(crate) fn named(model_type: &str) -> Option<&'static Family> {
    ALL.into_iter().find(|family| family.names.contains(&model_type))
}

/// Every name that [`named`] knows.
pub(crate) fn names() -> String {
    let names: Vec<&str> = ALL.iter().flat_map(|family| family.names).copied().collect();
    names.join(", ")
}

impl ModelType {
    pub fn family(self) -> &'static Family {
        ALL[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_where_it_is_looked_for() {
        for (place, family) in ALL.into_iter().enumerate() {
            assert_eq!(family.model_type as usize, place, "{}", family.title);
            for name in family.names {
                let found = named(name).expect("a family").model_type;
                assert_eq!(found, family.model_type, "{name}");
            }
        }
        assert!(named("gpt2").is_none());
    }
}
