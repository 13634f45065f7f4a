//! Two towers: what is encoded alone is what is encoded in a batch, probabilities are what they
//! claim to be, and published settings and tokenizers are read as the reference reads them.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use image::{Rgb, RgbImage};
use serde::Deserialize;
use vlm::DualEncoder;
use vlm::config::{DualEncoderConfig, DualEncoderType};
use vlm::model::towers::Towers;
use vlm::processor::TextTokenizer;

use super::fixture;
use super::real_settings::material;

fn rows(tensor: &Tensor) -> Vec<Vec<f32>> {
    tensor.to_vec2().expect("rows")
}

fn assert_near(left: &[f32], right: &[f32], what: &str) {
    assert_eq!(left.len(), right.len(), "{what}");
    for (a, b) in left.iter().zip(right) {
        assert!((a - b).abs() < 1e-5, "{what}: {a} {b}");
    }
}

/// More than a forward pass takes, of every aspect ratio.
fn pictures() -> Vec<RgbImage> {
    let sizes = (0..11u32).map(|i| (10 + 37 * i % 50, 10 + 53 * i % 60));
    let draw = |(i, (width, height)): (usize, (u32, u32))| {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * 5) as u8, (y * 4) as u8, 20 * i as u8]))
    };
    sizes.enumerate().map(draw).collect()
}

#[test]
fn a_batch_is_its_members_alone() {
    for case in fixture::comparisons() {
        let dual_encoder = DualEncoder::load(&case.dir, &Device::Cpu).expect(&case.name);
        let pictures = pictures();
        let together = rows(&dual_encoder.encode_images(&pictures).expect("pictures"));
        assert_eq!(together.len(), pictures.len());
        for (picture, row) in pictures.iter().zip(&together) {
            let alone = dual_encoder.encode_images(std::slice::from_ref(picture));
            assert_near(&rows(&alone.expect("a picture"))[0], row, &case.name);
        }
        let texts =
            ["a", "what is this", "", "the ball the ball the ball", "größer", "d", "e", "f"];
        let texts = [texts, texts].concat();
        let together = rows(&dual_encoder.encode_texts(&texts).expect("texts"));
        for (text, row) in texts.iter().zip(&together) {
            let alone = rows(&dual_encoder.encode_texts(&[*text]).expect("a text"));
            assert_near(&alone[0], row, &case.name);
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!((length - 1.0).abs() < 1e-5, "{}: length {length}", case.name);
        }
        let none = dual_encoder.encode_images(&[]).expect("no pictures");
        assert_eq!(none.dims(), [0, dual_encoder.towers.config.projection_dim]);
    }
}

#[test]
fn probabilities_are_shared_out_by_clip_and_stand_alone_in_siglip() {
    for case in fixture::comparisons() {
        let dual_encoder = DualEncoder::load(&case.dir, &Device::Cpu).expect(&case.name);
        let logits = case.floats("logits_per_image");
        let found = rows(&dual_encoder.probabilities(&logits).expect("probabilities"));
        for (found, logits) in found.iter().zip(rows(&logits)) {
            let share = |logit: &f32| match dual_encoder.towers.config.model_type {
                DualEncoderType::Clip => {
                    logit.exp() / logits.iter().map(|logit| logit.exp()).sum::<f32>()
                }
                _ => 1.0 / (1.0 + (-logit).exp()),
            };
            assert_near(found, &logits.iter().map(share).collect::<Vec<_>>(), &case.name);
        }
    }
}

#[test]
fn a_model_of_another_kind_is_refused() {
    let asked = fixture::all().remove(0);
    let error = DualEncoder::load(&asked.dir, &Device::Cpu).err().expect("no towers").to_string();
    assert!(error.contains("clip, siglip, siglip2"), "{error}");
    let compared = fixture::comparisons().remove(0);
    let error = vlm::Vlm::load(&compared.dir, &Device::Cpu).err().expect("no chat").to_string();
    assert!(error.contains("`sightline classify`"), "{error}");
}

#[test]
fn published_configs_give_their_number_of_parameters() {
    let Some(folder) = material("processors/clip-vit-large-patch14") else { return };
    let config = DualEncoderConfig::load(&folder).expect("CLIP ViT-L/14");
    let shapes = Towers::parameter_shapes(&config).expect("shapes");
    let count = shapes.iter().map(|(_, dims)| dims.iter().product::<usize>()).sum::<usize>();
    // What openai/clip-vit-large-patch14 holds, its two tables of numbered positions left out.
    assert_eq!((count, config.projection_dim), (427_616_513, 768));
}

/// `tests/parity/texts.json`, made by `texts.py` beside it.
#[derive(Deserialize)]
struct Texts {
    texts: Vec<String>,
    /// Folder in the material -> rows of ids.
    ids: BTreeMap<String, Vec<Vec<u32>>>,
}

#[test]
fn published_tokenizers_give_the_reference_ids() {
    let Some(material) = material("") else { return };
    let text = include_str!("../../parity/texts.json");
    let Texts { texts, ids } = serde_json::from_str(text).expect("texts.json");
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for (folder, expected) in ids {
        let dir = material.join(&folder);
        let tokenizer = TextTokenizer::load(&dir, DualEncoderType::Clip, 77).expect(&folder);
        let found = tokenizer.encode(&texts).expect(&folder).input_ids;
        assert_eq!(found.to_vec2::<u32>().expect("rows"), expected, "{folder}");
    }
}
