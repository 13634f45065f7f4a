//! How far the marks of the loaded model can be trusted: what a calibration found, calibrating it
//! here, and measuring its evidence. `eval` does the work; this says it in words.

use std::path::Path;
use std::time::Instant;

use eval::evidence::{N_CALIBRATION_SCENES, Wanted, report::Report};
use vlm::Quantization;
use vlm::explain::Calibration;
use vlm::generate::Cancel;

use crate::api::{
    ApiError, ClaimState, EvidenceFigure, LongProgress, MarkReliability, Measurement, Reliability,
};
use crate::evidence::{Counted, Worth};
use crate::failure::{api_error, failure};

use super::{App, lock, no_model};

/// Seconds that a scene of a calibration takes for each million weights on one of the machines
/// that this was written on; only said as "about".
const SECONDS_PER_MILLION: f64 = 0.03;
/// Scenes of a measurement inside the program: as many as make its intervals useful.
const N_MEASURED: u64 = 500;

impl App {
    /// What is known of the loaded model's marks.
    pub fn reliability(&self) -> Result<Reliability, ApiError> {
        let loaded = self.loaded().ok_or_else(no_model)?;
        let calibration = &loaded.calibration;
        let report = eval::evidence::kept(&loaded.folder);
        let scenes = N_CALIBRATION_SCENES as f64;
        let seconds = scenes * SECONDS_PER_MILLION * loaded.card.parameters / 1e6;
        let worth = Worth::of(&calibration.reliability);
        let mark = |(kind, state, counted): &(_, ClaimState, Counted)| MarkReliability {
            state: *state,
            kind: *kind,
            n: counted.n as u32,
            wrong: counted.wrong,
            beats_chance: counted.beats_chance,
            words: says(counted),
        };
        Ok(Reliability {
            calibrated: calibration.checked.is_some(),
            maps: report.as_ref().is_none_or(|report| report.maps_are_evidence),
            minutes: (seconds / 60.0) as f32,
            marks: worth.marks.iter().map(mark).collect(),
            figures: report.as_ref().map(figures).unwrap_or_default(),
            measured: report.as_ref().map(|report| Measurement {
                date: report.measured.date.clone(),
                scenes: report.measured.n_scenes as u32,
                build: report.measured.build.clone(),
            }),
            command: format!("sightline eval evidence --model \"{}\"", loaded.folder.display()),
        })
    }

    /// Finds out what the marks of the loaded model are worth and turns them on, in minutes,
    /// beside the model that answers; blocks until it is done. Chats go on.
    pub fn calibrate(
        &self,
        on_progress: impl Fn(LongProgress) -> bool + Sync,
    ) -> Result<Reliability, ApiError> {
        let folder = self.loaded().ok_or_else(no_model)?.folder;
        let how = lock(&self.shared.model).quantization;
        let step = "Asking about drawn pictures whose truth is known";
        let calibration = self.long(step, on_progress, |progress, cancel| {
            eval::calibrate(&folder, (N_CALIBRATION_SCENES, how), progress, cancel)
        })?;
        keep(&folder, how, &calibration)?;
        self.open_model(&folder)?;
        self.reliability()
    }

    /// Measures the evidence of the loaded model, in minutes, beside the model that answers;
    /// blocks until it is done.
    pub fn measure_evidence(
        &self,
        on_progress: impl Fn(LongProgress) -> bool + Sync,
    ) -> Result<Reliability, ApiError> {
        let folder = self.loaded().ok_or_else(no_model)?.folder;
        let quantization = lock(&self.shared.model).quantization;
        let step = "Asking, covering and asking again";
        self.long(step, on_progress, |progress, cancel| {
            let wanted = Wanted { n_scenes: N_MEASURED, quantization, fresh: true };
            eval::evidence(&folder, wanted, progress, cancel)
        })?;
        self.reliability()
    }

    /// Whether regions may be shown that no test has confirmed.
    pub(crate) fn shows_maps(&self) -> bool {
        self.loaded().is_none_or(|loaded| loaded.maps)
    }

