//! The rows that a calibration is fitted to: patches of words whose boxes are known, words and
//! claims that are true of their picture or not.
//!
//! It does not know what is fitted.

use std::ops::Range;

use scenes::{Damage, Qa, QaKind, Scene};
use vlm::explain::{Claim, ClaimKind, WORD_FEATURES, is_content_word};
use vlm::generate::Features;

use super::super::assertions::{Assertion, assertions};
use super::super::forced::forced;
use super::super::localisation::{covered, middle_in};
use super::super::look::{asked, without};
use super::super::pointing::pointed;
use super::super::witness::{Said, Witness, touches};
use crate::metric::SplitMix;
use crate::{Error, mentions};

/// Patches that rest on nothing, kept of each token.
const N_NEGATIVE: usize = 16;

/// Patches with labels, of one scene.
#[derive(Debug, Default)]
pub(super) struct Patches {
    pub n_features: usize,
    pub features: Vec<f32>,
    pub labels: Vec<bool>,
    pub weights: Vec<f32>,
}

/// A word or claim.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub features: Vec<f32>,
    pub is_true: bool,
    pub scene: u64,
    /// The model said it by itself.
    pub own: bool,
    /// A word that carries nothing.
    pub is_function: bool,
    /// Log odds of the strongest patch of its map.
    pub peak: Option<f32>,
    /// Whether the region is right; None where there is no right one.
    pub points: Option<bool>,
    pub kind: &'static str,
    /// Without the picture it would be said as likely.
    pub says_anyway: bool,
    /// Things of the scene, at the first claim of a list or caption.
    pub there: usize,
    /// Those of them that the list or caption no longer names once the claim is struck.
    pub lost: usize,
    /// Said of a picture that was made worse.
    pub damaged: bool,
}

impl Row {
    /// Whether weights are fitted to it.
    pub fn fits(&self) -> bool {
        self.scene.is_multiple_of(2)
    }

    /// Whether probabilities are: those of the other half whose picture is as it was drawn.
    pub fn calibrates(&self) -> bool {
        !self.fits() && !self.damaged
    }
}

/// Patches of the words of true answers, by whether the word rests on them; of function words and
/// of things that are not there, none does.
pub(super) fn patches(witness: &mut Witness, scene: &Scene) -> Result<Patches, Error> {
    let mut random = SplitMix::new(scene.seed ^ 0xCA1B);
    let mut out = Patches::default();
    for qa in asked(scene, &mut random) {
        let features = witness.features(&scene.image, (&qa.question, &qa.answer))?;
        for word in &features.words {
            let boxes: Vec<[f32; 4]> = boxes(&qa, &word.word.bytes);
            if is_content_word(&word.word.text) == boxes.is_empty() {
                continue; // A content word that is no mention rests on nobody knows what.
            }
            label(&features, word.word.tokens, &boxes, (&mut random, &mut out));
        }
        let Some(text) = forced(&qa, scene, &mut random) else { continue };
        let wrong = wrong_bytes(&assertions(&qa, &text, scene));
        let features = witness.features(&scene.image, (&qa.question, &text))?;
        for word in &features.words {
            let is_wrong = wrong.iter().any(|bytes| touches(bytes, &word.word.bytes));
            if is_wrong && is_content_word(&word.word.text) {
                label(&features, word.word.tokens, &[], (&mut random, &mut out));
            }
        }
    }
    Ok(out)
}

/// What the mentions say that a word rests on.
pub(super) fn boxes(qa: &Qa, bytes: &Range<usize>) -> Vec<[f32; 4]> {
    let on = qa.mentions.iter().filter(|mention| touches(&mention.span, bytes));
    on.map(|mention| mention.bbox.map(|v| v as f32)).collect()
}

/// Things that are not there.
fn wrong_bytes(of: &[Assertion]) -> Vec<Range<usize>> {
    let wrong = of.iter().filter(|one| !one.holds && one.object.is_none());
    wrong.map(|one| one.bytes.clone()).collect()
}

/// A patch counts as rested on where its middle lies in a box, or the box covers it best. Of the
/// others some are kept, and stand for all.
fn label(
    features: &Features,
    (first, last): (usize, usize),
    boxes: &[[f32; 4]],
    (random, out): (&mut SplitMix, &mut Patches),
) {
    let cells: Vec<[f32; 4]> =
        features.cells.iter().map(|cell| cell.bbox.unwrap_or_default()).collect();
    let best = |bbox: &[f32; 4]| {
        let share = |cell: &usize| covered(cells[*cell], *bbox);
        (0..cells.len()).max_by(|a, b| share(a).total_cmp(&share(b)))
    };
    let best: Vec<usize> = boxes.iter().filter_map(best).collect();
    let rests = |cell: usize| {
        best.contains(&cell) || boxes.iter().any(|bbox| middle_in(cells[cell], *bbox))
    };
    let n_others = (0..cells.len()).filter(|&cell| !rests(cell)).count();
    let kept = n_others.min(N_NEGATIVE);
    for token in first..=last {
        for cell in 0..cells.len() {
            let (label, mut weight) = (rests(cell), 1.0);
            if !label {
                if random.below(n_others) >= kept {
                    continue;
                }
                weight = n_others as f32 / kept as f32;
            }
            let Some(row) = features.patch(token, cell).filter(|row| !row.is_empty()) else {
                continue;
            };
            if row.iter().all(|value| value.is_finite()) {
                out.n_features = row.len();
                out.features.extend_from_slice(row);
                out.labels.push(label);
                out.weights.push(weight);
            }
        }
    }
}

