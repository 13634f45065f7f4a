//! Pictures and texts compared: CLIP, SigLIP and SigLIP 2, for retrieval and zero-shot labels.
//!
//! What `generate` is to a `Vlm` this is to the two towers: it prepares pictures and texts as the
//! reference's processors do and asks the network. It knows no files but the model's folder.
//!
//! Shapes: `N` pictures, `B` texts, `E` width of the shared space, `D_v` width of the vision
//! features.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;

use crate::config::DualEncoderType;
use crate::error::Error;
use crate::model::nn::softmax;
use crate::model::towers::Towers;
use crate::processor::image::{ImageProcessor, ImageSettings, Kind, Patches, Tile};
use crate::processor::tokenizer::TextTokenizer;

/// Pictures and texts in one forward pass: more take memory and save no time.
const BATCH: usize = 8;

/// Both towers with what prepares their inputs.
pub struct DualEncoder {
    pub towers: Towers,
    pub texts: TextTokenizer,
    pub images: ImageProcessor,
}

/// Prepared pictures.
#[derive(Clone, Debug)]
pub struct Pixels {
    /// (N, C, S, S); (N, P, p·p·C) of SigLIP 2
    pub pixel_values: Tensor,
    /// Rows and columns of each picture's patches (SigLIP 2).
    pub spatial_shapes: Option<Vec<(usize, usize)>>,
}

impl DualEncoder {
    /// Reads a model folder in Hugging Face layout, in f32.
    ///
    /// Errors: a model of another kind; a missing or wrong file, by name; tensors that do not fit
    /// `config.json`, each by name.
    pub fn load(dir: &Path, device: &Device) -> Result<DualEncoder, Error> {
        let towers = Towers::load(dir, device)?;
        let config = &towers.config;
        let settings = image_settings(dir, config.model_type)?;
        let positions = config.text_config.max_position_embeddings;
        let texts = TextTokenizer::load(dir, config.model_type, positions)?;
        Ok(DualEncoder { texts, images: ImageProcessor { settings }, towers })
    }

    /// Pictures as the vision tower receives them, on its device.
    pub fn pixel_values(&self, images: &[RgbImage]) -> Result<Pixels, Error> {
        let tiles: Vec<Tile> =
            images.iter().flat_map(|picture| self.images.tiles(picture).tiles).collect();
        let tiles: Vec<&Tile> = tiles.iter().collect();
        let (pixel_values, spatial_shapes) = match self.images.settings.kind {
            Kind::Siglip2 => {
                let Patches { pixel_values, spatial_shapes } = self.images.patches(&tiles)?;
                (pixel_values, Some(spatial_shapes))
            }
            _ => (self.images.pixel_values(&tiles)?, None),
        };
        let pixel_values = pixel_values.to_device(self.towers.device())?;
        Ok(Pixels { pixel_values, spatial_shapes })
    }

    /// `N` pictures → `image_embeds (N, E)`, each of length 1.
    pub fn encode_images(&self, images: &[RgbImage]) -> Result<Tensor, Error> {
        let encode = |images: &[RgbImage]| {
            let pixels = self.pixel_values(images)?;
            let shapes = pixels.spatial_shapes.as_deref();
            let features = self.towers.vision_features(&pixels.pixel_values, shapes)?;
            self.towers.image_embeds(&features)
        };
        self.joined(images.chunks(BATCH).map(encode))
    }

    /// `B` texts → `text_embeds (B, E)`, each of length 1.
    pub fn encode_texts(&self, texts: &[&str]) -> Result<Tensor, Error> {
        let device = self.towers.device();
        let encode = |texts: &[&str]| {
            let padded = self.texts.encode(texts)?;
            let mask = padded.attention_mask.map(|mask| mask.to_device(device)).transpose()?;
            self.towers.text_embeds(&padded.input_ids.to_device(device)?, mask.as_ref())
        };
        self.joined(texts.chunks(BATCH).map(encode))
    }

    /// `image_embeds (N, E)` and `text_embeds (B, E)` → `logits_per_image (N, B)`.
    pub fn logits(&self, image_embeds: &Tensor, text_embeds: &Tensor) -> Result<Tensor, Error> {
        self.towers.logits(image_embeds, text_embeds)
    }

    /// `logits_per_image (N, B)` → the probability of each text, `(N, B)`: among these texts
    /// (CLIP), or for each text by itself (SigLIP).
    pub fn probabilities(&self, logits: &Tensor) -> Result<Tensor, Error> {
        match self.towers.config.model_type {
            DualEncoderType::Clip => {
                let rows = logits.unsqueeze(0)?.unsqueeze(0)?; // (1, 1, N, B)
                Ok(softmax(&rows, None, 1.0)?.reshape(logits.shape())?)
            }
            _ => Ok(((logits.neg()?.exp()? + 1.0)?.recip())?),
        }
    }

    /// Batches of rows `(…, E)` one under the other.
    fn joined(
        &self,
        batches: impl Iterator<Item = Result<Tensor, Error>>,
    ) -> Result<Tensor, Error> {
        let batches = batches.collect::<Result<Vec<Tensor>, Error>>()?;
        if batches.is_empty() {
            let size = (0, self.towers.config.projection_dim);
            return Ok(Tensor::zeros(size, DType::F32, self.towers.device())?);
        }
        Ok(Tensor::cat(&batches, 0)?)
    }
}

/// The image processor's settings, which must give one tile of what the tower reads.
fn image_settings(dir: &Path, model_type: DualEncoderType) -> Result<ImageSettings, Error> {
    let usual = match model_type {
        DualEncoderType::Clip => Kind::Clip,
        DualEncoderType::Siglip => Kind::Siglip,
        DualEncoderType::Siglip2 => Kind::Siglip2,
    };
    let settings = ImageSettings::load(dir, usual)?;
    let whole = matches!(settings.kind, Kind::Clip | Kind::Siglip) && usual != Kind::Siglip2;
    if settings.kind == usual || whole {
        return Ok(settings);
    }
    let file = dir.join("preprocessor_config.json").display().to_string();
    let message = "is that of a model of another kind; download the one saved with this model";
    Err(Error::Processor { file, message: message.into() })
}
