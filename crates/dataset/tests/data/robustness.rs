//! Bad input of every kind: an error or findings, never a panic, never for ever.

use std::time::{Duration, Instant};

use dataset::{Check, Job, Message, Origin, Picture, Place, Role, Row, Target, export, preflight};

use tempfile::TempDir;

use crate::{folder, png, read};

/// Reads, and checks whatever came out.
fn try_all(name: &str, bytes: &[u8]) -> (usize, usize) {
    thread_local!(static FOLDER: TempDir = folder(&[]));
    let path = FOLDER.with(|folder| folder.path().join(name));
    std::fs::write(&path, bytes).expect("a file");
    let started = Instant::now();
    let found = match read(&path) {
        Err(error) => {
            assert!(error.to_string().contains(name), "{error}");
            (0, 0)
        }
        Ok(imported) => {
            let check = Check { splits: &[], n_tokens: &|_| Ok(1), limit: 9 };
            let findings = preflight(&imported.rows, &check, Job::quiet()).expect("findings");
            assert!(imported.findings.len() <= 1001);
            (imported.rows.len(), imported.findings.len() + findings.len())
        }
    };
    assert!(started.elapsed() < Duration::from_secs(60), "{name}");
    found
}

/// A generator of numbers that is the same everywhere.
fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// One good file of each format.
fn good_files() -> Vec<(&'static str, Vec<u8>)> {
    let origin = Origin { file: std::sync::Arc::new("x".into()), place: Place::Whole };
    let messages =
        vec![Message::new(Role::User, "<image>Who?"), Message::new(Role::Assistant, "x")];
    let pictures = vec![Picture::Bytes(png(1).into())];
    let row = Row { id: "1".into(), pictures, messages, rejected: None, split: None, origin };
    let rows = vec![row; 3];
    let folder = folder(&[]);
    let written = |name: &str, target| {
        let path = folder.path().join(name);
        export(&rows, &path, target, Job::quiet()).expect("written");
        std::fs::read(path).expect("bytes")
    };
    let json = br#"[{"id": 1, "image": "a.png", "conversations": [{"from": "human",
        "value": "<image>\nWho?"}, {"from": "gpt", "value": [{"type": "text", "text": "x"}]}],
        "rejected": {"from": "gpt", "value": "y"}}, {"image": ["b.png"], "caption": "z"}]"#;
    let coco = br#"{"images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}],
        "categories": [{"id": 1, "name": "x"}], "annotations": [{"image_id": 1,
        "category_id": 1, "bbox": [1, 1, 2, 2]}, {"image_id": 1, "caption": "x"}]}"#;
    vec![
        ("x.json", json.to_vec()),
        ("x.jsonl", b"{\"image\": \"a.png\", \"caption\": \"x\"}\n{\"text\": \"y\"}\n".to_vec()),
        ("coco.json", coco.to_vec()),
        ("x.csv", b"image,question,answer\na.png,\"Who, there?\",x\nb.png,W,y\n".to_vec()),
        ("x.tar", written("x.tar", Target::WebDataset)),
        ("x.parquet", written("x.parquet", Target::Parquet)),
    ]
}

#[test]
fn damaged_files_never_panic() {
    for (name, good) in good_files() {
        assert!(try_all(name, &good).0 > 0, "{name} is read");
        let step = (good.len() / 60).max(1);
        for end in (0..good.len()).step_by(step) {
            try_all(name, &good[..end]);
        }
        let mut next = numbers(7);
        for _ in 0..250 {
            let mut bad = good.clone();
            for _ in 0..1 + next() % 4 {
                let at = next() as usize % bad.len();
                bad[at] = match next() % 4 {
                    0 => 0,
                    1 => 0xff,
                    2 => b"{}[],:\"\\;\n"[next() as usize % 10],
                    _ => next() as u8,
                };
            }
            try_all(name, &bad);
        }
    }
}

#[test]
fn junk_under_any_name_never_panics() {
    let mut next = numbers(3);
    for name in ["x.json", "x.jsonl", "x.csv", "x.tsv", "x.tar", "x.parquet", "x.txt", "x"] {
        for n in [1, 3, 511, 512, 513, 20_000] {
            let junk: Vec<u8> = (0..n).map(|_| next() as u8).collect();
            try_all(name, &junk);
            let text: Vec<u8> = junk.iter().map(|byte| byte % 95 + 32).collect();
            try_all(name, &text);
            let framed = [b"PAR1".as_slice(), &junk, b"PAR1"].concat();
            try_all(name, &framed);
        }
    }
}

