//! Does what findings propose.

use std::collections::HashSet;

use crate::preflight::fix_turns;
use crate::row::Row;
use crate::{Finding, Repair, marks};

/// Applies the repairs of these findings, all of them found in the same `rows`. A finding whose
/// row is no longer where it was found changes nothing.
pub fn repair(rows: &mut Vec<Row>, findings: &[Finding]) {
    let mut gone: HashSet<usize> = HashSet::new();
    let mut merges = Vec::new();
    for finding in findings {
        let Some((idx, repair)) = finding.row.zip(finding.repair.as_ref()) else { continue };
        let Some(row) = rows.get_mut(idx).filter(|row| row.origin == finding.origin) else {
            continue;
        };
        match repair {
            Repair::Drop => _ = gone.insert(idx),
            Repair::MergeInto(first) => merges.push((idx, *first)),
            Repair::FixMarks => marks::fix(&mut row.messages, row.pictures.len()),
            Repair::FixTurns => fix_turns(&mut row.messages),
            Repair::DropRejected => row.rejected = None,
            Repair::Move(side) => row.split = Some(*side),
            Repair::Trim => {
                for message in &mut row.messages {
                    message.text = message.text.trim().to_owned();
                }
            }
        }
    }
    for (idx, first) in merges {
        // Where the other one goes, this one stays.
        if first < idx && !gone.contains(&first) && !gone.contains(&idx) {
            let (rejected, split) = (rows[idx].rejected.take(), rows[idx].split);
            let kept = &mut rows[first];
            kept.rejected = kept.rejected.take().or(rejected);
            kept.split = kept.split.or(split);
            gone.insert(idx);
        }
    }
    let mut idx = 0..;
    rows.retain(|_| idx.next().is_none_or(|idx| !gone.contains(&idx)));
}
