//! RGB pixels -> tiles -> pixel values, as the reference image processors do it.
//!
//! Follows transformers' `image_processing_{idefics3,smolvlm,clip,llava,siglip,blip}.py` (the
//! Pillow versions; `any_resolution` those of LLaVA-NeXT and LLaVA-OneVision, `canvas` that of
//! Llama-3.2-Vision, `dynamic` that of Qwen2-VL), and adds what they forget: which part of the
//! original picture each tile shows. Does not know what tokens the tiles become.
//!
//! Legend: `N` tiles, `C` channels (3), `S` the tile's side in pixels.

use candle_core::{Device, Tensor};
use image::{Rgb, RgbImage, imageops};

use super::any_resolution;
use super::canvas;
use super::patches;
use super::resample::resize;
use super::settings::{ImageSettings, Kind, Size};
use crate::Error;

/// Longest side the reference processors ever resize to, in pixels.
const MAX_IMAGE_SIZE: u32 = 4096;

/// One picture the vision encoder receives.
#[derive(Clone, Debug)]
pub struct Tile {
    /// The exact pixels, before rescaling and normalising.
    pub pixels: RgbImage,
    /// The part of the original picture shown: x0, y0, x1, y1 in its pixels. Beyond the picture
    /// where the tile is padded.
    pub source: [f32; 4],
    /// Row and column of a cut-out tile; `None` for a view of the whole picture.
    pub cell: Option<(usize, usize)>,
}

/// All tiles of one picture, in the order the model receives them.
#[derive(Clone, Debug)]
pub struct Tiles {
    pub tiles: Vec<Tile>,
    /// Rows of cut-out tiles; 0 when the picture was not cut.
    pub rows: usize,
    /// Columns of cut-out tiles; 0 when the picture was not cut.
    pub cols: usize,
    /// Width and height of the original picture.
    pub size: (u32, u32),
}

/// Turns pictures into tiles and pixel values.
#[derive(Clone, Debug)]
pub struct ImageProcessor {
    pub settings: ImageSettings,
}

impl ImageProcessor {
    /// Cuts and resizes `picture`, the only one of its conversation.
    pub fn tiles(&self, picture: &RgbImage) -> Tiles {
        let settings = &self.settings;
        match settings.kind {
            Kind::Idefics3 => self.idefics3(picture),
            Kind::LlavaNext | Kind::LlavaOnevision => {
                let (pinpoints, side) = (&settings.image_grid_pinpoints, settings.tile_side());
                any_resolution::cut(picture, pinpoints, side, settings.filter)
            }
            Kind::Mllama => {
                let max_tiles = settings.max_image_tiles;
                canvas::cut(picture, max_tiles, settings.tile_side(), settings.filter)
            }
            Kind::Clip
            | Kind::Llava
            | Kind::Siglip
            | Kind::Siglip2
            | Kind::Blip
            | Kind::Qwen2Vl => self.uncut(picture),
        }
    }

    /// Cuts and resizes the pictures of one conversation. LLaVA-OneVision sees a picture that is
    /// not alone as one tile (`batch_num_images` in `image_processing_llava_onevision.py`).
    pub fn tiles_of(&self, pictures: &[RgbImage]) -> Vec<Tiles> {
        let uncut = self.settings.kind == Kind::LlavaOnevision && pictures.len() > 1;
        let tiles = |picture| if uncut { self.uncut(picture) } else { self.tiles(picture) };
        pictures.iter().map(tiles).collect()
    }

    fn uncut(&self, picture: &RgbImage) -> Tiles {
        Tiles { tiles: vec![self.single(picture)], rows: 0, cols: 0, size: picture.dimensions() }
    }

    /// Refuses pictures that the reference refuses.
    pub(crate) fn check(&self, tiled: &[Tiles]) -> Result<(), Error> {
        self.settings.patches.as_ref().map_or(Ok(()), |patches| patches.check(tiled))
    }

