//! Streaming equals decoding at once; wrong files are named.

use std::path::Path;

use super::Tokenizer;

/// A byte-level vocabulary: every byte a token, so that one character takes several.
fn byte_level() -> Tokenizer {
    let mut vocab: Vec<String> = Vec::new();
    let mut extra = 256;
    for byte in 0..256u32 {
        let shown = matches!(byte, 33..=126 | 161..=172 | 174..=255);
        let code = if shown { byte } else { extra };
        extra += u32::from(!shown);
        let symbol = char::from_u32(code).expect("a character").to_string();
        vocab.push(format!("{}: {byte}", serde_json::to_string(&symbol).expect("a string")));
    }
    let json = format!(
        r#"{{"version": "1.0", "added_tokens": [{{"id": 256, "content": "<end>", "special": true,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}}],
        "normalizer": null, "post_processor": null, "truncation": null, "padding": null,
        "pre_tokenizer": {{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": true}},
        "decoder": {{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
            "use_regex": true}},
        "model": {{"type": "BPE", "vocab": {{{}}}, "merges": []}}}}"#,
        vocab.join(", ")
    );
    Tokenizer::from_json(&json).expect("a tokenizer")
}

#[test]
fn streamed_text_is_whole_and_equals_decoding_at_once() {
    let tokenizer = byte_level();
    for text in ["A red car.", "größer 日本語 🐕‍🦺!", " leading", "", "tail é"] {
        let ids = tokenizer.encode(text).expect("ids");
        let mut stream = tokenizer.stream();
        let mut pieces = String::new();
        for id in &ids {
            let piece = stream.push(*id).expect("text");
            assert!(!piece.contains('\u{FFFD}'), "{piece:?} in {text:?}");
            pieces.push_str(&piece);
        }
        pieces.push_str(&stream.finish().expect("text"));
        assert_eq!(pieces, text);
    }
}

#[test]
fn broken_bytes_end_as_replacement_characters() {
    let tokenizer = byte_level();
    let short = [0xE6, 0x97, 65, 256, 0xFF].to_vec();
    // A character begins within a long run of bytes that make none.
    let long = [vec![0xFF; 30], vec![0xE6, 0x97, 0xA5, 65]].concat();
    for ids in [short, long] {
        let mut stream = tokenizer.stream();
        let mut pieces = String::new();
        for &id in &ids {
            pieces.push_str(&stream.push(id).expect("text"));
        }
        pieces.push_str(&stream.finish().expect("text"));
        assert_eq!(pieces, tokenizer.decode(&ids).expect("text"));
    }
}

#[test]
fn special_tokens_are_recognised_and_left_out() {
    let tokenizer = byte_level();
    let ids = tokenizer.encode("hi<end>").expect("ids");
    assert_eq!(ids.last(), Some(&256));
    assert!(tokenizer.is_special(256) && !tokenizer.is_special(65));
    assert_eq!(tokenizer.decode(&ids).expect("text"), "hi");
    assert_eq!(tokenizer.decode_with_special(&ids).expect("text"), "hi<end>");
    assert_eq!((tokenizer.id("<end>"), tokenizer.vocab_size()), (Some(256), 257));
}

#[test]
fn a_missing_file_is_named_with_its_remedy() {
    let error = Tokenizer::load(Path::new("/nowhere")).err().expect("an error").to_string();
    assert!(error.contains("tokenizer.json") && error.contains("download"), "{error}");
}
