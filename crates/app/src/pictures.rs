//! The open pictures: pixels by number, within a bound of memory.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use image::RgbImage;
use vlm::processor::Processor;

use crate::api::{ApiError, ImageRef, Tile};
use crate::failure::failure;

/// Bytes of pixels that may be open at once.
const MAX_OPEN_BYTES: usize = 1 << 30;
/// Longest side of a display copy, px.
const MAX_DISPLAY_SIDE: u32 = 2048;
/// Between the tiles of one picture in `seen_png`, px.
const GAP: u32 = 8;

#[derive(Default)]
pub(crate) struct Pictures {
    next: u32,
    open: BTreeMap<u32, Picture>,
}

#[derive(Clone)]
pub(crate) struct Picture {
    pub name: String,
    pub image: Arc<RgbImage>,
    pub example: bool,
    /// As the model with this number receives it.
    tiles: Option<(u64, Vec<Tile>)>,
}

impl Pictures {
    /// Takes a picture in and returns its number.
    pub fn add(&mut self, name: &str, image: RgbImage, example: bool) -> Result<u32, ApiError> {
        let open: usize = self.open.values().map(|picture| picture.image.as_raw().len()).sum();
        if open + image.as_raw().len() > MAX_OPEN_BYTES {
            return Err(failure(
                "too_many_images",
                format!("there is no room for {name} beside the {} open pictures", self.open.len()),
                "Remove pictures that are no longer needed, then open it again.",
            ));
        }
        let id = self.next;
        self.next += 1;
        let picture = Picture { name: name.into(), image: Arc::new(image), example, tiles: None };
        self.open.insert(id, picture);
        Ok(id)
    }

    pub fn get(&self, id: u32) -> Result<Picture, ApiError> {
        self.open.get(&id).cloned().ok_or_else(|| {
            failure("no_such_image", format!("picture {id} is not open"), "Open it again.")
        })
    }

    pub fn remove(&mut self, id: u32) {
        self.open.remove(&id);
    }

    pub fn ids(&self) -> Vec<u32> {
        self.open.keys().copied().collect()
    }

    /// Remembers how model number `model` receives a picture.
    pub fn set_tiles(&mut self, id: u32, model: u64, tiles: Vec<Tile>) {
        if let Some(picture) = self.open.get_mut(&id) {
            picture.tiles = Some((model, tiles));
        }
    }
}

impl Picture {
    /// The tiles as model number `model` receives them, if known.
    pub fn tiles(&self, model: u64) -> Option<Vec<Tile>> {
        let (known, tiles) = self.tiles.as_ref()?;
        (*known == model).then(|| tiles.clone())
    }

    pub fn reference(&self, id: u32, tiles: Vec<Tile>) -> ImageRef {
        let (width, height) = self.image.dimensions();
        ImageRef { id, name: self.name.clone(), width, height, tiles, example: self.example }
    }

    /// PNG for the display.
    pub fn display_png(&self) -> Result<Vec<u8>, ApiError> {
        let (width, height) = self.image.dimensions();
        let longest = width.max(height);
        if longest <= MAX_DISPLAY_SIDE {
            return png(&self.name, &self.image);
        }
        let scale = |side: u32| {
            (u64::from(side) * u64::from(MAX_DISPLAY_SIDE) / u64::from(longest)).max(1) as u32
        };
        png(&self.name, &image::imageops::thumbnail(&*self.image, scale(width), scale(height)))
    }

    /// What the model receives, as one picture, and where each tile stands in it.
    pub fn seen(&self, processor: &Processor) -> (RgbImage, Vec<Tile>) {
        let tiled = processor.images.tiles(&self.image);
        let places = places(&tiled.tiles);
        let width = places.iter().map(|place| place[2]).max().unwrap_or(1);
        let height = places.iter().map(|place| place[3]).max().unwrap_or(1);
        let mut canvas = RgbImage::from_pixel(width, height, image::Rgb([127, 127, 127]));
        let mut tiles = Vec::new();
        for (tile, seen) in tiled.tiles.iter().zip(places) {
            let (x, y) = (i64::from(seen[0]), i64::from(seen[1]));
            image::imageops::replace(&mut canvas, &tile.pixels, x, y);
            tiles.push(Tile { bbox: tile.source, seen });
        }
        (canvas, tiles)
    }
}

/// Cut-out tiles in their grid, views of the whole picture below.
fn places(tiles: &[vlm::processor::Tile]) -> Vec<[u32; 4]> {
    let n_rows = tiles.iter().filter_map(|tile| tile.cell).map(|cell| cell.0 + 1).max();
    let mut extra = 0;
    let mut places = Vec::new();
    for tile in tiles {
        let (width, height) = tile.pixels.dimensions();
        let (row, col) = tile.cell.unwrap_or_else(|| {
            extra += 1;
            (n_rows.unwrap_or(0), extra - 1)
        });
        let (x, y) = (col as u32 * (width + GAP), row as u32 * (height + GAP));
        places.push([x, y, x + width, y + height]);
    }
    places
}

pub(crate) fn png(name: &str, image: &RgbImage) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let written = image.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png);
    written.map_err(|error| {
        failure("image_unwritable", format!("{name} cannot be shown: {error}"), "Open it again.")
    })?;
    Ok(bytes)
}
