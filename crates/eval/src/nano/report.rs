//! The report: what was measured, as one JSON object and as a table for people.
//!
//! The JSON form is also the stored form, so that a shown number and a kept one cannot differ.

use super::FIGURES;
use crate::metric::Metric;
use crate::stored::{Measured, Stored};
use crate::table::{self, Unit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The shipped model's figures on held-out scenes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What is demanded, by name; in JSON each is a key of the report.
    #[serde(flatten)]
    pub figures: BTreeMap<String, Metric>,
    /// What nothing is demanded of.
    pub further: BTreeMap<String, Metric>,
    /// When, how and on what this was measured.
    pub measured: Measured,
}

impl Stored for Report {
    const NAME: &str = "nano";
    const BESIDE: &str = "eval.json";
    const DEFINITION: &str = "3";

    fn measured(&self) -> &Measured {
        &self.measured
    }

    fn measured_mut(&mut self) -> &mut Measured {
        &mut self.measured
    }
}

impl Report {
    /// Every demanded row with its key, in the order of the table.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &Metric)> {
        let row = |name| self.figures.get_key_value(name).map(|(key, row)| (key.as_str(), row));
        FIGURES.iter().filter_map(move |figure| row(figure.name))
    }

    /// Whether every demand holds.
    pub fn holds(&self) -> bool {
        self.rows().all(|(_, metric)| metric.holds != Some(false))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        table::head(f)?;
        for (name, metric) in self.rows() {
            table::row(f, name, metric, Unit::Share)?;
        }
        for (name, metric) in &self.further {
            table::row(f, name, metric, Unit::Share)?;
        }
        write!(f, "\n{}", self.measured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{Demand, Statistic, Tally};

    fn report() -> Report {
        let mut tally = Tally::new(Statistic::Share);
        for hit in [1.0, 1.0, 1.0, 0.0] {
            tally.next_scene();
            tally.add(0, hit);
        }
        let row = |demand| tally.metric(("chance", 0.015), demand);
        let figures = [
            ("region_top1", Demand::AtLeast(0.85)),
            ("object_accuracy", Demand::AtLeast(0.70)),
            ("existence_yes_share", Demand::Within(0.48, 0.52)),
            ("chair_i", Demand::AtMost(0.05)),
        ];
        let figures = figures.map(|(name, demand)| (name.to_owned(), row(Some(demand))));
        Report {
            figures: BTreeMap::from(figures),
            further: BTreeMap::from([("caption_recall".to_owned(), row(None))]),
            measured: Measured { first_seed: 10, n_scenes: 4, stored: true, ..Measured::example() },
        }
    }

    #[test]
    fn the_table_says_what_holds_and_that_it_is_stored() {
        let table = report().to_string();
        let texts = ["region_top1", "75.0 %", "MISSED", "holds", "caption_recall", "Stored"];
        for expected in texts.into_iter().chain(["48 to 52 %", "≤ 5 %", "≥ 70 %"]) {
            assert!(table.contains(expected), "{expected} in\n{table}");
        }
        assert!(!report().holds());
    }

    #[test]
    fn json_keeps_everything() {
        let text = serde_json::to_string(&report()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        for key in ["value", "n", "interval", "baseline", "baseline_name", "demand", "holds"] {
            assert!(value["chair_i"].get(key).is_some(), "{key}");
        }
        assert_eq!(value["chair_i"]["demand"], 0.05);
        assert_eq!(value["chair_i"]["holds"], false);
    }
}
