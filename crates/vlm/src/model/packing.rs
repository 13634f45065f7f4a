//! Embeddings of tiles -> embeddings of picture tokens: tiles laid side by side, padding cut off,
//! rows ended (`pack_image_features` of transformers' `modeling_llava_{next,onevision}.py`).
//!
//! It follows the packing that the processor wrote into the spans and works nothing out itself.
//!
//! Shapes: `N` tiles, `T_img` embeddings of a tile, `R, C` rows and columns of tiles, `p` side of
//! a tile in embeddings, `h, w` rows and columns of a span's grid, `D` hidden size, `k` deepstack
//! layers.

use candle_core::{D, Tensor};

use super::Vlm;
use crate::config::DynamicResolution;
use crate::error::Error;
use crate::processor::{ImageSpan, Packing};

impl Vlm {
    /// `image_embeds (N, T_img, D)` of the tiles of `spans` in order → `(image tokens, D)`; where
    /// pictures keep their shape `(image tokens, D · (1 + k))`, window by window → row by row;
    /// where they become no tokens the cross-attention states `(S, D)`, those of empty tiles too.
    ///
    /// Errors: other tiles than the spans are made of; newline tokens without a parameter.
    pub fn pack(&self, image_embeds: &Tensor, spans: &[ImageSpan]) -> Result<Tensor, Error> {
        if let Some(dynamic) = &self.config.vision_config.dynamic {
            return row_by_row(image_embeds, spans, dynamic);
        }
        if self.config.text_config.has_cross_attention() {
            return Ok(image_embeds.flatten(0, 1)?);
        }
        let d = self.config.text_config.hidden_size;
        let n_tiles: usize = spans.iter().map(ImageSpan::n_tiles).sum();
        let wrong = |expected: String| Error::Shape {
            tensor: "image_embeds",
            expected,
            found: image_embeds.dims().to_vec(),
        };
        if !matches!(image_embeds.dims3(), Ok((n, _, found)) if (n, found) == (n_tiles, d)) {
            return Err(wrong(format!("({n_tiles}, T_img, {d})")));
        }
        let mut first = 0;
        let mut parts = Vec::new();
        for span in spans {
            let tiles = image_embeds.narrow(0, first, span.n_tiles())?; // (N, T_img, D)
            first += span.n_tiles();
            match span.packing {
                Packing::Queries => parts.push(tiles.squeeze(0)?), // (T_img, D)
                Packing::Tile { newline } => {
                    parts.push(tiles.squeeze(0)?); // (T_img, D)
                    if newline {
                        parts.push(self.newlines(1)?.squeeze(1)?); // (1, D)
                    }
                }
                Packing::Patches { .. } | Packing::CrossAttention { .. } => {
                    let message = "takes tiles for themselves, but the spans hold others";
                    return Err(Error::config("model_type", message));
                }
                Packing::Mosaic { .. } if span.tokens.is_empty() => {}
                Packing::Mosaic { tiles: (rows, cols), kept } => {
                    let side = tiles.dim(1)?.isqrt();
                    if side * side != tiles.dim(1)? {
                        return Err(wrong("as many embeddings as a square of patches has".into()));
                    }
                    let grid = mosaic(&tiles, (rows, cols), side)?; // (R·p, C·p, D)
                    let grid = resize(&middle(&grid, kept)?, span.grid)?; // (h, w, D)
                    let ended = Tensor::cat(&[grid, self.newlines(span.grid.0)?], 1)?;
                    parts.push(ended.flatten(0, 1)?); // (h · (w + 1), D)
                }
            }
        }
        match parts.is_empty() {
            true => Ok(image_embeds.flatten(0, 1)?),
            false => Ok(Tensor::cat(&parts, 0)?),
        }
    }

    /// `n` newline embeddings, one under the other: `(n, 1, D)`.
    fn newlines(&self, n: usize) -> Result<Tensor, Error> {
        let newline = self.eyes()?.image_newline.as_ref().ok_or_else(|| {
            Error::config("model_type", "has no newline tokens, but the spans hold some")
        })?;
        Ok(newline.broadcast_left((n, 1))?.contiguous()?)
    }
}

/// Rows and columns of the canvas of each picture whose tiles are seen by cross-attention layers.
pub(super) fn canvases(spans: &[ImageSpan]) -> Vec<(usize, usize)> {
    let mut canvases = Vec::new();
    let mut next = 0;
    while let Some(ImageSpan { packing: Packing::CrossAttention { canvas, .. }, .. }) =
        spans.get(next)
    {
        canvases.push(*canvas);
        next += (canvas.0 * canvas.1).max(1);
    }
    canvases
}

