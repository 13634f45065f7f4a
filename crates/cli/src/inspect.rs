//! `sightline inspect forward`: everything between the question and the logits, as tensors, so
//! that anyone can compare this engine with another.
use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
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
/// returns them, logits (1, T, V). Of Qwen-VL, pixel_values (P, values of a patch),
/// vision_features (P, D_v), image_embeds (T_img, D): as the reference has them.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Forward {
    /// The model's folder.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
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
        let image = vlm::processor::image::open(&self.image)?;
        let inputs = self.inputs(&processor, image)?;
        let Some(pixel_values) = &inputs.pixel_values else {
            return Err(Problem::new("the prompt has no place for a picture", "Leave it plain."));
        };
        let vlm = Vlm::load(&self.model, &Device::Cpu)?;
        let vision_features = vlm.picture_features(pixel_values, &inputs.image_spans)?;
        let ids = &inputs.qformer_input_ids;
        let image_embeds = vlm.project_for(&vision_features, ids)?.image_embeds;
        let packed = vlm.pack(&image_embeds, &inputs.image_spans)?;
        let mut cache = KvCache::new();
        let visible = vec![inputs.cross_attention_mask.clone()];
        let embeds = vlm.fuse(&inputs.input_ids, &packed, visible, &mut cache)?;
        let ids = inputs.positions(0, inputs.input_ids.len())?;
        let positions = ids.as_ref().map_or(Positions::From(0), Positions::Ids);
        let mut probe = Probe::none();
        let hidden =
            vlm.forward(&embeds, &positions, &Mask::Causal, Some(&mut cache), &mut probe)?;
        let logits = vlm.logits(&hidden)?;
        let ids: Vec<i64> = inputs.input_ids.iter().map(|&id| i64::from(id)).collect();
        let n_tokens = ids.len();
        let tensors = HashMap::from([
            ("input_ids", Tensor::from_vec(ids, (1, n_tokens), &Device::Cpu)?),
            ("pixel_values", pixel_values.contiguous()?),
            ("vision_features", vision_features.contiguous()?),
            ("image_embeds", image_embeds.contiguous()?),
            ("logits", logits.contiguous()?),
        ]);
        let bytes = safetensors::serialize(&tensors, None)
            .map_err(|error| Problem::new(format!("the tensors cannot be written: {error}"), ""))?;
        crate::output::write(&self.out, &bytes)
    }

    fn inputs(&self, processor: &Processor, image: image::RgbImage) -> Result<Inputs, Problem> {
        if !self.prompt.contains(&processor.layout.image_token) {
            let messages = [Message::user(1, self.prompt.clone())];
            return Ok(processor.prepare(&messages, &[image])?);
        }
        let tiled = [processor.images.tiles(&image)];
        Ok(processor.prepare_prompt(&self.prompt, &tiled)?)
    }
}
