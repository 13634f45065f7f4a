//! Each format in, as the rows it becomes and the findings for what is none.

use dataset::{Format, Job, Source, detect, import};

use crate::{folder, png, read, show};

/// What is read from `name` in a folder that has `a.png` and `b.png`.
fn check(name: &str, text: &str, rows: &[&str], findings: &[&str]) {
    let folder = folder(&[(name, text.as_bytes()), ("a.png", &png(1)), ("images/b.png", &png(2))]);
    let imported = read(&folder.path().join(name)).unwrap_or_else(|error| panic!("{error}"));
    let shown: Vec<String> = imported.rows.iter().map(show).collect();
    assert_eq!(shown, rows, "{name}: {text}");
    for picture in imported.rows.iter().flat_map(|row| &row.pictures) {
        assert!(picture.exists(), "{picture}");
    }
    let here = folder.path().join("").display().to_string();
    let said = imported.findings.iter().map(|f| format!("{}: {}", f.origin, f.message));
    let said: Vec<String> = said.map(|line| line.replace(&here, "")).collect();
    assert_eq!(said.len(), findings.len(), "{said:?}");
    for (said, expected) in said.iter().zip(findings) {
        assert!(said.starts_with(expected), "{said}\nexpected {expected}");
    }
}

#[test]
fn conversations_in_every_dialect() {
    let cases = include_str!("fixtures/dialects.txt").lines();
    let cases: Vec<&str> =
        cases.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    for case in cases.chunks(2) {
        let [text, expected] = case else { panic!("a record without a row: {case:?}") };
        let expected = expected.trim_start_matches("=> ").replace("\\n", "\n");
        check("rows.json", &format!("[{text}]"), &[&expected], &[]);
        check("rows.jsonl", &format!("\n{text}\n\n"), &[&expected], &[]);
    }
}

