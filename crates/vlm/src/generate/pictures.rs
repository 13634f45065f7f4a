//! The pictures of a conversation: known by content, encoded once.
//!
//! Shapes: `N` tiles, `T_img` embeddings of a tile, `D` hidden size, `k` deepstack layers.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use candle_core::Tensor;
use image::RgbImage;

use super::Cancel;
use crate::processor::{ImageSpan, Inputs};
use crate::{Error, KvCache, Vlm};

/// Tiles encoded in one pass: bounds memory, and how long cancelling waits. A picture that keeps
/// its shape, or whose tiles see each other, is encoded whole.
const TILES_AT_ONCE: usize = 4;

/// Encoded pictures by the hash of their content and of how they were laid out.
#[derive(Default)]
pub(super) struct Pictures {
    /// `(tokens, D · (1 + k))` of each picture: those of its spans in order; its cross-attention
    /// states where it becomes no tokens.
    encoded: HashMap<u64, Tensor>,
    /// The hash of each picture of the current prompt.
    current: Vec<u64>,
    /// The hash of each picture that the cache's cross-attention states are of.
    looked_at: Vec<u64>,
}

impl Pictures {
    /// What each position of the prompt holds: its id, or for picture tokens a mark of the
    /// content and the place in it. Pictures that are not in the prompt are forgotten.
    pub fn keys(&mut self, inputs: &Inputs, images: &[RgbImage]) -> Vec<u64> {
        let hash = |(i, image)| content_hash(image, &spans_of(inputs, i));
        self.current = images.iter().enumerate().map(hash).collect();
        let current = self.current.clone();
        self.encoded.retain(|hash, _| current.contains(hash));
        let mut keys: Vec<u64> = inputs.input_ids.iter().map(|&id| u64::from(id)).collect();
        if let Some(first) = inputs.cross_attention_mask.first() {
            // What stands before all pictures sees all of them.
            for key in &mut keys[..first.tokens.start] {
                *key = hash_of((*key, &current)) | 1 << 63;
            }
            for (visible, hash) in inputs.cross_attention_mask.iter().zip(&current) {
                keys[visible.tokens.start] = hash | 1 << 63;
            }
            return keys;
        }
        for (span_idx, span) in inputs.image_spans.iter().enumerate() {
            for (i, position) in span.tokens.clone().enumerate() {
                keys[position] = hash_of((current[span.image], span_idx, i)) | 1 << 63;
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
        let mut next_of_image = vec![0; self.current.len()];
        for span in inputs.image_spans.iter().filter(|span| span.is_in_prompt()) {
            let first = next_of_image[span.image];
            next_of_image[span.image] += span.tokens.len();
            if span.tokens.end <= from || span.tokens.is_empty() {
                continue;
            }
            self.encode(vlm, inputs, span.image, cancel)?;
            let picture = &self.encoded[&self.current[span.image]];
            let skip = from.saturating_sub(span.tokens.start);
            rows.push(picture.narrow(0, first + skip, span.tokens.len() - skip)?);
        }
        if rows.is_empty() {
            let ids = Tensor::from_slice(ids, (1, ids.len()), vlm.device())?;
            return vlm.embed_tokens(&ids);
        }
        let rows = Tensor::cat(&rows, 0)?; // (image tokens, D)
        vlm.merge(ids, &rows)
    }

    /// Sets in `cache` what the cross-attention layers see: the pictures of the prompt, unless the
    /// cache has the same ones already.
    pub fn look_at(
        &mut self,
        vlm: &Vlm,
        inputs: &Inputs,
        cache: &mut KvCache,
        cancel: &Cancel,
    ) -> Result<(), Error> {
        if self.current != self.looked_at {
            for image in 0..self.current.len() {
                self.encode(vlm, inputs, image, cancel)?;
            }
            let states: Vec<&Tensor> =
                self.current.iter().map(|hash| &self.encoded[hash]).collect();
            match states.is_empty() {
                true => cache.look_away(),
                false => vlm.look_at(cache, &Tensor::cat(&states, 0)?.unsqueeze(0)?)?,
            }
            self.looked_at = self.current.clone();
        }
        cache.set_visible(vec![inputs.cross_attention_mask.clone()]);
        Ok(())
    }

    /// The embeddings `(tokens, D)` of the first picture of the prompt.
    pub fn first(
        &mut self,
        vlm: &Vlm,
        inputs: &Inputs,
        cancel: &Cancel,
    ) -> Result<Option<Tensor>, Error> {
        let Some(hash) = self.current.first().copied() else { return Ok(None) };
        self.encode(vlm, inputs, 0, cancel)?;
        let embeds = self.encoded.get(&hash).cloned();
        match (embeds, inputs.cross_attention_mask.first()) {
            // Empty tiles show nothing.
            (Some(states), Some(visible)) => Ok(Some(states.narrow(0, 0, visible.states.len())?)),
            (embeds, _) => Ok(embeds),
        }
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
        let before = inputs.image_spans.iter().take_while(|span| span.image != image);
        let first: usize = before.map(ImageSpan::n_rows).sum();
        let spans = spans_of(inputs, image);
        let n_rows: usize = spans.iter().map(ImageSpan::n_rows).sum();
        let is_whole = spans.iter().any(|span| span.packing.is_whole());
        let at_once = if is_whole { n_rows.max(1) } else { TILES_AT_ONCE };
        let mut tiles = Vec::new();
        for start in (0..n_rows).step_by(at_once) {
            cancel.check()?;
            let n = at_once.min(n_rows - start);
            let piece = pixel_values.narrow(0, first + start, n)?.to_device(vlm.device())?;
            tiles.push(vlm.encode_pictures(&piece, &spans)?); // (N, T_img, D)
        }
        let packed = vlm.pack(&Tensor::cat(&tiles, 0)?, &spans)?; // (tokens, D)
        self.encoded.insert(hash, packed);
        Ok(())
    }
}

fn spans_of(inputs: &Inputs, image: usize) -> Vec<ImageSpan> {
    inputs.image_spans.iter().filter(|span| span.image == image).cloned().collect()
}

/// The same picture is another one where it is cut otherwise, as beside a second one.
fn content_hash(image: &RgbImage, spans: &[ImageSpan]) -> u64 {
    let packings: Vec<_> = spans.iter().map(|span| span.packing).collect();
    hash_of((image.dimensions(), image.as_raw(), packings))
}

fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
