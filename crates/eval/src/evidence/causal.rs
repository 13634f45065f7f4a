//! What a model's words truly depend on: things are taken out of the scene and the scene is drawn
//! anew, parts of the picture are covered and it is asked again.
//!
//! The true effect of an object o on a word is C_o = log p(word | scene) − log p(word | scene
//! without o) (evidence.md, section 6.4). It knows maps; it does not know how they are made.

use image::RgbImage;
use scenes::{Qa, QaKind, Scene};
use vlm::generate::Answer;

use super::facts;
use super::faithfulness::{N_STEPS, gap, spearman, steps, strongest_first};
use super::localisation::covered;
use super::pixels;
use super::witness::{Witness, WordMap, strongest};
use crate::Error;
use crate::metric::SplitMix;

/// The share of the picture that is removed to see whether an answer flips.
const REMOVED: f32 = 0.125;
/// Places tried for a control beside the removed part.
const N_CONTROLS: usize = 32;
/// Effects smaller than this, in nats, are none: a twentieth of a probability.
const NO_EFFECT: f64 = 0.05;

/// An answer that is right, the word of it that rests on something, and the word's maps.
pub(crate) struct Case<'a> {
    pub scene: &'a Scene,
    pub qa: &'a Qa,
    pub answer: &'a Answer,
    /// Number of the word in the answer.
    pub word: usize,
}

/// The questions whose short right answers are taken apart.
pub(crate) fn is_taken_apart(kind: QaKind) -> bool {
    matches!(
        kind,
        QaKind::What
            | QaKind::At
            | QaKind::Colour
            | QaKind::Where
            | QaKind::Relation
            | QaKind::RelationOf
            | QaKind::Count
            | QaKind::Read
    )
}

impl Case<'_> {
    /// What is asked and said.
    fn asked(&self) -> (&str, &str) {
        (&self.qa.question, &self.answer.text)
    }

    /// The first content word that rests on something, where the answer is right.
    pub fn of<'a>(scene: &'a Scene, qa: &'a Qa, answer: &'a Answer) -> Option<Case<'a>> {
        let bytes = 0..answer.text.len();
        let word =
            strongest(&answer.words, &bytes).filter(|_| facts::is_right(qa, &answer.text))?;
        Some(Case { scene, qa, answer, word: word.index })
    }

    /// Whether the answer is wrong once these parts are greyed.
    pub fn flips(&self, witness: &mut Witness, parts: &[[f32; 4]]) -> Result<bool, Error> {
        let picture = pixels::covered(&self.scene.image, parts.iter().copied());
        let again = witness.answer(&picture, &self.qa.question, false)?;
        Ok(!facts::is_right(self.qa, &again.text))
    }

    /// The strongest part of the map, as much as is removed.
    pub fn strongest_part(&self, map: &WordMap) -> Vec<[f32; 4]> {
        map.strongest(REMOVED, &self.scene.image)
    }

    /// A square of the same area, anywhere.
    pub fn random_part(&self, random: &mut SplitMix) -> Vec<[f32; 4]> {
        let (width, height) = self.scene.image.dimensions();
        let side = (REMOVED * width as f32 * height as f32).sqrt();
        let mut low = |length: u32| random.unit() as f32 * (length as f32 - side).max(0.0);
        let (x, y) = (low(width), low(height));
        vec![[x, y, x + side, y + side]]
    }

    /// The same, the one of many that shares least with `part`.
    pub fn random_part_beside(&self, part: &[[f32; 4]], random: &mut SplitMix) -> Vec<[f32; 4]> {
        let shared =
            |other: &[[f32; 4]]| -> f32 { part.iter().map(|cell| covered(*cell, other[0])).sum() };
        let others = (0..N_CONTROLS).map(|_| self.random_part(random));
        let least = others.min_by(|a, b| shared(a).total_cmp(&shared(b)));
        least.unwrap_or_default()
    }

    /// Insertion minus deletion, the map's strongest cells first.
    pub fn gap(&self, witness: &mut Witness, map: &WordMap) -> Result<f64, Error> {
        let order = strongest_first(&map.values);
        let picture = &self.scene.image;
        let blurred = pixels::blurred(picture);
        let whole = witness.probability(picture, self.asked())?;
        let (mut inserted, mut deleted) = ([0.0; N_STEPS], [0.0; N_STEPS]);
        for (step, n) in steps(order.len()).into_iter().enumerate() {
            let first = || order[..n].iter().map(|&cell| map.cells[cell]);
            let (with, without) =
                (pixels::inserted(picture, &blurred, first()), pixels::covered(picture, first()));
            inserted[step] = witness.probability(&with, self.asked())?;
            deleted[step] = witness.probability(&without, self.asked())?;
        }
        Ok(gap(&inserted, &deleted, whole))
    }
}