/// The embeddings of pictures whose tokens come window by window, row by row.
fn row_by_row(
    image_embeds: &Tensor,
    spans: &[ImageSpan],
    dynamic: &DynamicResolution,
) -> Result<Tensor, Error> {
    let n_tokens: usize = spans.iter().map(|span| span.tokens.len()).sum();
    if image_embeds.rank() != 2 || image_embeds.dims()[0] != n_tokens {
        let (tensor, found) = ("image_embeds", image_embeds.dims().to_vec());
        return Err(Error::Shape { tensor, expected: format!("({n_tokens}, D)"), found });
    }
    if dynamic.window.is_none() {
        return Ok(image_embeds.clone());
    }
    let mut places = vec![0; n_tokens];
    let mut first = 0;
    for span in spans {
        for (i, token) in dynamic.order(span.grid).tokens.into_iter().enumerate() {
            places[first + token as usize] = (first + i) as u32;
        }
        first += span.tokens.len();
    }
    let places = Tensor::from_vec(places, n_tokens, image_embeds.device())?;
    Ok(image_embeds.index_select(&places, 0)?)
}

/// `(R·C, p², D)` row by row → `(R·p, C·p, D)`
fn mosaic(tiles: &Tensor, (rows, cols): (usize, usize), p: usize) -> Result<Tensor, Error> {
    let d = tiles.dim(D::Minus1)?;
    let tiles = tiles.reshape(&[rows, cols, p, p, d])?; // (R, C, p, p, D)
    let lined_up = tiles.transpose(1, 2)?.contiguous()?; // (R, p, C, p, D)
    Ok(lined_up.reshape((rows * p, cols * p, d))?)
}

/// The middle `rows` and `cols` of `(H, W, D)`: what `unpad_image` leaves.
fn middle(grid: &Tensor, (rows, cols): (usize, usize)) -> Result<Tensor, Error> {
    let (height, width, _) = grid.dims3()?;
    let (top, left) = ((height - rows) / 2, (width - cols) / 2);
    Ok(grid.narrow(0, top, rows)?.narrow(1, left, cols)?.contiguous()?)
}

/// `(H, W, D)` → `(h, w, D)` as `interpolate(mode="bilinear")` does it.
fn resize(grid: &Tensor, (rows, cols): (usize, usize)) -> Result<Tensor, Error> {
    resize_side(&resize_side(grid, 0, rows)?, 1, cols)
}

/// Brings one dimension to length `n`: between the two neighbours of each point, by distance.
fn resize_side(grid: &Tensor, dim: usize, n: usize) -> Result<Tensor, Error> {
    let length = grid.dim(dim)?;
    if length == n {
        return Ok(grid.clone());
    }
    let scale = length as f32 / n as f32;
    let points = (0..n).map(|i| ((i as f32 + 0.5) * scale - 0.5).max(0.0));
    let points: Vec<f32> = points.collect();
    let last = length as u32 - 1;
    let before: Vec<u32> = points.iter().map(|&point| (point as u32).min(last)).collect();
    let after: Vec<u32> = before.iter().map(|&at| (at + 1).min(last)).collect();
    let shares: Vec<f32> = points.iter().zip(&before).map(|(x, &at)| x - at as f32).collect();
    let device = grid.device();
    let at = |places: Vec<u32>| grid.index_select(&Tensor::from_vec(places, n, device)?, dim);
    let (before, after) = (at(before)?, at(after)?);
    let mut shape = [1; 3];
    shape[dim] = n;
    let shares = Tensor::from_vec(shares, &shape, device)?.to_dtype(grid.dtype())?;
    Ok((&before + (after - &before)?.broadcast_mul(&shares)?)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn grid(rows: usize, cols: usize) -> Tensor {
        let values: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
        Tensor::from_vec(values, (rows, cols, 1), &Device::Cpu).expect("a grid")
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("values")
    }

    #[test]
    fn tiles_lie_side_by_side_and_lose_their_padding() {
        // Two tiles of 2 x 2: 0 1 | 4 5 over 2 3 | 6 7.
        let tiles = grid(8, 1).reshape((2, 4, 1)).expect("tiles");
        let grid = mosaic(&tiles, (1, 2), 2).expect("a mosaic");
        assert_eq!(values(&grid), [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
        assert_eq!(values(&middle(&grid, (2, 2)).expect("a middle")), [1.0, 4.0, 3.0, 6.0]);
    }

    #[test]
    fn a_smaller_grid_is_bilinear() {
        // 4 -> 2: halfway between the middle pairs; 3 -> 2: points at 0.25 and 1.75.
        assert_eq!(values(&resize(&grid(1, 4), (1, 2)).expect("a row")), [0.5, 2.5]);
        assert_eq!(values(&resize(&grid(3, 1), (2, 1)).expect("a column")), [0.25, 1.75]);
        assert_eq!(values(&resize(&grid(2, 2), (2, 2)).expect("as it was")), [0.0, 1.0, 2.0, 3.0]);
    }
}
