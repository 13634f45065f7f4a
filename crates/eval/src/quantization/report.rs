//! The report: what 8 and 4 bits cost, as one JSON object and as a table for people.
//!
//! The JSON form is also the stored form, so that a shown number and a kept one cannot differ.

use crate::stored::{Measured, Stored};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use vlm::Quantization;

/// The figures' names in the order of the table.
pub const FIGURES: [&str; 5] =
    ["perplexity", "same_answer", "existence_f1", "existence_accuracy", "evidence"];

/// The formats that are held against the unquantised model.
pub const FORMATS: [Quantization; 2] = [Quantization::Q8_0, Quantization::Q4_0];

/// One figure in one format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// None when nothing was asked.
    pub value: Option<f64>,
    /// Tokens, answers, questions or words judged.
    pub n: usize,
    /// 95 % interval, by resampling whole scenes.
    pub interval: Option<[f64; 2]>,
    /// The unquantised model's value on the same scenes.
    pub baseline: Option<f64>,
    /// Of a share the points lost, of the perplexity the share by which it grew; below 0 is better.
    pub lost: Option<f64>,
    /// 95 % interval of the loss: both formats resampled on the same scenes, which is far narrower
    /// than that of the value.
    pub lost_interval: Option<[f64; 2]>,
    /// What the value must reach; for the perplexity, may reach.
    pub demand: Option<f64>,
    /// Whether it does.
    pub holds: Option<bool>,
}

/// What quantising costs one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// By names such as `perplexity_q8`.
    #[serde(flatten)]
    figures: BTreeMap<String, Figure>,
    /// Whether every demand on 8 bits holds.
    holds_q8: bool,
    holds_q4: bool,
    /// Bytes that the weights take in memory.
    bytes_none: usize,
    bytes_q8: usize,
    bytes_q4: usize,
    /// When, how and on what this was measured.
    pub measured: Measured,
}

impl Stored for Report {
    const NAME: &str = "quantization";
    const BESIDE: &str = "quantization.json";
    const DEFINITION: &str = "quantization 1";

    fn measured(&self) -> &Measured {
        &self.measured
    }

    fn measured_mut(&mut self) -> &mut Measured {
        &mut self.measured
    }
}

impl Report {
    /// Without figures yet; `bytes` for each of [`Quantization::ALL`].
    pub(super) fn new([bytes_none, bytes_q8, bytes_q4]: [usize; 3], measured: Measured) -> Report {
        let (holds_q8, holds_q4) = (true, true);
        let figures = BTreeMap::new();
        Report { figures, holds_q8, holds_q4, bytes_none, bytes_q8, bytes_q4, measured }
    }

    pub(super) fn add(&mut self, name: &str, quantization: Quantization, figure: Figure) {
        let holds = figure.holds != Some(false);
        match quantization {
            Quantization::None => {}
            Quantization::Q8_0 => self.holds_q8 &= holds,
            Quantization::Q4_0 => self.holds_q4 &= holds,
        }
        self.figures.insert(key(name, quantization), figure);
    }

    /// One of [`FIGURES`] in one of [`FORMATS`].
    pub fn figure(&self, name: &str, quantization: Quantization) -> Option<&Figure> {
        self.figures.get(&key(name, quantization))
    }

    /// Whether every demand on this format holds.
    pub fn holds(&self, quantization: Quantization) -> bool {
        match quantization {
            Quantization::None => true,
            Quantization::Q8_0 => self.holds_q8,
            Quantization::Q4_0 => self.holds_q4,
        }
    }
}

/// "perplexity_q8"
fn key(name: &str, quantization: Quantization) -> String {
    format!("{name}_{}", quantization.name().trim_end_matches("_0"))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [value, interval, n, plain] = ["value", "95 % interval", "n", "unquantised"];
        let [lost, demand] = ["lost (95 % interval)", "demand"];
        writeln!(
            f,
            "{:<22} {value:>8}  {interval:<16} {n:>6}  {plain:>11}  {lost:<26} {demand:>9}",
            "figure"
        )?;
        for quantization in FORMATS {
            for name in FIGURES {
                if let Some(figure) = self.figure(name, quantization) {
                    writeln!(f, "{}", row(name, quantization, figure).trim_end())?;
                }
            }
        }
        let megabytes = |bytes: usize| format!("{:.1} MB", bytes as f64 / 1e6);
        let [none, q8, q4] = [self.bytes_none, self.bytes_q8, self.bytes_q4].map(megabytes);
        writeln!(f, "\nweights in memory: none {none}, q8_0 {q8}, q4_0 {q4}")?;
        for quantization in FORMATS {
            let verdict = match self.holds(quantization) {
                true => "loses no more than it may".to_owned(),
                false => format!("loses too much of {}", self.missed(quantization).join(", ")),
            };
            writeln!(f, "{} {verdict}", quantization.name())?;
        }
        write!(f, "{}", self.measured)
    }
}

