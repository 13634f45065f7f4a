//! Pictures of any shape: each is one sequence of patches that turn by their row and column
//! (Qwen2-VL, Qwen2.5-VL, Qwen3-VL).
//!
//! Patches come square by square of those that become one token, so that the merger can take them
//! as they lie; with windows, window by window of such squares, too. Follows the vision models of
//! `modeling_qwen{2,2_5,3}_vl.py`.
//!
//! Shapes: `P` patches of a picture, `D` hidden size, `d` head size, `k` deepstack layers.

use candle_core::{D, Device, Tensor};

use super::super::encoder_layer::Windows;
use super::super::rotary::Angles;
use super::{VisionEncoder, load_layers};
use crate::config::{DynamicResolution, VisionConfig, VisionKind};
use crate::error::{Context, Error};
use crate::model::loader::Loader;

/// Where the tokens of a picture lie in the order that its windows give them.
pub(crate) struct WindowOrder {
    /// Row by row index of each token.
    pub tokens: Vec<u32>,
    /// One after the other: how many windows of how many tokens.
    pub runs: Vec<(usize, usize)>,
}

impl DynamicResolution {
    /// The order of a picture of `rows` and `cols` tokens.
    pub(crate) fn order(&self, (rows, cols): (usize, usize)) -> WindowOrder {
        let side = self.window.unwrap_or(rows.max(cols)).max(1);
        let mut order = WindowOrder { tokens: Vec::with_capacity(rows * cols), runs: Vec::new() };
        for (top, left) in
            starts(rows, side).flat_map(|top| starts(cols, side).map(move |left| (top, left)))
        {
            let (bottom, right) = ((top + side).min(rows), (left + side).min(cols));
            for row in top..bottom {
                order.tokens.extend((left..right).map(|col| (row * cols + col) as u32));
            }
            let length = (bottom - top) * (right - left);
            match order.runs.last_mut() {
                Some((n, same)) if *same == length => *n += 1,
                _ => order.runs.push((1, length)),
            }
        }
        order
    }
}

fn starts(length: usize, side: usize) -> impl Iterator<Item = usize> + Clone {
    (0..length).step_by(side)
}

impl VisionEncoder {
    pub(super) fn load_dynamic(
        loader: &mut Loader,
        prefix: &str,
        (config, dynamic): (&VisionConfig, &DynamicResolution),
    ) -> Result<Self, Error> {
        let (d, p, frames) = (config.hidden_size, config.patch_size, dynamic.temporal_patch_size);
        let patch = format!("{prefix}.patch_embed.proj");
        let dims = [d, config.num_channels, frames, p, p];
        let patch_embedding = loader.tensor(&format!("{patch}.weight"), &dims)?;
        let patch_bias = match config.kind {
            VisionKind::Qwen3Vl => Some(loader.tensor(&format!("{patch}.bias"), &[d])?),
            _ => None,
        };
        let positions = dynamic.num_position_embeddings;
        let positions = positions.map(|n| loader.embedding(&format!("{prefix}.pos_embed"), n, d));
        Ok(VisionEncoder {
            patch_embedding,
            patch_bias,
            class_embedding: None,
            position_embedding: positions.transpose()?,
            pre_layrnorm: None,
            layers: load_layers(loader, &format!("{prefix}.blocks"), config)?,
            post_layernorm: None,
            tiles: None,
            config: config.clone(),
            compute: loader.compute,
        })
    }

    /// `patches (P, C·frames·p·p)` of one picture of `grid` (rows and columns of tokens) → the last
    /// state and, beside it, those that deepstack takes, `(P, D · (1 + k))`.
    pub fn forward_patches(&self, patches: &Tensor, grid: (usize, usize)) -> Result<Tensor, Error> {
        let dynamic = self.dynamic()?;
        let merge = dynamic.spatial_merge_size;
        let n_values = self.patch_embedding.elem_count() / self.config.hidden_size;
        let n_patches = grid.0 * grid.1 * merge * merge;
        if patches.dims() != [n_patches, n_values] || n_patches == 0 {
            let (tensor, found) = ("pixel_values", patches.dims().to_vec());
            let expected = format!("({n_patches}, {n_values})");
            return Err(Error::Shape { tensor, expected, found });
        }
        let order = dynamic.order(grid);
        let places = places(&order.tokens, grid.1, merge);
        let mut x = self.embed_patches(patches)?; // (P, D), row by row of tokens
        if dynamic.window.is_some() {
            x = squares(&x, &order.tokens, merge)?;
        }
        if let Some(positions) = self.interpolated(&places, (grid.0 * merge, grid.1 * merge))? {
            x = (x + positions)?;
        }
        let angles = Angles::planar(&places, self.config.head_dim(), x.device())?;
        let windows: Vec<_> = order.runs.iter().map(|&(n, t)| (n, t * merge * merge)).collect();
        let mut x = x.unsqueeze(0)?; // (1, P, D)
        let mut kept = vec![Tensor::clone(&x); dynamic.deepstack_visual_indexes.len()];
        for (layer_idx, layer) in self.layers.iter().enumerate() {
            let whole = dynamic.fullatt_block_indexes.contains(&layer_idx);
            let runs = if whole { &[(1, n_patches)][..] } else { &windows };
            x = layer.forward_windows(&x, &Windows { angles: &angles, runs })?;
            let wanted = dynamic.deepstack_visual_indexes.iter().position(|&i| i == layer_idx);
            if let Some(place) = wanted {
                kept[place] = x.clone();
            }
        }
        kept.insert(0, x);
        let all = if kept.len() == 1 { kept.remove(0) } else { Tensor::cat(&kept, D::Minus1)? };
        Ok(all.squeeze(0)?) // (P, D · (1 + k))
    }

