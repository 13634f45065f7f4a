//! The report: what fine-tuning reaches, as one JSON object and as a table for people.

use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::peft::Held;
use super::robot::Taught;
use super::shortcut::Alarms;
use crate::metric::wilson;
use crate::table::{self, Unit};
use crate::{Demand, Metric};

/// How near fine-tuning is to `peft`, and what it does to the shipped model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub loss_curve_deviation_from_peft: Metric,
    pub new_class_accuracy: Metric,
    /// Points of right answers lost in the old world.
    pub old_world_loss_points: Metric,
    /// 1 when the alarm goes off on lessons with a shortcut and not on honest ones.
    pub shortcut_alarm: Metric,
    /// 1 when both runs are equal to the bit.
    pub resume_equals_uninterrupted: Metric,
    pub peft_round_trip_deviation: Metric,
    pub cases: Vec<Held>,
    pub alarms: Alarms,
    pub taught: Taught,
    pub seconds: f64,
}

impl Report {
    pub(super) fn new(
        cases: Vec<Held>,
        resumed: f64,
        alarms: Alarms,
        taught: Taught,
        begun: Instant,
    ) -> Report {
        let worst = |of: &dyn Fn(&Held) -> Option<f64>| {
            let values = cases.iter().filter_map(of);
            let values: Vec<f64> = values.collect();
            let low = values.iter().copied().reduce(f64::min).unwrap_or(0.0);
            let high = values.iter().copied().reduce(f64::max);
            (high, values.len(), [low, high.unwrap_or(0.0)])
        };
        let same = cases.iter().all(|held| held.same_lessons);
        let (loss, _, loss_range) = worst(&|held| Some(held.loss));
        let loss = loss.filter(|_| same);
        let n_steps = cases.iter().map(|held| held.n_steps).sum();
        let (trip, n_trips, trip_range) = worst(&|held| held.round_trip);
        let lost = 100.0 * (taught.old_before - taught.old_after);
        let both = |share: f64| wilson(share, taught.n_answers);
        let (low, high) = (both(taught.old_before), both(taught.old_after));
        let lost_range = [100.0 * (low[0] - high[1]), 100.0 * (low[1] - high[0])];
        let is_right = alarms.shortcut.2 && !alarms.honest.2;
        let truth = |holds: bool| Some(f64::from(u8::from(holds)));
        let is_equal = resumed == 0.0;
        Report {
            loss_curve_deviation_from_peft: Metric::new(
                (loss, n_steps),
                loss_range,
                ("bf16", 2f64.powi(-9)),
                Some(Demand::AtMost(0.01)),
            ),
            new_class_accuracy: Metric::new(
                (Some(taught.after), taught.n_robots),
                wilson(taught.after, taught.n_robots),
                ("before it was taught", taught.before),
                Some(Demand::AtLeast(0.9)),
            ),
            old_world_loss_points: Metric::new(
                (Some(lost), taught.n_answers),
                lost_range,
                ("nothing taught", 0.0),
                Some(Demand::AtMost(2.0)),
            ),
            shortcut_alarm: Metric::new(
                (truth(is_right), 2),
                [f64::from(u8::from(is_right)); 2],
                ("always or never", 0.0),
                Some(Demand::AtLeast(1.0)),
            ),
            resume_equals_uninterrupted: Metric::new(
                (truth(is_equal), 1),
                [f64::from(u8::from(is_equal)); 2],
                ("begun anew", 0.0),
                Some(Demand::AtLeast(1.0)),
            ),
            peft_round_trip_deviation: Metric::new(
                (trip, n_trips),
                trip_range,
                ("bf16", 2f64.powi(-9)),
                Some(Demand::AtMost(1e-4)),
            ),
            cases,
            alarms,
            taught,
            seconds: begun.elapsed().as_secs_f64(),
        }
    }

    /// Every row with its key, in the order of the table.
    fn rows(&self) -> [(&'static str, &Metric, Unit); 6] {
        [
            ("loss_curve_deviation_from_peft", &self.loss_curve_deviation_from_peft, Unit::Number),
            ("new_class_accuracy", &self.new_class_accuracy, Unit::Share),
            ("old_world_loss_points", &self.old_world_loss_points, Unit::Number),
            ("shortcut_alarm", &self.shortcut_alarm, Unit::Number),
            ("resume_equals_uninterrupted", &self.resume_equals_uninterrupted, Unit::Number),
            ("peft_round_trip_deviation", &self.peft_round_trip_deviation, Unit::Number),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        table::head(f)?;
        for (name, metric, unit) in self.rows() {
            table::row(f, name, metric, unit)?;
        }
        for held in &self.cases {
            let Held { case, loss, same_lessons, trained, .. } = held;
            let lessons = if *same_lessons { "same" } else { "other" };
            writeln!(
                f,
                "{case}: losses {loss:.1e} apart, logits {trained:.1e}, {lessons} lessons"
            )?;
        }
        let Taught { pictures, seconds, before, after, .. } = &self.taught;
        write!(
            f,
            "A robot, {pictures} pictures, {seconds:.0} s: named {:.0} % before, {:.0} % after",
            100.0 * before,
            100.0 * after
        )
    }
}
