//! GGUF vocabularies as `tokenizer.json` and `tokenizer_config.json`.
//!
//! `llama` is a SentencePiece vocabulary: pieces with scores, where the best-scored pair of
//! neighbours is merged first, and bytes for what is no piece. `gpt2` is byte-level BPE with its
//! merges, cut beforehand as `tokenizer.ggml.pre` names it (llama.cpp's `llama-vocab.cpp`).

use std::collections::HashMap;

use serde_json::{Value, json};

use super::Gguf;
use crate::config::unsupported;
use crate::error::Error;

/// `llama_token_type` of llama.h.
const NORMAL: f64 = 1.0;
const CONTROL: f64 = 3.0;
const USER_DEFINED: f64 = 4.0;
/// Pieces of more characters are words of no language; they would take long to split.
const MAX_PIECE: usize = 256;

/// Every token in the order of ids.
pub(super) fn tokens(gguf: &Gguf) -> Result<Vec<String>, Error> {
    let key = "tokenizer.ggml.tokens";
    let missing = || Error::config(key, format!("is missing in {}", gguf.text.path().display()));
    gguf.text.texts(key)?.ok_or_else(missing)
}

/// The id of the picture token, and whether the vocabulary holds it. Where it does not, the id
/// after the last: no row of the embedding belongs to it.
pub(super) fn image_token(gguf: &Gguf) -> Result<(usize, bool), Error> {
    let tokens = tokens(gguf)?;
    match tokens.iter().position(|token| token == placeholder(gguf)) {
        Some(id) => Ok((id, true)),
        None => Ok((tokens.len(), false)),
    }
}

/// The picture's placeholder.
fn placeholder(gguf: &Gguf) -> &'static str {
    gguf.vision.as_ref().map_or("<image>", |(_, projector)| projector.image_token)
}

/// `tokenizer_config.json`: special tokens by name, and the chat template.
pub(super) fn special_tokens(gguf: &Gguf) -> Result<Value, Error> {
    let tokens = tokens(gguf)?;
    let mut config = json!({});
    for (key, name) in [
        ("bos_token", "bos"),
        ("eos_token", "eos"),
        ("unk_token", "unknown"),
        ("pad_token", "padding"),
    ] {
        let key_of_file = format!("tokenizer.ggml.{name}_token_id");
        let Some(id) = gguf.text.count(&key_of_file)? else { continue };
        let token = tokens.get(id).ok_or_else(|| {
            Error::config(&key_of_file, format!("is {id}, of {} tokens", tokens.len()))
        })?;
        config[key] = json!(token);
    }
    if let Some(template) = gguf.text.text("tokenizer.chat_template")? {
        config["chat_template"] = json!(template);
    }
    Ok(config)
}

/// `tokenizer.json`.
pub(super) fn tokenizer(gguf: &Gguf) -> Result<Value, Error> {
    let file = &gguf.text;
    let tokens = tokens(gguf)?;
    let kinds = file.numbers("tokenizer.ggml.token_type")?.unwrap_or_default();
    let kind = |id: usize| kinds.get(id).copied().unwrap_or(NORMAL);
    let mut tokenizer = match file.text("tokenizer.ggml.model")? {
        Some("llama") => {
            let scores = file.numbers("tokenizer.ggml.scores")?.unwrap_or_default();
            let is_piece = |id: usize| kind(id) == NORMAL;
            let merges = merges(&tokens, &scores, is_piece);
            let spaced = file.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
            let unknown = file.count("tokenizer.ggml.unknown_token_id")?;
            sentencepiece(&tokens, merges, spaced, unknown.and_then(|id| tokens.get(id)))
        }
        Some("gpt2") => {
            let merges = file.texts("tokenizer.ggml.merges")?.unwrap_or_default();
            byte_level(&tokens, merges, file.text("tokenizer.ggml.pre")?.unwrap_or("default"))?
        }
        found => {
            let found = found.unwrap_or("nothing");
            return Err(unsupported("tokenizer.ggml.model", found, "llama, gpt2"));
        }
    };
    let mut added: Vec<Value> = (0..tokens.len())
        .filter(|&id| kind(id) == CONTROL || kind(id) == USER_DEFINED)
        .map(|id| added_token(id, &tokens[id], kind(id) == CONTROL))
        .collect();
    if gguf.vision.is_some()
        && let (id, false) = image_token(gguf)?
    {
        added.push(added_token(id, placeholder(gguf), true));
    }
    tokenizer["version"] = json!("1.0");
    tokenizer["added_tokens"] = json!(added);
    tokenizer["post_processor"] = beginning(gguf, &tokens)?;
    Ok(tokenizer)
}

