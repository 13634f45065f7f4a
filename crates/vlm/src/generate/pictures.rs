//! The pictures of a conversation: known by content, encoded once.
//!
//! Shapes: `N` tiles, `T_img` tokens of a tile, `D` hidden size.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use candle_core::Tensor;
use image::RgbImage;

use super::Cancel;
use crate::processor::Inputs;
use crate::{Error, Vlm};

/// Tiles encoded in one pass: bounds memory, and how long cancelling waits.
const TILES_AT_ONCE: usize = 4;

/// Encoded pictures by the hash of their content.
#[derive(Default)]
pub(super) struct Pictures {
    /// One `(T_img, D)` per tile.
    encoded: HashMap<u64, Vec<Tensor>>,
    /// The hash of each picture of the current prompt.
    current: Vec<u64>,
}

impl Pictures {
    /// What each position of the prompt holds: its id, or for picture tokens a mark of the
    /// content and the place in it. Pictures that are not in the prompt are forgotten.
    pub fn keys(&mut self, inputs: &Inputs, images: &[RgbImage]) -> Vec<u64> {
        self.current = images.iter().map(content_hash).collect();
        let current = self.current.clone();
        self.encoded.retain(|hash, _| current.contains(hash));
        let mut keys: Vec<u64> = inputs.input_ids.iter().map(|&id| u64::from(id)).collect();
        for (tile_idx, span) in inputs.image_spans.iter().enumerate() {
            for (i, position) in span.tokens.clone().enumerate() {
                keys[position] = hash_of((current[span.image], tile_idx, i)) | 1 << 63;
            }
        }
        keys
    }

    /// The embeddings `(1, T, D)` of the prompt from position `from` on.
    pub fn embed(
        &mut self,
        vlm: &Vlm,
        inputs: &Inputs,
        from: usize,
        cancel: &Cancel,
    ) -> Result<Tensor, Error> {
        let ids = &inputs.input_ids[from..];
        let mut rows = Vec::new();
        let mut tile_of_image = vec![0; self.current.len()];
        for span in &inputs.image_spans {
            let tile_idx = tile_of_image[span.image];
            tile_of_image[span.image] += 1;
            if span.tokens.end <= from {
                continue;
            }
            self.encode(vlm, inputs, span.image, cancel)?;
            let tile = &self.encoded[&self.current[span.image]][tile_idx];
            let skip = from.saturating_sub(span.tokens.start);
            rows.push(tile.narrow(0, skip, span.tokens.len() - skip)?);
        }
        if rows.is_empty() {
            let ids = Tensor::from_slice(ids, (1, ids.len()), vlm.device())?;
            return vlm.embed_tokens(&ids);
        }
        let rows = Tensor::cat(&rows, 0)?; // (image tokens, D)
        vlm.merge(ids, &rows)
    }

    /// Encodes the tiles of one picture, unless they are known.
    fn encode(
        &mut self,
        vlm: &Vlm,
        inputs: &Inputs,
        image: usize,
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let hash = self.current[image];
        if self.encoded.contains_key(&hash) {
            return Ok(());
        }
        let Some(pixel_values) = &inputs.pixel_values else { return Ok(()) };
        let of_image = |span: &crate::processor::ImageSpan| span.image == image;
        let first = inputs.image_spans.iter().position(of_image).unwrap_or(0);
        let n_tiles = inputs.image_spans.iter().filter(|span| of_image(span)).count();
        let mut tiles = Vec::with_capacity(n_tiles);
        for start in (0..n_tiles).step_by(TILES_AT_ONCE) {
            cancel.check()?;
            let n = TILES_AT_ONCE.min(n_tiles - start);
            let piece = pixel_values.narrow(0, first + start, n)?.to_device(vlm.device())?;
            let embeds = vlm.encode_images(&piece)?; // (N, T_img, D)
            for tile in 0..n {
                tiles.push(embeds.get(tile)?);
            }
        }
        self.encoded.insert(hash, tiles);
        Ok(())
    }
}

fn content_hash(image: &RgbImage) -> u64 {
    hash_of((image.dimensions(), image.as_raw()))
}

fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
