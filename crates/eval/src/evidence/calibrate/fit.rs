//! From labelled rows to detectors, thresholds, and how far a mark can be trusted.
//!
//! Weights are fitted to the even scenes, on which true and false count the same; probabilities
//! and reliability come from the odd ones. Nothing here asks a model.

use std::collections::BTreeSet;

use vlm::explain::logistic::{Curve, Logistic, Samples};
use vlm::explain::{ClaimKind, Detector, MapWeights, Mark, State};

use super::L2;
use super::rows::Row;
use crate::metric::wilson;

/// Of the things that are there this share at most is struck from lists and captions.
const MOST_STRUCK: f64 = 0.014;
/// No other claim is called unsupported from this probability on.
const MOST_UNSUPPORTED: f32 = 0.5;
/// Below this every thing is.
const LEAST_UNSUPPORTED: f32 = 0.1;
/// From this probability on it is called seen.
const SEEN_FROM: f32 = 0.9;
/// Below this it is unsupported where nothing else is known.
const UNSUPPORTED_BELOW: f32 = 0.3;
/// Of the words whose region is right, so many keep it.
const LEAST_KEPT: f64 = 0.99;
/// Of so many function words one counts when peaks become probabilities.
const FUNCTION_WORDS_OF: usize = 10;
/// Fewer rows of its own than this are no ground for a curve.
const LEAST_OWN: usize = 40;

/// A detector of what is true, or None where there is only one kind of rows.
pub(super) fn detector(rows: &[Row]) -> Option<Detector> {
    let mut rows = rows.iter().filter(|row| !row.is_function).peekable();
    let mut samples = Samples::new(rows.peek()?.features.len());
    let rows: Vec<&Row> = rows.collect();
    for row in rows.iter().filter(|row| row.fits()) {
        samples.push(&row.features, row.is_true, 1.0);
    }
    samples.balance();
    let logistic = Logistic::fit(&samples, L2)?;
    let of = |own: bool| -> Vec<(f32, bool)> {
        let held = rows.iter().filter(|row| row.calibrates() && (row.own || !own));
        held.map(|row| (logistic.logit(&row.features), row.is_true)).collect()
    };
    let own = of(true);
    let wrong = own.iter().filter(|(_, is_true)| !is_true).count();
    let scored = if own.len() >= LEAST_OWN && wrong > 0 { own } else { of(false) };
    let curve = Some(Curve::isotonic(&scored)).filter(|curve| !curve.x.is_empty());
    let (seen_from, unsupported_below) = (SEEN_FROM, UNSUPPORTED_BELOW);
    let thing_unsupported_below = 0.0;
    Some(Detector { logistic, curve, seen_from, unsupported_below, thing_unsupported_below })
}

/// As high as they may be. Of other claims: no claim that is as likely true as not. Of things:
/// few that are there are struck, and none that is called seen.
pub(super) fn set_thresholds(detector: &mut Detector, claims: &[Row]) {
    detector.unsupported_below = MOST_UNSUPPORTED;
    detector.thing_unsupported_below = SEEN_FROM;
    let own = claims.iter().filter(|row| row.own && !row.damaged);
    let own = own.map(|row| (detector.probability(&row.features), row));
    let own: Vec<(f32, &Row)> = own.collect();
    let there: usize = own.iter().map(|(_, row)| row.there).sum();
    // Numbers go at a fixed probability; what they cost is lost already.
    let (mut things, others): (Vec<_>, Vec<_>) =
        own.into_iter().partition(|(_, row)| row.kind == "object");
    let others = others.iter().filter(|(probability, _)| *probability < MOST_UNSUPPORTED);
    let mut struck: usize = others.map(|(_, row)| row.lost).sum();
    things.sort_by(|a, b| a.0.total_cmp(&b.0));
    let first_too_many = things.iter().find(|(_, row)| {
        struck += row.lost;
        struck as f64 > MOST_STRUCK * there as f64
    });
    let below = first_too_many.map_or(SEEN_FROM, |(probability, _)| *probability);
    detector.thing_unsupported_below = below.clamp(LEAST_UNSUPPORTED, SEEN_FROM);
}

/// How the peak of a map becomes the probability that the region is right, and from where on a
/// word has one: where words that rest on something are told best from those that do not, and
/// nearly all of the former keep theirs.
pub(super) fn score_regions(map: &mut MapWeights, words: &[Row]) {
    let rests_on_nothing = |row: &Row| row.is_function || !row.is_true;
    let is_right = |row: &Row| if rests_on_nothing(row) { Some(false) } else { row.points };
    // Function words show no region, so a few suffice to say what a low peak is worth.
    let few = words.iter().filter(|row| row.is_function).step_by(FUNCTION_WORDS_OF);
    let content = words.iter().filter(|row| !row.is_function && row.own);
    let right = content.chain(few).filter_map(|row| Some((row.peak?, is_right(row)?)));
    let right: Vec<(f32, bool)> = right.collect();
    if right.is_empty() {
        return;
    }
    let peaks = |rests: &dyn Fn(&Row) -> bool| -> Vec<f32> {
        words.iter().filter(|row| rests(row)).filter_map(|row| row.peak).collect()
    };
    let rests = peaks(&|row| row.points == Some(true));
    let does_not = peaks(&rests_on_nothing);
    let above = |peaks: &[f32], threshold: f32| {
        let n = peaks.iter().filter(|&&peak| peak >= threshold).count();
        n as f64 / peaks.len().max(1) as f64
    };
    let gain = |threshold: f32| above(&rests, threshold) - above(&does_not, threshold);
    let keeps = |threshold: &f32| above(&rests, *threshold) >= LEAST_KEPT;
    let candidates = does_not.iter().copied().filter(keeps);
    let best = candidates.max_by(|a, b| gain(*a).total_cmp(&gain(*b)));
    // None of them is kept where there is any that could be.
    map.threshold = best.map_or(f32::MIN, |best| best + 1e-3);
    map.score = Some(Curve::isotonic(&right));
}