/// The words of what the model says by itself and of what is put into its mouth.
pub(super) fn words(witness: &mut Witness, scene: &Scene) -> Result<Vec<Row>, Error> {
    let (mut rows, scene) = (Vec::new(), &shown(scene));
    each_answer(witness, scene, &mut |witness, qa, (said, own)| {
        let features = witness.features(&scene.image, (&qa.question, &said.answer.text))?;
        let all = assertions(qa, &said.answer.text, scene);
        for word in &features.words {
            let on = all.iter().filter(|one| touches(&one.bytes, &word.word.bytes));
            let on: Vec<&Assertion> = on.collect();
            let is_function = !is_content_word(&word.word.text);
            if on.is_empty() != is_function || word.features.is_empty() {
                continue;
            }
            let points = on.iter().find_map(|one| pointed(one, &said.answer.words, scene));
            let at = WORD_FEATURES.iter().position(|name| *name == "map_peak");
            rows.push(Row {
                is_true: on.iter().all(|one| one.holds),
                scene: scene.seed,
                own,
                is_function,
                peak: at.and_then(|at| word.features.get(at).copied()),
                points: points.map(|pointed| pointed.hit),
                kind: "word",
                damaged: is_damaged(scene),
                features: word.features.clone(),
                ..Row::default()
            });
        }
        Ok(())
    })?;
    Ok(rows)
}

/// The claims of the same answers.
pub(super) fn claims(witness: &mut Witness, scene: &Scene) -> Result<Vec<Row>, Error> {
    let (mut rows, scene) = (Vec::new(), &shown(scene));
    each_answer(witness, scene, &mut |witness, qa, (said, own)| {
        let checked = witness.check(&scene.image, &qa.question, &said.answer)?;
        let all = assertions(qa, &said.answer.text, scene);
        let is_long = matches!(qa.kind, QaKind::List | QaKind::Caption);
        let mut there = if is_long { scene.objects.len() } else { 0 };
        for one in checked {
            let on = all.iter().filter(|other| touches(&other.bytes, &one.claim.bytes));
            let on: Vec<&Assertion> = on.collect();
            if on.is_empty() {
                continue;
            }
            let lost = if is_long { lost(&said.answer.text, &one.claim, scene) } else { 0 };
            rows.push(Row {
                is_true: on.iter().all(|one| one.holds),
                scene: scene.seed,
                own,
                kind: kind_name(one.claim.kind),
                says_anyway: one.says_anyway(),
                there: std::mem::take(&mut there),
                lost,
                damaged: is_damaged(scene),
                features: one.features,
                ..Row::default()
            });
        }
        Ok(())
    })?;
    Ok(rows)
}

/// Things of the scene that an answer no longer names once the claim is struck: a thing that is
/// named again still is, and so is one that is counted, without its number.
fn lost(answer: &str, claim: &Claim, scene: &Scene) -> usize {
    let named = |text: &str| mentions::recalled(&mentions::named(text), scene);
    let struck = claim.number.as_ref().unwrap_or(&claim.bytes);
    named(answer).saturating_sub(named(&without(answer, [struck].into_iter())))
}

/// As it is written in JSON.
fn kind_name(kind: ClaimKind) -> &'static str {
    match kind {
        ClaimKind::Object => "object",
        ClaimKind::Colour => "colour",
        ClaimKind::Count => "count",
        ClaimKind::Place => "place",
        ClaimKind::Relation => "relation",
        ClaimKind::Text => "text",
        ClaimKind::YesNo => "yes_no",
    }
}

/// Every fourth pair of scenes is shown damaged, so that weights learn what that looks like.
fn is_damaged(scene: &Scene) -> bool {
    (scene.seed / 2).is_multiple_of(4)
}

fn shown(scene: &Scene) -> Scene {
    let mut shown = scene.clone();
    if is_damaged(scene) {
        let damage = Damage::ALL[(scene.seed / 8) as usize % Damage::ALL.len()];
        shown.image = damage.done_to(&scene.image, 1.0, scene.seed);
    }
    shown
}

type Visit<'a> = dyn FnMut(&mut Witness, &Qa, (&Said, bool)) -> Result<(), Error> + 'a;

/// Each question of a scene with the model's own answer, and with a true one made wrong.
fn each_answer(witness: &mut Witness, scene: &Scene, visit: &mut Visit) -> Result<(), Error> {
    let mut random = SplitMix::new(scene.seed ^ 0xCA1B);
    for qa in asked(scene, &mut random) {
        let said = witness.ask(&scene.image, &qa.question)?;
        visit(witness, &qa, (&said, true))?;
        if let Some(text) = forced(&qa, scene, &mut random) {
            let said = witness.retell(&scene.image, (&qa.question, &text))?;
            visit(witness, &qa, (&said, false))?;
        }
    }
    Ok(())
}
