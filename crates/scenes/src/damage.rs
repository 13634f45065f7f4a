//! Pictures as bad cameras and small files give them.
//!
//! What is true of a picture stays true of it made worse, so a model can be taught to see through
//! it and be asked whether it knows how well it sees. Nothing here knows what is drawn.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage, imageops};

use crate::rng::Rng;

/// How a picture is made worse; in brackets what strength 1 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Gaussian noise (25 of 255).
    Noise,
    /// Gaussian blur (two pixels wide on a picture of 192).
    Blur,
    /// Contrast (a third of it is left).
    LowContrast,
    /// JPEG (of quality 10).
    Jpeg,
}

impl Damage {
    pub const ALL: [Damage; 4] = [Damage::Noise, Damage::Blur, Damage::LowContrast, Damage::Jpeg];

    /// The picture made worse by `strength`, above 0 to 1; `seed` decides the noise.
    pub fn done_to(self, picture: &RgbImage, strength: f32, seed: u64) -> RgbImage {
        match self {
            Damage::Noise => noisy(picture, 25.0 * strength, seed),
            Damage::Blur => imageops::blur(picture, picture.width() as f32 / 96.0 * strength),
            Damage::LowContrast => flat(picture, 1.0 - 0.67 * strength),
            Damage::Jpeg => jpeg(picture, (10.0 / strength).clamp(1.0, 100.0) as u8)
                .unwrap_or_else(|_| picture.clone()),
        }
    }
}

fn noisy(picture: &RgbImage, deviation: f32, seed: u64) -> RgbImage {
    let mut random = Rng::new(seed, 0xDA);
    let mut out = picture.clone();
    // The sum of twelve uniform numbers has variance 1 and is nearly Gaussian.
    let mut gaussian = || (0..12).map(|_| random.unit()).sum::<f32>() - 6.0;
    for value in out.iter_mut() {
        *value = (f32::from(*value) + deviation * gaussian()).clamp(0.0, 255.0) as u8;
    }
    out
}

fn flat(picture: &RgbImage, contrast: f32) -> RgbImage {
    let mut out = picture.clone();
    let nearer = |v: u8| (128.0 + (f32::from(v) - 128.0) * contrast) as u8;
    out.pixels_mut().for_each(|pixel| pixel.0 = pixel.0.map(nearer));
    out
}

fn jpeg(picture: &RgbImage, quality: u8) -> image::ImageResult<RgbImage> {
    let mut bytes = Vec::new();
    let (width, height) = picture.dimensions();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
    encoder.write_image(picture, width, height, ExtendedColorType::Rgb8)?;
    Ok(image::load_from_memory(&bytes)?.to_rgb8())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_get_worse_with_strength() {
        let picture = crate::scene(3, &crate::Options::default()).image;
        let apart = |other: &RgbImage| -> f64 {
            let pairs = picture.iter().zip(other.iter());
            pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum()
        };
        for damage in Damage::ALL {
            let worse = damage.done_to(&picture, 1.0, 1);
            assert_eq!(worse.dimensions(), picture.dimensions());
            assert_eq!(worse, damage.done_to(&picture, 1.0, 1), "the same again");
            let slightly = damage.done_to(&picture, 0.3, 1);
            assert!(0.0 < apart(&slightly) && apart(&slightly) < apart(&worse), "{damage:?}");
        }
    }
}
