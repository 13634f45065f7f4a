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
    pub beats_chance: bool,
}

impl Worth {
    /// Of a calibration; marks of unknown kinds and those of single words are left out.
    pub fn of(reliability: &[Mark]) -> Worth {
        let known = reliability.iter().filter_map(|mark| {
            let kind = serde_json::from_value(mark.kind.as_str().into()).ok()?;
            let state = serde_json::from_value(mark.state.as_str().into()).ok()?;
            let Mark { n, wrong, beats_chance, .. } = *mark;
            Some((kind_of(kind), state_of(state), Counted { n, wrong, beats_chance }))
        });
        let known: Vec<(ClaimKind, ClaimState, Counted)> = known.collect();
        let mut marks = Vec::new();
        for state in [ClaimState::Seen, ClaimState::Guessed, ClaimState::Unsupported] {
            let of_state = known.iter().filter(|(_, other, _)| *other == state);
            let of_state: Vec<&Counted> = of_state.map(|(_, _, counted)| counted).collect();
            let n: usize = of_state.iter().map(|counted| counted.n).sum();
            let wrong: f32 = of_state.iter().map(|c| c.wrong * c.n as f32).sum();
            // Of a state that is worth something for one kind at least.
            let beats_chance = of_state.iter().any(|counted| counted.beats_chance);
            if n > 0 {
                marks.push((None, state, Counted { n, wrong: wrong / n as f32, beats_chance }));
            }
        }
        marks.extend(known.into_iter().map(|(kind, state, counted)| (Some(kind), state, counted)));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(kind: &str, state: &str, n: usize, wrong: f32, beats_chance: bool) -> Mark {
        Mark { kind: kind.into(), state: state.into(), n, wrong, beats_chance }
    }

    #[test]
    fn marks_are_counted_by_kind_and_together() {
        let worth = Worth::of(&[
            mark("object", "seen", 300, 0.02, true),
            mark("count", "seen", 100, 0.1, false),
            mark("word", "seen", 9, 0.5, true),
            mark("object", "unsupported", 50, 0.8, true),
        ]);
        assert_eq!(worth.marks.len(), 5, "two together, three by kind");
        assert!((worth.marks[0].2.wrong - 0.04).abs() < 1e-6 && worth.marks[0].2.n == 400);
        assert!(worth.beats_chance(ClaimKind::Object, ClaimState::Seen));
        assert!(!worth.beats_chance(ClaimKind::Count, ClaimState::Seen));
        assert!(worth.beats_chance(ClaimKind::Place, ClaimState::Unsupported), "by its state");
        assert!(!worth.beats_chance(ClaimKind::Object, ClaimState::Guessed), "never counted");
    }
}
