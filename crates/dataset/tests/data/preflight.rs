//! Pre-flight: everything that can be wrong with a row, what mends it, and that it is mended.

use std::cell::Cell;
use std::sync::Arc;

use dataset::{
    Check, Error, Finding, Job, Kind, Message, Origin, Picture, Place, Repair, Role, Row, Severity,
    Split, preflight, repair,
};

use crate::{folder, png};
use Role::{Assistant, System, User};

/// As many tokens as letters.
fn n_letters(row: &Row) -> Result<usize, String> {
    let text: String = row.messages.iter().map(|message| message.text.as_str()).collect();
    if text.contains("unknowable") { Err("nobody knows".into()) } else { Ok(text.len()) }
}

fn check(rows: &[Row]) -> Vec<Finding> {
    let splits: Vec<Split> = rows.iter().map(|row| row.split.unwrap_or(Split::Train)).collect();
    let check = Check { splits: &splits, n_tokens: &n_letters, limit: 200 };
    preflight(rows, &check, Job::quiet()).expect("findings")
}

fn row(pictures: &[Picture], turns: &[(Role, &str)]) -> Row {
    thread_local!(static LINE: Cell<usize> = const { Cell::new(0) });
    let line = LINE.with(|line| line.replace(line.get() + 1) + 1);
    let messages = turns.iter().map(|(role, text)| Message::new(*role, *text)).collect();
    let origin = Origin { file: Arc::new("rows.jsonl".into()), place: Place::Line(line) };
    let (id, pictures) = (line.to_string(), pictures.to_vec());
    Row { id, pictures, messages, rejected: None, split: None, origin }
}

fn picture(number: u8) -> Picture {
    Picture::Bytes(Arc::from(png(number)))
}

/// The one thing that is wrong with a row, and that its repair mends it.
fn mends(row: Row, kind: Kind, by: Repair) {
    let mut rows = vec![row];
    let findings = check(&rows);
    assert_eq!(findings.len(), 1, "{kind:?}: {findings:?}");
    let finding = &findings[0];
    assert_eq!((finding.kind, &finding.repair), (kind, &Some(by.clone())), "{}", finding.message);
    assert_eq!((finding.row, &finding.origin), (Some(0), &rows[0].origin));
    repair(&mut rows, &findings);
    assert_eq!(rows.is_empty(), by == Repair::Drop, "{kind:?}");
    assert!(check(&rows).is_empty(), "{kind:?}: {:?}", check(&rows));
}

#[test]
fn each_fault_of_a_picture_is_found_and_mended() {
    let folder = folder(&[("empty.png", b""), ("junk.jpg", b"junk"), ("cut.png", &png(1)[..60])]);
    let file = |name: &str| Picture::File(folder.path().join(name));
    let junk = Arc::new(folder.path().join("junk.jpg"));
    let ask = [(User, "<image>Who is this?"), (Assistant, "A cat")];
    mends(row(&[file("gone.png")], &ask), Kind::PictureMissing, Repair::Drop);
    let past_the_end = Picture::Slice { file: junk, offset: 1, length: 9 };
    for broken in [file("empty.png"), file("junk.jpg"), file("cut.png"), past_the_end] {
        mends(row(&[broken], &ask), Kind::PictureBroken, Repair::Drop);
    }
    let late = [(User, "<image>A?"), (Assistant, "B<image>")];
    mends(row(&[picture(1), picture(2)], &ask), Kind::Marks, Repair::FixMarks);
    mends(row(&[], &ask), Kind::Marks, Repair::FixMarks);
    mends(row(&[picture(1)], &late), Kind::Marks, Repair::FixMarks);
}

