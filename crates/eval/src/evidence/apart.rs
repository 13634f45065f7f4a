//! Scenes taken apart: what is measured by covering parts of a picture and by drawing the scene
//! anew costs a hundred questions for each word, so it is done on a sub-sample.
//!
//! It knows the tests; it does not know how maps are made, nor what is demanded.

use scenes::{Qa, QaKind, Scene};
use vlm::generate::Answer;

use super::assertions::{Kind, assertions};
use super::causal::{Case, agreement, centre_agreement, effects, is_taken_apart, raw_agreement};
use super::witness::{Witness, WordMap, strongest};
use crate::Error;
use crate::metric::SplitMix;

/// One number for each way to make a map.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct By<T> {
    pub tier0: T,
    pub tier2: T,
    /// What a map that knows nothing reaches.
    pub blind: T,
}

/// What was found in one scene.
#[derive(Clone, Debug, Default)]
pub(crate) struct Apart {
    /// Whether the right answer became wrong with the strongest part greyed; blind: cells in a
    /// random order.
    pub flips: Vec<By<Option<f64>>>,
    /// The same with a square anywhere greyed that is as large.
    pub flips_square: Vec<f64>,
    /// The same with one that shares least with Tier 0's part.
    pub flips_beside: Vec<f64>,
    /// Insertion minus deletion; blind: a random order.
    pub gaps: Vec<By<Option<f64>>>,
    /// Spearman with the re-rendered effects; blind: nearness to the middle.
    pub agreements: Vec<By<Option<f64>>>,
    /// The same with every difference counted.
    pub raw_agreements: Vec<By<Option<f64>>>,
    /// Words whose probability depends on no object.
    pub independent: usize,
    /// Whether Tier 2's region was confirmed on pixels.
    pub confirmed: Vec<bool>,
}

/// Takes one scene apart. `with_curves`: also insertion and deletion.
///
/// Errors: the engine's; `Error::Cancelled`.
pub(crate) fn take_apart(
    witness: &mut Witness,
    scene: &Scene,
    with_curves: bool,
) -> Result<Apart, Error> {
    let mut random = SplitMix::new(scene.seed ^ 0xA9A7);
    let mut apart = Apart::default();
    let mut asked = scenes::questions(scene, scene.seed);
    asked.retain(|qa| is_taken_apart(qa.kind) && qa.answer != "0");
    while !asked.is_empty() {
        let qa = asked.swap_remove(random.below(asked.len()));
        let answer = witness.answer(&scene.image, &qa.question, true)?;
        let Some(case) = Case::of(scene, &qa, &answer) else { continue };
        let (asked, words) = ((scene, &qa, &answer), [case.word]);
        let maps = Maps::of(witness, asked, &words, &mut apart)?;
        cover(witness, (&case, &maps), (&mut random, with_curves), &mut apart)?;
        depends(witness, asked, (&words, &maps), &mut apart)?;
        break;
    }
    if let Some(list) = scenes::questions(scene, scene.seed).into_iter().find(is_list)
        && scene.objects.len() >= 3
    {
        let answer = witness.answer(&scene.image, &list.question, true)?;
        let (asked, things) = ((scene, &list, &answer), things(&list, &answer, scene));
        let maps = Maps::of(witness, asked, &things, &mut apart)?;
        depends(witness, asked, (&things, &maps), &mut apart)?;
    }
    Ok(apart)
}

fn is_list(qa: &Qa) -> bool {
    qa.kind == QaKind::List
}

/// The maps of an answer's words: as Tier 0 shows them, and as Tier 2 found them.
struct Maps {
    tier0: Vec<Option<WordMap>>,
    tier2: Vec<Option<WordMap>>,
}

impl Maps {
    /// Tier 2's last test is about the first of `words`.
    fn of(
        witness: &mut Witness,
        (scene, qa, answer): (&Scene, &Qa, &Answer),
        words: &[usize],
        apart: &mut Apart,
    ) -> Result<Maps, Error> {
        let shown = answer.words.iter().map(|word| word.evidence.as_ref().map(WordMap::of));
        let mut tier2 = vec![None; answer.words.len()];
        if let Some(&word) = words.first() {
            let found = witness.knock_out(&scene.image, &qa.question, (answer, word))?;
            for influence in found.influences {
                tier2[influence.word] = influence.evidence.as_ref().map(WordMap::of);
            }
            apart.confirmed.extend(found.tested.map(|tested| tested.confirmed));
        }
        Ok(Maps { tier0: shown.collect(), tier2 })
    }
}