    /// Something that takes minutes, with what is known of its end; `cancel_measuring` stops it.
    fn long<T>(
        &self,
        step: &str,
        on_progress: impl Fn(LongProgress) -> bool + Sync,
        work: impl FnOnce(&(dyn Fn(u64, u64) + Sync), &Cancel) -> Result<T, eval::Error>,
    ) -> Result<T, ApiError> {
        let (cancel, begun) = (Cancel::new(), Instant::now());
        if let Some(running) = lock(&self.shared.measuring).replace(cancel.clone()) {
            running.cancel();
        }
        let progress = |done: u64, all: u64| {
            let each = begun.elapsed().as_secs_f32() / done.max(1) as f32;
            let seconds_left = (done > 2).then_some(each * all.saturating_sub(done) as f32);
            let (done, all) = (done as u32, all as u32);
            if !on_progress(LongProgress { step: step.to_string(), done, all, seconds_left }) {
                cancel.cancel();
            }
        };
        work(&progress, &cancel).map_err(|error| match error {
            eval::Error::Vlm(error) => api_error(&error),
            eval::Error::Cancelled => failure("cancelled", "it was stopped", ""),
            error => failure("measuring", error.to_string(), "Try it again."),
        })
    }
}

/// Where loading the model finds it again.
fn keep(folder: &Path, how: Quantization, calibration: &Calibration) -> Result<(), ApiError> {
    let failed = |message: String| {
        failure("calibration_unkept", message, "Check that the cache folder can be written.")
    };
    let path = eval::evidence::cached_at(folder, how).map_err(|error| failed(error.to_string()))?;
    let Some(path) = path else {
        return Err(failed("there is no cache folder for the calibration".into()));
    };
    let text = calibration.to_json().map_err(|error| api_error(&error))?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    eval::stored::write(&path, &value).map_err(|error| {
        failed(format!("the calibration cannot be kept in {}: {error}", path.display()))
    })
}

fn figures(report: &Report) -> Vec<EvidenceFigure> {
    let figure = |(name, metric): (&str, &eval::Metric)| EvidenceFigure {
        name: name.to_string(),
        title: title(name).to_string(),
        value: metric.value,
        n: metric.n as u32,
        interval: metric.value.map(|_| metric.interval),
        baseline: Some(metric.baseline),
        demand: metric.demand.as_ref().map(|bound| match bound {
            eval::Bound::At(bound) => *bound,
            eval::Bound::Between([low, _]) => *low,
        }),
        holds: metric.holds,
    };
    report.rows().map(figure).collect()
}

fn title(name: &str) -> &str {
    match name {
        "pointing_tier0" => "The strongest point lies on the named thing",
        "box_acc50" => "The box overlaps the thing by half",
        "held_out_drop_points" => "Points lost on kinds it was not taught to point at",
        "flip_tier0" => "The answer changes without its region",
        "flip_tier2" => "The same, with the region of a thorough test",
        "flip_random" => "The same, with a region at random",
        "insertion_deletion_tier0" => "Words return with their region sooner than they go",
        "insertion_deletion_tier2" => "The same, with the map of a thorough test",
        "spearman_tier0" => "The map agrees with taking things out of the drawing",
        "spearman_tier2" => "The same, with the map of a thorough test",
        "stratified_auroc_tier0" => "True and false words are told apart as they are written",
        "stratified_auroc_tier1" => "True and false things are told apart by a check",
        "stratified_auroc_tier1_attribute" => "The same for attributes",
        "stratified_auroc_tier1_count" => "The same for counts",
        "stratified_auroc_tier1_relation" => "The same for relations",
        "ece_in_distribution" => "Stated and true probability differ by",
        "ece_degraded" => "The same on damaged pictures",
        "chair_i_cut" => "Wrong things struck from captions",
        "overhead_tier0" => "Time that regions cost while answering",
        "overhead_tier1" => "Time that a check costs",
        other => other,
    }
}

/// "Words marked like this were wrong 8 times in 10, of 412 tested."
fn says(counted: &Counted) -> String {
    let Counted { n, wrong, .. } = *counted;
    let times = match wrong {
        w if w <= 0.0 => "never wrong".to_string(),
        w if w < 0.095 => format!("wrong {} in 100", times((100.0 * w).round().max(1.0))),
        w if w >= 0.995 => "always wrong".to_string(),
        w => format!("wrong {} in 10", times((10.0 * w).round())),
    };
    format!("Words marked like this were {times}, of {n} tested.")
}

fn times(count: f32) -> String {
    if count == 1.0 { "once".into() } else { format!("{count} times") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_marks_are_worth_is_said_in_words() {
        for (wrong, expected) in [
            (0.81, "wrong 8 times in 10"),
            (0.02, "wrong 2 times in 100"),
            (0.1, "wrong once in 10"),
            (0.001, "wrong once in 100"),
            (0.0, "never wrong"),
            (1.0, "always wrong"),
        ] {
            let said = says(&Counted { n: 412, wrong, beats_chance: true });
            assert_eq!(said, format!("Words marked like this were {expected}, of 412 tested."));
        }
    }
}
