//! Changed pictures: parts greyed or kept alone, and pictures as bad cameras give them.
//!
//! Nothing here knows a model or a scene.

use image::{ImageEncoder, Rgb, RgbImage, imageops};

use crate::metric::SplitMix;

/// What covers a part: middle grey, which is no thing's colour.
const GREY: Rgb<u8> = Rgb([128; 3]);
/// Width of the blur that hides everything, as a share of the picture.
const BLUR: f32 = 0.12;

/// The picture with these boxes greyed.
pub(crate) fn covered(picture: &RgbImage, boxes: impl Iterator<Item = [f32; 4]>) -> RgbImage {
    let mut out = picture.clone();
    for bbox in boxes {
        each_pixel(&out.dimensions(), bbox, &mut |x, y| out.put_pixel(x, y, GREY));
    }
    out
}

/// A blurred picture that keeps no outline.
pub(crate) fn blurred(picture: &RgbImage) -> RgbImage {
    imageops::fast_blur(picture, BLUR * picture.width() as f32)
}

/// `under` with these boxes as they are in `picture`.
pub(crate) fn inserted(
    picture: &RgbImage,
    under: &RgbImage,
    boxes: impl Iterator<Item = [f32; 4]>,
) -> RgbImage {
    let mut out = under.clone();
    for bbox in boxes {
        let copy = &mut |x, y| out.put_pixel(x, y, *picture.get_pixel(x, y));
        each_pixel(&picture.dimensions(), bbox, copy);
    }
    out
}

fn each_pixel(&(width, height): &(u32, u32), bbox: [f32; 4], visit: &mut dyn FnMut(u32, u32)) {
    let [x0, y0, x1, y1] = bbox.map(|v| v.round().max(0.0) as u32);
    for y in y0..y1.min(height) {
        for x in x0..x1.min(width) {
            visit(x, y);
        }
    }
}

/// How a picture is made worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Gaussian, 25 of 255.
    Noise,
    /// Gaussian, two pixels wide on a picture of 192.
    Blur,
    /// A third of the contrast is left.
    LowContrast,
    /// JPEG of quality 10.
    Jpeg,
}

impl Damage {
    pub const ALL: [Damage; 4] = [Damage::Noise, Damage::Blur, Damage::LowContrast, Damage::Jpeg];

    /// The picture made worse; `seed` decides the noise.
    pub fn done_to(self, picture: &RgbImage, seed: u64) -> RgbImage {
        match self {
            Damage::Noise => noisy(picture, seed),
            Damage::Blur => imageops::blur(picture, picture.width() as f32 / 96.0),
            Damage::LowContrast => {
                let mut out = picture.clone();
                let flat = |v: u8| (128.0 + (f32::from(v) - 128.0) * 0.33) as u8;
                out.pixels_mut().for_each(|pixel| pixel.0 = pixel.0.map(flat));
                out
            }
            Damage::Jpeg => jpeg(picture).unwrap_or_else(|_| picture.clone()),
        }
    }
}

fn noisy(picture: &RgbImage, seed: u64) -> RgbImage {
    let mut random = SplitMix::new(seed);
    let mut out = picture.clone();
    // The sum of twelve uniform numbers has variance 1 and is nearly Gaussian.
    let mut gaussian = || (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
    for value in out.iter_mut() {
        *value = (f64::from(*value) + 25.0 * gaussian()).clamp(0.0, 255.0) as u8;
    }
    out
}

fn jpeg(picture: &RgbImage) -> image::ImageResult<RgbImage> {
    let mut bytes = Vec::new();
    let (width, height) = picture.dimensions();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 10);
    encoder.write_image(picture, width, height, image::ExtendedColorType::Rgb8)?;
    Ok(image::load_from_memory(&bytes)?.to_rgb8())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_go_and_come() {
        let picture = scenes::scene(3, &Default::default()).image;
        let bbox = [10.0, 20.0, 30.0, 40.0];
        let gone = covered(&picture, [bbox].into_iter());
        assert_eq!(gone.get_pixel(10, 20), &GREY);
        assert_eq!(gone.get_pixel(30, 40), picture.get_pixel(30, 40));
        let blurred = blurred(&picture);
        let back = inserted(&picture, &blurred, [bbox].into_iter());
        assert_eq!(back.get_pixel(29, 39), picture.get_pixel(29, 39));
        assert_eq!(back.get_pixel(100, 100), blurred.get_pixel(100, 100));
        let far = [-10.0, -10.0, 1e4, 1e4];
        assert!(covered(&picture, [far].into_iter()).pixels().all(|pixel| *pixel == GREY));
        for damage in Damage::ALL {
            let worse = damage.done_to(&picture, 1);
            assert_eq!(worse.dimensions(), picture.dimensions());
            assert_ne!(worse, picture, "{damage:?}");
            assert_eq!(worse, damage.done_to(&picture, 1), "the same again");
        }
    }
}
