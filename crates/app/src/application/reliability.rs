//! How far the marks of the loaded model can be trusted: what a calibration found, calibrating it
//! here, and measuring its evidence. `eval` does the work; this says it in words.

use crate::api::{ApiError, ClaimState, MarkReliability, Reliability};
use crate::evidence::{Counted, Worth};

use super::{App, no_model};

/// Seconds that a scene of a calibration takes for each million weights on one of the machines
/// that this was written on; only said as "about".
const SECONDS_PER_MILLION: f64 = 0.03;

impl App {
    /// What is known of the loaded model's marks.
    pub fn reliability(&self) -> Result<Reliability, ApiError> {
        let loaded = self.loaded().ok_or_else(no_model)?;
        let calibration = &loaded.calibration;
        let scenes = 600.0;
        let seconds = scenes * SECONDS_PER_MILLION * loaded.card.parameters / 1e6;
        let worth = Worth::of(&calibration.reliability);
        let mark = |(kind, state, counted): &(_, ClaimState, Counted)| MarkReliability {
            state: *state,
            kind: *kind,
            n: counted.n as u32,
            wrong: counted.wrong,
            beats_chance: counted.beats_chance,
            words: says(counted),
        };
        Ok(Reliability {
            calibrated: calibration.checked.is_some(),
            maps: true,
            minutes: (seconds / 60.0) as f32,
            marks: worth.marks.iter().map(mark).collect(),
            figures: Vec::new(),
            measured: None,
            command: format!("sightline eval evidence --model \"{}\"", loaded.folder.display()),
        })
    }

    /// Whether regions may be shown that no test has confirmed.
    pub(crate) fn shows_maps(&self) -> bool {
        self.loaded().is_none_or(|loaded| loaded.maps)
    }
}

/// "Words marked like this were wrong 8 times in 10, of 412 tested."
fn says(counted: &Counted) -> String {
    let Counted { n, wrong, .. } = *counted;
    let times = match wrong {
        w if w <= 0.0 => "never wrong".to_string(),
        w if w < 0.095 => format!("wrong {} in 100", times((100.0 * w).round().max(1.0))),
        w if w >= 0.995 => "always wrong".to_string(),
        w => format!("wrong {} in 10", times((10.0 * w).round())),
    };
    format!("Words marked like this were {times}, of {n} tested.")
}

fn times(count: f32) -> String {
    if count == 1.0 { "once".into() } else { format!("{count} times") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_marks_are_worth_is_said_in_words() {
        for (wrong, expected) in [
            (0.81, "wrong 8 times in 10"),
            (0.02, "wrong 2 times in 100"),
            (0.1, "wrong once in 10"),
            (0.001, "wrong once in 100"),
            (0.0, "never wrong"),
            (1.0, "always wrong"),
        ] {
            let said = says(&Counted { n: 412, wrong, beats_chance: true });
            assert_eq!(said, format!("Words marked like this were {expected}, of 412 tested."));
        }
    }
}
