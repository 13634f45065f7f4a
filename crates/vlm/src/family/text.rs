//! Language models alone: Llama, Qwen2 and Mistral.

use super::{Family, Pictures};
use crate::config::{self, ModelType};
use crate::model::tensor_names::TensorNames;
use crate::processor::image::Kind;

pub(super) const TEXT: Family = Family {
    model_type: ModelType::Text,
    names: &["llama", "qwen2", "mistral"],
    title: "language model",
    config: |fields, _| config::text_only(fields),
    tensors: |_| &NAMES,
    pictures: Pictures::None,
    image_token: "<image>",
    image_processor: |_| Kind::Clip, // never asked
    chat_template: Some(TEMPLATE),
};

const NAMES: TensorNames = TensorNames {
    vision_encoder: "vision_model",
    projector: "connector",
    language_model: "model",
    lm_head: "lm_head",
    image_newline: None,
    aliases: &[("model.language_model.", "model.")],
    modules: &[],
    unused: &[],
};

/// Language models that were taught no conversation go on with the text as it is.
const TEMPLATE: &str = "{% for message in messages %}\
{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endfor %}";
