//! Names regions with the shipped text tower and region head alone, without the language model.
//!
//! A region is the mean of the patch features under its box, by how much of each patch the box
//! covers. It knows the geometry of one square tile; it does not know how the towers were trained.
//!
//! Shapes: `P` patches, `D_v` width of the vision features, `R` regions, `U` phrases, `E` shared.

use crate::Error;
use candle_core::{DType, Device, Tensor};
use scenes::{Scene, classes};
use std::collections::HashMap;
use std::path::Path;
use vlm::model::dual_encoder::{DualEncoderConfig, RegionHead, TextTower};
use vlm::model::nn::Compute;
use vlm::processor::Processor;
use vlm::{TensorMap, Vlm};

/// The region head with the embedded class names to compare with.
pub struct Regions {
    head: RegionHead,
    /// (E, U)
    phrases: Tensor,
}

impl Regions {
    /// Reads the `region` folder of a model, or None where there is none.
    pub fn load(model_dir: &Path, processor: &Processor) -> Result<Option<Regions>, Error> {
        let dir = model_dir.join("region");
        let (settings, weights) = (dir.join("config.json"), dir.join("model.safetensors"));
        if !settings.exists() || !weights.exists() {
            return Ok(None);
        }
        let read = |source| Error::Read { path: settings.clone(), source };
        let text = std::fs::read_to_string(&settings).map_err(read)?;
        let config = DualEncoderConfig::from_json(&text)?;
        let tensors = tensors(&weights)?;
        let part = |prefix: &str| {
            let own = |(name, tensor): &(String, Tensor)| {
                Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()))
            };
            TensorMap::from(tensors.iter().filter_map(own).collect::<HashMap<_, _>>())
        };
        let tower = TextTower::from_tensors(&config, part("text_tower."), Compute::F32)?;
        let head = RegionHead::from_tensors(&config, part("region_head."), Compute::F32)?;
        let phrases = embed(&tower, processor, config.max_position_embeddings)?;
        let phrases = phrases.t().map_err(vlm::Error::from)?; // (E, U)
        Ok(Some(Regions { head, phrases }))
    }

    /// The class said of each object's box, in the scene's order.
    pub fn name(
        &self,
        vlm: &Vlm,
        processor: &Processor,
        scene: &Scene,
    ) -> Result<Vec<usize>, Error> {
        let (pixel_values, _) = processor.pixel_values(&scene.image)?;
        let features = vlm.vision_features(&pixel_values)?; // (1, P, D_v)
        let (_, n_patches, _) = features.dims3().map_err(vlm::Error::from)?;
        let side = (n_patches as f64).sqrt().round() as usize;
        let rows: Vec<f32> = scene
            .objects
            .iter()
            .flat_map(|object| cover(object.bbox, side, scene.image.width() as f32))
            .collect();
        let n = scene.objects.len();
        let named = || -> candle_core::Result<Vec<u32>> {
            let pooling = Tensor::from_vec(rows, (n, n_patches), &Device::Cpu)?;
            let pooled = pooling.matmul(&features.get(0)?)?; // (R, D_v)
            let regions = self.head.forward(&pooled).map_err(candle_core::Error::wrap)?; // (R, E)
            regions.matmul(&self.phrases)?.argmax(1)?.to_vec1() // (R,)
        };
        Ok(named().map_err(vlm::Error::from)?.into_iter().map(|class| class as usize).collect())
    }
}

fn tensors(path: &Path) -> Result<Vec<(String, Tensor)>, Error> {
    let loaded = candle_core::safetensors::load(path, &Device::Cpu).map_err(vlm::Error::from)?;
    let float = |(name, tensor): (String, Tensor)| {
        Ok((name, tensor.to_dtype(DType::F32).map_err(vlm::Error::from)?))
    };
    loaded.into_iter().map(float).collect()
}

/// Every class name, read with a space before it as inside a sentence: (U, E).
fn embed(tower: &TextTower, processor: &Processor, max_tokens: usize) -> Result<Tensor, Error> {
    let names = classes().iter().map(|class| format!(" {}", class.name));
    let rows: Result<Vec<Vec<u32>>, vlm::Error> =
        names.map(|name| processor.tokenizer.encode(&name)).collect();
    let mut rows = rows?;
    rows.iter_mut().for_each(|row| row.truncate(max_tokens));
    let (n, t) = (rows.len(), rows.iter().map(Vec::len).max().unwrap_or(1));
    let (mut ids, mut mask) = (vec![0u32; n * t], vec![0f32; n * t]);
    for (i, row) in rows.iter().enumerate() {
        ids[i * t..i * t + row.len()].copy_from_slice(row);
        mask[i * t..i * t + row.len()].fill(1.0);
    }
    let ids = Tensor::from_vec(ids, (n, t), &Device::Cpu).map_err(vlm::Error::from)?;
    let mask = Tensor::from_vec(mask, (n, t), &Device::Cpu).map_err(vlm::Error::from)?;
    Ok(tower.forward(&ids, &mask)?)
}

/// The part of the box that lies in each patch of a square grid; sums to 1.
fn cover([x0, y0, x1, y1]: [u32; 4], side: usize, pixels: f32) -> Vec<f32> {
    let cell = pixels / side as f32;
    let part = |i: usize, low: u32, high: u32| {
        let start = i as f32 * cell;
        (high as f32).min(start + cell) - (low as f32).max(start)
    };
    let shares = (0..side * side)
        .map(|i| part(i % side, x0, x1).max(0.0) * part(i / side, y0, y1).max(0.0))
        .collect::<Vec<f32>>();
    let sum = shares.iter().sum::<f32>().max(f32::MIN_POSITIVE);
    shares.into_iter().map(|share| share / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_weighs_the_patches_it_covers() {
        assert_eq!(cover([0, 0, 2, 2], 2, 4.0), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(cover([1, 0, 3, 2], 2, 4.0), [0.5, 0.5, 0.0, 0.0]);
        assert_eq!(cover([0, 0, 4, 4], 2, 4.0), [0.25; 4]);
    }
}