/// Flips and curves of one word. A word without a map shows nothing whose removal could flip it.
fn cover(
    witness: &mut Witness,
    (case, maps): (&Case, &Maps),
    (random, with_curves): (&mut SplitMix, bool),
    apart: &mut Apart,
) -> Result<(), Error> {
    let (tier0, tier2) = (&maps.tier0[case.word], &maps.tier2[case.word]);
    let mut flip = |part: Option<Vec<[f32; 4]>>| -> Result<Option<f64>, Error> {
        let Some(part) = part else { return Ok(Some(0.0)) };
        Ok(Some(f64::from(u8::from(case.flips(witness, &part)?))))
    };
    let cells = tier0.as_ref().or(tier2.as_ref()).map(|map| map.cells.clone());
    let shuffled = cells.map(|cells| {
        let values = cells.iter().map(|_| random.unit() as f32).collect();
        WordMap { cells, values }
    });
    if let Some(map) = tier0 {
        let beside = case.random_part_beside(&case.strongest_part(map), random);
        apart.flips_beside.extend(flip(Some(beside))?);
    }
    apart.flips_square.extend(flip(Some(case.random_part(random)))?);
    apart.flips.push(By {
        tier0: flip(tier0.as_ref().map(|map| case.strongest_part(map)))?,
        tier2: flip(tier2.as_ref().map(|map| case.strongest_part(map)))?,
        blind: shuffled
            .as_ref()
            .map(|map| flip(Some(case.strongest_part(map))))
            .transpose()?
            .flatten(),
    });
    let Some(shuffled) = shuffled.filter(|_| with_curves) else { return Ok(()) };
    let mut gap = |map: Option<&WordMap>| -> Result<Option<f64>, Error> {
        map.map_or(Ok(Some(0.0)), |map| case.gap(witness, map).map(Some))
    };
    apart.gaps.push(By {
        tier0: gap(tier0.as_ref())?,
        tier2: gap(tier2.as_ref())?,
        blind: gap(Some(&shuffled))?,
    });
    Ok(())
}

/// The true effects of the scene's objects on some words, and what the maps say of them.
fn depends(
    witness: &mut Witness,
    (scene, qa, answer): (&Scene, &Qa, &Answer),
    (words, maps): (&[usize], &Maps),
    apart: &mut Apart,
) -> Result<(), Error> {
    if scene.objects.len() < 3 || words.is_empty() {
        return Ok(());
    }
    let by_object = effects(witness, scene, (qa, answer))?;
    for &word in words {
        let of = |words: &Vec<f64>| words.get(word).copied().unwrap_or(0.0);
        let effects: Vec<f64> = by_object.iter().map(of).collect();
        let Some(blind) = centre_agreement(&effects, scene) else {
            apart.independent += 1;
            continue;
        };
        // A word without a map says nothing of the effects.
        let by = |how: Agreement, map: &Option<WordMap>| {
            Some(map.as_ref().and_then(|map| how(map, &effects, scene)).unwrap_or(0.0))
        };
        let (tier0, tier2) = (&maps.tier0[word], &maps.tier2[word]);
        let of = |how: Agreement, blind| By { tier0: by(how, tier0), tier2: by(how, tier2), blind };
        apart.agreements.push(of(agreement, Some(blind)));
        apart.raw_agreements.push(of(raw_agreement, None));
    }
    Ok(())
}

type Agreement = fn(&WordMap, &[f64], &Scene) -> Option<f64>;

/// The words of an answer that rightly name things.
fn things(qa: &Qa, answer: &Answer, scene: &Scene) -> Vec<usize> {
    let right = assertions(qa, &answer.text, scene).into_iter();
    let right = right.filter(|assertion| assertion.kind == Kind::Object && assertion.holds);
    let words = right.filter_map(|assertion| strongest(&answer.words, &assertion.bytes));
    words.map(|word| word.index).collect()
}