#[test]
fn a_bad_row_is_told_with_its_line_and_the_others_are_read() {
    let good = r#"{"image": "a.png", "caption": "A cat."}"#;
    let row =
        |n: usize| format!("{n} [a.png] user: <image>Describe the picture. | assistant: A cat.");
    let (first, second) = (row(0), row(1));
    let rows: &[(&str, &str)] = &[
        (r#"{"image": "a.png", "caption": }"#, "not the JSON of a row"),
        (r#"17"#, "not the JSON of a row"),
        (r#"{"name": 1}"#, "no messages, question or caption among name"),
        (r#"{"messages": [{"role": "wizard", "content": "x"}]}"#, "the role `wizard`"),
        (r#"{"messages": [{"content": "x"}]}"#, "a message without a role: content"),
        (r#"{"messages": "x"}"#, "its messages are no list"),
        (r#"{"messages": []}"#, "it has no messages"),
        (r#"{"image": "https://x.org/a.png", "caption": "x"}"#, "the picture https:"),
        (r#"{"image": 3, "caption": "x"}"#, "its list of pictures holds"),
        (r#"{"videos": ["1.mp4"], "messages": []}"#, "it has videos; only pictures"),
        (r#"{"messages": [{"role": "user", "content": [{"type": "video"}]}]}"#, "it has a part of"),
        (r#"{"image": "data:image/png;base64,%%%", "caption": "x"}"#, "the picture's base64 is"),
    ];
    for (bad, reason) in rows {
        let said = |name: &str, line: usize| format!("{name}:{line}: {reason}");
        let lines = format!("{good}\n{bad}\n{good}\n");
        check("rows.jsonl", &lines, &[&first, &second], &[&said("rows.jsonl", 2)]);
        let array = format!("[\n\n{good},\n{bad},\n{good}\n]\n");
        check("rows.json", &array, &[&first, &second], &[&said("rows.json", 4)]);
    }
    let cut = format!("[{good},\n{{\"image\": \"a.png\", \"capt");
    let findings = ["rows.json:2: it breaks off", "rows.json: the file ends without its `]`"];
    check("rows.json", &cut, &[&first], &findings);
    check("rows.json", &format!("\u{feff}[{good},]"), &[&first], &[]);
}

#[test]
fn tables_with_their_many_headers() {
    let cat = "0 [a.png] user: <image>Who? | assistant: A cat.";
    let caption = "0 [a.png] user: <image>Describe the picture. | assistant: A cat, asleep.";
    let two = "0 [a.png b.png] user: <image><image>Same? | assistant: No.";
    let accents = "0 [a.png] user: <image>Qui ? | assistant: Un chat é.";
    let rows: &[(&str, &str, &[&str], &[&str])] = &[
        ("t.csv", "image,question,answer\na.png,Who?,A cat.\n", &[cat], &[]),
        ("t.csv", "Image_Path,Prompt,Response\r\na.png,Who?,A cat.\r\n", &[cat], &[]),
        ("t.csv", "image;question;answer\na.png;Who?;A cat.\n", &[cat], &[]),
        ("t.tsv", "image\tquestion\tanswer\na.png\tWho?\tA cat.\n", &[cat], &[]),
        ("t.csv", "file_name,text\na.png,\"A cat, asleep.\"\n", &[caption], &[]),
        ("t.csv", "images,question,answer\na.png;b.png,Same?,No.\n", &[two], &[]),
        ("t.csv", "\u{feff}image,question,answer\na.png,Qui ?,Un chat é.\n", &[accents], &[]),
        (
            "t.csv",
            "image,question,answer\na.png,Who?\na.png,Who?,A cat.\n",
            &[cat],
            &["t.csv:2: 2 cells where the header has 3"],
        ),
        (
            "t.csv",
            "image,question,answer\na.png,\"Who?\",\n",
            &["0 [a.png] user: <image>Who? | assistant: "],
            &[],
        ),
    ];
    for (name, text, rows, findings) in rows {
        check(name, text, rows, findings);
    }
}

#[test]
fn a_dataset_info_names_sets_columns_and_roles() {
    let info = r#"{
        "mine": {"file_name": "mine.json", "formatting": "sharegpt", "ranking": true,
            "columns": {"messages": "talk", "images": "photos",
                "chosen": "good", "rejected": "bad"},
            "tags": {"role_tag": "who", "content_tag": "what",
                "user_tag": "me", "assistant_tag": "it"}},
        "far": {"hf_hub_url": "somebody/something"},
        "plain": {"file_name": "plain.jsonl", "columns": {"prompt": "ask", "response": "say"}}
    }"#;
    let mine = r#"[{"talk": [{"who": "me", "what": "Who?"}], "photos": ["a.png"],
        "good": {"who": "it", "what": "A cat."}, "bad": {"who": "it", "what": "A dog."}}]"#;
    let folder = folder(&[
        ("dataset_info.json", info.as_bytes()),
        ("mine.json", mine.as_bytes()),
        ("plain.jsonl", br#"{"ask": "1 + 1?", "say": "2"}"#),
        ("a.png", &png(1)),
    ]);
    let pair = "0 [a.png] user: <image>Who? | assistant: A cat. | not: A dog.";
    let sum = "1 [] user: 1 + 1? | assistant: 2";
    let read_all = |path: &str, name: Option<&str>| {
        let path = folder.path().join(path);
        assert_eq!(detect(&path).expect("a format"), Format::LlamaFactory);
        let source = Source { name: name.map(str::to_owned), ..Source::new(path) };
        import(&source, Job::quiet())
    };
    for path in ["", "dataset_info.json"] {
        let imported = read_all(path, None).expect("rows");
        let shown: Vec<String> = imported.rows.iter().map(show).collect();
        assert_eq!(shown, [pair, sum]);
        assert_eq!(imported.findings.len(), 1);
        assert!(imported.findings[0].message.contains("`far` is not on this disk"));
    }
    assert_eq!(show(&read_all("mine.json", None).expect("rows").rows[0]), pair);
    assert_eq!(read_all("", Some("plain")).expect("rows").rows.len(), 1);
    let error = read_all("", Some("none")).expect_err("no such set").to_string();
    assert!(error.ends_with("no data set `none` on this disk; it has mine, plain"), "{error}");
}

#[test]
fn coco_captions_and_boxes() {
    let images = r#""images": [{"id": 1, "file_name": "a.png", "width": 200, "height": 100},
        {"id": 2, "file_name": "b.png"}]"#;
    let captions = format!(
        r#"{{"info": {{}}, {images}, "annotations": [
        {{"id": 9, "image_id": 1, "caption": "A cat."}},
        {{"id": 8, "image_id": 3, "caption": "Nothing."}}]}}"#
    );
    check(
        "captions.json",
        &captions,
        &["0 [a.png] user: <image>Describe the picture. | assistant: A cat."],
        &["captions.json:4: no picture has the id 3"],
    );
    let boxes = format!(
        r#"{{{images}, "categories": [{{"id": 5, "name": "dog"}}, {{"id": 6, "name": "cup"}}],
        "annotations": [
        {{"image_id": 1, "category_id": 5, "bbox": [20, 10, 100, 50], "segmentation": [[1, 2]]}},
        {{"image_id": 1, "category_id": 6, "bbox": [0, 0, 200, 100]}},
        {{"image_id": 1, "category_id": 6, "bbox": [190, 90, 50, 50]}},
        {{"image_id": 2, "category_id": 5, "bbox": [3, 2, 3, 2]}},
        {{"image_id": 1, "category_id": 5, "bbox": [0, 0, 0, 10]}},
        {{"image_id": 1, "category_id": 5, "bbox": [1]}},
        {{"image_id": 1, "category_id": 5, "iscrowd": 1, "bbox": [0, 0, 9, 9]}}]}}"#
    );
    check(
        "instances.json",
        &boxes,
        &[
            "0 [a.png] user: <image>Where is the dog? | assistant: [100, 100, 600, 600]",
            "1 [a.png] user: <image>Where is each cup? | assistant: \
             [0, 0, 1000, 1000]; [950, 900, 1000, 1000]",
            "2 [b.png] user: <image>Where is the dog? | assistant: [500, 500, 1000, 1000]",
        ],
        &["instances.json:8: its box of 0 x 10", "instances.json:9: its bbox is not four"],
    );
}

#[test]
fn vqa_from_either_file() {
    let questions = r#"{"data_subtype": "val2014", "questions": [
        {"question_id": 11, "image_id": 42, "question": "What is it?"},
        {"question_id": 12, "image_id": 42, "question": "Why?"}]}"#;
    let annotations = r#"{"annotations": [
        {"question_id": 11, "image_id": 42, "multiple_choice_answer": "cat", "answers": []}]}"#;
    let other = r#"{"annotations": []}"#;
    let files: &[(&str, &[u8])] = &[
        ("v2_OpenEnded_mscoco_val2014_questions.json", questions.as_bytes()),
        ("v2_mscoco_val2014_annotations.json", annotations.as_bytes()),
        ("v2_mscoco_train2014_annotations.json", other.as_bytes()),
        ("val2014/COCO_val2014_000000000042.jpg", &png(1)),
    ];
    let folder = folder(files);
    for (name, _) in &files[..2] {
        let imported = read(&folder.path().join(name)).expect("rows");
        assert_eq!(imported.format, Format::Vqa);
        let shown: Vec<String> = imported.rows.iter().map(show).collect();
        let picture = "COCO_val2014_000000000042.jpg";
        assert_eq!(
            shown,
            [
                format!("11 [{picture}] user: <image>What is it? | assistant: cat"),
                format!("12 [{picture}] user: <image>Why?"),
            ]
        );
        assert!(imported.rows[0].pictures[0].exists());
    }
    let alone = crate::folder(&[("q.json", questions.as_bytes())]);
    let error = read(&alone.path().join("q.json")).expect_err("alone").to_string();
    assert!(error.ends_with("needs its annotations file; put both into one folder"), "{error}");
}

