//! `preprocessor_config.json` as Hugging Face writes it, with each class's own defaults filled in.
//!
//! Why: checkpoints leave out what their image processor class takes for granted, and two classes
//! take different things for granted. Knows the file, not what is done with the values.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::decode::MAX_PIXELS;
use super::dynamic::PatchSettings;
use super::resample::Filter;
use crate::config::any_resolution;
use crate::{Checkpoint, Error};

/// Which reference image processor a checkpoint asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `Idefics3ImageProcessor` and `SmolVLMImageProcessor`: tiles and a global view.
    Idefics3,
    /// `CLIPImageProcessor`: shortest edge, centre crop.
    Clip,
    /// `LlavaImageProcessor`: as CLIP, with optional padding to a square first.
    Llava,
    /// `SiglipImageProcessor`: squeezed to a square.
    Siglip,
    /// `Siglip2ImageProcessor`: as many whole patches as fit, the aspect ratio nearly kept.
    Siglip2,
    /// `BlipImageProcessor`: squeezed to a square.
    Blip,
    /// `LlavaNextImageProcessor`: a squeezed view, and tiles of an enlarged one.
    LlavaNext,
    /// `LlavaOnevisionImageProcessor`: as LLaVA-NeXT, but several pictures are padded to squares.
    LlavaOnevision,
    /// `MllamaImageProcessor`: tiles of a canvas.
    Mllama,
    /// `Qwen2VLImageProcessor`: whole patches of a picture that keeps its shape.
    Qwen2Vl,
}

/// A target size, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// The longer side becomes this long, the aspect ratio stays.
    LongestEdge(u32),
    /// The shorter side becomes this long, the aspect ratio stays.
    ShortestEdge(u32),
    /// Exactly this height and width.
    Exact { height: u32, width: u32 },
}

/// Settings of an image processor, resolved: nothing is left to a default.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageSettings {
    pub kind: Kind,
    pub do_resize: bool,
    pub size: Size,
    pub filter: Filter,
    /// Idefics3: cut into tiles of `max_image_size`.
    pub do_image_splitting: bool,
    /// Idefics3: the side of a tile, in pixels.
    pub max_image_size: u32,
    /// CLIP and LLaVA: crop to `crop_size` around the centre.
    pub do_center_crop: bool,
    /// Height and width of the crop.
    pub crop_size: (u32, u32),
    /// LLaVA and LLaVA-OneVision: what is not cut is padded to a square with the mean colour
    /// before resizing.
    pub do_pad: bool,
    /// LLaVA-NeXT and LLaVA-OneVision: height and width of each resolution that is cut, px.
    pub image_grid_pinpoints: Vec<[u32; 2]>,
    /// Llama-3.2-Vision: most tiles of a canvas.
    pub max_image_tiles: usize,
    /// SigLIP 2: the side of a patch, px.
    pub patch_size: u32,
    /// SigLIP 2: a picture becomes at most this many patches.
    pub max_num_patches: u32,
    /// Qwen2-VL: the patches, and the area that takes the place of `size`.
    pub patches: Option<PatchSettings>,
    /// Factor on the 0..=255 values; `None` leaves them.
    pub rescale_factor: Option<f64>,
    /// Mean and standard deviation for each channel; `None` leaves the values.
    pub normalize: Option<([f32; 3], [f32; 3])>,
    /// `image_mean` in double precision: the padding colour is computed from it.
    pub image_mean: [f64; 3],
}

/// The file as typed. Unknown keys are the checkpoint's business and are left alone.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Typed {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    do_resize: Option<bool>,
    size: Option<Value>,
    resample: Option<u32>,
    do_image_splitting: Option<bool>,
    max_image_size: Option<Value>,
    do_center_crop: Option<bool>,
    crop_size: Option<Value>,
    do_pad: Option<bool>,
    image_grid_pinpoints: Option<Vec<[u32; 2]>>,
    max_image_tiles: Option<usize>,
    min_pixels: Option<u64>,
    max_pixels: Option<u64>,
    patch_size: Option<u32>,
    max_num_patches: Option<u32>,
    temporal_patch_size: Option<u32>,
    merge_size: Option<u32>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<Vec<f64>>,
    image_std: Option<Vec<f64>>,
}

