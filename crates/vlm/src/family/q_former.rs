//! BLIP-2 and InstructBLIP (`modeling_{blip_2,instructblip}.py`).

use super::{Family, Pictures};
use crate::config::{ModelType, TextKind, q_former};
use crate::model::tensor_names::TensorNames;
use crate::processor::image::Kind;

pub(super) const BLIP_2: Family = Family {
    model_type: ModelType::Blip2,
    names: &["blip-2"],
    title: "BLIP-2",
    config: q_former::config,
    tensors: |config| match config.text_config.kind {
        TextKind::Llama => &NAMES,
        TextKind::Opt => &OPT_NAMES,
    },
    pictures: Pictures::BeforeText,
    image_token: "<image>",
    image_processor: |_| Kind::Blip,
    chat_template: Some(BLIP_2_TEMPLATE),
};

pub(super) const INSTRUCT_BLIP: Family = Family {
    model_type: ModelType::InstructBlip,
    names: &["instructblip"],
    title: "InstructBLIP",
    chat_template: Some(INSTRUCT_BLIP_TEMPLATE),
    ..BLIP_2
};

/// With a decoder of Llama's kind.
const NAMES: TensorNames = TensorNames {
    vision_encoder: "vision_model",
    projector: "qformer",
    language_model: "language_model.model",
    lm_head: "language_model.lm_head",
    image_newline: None,
    aliases: &[
        ("model.vision_model.", "vision_model."),
        ("model.qformer.", "qformer."),
        ("model.query_tokens", "query_tokens"),
        ("model.language_projection.", "language_projection."),
        ("model.language_model.model.", "language_model.model."),
        ("model.language_model.lm_head.", "language_model.lm_head."),
        ("model.language_model.", "language_model.model."),
        ("lm_head.", "language_model.lm_head."),
    ],
    modules: &[],
    unused: &[],
};

const OPT_NAMES: TensorNames =
    TensorNames { language_model: "language_model.model.decoder", ..NAMES };

/// What the documentation of `Blip2ForConditionalGeneration` and, for a conversation, BLIP-2's
/// own examples write. Pictures stand before the text.
const BLIP_2_TEMPLATE: &str = "{% for message in messages %}\
{% set text = message['content'] | selectattr('type', 'equalto', 'text') \
| map(attribute='text') | join %}\
{% if message['role'] == 'user' %}{{ 'Question: ' + text + ' Answer:' }}\
{% elif message['role'] == 'assistant' %}{{ ' ' + text + '. ' }}\
{% else %}{{ text + ' ' }}{% endif %}{% endfor %}";

/// What the documentation of `InstructBlipForConditionalGeneration` writes: the question alone.
/// Earlier turns stand before it, one line for each.
const INSTRUCT_BLIP_TEMPLATE: &str = "{% for message in messages %}\
{% set text = message['content'] | selectattr('type', 'equalto', 'text') \
| map(attribute='text') | join %}\
{% if message['role'] == 'user' %}{{ text }}\
{% elif message['role'] == 'assistant' %}{{ ' ' + text + '\n' }}\
{% else %}{{ text + '\n' }}{% endif %}{% endfor %}";