    fn dynamic(&self) -> Result<&DynamicResolution, Error> {
        let dynamic = self.config.dynamic.as_ref();
        dynamic.ok_or_else(|| Error::config("vision_config", "takes tiles, not patches"))
    }

    /// The learned positions of patches at `places` in a picture of `rows` and `cols`, `(P, D)`:
    /// between the four around each (`fast_pos_embed_interpolate`).
    fn interpolated(
        &self,
        places: &[(usize, usize)],
        (rows, cols): (usize, usize),
    ) -> Result<Option<Tensor>, Error> {
        let Some(embedding) = &self.position_embedding else { return Ok(None) };
        let table = embedding.weight.dense()?;
        let side = table.dim(0)?.isqrt();
        let (down, across) = (spread(side, rows), spread(side, cols));
        let corner = |below: bool, right: bool| {
            let share = |(at, share): (usize, f32), after: bool| match after {
                true => ((at + 1).min(side - 1), share),
                false => (at, 1.0 - share),
            };
            let of = |&(row, col): &(usize, usize)| {
                let (row, col) = (share(down[row], below), share(across[col], right));
                ((row.0 * side + col.0) as u32, row.1 * col.1)
            };
            let (ids, shares): (Vec<u32>, Vec<f32>) = places.iter().map(of).unzip();
            weighted(table, ids, shares).context("positions of patches")
        };
        let above = (corner(false, false)? + corner(false, true)?)?;
        let below = (above + corner(true, false)?)?;
        Ok(Some((below + corner(true, true)?)?))
    }
}

/// Row and column of each patch, where tokens of `merge` squared patches come in this order.
fn places(tokens: &[u32], n_cols: usize, merge: usize) -> Vec<(usize, usize)> {
    let of = |&token: &u32| {
        let (row, col) = (token as usize / n_cols * merge, token as usize % n_cols * merge);
        (0..merge * merge).map(move |i| (row + i / merge, col + i % merge))
    };
    tokens.iter().flat_map(of).collect()
}

/// The patches `(P, D)` of tokens that come row by row, in the order of `tokens`.
fn squares(x: &Tensor, tokens: &[u32], merge: usize) -> Result<Tensor, Error> {
    let (n_patches, d) = x.dims2()?;
    let squares = x.reshape((tokens.len(), merge * merge * d))?;
    let order = Tensor::new(tokens, x.device())?;
    Ok(squares.index_select(&order, 0)?.reshape((n_patches, d))?)
}

/// `n` points spread over `side` positions, first to last: the position before each, and how far
/// beyond it the point is. As `torch.linspace` counts: from both ends to the middle.
fn spread(side: usize, n: usize) -> Vec<(usize, f32)> {
    let last = (side - 1) as f32;
    let step = if n > 1 { last / (n - 1) as f32 } else { 0.0 };
    let point = |i: usize| match i < n / 2 {
        _ if n == 1 => 0.0,
        true => step * i as f32,
        false => last - step * (n - 1 - i) as f32,
    };
    let points = (0..n).map(point);
    points.map(|at| (at as usize, at - (at as usize) as f32)).collect()
}

/// Rows `ids` of a table `(rows, D)`, each times its share: `(P, D)`
fn weighted(table: &Tensor, ids: Vec<u32>, shares: Vec<f32>) -> candle_core::Result<Tensor> {
    let (n, device): (usize, &Device) = (ids.len(), table.device());
    let shares = Tensor::from_vec(shares, (n, 1), device)?.to_dtype(table.dtype())?;
    table.index_select(&Tensor::from_vec(ids, n, device)?, 0)?.broadcast_mul(&shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolution(window: Option<usize>) -> DynamicResolution {
        DynamicResolution {
            temporal_patch_size: 2,
            spatial_merge_size: 2,
            window,
            fullatt_block_indexes: Vec::new(),
            num_position_embeddings: None,
            deepstack_visual_indexes: Vec::new(),
        }
    }

    #[test]
    fn windows_are_read_one_after_the_other() {
        let order = resolution(Some(2)).order((3, 5));
        assert_eq!(order.tokens, [0, 1, 5, 6, 2, 3, 7, 8, 4, 9, 10, 11, 12, 13, 14]);
        assert_eq!(order.runs, [(2, 4), (3, 2), (1, 1)]);
        let order = resolution(None).order((2, 3));
        assert_eq!((order.tokens, order.runs), ((0..6).collect(), vec![(1, 6)]));
    }

    #[test]
    fn patches_come_square_by_square() {
        let found = places(&[1, 0], 2, 2);
        let expected = [(0, 2), (0, 3), (1, 2), (1, 3), (0, 0), (0, 1), (1, 0), (1, 1)];
        assert_eq!(found, expected);
    }

    #[test]
    fn points_are_spread_from_end_to_end() {
        assert_eq!(spread(5, 3), [(0, 0.0), (2, 0.0), (4, 0.0)]);
        assert_eq!(spread(3, 5), [(0, 0.0), (0, 0.5), (1, 0.0), (1, 0.5), (2, 0.0)]);
        assert_eq!(spread(3, 1), [(0, 0.0)]);
    }
}
