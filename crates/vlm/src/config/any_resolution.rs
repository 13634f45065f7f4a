//! `image_grid_pinpoints` and `vision_aspect_ratio`: pictures of any resolution (LLaVA-NeXT,
//! LLaVA-OneVision).
//!
//! Such a model sees a picture twice: squeezed into one tile, and enlarged to one of a list of
//! resolutions that is cut into tiles. It does not know how that is done (`processor`) or what
//! becomes of the tiles' features (`model::packing`).

use super::fields::Fields;
use super::{Config, ModelType, unsupported};
use crate::error::Error;

/// What `config.json` says about cutting pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct AnyResolution {
    /// Height and width of each resolution, px.
    pub image_grid_pinpoints: Vec<[u32; 2]>,
    /// The N of `anyres_max_N` (LLaVA-OneVision): features of more tiles than this are shrunk.
    pub max_tiles: Option<usize>,
}

impl AnyResolution {
    /// `None` for a family that does not cut pictures this way.
    pub(super) fn from_fields(fields: &Fields, model: ModelType) -> Result<Option<Self>, Error> {
        let (pinpoints, max_tiles) = match model {
            ModelType::LlavaNext => (llava_next_pinpoints(), None),
            ModelType::LlavaOnevision => (llava_onevision_pinpoints(), Some(max_tiles(fields)?)),
            _ => return Ok(None),
        };
        let given = fields.pairs("image_grid_pinpoints")?;
        Ok(Some(AnyResolution { image_grid_pinpoints: given.unwrap_or(pinpoints), max_tiles }))
    }

    pub(super) fn check(&self, config: &Config) -> Result<(), Error> {
        let side = config.vision_config.image_size as u32;
        check_pinpoints(&self.image_grid_pinpoints, side)
            .map_err(|message| Error::config("image_grid_pinpoints", message))?;
        let n_patches = config.vision_config.patches_per_side().pow(2);
        if config.tokens_per_tile() != n_patches {
            let message = format!(
                "leaves {} features of {n_patches} patches, but tiles are laid side by side patch \
                 by patch; it must be `default` for a CLIP tower, `full` for a SigLIP tower",
                config.tokens_per_tile()
            );
            return Err(Error::config("vision_feature_select_strategy", message));
        }
        Ok(())
    }
}

/// Whether there are resolutions, and all of them whole tiles of `side` pixels.
pub(crate) fn check_pinpoints(pinpoints: &[[u32; 2]], side: u32) -> Result<(), String> {
    if pinpoints.is_empty() {
        return Err("is empty".to_owned());
    }
    let whole = |length: &u32| *length > 0 && length.is_multiple_of(side);
    match pinpoints.iter().find(|pinpoint| !pinpoint.iter().all(whole)) {
        None => Ok(()),
        Some([height, width]) => {
            Err(format!("[{height}, {width}] is not made of whole tiles of {side} pixels"))
        }
    }
}

/// What `LlavaNextConfig` and `LlavaNextImageProcessor` take when the file names none.
pub(crate) fn llava_next_pinpoints() -> Vec<[u32; 2]> {
    vec![[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
}

/// What `LlavaOnevisionConfig` and `LlavaOnevisionImageProcessor` take when the file names none.
pub(crate) fn llava_onevision_pinpoints() -> Vec<[u32; 2]> {
    let sides = || (1..=6).map(|n| n * 384);
    sides().flat_map(|height| sides().map(move |width| [height, width])).collect()
}

fn max_tiles(fields: &Fields) -> Result<usize, Error> {
    let found = fields.str("vision_aspect_ratio", "anyres_max_9")?;
    let number = found.strip_prefix("anyres_max_").and_then(|number| number.parse().ok());
    let number = number.filter(|number| *number > 0);
    number.ok_or_else(|| unsupported("vision_aspect_ratio", found, "anyres_max_9 and its like"))
}