impl Report {
    fn missed(&self, quantization: Quantization) -> Vec<&'static str> {
        let missed = |name: &&str| {
            self.figure(name, quantization).is_some_and(|figure| figure.holds == Some(false))
        };
        FIGURES.into_iter().filter(missed).collect()
    }
}

fn row(name: &str, quantization: Quantization, figure: &Figure) -> String {
    let ratio = name == "perplexity";
    let number = |value: f64| match ratio {
        true => format!("{value:.3}"),
        false => format!("{:.1} %", 100.0 * value),
    };
    let range = |[low, high]: [f64; 2]| match ratio {
        true => format!("{low:.3} to {high:.3}"),
        false => format!("{:.1} to {:.1}", 100.0 * low, 100.0 * high),
    };
    let lost = |(lost, [low, high]): (f64, [f64; 2])| {
        let unit = if ratio { "%" } else { "points" };
        let [lost, low, high] = [lost, low, high].map(tenths);
        format!("{lost:.1} {unit} ({low:.1} to {high:.1})")
    };
    let text = |value: Option<f64>| value.map_or("-".to_owned(), number);
    let demand = figure.demand.map_or(String::new(), |demand| {
        format!("{} {}", if ratio { "≤" } else { "≥" }, number(demand))
    });
    let holds = match figure.holds {
        Some(true) => "holds",
        Some(false) => "MISSED",
        None => "not measured",
    };
    format!(
        "{:<22} {:>8}  {:<16} {:>6}  {:>11}  {:<26} {demand:>9}  {holds}",
        key(name, quantization),
        text(figure.value),
        figure.interval.map_or(String::new(), range),
        figure.n,
        text(figure.baseline),
        figure.lost.zip(figure.lost_interval).map_or(String::new(), lost),
    )
}

/// In hundredths, rounded, and never "-0.0".
fn tenths(share: f64) -> f64 {
    (1000.0 * share).round() / 10.0 + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let measured =
            Measured { first_seed: 10, n_scenes: 4, stored: true, ..Measured::example() };
        let mut report = Report::new([32_000_000, 9_000_000, 5_400_000], measured);
        let figure = |value: f64, holds| Figure {
            value: Some(value),
            n: 40,
            interval: Some([value - 0.015625, value + 0.015625]),
            baseline: Some(1.0),
            lost: Some(1.0 - value),
            lost_interval: Some([-0.0, 0.125]),
            demand: Some(0.96875),
            holds: Some(holds),
        };
        report.add("existence_f1", Quantization::Q8_0, figure(0.984375, true));
        report.add("existence_f1", Quantization::Q4_0, figure(0.9375, false));
        report.add("evidence", Quantization::Q4_0, figure(0.96875, true));
        report
    }

    #[test]
    fn the_table_says_what_was_lost_and_gives_a_verdict_on_each_format() {
        let table = report().to_string();
        for expected in [
            "existence_f1_q4          93.8 %  92.2 to 95.3         40      100.0 %  \
             6.3 points (0.0 to 12.5)    ≥ 96.9 %  MISSED",
            "weights in memory: none 32.0 MB, q8_0 9.0 MB, q4_0 5.4 MB",
            "q8_0 loses no more than it may",
            "q4_0 loses too much of existence_f1\n",
            "Stored: 2026-01-31",
        ] {
            assert!(table.contains(expected), "{expected} in\n{table}");
        }
    }

    #[test]
    fn json_is_flat_and_keeps_everything() {
        let text = serde_json::to_string(&report()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        for key in ["value", "n", "interval", "baseline", "demand", "holds"] {
            assert!(value["existence_f1_q8"].get(key).is_some(), "{key}");
        }
        assert_eq!(value["holds_q4"], false);
        assert_eq!(value["bytes_none"], 32_000_000);
    }
}
