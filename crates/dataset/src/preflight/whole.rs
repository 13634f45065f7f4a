//! All rows together: duplicates, contradictions, what both sides share, and how answers are
//! spread.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::picture::{Fingerprint, fingerprint};
use crate::row::{MARK, Origin, Place, Role, Row, Split};
use crate::{Finding, Kind, Repair, Severity};

use super::{finding, severity};

/// Fewer answers say nothing about how they are spread.
const MIN_ANSWERS: usize = 10;
/// This share of one answer can be learned without a look.
const COMMON: f64 = 0.5;
/// Rows of the largest class for each of the smallest.
const IMBALANCED: usize = 10;
const MAX_CLASSES: usize = 50;
/// An answer of so few words names a class; a longer one that appears twice was copied.
const CLASS_WORDS: usize = 3;

/// The rows with what was seen of their pictures.
pub(crate) struct Whole<'a> {
    pub rows: &'a [Row],
    pub splits: &'a [Split],
    /// Of the pictures of each row that open.
    pub fingerprints: &'a [Vec<Fingerprint>],
}

impl Whole<'_> {
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = self.copies();
        findings.extend(self.pictures_on_both_sides());
        findings.extend(self.leaks());
        findings.extend(self.spread());
        findings
    }

    fn side(&self, idx: usize) -> Split {
        let given = self.splits.get(idx).copied();
        given.or(self.rows[idx].split).unwrap_or(Split::Train)
    }

    fn say(&self, idx: usize, kind: Kind, message: String, repair: Option<Repair>) -> Finding {
        finding(&self.rows[idx], idx, kind, message, repair)
    }

    /// What a row shows and asks; with its last answer, or without it.
    fn key(&self, idx: usize, with_answer: bool) -> Fingerprint {
        let messages = &self.rows[idx].messages;
        let n = if with_answer { messages.len() } else { messages.len().saturating_sub(1) };
        let mut bytes = self.fingerprints[idx].concat();
        for message in &messages[..n] {
            bytes.extend(message.role.name().bytes());
            bytes.extend(plain(&message.text).bytes());
            bytes.push(0);
        }
        fingerprint(&bytes)
    }

    /// Duplicates, and one question with two answers.
    fn copies(&self) -> Vec<Finding> {
        let (mut rows, mut questions) = (HashMap::new(), HashMap::new());
        let mut findings = Vec::new();
        for (idx, row) in self.rows.iter().enumerate() {
            if self.fingerprints[idx].len() != row.pictures.len() {
                continue;
            }
            match rows.entry(self.key(idx, true)) {
                Entry::Vacant(place) => _ = place.insert(idx),
                Entry::Occupied(first) => {
                    let first = *first.get();
                    let worse = (&self.rows[first].rejected, &row.rejected);
                    if worse.0.is_none() || worse.1.is_none() || worse.0 == worse.1 {
                        let message = format!("the same as {}", self.rows[first].origin);
                        let merge = Some(Repair::MergeInto(first));
                        findings.push(self.say(idx, Kind::Duplicate, message, merge));
                    }
                    continue;
                }
            }
            let Some(answer) = row.answer().map(plain).filter(|answer| is_class(answer)) else {
                continue;
            };
            match questions.entry(self.key(idx, false)) {
                Entry::Vacant(place) => _ = place.insert((idx, answer)),
                Entry::Occupied(first) => {
                    let (first, other) = first.get();
                    let place = &self.rows[*first].origin;
                    let message = format!("the answer is “{answer}” here and “{other}” at {place}");
                    findings.push(self.say(idx, Kind::Contradiction, message, None));
                }
            }
        }
        findings
    }

    fn pictures_on_both_sides(&self) -> Vec<Finding> {
        let on_side = |side: Split| (0..self.rows.len()).filter(move |idx| self.side(*idx) == side);
        let mut trained: HashMap<&Fingerprint, usize> = HashMap::new();
        for idx in on_side(Split::Train) {
            for print in &self.fingerprints[idx] {
                trained.entry(print).or_insert(idx);
            }
        }
        let shared =
            |idx: usize| self.fingerprints[idx].iter().find_map(|print| trained.get(print));
        let rows = on_side(Split::HeldOut).filter_map(|idx| Some((idx, *shared(idx)?)));
        let tell = |(idx, other): (usize, usize)| {
            let place = &self.rows[other].origin;
            let message = format!("held out, and its picture is trained on at {place}");
            self.say(idx, Kind::PictureOnBothSides, message, Some(Repair::Move(Split::Train)))
        };
        rows.map(tell).collect()
    }

    /// Held-out rows whose question and answer are trained on, word by word. With short answers
    /// that is what a question is like ("What colour is it?", "red"), and told once for all.
    fn leaks(&self) -> Vec<Finding> {
        let pair = |idx: usize| {
            let row = &self.rows[idx];
            let asked = row.messages.iter().rfind(|message| message.role == Role::User)?;
            let text = format!("{}\0{}", plain(&asked.text), plain(row.answer()?));
            Some(fingerprint(text.as_bytes()))
        };
        let all = 0..self.rows.len();
        let trained = all.clone().filter(|idx| self.side(*idx) == Split::Train);
        let trained: HashSet<Fingerprint> = trained.filter_map(pair).collect();
        let held_out: Vec<usize> = all.filter(|idx| self.side(*idx) == Split::HeldOut).collect();
        let leaks = held_out.iter().copied();
        let leaks = leaks.filter(|idx| pair(*idx).is_some_and(|pair| trained.contains(&pair)));
        let is_copied = |idx: &usize| {
            let row = &self.rows[*idx];
            row.pictures.is_empty() || !row.answer().is_some_and(|answer| is_class(&plain(answer)))
        };
        let (copied, usual): (Vec<usize>, Vec<usize>) = leaks.partition(is_copied);
        let tell = |idx: usize| {
            let message = "held out, and its question and answer are trained on, word by word";
            self.say(idx, Kind::Leakage, message.into(), Some(Repair::Move(Split::Train)))
        };
        let mut findings: Vec<Finding> = copied.into_iter().map(tell).collect();
        if !usual.is_empty() {
            let message = format!(
                "{} of {} held-out questions with short answers are trained on with the same \
                 answer; a blind model can know them",
                usual.len(),
                held_out.len()
            );
            findings.extend(self.about_all(Severity::Note, Kind::Leakage, message));
        }
        findings
    }

    /// How the answers of the trained rows are spread.
    fn spread(&self) -> Vec<Finding> {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for (idx, row) in self.rows.iter().enumerate() {
            if let Some(answer) = row.answer().filter(|_| self.side(idx) == Split::Train) {
                *counts.entry(plain(answer)).or_default() += 1;
            }
        }
        let n: usize = counts.values().sum();
        let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let [(most, n_most), .., (least, n_least)] = counts.as_slice() else {
            return match counts.as_slice() {
                [(only, _)] if n >= MIN_ANSWERS => {
                    let message = format!("all {n} answers are “{}”; {BLIND}", short(only));
                    self.about_all(severity(Kind::CommonAnswer), Kind::CommonAnswer, message)
                }
                _ => Vec::new(),
            };
        };
        if n < MIN_ANSWERS {
            return Vec::new();
        }
        let mut findings = Vec::new();
        if *n_most as f64 >= COMMON * n as f64 {
            let message = format!("{n_most} of {n} answers are “{}”; {BLIND}", short(most));
            let kind = Kind::CommonAnswer;
            findings.extend(self.about_all(severity(kind), kind, message));
        }
        let are_classes = counts.len() <= MAX_CLASSES && counts.iter().all(|(a, _)| is_class(a));
        if are_classes && *n_most >= IMBALANCED * n_least {
            let message = format!(
                "“{}” has {n_most} rows and “{}” has {n_least}; more rows of the rare one help",
                short(most),
                short(least)
            );
            findings.extend(self.about_all(severity(Kind::Imbalance), Kind::Imbalance, message));
        }
        findings
    }

    fn about_all(&self, severity: Severity, kind: Kind, message: String) -> Vec<Finding> {
        let Some(first) = self.rows.first() else { return Vec::new() };
        let origin = Origin { file: Arc::clone(&first.origin.file), place: Place::Whole };
        vec![Finding { severity, kind, origin, row: None, message, repair: None }]
    }
}

const BLIND: &str = "that can be learned without looking";

/// A text as comparisons see it: without marks, case and layout.
fn plain(text: &str) -> String {
    let text = text.replace(MARK, " ").to_lowercase();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").trim_end_matches('.').to_owned()
}

fn is_class(answer: &str) -> bool {
    answer.split_whitespace().count() <= CLASS_WORDS
}

/// As much of an answer as a sentence can hold.
fn short(answer: &str) -> String {
    match answer.char_indices().nth(60) {
        None => answer.to_owned(),
        Some((end, _)) => format!("{}…", &answer[..end]),
    }
}
