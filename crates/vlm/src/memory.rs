//! What a model takes in memory while it answers about a picture, worked out from its settings
//! before a single weight is there.
//!
//! Weights are counted exactly; the rest is what the engine holds at its peak, with everything that
//! a picture becomes: tiles in the vision tower, its tokens in the prompt, the cache they fill.
//! Knows no machine.

use image::RgbImage;

use crate::config::Config;
use crate::error::Error;
use crate::model::Vlm;
use crate::processor::image::{ImageProcessor, ImageSettings};
use crate::weights::packed::Quantization;

/// Question and answer, in tokens.
const TEXT_TOKENS: usize = 512;
/// Tiles that the session encodes in one pass.
const TILES_AT_ONCE: usize = 4;
/// The program, its window's share and the tokenizer.
const PROGRAM: usize = 96 << 20;
const F32: usize = 4;

/// Bytes, by what holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryNeed {
    pub weights: usize,
    /// Keys and values of the picture's and the text's tokens.
    pub kv_cache: usize,
    /// The larger of what the vision tower and the language model hold between layers, and pixels.
    pub activations: usize,
    /// How many tokens the picture becomes; not bytes.
    pub image_tokens: usize,
}

impl MemoryNeed {
    /// Of a model with weights held so, asked about one picture of `side` x `side` pixels.
    ///
    /// `preprocessor` is the text of `preprocessor_config.json`; without it the picture is one tile
    /// of the tower's own size. Errors: sizes in `config` that no model can have.
    pub fn of(
        config: &Config,
        preprocessor: Option<&str>,
        quantization: Quantization,
        side: u32,
    ) -> Result<MemoryNeed, Error> {
        let kind = config.image_processor();
        let settings = preprocessor.and_then(|text| ImageSettings::parse(text, kind).ok());
        let tiles: Vec<(u32, u32)> = match settings {
            Some(settings) => {
                let tiles = ImageProcessor { settings }.tiles(&RgbImage::new(side, side)).tiles;
                tiles.iter().map(|tile| tile.pixels.dimensions()).collect()
            }
            None => vec![own_size(config, side)],
        };
        let image_tokens: usize = tiles.iter().map(|tile| tile_tokens(config, *tile)).sum();
        let context = config.text_config.max_position_embeddings;
        let tokens = (image_tokens + TEXT_TOKENS).min(context.max(image_tokens));
        Ok(MemoryNeed {
            weights: Vlm::weight_bytes(config, quantization)?,
            kv_cache: kv_cache(config, tokens),
            activations: tower(config, &tiles).max(decoder(config, tokens)),
            image_tokens,
        })
    }

    /// All of it.
    pub fn bytes(&self) -> usize {
        self.weights + self.kv_cache + self.activations + PROGRAM
    }
}

/// Keys and values of every layer; twice, since the cache doubles when it grows.
fn kv_cache(config: &Config, tokens: usize) -> usize {
    let text = &config.text_config;
    2 * 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * tokens * F32
}

/// Hidden states before and after the norm, and the widest product between two layers.
fn decoder(config: &Config, tokens: usize) -> usize {
    let text = &config.text_config;
    let heads = (text.num_attention_heads + 2 * text.num_key_value_heads) * text.head_dim;
    let wide = (3 * text.intermediate_size).max(2 * heads);
    (tokens * (4 * text.hidden_size + wide) + text.vocab_size) * F32
}

/// The same for the tiles of one pass, with the pixels of all.
fn tower(config: &Config, tiles: &[(u32, u32)]) -> usize {
    let vision = &config.vision_config;
    let patches: usize =
        tiles.iter().take(TILES_AT_ONCE).map(|tile| tile_patches(config, *tile)).sum();
    let wide = (2 * vision.intermediate_size).max(5 * vision.hidden_size);
    let area: usize = tiles.iter().map(|(width, height)| (width * height) as usize).sum();
    // As values, and as values unfolded into patches.
    let frames = vision.dynamic.as_ref().map_or(1, |dynamic| dynamic.temporal_patch_size);
    (patches * (4 * vision.hidden_size + wide) + 2 * frames * vision.num_channels * area) * F32
}

/// What the tower takes as one tile where nothing else is said, px.
fn own_size(config: &Config, side: u32) -> (u32, u32) {
    match config.vision_config.image_size as u32 {
        0 => (side, side),
        own => (own, own),
    }
}

fn tile_patches(config: &Config, (width, height): (u32, u32)) -> usize {
    let vision = &config.vision_config;
    match vision.dynamic {
        None => vision.n_positions(),
        Some(_) => (width as usize / vision.patch_size) * (height as usize / vision.patch_size),
    }
}

fn tile_tokens(config: &Config, tile: (u32, u32)) -> usize {
    match &config.vision_config.dynamic {
        None => config.tokens_per_tile(),
        Some(dynamic) => tile_patches(config, tile) / dynamic.spatial_merge_size.pow(2).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn tiles_tokens_and_formats_are_counted() {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/parity/fixtures");
        let dir = Path::new(fixtures).join("smolvlm-llama-tiles");
        let config = Config::load(&dir).expect("a config");
        let text = std::fs::read_to_string(dir.join("preprocessor_config.json")).expect("a file");
        let need =
            |text, quantization| MemoryNeed::of(&config, text, quantization, 512).expect("a need");
        let plain = need(Some(&text[..]), Quantization::None);
        let settings = ImageSettings::parse(&text, config.image_processor()).expect("settings");
        let tiles = ImageProcessor { settings }.tiles(&RgbImage::new(512, 512)).tiles.len();
        assert!(tiles > 1 && plain.image_tokens == tiles * config.tokens_per_tile());
        assert_eq!(plain.weights, Vlm::weight_bytes(&config, Quantization::None).expect("bytes"));
        assert!(need(Some(&text[..]), Quantization::Q4_0).bytes() < plain.bytes());
        assert_eq!(need(None, Quantization::None).image_tokens, config.tokens_per_tile());
    }
}
