//! Where a picture reads as a word that nobody need have said.

use vlm::explain::{Evidence, WordMap, search_word};
use vlm::generate::Cancel;
use vlm::processor::Message;

use crate::api::{ApiError, WordSearch};
use crate::engine::{Engine, Seat};
use crate::failure::api_error;
use crate::outline::hull;
use crate::telling::{Shown, seen_in};

/// A picture reads as a word from this probability on, at its strongest token.
const READ_FROM: f32 = 0.1;

/// Searches picture `picture` of the conversation for `query`.
pub(crate) fn search(
    engine: &mut Engine,
    (seat, messages): (Seat, &[Message]),
    (images, shown): (&[image::RgbImage], &[Shown]),
    (picture, query): (usize, &str),
    cancel: &Cancel,
) -> Result<WordSearch, ApiError> {
    let maps = engine.seeing(seat, |model, session| {
        let found = search_word(session, model.both(), (messages, images), query, cancel);
        found.map_err(|error| api_error(&error))
    })?;
    let map = maps.into_iter().find(|map| map.image == picture);
    let evidence = map.filter(|map| map.peak >= READ_FROM).and_then(|map| {
        let WordMap { image, heatmap, peak, place } = map;
        let bbox = hull(&heatmap)?;
        let found = Evidence { image, bbox, score: peak, peak: place, heatmap };
        Some(seen_in(*shown.get(picture)?, &found))
    });
    let words = match &evidence {
        Some(evidence) => format!("“{query}” is read at: {}", evidence.words),
        None => format!("No part of the picture reads as “{query}”"),
    };
    Ok(WordSearch { query: query.to_string(), evidence, words })
}
