//! Golden answers: what the shipped model says, greedily, about committed pictures.
//!
//! A change here is a change every user sees. `UPDATE_GOLDEN=1 cargo test --release --workspace
//! golden` draws the pictures and writes the answers again, to be read and committed; then
//! `python tests/parity/nano.py` has transformers answer the same and writes that down beside.

use candle_core::Device;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use vlm::explain::EvidenceHeads;
use vlm::generate::{Answer, Cancel, GenerateOptions, Session, Stop};
use vlm::processor::{Message, Processor, image::open};
use vlm::{Config, Vlm};

/// Scenes that are neither trained on nor measured on.
const SEEDS: std::ops::Range<u64> = 20_000_000..20_000_012;

/// What `tests/parity/nano.py` found with transformers.
#[derive(Deserialize)]
struct Reference {
    /// Of `model.safetensors`.
    sha256: String,
    answers: Vec<ReferenceAnswer>,
}

#[derive(Deserialize)]
struct ReferenceAnswer {
    picture: String,
    question: String,
    /// The end token included.
    ids: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct Golden {
    picture: String,
    question: String,
    answer: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Draws the pictures and chooses a question for each.
fn draw() -> Vec<Golden> {
    std::fs::create_dir_all(folder()).expect("the folder");
    let draw = |seed| {
        let scene = scenes::scene(seed, &scenes::Options::default());
        let picture = format!("scene-{seed}.png");
        scene.image.save(folder().join(&picture)).expect("a written picture");
        let asked = scenes::questions(&scene, seed);
        let question = asked[seed as usize % asked.len()].question.clone();
        Golden { picture, question, answer: String::new() }
    };
    SEEDS.map(draw).collect()
}

struct Shipped {
    vlm: Vlm,
    processor: Processor,
    heads: EvidenceHeads,
}

fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano/model.safetensors")
}

impl Shipped {
    fn load() -> Shipped {
        let file = weights();
        let folder = file.parent().expect("a folder");
        let config = Config::load(folder).expect("its config");
        Shipped {
            processor: Processor::load(folder, &config).expect("its processor"),
            heads: EvidenceHeads::load(folder, &config).expect("its evidence heads"),
            vlm: Vlm::load(folder, &Device::Cpu).expect("its weights"),
        }
    }

    fn ask(&self, picture: &str, question: &str) -> Answer {
        let image = open(&folder().join(picture)).expect("a committed picture");
        let messages = [Message::user(1, question)];
        let options = GenerateOptions { max_new_tokens: 32, ..Default::default() };
        let model = (&self.vlm, &self.processor);
        Session::new(self.heads.clone())
            .ask(model, (&messages, &[image]), &options, &Cancel::new(), &mut |_| {})
            .expect("an answer")
    }
}

#[test]
fn the_shipped_model_answers_as_committed() {
    let list = folder().join("nano.json");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut golden: Vec<Golden> = match update {
        true => draw(),
        false => serde_json::from_slice(&std::fs::read(&list).expect("the list")).expect("JSON"),
    };
    let model = Shipped::load();
    for row in &mut golden {
        let said = model.ask(&row.picture, &row.question);
        if update {
            row.answer = said.text;
        } else {
            assert_eq!(said.text, row.answer, "{}: {}", row.picture, row.question);
        }
    }
    if update {
        let text = serde_json::to_string_pretty(&golden).expect("JSON") + "\n";
        std::fs::write(&list, text).expect("a written list");
    }
}

#[test]
fn the_shipped_model_answers_as_transformers_runs_it() {
    let found = std::fs::read(folder().join("nano-transformers.json")).expect("the reference");
    let reference: Reference = serde_json::from_slice(&found).expect("JSON");
    let hash = Sha256::digest(std::fs::read(weights()).expect("weights"));
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(reference.sha256, hash, "other weights: run tests/parity/nano.py again");
    assert!(reference.answers.len() >= SEEDS.count());
    let model = Shipped::load();
    for ReferenceAnswer { picture, question, ids } in reference.answers {
        let said = model.ask(&picture, &question);
        let tokens: Vec<u32> = said.steps.iter().map(|step| step.token).collect();
        // Ours leaves the end token out.
        let ended = usize::from(said.stop == Stop::End);
        assert_eq!(tokens, ids[..ids.len() - ended], "{picture}: {question}");
    }
}
