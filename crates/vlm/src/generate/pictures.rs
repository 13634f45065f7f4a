//! The pictures of a conversation: known by content, encoded once.
//!
//! Where their embeddings also depend on the question (InstructBLIP), another question projects
//! them anew, but the vision encoder sees them once.
//!
//! Shapes: `N` tiles, `P` patches, `T_img` embeddings of a tile, `D` hidden size, `k` deepstack
//! layers.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use candle_core::{DType, Tensor};
use image::RgbImage;

use super::Cancel;
use crate::processor::{ImageSpan, Inputs};
use crate::{Error, KvCache, Vlm};

/// Tiles encoded in one pass: bounds memory, and how long cancelling waits. A picture that keeps
/// its shape, or whose tiles see each other, is encoded whole.
const TILES_AT_ONCE: usize = 4;

/// Encoded pictures by the hash of all that they depend on.
#[derive(Default)]
pub(super) struct Pictures {
    encoded: HashMap<u64, Encoded>,
    /// Vision features of the tiles from the n-th on of a picture, by its hash and n; only where
    /// their projection also depends on the question.
    features: HashMap<(u64, usize), Tensor>,
    /// The hashes of each picture of the current prompt.
    current: Vec<Hashes>,
    /// Those of the pictures that the cache's cross-attention states are of.
    looked_at: Vec<u64>,
}

/// What is in the prompt for a picture.
struct Encoded {
    /// `(tokens, D · (1 + k))`: those of its spans in order; its cross-attention states
    /// where it becomes no tokens.
    tokens: Tensor,
    /// See `Projected::patch_attention`; `(N, T_img, P)` of each piece of tiles.
    patch_attention: Vec<Tensor>,
}

#[derive(Clone, Copy)]
struct Hashes {
    /// Of its content and of how it was laid out.
    picture: u64,
    /// The same, and of the question where that is part of the embeddings.
    embeds: u64,
}

impl Pictures {
    /// What each position of the prompt holds: its id, or for picture tokens a mark of the
    /// content and the place in it. Pictures that are not in the prompt are forgotten.
    pub fn keys(&mut self, inputs: &Inputs, images: &[RgbImage]) -> Vec<u64> {
        let hashes = |(i, image)| {
            let picture = content_hash(image, &spans_of(inputs, i));
            Hashes { picture, embeds: hash_of((picture, &inputs.qformer_input_ids)) }
        };
        let current: Vec<Hashes> = images.iter().enumerate().map(hashes).collect();
        self.encoded.retain(|embeds, _| current.iter().any(|of| of.embeds == *embeds));
        self.features.retain(|(picture, _), _| current.iter().any(|of| of.picture == *picture));
        let mut keys: Vec<u64> = inputs.input_ids.iter().map(|&id| u64::from(id)).collect();
        if let Some(first) = inputs.cross_attention_mask.first() {
            // What stands before all pictures sees all of them.
            let hashes: Vec<u64> = current.iter().map(|of| of.embeds).collect();
            for key in &mut keys[..first.tokens.start] {
                *key = hash_of((*key, &hashes)) | 1 << 63;
            }
            for (visible, hash) in inputs.cross_attention_mask.iter().zip(&hashes) {
                keys[visible.tokens.start] = hash | 1 << 63;
            }
        }
        let spans = inputs.image_spans.iter().filter(|span| span.is_in_prompt());
        for (span_idx, span) in spans.enumerate() {
            for (i, position) in span.tokens.clone().enumerate() {
                keys[position] = hash_of((current[span.image].embeds, span_idx, i)) | 1 << 63;
            }
        }
        self.current = current;
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
            let picture = &self.encoded[&self.current[span.image].embeds].tokens;
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
        let current: Vec<u64> = self.current.iter().map(|of| of.embeds).collect();
        if current != self.looked_at {
            for image in 0..self.current.len() {
                self.encode(vlm, inputs, image, cancel)?;
            }
            let states = current.iter().map(|hash| &self.encoded[hash].tokens);
            let states: Vec<&Tensor> = states.collect();
            match states.is_empty() {
                true => cache.look_away(),
                false => vlm.look_at(cache, &Tensor::cat(&states, 0)?.unsqueeze(0)?)?,
            }
            self.looked_at = current;
        }
        cache.set_visible(vec![inputs.cross_attention_mask.clone()]);
        Ok(())
    }