#[test]
fn absurd_depth_and_absurd_counts() {
    let deep = |open: &str, n: usize| format!("[{{\"messages\": {}", open.repeat(n));
    for open in ["[", "{\"a\":", "[{\"content\":"] {
        assert_eq!(try_all("x.json", deep(open, 300_000).as_bytes()).0, 0);
        assert_eq!(try_all("x.jsonl", &deep(open, 300_000).as_bytes()[1..]).0, 0);
    }
    // Findings are told up to a number, then counted.
    let bad = "{\"x\": 1}\n".repeat(20_000);
    assert_eq!(try_all("x.jsonl", bad.as_bytes()), (0, 1001));
    let empty = "[".to_owned() + &"{},".repeat(200_000) + "]";
    assert_eq!(try_all("x.json", empty.as_bytes()), (0, 1001));
    // Many marks, many pictures, many columns.
    let marks = "<image>".repeat(100_000);
    let row = format!(r#"[{{"question": "{marks}", "answer": "x"}}]"#);
    assert_eq!(try_all("x.json", row.as_bytes()).0, 1);
    let pictures = "\"a.png\",".repeat(5_000);
    let row = format!(r#"[{{"images": [{}], "answer": "x"}}]"#, pictures.trim_end_matches(','));
    assert_eq!(try_all("x.json", row.as_bytes()).0, 1);
    let header = (0..50_000).map(|n| format!("c{n},")).collect::<String>() + "image,text\n1\n";
    try_all("x.csv", header.as_bytes());
    let numbers = r#"{"images": [{"id": 1e999, "file_name": "a"}, {"id": 1, "file_name": "a",
        "width": 1e308, "height": -1}], "annotations": [{"image_id": 1, "category_id": 1,
        "bbox": [1e308, -1e308, 1e308, 1e308]}, {"image_id": 99999999999999999999,
        "bbox": []}], "categories": []}"#;
    assert_eq!(try_all("x.json", numbers.as_bytes()).0, 0);
}

fn tar_with(names: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in names {
        // The crate refuses to write such names, so that they go in by hand.
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.append(&header, *bytes).expect("a member");
    }
    tar.into_inner().expect("a tar")
}

#[test]
fn no_archive_reaches_a_file_outside_of_it() {
    let json = br#"{"image": "/etc/hosts", "caption": "x"}"#;
    let up = br#"{"image": "../secret.png", "caption": "x"}"#;
    let tar = tar_with(&[
        ("../../up.png", &png(1)),
        ("/abs.png", &png(1)),
        ("a/../../b.json", json),
        ("1.json", json),
        ("2.json", up),
        ("3.png", &png(3)),
        ("3.txt", b"fine"),
    ]);
    let folder = folder(&[("in/x.tar", &tar), ("secret.png", &png(2))]);
    let imported = read(&folder.path().join("in/x.tar")).expect("rows");
    assert_eq!(imported.rows.len(), 1);
    let said: Vec<&str> = imported.findings.iter().map(|f| f.message.as_str()).collect();
    assert_eq!(said.len(), 5, "{said:?}");
    assert!(said[..3].iter().all(|m| m.contains("would lie outside of the tar")), "{said:?}");
    assert!(said[3..].iter().all(|m| m.contains("lies outside of its archive")), "{said:?}");
    let n_files = std::fs::read_dir(folder.path().join("in")).expect("files").count();
    assert_eq!(n_files, 1, "nothing was unpacked");
}

#[test]
fn a_member_longer_than_its_tar_is_one_broken_picture() {
    let mut tar = tar_with(&[("1.txt", b"x"), ("1.png", &png(1))]);
    tar.truncate(512 * 3 + 20);
    let folder = folder(&[("x.tar", &tar)]);
    let imported = read(&folder.path().join("x.tar")).expect("rows");
    assert_eq!(imported.rows.len(), 1);
    assert!(imported.rows[0].pictures[0].read().is_err());
}
