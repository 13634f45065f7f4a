//! Keeps reports: what took minutes is shown again in milliseconds, as stored.
//!
//! A report is found beside the model or in the user's cache folder, and counts only for the very
//! model and seeds it was measured with. Losing one loses nothing but time.

use crate::{Error, Sample};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reports that lie beside models, which they describe and do not decide.
const BESIDE: [&str; 3] = ["eval.json", "quantization.json", "evidence-eval.json"];

/// A report that can be kept.
pub trait Stored: Serialize + DeserializeOwned {
    /// What its files in the cache folder are called after.
    const NAME: &str;
    /// Its file beside a model.
    const BESIDE: &str;
    /// Raised when a figure's definition changes: reports from before then do not count.
    const DEFINITION: &str;

    fn measured(&self) -> &Measured;
    fn measured_mut(&mut self) -> &mut Measured;
}

/// When, how and on what a report was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// UTC, as "2026-01-31T12:00:00Z".
    pub date: String,
    /// Program version, commit where known, machine.
    pub build: String,
    /// First scene seed.
    pub first_seed: u64,
    /// Number of scenes.
    pub n_scenes: u64,
    /// Whether they were drawn in the style that no training scene shows.
    #[serde(default)]
    pub held_out_style: bool,
    /// SHA-256 over the model's files.
    pub model: String,
    /// Wall time of the measurement.
    pub seconds: f64,
    /// Whether this was read from an earlier run.
    pub stored: bool,
}

#[cfg(test)]
impl Measured {
    /// What the tests of reports are measured by.
    pub(crate) fn example() -> Measured {
        Measured {
            date: "2026-01-31T12:00:00Z".into(),
            build: "0.1.0".into(),
            first_seed: 0,
            n_scenes: 2,
            held_out_style: false,
            model: "abc".into(),
            seconds: 1.0,
            stored: false,
        }
    }
}

impl Measured {
    /// A measurement of the model with this key, begun then and ended now.
    pub(crate) fn now(
        model_dir: &Path,
        sample: &Sample,
        (key, started): (String, Instant),
    ) -> Measured {
        Measured {
            date: now(),
            build: build(model_dir),
            first_seed: sample.seeds.start,
            n_scenes: sample.seeds.end - sample.seeds.start,
            held_out_style: sample.held_out_style,
            model: key,
            seconds: started.elapsed().as_secs_f64(),
            stored: false,
        }
    }

    fn sample(&self) -> Sample {
        let seeds = self.first_seed..self.first_seed + self.n_scenes;
        Sample { seeds, held_out_style: self.held_out_style }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measured { date, build, first_seed, n_scenes, seconds, stored, .. } = self;
        let style = if self.held_out_style { ", held-out style" } else { "" };
        let how = if *stored { "Stored" } else { "Measured now" };
        let last = first_seed + n_scenes;
        let on = format!("seeds {first_seed}..{last}{style}");
        write!(f, "{how}: {date}, build {build}, {on}, {seconds:.0} s")?;
        if *stored {
            write!(f, " (--fresh measures again)")?;
        }
        Ok(())
    }
}

/// What a report is filed under: the model's files, the definition of the figures.
pub fn model_key<T: Stored>(model_dir: &Path) -> Result<String, Error> {
    key(T::DEFINITION, model_dir)
}

/// What is filed by the model's files alone.
pub(crate) fn files_key(model_dir: &Path) -> Result<String, Error> {
    key("", model_dir)
}

/// Models below this are read anew each time, which takes a moment.
const LARGE: u64 = 64 << 20;

fn key(definition: &str, model_dir: &Path) -> Result<String, Error> {
    let files = model_files(model_dir)?;
    let size: u64 = files.iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum();
    let kept = if size < LARGE { None } else { in_cache("keys", &files, definition) };
    once(kept.as_deref(), || read_key(definition, (model_dir, &files)))
}

/// What is kept in a file, or what `find` finds, which is kept there from then on.
///
/// # Errors
/// As `find`.
pub(crate) fn once<T: Serialize + DeserializeOwned>(
    kept: Option<&Path>,
    find: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let read = |path: &Path| serde_json::from_slice(&std::fs::read(path).ok()?).ok();
    if let Some(known) = kept.and_then(read) {
        return Ok(known);
    }
    let found = find()?;
    if let Some(path) = kept {
        // A disk that refuses costs only the next call's time.
        let _ = write(path, &found);
    }
    Ok(found)
}

