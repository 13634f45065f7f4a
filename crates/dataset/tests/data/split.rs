//! Sides: the same picture never on both, stable, and about as many as was asked for.

use std::collections::HashMap;
use std::sync::Arc;

use dataset::{Job, Message, Origin, Picture, Place, Role, Row, Split, split};

use crate::png;

fn row(pictures: &[u8], text: &str, side: Option<Split>) -> Row {
    let pictures = pictures.iter().map(|n| Picture::Bytes(Arc::from(png(*n)))).collect();
    let messages = vec![Message::new(Role::User, text), Message::new(Role::Assistant, "yes")];
    let origin = Origin { file: Arc::new("here".into()), place: Place::Whole };
    Row { id: "x".into(), pictures, messages, rejected: None, split: side, origin }
}

fn sides(rows: &[Row], held_out: f64, seed: u64) -> Vec<Split> {
    split(rows, held_out, seed, Job::quiet()).expect("sides")
}

#[test]
fn a_picture_never_stands_on_both_sides() {
    // Rows chain pictures together: 0-1, 1-2, ... in blocks of four.
    let rows: Vec<Row> = (0..200u8)
        .map(|n| if n % 4 == 3 { row(&[n], "q", None) } else { row(&[n, n + 1], "q", None) })
        .collect();
    for seed in 0..20 {
        let sides = sides(&rows, 0.3, seed);
        let mut by_picture: HashMap<Vec<u8>, Split> = HashMap::new();
        for (row, side) in rows.iter().zip(&sides) {
            for picture in &row.pictures {
                let bytes = picture.read().expect("bytes");
                assert_eq!(by_picture.entry(bytes).or_insert(*side), side, "seed {seed}");
            }
        }
        let n_held_out = sides.iter().filter(|side| **side == Split::HeldOut).count();
        assert!((20..=100).contains(&n_held_out), "seed {seed}: {n_held_out}");
    }
}

#[test]
fn a_side_depends_on_the_picture_and_the_seed_alone() {
    let rows: Vec<Row> = (0..100).map(|n| row(&[n], "q", None)).collect();
    let first = sides(&rows, 0.5, 1);
    assert_eq!(first, sides(&rows, 0.5, 1));
    assert_ne!(first, sides(&rows, 0.5, 2));
    assert_eq!(first[..60], sides(&rows[..60], 0.5, 1), "rows that come later change nothing");
    let reversed: Vec<Row> = rows.iter().rev().cloned().collect();
    let mut reversed = sides(&reversed, 0.5, 1);
    reversed.reverse();
    assert_eq!(first, reversed);
}

#[test]
fn what_the_user_chose_is_kept_and_followed() {
    use Split::{HeldOut, Train};
    let mut rows: Vec<Row> = (0..20).map(|n| row(&[n], "q", None)).collect();
    rows[3].split = Some(HeldOut);
    rows.push(row(&[3], "another question", None));
    rows.push(row(&[5], "one", Some(Train)));
    rows.push(row(&[5], "two", Some(HeldOut)));
    for (held_out, others) in [(0.0, Train), (1.0, HeldOut)] {
        let sides = sides(&rows, held_out, 9);
        assert_eq!((sides[3], sides[20]), (HeldOut, HeldOut), "the same picture follows");
        assert_eq!((sides[21], sides[22], sides[5]), (Train, HeldOut, Train));
        assert!((6..20).all(|idx| sides[idx] == others));
    }
}

#[test]
fn no_side_is_empty_by_chance_and_texts_are_split_too() {
    let two = [row(&[1], "q", None), row(&[2], "q", None)];
    let texts: Vec<Row> = (0..40).map(|n| row(&[], &format!("{n}?"), None)).collect();
    for seed in 0..30 {
        for (rows, held_out) in [(&two[..], 0.05), (&two[..], 0.95), (&texts[..], 0.2)] {
            let sides = sides(rows, held_out, seed);
            assert!(sides.contains(&Split::Train) && sides.contains(&Split::HeldOut));
        }
    }
    assert!(sides(&[], 0.5, 1).is_empty());
}