#[test]
fn each_fault_of_a_text_is_found_and_mended() {
    let long = "long ".repeat(50);
    let long = long.trim();
    type Turns<'a> = &'a [(Role, &'a str)];
    let rows: &[(Turns, Kind, Repair)] = &[
        (&[(User, "A?"), (User, "B?"), (Assistant, "C")], Kind::Roles, Repair::FixTurns),
        (
            &[(System, "S"), (Assistant, "Hello"), (User, "A?"), (Assistant, "C")],
            Kind::Roles,
            Repair::FixTurns,
        ),
        (&[(Assistant, "C")], Kind::Roles, Repair::Drop),
        (&[(User, "A?"), (System, "S"), (Assistant, "C")], Kind::Roles, Repair::Drop),
        (&[], Kind::Roles, Repair::Drop),
        (&[(User, "A?"), (Assistant, "B"), (User, "C?")], Kind::NoAnswer, Repair::FixTurns),
        (&[(User, "A?")], Kind::NoAnswer, Repair::Drop),
        (&[(User, "A?"), (Assistant, " ")], Kind::EmptyAnswer, Repair::Drop),
        (&[(User, "A?"), (Assistant, "B\n")], Kind::Untrimmed, Repair::Trim),
        (&[(User, long), (Assistant, "B")], Kind::TooLong, Repair::Drop),
        (&[(User, "unknowable"), (Assistant, "B")], Kind::LengthUnknown, Repair::Drop),
    ];
    for (turns, kind, by) in rows {
        mends(row(&[], turns), *kind, by.clone());
    }
    let same = Row { rejected: Some("B ".into()), ..row(&[], &[(User, "A?"), (Assistant, "B")]) };
    mends(same, Kind::SamePair, Repair::DropRejected);
}

#[test]
fn rows_are_compared_with_each_other() {
    let ask = |n: u8, question: &str, answer: &str| {
        row(&[picture(n)], &[(User, &format!("<image>{question}")), (Assistant, answer)])
    };
    let side = |row: Row, side: Split| Row { split: Some(side), ..row };
    let mut rows = vec![
        ask(1, "Who?", "a cat"),
        ask(2, "Who?", "a dog"),
        Row { rejected: Some("a cup".into()), ..ask(1, " WHO?", "A cat.") },
        ask(1, "Who?", "a cow"),
        side(ask(2, "What for?", "to play"), Split::HeldOut),
        side(ask(3, "What does it do?", "it sleeps on the sofa"), Split::HeldOut),
        ask(4, "What does it do?", "It sleeps on the sofa."),
        side(ask(5, "Who?", "a dog"), Split::HeldOut),
    ];
    let findings = check(&rows);
    let found: Vec<_> = findings.iter().map(|f| (f.row, f.kind, f.repair.clone())).collect();
    let train = Some(Repair::Move(Split::Train));
    assert_eq!(
        found,
        [
            (Some(2), Kind::Duplicate, Some(Repair::MergeInto(0))),
            (Some(3), Kind::Contradiction, None),
            (Some(4), Kind::PictureOnBothSides, train.clone()),
            (Some(5), Kind::Leakage, train),
            (None, Kind::Leakage, None),
        ]
    );
    assert_eq!(
        findings[1].message.split(" at ").next(),
        Some("the answer is “a cow” here and “a cat”")
    );
    assert!(
        findings[4].message.starts_with("1 of 3 held-out questions"),
        "{}",
        findings[4].message
    );
    repair(&mut rows, &findings);
    assert_eq!(rows.len(), 7);
    assert_eq!(rows[0].rejected.as_deref(), Some("a cup"), "what only the copy knew is kept");
    let left: Vec<Kind> = check(&rows).iter().map(|finding| finding.kind).collect();
    assert_eq!(left, [Kind::Contradiction, Kind::Leakage]);
}

#[test]
fn answers_that_can_be_known_blind_are_told() {
    let set = |answers: &[(&str, usize)]| -> Vec<Row> {
        let answers = answers.iter().flat_map(|(answer, n)| std::iter::repeat_n(*answer, *n));
        let ask = |(n, answer): (usize, &str)| {
            row(&[picture(n as u8)], &[(User, "<image>Who?"), (Assistant, answer)])
        };
        answers.enumerate().map(ask).collect()
    };
    type Answers<'a> = &'a [(&'a str, usize)];
    let rows: &[(Answers, &[&str])] = &[
        (&[("cat", 9)], &[]),
        (&[("cat", 10)], &["all 10 answers are “cat”; that can be learned without looking"]),
        (&[("cat", 6), ("dog", 6)], &["6 of 12 answers are “cat”"]),
        (&[("cat", 5), ("dog", 5), ("cow", 4)], &[]),
        (&[("cat", 21), ("dog", 21), ("cow", 2)], &["“cat” has 21 rows and “cow” has 2"]),
        (&[("a", 30), ("b", 1)], &["30 of 31 answers are “a”", "“a” has 30 rows and “b” has 1"]),
    ];
    for (answers, expected) in rows {
        let findings = check(&set(answers));
        assert_eq!(findings.len(), expected.len(), "{findings:?}");
        for (finding, expected) in findings.iter().zip(*expected) {
            assert!(finding.message.starts_with(expected), "{}", finding.message);
            assert_eq!((finding.severity, finding.row), (Severity::Warning, None));
        }
    }
}

#[test]
fn it_tells_how_far_it_is_and_stops_when_asked() {
    let rows: Vec<Row> = (0..50)
        .map(|n| row(&[picture(n)], &[(User, "<image>?"), (Assistant, &format!("answer {n}"))]))
        .collect();
    let (heard, asked) = (Cell::new((0, 0)), Cell::new(0));
    let progress = |done, total| heard.set((done, total));
    let check = Check { splits: &[], n_tokens: &n_letters, limit: 200 };
    let job = Job { cancelled: &|| false, progress: &progress };
    assert!(preflight(&rows, &check, job).expect("findings").is_empty());
    assert_eq!(heard.get(), (50, 50));
    let cancelled = || asked.replace(asked.get() + 1) == 3;
    let error = preflight(&rows, &check, Job { cancelled: &cancelled, progress: &progress });
    assert!(matches!(error, Err(Error::Cancelled)));
    assert_eq!(heard.get(), (3, 50));
}

#[test]
fn a_repair_of_other_rows_changes_nothing() {
    let mut rows = vec![row(&[], &[(User, "A?")])];
    let findings = check(&rows);
    rows[0] = row(&[], &[(User, "B?"), (Assistant, "C")]);
    let before = rows.clone();
    repair(&mut rows, &findings);
    assert_eq!(rows, before);
    repair(&mut Vec::new(), &findings);
}