    /// Rescales and normalises tiles of equal size: `pixel_values` (N, C, S, S), f32 on the CPU; of
    /// Qwen2-VL the patches of tiles of any size, (P, values of a patch).
    ///
    /// Errors: `Error::Shape` when the settings leave pictures at different sizes.
    pub fn pixel_values(&self, tiles: &[&Tile]) -> Result<Tensor, Error> {
        if let Some(patches) = &self.settings.patches {
            return patches.pixel_values(tiles, &self.value_table());
        }
        let (width, height) = tiles.first().map_or((0, 0), |tile| tile.pixels.dimensions());
        if let Some(other) = tiles.iter().find(|tile| tile.pixels.dimensions() != (width, height)) {
            let (found_width, found_height) = other.pixels.dimensions();
            return Err(Error::Shape {
                tensor: "pixel_values",
                expected: format!("every picture to be {width} x {height}"),
                found: vec![found_width as usize, found_height as usize],
            });
        }
        let table = self.value_table();
        let plane = width as usize * height as usize;
        let mut values = Vec::with_capacity(tiles.len() * 3 * plane);
        for tile in tiles {
            for (channel, table) in table.iter().enumerate() {
                let bytes = tile.pixels.as_raw().iter().skip(channel).step_by(3);
                values.extend(bytes.map(|byte| table[usize::from(*byte)]));
            }
        }
        let shape = (tiles.len(), 3, height as usize, width as usize);
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    /// The value of each byte in each channel. Precision as numpy's: the rescale in f64, rounded
    /// to f32, the normalisation in f32.
    pub(super) fn value_table(&self) -> [[f32; 256]; 3] {
        let mut table = [[0.0; 256]; 3];
        for (channel, row) in table.iter_mut().enumerate() {
            for (byte, value) in row.iter_mut().enumerate() {
                let factor = self.settings.rescale_factor.unwrap_or(1.0);
                *value = (byte as f64 * factor) as f32;
                if let Some((mean, std)) = self.settings.normalize {
                    *value = (*value - mean[channel]) / std[channel];
                }
            }
        }
        table
    }

    fn idefics3(&self, picture: &RgbImage) -> Tiles {
        let settings = &self.settings;
        let (side, filter) = (settings.max_image_size, settings.filter);
        let mut resized = picture.clone();
        if settings.do_resize {
            let (width, height) = idefics3_size(picture.dimensions(), settings.size);
            resized = resize(&resized, width, height, filter);
        }
        if settings.do_image_splitting {
            let (width, height) = whole_tiles(resized.dimensions(), side);
            resized = resize(&resized, width, height, filter);
        } else {
            resized = resize(&resized, side, side, filter);
        }
        let (width, height) = resized.dimensions();
        let (mut rows, mut cols) = (height.div_ceil(side), width.div_ceil(side));
        if rows == 1 && cols == 1 {
            (rows, cols) = (0, 0);
        }
        let scale = Scale::between(picture.dimensions(), resized.dimensions());
        let mut tiles = Vec::new();
        for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
            let (x, y) = (col * side, row * side);
            tiles.push(Tile {
                pixels: imageops::crop_imm(&resized, x, y, side, side).to_image(),
                source: scale.source(x as i64, y as i64, (side, side)),
                cell: Some((row as usize, col as usize)),
            });
        }
        // The global view is made from the enlarged picture, not from the original.
        let pixels = resize(&resized, side, side, filter);
        tiles.push(Tile { pixels, source: whole(picture), cell: None });
        Tiles { tiles, rows: rows as usize, cols: cols as usize, size: picture.dimensions() }
    }

    fn single(&self, picture: &RgbImage) -> Tile {
        let settings = &self.settings;
        let mut pixels = picture.clone();
        let mut source = whole(picture);
        if settings.do_pad {
            (pixels, source) = pad_to_square(&pixels, settings.image_mean);
        }
        if settings.do_resize {
            let (width, height) = match (&settings.patches, settings.kind) {
                (_, Kind::Siglip2) => patches::fitted(pixels.dimensions(), settings),
                (Some(patches), _) => patches.size(pixels.dimensions()),
                (None, _) => plain_size(pixels.dimensions(), settings.size),
            };
            pixels = resize(&pixels, width, height, settings.filter);
        }
        if settings.do_center_crop {
            let (height, width) = settings.crop_size;
            let padded = (source[2] - source[0], source[3] - source[1]);
            let scale = Scale {
                x: f64::from(padded.0) / f64::from(pixels.width()),
                y: f64::from(padded.1) / f64::from(pixels.height()),
            };
            let (cropped, left, top) = center_crop(&pixels, width, height);
            let inner = scale.source(left, top, (width, height));
            let origin = [source[0], source[1], source[0], source[1]];
            source = std::array::from_fn(|i| inner[i] + origin[i]);
            pixels = cropped;
        }
        Tile { pixels, source, cell: None }
    }
}

/// Original pixels for each pixel of a resized picture.
pub(super) struct Scale {
    x: f64,
    y: f64,
}

