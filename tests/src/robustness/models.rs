//! Bad model folders and impossible prompts: a tiny good checkpoint, broken in one place each time.
//!
//! It knows no trained model; the checkpoint is one of the parity fixtures.

use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use vlm::explain::EvidenceHeads;
use vlm::generate::{Cancel, GenerateOptions, Session};
use vlm::processor::{Message, Processor};
use vlm::{Config, Error, Vlm};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/fixtures").join(name)
}

/// A copy of the good checkpoint that may be broken.
fn copy() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for entry in std::fs::read_dir(fixture("llava-clip-llama")).expect("the fixture").flatten() {
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("a copy");
    }
    folder
}

fn weights(folder: &TempDir) -> PathBuf {
    folder.path().join("model.safetensors")
}

/// Changes the tensors of a copy and returns what loading it says.
fn load_with(change: impl FnOnce(&mut HashMap<String, Tensor>)) -> String {
    let folder = copy();
    let mut tensors =
        candle_core::safetensors::load(weights(&folder), &Device::Cpu).expect("good weights");
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, weights(&folder)).expect("written weights");
    refusal(folder.path())
}

fn refusal(folder: &Path) -> String {
    let error = Vlm::load(folder, &Device::Cpu).err().expect("a broken model was accepted");
    error.to_string()
}

/// The name of any matrix of the checkpoint, the same each time.
fn some_name(tensors: &HashMap<String, Tensor>) -> String {
    let mut names: Vec<&String> = tensors.keys().filter(|name| name.contains("q_proj")).collect();
    names.sort();
    names.first().expect("a query projection").to_string()
}

#[test]
fn a_missing_misshaped_or_unexpected_tensor_is_named() {
    let mut expected = String::new();
    let message = load_with(|tensors| {
        expected = some_name(tensors);
        tensors.remove(&expected);
    });
    assert!(message.contains(&expected) && message.contains("missing"), "{message}");
    let message = load_with(|tensors| {
        let wrong = Tensor::zeros((3, 5), DType::F32, &Device::Cpu).expect("zeros");
        tensors.insert(some_name(tensors), wrong);
    });
    assert!(message.contains(&expected) && message.contains("[3, 5]"), "{message}");
    let message = load_with(|tensors| {
        let more = Tensor::zeros(3, DType::F32, &Device::Cpu).expect("zeros");
        tensors.insert("surprise.weight".into(), more);
    });
    assert!(message.contains("surprise.weight"), "{message}");
}

#[test]
fn broken_weight_files_are_named() {
    let good = std::fs::read(fixture("llava-clip-llama").join("model.safetensors")).expect("good");
    let rows: &[(&str, &[u8])] = &[
        ("truncated", &good[..good.len() / 2]),
        ("header only", &good[..100]),
        ("empty", b""),
        ("text", b"version https://git-lfs.github.com/spec/v1\n"),
    ];
    for (what, bytes) in rows {
        let folder = copy();
        std::fs::write(weights(&folder), bytes).expect("written");
        let message = refusal(folder.path());
        assert!(message.contains("model.safetensors"), "{what}: {message}");
    }
    let folder = copy();
    std::fs::remove_file(weights(&folder)).expect("removed");
    assert!(refusal(folder.path()).contains("safetensors"), "{}", refusal(folder.path()));
}

#[test]
fn broken_settings_are_named() {
    let rows = [
        ("config.json", "{", "config.json"),
        ("config.json", "{\"model_type\": \"teapot\"}", "teapot"),
        ("config.json", "[]", "config"),
    ];
    for (file, content, expected) in rows {
        let folder = copy();
        std::fs::write(folder.path().join(file), content).expect("written");
        let message = refusal(folder.path());
        assert!(message.contains(expected), "{file} = {content}: {message}");
    }
}

#[test]
fn a_wrong_tokenizer_is_refused() {
    let config = Config::load(&fixture("llava-clip-llama")).expect("a good config");
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano/tokenizer.json");
    let other = std::fs::read(other).expect("another tokenizer");
    let rows: &[(&str, &[u8])] = &[("none", b""), ("no json", b"{"), ("another model's", &other)];
    for (what, content) in rows {
        let folder = copy();
        std::fs::write(folder.path().join("tokenizer.json"), content).expect("written");
        let error = Processor::load(folder.path(), &config).err();
        let message = error.unwrap_or_else(|| panic!("{what}: accepted")).to_string();
        assert!(message.contains("token"), "{what}: {message}");
    }
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_and_the_session_lives() {
    let dir = fixture("llava-clip-llama");
    let config = Config::load(&dir).expect("a good config");
    let processor = Processor::load(&dir, &config).expect("a good processor");
    let vlm = Vlm::load(&dir, &Device::Cpu).expect("a good model");
    let mut session = Session::new(EvidenceHeads::untrained(&config));
    let options = GenerateOptions { max_new_tokens: 2, ..Default::default() };
    let mut ask = |text: String| {
        let messages = [Message::user(0, text)];
        session.ask((&vlm, &processor), (&messages, &[]), &options, &Cancel::new(), &mut |_| {})
    };
    let error = ask("what is this ".repeat(20_000)).expect_err("too long a prompt");
    assert!(matches!(error, Error::ContextOverflow { .. }), "{error}");
    ask("what is this".into()).expect("the session answers again");
}