fn read_key(definition: &str, (model_dir, files): (&Path, &[PathBuf])) -> Result<String, Error> {
    let mut hash = Sha256::new();
    hash.update(definition);
    let mut chunk = vec![0; 1 << 20];
    for path in files {
        let read = |source| Error::Read { path: path.clone(), source };
        hash.update(path.strip_prefix(model_dir).unwrap_or(path).to_string_lossy().as_bytes());
        let mut file = std::fs::File::open(path).map_err(read)?;
        loop {
            match file.read(&mut chunk).map_err(read)? {
                0 => break,
                n => hash.update(&chunk[..n]),
            }
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Where what is known of these very files lies, told by their names, sizes and times of change;
/// `what` tells it from what else is known of them.
pub(crate) fn in_cache(folder: &str, files: &[PathBuf], what: &str) -> Option<PathBuf> {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    for path in files {
        let about = std::fs::metadata(path).ok()?;
        (std::path::absolute(path).ok()?, about.len(), about.modified().ok()?).hash(&mut hasher);
    }
    Some(vlm::cache_folder()?.join(folder).join(format!("{:016x}.json", hasher.finish())))
}

/// Everything that decides an answer: settings, vocabulary, weights.
pub(crate) fn model_files(model_dir: &Path) -> Result<Vec<PathBuf>, Error> {
    if model_dir.is_file() {
        return Ok(vlm::Checkpoint::open(model_dir)?.gguf_files());
    }
    let mut found = Vec::new();
    for dir in [model_dir.to_path_buf(), model_dir.join("region")] {
        if !dir.is_dir() && dir != model_dir {
            continue;
        }
        let read = |source| Error::Read { path: dir.clone(), source };
        for entry in std::fs::read_dir(&dir).map_err(read)? {
            let path = entry.map_err(read)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let ends = [".json", ".safetensors", ".jinja", ".gguf"];
            let decides = ends.iter().any(|end| name.ends_with(end));
            if decides && !BESIDE.contains(&name.as_str()) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The newest report of an earlier run on this model and these seeds, marked as stored.
pub fn find<T: Stored>(model_dir: &Path, key: &str, sample: &Sample) -> Option<T> {
    choose(candidates::<T>(model_dir), |measured| {
        measured.model == key && measured.sample() == *sample
    })
}

/// The report on this model that rests on most scenes, the newest of several, marked as stored.
pub fn best<T: Stored>(model_dir: &Path) -> Option<T> {
    let candidates = candidates::<T>(model_dir);
    // A large model's key takes seconds; most have no report.
    if candidates.is_empty() {
        return None;
    }
    let key = model_key::<T>(model_dir).ok()?;
    choose(candidates, |measured| measured.model == key)
}

fn choose<T: Stored>(reports: Vec<T>, fits: impl Fn(&Measured) -> bool) -> Option<T> {
    let fitting = reports.into_iter().filter(|report| fits(report.measured()));
    let rank = |report: &T| (report.measured().n_scenes, report.measured().date.clone());
    let mut report = fitting.max_by_key(rank)?;
    report.measured_mut().stored = true;
    Some(report)
}

/// Every report of this kind that can be read: the one beside the model and those in the cache.
fn candidates<T: Stored>(model_dir: &Path) -> Vec<T> {
    let cached = cache_dir().and_then(|dir| std::fs::read_dir(dir).ok());
    let cached = cached.into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&format!("{}-", T::NAME)) && name.ends_with(".json")
    });
    let read = |path: PathBuf| serde_json::from_slice(&std::fs::read(path).ok()?).ok();
    [model_dir.join(T::BESIDE)].into_iter().chain(cached).filter_map(read).collect()
}

/// Keeps a report in the cache folder. A disk that refuses costs only the next run's time.
pub fn keep<T: Stored>(report: &T) {
    let Some(path) = cache_file::<T>(report.measured()) else { return };
    let _ = write(&path, report);
}

/// Writes a small file of JSON whole or not at all, and the folder that it lies in.
///
/// # Errors
/// A disk that refuses.
pub fn write(path: &Path, content: &impl Serialize) -> std::io::Result<()> {
    let text = serde_json::to_vec_pretty(content)?;
    let part = path.with_extension(format!("{}.part", std::process::id()));
    let written = std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))
        .and_then(|()| std::fs::write(&part, text))
        .and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written
}

/// Where such a report lies in the user's cache folder.
fn cache_file<T: Stored>(measured: &Measured) -> Option<PathBuf> {
    let Sample { seeds, held_out_style } = measured.sample();
    let style = if held_out_style { "-style" } else { "" };
    let model = measured.model.get(..16)?;
    let name = format!("{}-{model}-{}-{}{style}.json", T::NAME, seeds.start, seeds.end);
    Some(cache_dir()?.join(name))
}

fn cache_dir() -> Option<PathBuf> {
    Some(vlm::cache_folder()?.join("eval"))
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

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Figures(Measured);

    impl Stored for Figures {
        const NAME: &str = "figures";
        const BESIDE: &str = "eval.json";
        const DEFINITION: &str = "1";

        fn measured(&self) -> &Measured {
            &self.0
        }

        fn measured_mut(&mut self) -> &mut Measured {
            &mut self.0
        }
    }

    #[test]
    fn of_several_reports_the_one_on_most_scenes_counts_then_the_newest() {
        let report = |date: &str, n_scenes, model: &str| {
            Figures(Measured {
                date: date.into(),
                build: String::new(),
                first_seed: 0,
                n_scenes,
                held_out_style: false,
                model: model.into(),
                seconds: 1.0,
                stored: false,
            })
        };
        let reports = vec![
            report("2026-01-02", 2, "a"),
            report("2026-01-01", 300, "a"),
            report("2026-01-03", 300, "a"),
            report("2026-01-09", 999, "b"),
        ];
        let best = choose(reports.clone(), |measured| measured.model == "a").expect("a report");
        assert_eq!((best.0.date.as_str(), best.0.stored), ("2026-01-03", true));
        assert_eq!(choose(reports, |measured| measured.model == "c"), None);
    }

    #[test]
    fn a_report_beside_a_model_does_not_make_it_another_one() {
        let dir = std::env::temp_dir().join(format!("sightline-key-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("a file");
        let key = || model_key::<Figures>(&dir).expect("a key");
        write("config.json", "{}");
        let before = key();
        write("quantization.json", "{}");
        write("eval.json", "{}");
        write("evidence-eval.json", "{}");
        assert_eq!(key(), before);
        write("config.json", "{ }");
        assert_ne!(key(), before);
        let _ = std::fs::remove_dir_all(&dir);
    }

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
