//! A picture of any aspect ratio -> one row of whole patches (SigLIP 2, NaFlex).
//!
//! Follows `image_processing_siglip2.py` (the Pillow version). Does not know how positions are
//! stretched over the patches.
//!
//! Legend: `N` pictures, `P` patches, `p` side of a patch in pixels, `C` channels (3).

use candle_core::{Device, Tensor};

use super::prepare::{ImageProcessor, Tile};
use super::settings::ImageSettings;
use crate::Error;

/// Pictures as a vision encoder that reads patches receives them.
#[derive(Clone, Debug)]
pub struct Patches {
    /// `(N, P, p·p·C)` f32 on the CPU: row by row, zeros after the last patch of a picture.
    pub pixel_values: Tensor,
    /// Rows and columns of each picture's patches.
    pub spatial_shapes: Vec<(usize, usize)>,
}

impl ImageProcessor {
    /// Rescales and normalises tiles and cuts them into patches, `max_num_patches` for each.
    ///
    /// Errors: `Error::Shape` when a tile has more patches than that.
    pub fn patches(&self, tiles: &[&Tile]) -> Result<Patches, Error> {
        let (p, n_patches) = (self.settings.patch_size, self.settings.max_num_patches as usize);
        let size = 3 * (p * p) as usize;
        let table = self.value_table();
        let mut values = Vec::with_capacity(tiles.len() * n_patches * size);
        let mut spatial_shapes = Vec::with_capacity(tiles.len());
        for (i, tile) in tiles.iter().enumerate() {
            let (rows, cols) = (tile.pixels.height() / p, tile.pixels.width() / p);
            let shape = (rows as usize, cols as usize);
            if shape.0 * shape.1 > n_patches {
                let expected = format!("at most {n_patches} patches of {p} pixels");
                let found = vec![shape.0, shape.1];
                return Err(Error::Shape { tensor: "pixel_values", expected, found });
            }
            spatial_shapes.push(shape);
            for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
                for (y, x) in (0..p).flat_map(|y| (0..p).map(move |x| (y, x))) {
                    let pixel = tile.pixels.get_pixel(col * p + x, row * p + y);
                    values.extend((0..3).map(|c| table[c][usize::from(pixel.0[c])]));
                }
            }
            values.resize((i + 1) * n_patches * size, 0.0);
        }
        let pixel_values = Tensor::from_vec(values, (tiles.len(), n_patches, size), &Device::Cpu)?;
        Ok(Patches { pixel_values, spatial_shapes })
    }
}

/// `get_image_size_for_max_num_patches`: the largest (width, height) of whole patches that are not
/// too many, each side rounded up to a patch. Found by halving, so that rounding is the
/// reference's.
pub(super) fn fitted((width, height): (u32, u32), settings: &ImageSettings) -> (u32, u32) {
    const EPS: f64 = 1e-5;
    let patch = f64::from(settings.patch_size);
    let n_patches = |length: u32, scale: f64| (f64::from(length) * scale / patch).ceil().max(1.0);
    let (mut low, mut high) = (EPS / 10.0, 100.0);
    while high - low >= EPS {
        let scale = (low + high) / 2.0;
        let n = n_patches(height, scale) * n_patches(width, scale);
        if n <= f64::from(settings.max_num_patches) {
            low = scale;
        } else {
            high = scale;
        }
    }
    let side = |length: u32| n_patches(length, low) as u32 * settings.patch_size;
    (side(width), side(height))
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;
    use crate::processor::image::Kind;

    fn processor(text: &str) -> ImageProcessor {
        ImageProcessor { settings: ImageSettings::parse(text, Kind::Siglip2).expect("settings") }
    }

    #[test]
    fn as_many_whole_patches_as_fit() {
        let processor = processor("{}");
        // Width and height of a picture, and what the reference makes of them.
        let rows = [
            ((640, 480), (288, 224)),
            ((480, 640), (224, 288)),
            ((100, 100), (256, 256)),
            ((1000, 10), (2048, 32)),
            ((1, 3000), (16, 4096)),
        ];
        for (size, fits) in rows {
            assert_eq!(fitted(size, &processor.settings), fits, "{size:?}");
        }
    }

    #[test]
    fn patches_lie_row_by_row_and_channels_last() {
        let processor = processor(
            r#"{"patch_size": 2, "max_num_patches": 4, "do_resize": false, "do_rescale": false,
                "do_normalize": false}"#,
        );
        let picture = RgbImage::from_fn(6, 2, |x, y| Rgb([x as u8, y as u8, 9]));
        let tiles = processor.tiles(&picture).tiles;
        let found = processor.patches(&[&tiles[0]]).expect("patches");
        assert_eq!(found.spatial_shapes, [(1, 3)]);
        let rows = found.pixel_values.to_vec3::<f32>().expect("values").remove(0);
        assert_eq!(rows[1], [2., 0., 9., 3., 0., 9., 2., 1., 9., 3., 1., 9.]);
        assert_eq!(rows[3], [0.0; 12]);
        let tall = processor.tiles(&RgbImage::new(2, 10)).tiles;
        let error = processor.patches(&[&tall[0]]).expect_err("too many").to_string();
        assert!(error.contains("at most 4 patches"), "{error}");
    }

    #[test]
    fn rows_of_no_or_too_many_patches_are_refused() {
        for text in [r#"{"patch_size": 0}"#, r#"{"max_num_patches": 4000000000}"#] {
            let error = ImageSettings::parse(text, Kind::Siglip2).expect_err(text);
            assert!(error.contains("max_num_patches"), "{error}");
        }
    }
}
