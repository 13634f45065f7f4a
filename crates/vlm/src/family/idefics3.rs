//! Idefics3 and SmolVLM (transformers' `modeling_{idefics3,smolvlm}.py`).

use super::{Family, Pictures};
use crate::config::{self, ModelType};
use crate::model::tensor_names::TensorNames;
use crate::processor::image::Kind;

pub(super) const IDEFICS3: Family = Family {
    model_type: ModelType::Idefics3,
    names: &["idefics3"],
    title: "Idefics3",
    config: config::idefics3,
    tensors: |_| &NAMES,
    pictures: Pictures::Announced,
    image_token: "<image>",
    image_processor: |_| Kind::Idefics3,
    chat_template: Some(TEMPLATE),
};

pub(super) const SMOLVLM: Family =
    Family { model_type: ModelType::SmolVlm, names: &["smolvlm"], title: "SmolVLM", ..IDEFICS3 };

const NAMES: TensorNames = TensorNames {
    vision_encoder: "model.vision_model",
    projector: "model.connector",
    language_model: "model.text_model",
    lm_head: "lm_head",
    image_newline: None,
    aliases: &[
        ("model.language_model.", "model.text_model."),
        ("model.model.", "model."),
        ("vision_model.", "model.vision_model."),
        ("connector.", "model.connector."),
        ("text_model.", "model.text_model."),
        ("model.lm_head.", "lm_head."),
    ],
    modules: &[],
    unused: &[],
};

/// What SmolVLM and Idefics3 use when their folder holds no template.
pub(crate) const TEMPLATE: &str = "<|im_start|>{% for message in messages %}\
{{message['role'] | capitalize}}{% if message['content'][0]['type'] == 'image' %}{{':'}}\
{% else %}{{': '}}{% endif %}{% for line in message['content'] %}\
{% if line['type'] == 'text' %}{{line['text']}}\
{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n\
{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";
