//! Where image tokens read as a word, whether or not anyone said it.

use image::RgbImage;

use super::Heatmap;
use crate::generate::{Cancel, Session};
use crate::processor::{Message, Processor};
use crate::{Error, Vlm};

/// Where a word is read in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct WordMap {
    pub image: usize,
    /// The probability of the word at each place: absolute, between 0 and 1.
    pub heatmap: Heatmap,
    /// The highest of them, and the middle of its cell in pixels of the picture.
    pub peak: f32,
    pub place: (f32, f32),
}

/// Reads the image tokens of the conversation for `word`, by its first token: one map for each
/// picture, the strongest first. The lens is that of the calibration, or of the last layer where
/// it has none.
///
/// Nothing comes back where pictures are no tokens with a place of their own.
///
/// Errors: as [`Session::tell`]; a word without letters.
pub fn search_word(
    session: &mut Session,
    (vlm, processor): (&Vlm, &Processor),
    (messages, images): (&[Message], &[RgbImage]),
    word: &str,
    cancel: &Cancel,
) -> Result<Vec<WordMap>, Error> {
    let word = word.trim();
    if word.is_empty() {
        let message = "no word to look for; type one".to_string();
        return Err(Error::Processor { file: "word".into(), message });
    }
    // As it stands inside a sentence, and at the beginning of one.
    let mut capital = word.to_string();
    if let Some(first) = word.chars().next() {
        capital = first.to_uppercase().chain(word.chars().skip(1)).collect();
    }
    let spellings = [format!(" {word}"), word.to_string(), format!(" {capital}"), capital];
    let mut ids: Vec<u32> = Vec::new();
    for spelling in &spellings {
        let first = processor.tokenizer.encode(spelling)?.into_iter().find(|&id| {
            // Some tokenizers write the space as a token of its own.
            processor.tokenizer.decode(&[id]).is_ok_and(|text| !text.trim().is_empty())
        });
        ids.extend(first.filter(|id| !ids.contains(id)));
    }
    let read = session.read_image_tokens((vlm, processor), (messages, images), &ids, cancel)?;
    let Some((spans, values)) = read else { return Ok(Vec::new()) };
    let n_images = spans.last().map_or(0, |span| span.image + 1);
    let map = |image| {
        let heatmap = Heatmap::mean(&values, &spans, image)?;
        let best = (0..heatmap.values.len())
            .max_by(|&a, &b| heatmap.values[a].total_cmp(&heatmap.values[b]))?;
        let [x0, y0, x1, y1] = heatmap.cell_box(best / heatmap.cols, best % heatmap.cols);
        let (peak, place) = (heatmap.values[best], ((x0 + x1) / 2.0, (y0 + y1) / 2.0));
        Some(WordMap { image, heatmap, peak, place })
    };
    let mut maps: Vec<WordMap> = (0..n_images).filter_map(map).collect();
    maps.sort_by(|a, b| b.peak.total_cmp(&a.peak));
    Ok(maps)
}
