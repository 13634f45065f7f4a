//! A run that is stopped and goes on, beside one that never stopped.

use train::fine_tune::{Event, Examples, FineTune};

use super::Work;
use super::peft::{Case, train_case};
use crate::Error;

/// Steps of both, and after which one is stopped.
const STEPS: u64 = 12;
const STOP_AFTER: u64 = 5;

/// The largest difference between the losses of both and between what both learned: 0 when they
/// are equal to the bit.
pub(super) fn differs(case: &Case, work: &Work) -> Result<f64, Error> {
    // Shuffled, so that the order has to go on too.
    let recipe = FineTune { steps: STEPS, in_order: false, ..case.recipe.clone() };
    let (whole, expected) = train_case(case, &recipe, "whole", work)?;
    let mut losses = Vec::new();
    let stop = train::Cancel::default();
    let lessons: (&dyn Examples, &dyn Examples) = (&case.examples, &Vec::new());
    let mut until = |event: Event<'_>| {
        if let Event::Step { progress, loss, .. } = event {
            losses.push(loss);
            if progress.step == STOP_AFTER {
                stop.cancel();
            }
        }
    };
    let parts = work.folder.join("parts");
    train::fine_tune::run(&recipe, lessons, (&parts, None), &stop, &mut until)?;
    let (resumed, rest) = train_case(case, &recipe, "parts", work)?;
    losses.extend(rest);
    if losses.len() != expected.len() {
        return Ok(f64::INFINITY);
    }
    let mut apart = losses.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    for (name, var) in &whole.parameters.vars {
        let Some(other) = resumed.parameters.vars.get(name) else { return Ok(f64::INFINITY) };
        let both = (var.as_detached_tensor() - other.as_detached_tensor())?;
        apart = apart.max(f64::from(both.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?));
    }
    Ok(apart)
}
