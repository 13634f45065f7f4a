//! A case of two towers: pictures and texts, each encoded, and how well each fits the other.

use std::collections::BTreeMap;

use candle_core::Device;
use vlm::DualEncoder;

use super::case::Case;
use super::note;
use super::report::Held;
use crate::Error;

/// Compares one case; what was found before an error stays.
pub(super) fn hold(case: &Case, row: &mut Held) -> Result<(), Error> {
    let dual_encoder = DualEncoder::load(&case.dir, &Device::Cpu)?;
    let towers = &dual_encoder.towers;
    let texts: Vec<&str> = case.texts.iter().map(String::as_str).collect();
    let padded = dual_encoder.texts.encode(&texts)?;
    let ids: Vec<u32> = padded.input_ids.flatten_all()?.to_vec1()?;
    row.input_ids = Some(ids == case.expected.ids("input_ids")?);
    let pixels = dual_encoder.pixel_values(&case.images)?;
    let features =
        towers.vision_features(&pixels.pixel_values, pixels.spatial_shapes.as_deref())?;
    let image_embeds = towers.image_embeds(&features)?;
    let text_embeds = towers.text_embeds(&padded.input_ids, padded.attention_mask.as_ref())?;
    let activations = BTreeMap::from([
        ("pixel_values", pixels.pixel_values),
        ("vision_features", features),
        ("logits_per_image", towers.logits(&image_embeds, &text_embeds)?),
        ("image_embeds", image_embeds),
        ("text_embeds", text_embeds),
    ]);
    note(case, row, &activations, &dual_encoder.images.settings)
}
