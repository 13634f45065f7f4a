//! Pixels to patch features: CLIP, SigLIP, SigLIP 2, Idefics3/SmolVLM and BLIP-2 vision
//! transformers, in `dynamic` those of Qwen-VL and in `mllama` that of
//! Llama-3.2-Vision.
//!
//! The others differ in switches: the class token (CLIP, BLIP-2), `pre_layrnorm` (CLIP), the patch
//! bias (all but CLIP), and how positions are numbered (Idefics3) or stretched (SigLIP 2). It does
//! not know how images were cut into tiles, nor what becomes of the features.
//!
//! Shapes: `N` images or tiles, `C` channels, `P` patches (and the class token), `D` hidden size.

mod dynamic;
mod mllama;
mod stretched;

use candle_core::{Device, Tensor};

use super::attention::MASKED;
use super::encoder_layer::{self, EncoderLayer, EncoderSizes, Style};
use super::loader::Loader;
use super::nn::{Compute, Embedding, LayerNorm, Linear, Weight};
use crate::config::{VisionConfig, VisionKind};
use crate::error::{Context, Error};

/// A vision transformer.
pub struct VisionEncoder {
    /// `(D, C, p, p)`; `(D, p·p·C)` of SigLIP 2; of pictures of any shape `(D, C, frames, p, p)`
    patch_embedding: Tensor,
    patch_bias: Option<Tensor>,
    class_embedding: Option<Tensor>,
    /// none where patches only turn
    position_embedding: Option<Embedding>,
    pre_layrnorm: Option<LayerNorm>,
    layers: Vec<EncoderLayer>,
    /// none where the projector begins with one
    post_layernorm: Option<LayerNorm>,
    tiles: Option<mllama::Tiles>,
    config: VisionConfig,
    compute: Compute,
}

/// Rows and columns of patches that hold picture rather than padding, for each tile. SigLIP 2
/// has them one after another at the start of its row of patches, the others in the first corner.
pub type PatchExtents<'a> = Option<&'a [(usize, usize)]>;

impl VisionEncoder {
    pub(super) fn load(
        loader: &mut Loader,
        prefix: &str,
        config: &VisionConfig,
    ) -> Result<Self, Error> {
        if let Some(dynamic) = &config.dynamic {
            return Self::load_dynamic(loader, prefix, (config, dynamic));
        }
        if let Some(tiles) = &config.tiles {
            return mllama::load(loader, prefix, (config, tiles));
        }
        let (d, p, eps) = (config.hidden_size, config.patch_size, config.layer_norm_eps);
        let is_clip = config.kind == VisionKind::Clip;
        let embeddings = format!("{prefix}.embeddings");
        let is_blip = config.kind == VisionKind::Blip;
        let class_dims: &[usize] = if is_blip { &[1, 1, d] } else { &[d] };
        let class_embedding = match config.has_class_token() {
            true => Some(loader.tensor(&format!("{embeddings}.class_embedding"), class_dims)?),
            false => None,
        };
        let patch = format!("{embeddings}.patch_embedding");
        let (c, linear) = (config.num_channels, config.kind == VisionKind::Siglip2);
        let dims = if linear { vec![d, p * p * c] } else { vec![d, c, p, p] };
        let patch_embedding = loader.tensor(&format!("{patch}.weight"), &dims)?;
        let patch_bias = match is_clip {
            true => None,
            false => Some(loader.tensor(&format!("{patch}.bias"), &[d])?),
        };
        let positions = format!("{embeddings}.position_embedding");
        let n_positions = config.n_positions();
        let position_embedding = match is_blip {
            true => {
                let table = loader.tensor(&positions, &[1, n_positions, d])?;
                Embedding { weight: Weight::Dense(table.squeeze(0)?) }
            }
            false => loader.embedding(&positions, n_positions, d)?,
        };
        let post_layernorm = format!("{prefix}.post_layernorm");
        let layers = format!("{prefix}.encoder.layers");
        let pre_layrnorm = match is_clip {
            true => Some(loader.layer_norm(&format!("{prefix}.pre_layrnorm"), d, eps)?),
            false => None,
        };
        Ok(VisionEncoder {
            patch_embedding,
            patch_bias,
            class_embedding,
            position_embedding: Some(position_embedding),
            pre_layrnorm,
            layers: load_layers(loader, &layers, config)?,
            post_layernorm: Some(loader.layer_norm(&post_layernorm, d, eps)?),
            tiles: None,
            config: config.clone(),
            compute: loader.compute,
        })
    }