/// Largest area a picture is ever resized to, px.
const MAX_AREA: u64 = 1 << 26;

const CLIP_MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

impl ImageSettings {
    /// Reads a model's `preprocessor_config.json`; `fallback` is the class when it names none.
    ///
    /// Errors: `Error::Processor` naming the file, the key and what is wrong with it.
    pub fn load(dir: &Path, fallback: Kind) -> Result<ImageSettings, Error> {
        Self::read(&Checkpoint::open(dir)?, fallback)
    }

    pub(crate) fn read(files: &Checkpoint, fallback: Kind) -> Result<ImageSettings, Error> {
        let name = "preprocessor_config.json";
        let json = files.required_json(name)?;
        Self::resolve(json, fallback).map_err(|message| Error::Processor {
            file: files.place(name).display().to_string(),
            message,
        })
    }

    /// Resolves the text of a `preprocessor_config.json`; the error says which key is wrong.
    pub fn parse(text: &str, fallback: Kind) -> Result<ImageSettings, String> {
        Self::resolve(serde_json::from_str(text).map_err(|error| error.to_string())?, fallback)
    }

    fn resolve(json: Value, fallback: Kind) -> Result<ImageSettings, String> {
        let typed: Typed = serde_json::from_value(json).map_err(|error| error.to_string())?;
        let kind = kind(&typed, fallback)?;
        let crop_size = match &typed.crop_size {
            None => (224, 224),
            Some(value) => match size("crop_size", value)? {
                Size::Exact { height, width } => (height, width),
                Size::ShortestEdge(side) | Size::LongestEdge(side) => (side, side),
            },
        };
        let max_image_size = match &typed.max_image_size {
            None => 364,
            Some(value) => match size("max_image_size", value)? {
                Size::LongestEdge(side) | Size::ShortestEdge(side) => side,
                Size::Exact { .. } => return Err("max_image_size: needs longest_edge".into()),
            },
        };
        let (mean, std) = match kind {
            Kind::Idefics3 | Kind::Siglip | Kind::Siglip2 | Kind::Mllama => ([0.5; 3], [0.5; 3]),
            _ => (CLIP_MEAN, CLIP_STD),
        };
        let image_mean = triple("image_mean", typed.image_mean.as_deref(), mean)?;
        let image_std = triple("image_std", typed.image_std.as_deref(), std)?;
        if image_std.contains(&0.0) {
            return Err("image_std: is zero".into());
        }
        let normalize = (image_mean.map(|v| v as f32), image_std.map(|v| v as f32));
        let factor = typed.rescale_factor.unwrap_or(1.0 / 255.0);
        let patches = (kind == Kind::Qwen2Vl).then(|| patches(&typed)).transpose()?;
        let image_grid_pinpoints = typed.image_grid_pinpoints.unwrap_or_else(|| match kind {
            Kind::LlavaNext => any_resolution::llava_next_pinpoints(),
            Kind::LlavaOnevision => any_resolution::llava_onevision_pinpoints(),
            _ => Vec::new(),
        });
        let settings = ImageSettings {
            kind,
            do_resize: typed.do_resize.unwrap_or(true),
            size: resolve_size(kind, typed.size.as_ref())?,
            filter: resolve_filter(kind, typed.resample)?,
            do_image_splitting: typed.do_image_splitting.unwrap_or(true),
            max_image_size,
            do_center_crop: typed.do_center_crop.unwrap_or(true)
                && matches!(kind, Kind::Clip | Kind::Llava),
            crop_size,
            do_pad: match kind {
                Kind::Llava => typed.do_pad.unwrap_or(false),
                // The key of this name pads batches.
                kind => kind == Kind::LlavaOnevision,
            },
            image_grid_pinpoints,
            max_image_tiles: typed.max_image_tiles.unwrap_or(4),
            patch_size: typed.patch_size.unwrap_or(16),
            max_num_patches: typed.max_num_patches.unwrap_or(256),
            patches,
            rescale_factor: typed.do_rescale.unwrap_or(true).then_some(factor),
            normalize: typed.do_normalize.unwrap_or(true).then_some(normalize),
            image_mean,
        };
        settings.check_patches()?;
        settings.check_tiles()?;
        Ok(settings)
    }