#[test]
fn a_folder_of_pictures_with_texts_or_in_classes() {
    let folder = folder(&[
        ("cat.png", &png(1)),
        ("cat.txt", "\u{feff}A cat.\n".as_bytes()),
        ("lost.png", &png(2)),
        (".hidden/x.png", &png(3)),
        ("train/zorp/1.png", &png(4)),
        ("test/zorp/2.png", &png(5)),
        ("odd.png", &png(6)),
        ("odd.txt", b"caf\xe9"),
        ("notes.md", b"mine"),
    ]);
    let imported = read(folder.path()).expect("rows");
    assert_eq!(imported.format, Format::Folder);
    let shown: Vec<String> = imported.rows.iter().map(show).collect();
    assert_eq!(
        shown,
        [
            "cat.png [cat.png] user: <image>Describe the picture. | assistant: A cat.",
            "test/zorp/2.png [2.png] user: <image>What is this? | assistant: zorp | test",
            "train/zorp/1.png [1.png] user: <image>What is this? | assistant: zorp | train",
        ]
    );
    let said: Vec<&str> = imported.findings.iter().map(|f| f.message.as_str()).collect();
    assert_eq!(said.len(), 2);
    assert!(said[0].starts_with("no text file of the same name"), "{said:?}");
    assert!(said[1].contains("odd.txt: not UTF-8"), "{said:?}");
}

