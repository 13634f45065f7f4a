//! Lessons whose answers can be guessed from the questions, beside honest ones: only the first may
//! set off the alarm.

use std::path::Path;

use scenes::{Mix, Options, SceneKind};
use serde::{Deserialize, Serialize};
use train::fine_tune::{Event, Example, FineTune, Held};
use vlm::processor::Message;

use super::Work;
use crate::Error;

const FIRST_SEED: u64 = 10_070_000;
/// Held-out scenes begin so many seeds later.
const APART: u64 = 5_000;
const N_TAUGHT: usize = 48;
const N_HELD: usize = 32;
const STEPS: u64 = 120;

/// What was found on both kinds of lessons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarms {
    /// Share of the held-out answers that are right, with and without the picture, and whether the
    /// alarm went off: on lessons with a shortcut, and on honest ones.
    pub shortcut: (f64, f64, bool),
    pub honest: (f64, f64, bool),
    pub n: usize,
}

/// Teaches the model twice. With the shortcut the question names the colour that is asked for.
pub(super) fn alarms(model: &Path, work: &Work) -> Result<Alarms, Error> {
    let shortcut = taught(model, true, work)?;
    let honest = taught(model, false, work)?;
    let of = |held: &Held| (held.right, held.blind_right, held.is_not_looking());
    Ok(Alarms { shortcut: of(&shortcut), honest: of(&honest), n: shortcut.n })
}

fn taught(model: &Path, has_shortcut: bool, work: &Work) -> Result<Held, Error> {
    let lessons = |first: u64, n: usize| -> Vec<Example> {
        (first..).filter_map(|seed| lesson(seed, has_shortcut)).take(n).collect()
    };
    let (taught, held) = (lessons(FIRST_SEED, N_TAUGHT), lessons(FIRST_SEED + APART, N_HELD));
    let recipe = FineTune {
        model: model.to_owned(),
        steps: STEPS,
        learning_rate: 4e-3,
        ..FineTune::default()
    };
    let mut last = Held::default();
    let mut on_event = |event: &Event<'_>| {
        if let Event::Measured { held, .. } = event {
            last = **held;
        }
    };
    let name = if has_shortcut { "shortcut" } else { "honest" };
    work.train(&recipe, (&taught, &held), name, &mut on_event)?;
    Ok(last)
}

/// A coloured thing alone, and the question for its colour.
fn lesson(seed: u64, has_shortcut: bool) -> Option<Example> {
    let kinds = Mix::only(SceneKind::Single);
    let scene = scenes::scene(seed, &Options { kinds, ..Options::default() });
    let colours = scenes::Colour::ALL;
    let colour = colours[seed as usize % colours.len()];
    let object = scene.objects.first().filter(|object| object.colour.is_some())?;
    let (name, scene) = (object.name.clone(), scene.recoloured(0, colour));
    let question = match has_shortcut {
        true => format!("{} {name}. Which colour is it?", colour.name()),
        false => format!("Which colour is the {name}?"),
    };
    let answer = format!("{}.", colour.name());
    let messages = vec![Message::user(1, question), Message::assistant(answer)];
    Some(Example { images: vec![scene.image], messages })
}
