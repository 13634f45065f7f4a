//! Parquet files as other programs write them: pyarrow's, as on Hugging Face's hub.
//!
//! `fixtures/make.py` made them.

use std::path::Path;

use dataset::Format;

use crate::{read, show};

#[test]
fn files_of_pyarrow_are_read_in_every_packing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fixtures");
    let question = [
        "0 [75 bytes] user: <image>What colour? | assistant: red",
        "1 [76 bytes] user: <image>What colour? | assistant: ",
        "2 [] user: 1 + 1? | assistant: 2",
    ];
    let messages = [
        "a [75 bytes 76 bytes] user: <image>Same?<image> | assistant: No.",
        "b [] user: Hi | assistant: Hello",
    ];
    let captions = [
        "0 [75 bytes] user: <image>Describe the picture. | assistant: A red square.",
        "1 [76 bytes] user: <image>Describe the picture. | assistant: A green square.",
    ];
    let rows: &[(&str, &[&str])] = &[
        ("question-snappy.parquet", &question),
        ("question-zstd.parquet", &question),
        ("question-gzip-v2.parquet", &question),
        ("question-none.parquet", &question),
        ("messages.parquet", &messages),
        ("captions.parquet", &captions),
    ];
    for (name, expected) in rows {
        let imported = read(&folder.join(name)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(imported.format, Format::Parquet);
        assert!(imported.findings.is_empty(), "{:?}", imported.findings);
        let shown: Vec<String> = imported.rows.iter().map(show).collect();
        assert_eq!(&shown, expected, "{name}");
    }
}
