//! `MllamaVisionModel`: all tiles of a picture in one sequence.
//!
//! A picture is filled up to `max_num_tiles` tiles. Each tile's place on the canvas is added before
//! the layers and again before gated global layers, and what chosen layers gave stands beside the
//! last state. Padding (empty tiles, and positions that fill a tile up to a multiple of 8) is part
//! of it: the published mask hides padding from padding alone, so that the picture's own positions
//! see it, and so must ours.
//!
//! Shapes: `N` pictures, `R` real tiles of all of them, `M` tiles of a picture with the empty ones,
//! `C` channels, `S` side, `P` patches and the class token, `P'` the same with padding, `D` hidden
//! size, `K` chosen layers.

use std::collections::BTreeMap;

use candle_core::{D, Device, Tensor};

use super::super::encoder_layer::{EncoderLayer, MLLAMA_GLOBAL};
use super::super::gate::Gate;
use super::super::loader::Loader;
use super::super::nn::{Embedding, Weight};
use super::{MASKED, VisionEncoder, load_layers, load_stack, unfold};
use crate::config::mllama::aspect_ratios;
use crate::config::{TileConfig, VisionConfig};
use crate::error::{Context, Error};

/// Positions of a tile are filled up to a multiple of this.
const MULTIPLE: usize = 8;

/// `layernorm_pre` and `layernorm_post` have torch's default, whatever `norm_eps` says.
const NORM_EPS: f64 = 1e-5;

/// What tiles need beside the shared encoder.
pub(super) struct Tiles {
    /// Rows `M · D` for each canvas; the first is of no canvas.
    before: Gated,
    after: Gated,
    /// Rows `M · P · D` for each canvas; its gate trades it for the positions.
    positions: Gated,
    global_layers: Vec<EncoderLayer>,
    config: TileConfig,
}

/// A table and how much of it counts.
struct Gated {
    embedding: Embedding,
    gate: Gate,
}

impl Gated {
    /// `ids (N)` → `(N, M, …, D)`, the rows times the gate.
    fn forward(&self, ids: &Tensor, dims: &[usize]) -> Result<Tensor, Error> {
        let rows = self.embedding.forward(ids)?; // (N, row)
        self.gate.forward(&rows.reshape(dims)?)
    }
}

pub(super) fn load(
    loader: &mut Loader,
    prefix: &str,
    (config, tiles): (&VisionConfig, &TileConfig),
) -> Result<VisionEncoder, Error> {
    let (d, p) = (config.hidden_size, config.patch_size);
    let name = |part: &str| format!("{prefix}.{part}");
    let n_rows = aspect_ratios(tiles.max_num_tiles).len() + 1;
    let mut gated = |table: &str, gate: &str, row: usize| {
        let embedding = loader.embedding(&name(table), n_rows, tiles.max_num_tiles * row)?;
        Ok::<_, Error>(Gated { embedding, gate: Gate::load(loader, &name(gate))? })
    };
    let (before, after) = ("pre_tile_positional_embedding", "post_tile_positional_embedding");
    let own = "gated_positional_embedding";
    let before = gated(&format!("{before}.embedding"), &format!("{before}.gate"), d)?;
    let after = gated(&format!("{after}.embedding"), &format!("{after}.gate"), d)?;
    let (table, gate) = (format!("{own}.tile_embedding"), format!("{own}.gate"));
    let positions = gated(&table, &gate, config.n_positions() * d)?;
    let embedding =
        loader.tensor(&name(&format!("{own}.embedding")), &[config.n_positions(), d])?;
    let patch_dims = [d, config.num_channels, p, p];
    let n_global = tiles.num_global_layers;
    let global = name("global_transformer.layers");
    let global_layers = load_stack(loader, &global, (config, &MLLAMA_GLOBAL), n_global)?;
    Ok(VisionEncoder {
        patch_embedding: loader.tensor(&name("patch_embedding.weight"), &patch_dims)?,
        patch_bias: None,
        class_embedding: Some(loader.tensor(&name("class_embedding"), &[d])?),
        position_embedding: Some(Embedding { weight: Weight::Dense(embedding) }),
        pre_layrnorm: Some(loader.layer_norm(&name("layernorm_pre"), d, NORM_EPS)?),
        layers: load_layers(loader, &name("transformer.layers"), config)?,
        post_layernorm: Some(loader.layer_norm(&name("layernorm_post"), d, NORM_EPS)?),
        tiles: Some(Tiles { before, after, positions, global_layers, config: tiles.clone() }),
        config: config.clone(),
        compute: loader.compute,
    })
}

