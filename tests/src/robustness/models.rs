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
    copy_of("llava-clip-llama")
}

/// The files of a fixture, without its folders.
pub(super) fn copy_of(name: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let entries = std::fs::read_dir(fixture(name)).expect("the fixture").flatten();
    for entry in entries.filter(|entry| entry.path().is_file()) {
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

/// One line each, so that a terminal can show it.
#[test]
fn a_template_that_is_broken_or_writes_no_picture_is_refused_in_one_line() {
    let rows = [
        ("{% for m in messages %}\n{{ m.role }\n{% endfor %}", "the chat template is wrong: "),
        ("{% for m in messages %}\n{% if %}", "the chat template is wrong: "),
        (
            "{% for m in messages %}{{ m.role }}{% for p in m.content %}{{ p.text }}{% endfor %}\
             {% endfor %}",
            "the chat template writes 0 pictures for one (<image>)",
        ),
        ("{{ raise_exception('no pictures') }}", "no pictures"),
    ];
    let config = Config::load(&fixture("llava-clip-llama")).expect("a good config");
    for (template, expected) in rows {
        let folder = copy();
        std::fs::write(folder.path().join("chat_template.jinja"), template).expect("written");
        let error = Processor::load(folder.path(), &config).err();
        let message = error.unwrap_or_else(|| panic!("{template}: accepted")).to_string();
        assert!(message.contains(expected), "{message}");
        assert!(message.contains("template") && message.lines().count() == 1, "{message}");
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

/// BLIP-2's parts under the names that other versions of transformers write, and with a tied head
/// written twice.
#[test]
fn other_names_of_the_same_tensors_are_read() {
    for (name, head) in [("blip-2-opt", None), ("instructblip-llama", Some("lm_head.weight"))] {
        let folder = copy_of(name);
        let tensors = candle_core::safetensors::load(weights(&folder), &Device::Cpu).expect("good");
        let renamed = tensors.into_iter().map(|(name, tensor)| {
            let name = match name.strip_prefix("language_model.") {
                Some("lm_head.weight") => "lm_head.weight".to_owned(),
                Some(rest) => format!("model.language_model.{}", rest.replacen("model.", "", 1)),
                None => format!("model.{name}"),
            };
            (name, tensor)
        });
        let renamed: HashMap<String, Tensor> = renamed.collect();
        assert_eq!(head.is_some(), renamed.contains_key("lm_head.weight"), "{name}");
        candle_core::safetensors::save(&renamed, weights(&folder)).expect("written weights");
        Vlm::load(folder.path(), &Device::Cpu).expect(name);
    }
}

#[test]
fn what_a_q_former_cannot_read_is_told() {
    let dir = fixture("instructblip-llama");
    let config = Config::load(&dir).expect("a good config");
    let vlm = Vlm::load(&dir, &Device::Cpu).expect("a good model");
    let features = Tensor::zeros((1, 17, 16), DType::F32, &Device::Cpu).expect("features");
    let project = |ids: &[u32]| {
        let projected = vlm.project_for(&features, ids);
        projected.err().expect("a wrong question was accepted").to_string()
    };
    for (ids, expected) in [
        (&[][..], "qformer_input_ids"),
        (&[5; 49], "49 tokens do not fit into the model's context of 48"),
        (&[5, 4000], "token id 4000"),
    ] {
        let message = project(ids);
        assert!(message.contains(expected), "{message}");
    }
    // The folder of the Q-Former's own tokenizer was not downloaded.
    let folder = copy_of("instructblip-llama");
    let error = Processor::load(folder.path(), &config).err().expect("no tokenizer").to_string();
    assert!(error.contains("qformer_tokenizer"), "{error}");
    let tokenizer = folder.path().join("qformer_tokenizer");
    std::fs::create_dir(&tokenizer).expect("a folder");
    std::fs::copy(dir.join("tokenizer.json"), tokenizer.join("tokenizer.json")).expect("a copy");
    let error = Processor::load(folder.path(), &config).err().expect("another's").to_string();
    assert!(error.contains("the Q-Former knows 108"), "{error}");
}