    /// What the queries of each span looked at, `(T_img, P)`; nothing where tokens show their own
    /// patches.
    pub fn patch_attention(&self) -> Result<Vec<Vec<Vec<f32>>>, Error> {
        let encoded = self.current.iter().filter_map(|of| self.encoded.get(&of.embeds));
        let mut looked = Vec::new();
        for piece in encoded.flat_map(|picture| &picture.patch_attention) {
            looked.extend(piece.to_dtype(DType::F32)?.to_vec3::<f32>()?);
        }
        Ok(looked)
    }

    /// The embeddings `(tokens, D)` of the first picture of the prompt.
    pub fn first(
        &mut self,
        vlm: &Vlm,
        inputs: &Inputs,
        cancel: &Cancel,
    ) -> Result<Option<Tensor>, Error> {
        let Some(hashes) = self.current.first().copied() else { return Ok(None) };
        self.encode(vlm, inputs, 0, cancel)?;
        let embeds = self.encoded.get(&hashes.embeds).map(|picture| picture.tokens.clone());
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
        let Hashes { picture, embeds } = self.current[image];
        if self.encoded.contains_key(&embeds) {
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
        let mut patch_attention = Vec::new();
        for start in (0..n_rows).step_by(at_once) {
            cancel.check()?;
            let features = match self.features.get(&(picture, start)) {
                Some(features) => features.clone(),
                None => {
                    let n = at_once.min(n_rows - start);
                    let piece = pixel_values.narrow(0, first + start, n)?;
                    vlm.picture_features(&piece.to_device(vlm.device())?, &spans)? // (N, P, D_v)
                }
            };
            let projected = vlm.project_for(&features, &inputs.qformer_input_ids)?;
            tiles.push(projected.image_embeds); // (N, T_img, D)
            patch_attention.extend(projected.patch_attention);
            if !inputs.qformer_input_ids.is_empty() {
                self.features.insert((picture, start), features);
            }
        }
        let tokens = vlm.pack(&Tensor::cat(&tiles, 0)?, &spans)?; // (tokens, D)
        self.encoded.insert(embeds, Encoded { tokens, patch_attention });
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use candle_core::Device;

    use super::*;
    use crate::Config;
    use crate::processor::{Message, Processor};

    /// InstructBLIP looks at a picture again for another question, but does not see it again.
    #[test]
    fn another_question_projects_the_same_features() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/fixtures");
        let dir = fixtures.join("instructblip-llama");
        let vlm = Vlm::load(&dir, &Device::Cpu).expect("a model");
        let processor = Processor::load(&dir, &Config::load(&dir).expect("a config"));
        let processor = processor.expect("a processor");
        let images = [RgbImage::from_fn(30, 20, |x, y| image::Rgb([x as u8 * 8, y as u8, 9]))];
        let mut pictures = Pictures::default();
        let embed = |pictures: &mut Pictures, text: &str| {
            let inputs = processor.prepare(&[Message::user(1, text)], &images).expect("inputs");
            let keys = pictures.keys(&inputs, &images);
            let embeds = pictures.embed(&vlm, &inputs, 0, &Cancel::new()).expect("embeddings");
            let tokens = embeds.narrow(1, 0, 5).and_then(|t| t.flatten_all()?.to_vec1::<f32>());
            (keys[..5].to_vec(), tokens.expect("five tokens"))
        };
        let first = embed(&mut pictures, "what is this");
        let other = embed(&mut pictures, "which colour is the car");
        let again = embed(&mut pictures, "what is this");
        assert!(first.0 != other.0 && first.1 != other.1, "the question changes the tokens");
        assert_eq!(first, again);
        // Other features in their place show in the answer to the next question.
        let features = pictures.features.values_mut().next().expect("cached features");
        *features = features.zeros_like().expect("zeros");
        let blind = embed(&mut pictures, "where is it");
        let seeing = embed(&mut Pictures::default(), "where is it");
        assert!(blind.0 == seeing.0 && blind.1 != seeing.1, "the picture was encoded again");
    }
}