    /// `pixel_values (N, C, S, S)` → features after the last layer and `post_layernorm`,
    /// `(N, P, D)`; `extents` says which patches are padding (Idefics3, SigLIP 2). SigLIP 2 reads
    /// patches, `(N, P, p·p·C)`.
    pub fn forward(&self, pixel_values: &Tensor, extents: PatchExtents) -> Result<Tensor, Error> {
        let mask = self.padding_mask(pixel_values, extents)?;
        let mut x = self.embed(pixel_values, extents)?; // (N, P, D)
        for layer in &self.layers {
            x = layer.forward(&x, mask.as_ref())?;
        }
        self.finish(&x) // (N, P, D)
    }

    /// The chosen hidden states, each `(N, P, D)`: 0 is the embeddings, `i` the output of layer
    /// `i`, negative ones count from the end.
    ///
    /// As transformers 4.57 has it, the last one of SigLIP is after `post_layernorm` while the
    /// last one of CLIP is before.
    pub fn hidden_states(
        &self,
        pixel_values: &Tensor,
        layers: &[i64],
    ) -> Result<Vec<Tensor>, Error> {
        let n_layers = self.layers.len();
        let from_end = |i: i64| if i < 0 { n_layers as i64 + 1 + i } else { i };
        let resolve = |&i: &i64| from_end(i) as usize;
        let wanted: Vec<usize> = layers.iter().map(resolve).collect();
        let deepest = wanted.iter().copied().max().unwrap_or(0).min(n_layers);
        let mut states = vec![self.embed(pixel_values, None)?];
        for layer in &self.layers[..deepest] {
            states.push(layer.forward(&states[states.len() - 1], None)?);
        }
        if deepest == n_layers && self.config.kind != VisionKind::Clip {
            states[n_layers] = self.finish(&states[n_layers])?;
        }
        Ok(wanted.iter().map(|&i| states[i.min(deepest)].clone()).collect())
    }

    fn finish(&self, x: &Tensor) -> Result<Tensor, Error> {
        match &self.post_layernorm {
            Some(norm) => Ok(norm.forward(x)?),
            None => Ok(x.clone()),
        }
    }

    /// `patches (…, P, C·p·p)` → `(…, P, D)`: the convolution whose stride is its size.
    fn embed_patches(&self, patches: &Tensor) -> Result<Tensor, Error> {
        let d = self.config.hidden_size;
        let weight = Weight::Dense(self.patch_embedding.reshape((d, ()))?);
        let bias = self.patch_bias.clone();
        Ok(Linear { weight, bias, compute: self.compute, adapters: Vec::new() }.forward(patches)?)
    }

    /// The class token, where there is one, before the patches `(N, P, D)`.
    fn with_class(&self, x: Tensor) -> Result<Tensor, Error> {
        let Some(class) = &self.class_embedding else { return Ok(x) };
        let (n, _, d) = x.dims3()?;
        let class = class.reshape((1, 1, d))?.broadcast_as((n, 1, d))?.contiguous()?;
        Ok(Tensor::cat(&[&class, &x], 1)?) // (N, 1 + P, D)
    }

