//! Llama-3.2-Vision (`modeling_mllama.py`).

use super::{Family, Pictures};
use crate::config::{ModelType, mllama};
use crate::model::tensor_names::TensorNames;
use crate::processor::image::Kind;

pub(super) const MLLAMA: Family = Family {
    model_type: ModelType::Mllama,
    names: &["mllama"],
    title: "Llama-3.2-Vision",
    config: |fields, _| mllama::config(fields),
    tensors: |_| &NAMES,
    pictures: Pictures::CrossAttention,
    image_token: "<|image|>",
    image_processor: |_| Kind::Mllama,
    chat_template: None,
};

const NAMES: TensorNames = TensorNames {
    vision_encoder: "vision_model",
    projector: "multi_modal_projector",
    language_model: "language_model.model",
    lm_head: "language_model.lm_head",
    image_newline: None,
    aliases: &[
        ("model.language_model.", "language_model.model."),
        ("model.vision_model.", "vision_model."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
        ("lm_head.", "language_model.lm_head."),
    ],
    modules: &[
        ("vision_model.", "model.vision_model."),
        ("multi_modal_projector.", "model.multi_modal_projector."),
        ("language_model.model.", "model.language_model."),
        ("language_model.lm_head.", "lm_head."),
    ],
    unused: &[],
};
