//! Changed pictures: parts greyed or kept alone.
//!
//! Nothing here knows a model or a scene.

use image::{Rgb, RgbImage, imageops};

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
    }
}