    /// Patches, class token and positions: what the first layer receives, `(N, P, D)`.
    fn embed(&self, pixel_values: &Tensor, extents: PatchExtents) -> Result<Tensor, Error> {
        let (n, rows, cols) = self.check(pixel_values)?;
        let patches = match self.config.kind {
            VisionKind::Siglip2 => pixel_values.clone(), // (N, P, p·p·C)
            _ => unfold(pixel_values, self.config.patch_size)?, // (N, P, C·p·p)
        };
        let x = self.with_class(self.embed_patches(&patches)?)?; // (N, P, D)
        let x = match (&self.position_embedding, self.config.kind) {
            (None, _) => x,
            (Some(embedding), VisionKind::Idefics3) => {
                let ids = self.position_ids(n, (rows, cols), extents, x.device())?;
                x.broadcast_add(&embedding.forward(&ids)?)? // (N|1, P, D)
            }
            (Some(embedding), VisionKind::Siglip2) => {
                let table = embedding.weight.dense()?;
                let positions = stretched::positions(table, extents.unwrap_or_default(), cols)?;
                x.broadcast_add(&positions)? // (N, P, D)
            }
            (Some(embedding), _) => {
                x.broadcast_add(&embedding.weight.dense()?.unsqueeze(0)?)? // (1, P, D)
            }
        }; // (N, P, D)
        match &self.pre_layrnorm {
            Some(norm) => Ok(norm.forward(&x)?),
            None => Ok(x),
        }
    }

    /// Image count, and rows and columns of patches; SigLIP 2's are one row.
    fn check(&self, pixel_values: &Tensor) -> Result<(usize, usize, usize), Error> {
        let (c, side, p) =
            (self.config.num_channels, self.config.image_size, self.config.patch_size);
        let wrong = |expected: String| Error::Shape {
            tensor: "pixel_values",
            expected,
            found: pixel_values.dims().to_vec(),
        };
        if self.config.kind == VisionKind::Siglip2 {
            return match pixel_values.dims3() {
                Ok((n, n_patches, size)) if size == p * p * c => Ok((n, 1, n_patches)),
                _ => Err(wrong(format!("(N, P, {})", p * p * c))),
            };
        }
        let Ok((n, channels, height, width)) = pixel_values.dims4() else {
            return Err(wrong(format!("(N, {c}, {side}, {side})")));
        };
        if self.config.dynamic.is_some() {
            return Err(wrong("(P, values of a patch), and the pictures' spans".into()));
        }
        if channels != c {
            return Err(wrong(format!("(N, {c}, {side}, {side})")));
        }
        if self.config.kind == VisionKind::Idefics3 {
            if height < p || width < p {
                return Err(wrong(format!("(N, {c}, S, S) of at least {p} px")));
            }
        } else if (height, width) != (side, side) {
            return Err(wrong(format!("(N, {c}, {side}, {side})")));
        }
        Ok((n, height / p, width / p))
    }

    /// Idefics3's position of each patch: its fractional coordinate, bucketed. `(N|1, P)`
    fn position_ids(
        &self,
        n: usize,
        (rows, cols): (usize, usize),
        extents: PatchExtents,
        device: &Device,
    ) -> Result<Tensor, Error> {
        let side = self.config.patches_per_side();
        let one = |(high, wide): (usize, usize)| {
            let (row_ids, col_ids) = (bucketize(high, side), bucketize(wide, side));
            let mut ids = vec![0u32; rows * cols];
            for (row, row_id) in row_ids.iter().enumerate() {
                for (col, col_id) in col_ids.iter().enumerate() {
                    ids[row * cols + col] = row_id * side as u32 + col_id;
                }
            }
            ids
        };
        let (n, ids) = match extents {
            None => (1, one((rows, cols))),
            Some(extents) => {
                let inside = |&(h, w): &(usize, usize)| (h.min(rows), w.min(cols));
                (n, extents.iter().map(inside).flat_map(one).collect())
            }
        };
        Tensor::from_vec(ids, (n, rows * cols), device).context("patch positions")
    }

    /// Hides padding patches as keys, `(N, 1, P, P)`; `None` when there are none.
    pub(super) fn padding_mask(
        &self,
        pixel_values: &Tensor,
        extents: PatchExtents,
    ) -> Result<Option<Tensor>, Error> {
        let Some(extents) = extents else { return Ok(None) };
        let (n, rows, cols) = self.check(pixel_values)?;
        if extents.len() != n {
            let expected = format!("one pair for each of the {n} tiles");
            return Err(Error::Shape { tensor: "extents", expected, found: vec![extents.len()] });
        }
        let n_patches = rows * cols;
        let in_row = self.config.kind == VisionKind::Siglip2;
        let seen = |(high, wide): (usize, usize), i: usize| match in_row {
            true => i < high * wide,
            false => i / cols < high && i % cols < wide,
        };
        if extents.iter().all(|&extent| seen(extent, n_patches - 1)) {
            return Ok(None);
        }
        let mut mask = Vec::with_capacity(n * n_patches * n_patches);
        for &extent in extents {
            let weight = |i: usize| if seen(extent, i) { 0.0 } else { MASKED };
            let row: Vec<f32> = (0..n_patches).map(weight).collect();
            (0..n_patches).for_each(|_| mask.extend_from_slice(&row));
        }
        let dims = (n, 1, n_patches, n_patches);
        Ok(Some(Tensor::from_vec(mask, dims, pixel_values.device())?))
    }
}

