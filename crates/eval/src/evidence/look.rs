//! What a model says about one scene, of its own and put into its mouth, and how its evidence
//! judges that: every assertion with the marks it got and with the truth.
//!
//! It does not know how judgements become figures.

use std::ops::Range;

use scenes::{Damage, Qa, QaKind, Scene};
use vlm::explain::logistic::sigmoid;
use vlm::explain::{CLAIM_FEATURES, Checked, State};

use super::assertions::{Assertion, Kind, assertions};
use super::detection::Stratum;
use super::forced::forced;
use super::pointing::{Pointed, function_words, pointed};
use super::witness::{Said, Witness, strongest, touches};
use crate::metric::SplitMix;
use crate::{Error, mentions};

/// What was found in one scene.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub pointed: Vec<Pointed>,
    /// Function words, and those of them that rest on nothing.
    pub function_words: (usize, usize),
    pub judged: Vec<Judged>,
    pub struck: Vec<Struck>,
}

/// One assertion, with what each tier says of it.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub kind: Kind,
    pub wrong: bool,
    /// It was put into the answer, or stands in an answer into which something was put.
    pub forced: bool,
    pub stratum: Stratum,
    /// Number of the word's first token in the answer.
    pub position: usize,
    /// Negative log-probability of the word's tokens.
    pub surprise: f64,
    /// Tier 0: probability that the word is true of the picture.
    pub seen: Option<f64>,
    /// Tier 1: the claim it belongs to; None where another part of the claim is false.
    pub checked: Option<Marked>,
}

/// How a claim was marked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marked {
    pub probability: f64,
    pub state: State,
    /// Probability of yes alone.
    pub probe: f64,
    /// How much less likely the words are without the picture: nats a token.
    pub needs_picture: f64,
}

/// A caption or list before and after its unsupported claims were struck: things named, those of
/// them that are not there, things of the scene that were named.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Struck {
    pub before: [usize; 3],
    pub after: [usize; 3],
    /// Things in the scene.
    pub there: usize,
}

/// Everything about one scene: its list or caption, and one short question.
///
/// Errors: the engine's; `Error::Cancelled`.
pub(crate) fn look(witness: &mut Witness, scene: &Scene) -> Result<Seen, Error> {
    let mut random = SplitMix::new(scene.seed ^ 0xE71D);
    let mut seen = Seen::default();
    for qa in asked(scene, &mut random) {
        let said = witness.ask(&scene.image, &qa.question)?;
        hear(witness, (scene, &qa, &said), &mut seen)?;
        let Some(text) = forced(&qa, scene, &mut random) else { continue };
        let said = witness.retell(&scene.image, (&qa.question, &text))?;
        let checked = witness.check(&scene.image, &qa.question, &said.answer)?;
        let of = assertions(&qa, &text, scene);
        seen.judged.extend(of.iter().map(|one| judge(one, &of, (&said, &checked), true)));
    }
    Ok(seen)
}

/// Only what is said of a damaged picture, and how it is marked.
///
/// Errors: as [`look`].
pub(crate) fn look_at_damaged(
    witness: &mut Witness,
    scene: &Scene,
    damage: Damage,
) -> Result<Seen, Error> {
    let mut random = SplitMix::new(scene.seed ^ 0xE71D);
    let mut seen = Seen::default();
    let mut damaged = scene.clone();
    damaged.image = damage.done_to(&scene.image, 1.0, scene.seed);
    for qa in asked(scene, &mut random) {
        let said = witness.ask(&damaged.image, &qa.question)?;
        hear(witness, (&damaged, &qa, &said), &mut seen)?;
    }
    Ok(seen)
}

/// The list or the caption, and a short question, of another kind from scene to scene.
pub(crate) fn asked(scene: &Scene, random: &mut SplitMix) -> Vec<Qa> {
    let all = scenes::questions(scene, scene.seed);
    let long = all.iter().filter(|qa| matches!(qa.kind, QaKind::List | QaKind::Caption));
    let long: Vec<&Qa> = long.filter(|_| scene.texts.is_empty()).collect();
    let mut asked: Vec<Qa> = Vec::new();
    if !long.is_empty() {
        asked.push(long[random.below(long.len())].clone());
    }
    let kinds = [QaKind::Colour, QaKind::Count, QaKind::Relation, QaKind::Where, QaKind::At];
    let kind = kinds[random.below(kinds.len())];
    let short = all.iter().find(|qa| qa.kind == kind && qa.answer != "0");
    let reading = [QaKind::Read, QaKind::DocumentField, QaKind::ChartValue, QaKind::What];
    let other = all.iter().find(|qa| reading.contains(&qa.kind));
    asked.extend(short.or(other).cloned());
    asked
}

