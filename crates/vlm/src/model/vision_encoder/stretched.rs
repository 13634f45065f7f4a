//! SigLIP 2's positions: one learned square of them, stretched to each picture's rows and columns.
//!
//! Follows `Siglip2VisionEmbeddings.resize_positional_embeddings`: bilinear with antialiasing, the
//! centres of the cells aligned, as `torch.nn.functional.interpolate` does it. (For a picture one
//! patch wide and several high torch 2.8 repeats rows on a CPU instead of blending them; such a
//! picture is stretched like any other here.) It does not know which patches are hidden.
//!
//! Shapes: `N` pictures, `P` patches of a row, `D` hidden size.

use candle_core::{Device, Tensor};

use crate::error::Error;

/// The square `table (side², D)` as each picture's rows and columns need it, filled up with the
/// position of the first patch: `(N, P, D)`.
///
/// Errors: a picture without patches, or with more than the row holds.
pub(super) fn positions(
    table: &Tensor,
    shapes: &[(usize, usize)],
    n_patches: usize,
) -> Result<Tensor, Error> {
    let wrong = |found: Vec<usize>| Error::Shape {
        tensor: "spatial_shapes",
        expected: format!("rows and columns of 1 to {n_patches} patches for each picture"),
        found,
    };
    let mut pictures = Vec::with_capacity(shapes.len());
    for &(high, wide) in shapes {
        let n = high * wide;
        if n == 0 || n > n_patches {
            return Err(wrong(vec![high, wide]));
        }
        let own = stretch(table, (high, wide))?; // (high · wide, D)
        pictures.push(match n_patches - n {
            0 => own,
            missing => {
                let first = own.narrow(0, 0, 1)?.broadcast_as((missing, own.dim(1)?))?;
                Tensor::cat(&[own, first.contiguous()?], 0)? // (P, D)
            }
        });
    }
    if pictures.is_empty() {
        return Err(wrong(Vec::new()));
    }
    Ok(Tensor::stack(&pictures, 0)?) // (N, P, D)
}

/// `table (side², D)` → `(high · wide, D)`: columns first, then rows.
fn stretch(table: &Tensor, (high, wide): (usize, usize)) -> Result<Tensor, Error> {
    let (n, d) = table.dims2()?;
    let side = n.isqrt();
    let table = table.reshape((side, side, d))?;
    let across = weights(side, wide, table.device())?; // (wide, side)
    let across = across.unsqueeze(0)?.broadcast_as((side, wide, side))?.contiguous()?;
    let rows = across.matmul(&table)?.reshape((side, wide * d))?;
    let down = weights(side, high, rows.device())?; // (high, side)
    Ok(down.matmul(&rows)?.reshape((high * wide, d))?)
}

/// What each of `from` cells counts in each of `to` cells, `(to, from)`; each row adds up to 1.
fn weights(from: usize, to: usize, device: &Device) -> Result<Tensor, Error> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    let mut all = vec![0f32; to * from];
    for (idx, row) in all.chunks_exact_mut(from).enumerate() {
        let center = (idx as f64 + 0.5) * scale;
        let tent = |cell: usize| (1.0 - (cell as f64 + 0.5 - center).abs() / support).max(0.0);
        let sum: f64 = (0..from).map(tent).sum();
        for (cell, weight) in row.iter_mut().enumerate() {
            *weight = (tent(cell) / sum) as f32;
        }
    }
    Ok(Tensor::from_vec(all, (to, from), device)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_weights_are_those_of_torch() {
        let rows = |from, to| {
            let weights = weights(from, to, &Device::Cpu).expect("weights");
            weights.to_vec2::<f32>().expect("rows")
        };
        assert_eq!(rows(2, 2), [[1.0, 0.0], [0.0, 1.0]]);
        assert_eq!(rows(2, 4)[1], [0.75, 0.25]);
        assert_eq!(rows(4, 2)[0], [3.0 / 7.0, 3.0 / 7.0, 1.0 / 7.0, 0.0]);
    }

    #[test]
    fn pictures_that_do_not_fit_are_refused() {
        let table = Tensor::zeros((4, 3), candle_core::DType::F32, &Device::Cpu).expect("zeros");
        let found = positions(&table, &[(2, 3), (1, 1)], 6).expect("positions");
        assert_eq!(found.dims(), [2, 6, 3]);
        for shapes in [vec![], vec![(0, 3)], vec![(2, 4)]] {
            let error = positions(&table, &shapes, 6).expect_err("no fit").to_string();
            assert!(error.contains("spatial_shapes"), "{error}");
        }
    }
}
