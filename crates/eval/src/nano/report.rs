//! The report: what was measured, as one JSON object and as a table for people.
//!
//! The JSON form is also the stored form, so that a shown number and a kept one cannot differ.

use crate::metric::Metric;
use crate::stored::{Measured, Stored};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The shipped model's figures on held-out scenes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Regions named by the region head over all class phrases.
    pub region_top1: Metric,
    /// "What is this?" answered with the right object.
    pub object_accuracy: Metric,
    /// "Which colour is X?" answered with the right colour.
    pub colour_accuracy: Metric,
    /// "Is there an X?": mean of the accuracies on present and on absent things.
    pub existence_balanced_accuracy: Metric,
    /// The peak of a content word's evidence lies inside the right box.
    pub attended_region_hit: Metric,
    /// What nothing is demanded of yet.
    pub further: BTreeMap<String, Metric>,
    /// When, how and on what this was measured.
    pub measured: Measured,
}

impl Stored for Report {
    const NAME: &str = "nano";
    const BESIDE: &str = "eval.json";
    const DEFINITION: &str = "2";

    fn measured(&self) -> &Measured {
        &self.measured
    }

    fn measured_mut(&mut self) -> &mut Measured {
        &mut self.measured
    }
}

impl Report {
    /// Every demanded row with its key, in the order of the table.
    pub fn rows(&self) -> [(&'static str, &Metric); 5] {
        [
            ("region_top1", &self.region_top1),
            ("object_accuracy", &self.object_accuracy),
            ("colour_accuracy", &self.colour_accuracy),
            ("existence_balanced_accuracy", &self.existence_balanced_accuracy),
            ("attended_region_hit", &self.attended_region_hit),
        ]
    }

    /// Whether every demand holds.
    pub fn holds(&self) -> bool {
        self.rows().iter().all(|(_, metric)| metric.holds != Some(false))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["figure", "value", "95 % interval", "n", "baseline", "demand", ""];
        let [figure, value, interval, n, baseline, demand, holds] = head;
        writeln!(
            f,
            "{figure:<28} {value:>7}  {interval:<15} {n:>6}  {baseline:<22} {demand:>7}  {holds}"
        )?;
        for (name, metric) in self.rows() {
            write_row(f, name, metric)?;
        }
        for (name, metric) in &self.further {
            write_row(f, name, metric)?;
        }
        write!(f, "\n{}", self.measured)
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, name: &str, metric: &Metric) -> fmt::Result {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let value = metric.value.map_or("-".into(), percent);
    let [low, high] = metric.interval;
    let interval = format!("{:.1} to {:.1}", 100.0 * low, 100.0 * high);
    let baseline = format!("{} ({})", percent(metric.baseline), metric.baseline_name);
    let demand = metric.demand.map_or(String::new(), percent);
    let holds = match metric.holds {
        Some(true) => "holds",
        Some(false) => "MISSED",
        None => "",
    };
    let line = format!(
        "{name:<28} {value:>7}  {interval:<15} {:>6}  {baseline:<22} {demand:>7}  {holds}",
        metric.n
    );
    writeln!(f, "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Tally;

    fn report() -> Report {
        let mut tally = Tally::new(1);
        for hit in [true, true, true, false] {
            tally.next_scene();
            tally.add(0, hit);
        }
        let row = |demand| tally.metric(("chance", 0.015), demand);
        Report {
            region_top1: row(Some(0.85)),
            object_accuracy: row(Some(0.70)),
            colour_accuracy: row(Some(0.75)),
            existence_balanced_accuracy: row(Some(0.65)),
            attended_region_hit: row(Some(0.60)),
            further: BTreeMap::from([("count_accuracy".to_owned(), row(None))]),
            measured: Measured {
                date: "2026-01-31T12:00:00Z".into(),
                build: "0.1.0".into(),
                first_seed: 10,
                n_scenes: 4,
                held_out_style: false,
                model: "abc".into(),
                seconds: 1.0,
                stored: true,
            },
        }
    }

    #[test]
    fn the_table_says_what_holds_and_that_it_is_stored() {
        let table = report().to_string();
        for expected in ["region_top1", "75.0 %", "MISSED", "holds", "count_accuracy", "Stored"] {
            assert!(table.contains(expected), "{expected} in\n{table}");
        }
        assert!(!report().holds());
    }

    #[test]
    fn json_keeps_everything() {
        let text = serde_json::to_string(&report()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report());
        for key in ["value", "n", "interval", "baseline", "demand", "holds"] {
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(value["region_top1"].get(key).is_some(), "{key}");
        }
    }
}
