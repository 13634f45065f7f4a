//! `vision_config`: the vision encoder's sizes, for CLIP, SigLIP, Idefics3/SmolVLM and BLIP-2
//! towers, and what those of Qwen-VL (`qwen_vl`) and Llama-3.2-Vision
//! (`mllama`) add.
//!
//! Defaults are those of transformers 4.57.1, which differ between them. It does not know
//! how images become `pixel_values`.

use super::fields::Fields;
use super::{DualEncoderType, ModelType, TileConfig, unsupported};
use crate::error::Error;
use crate::model::nn::Activation;

/// Which published architecture the encoder follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisionKind {
    /// Class token, `pre_layrnorm`, no patch bias (`CLIPVisionModel`).
    Clip,
    /// No class token, patch bias (`SiglipVisionModel`).
    Siglip,
    /// SigLIP on pictures of any aspect ratio, given as patches (`Siglip2VisionModel`).
    Siglip2,
    /// SigLIP with positions by fractional coordinates (`Idefics3VisionTransformer`).
    Idefics3,
    /// CLIP whose positions depend on the canvas, with layers between tiles
    /// (`MllamaVisionModel`).
    Mllama,
    /// Class token, patch bias, queries, keys and values in one matrix (`Blip2VisionModel`).
    Blip,
    /// Pictures of any shape; LayerNorm (`Qwen2VisionTransformerPretrainedModel`).
    Qwen2Vl,
    /// The same with RMS norm, a gated MLP and windows
    /// (`Qwen2_5_VisionTransformerPretrainedModel`).
    Qwen2_5Vl,
    /// As the first, with learned positions (`Qwen3VLVisionModel`).
    Qwen3Vl,
}

/// What a tower that takes pictures of any shape has beside the others.
#[derive(Debug, Clone, PartialEq)]
pub struct DynamicResolution {
    /// Frames in one patch; a picture counts as that many equal ones.
    pub temporal_patch_size: usize,
    /// Side of the square of patches that becomes one token.
    pub spatial_merge_size: usize,
    /// Side of the windows that attention stays in, in tokens; `None` = the whole picture.
    pub window: Option<usize>,
    /// Layers that see the whole picture nevertheless.
    pub fullatt_block_indexes: Vec<usize>,
    /// Rows of the learned positions, a square.
    pub num_position_embeddings: Option<usize>,
    /// Layers whose output the decoder is given too.
    pub deepstack_visual_indexes: Vec<usize>,
}

/// Sizes of the vision encoder, named as in `vision_config`.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    pub kind: VisionKind,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_channels: usize,
    /// px; 0 where pictures keep their shape
    pub image_size: usize,
    /// px
    pub patch_size: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
    pub dynamic: Option<DynamicResolution>,
    /// Llama-3.2-Vision only.
    pub tiles: Option<TileConfig>,
}

/// What a key of `vision_config` means when it is missing.
struct Defaults {
    kind: VisionKind,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    image_size: usize,
    patch_size: usize,
    hidden_act: &'static str,
    layer_norm_eps: f64,
}

const CLIP: Defaults = Defaults {
    kind: VisionKind::Clip,
    hidden_size: 768,
    intermediate_size: 3072,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    image_size: 224,
    patch_size: 32,
    hidden_act: "quick_gelu",
    layer_norm_eps: 1e-5,
};

/// What `LlavaConfig` builds when there is no `vision_config` at all.
const LLAVA: Defaults = Defaults {
    hidden_size: 1024,
    intermediate_size: 4096,
    num_hidden_layers: 24,
    num_attention_heads: 16,
    image_size: 336,
    patch_size: 14,
    ..CLIP
};

const SIGLIP: Defaults = Defaults {
    kind: VisionKind::Siglip,
    patch_size: 16,
    hidden_act: "gelu_pytorch_tanh",
    layer_norm_eps: 1e-6,
    ..CLIP
};

/// What `LlavaOnevisionConfig` builds when there is no `vision_config` at all.
const ONEVISION: Defaults = Defaults {
    hidden_size: 1152,
    intermediate_size: 4304,
    num_hidden_layers: 26,
    num_attention_heads: 16,
    image_size: 384,
    patch_size: 14,
    ..SIGLIP
};

/// `image_size` is that of the square whose patches are `num_patches`, 256.
const SIGLIP2: Defaults = Defaults { kind: VisionKind::Siglip2, image_size: 256, ..SIGLIP };

const IDEFICS3: Defaults = Defaults {
    kind: VisionKind::Idefics3,
    hidden_size: 1152,
    num_attention_heads: 16,
    patch_size: 32,
    ..SIGLIP
};

const MLLAMA: Defaults = Defaults {
    kind: VisionKind::Mllama,
    hidden_size: 1280,
    intermediate_size: 5120,
    num_hidden_layers: 32,
    num_attention_heads: 16,
    image_size: 448,
    patch_size: 14,
    hidden_act: "gelu",
    layer_norm_eps: 1e-5,
};

/// EVA-CLIP's ViT-g.
const BLIP: Defaults = Defaults {
    kind: VisionKind::Blip,
    hidden_size: 1408,
    intermediate_size: 6144,
    num_hidden_layers: 39,
    num_attention_heads: 16,
    image_size: 224,
    patch_size: 14,
    hidden_act: "gelu",
    layer_norm_eps: 1e-6,
};