    /// Side of the tiles that resolutions are cut into, px.
    pub(super) fn tile_side(&self) -> u32 {
        match self.size {
            Size::ShortestEdge(side) | Size::LongestEdge(side) => side,
            Size::Exact { height, .. } => height,
        }
    }

    /// A row of patches is a picture, too, and no larger than one may be.
    fn check_patches(&self) -> Result<(), String> {
        let (patch, n) = (u64::from(self.patch_size), u64::from(self.max_num_patches));
        let n_pixels = patch.saturating_mul(patch).saturating_mul(n);
        if self.kind == Kind::Siglip2 && !(1..=MAX_PIXELS).contains(&n_pixels) {
            return Err(format!("max_num_patches: {n} patches of {patch} pixels are no picture"));
        }
        Ok(())
    }

    /// The reference would resize and crop the tiles of other sizes once more.
    fn check_tiles(&self) -> Result<(), String> {
        if !matches!(self.kind, Kind::LlavaNext | Kind::LlavaOnevision | Kind::Mllama) {
            return Ok(());
        }
        let side = self.tile_side();
        let exact = |(height, width)| height == side && width == side;
        if let Size::Exact { height, width } = self.size
            && !exact((height, width))
        {
            return Err(format!("size: {height} x {width} is no square"));
        }
        if self.kind == Kind::LlavaNext && !exact(self.crop_size) {
            return Err(format!("crop_size: is not {side} x {side} as size is"));
        }
        if self.kind == Kind::Mllama {
            return match (self.do_resize, self.max_image_tiles) {
                (false, _) => Err("do_resize: must be true".into()),
                (_, 0) => Err("max_image_tiles: must be at least 1".into()),
                _ => Ok(()),
            };
        }
        any_resolution::check_pinpoints(&self.image_grid_pinpoints, side)
            .map_err(|message| format!("image_grid_pinpoints: {message}"))
    }
}

fn kind(typed: &Typed, fallback: Kind) -> Result<Kind, String> {
    let named = typed.image_processor_type.as_ref().or(typed.feature_extractor_type.as_ref());
    let Some(name) = named else { return Ok(fallback) };
    match name.trim_end_matches("Fast") {
        "Idefics3ImageProcessor" | "SmolVLMImageProcessor" => Ok(Kind::Idefics3),
        "CLIPImageProcessor" | "CLIPFeatureExtractor" => Ok(Kind::Clip),
        "LlavaImageProcessor" => Ok(Kind::Llava),
        "SiglipImageProcessor" => Ok(Kind::Siglip),
        "Siglip2ImageProcessor" => Ok(Kind::Siglip2),
        "BlipImageProcessor" => Ok(Kind::Blip),
        "LlavaNextImageProcessor" => Ok(Kind::LlavaNext),
        "LlavaOnevisionImageProcessor" => Ok(Kind::LlavaOnevision),
        "MllamaImageProcessor" => Ok(Kind::Mllama),
        "Qwen2VLImageProcessor" => Ok(Kind::Qwen2Vl),
        _ => Err(format!("image_processor_type: {name} is not one this program knows")),
    }
}

