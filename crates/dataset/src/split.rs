//! Which rows are trained on and which are held out.
//!
//! A picture's side depends on nothing but its content and the seed, so that it stays where it is
//! when rows are added, and rows that share a picture share a side.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::picture::{Fingerprint, fingerprint};
use crate::{Error, Job, Picture, Row, Split};

/// A side for each row, about `held_out` of 1 held out.
///
/// Sides that rows already have are kept, and rows that share a picture with one of those follow
/// it; where two such sides meet, the rest is trained on and pre-flight tells of it. Content is
/// the bytes of the file: a copy in another format is another picture. What cannot be read is
/// told apart by its name.
///
/// Errors: only [`Error::Cancelled`].
pub fn split(rows: &[Row], held_out: f64, seed: u64, job: Job) -> Result<Vec<Split>, Error> {
    let mut groups = Groups::of(rows, job)?;
    let mut drawn: HashMap<usize, f64> = HashMap::new();
    let mut chosen: HashMap<usize, Split> = HashMap::new();
    for (idx, row) in rows.iter().enumerate() {
        let group = groups.root(idx);
        if let Some(side) = row.split {
            let known = chosen.entry(group).or_insert(side);
            if *known != side {
                *known = Split::Train;
            }
        }
        drawn.entry(group).or_insert_with(|| draw(&groups.keys[group], seed));
    }
    drawn.retain(|group, _| !chosen.contains_key(group));
    let mut sides: HashMap<usize, Split> =
        drawn.iter().map(|(group, at)| (*group, side(*at < held_out))).collect();
    fill_empty_side(&drawn, &mut sides, &chosen, held_out);
    sides.extend(chosen);
    let side = |(idx, row): (usize, &Row)| row.split.unwrap_or_else(|| sides[&groups.root(idx)]);
    Ok(rows.iter().enumerate().map(side).collect())
}

fn side(is_held_out: bool) -> Split {
    if is_held_out { Split::HeldOut } else { Split::Train }
}

/// With few pictures chance may leave a side empty; the next in line goes there.
fn fill_empty_side(
    drawn: &HashMap<usize, f64>,
    sides: &mut HashMap<usize, Split>,
    chosen: &HashMap<usize, Split>,
    held_out: f64,
) {
    if held_out <= 0.0 || held_out >= 1.0 || drawn.len() < 2 {
        return;
    }
    let order = |a: &(&usize, &f64), b: &(&usize, &f64)| a.1.total_cmp(b.1).then(a.0.cmp(b.0));
    let has = |sides: &HashMap<usize, Split>, side: Split| {
        sides.values().chain(chosen.values()).any(|other| *other == side)
    };
    if !has(sides, Split::HeldOut) {
        drawn.iter().min_by(order).map(|(group, _)| sides.insert(*group, Split::HeldOut));
    } else if !has(sides, Split::Train) {
        drawn.iter().max_by(order).map(|(group, _)| sides.insert(*group, Split::Train));
    }
}

/// Between 0 and 1, as the content and the seed will have it.
fn draw(key: &Fingerprint, seed: u64) -> f64 {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(key).finalize();
    let head = digest.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    (head >> 11) as f64 / (1u64 << 53) as f64
}

/// Rows that hang together by their pictures.
struct Groups {
    parents: Vec<usize>,
    /// For the root of each group its smallest fingerprint, which is the same in whatever order
    /// the rows come.
    keys: Vec<Fingerprint>,
}

impl Groups {
    fn of(rows: &[Row], job: Job) -> Result<Groups, Error> {
        let mut groups =
            Groups { parents: (0..rows.len()).collect(), keys: Vec::with_capacity(rows.len()) };
        let mut first_with: HashMap<Fingerprint, usize> = HashMap::new();
        let mut known: HashMap<&Picture, Fingerprint> = HashMap::new();
        let mut links = Vec::new();
        for (idx, row) in rows.iter().enumerate() {
            job.step(idx as u64, rows.len() as u64)?;
            let content = |picture| *known.entry(picture).or_insert_with(|| content(picture));
            let mut prints: Vec<Fingerprint> = row.pictures.iter().map(content).collect();
            if prints.is_empty() {
                prints.push(fingerprint(question(row).as_bytes()));
            }
            for print in &prints {
                links.push((*first_with.entry(*print).or_insert(idx), idx));
            }
            groups.keys.push(prints.into_iter().min().unwrap_or_default());
        }
        for (a, b) in links {
            groups.join(a, b);
        }
        Ok(groups)
    }

    fn root(&mut self, mut idx: usize) -> usize {
        while self.parents[idx] != idx {
            self.parents[idx] = self.parents[self.parents[idx]];
            idx = self.parents[idx];
        }
        idx
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        let key = self.keys[a].min(self.keys[b]);
        self.parents[b] = a;
        self.keys[a] = key;
    }
}

fn content(picture: &Picture) -> Fingerprint {
    picture.read().map_or_else(|_| fingerprint(picture.to_string().as_bytes()), |b| fingerprint(&b))
}

/// What a row without pictures is told by: all but the answers.
fn question(row: &Row) -> String {
    let asked = row.messages.iter().filter(|message| message.role != crate::Role::Assistant);
    asked.map(|message| message.text.as_str()).collect::<Vec<_>>().join("\n")
}