impl VisionConfig {
    /// The tower of an Idefics3 or SmolVLM model, whatever its `model_type` says.
    pub(crate) fn idefics3(fields: &Fields) -> Result<Self, Error> {
        Self::read(fields, &IDEFICS3)
    }

    /// The tower of a LLaVA, LLaVA-NeXT or LLaVA-OneVision model.
    pub(crate) fn llava(fields: &Fields, model_type: ModelType) -> Result<Self, Error> {
        let fields = fields.object("vision_config")?;
        let (absent, kind) = match model_type {
            ModelType::LlavaOnevision => (&ONEVISION, "siglip_vision_model"),
            _ => (&LLAVA, "clip_vision_model"),
        };
        if fields.is_absent() {
            return Self::read(&fields, absent);
        }
        match fields.str("model_type", kind)? {
            "clip_vision_model" => Self::read(&fields, &CLIP),
            "siglip_vision_model" => Self::read(&fields, &SIGLIP),
            found => {
                let supported = "clip_vision_model, siglip_vision_model";
                Err(unsupported("vision_config.model_type", found, supported))
            }
        }
    }

    /// No tower: a model that reads text only.
    pub(crate) fn none() -> Self {
        VisionConfig {
            kind: VisionKind::Clip,
            hidden_size: 0,
            intermediate_size: 0,
            num_hidden_layers: 0,
            num_attention_heads: 1,
            num_channels: 3,
            image_size: 0,
            patch_size: 1,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 0.0,
            dynamic: None,
            tiles: None,
        }
    }

    /// The tower of a dual encoder, whatever its own `model_type` says.
    pub(crate) fn dual_encoder(
        fields: &Fields,
        model_type: DualEncoderType,
    ) -> Result<Self, Error> {
        match model_type {
            DualEncoderType::Clip => Self::read(fields, &CLIP),
            DualEncoderType::Siglip => Self::read(fields, &SIGLIP),
            DualEncoderType::Siglip2 => {
                let mut config = Self::read(fields, &SIGLIP2)?;
                let n_patches = fields.size("num_patches", 256)?;
                let side = n_patches.isqrt();
                if side * side != n_patches {
                    let message = format!("{n_patches} is not the number of patches of a square");
                    return Err(Error::config(fields.path("num_patches"), message));
                }
                config.image_size = side * config.patch_size;
                Ok(config)
            }
        }
    }

    /// The tower of a Llama-3.2-Vision model.
    pub(crate) fn mllama(fields: &Fields, tiles: TileConfig) -> Result<Self, Error> {
        // `MllamaVisionConfig` writes two of the keys under names of its own.
        let default = Defaults {
            num_attention_heads: fields.size("attention_heads", MLLAMA.num_attention_heads)?,
            layer_norm_eps: fields.f64("norm_eps", MLLAMA.layer_norm_eps)?,
            ..MLLAMA
        };
        Ok(VisionConfig { tiles: Some(tiles), ..Self::read(fields, &default)? })
    }

    /// The tower of a BLIP-2 or InstructBLIP model.
    pub(crate) fn blip(fields: &Fields) -> Result<Self, Error> {
        let fields = fields.object("vision_config")?;
        if !fields.bool("qkv_bias", true)? {
            return Err(unsupported(&fields.path("qkv_bias"), "false", "true"));
        }
        Self::read(&fields, &BLIP)
    }

    /// Whether a class token stands before the patches.
    pub fn has_class_token(&self) -> bool {
        matches!(self.kind, VisionKind::Clip | VisionKind::Blip | VisionKind::Mllama)
    }

    /// Patches along one side of an `image_size` square.
    pub fn patches_per_side(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Rows of the position embedding: the patches, and a class token.
    pub fn n_positions(&self) -> usize {
        self.patches_per_side().pow(2) + usize::from(self.has_class_token())
    }

    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let (size, heads) = (self.hidden_size, self.num_attention_heads);
        if !size.is_multiple_of(heads) {
            let message = format!("{size} is not a multiple of {heads} heads");
            return Err(Error::config("vision_config.hidden_size", message));
        }
        if self.dynamic.is_some() && !(size / heads).is_multiple_of(4) {
            let message = format!("{size} in {heads} heads leaves no pairs for rows and columns");
            return Err(Error::config("vision_config.hidden_size", message));
        }
        Ok(())
    }

    fn read(fields: &Fields, default: &Defaults) -> Result<Self, Error> {
        let config = VisionConfig {
            kind: default.kind,
            hidden_size: fields.size("hidden_size", default.hidden_size)?,
            intermediate_size: fields.size("intermediate_size", default.intermediate_size)?,
            num_hidden_layers: fields.size("num_hidden_layers", default.num_hidden_layers)?,
            num_attention_heads: fields.size("num_attention_heads", default.num_attention_heads)?,
            num_channels: fields.size("num_channels", 3)?,
            image_size: fields.size("image_size", default.image_size)?,
            patch_size: fields.size("patch_size", default.patch_size)?,
            hidden_act: fields.activation("hidden_act", default.hidden_act)?,
            layer_norm_eps: fields.f64("layer_norm_eps", default.layer_norm_eps)?,
            dynamic: None,
            tiles: None,
        };
        if config.patch_size > config.image_size {
            let message = format!("{} is larger than image_size", config.patch_size);
            return Err(Error::config(fields.path("patch_size"), message));
        }
        Ok(config)
    }
}
