//! Keeps reports: what took minutes is shown again in milliseconds, as stored.
//!
//! A report is found beside the model (`eval.json`) or in the user's cache folder, and counts only
//! for the very model and seeds it was measured with. Losing one loses nothing but time.

use crate::Error;
use crate::nano::Sample;
use crate::nano::report::{Measured, Report};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Raised when a figure's definition changes: reports from before then do not count.
const DEFINITION: &str = "2";

/// What a report is filed under: the model's files, the definition of the figures.
pub fn model_key(model_dir: &Path) -> Result<String, Error> {
    let mut hash = Sha256::new();
    hash.update(DEFINITION);
    for path in model_files(model_dir)? {
        let read = |source| Error::Read { path: path.clone(), source };
        hash.update(path.strip_prefix(model_dir).unwrap_or(&path).to_string_lossy().as_bytes());
        hash.update(std::fs::read(&path).map_err(read)?);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Everything that decides an answer: settings, vocabulary, weights.
fn model_files(model_dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for dir in [model_dir.to_path_buf(), model_dir.join("region")] {
        if !dir.is_dir() && dir != model_dir {
            continue;
        }
        let read = |source| Error::Read { path: dir.clone(), source };
        for entry in std::fs::read_dir(&dir).map_err(read)? {
            let path = entry.map_err(read)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let decides = [".json", ".safetensors", ".jinja"].iter().any(|end| name.ends_with(end));
            if decides && name != "eval.json" {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The report of an earlier run on this model and these seeds, marked as stored.
pub fn find(model_dir: &Path, model: &str, sample: &Sample) -> Option<Report> {
    let kept = [Some(model_dir.join("eval.json")), cache_file(model, sample)];
    let fits = |report: &Report| {
        let Measured { first_seed, n_scenes, held_out_style, .. } = report.measured;
        let seeds = first_seed..first_seed + n_scenes;
        report.measured.model == model && Sample { seeds, held_out_style } == *sample
    };
    let read = |path: PathBuf| serde_json::from_slice::<Report>(&std::fs::read(path).ok()?).ok();
    let reports = kept.into_iter().flatten().filter_map(read).filter(fits);
    let mut newest = reports.max_by(|a, b| a.measured.date.cmp(&b.measured.date))?;
    newest.measured.stored = true;
    Some(newest)
}

/// Keeps a report in the cache folder. A disk that refuses costs only the next run's time.
pub fn keep(report: &Report, sample: &Sample) {
    let Some(path) = cache_file(&report.measured.model, sample) else { return };
    let Ok(text) = serde_json::to_vec_pretty(report) else { return };
    let Some(folder) = path.parent() else { return };
    let beside = path.with_extension("part");
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&beside, text))
        .and_then(|()| std::fs::rename(&beside, &path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
}

/// Where such a report lies in the user's cache folder.
fn cache_file(model: &str, Sample { seeds, held_out_style }: &Sample) -> Option<PathBuf> {
    let style = if *held_out_style { "-style" } else { "" };
    let name = format!("nano-{}-{}-{}{style}.json", model.get(..16)?, seeds.start, seeds.end);
    Some(vlm::cache_folder()?.join("eval").join(name))
}

/// Program version, the checkout's commit where the model lies in one, the machine.
pub fn build(model_dir: &Path) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let machine = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    match commit(model_dir) {
        Some(commit) => format!("{version} ({commit}, {machine})"),
        None => format!("{version} ({machine})"),
    }
}

/// The short commit of the checkout around `inside`, read from git's own files.
fn commit(inside: &Path) -> Option<String> {
    let inside = std::path::absolute(inside).ok()?;
    let git = inside.ancestors().map(|dir| dir.join(".git")).find(|git| git.is_dir())?;
    let head = std::fs::read_to_string(git.join("HEAD")).ok()?;
    let head = head.trim();
    let commit = match head.strip_prefix("ref: ") {
        Some(reference) => std::fs::read_to_string(git.join(reference)).ok()?,
        None => head.to_owned(),
    };
    commit.get(..10).map(str::to_owned)
}

/// Now, as "2026-01-31T12:00:00Z".
pub fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    date(seconds)
}

/// Howard Hinnant's civil-from-days, for dates after 1970.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendar_s() {
        let rows = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
        ];
        for (seconds, expected) in rows {
            assert_eq!(date(seconds), expected);
        }
    }
}
