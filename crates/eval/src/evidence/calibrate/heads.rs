//! Which heads and which layer's lens point at what is said, in a model that nobody trained to.
//!
//! A few fixed heads localise well where the mean of all does not (evidence.md, findings 1 and 2;
//! arXiv 2503.06287 picks three by spatial entropy, here the boxes are known). Pointing is judged
//! on true answers. It does not know what is done with the heads.

use scenes::{QaKind, Scene};
use vlm::Config;
use vlm::explain::{EvidenceHeads, MAX_HEADS, is_content_word};
use vlm::generate::Features;

use super::super::localisation::middle_in;
use super::super::witness::Witness;
use super::rows::boxes;
use crate::Error;

/// Heads at most: more add noise.
const MOST: usize = 8;
/// A head is taken where it points right at least this share as often as the best.
const AS_GOOD: f64 = 0.75;

/// Hits and trials.
pub(super) type Rate = (usize, usize);

/// Every head of every layer that sees pictures.
pub(super) fn all(config: &Config) -> EvidenceHeads {
    let n_heads = config.text_config.num_attention_heads;
    let layers = config.evidence_layers().into_iter();
    let heads = layers.flat_map(|layer| (0..n_heads).map(move |head| (layer, head))).collect();
    EvidenceHeads { heads, ..EvidenceHeads::untrained(config) }
}

/// Of each head, how often its strongest image token lies in the box of what is said.
pub(super) fn pointing(witness: &mut Witness, scene: &Scene) -> Result<Vec<Rate>, Error> {
    let n_heads = witness.session.calibration().heads.heads.len();
    let mut found = vec![(0, 0); n_heads];
    each_word(witness, scene, &mut |features, tokens, boxes| {
        for (head, rate) in found.iter_mut().enumerate() {
            count(rate, features, (tokens, head), boxes);
        }
    })?;
    Ok(found)
}

/// The same of the lens.
pub(super) fn lens_pointing(witness: &mut Witness, scene: &Scene) -> Result<Vec<Rate>, Error> {
    let n_heads = witness.session.calibration().heads.heads.len();
    let mut found = vec![(0, 0)];
    each_word(witness, scene, &mut |features, tokens, boxes| {
        count(&mut found[0], features, (tokens, 2 * n_heads), boxes);
    })?;
    Ok(found)
}

/// The heads that point best.
pub(super) fn best(heads: &[(usize, usize)], found: &[Vec<Rate>]) -> Vec<(usize, usize)> {
    let rate = |head: usize| rate(&found.iter().map(|scene| vec![scene[head]]).collect::<Vec<_>>());
    let mut ranked: Vec<(f64, (usize, usize))> =
        heads.iter().enumerate().map(|(i, &head)| (rate(i), head)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let most = ranked.first().map_or(0.0, |best| best.0);
    let good = ranked.into_iter().take(MOST.min(MAX_HEADS)).filter(|one| one.0 >= AS_GOOD * most);
    let mut best: Vec<(usize, usize)> = good.map(|(_, head)| head).collect();
    best.sort_unstable();
    best
}

/// Share of hits over all scenes.
pub(super) fn rate(found: &[Vec<Rate>]) -> f64 {
    let add = |sum: Rate, one: &Rate| (sum.0 + one.0, sum.1 + one.1);
    let (hits, n) = found.iter().flatten().fold((0, 0), add);
    hits as f64 / n.max(1) as f64
}

/// Layers whose lens is tried: a few from the first to the last.
pub(super) fn lens_layers(config: &Config) -> Vec<usize> {
    let n = config.text_config.num_hidden_layers;
    let mut layers = vec![0, n / 3, n / 2, 2 * n / 3, n.saturating_sub(1), n];
    layers.dedup();
    layers
}

type Visit<'a> = dyn FnMut(&Features, (usize, usize), &[[f32; 4]]) + 'a;

/// The words of a scene's true answers that name things, with their boxes.
fn each_word(witness: &mut Witness, scene: &Scene, visit: &mut Visit) -> Result<(), Error> {
    let asked = scenes::questions(scene, scene.seed).into_iter();
    let naming = [QaKind::What, QaKind::List, QaKind::Caption];
    for qa in asked.filter(|qa| naming.contains(&qa.kind)) {
        let features = witness.features(&scene.image, (&qa.question, &qa.answer))?;
        for word in features.words.iter().filter(|word| is_content_word(&word.word.text)) {
            let boxes = boxes(&qa, &word.word.bytes);
            if !boxes.is_empty() {
                visit(&features, word.word.tokens, &boxes);
            }
        }
    }
    Ok(())
}

/// Counts whether the image token with the most of one feature lies in a box: of the word's tokens
/// the one whose most is highest.
fn count(
    rate: &mut Rate,
    features: &Features,
    ((first, last), feature): ((usize, usize), usize),
    boxes: &[[f32; 4]],
) {
    let mut best: Option<(f32, usize)> = None;
    for token in first..=last {
        for cell in 0..features.cells.len() {
            let value = features.patch(token, cell).and_then(|row| row.get(feature).copied());
            best = match (best, value) {
                (Some(best), Some(value)) if value <= best.0 => Some(best),
                (_, Some(value)) => Some((value, cell)),
                (best, None) => best,
            };
        }
    }
    let Some(bbox) = best.and_then(|(_, cell)| features.cells[cell].bbox) else { return };
    let hit = boxes.iter().any(|of| middle_in(bbox, *of));
    *rate = (rate.0 + usize::from(hit), rate.1 + 1);
}
