//! Every row looked at before the first step, so that none stops a run at step 101.
//!
//! `rows` looks at each row alone, with its pictures decoded one by one; `whole` compares them
//! with each other by fingerprints, so that nothing large is kept.

mod rows;
mod whole;

use std::collections::HashMap;

use crate::picture::{Fingerprint, fingerprint};
use crate::{Error, Finding, Job, Kind, Picture, Repair, Row, Severity, Split};

pub(crate) use rows::fix_turns;

/// What pre-flight must know from its caller.
pub struct Check<'a> {
    /// A side for each row, as [`crate::split`] gives them.
    pub splits: &'a [Split],
    /// Tokens of a row as training will see it, with its pictures.
    pub n_tokens: &'a dyn Fn(&Row) -> Result<usize, String>,
    /// Most tokens that a row may have.
    pub limit: usize,
}

/// Everything that is wrong, in the order of the rows; what concerns all of them comes last.
///
/// Errors: only [`Error::Cancelled`].
pub fn preflight(rows: &[Row], check: &Check, job: Job) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let mut seen: HashMap<&Picture, Seen> = HashMap::new();
    let mut fingerprints = Vec::with_capacity(rows.len());
    for (idx, row) in rows.iter().enumerate() {
        job.step(idx as u64, rows.len() as u64)?;
        let before = findings.len();
        let say = &mut |kind, message: String, repair| {
            findings.push(finding(row, idx, kind, message, repair));
        };
        rows::check(row, say);
        let prints = pictures(row, &mut seen, say);
        let is_sound = !findings[before..].iter().any(|f: &Finding| f.severity == Severity::Error);
        if is_sound {
            findings.extend(length(row, idx, check));
        }
        fingerprints.push(prints);
    }
    let whole = whole::Whole { rows, splits: check.splits, fingerprints: &fingerprints };
    findings.extend(whole.findings());
    findings.sort_by_key(|finding| finding.row.unwrap_or(usize::MAX));
    job.step(rows.len() as u64, rows.len() as u64)?;
    Ok(findings)
}

/// What is known of a picture that was opened once.
type Seen = Result<Fingerprint, (Kind, String)>;

/// Fingerprints of those that open.
fn pictures<'a>(
    row: &'a Row,
    seen: &mut HashMap<&'a Picture, Seen>,
    say: &mut dyn FnMut(Kind, String, Option<Repair>),
) -> Vec<Fingerprint> {
    let mut prints = Vec::new();
    for picture in &row.pictures {
        match seen.entry(picture).or_insert_with(|| look(picture)) {
            Ok(print) => prints.push(*print),
            Err((kind, message)) => say(*kind, message.clone(), Some(Repair::Drop)),
        }
    }
    prints
}

fn look(picture: &Picture) -> Seen {
    if !picture.exists() {
        return Err((Kind::PictureMissing, format!("{picture} is not there")));
    }
    let broken = |error: Error| (Kind::PictureBroken, error.to_string());
    let bytes = picture.read().map_err(broken)?;
    picture.size_when_decoded(&bytes).map_err(broken)?;
    Ok(fingerprint(&bytes))
}

fn length(row: &Row, idx: usize, check: &Check) -> Option<Finding> {
    let (kind, message) = match (check.n_tokens)(row) {
        Ok(n) if n <= check.limit => return None,
        Ok(n) => (Kind::TooLong, format!("{n} tokens, and at most {} fit", check.limit)),
        Err(reason) => (Kind::LengthUnknown, format!("its length is not known: {reason}")),
    };
    Some(finding(row, idx, kind, message, Some(Repair::Drop)))
}

fn finding(row: &Row, idx: usize, kind: Kind, message: String, repair: Option<Repair>) -> Finding {
    let (severity, origin) = (severity(kind), row.origin.clone());
    Finding { severity, kind, origin, row: Some(idx), message, repair }
}

fn severity(kind: Kind) -> Severity {
    match kind {
        Kind::Untrimmed | Kind::Skipped => Severity::Note,
        Kind::Duplicate
        | Kind::Contradiction
        | Kind::Leakage
        | Kind::CommonAnswer
        | Kind::Imbalance
        | Kind::SamePair => Severity::Warning,
        _ => Severity::Error,
    }
}
