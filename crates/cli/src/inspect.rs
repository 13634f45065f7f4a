//! `sightline inspect forward`: everything between the question and the logits, as tensors, so
//! that anyone can compare this engine with another.
use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use image::RgbImage;
use vlm::processor::{Inputs, Message, Processor};
use vlm::{Config, KvCache, Mask, Positions, Probe, Vlm};

use crate::problem::Problem;

/// Run a model once and write its tensors.
///
/// The prompt goes through the model's chat template as one user message, the picture first,
/// with the start of the answer appended. A prompt that already contains the model's image token
/// (such as `<image>`) is taken as it is instead: nothing is put around it but the tokens the
/// tokenizer adds by itself, and each image token becomes the tokens of the picture.
///
/// All in f32 on the CPU. Written: input_ids (1, T) i64, pixel_values (N, C, S, S),
/// vision_features (N, P, D_v) as the projector receives them, image_embeds (N, T_img, D) as it
/// returns them, logits (1, T, V). Without a picture only the first and the last. Of
/// Qwen-VL, pixel_values (P, values of a patch), vision_features (P, D_v), image_embeds
/// (T_img, D): as the reference has them.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Forward {
    /// The model's folder or .gguf file.
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// The file to write.
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
}

impl Forward {
    pub fn run(self) -> Result<(), Problem> {
        let config = Config::load(&self.model)?;
        let processor = Processor::load(&self.model, &config)?;
        let image = self.image.as_deref().map(vlm::processor::image::open).transpose()?;
        let inputs = self.inputs(&processor, image.as_slice())?;
        let vlm = Vlm::load(&self.model, &Device::Cpu)?;
        let ids: Vec<i64> = inputs.input_ids.iter().map(|&id| i64::from(id)).collect();
        let n_tokens = ids.len();
        let ids = Tensor::from_vec(ids, (1, n_tokens), &Device::Cpu)?;
        let mut tensors = HashMap::from([("input_ids", ids.clone())]);
        let mut cache = KvCache::new();
        let embeds = match &inputs.pixel_values {
            None => vlm.embed_tokens(&ids)?,
            Some(pixel_values) => {
                let vision_features = vlm.picture_features(pixel_values, &inputs.image_spans)?;
                let question = &inputs.qformer_input_ids;
                let image_embeds = vlm.project_for(&vision_features, question)?.image_embeds;
                let packed = vlm.pack(&image_embeds, &inputs.image_spans)?;
                tensors.insert("pixel_values", pixel_values.contiguous()?);
                tensors.insert("vision_features", vision_features.contiguous()?);
                tensors.insert("image_embeds", image_embeds.contiguous()?);
                let visible = vec![inputs.cross_attention_mask.clone()];
                vlm.fuse(&inputs.input_ids, &packed, visible, &mut cache)?
            }
        };
        let ids = inputs.positions(0, n_tokens)?;
        let positions = ids.as_ref().map_or(Positions::From(0), Positions::Ids);
        let mut probe = Probe::none();
        let cache = Some(&mut cache);
        let hidden = vlm.forward(&embeds, &positions, &Mask::Causal, cache, &mut probe)?;
        tensors.insert("logits", vlm.logits(&hidden)?.contiguous()?);
        let bytes = safetensors::serialize(&tensors, None)
            .map_err(|error| Problem::new(format!("the tensors cannot be written: {error}"), ""))?;
        crate::output::write(&self.out, &bytes)
    }

    fn inputs(&self, processor: &Processor, images: &[RgbImage]) -> Result<Inputs, Problem> {
        if !self.prompt.contains(&processor.layout.image_token) {
            let messages = [Message::user(images.len(), self.prompt.clone())];
            return Ok(processor.prepare(&messages, images)?);
        }
        let tiled = processor.images.tiles_of(images);
        Ok(processor.prepare_prompt(&self.prompt, &tiled)?)
    }
}
