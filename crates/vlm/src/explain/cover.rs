//! The proof on pixels: a region is painted over, the model asked again, and once more with an
//! equally large region elsewhere.
//!
//! Unlike hidden tokens, painted pixels leave no trace of what was there. What depends on the
//! region changes, and what only dislikes a painted picture changes with the control too.

use image::{Rgb, RgbImage};

use super::knock_out::{Subject, tokens_of_words};
use crate::generate::{Answer, Branch, Cancel, GenerateOptions, Hidden, Session};
use crate::processor::{Message, Processor};
use crate::{Error, Vlm};

/// Places tried for a control that does not touch the region.
const TRIES: u64 = 64;
/// A painted region nearer than this to what it covers, in levels of 255, hides nothing.
const ALIKE: f32 = 12.0;
/// The words' probability falls at least by this share of it, and with the control by at most half
/// as much, for a region to be confirmed.
const ENOUGH: f32 = 0.5;

/// What painting over a region did.
#[derive(Debug, Clone, PartialEq)]
pub struct Tested {
    pub image: usize,
    /// Pixels of the picture, inside it: x0, y0, x1, y1; of the region and of the control.
    pub region: [f32; 4],
    pub control_region: [f32; 4],
    /// Mean probability of the words' tokens: with the whole picture, without the region, without
    /// the control.
    pub before: f32,
    pub after: f32,
    pub control: f32,
    /// What the model answers then.
    pub answer_after: String,
    pub answer_control: String,
    /// Whether the words depend on the region and not on a region as such.
    pub confirmed: bool,
}

/// Paints over `bbox` of picture `image` and asks again; the session itself stays as it is.
///
/// Errors: as [`Session::tell`]; a picture that is not there.
pub fn cover(
    session: &mut Session,
    (vlm, processor): (&Vlm, &Processor),
    (messages, images): (&[Message], &[RgbImage]),
    (subject, (image, bbox)): (Subject, (usize, [f32; 4])),
    cancel: &Cancel,
) -> Result<Tested, Error> {
    let model = (vlm, processor);
    let Some(picture) = images.get(image) else {
        let expected = format!("below {}, the number of pictures", images.len());
        return Err(Error::Shape { tensor: "image", expected, found: vec![image] });
    };
    let region = inside(bbox, picture);
    let control_region = elsewhere(region, picture);
    let before = likelihood(session, model, (messages, images), subject, cancel)?;
    let without = |region: [u32; 4]| -> Result<(f32, String), Error> {
        let mut images = images.to_vec();
        images[image] = painted(picture, region);
        let mut other = Session::new(session.calibration().heads.clone());
        let likely = likelihood(&mut other, model, (messages, &images), subject, cancel)?;
        let said = again(&mut other, model, (messages, &images), subject.answer, cancel)?;
        Ok((likely, said))
    };
    let (after, answer_after) = without(region)?;
    let (control, answer_control) = without(control_region)?;
    let (fall, by_chance) = (before - after, before - control);
    let confirmed = fall >= ENOUGH * before && by_chance <= fall / 2.0 && before > 0.0;
    let [region, control_region] = [region, control_region].map(|r| r.map(|side| side as f32));
    Ok(Tested {
        image,
        region,
        control_region,
        before,
        after,
        control,
        answer_after,
        answer_control,
        confirmed,
    })
}

/// Mean probability of the tokens of the subject's content words; of its answer where they have
/// none.
fn likelihood(
    session: &mut Session,
    (vlm, processor): (&Vlm, &Processor),
    (messages, images): (&[Message], &[RgbImage]),
    subject: Subject,
    cancel: &Cancel,
) -> Result<f32, Error> {
    let answer = subject.answer.text.trim();
    let branch = Branch { messages, answer, hidden: Hidden::Nothing };
    let told = session.tell((vlm, processor), images, &[branch], cancel)?;
    let logprobs = told.into_iter().next().unwrap_or_default().logprobs;
    let of_words = tokens_of_words(processor, messages, subject.answer)?.into_iter();
    let (first, last) = subject.words;
    let of_words = of_words.filter(|(word, _)| (first..=last).contains(word));
    let mut tokens: Vec<usize> = of_words.flat_map(|(_, tokens)| tokens).collect();
    if tokens.is_empty() {
        tokens = (0..logprobs.len()).collect();
    }
    let sum: f32 = tokens.iter().filter_map(|&token| logprobs.get(token)).map(|l| l.exp()).sum();
    Ok(sum / tokens.len().max(1) as f32)
}

/// What the model says now, greedily.
fn again(
    session: &mut Session,
    model: (&Vlm, &Processor),
    asked: (&[Message], &[RgbImage]),
    before: &Answer,
    cancel: &Cancel,
) -> Result<String, Error> {
    let max_new_tokens = (2 * before.steps.len()).max(32);
    let options = GenerateOptions { max_new_tokens, evidence: false, ..Default::default() };
    let answer = session.ask(model, asked, &options, cancel, &mut |_| {})?;
    cancel.check()?;
    Ok(answer.text.trim().to_string())
}

/// Whole pixels of the picture, at least one.
fn inside(bbox: [f32; 4], picture: &RgbImage) -> [u32; 4] {
    let (width, height) = picture.dimensions();
    let low = |value: f32, side: u32| (value.max(0.0).floor() as u32).min(side.saturating_sub(1));
    let (x0, y0) = (low(bbox[0], width), low(bbox[1], height));
    let high =
        |value: f32, from: u32, side: u32| (value.ceil() as u32).clamp(from + 1, side.max(1));
    [x0, y0, high(bbox[2], x0, width), high(bbox[3], y0, height)]
}

