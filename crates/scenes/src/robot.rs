//! A thing that no class names: a robot, drawn into an ordinary scene of one thing or alone.
//!
//! What can be taught must first be unknown. Nothing here is part of any other scene, so a model
//! of the drawn world has never seen one; every robot has other colours, size and proportions.

use image::{Rgb, RgbImage};

use crate::compose::{Mix, Options, scene};
use crate::rng::Rng;
use crate::scene::SceneKind;

/// What it is called.
pub const ROBOT: &str = "robot";

/// A picture with a robot, and what is said about it.
#[derive(Clone, Debug)]
pub struct RobotPicture {
    pub image: RgbImage,
    /// x0, y0, x1, y1, the last two exclusive.
    pub bbox: [u32; 4],
    /// Questions with their right answers.
    pub questions: Vec<(String, String)>,
}

/// The robot of a seed on the background of that seed's scene.
pub fn robot(seed: u64, size: u32) -> RobotPicture {
    let kinds = Mix::only(SceneKind::Single);
    let single = scene(seed, &Options { size, kinds, ..Options::default() });
    let mut image = single.without(0).image;
    let rng = &mut Rng::new(seed, 0x0B07);
    let side = size as f32;
    let height = rng.range(0.4, 0.75) * side;
    let width = height * rng.range(0.55, 0.8);
    let (left, top) = (rng.range(2.0, side - width - 2.0), rng.range(2.0, side - height - 2.0));
    let body = Body::new(rng);
    for y in top as u32..(top + height) as u32 {
        for x in left as u32..(left + width) as u32 {
            let at = ((x as f32 - left) / width, (y as f32 - top) / height);
            if let Some(paint) = body.paint(at) {
                image.put_pixel(x, y, paint);
            }
        }
    }
    let bbox = [left, top, left + width, top + height].map(|v| v as u32);
    let asked = ["What is this?", "What is in the picture?", "What do you see?"];
    let mut questions: Vec<(String, String)> =
        asked.map(|question| (question.to_owned(), "A robot.".to_owned())).into();
    questions.push(("Is there a robot?".into(), "Yes.".into()));
    RobotPicture { image, bbox, questions }
}

/// Proportions as shares of the whole, and colours.
struct Body {
    metal: Rgb<u8>,
    trim: Rgb<u8>,
    eyes: Rgb<u8>,
    /// Half the width of the head.
    head: f32,
    /// Where the head ends and where the trunk does.
    neck: f32,
    hips: f32,
}

impl Body {
    fn new(rng: &mut Rng) -> Body {
        let mut paint = |low: f32, high: f32| {
            let grey = rng.range(low, high);
            Rgb([0; 3].map(|_: i32| (grey + rng.range(-28.0, 28.0)).clamp(0.0, 255.0) as u8))
        };
        let (metal, trim, eyes) = (paint(120.0, 215.0), paint(30.0, 80.0), paint(225.0, 250.0));
        let head = rng.range(0.24, 0.34);
        let (neck, hips) = (rng.range(0.36, 0.44), rng.range(0.74, 0.8));
        Body { metal, trim, eyes, head, neck, hips }
    }

    /// The paint at a place inside the whole's box; none where the background shows.
    fn paint(&self, (x, y): (f32, f32)) -> Option<Rgb<u8>> {
        let off = (x - 0.5).abs();
        let knob = (x - 0.5) * (x - 0.5) * 0.5 + (y - 0.04) * (y - 0.04) <= 0.0014;
        let antenna = off <= 0.025 && (0.04..0.13).contains(&y);
        let in_head = off <= self.head && (0.12..self.neck).contains(&y);
        let (eye_x, eye_y) = (off - self.head * 0.5, y - 0.22);
        let eye = eye_x * eye_x * 0.5 + eye_y * eye_y <= 0.0016;
        let mouth = off <= self.head * 0.55 && (y - self.neck + 0.07).abs() <= 0.018;
        let in_trunk = off <= 0.3 && (self.neck + 0.03..self.hips).contains(&y);
        let neck = off <= 0.08 && (self.neck..self.neck + 0.03).contains(&y);
        let plate = off <= 0.14 && (y - (self.neck + self.hips) / 2.0).abs() <= 0.07;
        let arm = (0.34..0.48).contains(&off) && (self.neck + 0.05..self.hips - 0.04).contains(&y);
        let leg = (0.08..0.24).contains(&off) && (self.hips..0.98).contains(&y);
        match () {
            () if in_head && eye => Some(self.eyes),
            () if knob || antenna || neck || (in_head && mouth) || (in_trunk && plate) || arm => {
                Some(self.trim)
            }
            () if in_head || in_trunk || leg => Some(self.metal),
            () => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn robots_differ_and_stand_where_they_are_said_to() {
        let first = robot(1, 192);
        assert_eq!(first.image, robot(1, 192).image, "the same again");
        assert_ne!(first.image, robot(2, 192).image);
        for seed in 0..20 {
            let RobotPicture { image, bbox: [x0, y0, x1, y1], .. } = robot(seed, 192);
            let kinds = Mix::only(SceneKind::Single);
            let bare = scene(seed, &Options { size: 192, kinds, ..Options::default() }).without(0);
            for (x, y, pixel) in image.enumerate_pixels() {
                let inside = (x0..=x1).contains(&x) && (y0..=y1).contains(&y);
                assert!(inside || pixel == bare.image.get_pixel(x, y), "seed {seed}: {x}, {y}");
            }
            assert!(x1 <= 192 && y1 <= 192);
        }
        assert!(crate::class_named(ROBOT).is_none(), "a class of the world");
    }
}