impl VisionEncoder {
    /// `pixel_values (R, C, S, S)`, the tiles of pictures that lie on `canvases` (rows and columns
    /// of tiles) → features `(N · M, P, D · (1 + K))`, those of empty tiles too.
    ///
    /// Errors: other tiles than the canvases have, or canvases that the model does not know.
    pub fn tiled_features(
        &self,
        pixel_values: &Tensor,
        canvases: &[(usize, usize)],
    ) -> Result<Tensor, Error> {
        let tiles = self.tiles.as_ref().ok_or_else(|| {
            Error::config("model_type", "sees no canvases, but the spans hold some")
        })?;
        let x = self.embed_tiles(tiles, pixel_values, canvases)?; // (N, M, P, D)
        let (n, m, p, d) = x.dims4()?;
        let padded = p.next_multiple_of(MULTIPLE);
        let mut x = x.pad_with_zeros(2, 0, padded - p)?.reshape((n, m * padded, d))?;
        let mask = padding_mask(canvases, (m, p, padded), x.device())?; // (N, 1, M·P', M·P')
        let chosen = &tiles.config.intermediate_layers_indices;
        let mut states = BTreeMap::new();
        for (layer_idx, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, Some(&mask))?;
            if chosen.contains(&layer_idx) {
                states.insert(layer_idx, x.clone());
            }
        }
        let ids = tiles.ids(canvases, x.device())?;
        let after = tiles.after.forward(&ids, &[n, m, 1, d])?;
        let x = self.finish(&x)?.reshape((n, m, padded, d))?;
        let mut x = x.broadcast_add(&after)?.reshape((n, m * padded, d))?; // (N, M·P', D)
        for layer in &tiles.global_layers {
            x = layer.forward(&x, Some(&mask))?;
        }
        let chosen: Vec<&Tensor> = chosen.iter().map(|layer_idx| &states[layer_idx]).collect();
        let chosen = Tensor::stack(&chosen, D::Minus1)?.flatten_from(2)?; // (N, M·P', D · K)
        let all = Tensor::cat(&[x, chosen], 2)?; // (N, M·P', D · (1 + K))
        let all = all.reshape((n * m, padded, ()))?.narrow(1, 0, p)?;
        Ok(all.contiguous()?) // (N · M, P, D · (1 + K))
    }

    /// What the first layer receives, `(N, M, P, D)`.
    fn embed_tiles(
        &self,
        tiles: &Tiles,
        pixel_values: &Tensor,
        canvases: &[(usize, usize)],
    ) -> Result<Tensor, Error> {
        let (n, m) = (canvases.len(), tiles.config.max_num_tiles);
        let (n_real, rows, cols) = self.check(pixel_values)?;
        let expected: usize = canvases.iter().map(|(rows, cols)| rows * cols).sum();
        if n_real != expected || n == 0 {
            let expected = format!("({expected}, C, S, S): the tiles of {n} canvases");
            let found = pixel_values.dims().to_vec();
            return Err(Error::Shape { tensor: "pixel_values", expected, found });
        }
        let (p, d) = (1 + rows * cols, self.config.hidden_size);
        let patches = unfold(&fill_up(pixel_values, canvases, m)?, self.config.patch_size)?;
        let x = self.embed_patches(&patches)?; // (N·M, P - 1, D)
        let ids = tiles.ids(canvases, x.device())?;
        let before = tiles.before.forward(&ids, &[n, m, 1, d])?;
        let x = x.reshape((n, m, p - 1, d))?.broadcast_add(&before)?;
        let x = self.with_class(x.reshape((n * m, p - 1, d))?)?; // (N·M, P, D)
        let x = match &self.position_embedding {
            Some(table) => {
                x.broadcast_add(&tiles.positions.gate.complement(table.weight.dense()?)?)?
            }
            None => x,
        };
        let x = x.reshape((n, m, p, d))?;
        let x = (x + tiles.positions.forward(&ids, &[n, m, p, d])?)?;
        match &self.pre_layrnorm {
            Some(norm) => Ok(norm.forward(&x)?),
            None => Ok(x),
        }
    }
}

impl Tiles {
    /// The id of each canvas, `(N)`; 0 is of none.
    fn ids(&self, canvases: &[(usize, usize)], device: &Device) -> Result<Tensor, Error> {
        let known = aspect_ratios(self.config.max_num_tiles);
        let id = |canvas: &(usize, usize)| {
            let place = known.iter().position(|known| known == canvas);
            place.map(|place| place as u32 + 1).ok_or_else(|| Error::Shape {
                tensor: "image_spans",
                expected: format!("canvases of at most {} tiles", self.config.max_num_tiles),
                found: vec![canvas.0, canvas.1],
            })
        };
        let ids = canvases.iter().map(id).collect::<Result<Vec<_>, _>>()?;
        Tensor::from_vec(ids, canvases.len(), device).context("aspect ratio ids")
    }
}

/// `(R, C, S, S)` → `(N · M, C, S, S)`: tiles of zeros after those of each picture.
fn fill_up(pixels: &Tensor, canvases: &[(usize, usize)], m: usize) -> Result<Tensor, Error> {
    let (_, c, height, width) = pixels.dims4()?;
    let mut parts = Vec::new();
    let mut first = 0;
    for (rows, cols) in canvases {
        let n_tiles = rows * cols;
        parts.push(pixels.narrow(0, first, n_tiles)?);
        first += n_tiles;
        if n_tiles < m {
            let empty = (m - n_tiles, c, height, width);
            parts.push(Tensor::zeros(empty, pixels.dtype(), pixels.device())?);
        }
    }
    Ok(Tensor::cat(&parts, 0)?)
}

/// Hides padding from padding (`_prepare_aspect_ratio_attention_mask`): `(N, 1, M·P', M·P')`.
fn padding_mask(
    canvases: &[(usize, usize)],
    (m, p, padded): (usize, usize, usize),
    device: &Device,
) -> Result<Tensor, Error> {
    let side = m * padded;
    let mut mask = Vec::with_capacity(canvases.len() * side * side);
    for (rows, cols) in canvases {
        let is_padding = |i: usize| i / padded >= rows * cols || i % padded >= p;
        let hidden = |i| if is_padding(i) { MASKED } else { 0.0 };
        let of_padding: Vec<f32> = (0..side).map(hidden).collect();
        let of_picture = vec![0.0; side];
        for i in 0..side {
            mask.extend_from_slice(if is_padding(i) { &of_padding } else { &of_picture });
        }
    }
    let dims = (canvases.len(), 1, side, side);
    Tensor::from_vec(mask, dims, device).context("the mask of padding")
}
