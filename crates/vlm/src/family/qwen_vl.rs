//! Qwen2-VL, Qwen2.5-VL and Qwen3-VL (`modeling_{qwen2_vl,qwen2_5_vl,qwen3_vl}.py`).

use super::{Family, Pictures};
use crate::config::{ModelType, qwen_vl};
use crate::model::tensor_names::TensorNames;
use crate::processor::image::Kind;

pub(super) const QWEN2_VL: Family = Family {
    model_type: ModelType::Qwen2Vl,
    names: &["qwen2_vl"],
    title: "Qwen2-VL",
    config: qwen_vl::qwen_vl,
    tensors: |_| &NAMES,
    pictures: Pictures::Repeated,
    image_token: "<|image_pad|>",
    image_processor: |_| Kind::Qwen2Vl,
    chat_template: None,
};

pub(super) const QWEN2_5_VL: Family = Family {
    model_type: ModelType::Qwen2_5Vl,
    names: &["qwen2_5_vl"],
    title: "Qwen2.5-VL",
    ..QWEN2_VL
};

pub(super) const QWEN3_VL: Family = Family {
    model_type: ModelType::Qwen3Vl,
    names: &["qwen3_vl"],
    title: "Qwen3-VL",
    tensors: |_| &NAMES_3,
    ..QWEN2_VL
};

/// Transformers renames inside but saves these names.
const NAMES: TensorNames = TensorNames {
    vision_encoder: "visual",
    projector: "visual",
    language_model: "model",
    lm_head: "lm_head",
    image_newline: None,
    aliases: &[("model.visual.", "visual."), ("model.language_model.", "model.")],
    modules: &[("visual.", "model.visual."), ("model.", "model.language_model.")],
    unused: &[],
};

const NAMES_3: TensorNames = TensorNames {
    vision_encoder: "model.visual",
    projector: "model.visual",
    language_model: "model.language_model",
    aliases: &[("visual.", "model.visual."), ("language_model.", "model.language_model.")],
    modules: &[],
    ..NAMES
};
