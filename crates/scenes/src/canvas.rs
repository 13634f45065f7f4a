//! The picture while it is being drawn: float RGB plus, for each pixel, which item is on top.
//! Sprites are placed by an inverse affine map with bilinear samples of the nearest half-size
//! level. Only +, −, ×, ÷: the same bits everywhere. It does not know what anything means.

use image::RgbImage;

use crate::rng::Rng;
use crate::sprite::{Level, Sprite};

/// A square picture in the making.
pub(crate) struct Canvas {
    pub side: usize,
    /// Row by row, each channel about 0..=255.
    pub pixels: Vec<[f32; 3]>,
    /// 0 for background, else the number of the item seen there plus one.
    pub owner: Vec<u8>,
}

/// Where and how a sprite stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pose {
    /// Centre, pixels.
    pub x: f32,
    pub y: f32,
    /// Canvas pixels for each pixel of the sprite as shipped.
    pub scale: f32,
    /// Cosine and sine of the rotation.
    pub turn: (f32, f32),
    pub flip: bool,
}

impl Pose {
    /// Half the width and height of the upright box around a turned `size` rectangle.
    pub fn half_extent(&self, size: (f32, f32)) -> (f32, f32) {
        let (c, s) = (self.turn.0.abs(), self.turn.1.abs());
        let (w, h) = (size.0 * self.scale / 2.0, size.1 * self.scale / 2.0);
        (c * w + s * h, s * w + c * h)
    }
}

/// The look of the whole picture, applied last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Photo {
    pub gain: [f32; 3],
    pub offset: f32,
    /// Half-width of the noise.
    pub noise: f32,
    pub seed: u64,
}

impl Canvas {
    pub fn new(side: usize) -> Canvas {
        Canvas { side, pixels: vec![[0.0; 3]; side * side], owner: vec![0; side * side] }
    }

    /// Draws `sprite`; `paint` replaces the colour of its tintable part; `owner` marks what it
    /// covers by at least half (0 marks nothing).
    pub fn draw(&mut self, sprite: &Sprite, pose: &Pose, paint: Option<[f32; 3]>, owner: u8) {
        let level_idx = sprite
            .levels
            .iter()
            .enumerate()
            .take_while(|(i, _)| *i == 0 || pose.scale * (1u32 << i) as f32 <= 1.25)
            .last()
            .map_or(0, |(i, _)| i);
        let level = &sprite.levels[level_idx];
        let shrink = 1.0 / (pose.scale * (1u32 << level_idx) as f32);
        let (width, height) = sprite.size();
        let half = 0.5 / (1u32 << level_idx) as f32;
        let (mid_u, mid_v) = (width * half, height * half);
        let (extent_x, extent_y) = pose.half_extent((width, height));
        let columns = span(pose.x, extent_x, self.side);
        let (c, s) = pose.turn;
        for y in span(pose.y, extent_y, self.side) {
            let dy = y as f32 + 0.5 - pose.y;
            for x in columns.clone() {
                let dx = x as f32 + 0.5 - pose.x;
                let u = (c * dx + s * dy) * shrink;
                let v = (c * dy - s * dx) * shrink;
                let u = if pose.flip { mid_u - u } else { mid_u + u };
                let sample = bilinear(level, u - 0.5, v + mid_v - 0.5);
                if sample[3] < 1.0 {
                    continue;
                }
                let at = y * self.side + x;
                let rgb = paint.map_or([sample[0], sample[1], sample[2]], |paint| {
                    painted(&sample, paint, sprite.tint_luminance)
                });
                let rest = 1.0 - sample[3] / 255.0;
                for (old, new) in self.pixels[at].iter_mut().zip(rgb) {
                    *old = *old * rest + new;
                }
                if sample[3] >= 128.0 && owner > 0 {
                    self.owner[at] = owner;
                }
            }
        }
    }

    /// Fills a box with rounded corners.
    pub fn fill(&mut self, [x0, y0, x1, y1]: [u32; 4], radius: f32, paint: [f32; 3]) {
        let side = self.side as u32;
        for y in y0..y1.min(side) {
            for x in x0..x1.min(side) {
                let beyond = |p: u32, low: u32, high: u32| {
                    let (p, low) = (p as f32 + 0.5, low as f32 + radius);
                    (low - p).max(p - (high as f32 - radius)).max(0.0)
                };
                let (dx, dy) = (beyond(x, x0, x1), beyond(y, y0, y1));
                if dx * dx + dy * dy <= radius * radius {
                    self.pixels[(y * side + x) as usize] = paint;
                }
            }
        }
    }

