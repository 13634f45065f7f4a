//! Figures as rows of a table for people.
//!
//! It does not know what a figure says, only in which unit.

use crate::metric::{Bound, Metric};
use std::fmt;

/// How the value of a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A share, in per cent.
    Share,
    /// Percentage points.
    Points,
    /// A plain number, such as a correlation.
    Number,
}

impl Unit {
    fn number(self, value: f64) -> String {
        match self {
            Unit::Share => format!("{:.1}", 100.0 * value),
            Unit::Points => format!("{value:.1}"),
            Unit::Number => format!("{value:.3}"),
        }
    }

    fn write(self, value: f64) -> String {
        let unit = ["%", "pt", ""][self as usize];
        format!("{} {unit}", self.number(value)).trim_end().to_owned()
    }

    /// A bound, without needless zeros.
    fn bound(self, value: f64) -> String {
        let scaled = if self == Unit::Share { 100.0 * value } else { value };
        format!("{}", (scaled * 1e4).round() / 1e4)
    }
}

/// The names of the columns.
pub(crate) fn head(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let head = ["figure", "value", "95 % interval", "n", "baseline", "demand"];
    write_cells(f, head.map(str::to_owned), "")
}

/// One figure.
pub(crate) fn row(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    metric: &Metric,
    unit: Unit,
) -> fmt::Result {
    let [low, high] = metric.interval;
    let cells = [
        name.to_owned(),
        metric.value.map_or("-".into(), |value| unit.write(value)),
        format!("{} to {}", unit.number(low), unit.number(high)),
        metric.n.to_string(),
        format!("{} ({})", unit.write(metric.baseline), metric.baseline_name),
        metric.demand.map_or(String::new(), |bound| demand(bound, metric.lower_is_better, unit)),
    ];
    let holds = match metric.holds {
        Some(true) => "holds",
        Some(false) => "MISSED",
        None => "",
    };
    write_cells(f, cells, holds)
}

fn demand(bound: Bound, lower_is_better: bool, unit: Unit) -> String {
    let sign = if lower_is_better { "≤" } else { "≥" };
    let percent = ["%", "pt", ""][unit as usize];
    let text = match bound {
        Bound::At(bound) => format!("{sign} {} {percent}", unit.bound(bound)),
        Bound::Between([low, high]) => {
            format!("{} to {} {percent}", unit.bound(low), unit.bound(high))
        }
    };
    text.trim_end().to_owned()
}

fn write_cells(
    f: &mut fmt::Formatter<'_>,
    [name, value, interval, n, baseline, demand]: [String; 6],
    holds: &str,
) -> fmt::Result {
    let line = format!(
        "{name:<40} {value:>8}  {interval:<16} {n:>6}  {baseline:<26} {demand:>11}  {holds}"
    );
    writeln!(f, "{}", line.trim_end())
}
