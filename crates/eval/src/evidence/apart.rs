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
    /// Whether the right answer became wrong with the strongest part greyed; blind: any part.
    pub flips: Vec<By<Option<f64>>>,
    /// Insertion minus deletion; blind: a random order.
    pub gaps: Vec<By<Option<f64>>>,
    /// Spearman with the re-rendered effects; blind: nearness to the middle.
    pub agreements: Vec<By<Option<f64>>>,
    /// The same with every difference counted.
    pub raw_agreements: Vec<By<Option<f64>>>,
    /// Words whose probability depends on no object.
    pub independent: usize,
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
        let answer = witness.ask(&scene.image, &qa.question)?;
        let Some(case) = Case::of(scene, &qa, &answer) else { continue };
        cover(witness, &case, (&mut random, with_curves), &mut apart)?;
        depends(witness, (scene, &qa, &answer), &[case.word], &mut apart)?;
        break;
    }
    if let Some(list) = scenes::questions(scene, scene.seed).into_iter().find(is_list)
        && scene.objects.len() >= 3
    {
        let answer = witness.ask(&scene.image, &list.question)?;
        let things = things(&list, &answer, scene);
        depends(witness, (scene, &list, &answer), &things, &mut apart)?;
    }
    Ok(apart)
}

fn is_list(qa: &Qa) -> bool {
    qa.kind == QaKind::List
}

/// Flips and curves of one word.
fn cover(
    witness: &mut Witness,
    case: &Case,
    (random, with_curves): (&mut SplitMix, bool),
    apart: &mut Apart,
) -> Result<(), Error> {
    let maps = maps(witness, case)?;
    let flip = |witness: &mut Witness, part: &[[f32; 4]]| -> Result<Option<f64>, Error> {
        Ok(Some(f64::from(u8::from(case.flips(witness, part)?))))
    };
    let mut by = By { blind: flip(witness, &case.random_part(random))?, ..By::default() };
    if let Some(map) = &maps.tier0 {
        by.tier0 = flip(witness, &case.strongest_part(map))?;
    }
    if let Some(map) = &maps.tier2 {
        by.tier2 = flip(witness, &case.strongest_part(map))?;
    }
    // A word without a region shows nothing whose removal could flip it.
    by.tier0 = by.tier0.or(Some(0.0));
    apart.flips.push(by);
    let Some(map) = maps.tier0.as_ref().filter(|_| with_curves) else { return Ok(()) };
    let shuffled: Vec<f32> = map.cells.iter().map(|_| random.unit() as f32).collect();
    let mut by = By {
        tier0: Some(case.gap(witness, (&map.cells, &map.values))?),
        tier2: None,
        blind: Some(case.gap(witness, (&map.cells, &shuffled))?),
    };
    if let Some(map) = &maps.tier2 {
        by.tier2 = Some(case.gap(witness, (&map.cells, &map.values))?);
    }
    apart.gaps.push(by);
    Ok(())
}

/// The true effects of the scene's objects on some words, and what the maps say of them.
fn depends(
    witness: &mut Witness,
    (scene, qa, answer): (&Scene, &Qa, &Answer),
    words: &[usize],
    apart: &mut Apart,
) -> Result<(), Error> {
    if scene.objects.len() < 3 || words.is_empty() {
        return Ok(());
    }
    let Some(by_token) = effects(witness, scene, (qa, answer))? else { return Ok(()) };
    for &word in words {
        let (first, last) = answer.words[word].tokens;
        let of = |object: &Vec<f64>| object[first..=last].iter().sum();
        let effects: Vec<f64> = by_token.iter().map(of).collect();
        let Some(blind) = centre_agreement(&effects, scene) else {
            apart.independent += 1;
            continue;
        };
        let maps = maps(witness, &Case { scene, qa, answer, word })?;
        let nothing = Some(0.0); // No map says nothing of the effects.
        let of = |map: &Option<WordMap>| agreement(map.as_ref()?, &effects, scene);
        let tier0 = of(&maps.tier0).or(nothing);
        apart.agreements.push(By { tier0, tier2: of(&maps.tier2), blind: Some(blind) });
        let of = |map: &Option<WordMap>| raw_agreement(map.as_ref()?, &effects, scene);
        let tier0 = of(&maps.tier0).or(nothing);
        apart.raw_agreements.push(By { tier0, tier2: of(&maps.tier2), blind: None });
    }
    Ok(())
}

/// The words of an answer that rightly name things.
fn things(qa: &Qa, answer: &Answer, scene: &Scene) -> Vec<usize> {
    let right = assertions(qa, &answer.text, scene).into_iter();
    let right = right.filter(|assertion| assertion.kind == Kind::Object && assertion.holds);
    let words = right.filter_map(|assertion| strongest(&answer.words, &assertion.bytes));
    words.map(|word| word.index).collect()
}

/// The maps of a case's word.
fn maps(_witness: &mut Witness, case: &Case) -> Result<By<Option<WordMap>>, Error> {
    let evidence = case.answer.words[case.word].evidence.as_ref();
    Ok(By { tier0: evidence.map(WordMap::of), tier2: None, blind: None })
}
