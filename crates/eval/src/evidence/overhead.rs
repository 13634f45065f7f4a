//! What evidence costs: the same question in turns, without it, with Tier 0, and then checked.
//!
//! A machine that does other things at the same time slows all turns alike; each question is asked
//! several times and its fastest turn counts.

use std::time::Instant;

use scenes::Scene;

use super::witness::Witness;
use crate::Error;

/// How often each turn is taken.
const REPEATS: usize = 3;

/// Seconds for one question about a new picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// The answer alone.
    pub plain: f64,
    /// The answer with Tier 0.
    pub tier0: f64,
    /// The check after it.
    pub tier1: f64,
}

/// Times one scene's list or first question.
///
/// Errors: the engine's; `Error::Cancelled`.
pub(crate) fn time(witness: &mut Witness, scene: &Scene) -> Result<Option<Turn>, Error> {
    let all = scenes::questions(scene, scene.seed);
    let long = |qa: &&scenes::Qa| matches!(qa.kind, scenes::QaKind::List | scenes::QaKind::Caption);
    let Some(qa) = all.iter().find(long).or(all.first()) else { return Ok(None) };
    let mut turn = Turn { plain: f64::INFINITY, tier0: f64::INFINITY, tier1: f64::INFINITY };
    for _ in 0..REPEATS {
        for evidence in [false, true] {
            // The picture is encoded and the prompt read in every turn.
            witness.session.clear();
            let begun = Instant::now();
            let answer = witness.answer(&scene.image, &qa.question, evidence)?;
            let seconds = begun.elapsed().as_secs_f64();
            if !evidence {
                turn.plain = turn.plain.min(seconds);
                continue;
            }
            turn.tier0 = turn.tier0.min(seconds);
            let begun = Instant::now();
            witness.check(&scene.image, &qa.question, &answer)?;
            turn.tier1 = turn.tier1.min(begun.elapsed().as_secs_f64());
        }
    }
    Ok(Some(turn))
}