fn load_layers(
    loader: &mut Loader,
    prefix: &str,
    config: &VisionConfig,
) -> Result<Vec<EncoderLayer>, Error> {
    let style = match config.kind {
        VisionKind::Clip | VisionKind::Siglip | VisionKind::Siglip2 | VisionKind::Idefics3 => {
            &encoder_layer::CLIP
        }
        VisionKind::Blip => &encoder_layer::BLIP,
        VisionKind::Mllama => &encoder_layer::MLLAMA,
        VisionKind::Qwen2Vl => &encoder_layer::QWEN2_VL,
        VisionKind::Qwen2_5Vl => &encoder_layer::QWEN2_5_VL,
        VisionKind::Qwen3Vl => &encoder_layer::QWEN3_VL,
    };
    load_stack(loader, prefix, (config, style), config.num_hidden_layers)
}

fn load_stack(
    loader: &mut Loader,
    prefix: &str,
    (config, style): (&VisionConfig, &Style),
    n_layers: usize,
) -> Result<Vec<EncoderLayer>, Error> {
    let sizes = EncoderSizes {
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        num_attention_heads: config.num_attention_heads,
        hidden_act: config.hidden_act,
        layer_norm_eps: config.layer_norm_eps,
    };
    let name = |i: usize| format!("{prefix}.{i}");
    (0..n_layers).map(|i| EncoderLayer::load(loader, &name(i), style, &sizes)).collect()
}

/// `(N, C, S, S)` → `(N, P, C·p·p)`: each patch as one row, so that the convolution of stride
/// `p` is a matrix product. Pixels beyond the last whole patch are left out, as it does.
fn unfold(pixel_values: &Tensor, p: usize) -> Result<Tensor, Error> {
    let (n, c, height, width) = pixel_values.dims4()?;
    let (rows, cols) = (height / p, width / p);
    let x = pixel_values.narrow(2, 0, rows * p)?.narrow(3, 0, cols * p)?.contiguous()?;
    let x = x.reshape(&[n, c, rows, p, cols, p])?.permute([0, 2, 4, 1, 3, 5])?;
    Ok(x.contiguous()?.reshape((n, rows * cols, c * p * p))?) // (N, P, C·p·p)
}

/// The bucket of each of `n` patches among `side` positions, in the f32 arithmetic of
/// `Idefics3VisionEmbeddings.forward` (transformers 4.57): with `n == side` the factor below 1
/// puts every patch but the first one bucket early, and equal outputs need the same.
fn bucketize(n: usize, side: usize) -> Vec<u32> {
    let step = 1.0 / side as f64;
    let n_boundaries = ((1.0 - step) / step).ceil() as usize;
    let boundaries: Vec<f32> = (0..n_boundaries).map(|i| (step + step * i as f64) as f32).collect();
    let factor = (1.0f64 - 1e-6) as f32;
    let coordinate = |i: usize| i as f32 / n as f32 * factor;
    let bucket = |x: f32| boundaries.partition_point(|&boundary| boundary <= x);
    let last = side.saturating_sub(1);
    (0..n).map(|i| bucket(coordinate(i)).min(last) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_transformers() {
        assert_eq!(bucketize(4, 4), [0, 0, 1, 2]);
        assert_eq!(bucketize(8, 8), [0, 0, 1, 2, 3, 4, 5, 6]);
        // One spare position keeps every patch's own.
        assert_eq!(bucketize(12, 13), (0..12).collect::<Vec<u32>>());
        assert_eq!(bucketize(2, 4), [0, 1]);
    }
}