    /// Mean colour of the picture inside a box around (x, y), from a 5 × 5 grid.
    pub fn mean(&self, x: f32, y: f32, half_width: f32, half_height: f32) -> [f32; 3] {
        let mut sum = [0.0f32; 3];
        for i in 0..25 {
            let at = |middle: f32, half: f32, step: usize| {
                let p = middle + half * (step as f32 / 2.5 - 0.8);
                (p.max(0.0) as usize).min(self.side - 1)
            };
            let (row, column) = (at(y, half_height, i / 5), at(x, half_width, i % 5));
            let pixel = self.pixels[row * self.side + column];
            for (s, v) in sum.iter_mut().zip(pixel) {
                *s += v / 25.0;
            }
        }
        sum
    }

    /// The finished picture.
    pub fn develop(&self, photo: &Photo) -> RgbImage {
        let mut rng = Rng::new(photo.seed, 99);
        let mut out = Vec::with_capacity(self.pixels.len() * 3);
        for pixel in &self.pixels {
            let grain = if photo.noise > 0.0 {
                let bits = rng.next_u32();
                let (a, b) = ((bits & 0xFFFF) as f32, (bits >> 16) as f32);
                (a + b - 65_535.0) / 65_535.0 * photo.noise
            } else {
                0.0
            };
            for (value, gain) in pixel.iter().zip(photo.gain) {
                let value = value * gain + photo.offset + grain + 0.5;
                out.push(value.clamp(0.0, 255.0) as u8);
            }
        }
        RgbImage::from_raw(self.side as u32, self.side as u32, out).unwrap_or_default()
    }
}

/// The pixels from middle − extent to middle + extent, cut to the picture.
fn span(middle: f32, extent: f32, side: usize) -> std::ops::Range<usize> {
    let low = (middle - extent - 1.0).max(0.0) as usize;
    let high = (middle + extent + 2.0).max(0.0) as usize;
    low.min(side)..high.min(side)
}

/// The level at (u, v), where pixel centres are whole numbers; transparent outside.
fn bilinear(level: &Level, u: f32, v: f32) -> [f32; 5] {
    if u <= -1.0 || v <= -1.0 || u >= level.width as f32 || v >= level.height as f32 {
        return [0.0; 5];
    }
    let (x, y) = ((u + 1.0) as i32 - 1, (v + 1.0) as i32 - 1);
    let (fx, fy) = (u - x as f32, v - y as f32);
    let get = |x: i32, y: i32| -> [u8; 5] {
        if x < 0 || y < 0 || x >= level.width as i32 || y >= level.height as i32 {
            return [0; 5];
        }
        level.pixels[y as usize * level.width + x as usize]
    };
    let (a, b, c, d) = (get(x, y), get(x + 1, y), get(x, y + 1), get(x + 1, y + 1));
    let mut out = [0.0; 5];
    for i in 0..5 {
        let [a, b, c, d] = [a[i], b[i], c[i], d[i]].map(f32::from);
        let top = a + (b - a) * fx;
        let bottom = c + (d - c) * fx;
        out[i] = top + (bottom - top) * fy;
    }
    out
}

/// The sample (premultiplied) with its tintable share repainted, keeping light and shade.
fn painted(sample: &[f32; 5], paint: [f32; 3], tint_luminance: f32) -> [f32; 3] {
    let alpha = sample[3] / 255.0;
    let luminance = (0.299 * sample[0] + 0.587 * sample[1] + 0.114 * sample[2]) / alpha;
    let ratio = (luminance / tint_luminance).clamp(0.5, 2.0);
    let share = sample[4] / 255.0;
    let keep = 1.0 - (share / alpha).min(1.0);
    let mut out = [0.0; 3];
    for i in 0..3 {
        let shaded = if ratio <= 1.0 {
            paint[i] * ratio
        } else {
            paint[i] + (255.0 - paint[i]) * (ratio - 1.0) * 0.6
        };
        out[i] = sample[i] * keep + shaded * share;
    }
    out
}