/// An equally large region as far from the given one as luck has it: the first that does not
/// touch it, else that which touches it least. The same picture and region give the same.
fn elsewhere([x0, y0, x1, y1]: [u32; 4], picture: &RgbImage) -> [u32; 4] {
    let (width, height) = picture.dimensions();
    let (w, h) = (x1 - x0, y1 - y0);
    let mut state = u64::from(x0) << 40 ^ u64::from(y0) << 20 ^ u64::from(x1) << 10 ^ u64::from(y1);
    let mut below = |n: u32| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 33) % u64::from(n.max(1))) as u32
    };
    let mut best = ([0, 0, w, h], u32::MAX);
    for _ in 0..TRIES {
        let (x, y) = (below(width - w + 1), below(height - h + 1));
        let across = (x + w).min(x1).saturating_sub(x.max(x0));
        let down = (y + h).min(y1).saturating_sub(y.max(y0));
        if across * down < best.1 {
            best = ([x, y, x + w, y + h], across * down);
        }
        if best.1 == 0 {
            break;
        }
    }
    best.0
}

/// The picture with the region in the mean colour of what surrounds it; where that is the colour
/// of the region itself, in the picture's mean colour, or else in grey.
fn painted(picture: &RgbImage, region: [u32; 4]) -> RgbImage {
    let [x0, y0, x1, y1] = region;
    let (width, height) = picture.dimensions();
    let margin = ((x1 - x0).max(y1 - y0) / 8).max(2);
    let wide = [
        x0.saturating_sub(margin),
        y0.saturating_sub(margin),
        (x1 + margin).min(width),
        (y1 + margin).min(height),
    ];
    let own = mean(picture, region, None);
    let whole = [0, 0, width, height];
    let choices = [mean(picture, wide, Some(region)), mean(picture, whole, Some(region))];
    let apart =
        |colour: &[f32; 3]| colour.iter().zip(&own).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let colour = choices.into_iter().find(|colour| apart(colour) >= ALIKE).unwrap_or([128.0; 3]);
    let colour = Rgb(colour.map(|value| value.round() as u8));
    let mut painted = picture.clone();
    for y in y0..y1 {
        for x in x0..x1 {
            painted.put_pixel(x, y, colour);
        }
    }
    painted
}

/// Mean colour of a region without another one; grey of nothing.
fn mean(picture: &RgbImage, [x0, y0, x1, y1]: [u32; 4], without: Option<[u32; 4]>) -> [f32; 3] {
    let left_out = |x: u32, y: u32| {
        without.is_some_and(|[a, b, c, d]| (a..c).contains(&x) && (b..d).contains(&y))
    };
    let (mut sum, mut n) = ([0f64; 3], 0f64);
    for y in y0..y1 {
        for x in (x0..x1).filter(|&x| !left_out(x, y)) {
            let pixel = picture.get_pixel(x, y);
            sum.iter_mut().zip(pixel.0).for_each(|(sum, value)| *sum += f64::from(value));
            n += 1.0;
        }
    }
    if n == 0.0 { [128.0; 3] } else { sum.map(|sum| (sum / n) as f32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> RgbImage {
        let on = |x: u32, y: u32| (20..30).contains(&x) && (10..20).contains(&y);
        RgbImage::from_fn(60, 40, |x, y| Rgb(if on(x, y) { [200, 0, 0] } else { [10, 20, 30] }))
    }

    #[test]
    fn a_painted_thing_is_gone() {
        let painted = painted(&picture(), inside([19.5, 9.5, 30.2, 20.0], &picture()));
        assert!(painted.pixels().all(|pixel| *pixel == Rgb([10, 20, 30])), "as its surroundings");
        let plain = RgbImage::from_pixel(8, 8, Rgb([250, 250, 250]));
        let covered = super::painted(&plain, [2, 2, 6, 6]);
        assert_eq!(covered.get_pixel(3, 3), &Rgb([128; 3]), "what is alike is covered in grey");
    }

    #[test]
    fn controls_are_as_large_and_elsewhere() {
        let picture = picture();
        for bbox in [[20.0, 10.0, 30.0, 20.0], [0.0, 0.0, 30.0, 40.0], [-9.0, -9.0, 3.0, 900.0]] {
            let region = inside(bbox, &picture);
            let control = elsewhere(region, &picture);
            let size = |[x0, y0, x1, y1]: [u32; 4]| (x1 - x0, y1 - y0);
            assert_eq!(size(control), size(region), "{bbox:?}");
            assert!(control[2] <= 60 && control[3] <= 40, "{control:?}");
            let apart = control[0] >= region[2]
                || control[2] <= region[0]
                || control[1] >= region[3]
                || control[3] <= region[1];
            assert!(apart, "{region:?} {control:?}");
            assert_eq!(control, elsewhere(region, &picture));
        }
        // What fills the picture has no elsewhere; one pixel is the least.
        assert_eq!(elsewhere([0, 0, 60, 40], &picture), [0, 0, 60, 40]);
        assert_eq!(inside([900.0, 900.0, 901.0, 901.0], &picture), [59, 39, 60, 40]);
    }
}