#[test]
fn web_datasets_of_others() {
    let (mut tar, picture) = (tar::Builder::new(Vec::new()), png(1));
    let members: &[(&str, &[u8])] = &[
        ("a/001.png", &picture),
        ("a/001.txt", b"A cat.\n"),
        ("a/002.json", br#"{"caption": "A dog.", "width": 6}"#),
        ("a/002.png", &picture),
        ("a/003.left.png", &picture),
        ("a/003.right.png", &picture),
        ("a/003.json", br#"{"question": "Same?", "answer": "Yes."}"#),
        ("a/004.png", &picture),
        ("a/005.json", b"{"),
        ("a/006.json", br#"{"width": 6}"#),
        ("a/006.txt", b"A cup."),
        ("a/006.png", &picture),
    ];
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, *bytes).expect("a member");
    }
    let folder = folder(&[("train-0001.tar", &tar.into_inner().expect("a tar"))]);
    let imported = read(folder.path()).expect("rows");
    assert_eq!(imported.format, Format::WebDataset);
    let shown: Vec<String> = imported.rows.iter().map(show).collect();
    let n = format!("{} bytes", picture.len());
    assert_eq!(
        shown,
        [
            format!("a/001 [{n}] user: <image>Describe the picture. | assistant: A cat."),
            format!("a/002 [{n}] user: <image>Describe the picture. | assistant: A dog."),
            format!("a/003 [{n} {n}] user: <image><image>Same? | assistant: Yes."),
            format!("a/006 [{n}] user: <image>Describe the picture. | assistant: A cup."),
        ]
    );
    assert_eq!(imported.rows[2].pictures[1].read().expect("bytes"), picture);
    let said: Vec<String> =
        imported.findings.iter().map(|f| format!("{}: {}", f.origin, f.message)).collect();
    assert!(said[0].contains("row 4: no a/004.json and no a/004.txt"), "{said:?}");
    assert!(said[1].contains("row 5: a/005.json: EOF"), "{said:?}");
}

#[test]
fn what_is_no_data_is_told_with_what_to_do() {
    let rows: &[(&str, &[u8], &str)] = &[
        ("x.json", b"", "it has 0 bytes; get the file again"),
        ("x.json", b"hello", "it is neither JSON nor JSONL; choose"),
        ("x.json", br#"{"weather": [1]}"#, "its JSON has the keys weather; choose a file of rows"),
        ("x.json", b"\xff\xfe[\0]\0", "is in UTF-16; save it as UTF-8 and try again"),
        ("x.csv", b"\xff\xfei\0,\0", "is in UTF-16; save it as UTF-8"),
        ("x.csv", b"1,2,3\n4,5,6\n", "its first line has the columns 1, 2, 3; name them"),
        ("x.tar.gz", b"\x1f\x8b\x08\0", "it is packed; unpack it"),
        ("x.parquet", b"hello", "is damaged: it does not begin as Parquet does"),
        ("x.arrow", b"ARROW1\0\0", "it is an Arrow file; save it as Parquet"),
        ("x.tar", b"hello", "is damaged: it is no tar"),
        ("x.bin", &[0, 159, 146, 150, 0, 1], "is no text; choose the data file itself"),
    ];
    for (name, bytes, expected) in rows {
        let folder = folder(&[(name, bytes)]);
        let path = folder.path().join(name);
        let error = read(&path).expect_err(name).to_string();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
    let empty = folder(&[]);
    let error = read(empty.path()).expect_err("empty").to_string();
    assert!(error.contains("the folder has no data file and no pictures; choose"), "{error}");
    let error = read(&empty.path().join("gone.json")).expect_err("gone").to_string();
    assert!(error.contains("cannot read") && error.contains("gone.json"), "{error}");
    let two = folder(&[("a.json", b"[]"), ("b.json", b"[]")]);
    let error = read(two.path()).expect_err("two").to_string();
    assert!(error.contains("several data files (a.json, b.json); choose one"), "{error}");
}

#[test]
fn files_named_by_sides_are_one_set() {
    let row = br#"{"question": "1 + 1?", "answer": "2"}"#;
    let folder = folder(&[("train.jsonl", row), ("test.jsonl", row)]);
    let imported = read(folder.path()).expect("rows");
    let sides: Vec<_> = imported.rows.iter().filter_map(|row| row.split).collect();
    assert_eq!(sides, [dataset::Split::HeldOut, dataset::Split::Train]);
}
