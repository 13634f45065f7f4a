//! The claims of an answer with their states, as a face shows them.

use std::time::Instant;

use vlm::explain::{self, Checked, Mark, State};
use vlm::generate::Cancel;

use crate::api::{ApiError, CheckView, ClaimKind, ClaimState, ClaimView, EvidenceView};
use crate::engine::Engine;
use crate::failure::api_error;

use super::phrase::percent;
use super::strike::without_unsupported;
use super::subject::Subject;

/// Puts every claim of an answer to the test.
pub(crate) fn check(
    engine: &mut Engine,
    subject: &Subject,
    cancel: &Cancel,
) -> Result<CheckView, ApiError> {
    subject.sees()?;
    let (begun, images) = (Instant::now(), subject.pixels());
    let answer = &*subject.answer;
    let claims = explain::claims(&subject.question, &answer.text, &answer.words);
    let (checked, worth) = engine.seeing(subject.seat, |model, session| {
        let asked = (subject.messages.as_slice(), images.as_slice());
        let checked = explain::check(session, model.both(), asked, (answer, &claims), cancel);
        let checked = checked.map_err(|error| api_error(&error))?;
        Ok((checked, Worth::of(&model.calibration.reliability)))
    })?;
    let all = checked.iter().enumerate();
    let claims: Vec<ClaimView> = all.map(|(i, one)| claim(subject, i, one, &worth)).collect();
    let cleaned = without_unsupported(&answer.text, &claims);
    let ms = begun.elapsed().as_secs_f32() * 1000.0;
    Ok(CheckView { claims, cleaned, ms })
}

fn claim(subject: &Subject, index: usize, checked: &Checked, worth: &Worth) -> ClaimView {
    let Checked { claim, probability, with, without, .. } = checked;
    let (kind, state) = (kind_of(claim.kind), state_of(checked.state));
    let words = subject.answer.words.get(claim.words.0..=claim.words.1).unwrap_or_default();
    let found = words.iter().filter_map(|word| word.evidence.as_ref());
    let best = found.max_by(|a, b| a.score.total_cmp(&b.score)).filter(|_| subject.maps);
    let evidence = best.and_then(|evidence| subject.view(evidence));
    ClaimView {
        index: index as u32,
        kind,
        text: claim.text.clone(),
        start: subject.utf16(claim.bytes.start),
        end: subject.utf16(claim.bytes.end),
        struck: checked
            .struck()
            .map(|bytes| (subject.utf16(bytes.start), subject.utf16(bytes.end))),
        state,
        probability: *probability,
        with: *with,
        without: *without,
        trusted: worth.beats_chance(kind, state),
        words: match subject.maps {
            true => says(evidence.as_ref(), *probability),
            false => format!("regions are shown once tested; {} sure", percent(*probability)),
        },
        evidence,
        tested: None,
    }
}

/// The mark and the map in plain words.
pub(super) fn says(evidence: Option<&EvidenceView>, probability: f32) -> String {
    let sure = format!("{} sure", percent(probability));
    match evidence {
        Some(evidence) => format!("rests on: {}; {sure}", evidence.words),
        None => format!("no region found; {sure}"),
    }
}

pub(crate) fn kind_of(kind: explain::ClaimKind) -> ClaimKind {
    match kind {
        explain::ClaimKind::Object => ClaimKind::Object,
        explain::ClaimKind::Colour => ClaimKind::Colour,
        explain::ClaimKind::Count => ClaimKind::Count,
        explain::ClaimKind::Place => ClaimKind::Place,
        explain::ClaimKind::Relation => ClaimKind::Relation,
        explain::ClaimKind::Text => ClaimKind::Text,
        explain::ClaimKind::YesNo => ClaimKind::YesNo,
    }
}

pub(crate) fn state_of(state: State) -> ClaimState {
    match state {
        State::Seen => ClaimState::Seen,
        State::Guessed => ClaimState::Guessed,
        State::Unsupported => ClaimState::Unsupported,
    }
}

/// What marks were worth when the model was calibrated.
#[derive(Debug, Default)]
pub(crate) struct Worth {
    /// By kind and state; those of all kinds together have none.
    pub marks: Vec<(Option<ClaimKind>, ClaimState, Counted)>,
}

/// Claims with one mark.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Counted {
    pub n: usize,
    pub wrong: f32,
    /// It tells more than how often claims are wrong anyway, so that it may be shown.
    pub beats_chance: bool,
}

