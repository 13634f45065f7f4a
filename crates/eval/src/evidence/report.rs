//! The report on a model's evidence: the table, its keys and what is demanded.
//!
//! The JSON form is also the stored form. It does not know how anything was measured.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::metric::{Demand, Metric};
use crate::stored::{Measured, Stored};
use crate::table::{self, Unit};

/// A demanded figure: its key, unit and demand.
pub(crate) struct Row {
    pub name: &'static str,
    pub unit: Unit,
    pub demand: Demand,
}

const fn least(name: &'static str, unit: Unit, demand: f64) -> Row {
    Row { name, unit, demand: Demand::AtLeast(demand) }
}

const fn most(name: &'static str, unit: Unit, demand: f64) -> Row {
    Row { name, unit, demand: Demand::AtMost(demand) }
}

/// In the order of the table; the demands are evidence.md's, section 6.5.
pub(crate) const ROWS: &[Row] = &[
    least("pointing_tier0", Unit::Share, 0.90),
    least("box_acc50", Unit::Share, 0.80),
    most("held_out_drop_points", Unit::Points, 8.0),
    least("flip_tier0", Unit::Share, 0.45),
    least("flip_tier2", Unit::Share, 0.65),
    most("flip_random", Unit::Share, 0.10),
    least("insertion_deletion_tier0", Unit::Number, 0.20),
    least("insertion_deletion_tier2", Unit::Number, 0.35),
    least("spearman_tier0", Unit::Number, 0.50),
    least("spearman_tier2", Unit::Number, 0.75),
    least("stratified_auroc_tier0", Unit::Number, 0.85),
    least("stratified_auroc_tier1", Unit::Number, 0.93),
    least("stratified_auroc_tier1_attribute", Unit::Number, 0.85),
    least("stratified_auroc_tier1_count", Unit::Number, 0.75),
    least("stratified_auroc_tier1_relation", Unit::Number, 0.70),
    most("ece_in_distribution", Unit::Number, 0.03),
    most("ece_degraded", Unit::Number, 0.07),
    least("chair_i_cut", Unit::Share, 0.60),
    most("overhead_tier0", Unit::Share, 0.05),
    most("overhead_tier1", Unit::Share, 0.20),
];

/// How true a model's evidence is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What is demanded, by name; in JSON each is a key of the report.
    #[serde(flatten)]
    pub figures: BTreeMap<String, Metric>,
    /// What nothing is demanded of: baselines, parts, harder and easier readings.
    pub further: BTreeMap<String, Metric>,
    /// Whether Tier 0's maps may be shown as evidence: maps that hit boxes but do not agree with
    /// what the words depend on may not (evidence.md, section 6.5).
    pub maps_are_evidence: bool,
    pub measured: Measured,
}

impl Stored for Report {
    const NAME: &str = "evidence";
    const BESIDE: &str = "evidence-eval.json";
    const DEFINITION: &str = "evidence 1";

    fn measured(&self) -> &Measured {
        &self.measured
    }

    fn measured_mut(&mut self) -> &mut Measured {
        &mut self.measured
    }
}

impl Report {
    /// The figures, and the rule that follows from them.
    pub(crate) fn new(
        figures: BTreeMap<String, Metric>,
        further: BTreeMap<String, Metric>,
        measured: Measured,
    ) -> Report {
        let holds = |name| figures.get(name).is_some_and(|one: &Metric| one.holds == Some(true));
        let hits_boxes = holds("pointing_tier0") && holds("box_acc50");
        let maps_are_evidence = !hits_boxes || holds("spearman_tier0");
        Report { figures, further, maps_are_evidence, measured }
    }

    /// Every demanded row with its key, in the order of the table.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &Metric)> {
        ROWS.iter().filter_map(|row| Some((row.name, self.figures.get(row.name)?)))
    }

    /// Whether every demand holds.
    pub fn holds(&self) -> bool {
        self.rows().all(|(_, metric)| metric.holds != Some(false))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        table::head(f)?;
        for row in ROWS {
            if let Some(metric) = self.figures.get(row.name) {
                table::row(f, row.name, metric, row.unit)?;
            }
        }
        writeln!(f)?;
        for (name, metric) in &self.further {
            table::row(f, name, metric, Unit::Number)?;
        }
        if !self.maps_are_evidence {
            writeln!(
                f,
                "\nThe maps hit the boxes but do not agree with what the words depend on: they are \
                 not to be shown as evidence; show only regions that a test confirmed."
            )?;
        }
        write!(f, "\n{}", self.measured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(spearman: f64) -> Report {
        let metric = |row: &Row| {
            let value = if row.name == "spearman_tier0" { spearman } else { 0.95 };
            let measured = (Some(value), 10);
            Metric::new(measured, [value; 2], ("chance", 0.5), Some(row.demand))
        };
        let figures = ROWS.iter().map(|row| (row.name.to_owned(), metric(row))).collect();
        Report::new(figures, BTreeMap::new(), Measured::example())
    }

    #[test]
    fn plausible_maps_that_the_words_do_not_depend_on_are_no_evidence() {
        assert!(report(0.6).maps_are_evidence);
        let untrue = report(0.3);
        assert!(!untrue.maps_are_evidence && !untrue.holds());
        assert!(untrue.to_string().contains("not to be shown as evidence"));
    }

    #[test]
    fn json_has_a_key_for_each_figure_and_keeps_everything() {
        let text = serde_json::to_string(&report(0.6)).expect("JSON");
        assert_eq!(serde_json::from_str::<Report>(&text).expect("a report"), report(0.6));
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for row in ROWS {
            for key in ["value", "n", "interval", "baseline", "baseline_name", "demand", "holds"] {
                assert!(json[row.name].get(key).is_some(), "{} {key}", row.name);
            }
        }
        assert_eq!(json["overhead_tier1"]["lower_is_better"], true);
    }
}
