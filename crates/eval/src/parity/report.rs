//! The report: one row for each case, and the worst of them all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::case::{Case, Kind};
use crate::{Bound, Demand, Error, Metric};

/// Largest deviation that counts as equal: f32 sums in another order.
pub const BOUND: f64 = 1e-4;

/// What was found in one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    pub case: String,
    pub kind: Kind,
    /// As `config.json` calls it.
    pub family: String,
    pub decoder: String,
    /// Whether the rendered prompt is the reference's.
    pub prompt: Option<bool>,
    pub input_ids: Option<bool>,
    /// max|a-b| / max|b| by tensor
    pub deviations: BTreeMap<String, f64>,
    /// Of a pixel before normalisation, in steps of 8 bits.
    pub largest_step: Option<f64>,
    /// Tokens of the greedy answer up to the first that differs.
    pub greedy_equal: usize,
    pub greedy_tokens: usize,
    /// Why not everything was compared.
    pub error: Option<String>,
}

impl Held {
    /// Nothing found yet.
    ///
    /// # Errors
    /// As [`Case::kinds`].
    pub fn new(case: &Case) -> Result<Held, Error> {
        let (family, decoder) = case.kinds()?;
        Ok(Held {
            case: case.name.clone(),
            kind: case.kind,
            family,
            decoder,
            prompt: None,
            input_ids: None,
            deviations: BTreeMap::new(),
            largest_step: None,
            greedy_equal: 0,
            greedy_tokens: 0,
            error: None,
        })
    }

    /// Whether everything was compared and is equal.
    pub fn holds(&self) -> bool {
        let close = self.deviations.values().all(|deviation| *deviation <= BOUND);
        let said = match self.kind {
            Kind::Ask => self.prompt == Some(true) && self.greedy_tokens > 0,
            Kind::Compare => self.deviations.len() == self.kind.tensors().len(),
        };
        let same = self.input_ids == Some(true) && self.greedy_equal == self.greedy_tokens;
        self.error.is_none() && close && same && said
    }
}

/// How near the engine is to the reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Combinations of family and decoder that hold.
    pub families: Metric,
    pub largest_relative_deviation: Metric,
    /// Share of the greedy answers' tokens.
    pub greedy_tokens_equal: Metric,
    pub processor_largest_step: Metric,
    pub cases: Vec<Held>,
    pub seconds: f64,
}

impl Report {
    pub(super) fn new(cases: Vec<Held>, begun: Instant) -> Report {
        let combinations = |of: &dyn Fn(&&Held) -> bool| {
            let kinds = cases.iter().filter(of).map(|held| (&held.family, &held.decoder));
            kinds.collect::<BTreeSet<_>>().len() as f64
        };
        let (all, failing) = (combinations(&|_| true), combinations(&|held| !held.holds()));
        let deviations = cases.iter().flat_map(|held| held.deviations.values().copied());
        let steps = cases.iter().filter_map(|held| held.largest_step);
        let tokens = cases.iter().map(|held| held.greedy_tokens).sum::<usize>();
        let equal = cases.iter().map(|held| held.greedy_equal).sum::<usize>();
        let share = (tokens > 0).then(|| equal as f64 / tokens as f64);
        let asked = cases.iter().any(|held| held.kind == Kind::Ask);
        let errors = cases.iter().any(|held| held.error.is_some());
        let largest = |values: Vec<f64>, demand: f64, baseline: (&str, f64)| {
            let value = values.iter().copied().reduce(f64::max);
            let least = values.iter().copied().reduce(f64::min);
            let range = [least.unwrap_or(0.0), value.unwrap_or(0.0)];
            let holds = value.is_some_and(|value| value <= demand) && !errors;
            let demand = Demand::AtMost(demand);
            metric((value, values.len(), range), baseline, (demand, holds))
        };
        let n = cases.len();
        let families = all - failing;
        Report {
            families: metric(
                (Some(families), n, [families; 2]),
                ("none", 0.0),
                (Demand::AtLeast(all), failing == 0.0),
            ),
            largest_relative_deviation: largest(
                deviations.collect(),
                BOUND,
                ("bf16", 2f64.powi(-9)),
            ),
            greedy_tokens_equal: metric(
                (share, tokens, [share.unwrap_or(0.0); 2]),
                ("none", 0.0),
                (Demand::AtLeast(1.0), (share == Some(1.0) || !asked) && !errors),
            ),
            processor_largest_step: largest(steps.collect(), 1.0, ("another picture", 255.0)),
            cases,
            seconds: begun.elapsed().as_secs_f64(),
        }
    }
}

