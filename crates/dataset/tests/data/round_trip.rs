//! The law of every format that is written: what is read back is what was written.

use std::path::Path;
use std::sync::Arc;

use dataset::{
    Error, Format, Job, Message, Origin, Picture, Place, Role, Row, Source, Split, Target, detect,
    export, import,
};

use crate::{folder, png, read};

const TARGETS: &[(Target, &str, Format)] = &[
    (Target::Llava, "out", Format::Conversations),
    (Target::WebDataset, "out.tar", Format::WebDataset),
    (Target::Parquet, "out.parquet", Format::Parquet),
];

fn row(id: &str, pictures: Vec<Picture>, turns: &[(Role, &str)]) -> Row {
    let messages = turns.iter().map(|(role, text)| Message::new(*role, *text)).collect();
    let origin = Origin { file: Arc::new("here".into()), place: Place::Whole };
    Row { id: id.into(), pictures, messages, rejected: None, split: None, origin }
}

/// Rows with all that a row can have.
fn rows(folder: &Path) -> Vec<Row> {
    use Role::{Assistant, System, User};
    let file = |name: &str| Picture::File(folder.join(name));
    let bytes = Picture::Bytes(Arc::from(png(3)));
    let mut rows = vec![
        row("one", vec![file("a.png")], &[(User, "<image>Who?"), (Assistant, "A cat.")]),
        row("text alone", vec![], &[(User, "1 + 1?"), (Assistant, "2")]),
        row(
            "7",
            vec![file("a.png"), bytes, file("a.png")],
            &[
                (System, "Be \"kind\".\n\ttruly"),
                (User, "<image>他们 <image> é?\r\n"),
                (Assistant, ""),
                (User, "and<image>"),
                (Assistant, "No,\nnot 😀 \\ \u{1}."),
            ],
        ),
        row("unanswered", vec![file("b.jpg")], &[(User, "<image>")]),
    ];
    rows[0].split = Some(Split::HeldOut);
    rows[1].rejected = Some("3".into());
    rows[2].split = Some(Split::Train);
    rows[3].rejected = Some(String::new());
    rows
}

/// All but where it was read from; pictures by their bytes.
fn assert_same(written: &[Row], read: &[Row], what: &str) {
    assert_eq!(written.len(), read.len(), "{what}");
    let bytes = |row: &Row| -> Vec<Vec<u8>> {
        row.pictures.iter().map(|picture| picture.read().expect("a picture")).collect()
    };
    for (a, b) in written.iter().zip(read) {
        assert_eq!(a.id, b.id, "{what}");
        assert_eq!(a.messages, b.messages, "{what}");
        assert_eq!((&a.rejected, a.split), (&b.rejected, b.split), "{what}");
        assert!(bytes(a) == bytes(b), "{what}: pictures of {}", a.id);
    }
}

#[test]
fn what_is_written_is_read_back() {
    let jpeg = include_bytes!("fixtures/tiny.jpg");
    let folder = folder(&[("a.png", &png(1)), ("b.jpg", jpeg)]);
    let rows = rows(folder.path());
    for (target, name, format) in TARGETS {
        let path = folder.path().join(name);
        let left_out = export(&rows, &path, *target, Job::quiet()).expect("written");
        assert!(left_out.is_empty(), "{left_out:?}");
        assert_eq!(detect(&path).expect("a format"), *format);
        let imported = read(&path).expect("read");
        assert!(imported.findings.is_empty(), "{:?}", imported.findings);
        assert_same(&rows, &imported.rows, name);
        // And from there into every other format.
        for (target, name, _) in TARGETS {
            let path = folder.path().join(format!("again-{name}"));
            export(&imported.rows, &path, *target, Job::quiet()).expect("written");
            assert_same(&rows, &read(&path).expect("read").rows, name);
            if path.is_dir() {
                std::fs::remove_dir_all(&path).expect("removed");
            }
        }
    }
}

#[test]
fn no_rows_and_many_rows() {
    let folder = folder(&[]);
    let many: Vec<Row> = (0..2500)
        .map(|n| {
            let text = format!("<image>question {n}");
            let picture = Picture::Bytes(Arc::from(png((n % 7) as u8)));
            row(&n.to_string(), vec![picture], &[(Role::User, &text), (Role::Assistant, "yes")])
        })
        .collect();
    for (target, name, _) in TARGETS {
        for (rows, n) in [(&many[..0], 0), (&many[..], many.len())] {
            let path = folder.path().join(format!("{n}-{name}"));
            export(rows, &path, *target, Job::quiet()).expect("written");
            match read(&path) {
                Ok(imported) => assert_same(rows, &imported.rows, name),
                // A file of no bytes and no rows says nothing about itself.
                Err(Error::Unknown { .. }) if n == 0 => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    // Each picture lies in the folder once.
    let images = folder.path().join("2500-out/images");
    assert_eq!(std::fs::read_dir(images).expect("images").count(), 7);
}

#[test]
fn embedded_pictures_are_unpacked_where_asked() {
    let folder = folder(&[("a.png", &png(1)), ("b.jpg", include_bytes!("fixtures/tiny.jpg"))]);
    let (rows, path) = (rows(folder.path()), folder.path().join("out.parquet"));
    export(&rows, &path, Target::Parquet, Job::quiet()).expect("written");
    let unpack = Some(folder.path().join("unpacked"));
    let imported = import(&Source { unpack, ..Source::new(&path) }, Job::quiet()).expect("read");
    assert_same(&rows, &imported.rows, "unpacked");
    let pictures = imported.rows.iter().flat_map(|row| &row.pictures);
    assert!(pictures.into_iter().all(|picture| matches!(picture, Picture::File(_))));
}

#[test]
fn a_missing_picture_costs_its_row_and_nothing_is_left_of_a_stopped_job() {
    let folder = folder(&[("b.jpg", include_bytes!("fixtures/tiny.jpg"))]);
    let rows = rows(folder.path());
    for (target, name, _) in TARGETS {
        let path = folder.path().join(name);
        let left_out = export(&rows, &path, *target, Job::quiet()).expect("written");
        let lost: Vec<_> = left_out.iter().map(|finding| finding.row).collect();
        assert_eq!(lost, [Some(0), Some(2)]);
        assert!(left_out[0].message.contains("a.png"), "{}", left_out[0].message);
        assert_eq!(read(&path).expect("read").rows.len(), 2);
        let stopped = Job { cancelled: &|| true, progress: &|_, _| {} };
        let again = folder.path().join(format!("stopped-{name}"));
        let error = export(&rows, &again, *target, stopped).expect_err("stopped");
        assert!(matches!(error, Error::Cancelled), "{error}");
        assert!(!again.exists());
    }
    let names = std::fs::read_dir(folder.path()).expect("files").flatten();
    let left = names.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part"));
    assert_eq!(left.count(), 0);
    let error = export(&rows, &folder.path().join("out"), Target::Llava, Job::quiet());
    assert!(matches!(error, Err(Error::Taken { .. })), "a folder with content is not replaced");
}
