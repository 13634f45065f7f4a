//! Golden answers: what the shipped model says, greedily, about committed pictures.
//!
//! A change here is a change every user sees. `UPDATE_GOLDEN=1 cargo test --release --workspace
//! golden` draws the pictures and writes the answers again, to be read and committed.

use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use vlm::explain::EvidenceHeads;
use vlm::generate::{Cancel, GenerateOptions, Session};
use vlm::processor::{Message, Processor, image::open};
use vlm::{Config, Vlm};

/// Scenes that are neither trained on nor measured on.
const SEEDS: std::ops::Range<u64> = 20_000_000..20_000_012;

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

#[test]
fn the_shipped_model_answers_as_committed() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano");
    if !model.join("model.safetensors").exists() {
        println!("skipped: models/nano has no weights yet");
        return;
    }
    let list = folder().join("nano.json");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    if !update && !list.exists() {
        println!("skipped: tests/golden/nano.json is not there; UPDATE_GOLDEN=1 writes it");
        return;
    }
    let mut golden: Vec<Golden> = match update {
        true => draw(),
        false => serde_json::from_slice(&std::fs::read(&list).expect("the list")).expect("JSON"),
    };
    let config = Config::load(&model).expect("its config");
    let processor = Processor::load(&model, &config).expect("its processor");
    let heads = EvidenceHeads::load(&model, &config).expect("its evidence heads");
    let vlm = Vlm::load(&model, &Device::Cpu).expect("its weights");
    let options = GenerateOptions { max_new_tokens: 48, ..Default::default() };
    for row in &mut golden {
        let image = open(&folder().join(&row.picture)).expect("a committed picture");
        let messages = [Message::user(1, row.question.clone())];
        let said = Session::new(heads.clone())
            .ask((&vlm, &processor), (&messages, &[image]), &options, &Cancel::new(), &mut |_| {})
            .expect("an answer");
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