/// For each kind and state how often claims were wrong, of the model's own. Whether the mark tells
/// right from wrong is asked of those and of the wrong ones put in together: a good model makes
/// too few mistakes of its own to show it.
pub(super) fn reliability(detector: &Detector, claims: &[Row]) -> Vec<Mark> {
    let below = |row: &Row| match row.kind {
        "object" => detector.below(ClaimKind::Object),
        _ => detector.unsupported_below,
    };
    let state = |row: &Row| {
        let from = (detector.seen_from, below(row));
        State::of(detector.probability(&row.features), row.says_anyway, from)
    };
    let held = claims.iter().filter(|row| !row.fits()).map(|row| (row, state(row)));
    let held: Vec<(&Row, State)> = held.collect();
    let marks: BTreeSet<(&str, State)> =
        held.iter().filter(|(row, _)| row.own).map(|(row, state)| (row.kind, *state)).collect();
    let wrong = |counts: &dyn Fn(&Row, State) -> bool| {
        let counted = held.iter().filter(|(row, state)| counts(row, *state));
        let (n, wrong) =
            counted.fold((0, 0), |(n, wrong), (row, _)| (n + 1, wrong + usize::from(!row.is_true)));
        (n, wrong as f64 / (n as f64).max(1.0))
    };
    let mark = |&(kind, state): &(&str, State)| {
        let (n, own) = wrong(&|row, of| row.own && row.kind == kind && of == state);
        let (_, usual) = wrong(&|row, _| row.kind == kind);
        let (all, share) = wrong(&|row, of| row.kind == kind && of == state);
        let [low, high] = wilson(share, all);
        // What is called seen must be right more often than the kind is, the rest less often.
        let beats_chance = if state == State::Seen { high < usual } else { low > usual };
        let state = match state {
            State::Seen => "seen",
            State::Guessed => "guessed",
            State::Unsupported => "unsupported",
        };
        Mark { kind: kind.to_owned(), state: state.to_owned(), n, wrong: own as f32, beats_chance }
    };
    marks.iter().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two features: the first tells true from false, the second nothing.
    fn rows(n: usize, share_wrong: usize) -> Vec<Row> {
        let row = |i: usize| {
            let is_true = i % share_wrong != 0;
            let noise = (i * 7919 % 1000) as f32 / 500.0 - 1.0;
            let features = vec![if is_true { 1.0 } else { -1.0 } + 1.5 * noise, noise];
            let there = usize::from(is_true);
            let (scene, own, kind, lost) = ((i / 3) as u64, true, "object", there);
            Row { features, is_true, there, lost, scene, own, kind, ..Row::default() }
        };
        (0..n).map(row).collect()
    }

    #[test]
    fn a_detector_says_how_often_it_is_right() {
        let rows = rows(4000, 10);
        let mut detector = detector(&rows).expect("a detector");
        let said = |row: &Row| f64::from(detector.probability(&row.features));
        let mean = rows.iter().map(said).sum::<f64>() / rows.len() as f64;
        assert!((mean - 0.9).abs() < 0.02, "calibrated on the model's own: {mean}");
        set_thresholds(&mut detector, &rows);
        let below = detector.below(ClaimKind::Object);
        assert!((0.1..=0.9).contains(&below));
        let is_lost = |row: &&Row| row.is_true && detector.probability(&row.features) < below;
        let lost = rows.iter().filter(is_lost).count() as f64;
        let there = rows.iter().filter(|row| row.is_true).count() as f64;
        assert!(lost <= MOST_STRUCK * there, "{lost} of {there}");
        let marks = reliability(&detector, &rows);
        let of = |state: &str| marks.iter().find(|mark| mark.state == state).expect("a mark");
        assert!(of("seen").beats_chance && of("seen").wrong < 0.1);
        assert!(of("unsupported").beats_chance && of("unsupported").wrong > 0.5, "{marks:?}");
    }

    #[test]
    fn one_kind_of_rows_gives_no_detector() {
        let rows: Vec<Row> = rows(100, 10).into_iter().filter(|row| row.is_true).collect();
        assert!(detector(&rows).is_none());
        assert!(super::detector(&[]).is_none());
    }

    #[test]
    fn a_region_needs_a_peak_that_others_do_not_have() {
        let logistic = Logistic { weights: vec![1.0], bias: 0.0 };
        let mut map = MapWeights { logistic, score: None, threshold: 0.0 };
        let row = |i: usize| {
            let rests = i % 2 == 0;
            let peak = if rests { 3.0 } else { -3.0 } + (i % 10) as f32 / 10.0;
            let points = rests.then_some(true).or((i % 4 == 1).then_some(false));
            let (is_true, is_function, own) = (rests, !rests, true);
            Row { peak: Some(peak), points, is_true, is_function, own, ..Row::default() }
        };
        score_regions(&mut map, &(0..400).map(row).collect::<Vec<_>>());
        let curve = map.score.expect("a curve");
        let (low, high) = (curve.at(-2.5).expect("a score"), curve.at(3.5).expect("a score"));
        assert!(low < high, "{low} {high}");
        assert!((-2.2..=3.0).contains(&map.threshold), "{}", map.threshold);
    }
}
