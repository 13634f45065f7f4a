//! The loss of an example, and how much of its answer the model gets right.
//!
//! Shapes: `T` tokens, `R` rows that predict what is taught, `D` hidden size, `V` vocabulary.

use candle_core::{D, Tensor};
use vlm::model::nn::cross_entropy;
use vlm::processor::{Lesson, Message, Processor};
use vlm::{Mask, Positions, Probe, Vlm};

use super::examples::Example;
use crate::Error;

/// The loss of a lesson.
pub(super) struct Found {
    /// Mean over what is taught.
    pub loss: Tensor,
    /// How many tokens are taught.
    pub n: usize,
    /// Whether the likeliest token is the right one at each of them.
    pub is_right: bool,
}

/// Lays an example out; without its pictures where it is to be learned `blind`.
pub(super) fn lesson(
    processor: &Processor,
    example: &Example,
    blind: bool,
) -> Result<Lesson, Error> {
    let messages: Vec<Message> = match blind {
        true => example.messages.iter().map(Message::without_images).collect(),
        false => example.messages.clone(),
    };
    let images = if blind { &[] } else { example.images.as_slice() };
    Ok(processor.prepare_lesson(&messages, images)?)
}

/// What the model says where the lesson teaches, `(R, V)`.
///
/// # Errors
/// A model whose pictures become no tokens; a lesson without an answer; the engine's.
pub fn logits(vlm: &Vlm, lesson: &Lesson) -> Result<Tensor, Error> {
    let Lesson { inputs, .. } = lesson;
    if vlm.config.text_config.has_cross_attention() {
        let reason = "its pictures do not become tokens; such a model cannot be fine-tuned yet";
        return Err(Error::Model(reason.into()));
    }
    let rows: Vec<u32> = lesson.supervised().into_iter().map(|(row, _)| row).collect();
    if rows.is_empty() {
        return Err(Error::Model("an example without an answer teaches nothing".into()));
    }
    let embeds = match &inputs.pixel_values {
        None => {
            let ids =
                Tensor::from_slice(&inputs.input_ids, (1, inputs.input_ids.len()), vlm.device())?;
            vlm.embed_tokens(&ids)?
        }
        Some(pixel_values) => {
            let features = vlm.picture_features(pixel_values, &inputs.image_spans)?;
            let projected = vlm.project_for(&features, &inputs.qformer_input_ids)?;
            let rows = vlm.pack(&projected.image_embeds, &inputs.image_spans)?;
            vlm.merge(&inputs.input_ids, &rows)?
        }
    }; // (1, T, D)
    let ids = inputs.positions(0, inputs.input_ids.len())?;
    let positions = ids.as_ref().map_or(Positions::From(0), Positions::Ids);
    let hidden = vlm.forward(&embeds, &positions, &Mask::Causal, None, &mut Probe::none())?;
    let rows = Tensor::new(rows, vlm.device())?;
    Ok(vlm.logits(&hidden.squeeze(0)?.index_select(&rows, 0)?)?)
}

/// What the model makes of a lesson.
pub(super) fn loss(vlm: &Vlm, lesson: &Lesson) -> Result<Found, Error> {
    let logits = logits(vlm, lesson)?;
    let right: Vec<u32> = lesson.supervised().into_iter().map(|(_, token)| token).collect();
    let n = right.len();
    let is_right = logits.detach().argmax(D::Minus1)?.to_vec1::<u32>()? == right;
    let right = Tensor::new(right, vlm.device())?;
    Ok(Found { loss: cross_entropy(&logits, &right)?, n, is_right })
}
