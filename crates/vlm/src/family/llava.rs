//! LLaVA-1.5, LLaVA-NeXT and LLaVA-OneVision (`modeling_{llava,llava_next,llava_onevision}.py`).

use super::{Family, Pictures};
use crate::config::{self, ModelType, VisionKind};
use crate::model::tensor_names::TensorNames;
use crate::processor::image::Kind;

pub(super) const LLAVA: Family = Family {
    model_type: ModelType::Llava,
    names: &["llava"],
    title: "LLaVA",
    config: config::llava,
    tensors: |_| &NAMES,
    pictures: Pictures::Repeated,
    image_token: "<image>",
    image_processor: |tower| match tower {
        VisionKind::Clip => Kind::Clip,
        _ => Kind::Siglip,
    },
    chat_template: Some(TEMPLATE),
};

/// Each of their decoders was taught another template.
pub(super) const LLAVA_NEXT: Family = Family {
    model_type: ModelType::LlavaNext,
    names: &["llava_next"],
    title: "LLaVA-NeXT",
    tensors: |_| &NEXT_NAMES,
    image_processor: |_| Kind::LlavaNext,
    chat_template: None,
    ..LLAVA
};

pub(super) const LLAVA_ONEVISION: Family = Family {
    model_type: ModelType::LlavaOnevision,
    names: &["llava_onevision"],
    title: "LLaVA-OneVision",
    image_processor: |_| Kind::LlavaOnevision,
    ..LLAVA_NEXT
};

const NAMES: TensorNames = TensorNames {
    vision_encoder: "vision_tower.vision_model",
    projector: "multi_modal_projector",
    language_model: "language_model.model",
    lm_head: "language_model.lm_head",
    image_newline: None,
    aliases: &[
        ("model.vision_tower.", "vision_tower."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
        ("model.language_model.", "language_model.model."),
        ("model.image_newline", "image_newline"),
        ("lm_head.", "language_model.lm_head."),
    ],
    modules: &[
        ("vision_tower.", "model.vision_tower."),
        ("multi_modal_projector.", "model.multi_modal_projector."),
        ("language_model.model.", "model.language_model."),
        ("language_model.lm_head.", "lm_head."),
    ],
    unused: &["vision_tower.vision_model.head."],
};

const NEXT_NAMES: TensorNames = TensorNames { image_newline: Some("image_newline"), ..NAMES };

/// What LLaVA 1.5 uses.
pub(crate) const TEMPLATE: &str = "{% for message in messages %}\
{% if message['role'] != 'system' %}{{ message['role'] | upper + ': '}}{% endif %}\
{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}\
{{ '<image>\n' }}{% endfor %}\
{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}\
{{ part['text'] + ' ' }}{% endfor %}\
{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}";