fn added_token(id: usize, content: &str, special: bool) -> Value {
    json!({
        "id": id, "content": content, "special": special, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false,
    })
}

/// What puts the first token before every text, where the model wants one.
fn beginning(gguf: &Gguf, tokens: &[String]) -> Result<Value, Error> {
    let file = &gguf.text;
    let usual = match file.text("tokenizer.ggml.model")? {
        Some("llama") => true,
        _ => matches!(file.text("tokenizer.ggml.pre")?, Some(pre) if pre.starts_with("llama")),
    };
    let wanted = file.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(usual);
    let bos = file.count("tokenizer.ggml.bos_token_id")?.filter(|_| wanted);
    let Some((id, token)) = bos.and_then(|id| Some((id, tokens.get(id)?))) else {
        return Ok(Value::Null);
    };
    let special = json!({ "SpecialToken": { "id": token, "type_id": 0 } });
    let text = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
    Ok(json!({
        "type": "TemplateProcessing",
        "single": [special, text("A")],
        "pair": [special, text("A"), text("B")],
        "special_tokens": { token: { "id": token, "ids": [id], "tokens": [token] } },
    }))
}

fn vocab(tokens: &[String]) -> Value {
    Value::Object(tokens.iter().enumerate().map(|(id, t)| (t.clone(), json!(id))).collect())
}

fn sentencepiece(
    tokens: &[String],
    merges: Vec<[&str; 2]>,
    spaced: bool,
    unknown: Option<&String>,
) -> Value {
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    let mut normalizers = vec![replace];
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if spaced {
        normalizers.insert(0, json!({ "type": "Prepend", "prepend": "▁" }));
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({
        "normalizer": { "type": "Sequence", "normalizers": normalizers },
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": {
            "type": "BPE", "unk_token": unknown, "byte_fallback": true, "fuse_unk": true,
            "vocab": vocab(tokens), "merges": merges,
        },
    })
}

/// Every way to make a piece of two others, the best-scored piece first.
fn merges<'a>(
    tokens: &'a [String],
    scores: &[f64],
    is_piece: impl Fn(usize) -> bool,
) -> Vec<[&'a str; 2]> {
    let pieces = tokens.iter().enumerate().filter(|(id, _)| is_piece(*id));
    let ids: HashMap<&str, usize> = pieces.map(|(id, piece)| (piece.as_str(), id)).collect();
    let mut found = Vec::new();
    for (&piece, &id) in &ids {
        let score = scores.get(id).copied().unwrap_or(0.0);
        if piece.len() > MAX_PIECE {
            continue;
        }
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if let (Some(&left_id), Some(&right_id)) = (ids.get(left), ids.get(right)) {
                found.push((score, (left_id, right_id), [left, right]));
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    found.into_iter().map(|(_, _, pair)| pair).collect()
}

/// Parts of the patterns that Llama 3 and Qwen2 cut by.
const CONTRACTIONS: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const SPACES: &str = r"\s*[\r\n]+|\s+(?!\S)|\s+";

/// How text is cut before merging, by `tokenizer.ggml.pre`: as the tokenizers of the same name
/// on the Hugging Face hub do it.
fn byte_level(tokens: &[String], merges: Vec<String>, pre: &str) -> Result<Value, Error> {
    let bytes = |cuts: bool| {
        json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": cuts,
        })
    };
    let split = |pattern: &str| {
        json!({ "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated" },
            bytes(false),
        ]})
    };
    let words = |digits: &str| {
        split(&format!(
            "{CONTRACTIONS}|[^\\r\\n\\p{{L}}\\p{{N}}]?\\p{{L}}+|{digits}\
             | ?[^\\s\\p{{L}}\\p{{N}}]+[\\r\\n]*|{SPACES}"
        ))
    };
    let (normalizer, pre_tokenizer, ignore_merges) = match pre {
        "gpt-2" => (Value::Null, bytes(true), false),
        "smollm" => {
            let digits = json!({ "type": "Digits", "individual_digits": true });
            let both = json!({ "type": "Sequence", "pretokenizers": [digits, bytes(true)] });
            (Value::Null, both, false)
        }
        "qwen2" => (json!({ "type": "NFC" }), words(r"\p{N}"), false),
        "llama-bpe" | "llama3" | "llama-v3" => (Value::Null, words(r"\p{N}{1,3}"), true),
        found => {
            let supported = "gpt-2, smollm, qwen2, llama-bpe";
            return Err(unsupported("tokenizer.ggml.pre", found, supported));
        }
    };
    Ok(json!({
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "decoder": bytes(true),
        "model": {
            "type": "BPE", "ignore_merges": ignore_merges,
            "vocab": vocab(tokens), "merges": merges,
        },
    }))
}