/// A figure whose `holds` is the caller's: an error elsewhere misses any demand.
fn metric(
    measured: (Option<f64>, usize, [f64; 2]),
    baseline: (&str, f64),
    (demand, holds): (Demand, bool),
) -> Metric {
    let (value, n, interval) = measured;
    Metric { holds: Some(holds), ..Metric::new((value, n), interval, baseline, Some(demand)) }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in [Kind::Ask, Kind::Compare] {
            let mut held = self.cases.iter().filter(|held| held.kind == kind).peekable();
            if held.peek().is_some() {
                header(f, kind)?;
                held.try_for_each(|held| row(f, held))?;
                writeln!(f)?;
            }
        }
        let figures = [
            ("families", &self.families),
            ("largest_relative_deviation", &self.largest_relative_deviation),
            ("greedy_tokens_equal", &self.greedy_tokens_equal),
            ("processor_largest_step", &self.processor_largest_step),
        ];
        for (name, metric) in figures {
            let value = metric.value.map_or("-".into(), |value| match value {
                value if value != 0.0 && value < 0.01 => format!("{value:.1e}"),
                value => format!("{value:.3}"),
            });
            let holds = if metric.holds == Some(true) { "holds" } else { "MISSED" };
            let demand = match metric.demand {
                Some(Bound::At(bound)) => bound.to_string(),
                _ => String::new(),
            };
            writeln!(f, "{name:<28} {value:>9}  n {:<5} demand {demand:<7} {holds}", metric.n)?;
        }
        write!(f, "Measured now, against what transformers wrote, {:.1} s", self.seconds)
    }
}

fn header(f: &mut fmt::Formatter<'_>, kind: Kind) -> fmt::Result {
    write!(f, "{:<36} {:<15} {:<15} {:<6} {:<5}", "case", "family", "decoder", "prompt", "ids")?;
    for name in kind.tensors() {
        write!(f, " {name:>16}")?;
    }
    writeln!(f, " {:>6} {:>7}", "step", "greedy")
}

fn row(f: &mut fmt::Formatter<'_>, held: &Held) -> fmt::Result {
    let said = |equal: Option<bool>| match equal {
        Some(true) => "same",
        Some(false) => "OTHER",
        None => "-",
    };
    let Held { case, family, decoder, greedy_equal, greedy_tokens, .. } = held;
    let (prompt, ids) = (said(held.prompt), said(held.input_ids));
    write!(f, "{case:<36} {family:<15} {decoder:<15} {prompt:<6} {ids:<5}")?;
    for name in held.kind.tensors() {
        let deviation = held.deviations.get(*name);
        write!(f, " {:>16}", deviation.map_or("-".into(), |value| format!("{value:.1e}")))?;
    }
    let step = held.largest_step.map_or("-".into(), |step| format!("{step:.3}"));
    let greedy = match held.kind {
        Kind::Ask => format!("{greedy_equal}/{greedy_tokens}"),
        Kind::Compare => "-".into(),
    };
    writeln!(f, " {step:>6} {greedy:>7}")?;
    match &held.error {
        Some(error) => writeln!(f, "    FAILED: {error}"),
        None => Ok(()),
    }
}