/// Qwen2-VL's settings; `size` names areas there, and older files `min_pixels` and `max_pixels`.
fn patches(typed: &Typed) -> Result<PatchSettings, String> {
    let side = |key: &str, typed: Option<u32>, default: u32| match typed.unwrap_or(default) {
        0 => Err(format!("{key}: must be at least 1")),
        side if side > 1024 => Err(format!("{key}: {side} is more than 1024")),
        side => Ok(side),
    };
    let area = |key: &str| typed.size.as_ref().and_then(|size| size.get(key)?.as_u64());
    let (least, most) = (area("shortest_edge"), area("longest_edge"));
    let settings = PatchSettings {
        patch_size: side("patch_size", typed.patch_size, 14)?,
        temporal_patch_size: side("temporal_patch_size", typed.temporal_patch_size, 2)?,
        merge_size: side("merge_size", typed.merge_size, 2)?,
        min_pixels: typed.min_pixels.or(least).unwrap_or(56 * 56),
        max_pixels: typed.max_pixels.or(most).unwrap_or(28 * 28 * 1280),
    };
    let (least, most) = (settings.min_pixels, settings.max_pixels);
    let token = u64::from(settings.token_side()).pow(2);
    if least > most || most < token || most > MAX_AREA {
        return Err(format!(
            "min_pixels, max_pixels: {least} to {most} is no range of areas between one token's, \
             {token}, and {MAX_AREA}"
        ));
    }
    Ok(settings)
}

fn resolve_size(kind: Kind, typed: Option<&Value>) -> Result<Size, String> {
    let typed = typed.filter(|_| kind != Kind::Qwen2Vl);
    let Some(value) = typed else {
        return Ok(match kind {
            Kind::Idefics3 => Size::LongestEdge(4 * 364),
            Kind::Clip | Kind::Llava | Kind::LlavaNext | Kind::Qwen2Vl => Size::ShortestEdge(224),
            Kind::Siglip | Kind::Siglip2 | Kind::Mllama => Size::Exact { height: 224, width: 224 },
            Kind::Blip | Kind::LlavaOnevision => Size::Exact { height: 384, width: 384 },
        });
    };
    match (kind, size("size", value)?) {
        (Kind::Siglip | Kind::Blip | Kind::LlavaOnevision, Size::ShortestEdge(side)) => {
            Ok(Size::Exact { height: side, width: side })
        }
        (Kind::Mllama, Size::ShortestEdge(_) | Size::LongestEdge(_))
        | (Kind::Siglip | Kind::Blip, Size::LongestEdge(_)) => {
            Err("size: needs height and width".into())
        }
        (Kind::Idefics3, Size::ShortestEdge(_)) => {
            Err("size: needs longest_edge, or height and width".into())
        }
        (kind, Size::LongestEdge(_)) if kind != Kind::Idefics3 => {
            Err("size: needs shortest_edge, or height and width".into())
        }
        (_, size) => Ok(size),
    }
}

fn resolve_filter(kind: Kind, typed: Option<u32>) -> Result<Filter, String> {
    let number = typed.unwrap_or(match kind {
        Kind::Idefics3 => 1,
        Kind::Siglip2 | Kind::Mllama => 2,
        _ => 3,
    });
    Filter::from_pillow(number).ok_or_else(|| format!("resample: {number} is no filter"))
}

/// A size as Hugging Face writes it: a number, or an object with edges or height and width.
fn size(key: &str, value: &Value) -> Result<Size, String> {
    let number = |value: &Value| {
        let side = value.as_u64().filter(|side| (1..=16_384).contains(side));
        side.map(|side| side as u32).ok_or_else(|| format!("{key}: {value} is no size in pixels"))
    };
    match (value.get("longest_edge"), value.get("shortest_edge")) {
        (_, Some(side)) => return number(side).map(Size::ShortestEdge),
        (Some(side), None) => return number(side).map(Size::LongestEdge),
        (None, None) => {}
    }
    match (value.get("height"), value.get("width")) {
        (Some(height), Some(width)) => {
            Ok(Size::Exact { height: number(height)?, width: number(width)? })
        }
        _ => number(value).map(Size::ShortestEdge),
    }
}

fn triple(key: &str, typed: Option<&[f64]>, default: [f64; 3]) -> Result<[f64; 3], String> {
    match typed {
        None => Ok(default),
        Some(values) => {
            values.try_into().map_err(|_| format!("{key}: needs 3 values, one for each channel"))
        }
    }
}
