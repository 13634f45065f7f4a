//! Names regions with the shipped text tower and region head alone, without the language model.
//!
//! A region is the mean of the patch features under its box, by how much of each patch the box
//! covers. It knows the geometry of one square tile; it does not know how the towers were trained.
//!
//! Shapes: `P` patches, `D_v` width of the vision features, `R` regions, `U` phrases, `E` shared.

use crate::Error;
use candle_core::{Device, Tensor};
use scenes::{Scene, classes};
use std::path::Path;
use vlm::Vlm;
use vlm::model::region_encoder::{RegionEncoder, RegionHead, pooling_weights};
use vlm::processor::Processor;

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
        if !dir.exists() {
            return Ok(None);
        }
        let dual = RegionEncoder::load(&dir, &Device::Cpu)?;
        // Each is read with a space before it, as inside a sentence.
        let names = classes().iter().map(|class| format!(" {}", class.name));
        let names: Result<Vec<Vec<u32>>, vlm::Error> =
            names.map(|name| processor.tokenizer.encode(&name)).collect();
        let phrases = dual.embed_phrases(&names?)?.t().map_err(vlm::Error::from)?; // (E, U)
        Ok(Some(Regions { head: dual.region_head, phrases }))
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
        let (side, width) = (n_patches.isqrt(), scene.image.width() as f32);
        let weights = |bbox: [u32; 4]| pooling_weights(bbox.map(|v| v as f32), side, width);
        let rows: Vec<f32> = scene.objects.iter().flat_map(|o| weights(o.bbox)).collect();
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