/// For each object of the scene, what taking it out does to each word of the answer: nats.
///
/// Errors: the engine's.
pub(crate) fn effects(
    witness: &mut Witness,
    scene: &Scene,
    (qa, answer): (&Qa, &Answer),
) -> Result<Vec<Vec<f64>>, Error> {
    let asked = (qa.question.as_str(), answer.text.trim());
    // A given answer may be read as other tokens than were said; its words are the same.
    let whole = witness.retell(&scene.image, asked)?;
    let tokens: Vec<(usize, usize)> = whole.answer.words.iter().map(|word| word.tokens).collect();
    let mut log_probabilities = |picture: &RgbImage| -> Result<Vec<f64>, Error> {
        let logprobs = witness.told(picture, asked)?.logprobs;
        let of = |&(first, last): &(usize, usize)| {
            let word = logprobs.get(first..=last).unwrap_or_default();
            word.iter().map(|&logprob| f64::from(logprob)).sum()
        };
        Ok(tokens.iter().map(of).collect())
    };
    let whole = log_probabilities(&scene.image)?;
    let mut effects = Vec::new();
    for object in 0..scene.objects.len() {
        let without = log_probabilities(&scene.without(object).image)?;
        effects.push(whole.iter().zip(&without).map(|(with, without)| with - without).collect());
    }
    Ok(effects)
}

/// How well a map agrees with the true effects of the scene's objects: Spearman over the objects.
/// An object's part is the share of the map in its box beyond what a flat map has there, so that
/// objects that a map does not show are all alike; effects of less than a twentieth of a
/// probability are none. None where the word depends on no object, or on all alike.
pub(crate) fn agreement(map: &WordMap, effects: &[f64], scene: &Scene) -> Option<f64> {
    let total: f32 = map.values.iter().sum();
    let flat = 1.0 / map.cells.len().max(1) as f32;
    let excess = |bbox: [u32; 4]| -> f64 {
        let bbox = bbox.map(|v| v as f32);
        let cells = map.cells.iter().zip(&map.values);
        let parts = cells.map(|(cell, value)| {
            covered(*cell, bbox) * (value / total.max(f32::MIN_POSITIVE) - flat)
        });
        f64::from(parts.sum::<f32>().max(0.0))
    };
    let effect = |effect: f64| if effect.abs() < NO_EFFECT { 0.0 } else { effect };
    let of = scene.objects.iter().zip(effects);
    let pairs: Vec<(f64, f64)> = of.map(|(o, &e)| (excess(o.bbox), effect(e))).collect();
    spread(&pairs).then(|| spearman(&pairs).unwrap_or(0.0))
}

/// The same with every difference counted, however small.
pub(crate) fn raw_agreement(map: &WordMap, effects: &[f64], scene: &Scene) -> Option<f64> {
    let map = map.map();
    let mass = |bbox: [u32; 4]| f64::from(map.mass_inside(bbox.map(|v| v as f32)));
    let of = scene.objects.iter().zip(effects);
    let pairs: Vec<(f64, f64)> = of.map(|(object, &effect)| (mass(object.bbox), effect)).collect();
    spread(&pairs).then(|| spearman(&pairs).unwrap_or(0.0))
}

/// What knowing that things stand near the middle would reach.
pub(crate) fn centre_agreement(effects: &[f64], scene: &Scene) -> Option<f64> {
    let near = |object: &scenes::Object| {
        let (x, y) = object.centre(scene.size());
        -f64::from((x - 0.5).hypot(y - 0.5))
    };
    let effect = |effect: f64| if effect.abs() < NO_EFFECT { 0.0 } else { effect };
    let of = scene.objects.iter().zip(effects);
    let pairs: Vec<(f64, f64)> = of.map(|(o, &e)| (near(o), effect(e))).collect();
    spread(&pairs).then(|| spearman(&pairs).unwrap_or(0.0))
}

/// Three objects at least, and not the same effect of all.
fn spread(pairs: &[(f64, f64)]) -> bool {
    pairs.len() >= 3 && pairs.iter().any(|pair| pair.1 != pairs[0].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_agrees_where_it_shows_what_the_word_depends_on() {
        let kinds = scenes::Mix::only(scenes::SceneKind::Dense);
        let scene = scenes::scene(5, &scenes::Options { kinds, ..Default::default() });
        let n = scene.objects.len();
        assert!(n >= 3);
        let map = |idx: usize| {
            let cells: Vec<[f32; 4]> =
                scene.objects.iter().map(|object| object.bbox.map(|v| v as f32)).collect();
            let values = (0..n).map(|i| if i == idx { 0.9 } else { 0.01 }).collect();
            WordMap { cells, values }
        };
        let effects: Vec<f64> = (0..n).map(|i| if i == 1 { 3.0 } else { 0.01 }).collect();
        let right = agreement(&map(1), &effects, &scene).expect("a correlation");
        let wrong = agreement(&map(0), &effects, &scene).expect("a correlation");
        assert!(right > 0.99 && wrong < 0.1, "{right} {wrong}");
        let nothing = vec![0.01; n];
        assert_eq!(agreement(&map(1), &nothing, &scene), None, "it depends on nothing");
    }
}
