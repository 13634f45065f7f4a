//! The two towers of a dual encoder: pictures and texts in one space (CLIP, arXiv 2103.00020;
//! SigLIP, arXiv 2303.15343; SigLIP 2, arXiv 2502.14786).
//!
//! A family is a table here, too: how the vision encoder's features become one vector, and where
//! the text tower's projection lies. It knows tensors only; `crate::dual_encoder` prepares texts
//! and pictures.
//!
//! Shapes: `N` pictures, `B` texts, `T` tokens, `P` patches, `C` channels, `S` side, `p` side of a
//! patch, `D_v` width of the vision features, `E` width of the shared space.

mod attention_pooling;
pub mod text_tower;

use std::path::Path;

use candle_core::{D, Device, Tensor};

use super::loader::Loader;
use super::nn::{Compute, Linear};
use super::vision_encoder::{PatchExtents, VisionEncoder};
use crate::config::{DualEncoderConfig, DualEncoderType};
use crate::error::Error;
use crate::weights::TensorMap;
use attention_pooling::AttentionPooling;
use text_tower::{TextTower, TextTowerNames};

/// Both towers and the temperature of their comparison.
pub struct Towers {
    pub config: DualEncoderConfig,
    vision_encoder: VisionEncoder,
    vision_head: VisionHead,
    text_tower: TextTower,
    /// `ln` of what cosines are multiplied by, one number
    logit_scale: Tensor,
    /// What is added afterwards, one number (SigLIP)
    logit_bias: Option<Tensor>,
}

/// How the features of all patches become one vector.
enum VisionHead {
    /// The class token alone, projected (CLIP).
    ClassToken { visual_projection: Linear },
    /// One learned query attends to all patches (SigLIP).
    Attention(AttentionPooling),
}

impl Towers {
    /// Loads a model folder in Hugging Face layout, in f32.
    ///
    /// Errors: no dual encoder; weights missing, damaged or not fitting `config.json`, with every
    /// tensor named.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, Error> {
        let config = DualEncoderConfig::load(dir)?;
        let mut loader = Loader::new(TensorMap::open(dir, device)?, Compute::F32);
        let towers = Self::build(&config, &mut loader)?;
        loader.finish()?;
        Ok(towers)
    }

    /// Every parameter's name, as in the Hugging Face checkpoint, and shape.
    pub fn parameter_shapes(
        config: &DualEncoderConfig,
    ) -> Result<Vec<(String, Vec<usize>)>, Error> {
        let mut recorder = Loader::recorder();
        Self::build(config, &mut recorder)?;
        Ok(recorder.asked)
    }

    fn build(config: &DualEncoderConfig, loader: &mut Loader) -> Result<Self, Error> {
        let (vision, text) = (&config.vision_config, &config.text_config);
        let vision_encoder = VisionEncoder::load(loader, "vision_model", vision)?;
        let tower = "text_model";
        let (vision_head, names, scalar) = match config.model_type {
            DualEncoderType::Clip => {
                let size = (config.projection_dim, vision.hidden_size);
                let visual_projection = loader.linear("visual_projection", size, false)?;
                let projection = "text_projection";
                let names = TextTowerNames { tower, projection, projection_bias: false };
                (VisionHead::ClassToken { visual_projection }, names, &[][..])
            }
            DualEncoderType::Siglip | DualEncoderType::Siglip2 => {
                let head = AttentionPooling::load(loader, "vision_model.head", vision)?;
                let projection = "text_model.head";
                let names = TextTowerNames { tower, projection, projection_bias: true };
                (VisionHead::Attention(head), names, &[1][..])
            }
        };
        let logit_bias = match config.model_type {
            DualEncoderType::Clip => None,
            _ => Some(loader.tensor("logit_bias", scalar)?),
        };
        Ok(Towers {
            config: config.clone(),
            vision_encoder,
            vision_head,
            text_tower: TextTower::load(loader, &names, text)?,
            logit_scale: loader.tensor("logit_scale", scalar)?,
            logit_bias,
        })
    }

    /// Where the weights live.
    #[must_use]
    pub fn device(&self) -> &Device {
        self.logit_scale.device()
    }

    /// What a picture is seen as, before it enters the shared space: `pixel_values (N, C, S, S)`,
    /// or `(N, P, p·p·C)` with the rows and columns of each picture's patches (SigLIP 2) →
    /// `(N, D_v)`, the reference's `pooler_output`.
    pub fn vision_features(
        &self,
        pixel_values: &Tensor,
        spatial_shapes: PatchExtents,
    ) -> Result<Tensor, Error> {
        let encoder = &self.vision_encoder;
        let features = encoder.forward(pixel_values, spatial_shapes)?; // (N, P, D_v)
        match &self.vision_head {
            VisionHead::ClassToken { .. } => {
                Ok(features.narrow(1, 0, 1)?.contiguous()?.squeeze(1)?)
            }
            VisionHead::Attention(head) => {
                let hidden_keys = encoder.padding_mask(pixel_values, spatial_shapes)?;
                head.forward(&features, hidden_keys.as_ref())
            }
        }
    }

    /// `vision_features (N, D_v)` → `image_embeds (N, E)`, each of length 1.
    pub fn image_embeds(&self, vision_features: &Tensor) -> Result<Tensor, Error> {
        match &self.vision_head {
            VisionHead::ClassToken { visual_projection } => {
                normalise(&visual_projection.forward(vision_features)?)
            }
            VisionHead::Attention(_) => normalise(vision_features),
        }
    }

    /// `input_ids (B, T)` u32 and, where padding is not to be seen, `attention_mask (B, T)` →
    /// `text_embeds (B, E)`, each of length 1.
    ///
    /// Errors: more tokens than positions, ids outside the vocabulary.
    pub fn text_embeds(
        &self,
        input_ids: &Tensor,
        attention_mask: Option<&Tensor>,
    ) -> Result<Tensor, Error> {
        let vocab_size = self.config.text_config.vocab_size;
        let ids = input_ids.flatten_all()?.to_vec1::<u32>()?;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::TokenId { id, vocab_size });
        }
        normalise(&self.text_tower.forward(input_ids, attention_mask)?)
    }

    /// How well each text fits each picture: `image_embeds (N, E)` and `text_embeds (B, E)` →
    /// `logits_per_image (N, B)`.
    pub fn logits(&self, image_embeds: &Tensor, text_embeds: &Tensor) -> Result<Tensor, Error> {
        let cosines = image_embeds.matmul(&text_embeds.t()?)?; // (N, B)
        let scale = self.logit_scale.flatten_all()?.exp()?.unsqueeze(0)?; // (1, 1)
        let logits = cosines.broadcast_mul(&scale)?;
        match &self.logit_bias {
            Some(bias) => Ok(logits.broadcast_add(&bias.unsqueeze(0)?)?),
            None => Ok(logits),
        }
    }
}

/// Divides by the Euclidean length along the last dimension.
pub(super) fn normalise(x: &Tensor) -> Result<Tensor, Error> {
    let length = (x.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
    Ok(x.broadcast_div(&length)?)
}
