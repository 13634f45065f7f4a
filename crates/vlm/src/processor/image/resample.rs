//! Resizing exactly as Pillow does it: antialiased, two passes, 8-bit fixed point.
//!
//! Why our own: the reference processors resize with Pillow, and vision towers notice the
//! difference (a plain bilinear resize moves pixel values by several per cent). Follows Pillow's
//! `src/libImaging/Resample.c` as of version 11, bit for bit: rows first, then columns. (Version 13
//! swaps the passes for some shapes, which moves single values by a few steps of 255.) Knows only
//! pixels, no sizes of any model.

use image::RgbImage;
use rayon::prelude::*;

/// Fixed-point fraction bits of the filter weights: 32 - 8 (pixel) - 2 (head room).
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Pillow's resampling filters, numbered as in `preprocessor_config.json` (`resample`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// 0
    Nearest,
    /// 1
    Lanczos,
    /// 2
    Bilinear,
    /// 3
    Bicubic,
    /// 4
    Box,
    /// 5
    Hamming,
}

impl Filter {
    /// The filter that `resample` numbers; `None` for a number Pillow does not define.
    pub fn from_pillow(number: u32) -> Option<Filter> {
        use Filter::{Bicubic, Bilinear, Box, Hamming, Lanczos, Nearest};
        [Nearest, Lanczos, Bilinear, Bicubic, Box, Hamming].get(number as usize).copied()
    }

    /// Half the filter's width, in source pixels at scale 1.
    fn support(self) -> f64 {
        match self {
            Filter::Nearest | Filter::Box => 0.5,
            Filter::Bilinear | Filter::Hamming => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let distance = x.abs();
        match self {
            Filter::Nearest | Filter::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Filter::Bilinear => (1.0 - distance).max(0.0),
            Filter::Hamming => hamming(distance),
            Filter::Bicubic => bicubic(distance),
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Filter::Lanczos => 0.0,
        }
    }
}

/// `picture` resized to `width` x `height` pixels (each at least 1), the aspect ratio as asked.
pub fn resize(picture: &RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
    let (width, height) = (width.max(1), height.max(1));
    if filter == Filter::Nearest {
        return nearest(picture, width, height);
    }
    let mut current = None;
    if width != picture.width() {
        current = Some(resize_rows(picture, width, filter));
    }
    if height != picture.height() {
        current = Some(resize_columns(current.as_ref().unwrap_or(picture), height, filter));
    }
    current.unwrap_or_else(|| picture.clone())
}

/// The weights of one output pixel: source pixels `start..start + weights.len()`.
struct Taps {
    start: usize,
    weights: Vec<i32>,
}

/// `precompute_coeffs` and `normalize_coeffs_8bpc` of Resample.c.
fn taps(in_size: u32, out_size: u32, filter: Filter) -> Vec<Taps> {
    let scale = f64::from(in_size) / f64::from(out_size);
    let filter_scale = scale.max(1.0);
    let support = filter.support() * filter_scale;
    let inverse = 1.0 / filter_scale;
    let taps_of = |out_idx: u32| {
        let center = (f64::from(out_idx) + 0.5) * scale;
        let start = ((center - support + 0.5) as i64).max(0) as usize;
        let end = ((center + support + 0.5) as i64).min(i64::from(in_size)) as usize;
        let weights: Vec<f64> = (0..end.saturating_sub(start))
            .map(|x| filter.weight(((x + start) as f64 - center + 0.5) * inverse))
            .collect();
        let total: f64 = weights.iter().sum();
        let total = if total == 0.0 { 1.0 } else { total };
        Taps { start, weights: weights.into_iter().map(|w| to_fixed(w / total)).collect() }
    };
    (0..out_size).map(taps_of).collect()
}

fn to_fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1u32 << PRECISION_BITS);
    (scaled + if weight < 0.0 { -0.5 } else { 0.5 }) as i32
}

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

fn resize_rows(picture: &RgbImage, width: u32, filter: Filter) -> RgbImage {
    let taps = taps(picture.width(), width, filter);
    let mut out = RgbImage::new(width, picture.height());
    let (in_stride, out_stride) = (picture.width() as usize * 3, width as usize * 3);
    let rows = out.par_chunks_mut(out_stride).zip(picture.as_raw().par_chunks(in_stride));
    rows.for_each(|(to, from)| {
        for (pixel, tap) in to.chunks_exact_mut(3).zip(&taps) {
            let mut sums = [1i32 << (PRECISION_BITS - 1); 3];
            for (source, weight) in from[tap.start * 3..].chunks_exact(3).zip(&tap.weights) {
                for (sum, value) in sums.iter_mut().zip(source) {
                    *sum += i32::from(*value) * weight;
                }
            }
            pixel.copy_from_slice(&sums.map(to_byte));
        }
    });
    out
}

fn resize_columns(picture: &RgbImage, height: u32, filter: Filter) -> RgbImage {
    let taps = taps(picture.height(), height, filter);
    let mut out = RgbImage::new(picture.width(), height);
    let stride = picture.width() as usize * 3;
    out.par_chunks_mut(stride).zip(&taps).for_each(|(to, tap)| {
        let mut sums = vec![1i32 << (PRECISION_BITS - 1); stride];
        let rows = picture.as_raw()[tap.start * stride..].chunks_exact(stride);
        for (row, weight) in rows.zip(&tap.weights) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += i32::from(*value) * weight;
            }
        }
        for (byte, sum) in to.iter_mut().zip(sums) {
            *byte = to_byte(sum);
        }
    });
    out
}

/// `ImagingScaleAffine` with the nearest filter: the source pixel under each output centre.
fn nearest(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    let at = |idx: u32, out: u32, size: u32| {
        let scale = f64::from(size) / f64::from(out);
        (((f64::from(idx) + 0.5) * scale) as u32).min(size - 1)
    };
    RgbImage::from_fn(width, height, |x, y| {
        *picture.get_pixel(at(x, width, picture.width()), at(y, height, picture.height()))
    })
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let angle = x * std::f64::consts::PI;
    angle.sin() / angle
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn hamming(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    if x >= 1.0 {
        return 0.0;
    }
    let angle = x * std::f64::consts::PI;
    angle.sin() / angle * (0.54 + 0.46 * angle.cos())
}
