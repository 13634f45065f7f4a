//! The pictures of a conversation as the model gets them: whole, or a part cut out.

use std::sync::Arc;

use image::RgbImage;

use crate::api::ApiError;
use crate::chats::Shot;
use crate::telling::Shown;

use super::App;

impl App {
    /// The pixels of a picture of a conversation, and where they lie in it.
    pub(super) fn shot(&self, shot: &Shot) -> Result<(Arc<RgbImage>, Shown), ApiError> {
        let image = self.pixels(shot.image)?;
        let size = image.dimensions();
        let Some(part) = shot.part else {
            return Ok((image, Shown { id: shot.image, size, from: (0.0, 0.0) }));
        };
        let [x0, y0, x1, y1] = whole_pixels(part, size);
        let cut = image::imageops::crop_imm(&*image, x0, y0, x1 - x0, y1 - y0).to_image();
        let from = (x0 as f32, y0 as f32);
        Ok((Arc::new(cut), Shown { id: shot.image, size, from }))
    }
}

/// A box in whole pixels inside a picture of `size`, at least one each way.
fn whole_pixels(bbox: [f32; 4], (width, height): (u32, u32)) -> [u32; 4] {
    let side = |from: f32, to: f32, size: u32| {
        let from = (from.max(0.0).floor() as u32).min(size.saturating_sub(1));
        (from, (to.ceil().max(0.0) as u32).clamp(from + 1, size.max(from + 1)))
    };
    let ((x0, x1), (y0, y1)) = (side(bbox[0], bbox[2], width), side(bbox[1], bbox[3], height));
    [x0, y0, x1, y1]
}

#[cfg(test)]
mod tests {
    use super::whole_pixels;

    #[test]
    fn parts_are_whole_pixels_inside_the_picture() {
        for (bbox, expected) in [
            ([1.5, 2.5, 3.2, 4.0], [1, 2, 4, 4]),
            ([-5.0, -5.0, 100.0, 100.0], [0, 0, 20, 10]),
            ([19.9, 9.9, 19.9, 9.9], [19, 9, 20, 10]),
            ([50.0, 50.0, 60.0, 60.0], [19, 9, 20, 10]),
        ] {
            assert_eq!(whole_pixels(bbox, (20, 10)), expected, "{bbox:?}");
        }
    }
}