impl Scale {
    pub(super) fn between(original: (u32, u32), resized: (u32, u32)) -> Scale {
        Scale {
            x: f64::from(original.0) / f64::from(resized.0),
            y: f64::from(original.1) / f64::from(resized.1),
        }
    }

    /// The box at (`x`, `y`) of `size` in the resized picture, in original pixels.
    pub(super) fn source(&self, x: i64, y: i64, size: (u32, u32)) -> [f32; 4] {
        let (x1, y1) = (x + i64::from(size.0), y + i64::from(size.1));
        [
            (x as f64 * self.x) as f32,
            (y as f64 * self.y) as f32,
            (x1 as f64 * self.x) as f32,
            (y1 as f64 * self.y) as f32,
        ]
    }
}

pub(super) fn whole(picture: &RgbImage) -> [f32; 4] {
    [0.0, 0.0, picture.width() as f32, picture.height() as f32]
}

/// `get_resize_output_image_size` of Idefics3: (width, height) after the first resize.
fn idefics3_size((width, height): (u32, u32), size: Size) -> (u32, u32) {
    let longest = match size {
        Size::Exact { height, width } => return (width, height),
        Size::LongestEdge(side) | Size::ShortestEdge(side) => side,
    };
    let aspect = f64::from(width) / f64::from(height);
    let (mut out_width, mut out_height);
    if width >= height {
        out_width = longest;
        out_height = (f64::from(longest) / aspect) as u32;
        out_height += out_height % 2;
    } else {
        out_height = longest;
        out_width = (f64::from(longest) * aspect) as u32;
        out_width += out_width % 2;
    }
    (out_width, out_height) = (out_width.max(1), out_height.max(1));
    let aspect = f64::from(out_width) / f64::from(out_height);
    if out_width >= out_height && out_width > MAX_IMAGE_SIZE {
        out_width = MAX_IMAGE_SIZE;
        out_height = (f64::from(out_width) / aspect) as u32;
    } else if out_height > out_width && out_height > MAX_IMAGE_SIZE {
        out_height = MAX_IMAGE_SIZE;
        out_width = (f64::from(out_height) * aspect) as u32;
    }
    (out_width.max(1), out_height.max(1))
}

/// `resize_for_vision_encoder`: (width, height), both whole multiples of the tile's side.
fn whole_tiles((width, height): (u32, u32), side: u32) -> (u32, u32) {
    let aspect = f64::from(width) / f64::from(height);
    let up = |length: u32| length.div_ceil(side).max(1) * side;
    if width >= height {
        let width = up(width);
        (width, up((f64::from(width) / aspect) as u32))
    } else {
        let height = up(height);
        (up((f64::from(height) * aspect) as u32), height)
    }
}

/// `get_resize_output_image_size` of CLIP and SigLIP: (width, height).
fn plain_size((width, height): (u32, u32), size: Size) -> (u32, u32) {
    let shortest = match size {
        Size::Exact { height, width } => return (width, height),
        Size::ShortestEdge(side) | Size::LongestEdge(side) => side,
    };
    let (short, long) = (width.min(height), width.max(height));
    let scaled = (u64::from(shortest) * u64::from(long)) as f64 / f64::from(short);
    let long = scaled as u32;
    if width <= height { (shortest, long) } else { (long, shortest) }
}

/// The picture centred on a square of the mean colour, and the square in original pixels.
fn pad_to_square(picture: &RgbImage, image_mean: [f64; 3]) -> (RgbImage, [f32; 4]) {
    let (width, height) = picture.dimensions();
    let side = width.max(height);
    let (left, top) = ((side - width) / 2, (side - height) / 2);
    let mut square = RgbImage::from_pixel(side, side, Rgb(image_mean.map(|m| (m * 255.0) as u8)));
    imageops::replace(&mut square, picture, i64::from(left), i64::from(top));
    let (x0, y0, side) = (-(left as f32), -(top as f32), side as f32);
    (square, [x0, y0, x0 + side, y0 + side])
}

/// `center_crop`: the crop, and where its corner lies in the picture (negative where padded).
fn center_crop(picture: &RgbImage, width: u32, height: u32) -> (RgbImage, i64, i64) {
    // Floor division of the signed difference, as Python's `//`.
    let offset = |have: u32, want: u32| (i64::from(have) - i64::from(want)).div_euclid(2);
    let (left, top) = (offset(picture.width(), width), offset(picture.height(), height));
    let mut crop = RgbImage::new(width, height);
    imageops::replace(&mut crop, picture, -left, -top);
    (crop, left, top)
}