impl Worth {
    /// Of a calibration; marks of unknown kinds and those of single words are left out.
    ///
    /// A model that is hardly ever wrong about a kind leaves nothing to tell apart within it. There
    /// a mark is judged over all kinds, unless its own kind speaks against it.
    pub fn of(reliability: &[Mark]) -> Worth {
        let known = reliability.iter().filter_map(|mark| {
            let kind = serde_json::from_value(mark.kind.as_str().into()).ok()?;
            let state = serde_json::from_value(mark.state.as_str().into()).ok()?;
            let Mark { n, wrong, beats_chance, .. } = *mark;
            Some((kind_of(kind), state_of(state), Counted { n, wrong, beats_chance }))
        });
        let known: Vec<(ClaimKind, ClaimState, Counted)> = known.collect();
        let usual = together(known.iter().map(|(_, _, counted)| counted)).1;
        let mut marks = Vec::new();
        for state in [ClaimState::Seen, ClaimState::Guessed, ClaimState::Unsupported] {
            let of_state = known.iter().filter(|(_, other, _)| *other == state);
            let (n, wrong) = together(of_state.clone().map(|(_, _, counted)| counted));
            if n == 0 {
                continue;
            }
            let (low, high) = interval(wrong, n);
            let beats_chance = if state == ClaimState::Seen { high < usual } else { low > usual };
            marks.push((None, state, Counted { n, wrong, beats_chance }));
            for &(kind, _, counted) in of_state {
                let of_kind = known.iter().filter(|(other, _, _)| *other == kind);
                let usual = together(of_kind.map(|(_, _, counted)| counted)).1;
                let against = match state {
                    ClaimState::Seen => counted.wrong > usual,
                    _ => counted.wrong < usual,
                };
                let beats_chance = counted.beats_chance || (beats_chance && !against);
                marks.push((Some(kind), state, Counted { beats_chance, ..counted }));
            }
        }
        Worth { marks }
    }

    /// Whether a mark may be shown: what was not counted for its kind is judged by its state.
    fn beats_chance(&self, kind: ClaimKind, state: ClaimState) -> bool {
        let of = |kind: Option<ClaimKind>| {
            let found = self.marks.iter().find(|mark| mark.0 == kind && mark.1 == state);
            found.map(|(_, _, counted)| counted.beats_chance)
        };
        of(Some(kind)).or_else(|| of(None)).unwrap_or(false)
    }
}

/// How many claims, and the share of them that was wrong.
fn together<'a>(counted: impl Iterator<Item = &'a Counted>) -> (usize, f32) {
    let (mut n, mut wrong) = (0, 0.0);
    for one in counted {
        n += one.n;
        wrong += one.wrong * one.n as f32;
    }
    (n, wrong / n.max(1) as f32)
}

/// Wilson's 95 % interval of a share.
fn interval(share: f32, n: usize) -> (f32, f32) {
    const Z: f32 = 1.96;
    let n = n.max(1) as f32;
    let middle = share + Z * Z / (2.0 * n);
    let reach = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    ((middle - reach) / scale, (middle + reach) / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(kind: &str, state: &str, n: usize, wrong: f32, beats_chance: bool) -> Mark {
        Mark { kind: kind.into(), state: state.into(), n, wrong, beats_chance }
    }

    #[test]
    fn marks_are_counted_by_kind_and_together() {
        let worth = Worth::of(&[
            mark("object", "seen", 500, 0.015, false),
            mark("object", "unsupported", 40, 0.9, true),
            mark("count", "seen", 100, 0.4, false),
            mark("count", "unsupported", 60, 0.2, false),
            mark("word", "seen", 9, 0.5, true),
        ]);
        assert_eq!(worth.marks.len(), 6, "two together, four by kind");
        let together = worth.marks[0].2;
        assert!(together.n == 600 && (together.wrong - 0.079).abs() < 1e-3, "{together:?}");
        let shown = |kind, state| worth.beats_chance(kind, state);
        assert!(shown(ClaimKind::Object, ClaimState::Seen), "hardly ever wrong, as such marks are");
        assert!(!shown(ClaimKind::Count, ClaimState::Seen), "its own kind speaks against it");
        assert!(!shown(ClaimKind::Count, ClaimState::Unsupported));
        assert!(shown(ClaimKind::Place, ClaimState::Unsupported), "by its state");
        assert!(!shown(ClaimKind::Object, ClaimState::Guessed), "never counted");
    }
}