/// What the model said by itself.
fn hear(
    witness: &mut Witness,
    (scene, qa, said): (&Scene, &Qa, &Said),
    seen: &mut Seen,
) -> Result<(), Error> {
    let answer = &said.answer;
    let checked = witness.check(&scene.image, &qa.question, answer)?;
    let of = assertions(qa, &answer.text, scene);
    seen.pointed.extend(of.iter().filter_map(|one| pointed(one, &answer.words, scene)));
    let (n, low) = function_words(answer);
    seen.function_words = (seen.function_words.0 + n, seen.function_words.1 + low);
    seen.judged.extend(of.iter().map(|one| judge(one, &of, (said, &checked), false)));
    if matches!(qa.kind, QaKind::List | QaKind::Caption) {
        seen.struck.push(strike(&answer.text, &checked, scene));
    }
    Ok(())
}

fn judge(
    assertion: &Assertion,
    all: &[Assertion],
    (said, checked): (&Said, &[Checked]),
    forced: bool,
) -> Judged {
    let word = strongest(&said.answer.words, &assertion.bytes);
    let position = word.map_or(0, |word| word.tokens.0);
    let claim = claim_of(assertion, checked);
    let false_beside = |claim: &&Checked| {
        let mut others = all.iter().filter(|other| *other != assertion);
        assertion.holds && others.any(|o| !o.holds && touches(&o.bytes, &claim.claim.bytes))
    };
    Judged {
        kind: assertion.kind,
        wrong: !assertion.holds,
        forced,
        stratum: Stratum::new(position, assertion.repeated, assertion.word_class()),
        position,
        surprise: word.map_or(0.0, |word| said.surprise[word.index]),
        seen: word.and_then(|word| word.probability).map(f64::from),
        checked: claim.filter(|claim| !false_beside(claim)).map(Marked::from),
    }
}

/// The claim that an assertion belongs to: of several the narrowest, which is about the very word.
pub(crate) fn claim_of<'a>(assertion: &Assertion, checked: &'a [Checked]) -> Option<&'a Checked> {
    let on = checked.iter().filter(|one| touches(&one.claim.bytes, &assertion.bytes));
    on.min_by_key(|one| one.claim.bytes.len())
}

impl From<&Checked> for Marked {
    fn from(checked: &Checked) -> Marked {
        let of = |name| CLAIM_FEATURES.iter().position(|feature| *feature == name);
        let feature = |name| of(name).and_then(|idx| checked.features.get(idx).copied());
        Marked {
            probability: f64::from(checked.probability),
            state: checked.state,
            probe: f64::from(sigmoid(feature("probe").unwrap_or(0.0))),
            needs_picture: f64::from(feature("gain").unwrap_or(0.0)),
        }
    }
}

/// The text with spaces in these places, so that what stays keeps its own.
pub(crate) fn without<'a>(text: &str, struck: impl Iterator<Item = &'a Range<usize>>) -> String {
    let mut kept = text.to_string();
    struck.for_each(|range| kept.replace_range(range.clone(), &" ".repeat(range.len())));
    kept
}

/// What is left when unsupported claims are struck: a thing goes with the claim that names it, a
/// wrong number alone.
fn strike(text: &str, checked: &[Checked], scene: &Scene) -> Struck {
    let kept = without(text, checked.iter().filter_map(Checked::struck));
    let count = |text: &str| {
        let named = mentions::named(text);
        let wrong = mentions::hallucinated(&named, scene).into_iter().filter(|wrong| *wrong);
        [named.len(), wrong.count(), mentions::recalled(&named, scene)]
    };
    Struck { before: count(text), after: count(&kept), there: scene.objects.len() }
}
