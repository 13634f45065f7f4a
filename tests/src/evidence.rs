//! Laws of calibrated evidence: its features are finite and the same however the model came to
//! them, a calibration survives its file, and a map makes absolute probabilities.

use std::path::{Path, PathBuf};

use candle_core::Device;
use image::RgbImage;
use vlm::explain::logistic::Logistic;
use vlm::explain::{Calibration, Detector, MapWeights, Mark, WORD_FEATURES, n_patch_features};
use vlm::generate::{Cancel, Features, Session};
use vlm::processor::{Message, Processor};
use vlm::{Config, Vlm};

use crate::laws::{CHECKPOINTS, Model, ask, model, options, picture};

fn nano_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano")
}

/// The shipped model, its calibration, and its example picture.
pub(super) fn nano() -> (Model, Calibration, RgbImage) {
    let dir = nano_folder();
    let config = Config::load(&dir).expect("a good config");
    let calibration = Calibration::load(&dir, &config).expect("a calibration");
    let model = Model {
        vlm: Vlm::load(&dir, &Device::Cpu).expect("good weights"),
        processor: Processor::load(&dir, &config).expect("a good processor"),
        heads: calibration.heads.clone(),
    };
    let image = vlm::processor::image::open(&dir.join("example.png")).expect("a picture");
    (model, calibration, image)
}

fn features(model: &Model, session: &mut Session, image: &RgbImage, answer: &str) -> Features {
    let messages = [Message::user(1, "What is in the picture?")];
    let images = std::slice::from_ref(image);
    let given = ((&model.vlm, &model.processor), (&messages[..], images));
    session.features(given.0, given.1, answer, &Cancel::new()).expect("features")
}

fn values(features: &Features) -> impl Iterator<Item = f32> {
    let patches = features.tokens.iter().flat_map(|token| token.patches.clone());
    patches.chain(features.words.iter().flat_map(|word| word.features.clone()))
}

#[test]
fn every_family_has_finite_features_in_a_follow_up_too() {
    for name in CHECKPOINTS {
        let model = model(name);
        let heads = model.heads.heads.iter().take(3).copied().collect::<Vec<_>>();
        let n_layers = model.vlm.config.text_config.num_hidden_layers;
        for lens_layer in [None, Some(0), Some(1), Some(n_layers)] {
            let mut calibration = Calibration::from(model.heads.clone());
            calibration.heads.heads = heads.clone();
            calibration.lens_layer = lens_layer;
            let mut session = Session::new(calibration.clone());
            let messages = [Message::user(1, "what is this")];
            ask(&model, &mut session, &messages, &options());
            let kept = features(&model, &mut session, &picture(0), "a red car");
            let mut fresh = Session::new(calibration);
            let fresh = features(&model, &mut fresh, &picture(0), "a red car");
            let n = fresh.cells.len();
            assert!(n > 0 && fresh.words.len() == 3, "{name}");
            let width = n_patch_features(heads.len());
            assert!(fresh.tokens.iter().all(|t| t.patches.len() == n * width), "{name}");
            assert!(fresh.words.iter().all(|w| w.features.len() == WORD_FEATURES.len()), "{name}");
            assert_eq!(fresh.patch(0, n - 1).map(<[f32]>::len), Some(width), "{name}");
            let pairs = values(&kept).zip(values(&fresh));
            for (kept, fresh) in pairs {
                assert!(fresh.is_finite(), "{name}, lens {lens_layer:?}");
                assert!(
                    (kept - fresh).abs() < 2e-2 * fresh.abs().max(1.0),
                    "{name}: {kept} {fresh}"
                );
            }
            let lens_idx = 2 * heads.len();
            let lens = (0..n).map(|j| fresh.patch(0, j).expect("a patch")[lens_idx]);
            let reads = lens.into_iter().any(|value| value != 0.0);
            let tokens = !["mllama", "blip-2", "instructblip"].iter().any(|f| name.starts_with(f));
            assert_eq!(reads, tokens && lens_layer.is_some(), "{name}, lens {lens_layer:?}");
        }
    }
}

/// The lens of the shipped model tells where a thing is, and its map where a word rests.
#[test]
fn a_map_gives_absolute_probabilities_and_words_without_a_region() {
    let (model, mut calibration, image) = nano();
    calibration.lens_layer = Some(0);
    let n_heads = calibration.heads.heads.len();
    // Attention of the first head far above what it is anyway.
    let mut weights = vec![0.0; n_patch_features(n_heads)];
    weights[0] = 1.0;
    let logistic = Logistic { weights, bias: 3.0 };
    calibration.map = Some(MapWeights { logistic, score: None, threshold: 0.0 });
    let weights = WORD_FEATURES.map(|name| if name == "logprob" { 1.0 } else { 0.0 }).to_vec();
    let logistic = Logistic { weights, bias: 2.0 };
    let (seen_from, unsupported_below, thing_unsupported_below) = (0.9, 0.3, 0.0);
    let curve = None;
    let detector =
        Detector { logistic, curve, seen_from, unsupported_below, thing_unsupported_below };
    calibration.seen = Some(detector);
    let messages = [Message::user(1, "What is in the picture?")];
    let given = ((&model.vlm, &model.processor), (&messages[..], std::slice::from_ref(&image)));
    let mut session = Session::new(calibration);
    let long = vlm::generate::GenerateOptions { max_new_tokens: 48, ..Default::default() };
    let answer = session.ask(given.0, given.1, &long, &Cancel::new(), &mut |_| {});
    let answer = answer.expect("an answer");
    let mut with_region = 0;
    for word in &answer.words {
        assert_eq!(word.probability.is_some(), vlm::explain::is_content_word(&word.text));
        assert!(word.probability.is_none_or(|p| (0.0..=1.0).contains(&p)), "{word:?}");
        let Some(evidence) = &word.evidence else { continue };
        with_region += 1;
        assert!((0.5..=1.0).contains(&evidence.score), "{}", evidence.score);
        let map = &evidence.heatmap;
        assert!(map.values.iter().all(|p| (0.0..=1.0).contains(p)), "{:?}", map.values);
    }
    assert!(with_region > 0, "{}", answer.text);
    let told = features(&model, &mut session, &image, answer.text.trim());
    for (word, told) in answer.words.iter().zip(&told.words) {
        assert_eq!(word.text, told.word.text);
        let (Some(said), Some(told)) = (word.probability, told.word.probability) else { continue };
        assert!((said - told).abs() < 1e-2, "{}: {said} {told}", word.text);
    }
}

#[test]
fn a_calibration_survives_its_file_and_old_files_still_load() {
    let config = Config::load(&nano_folder()).expect("a good config");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("evidence.json");
    std::fs::write(&path, r#"{"heads": [[3, 0], [4, 0]], "outlined": true}"#).expect("written");
    let old = Calibration::load(folder.path(), &config).expect("an old file");
    assert!(old.heads.trained && old.heads.outlined && old.map.is_none() && old.seen.is_none());
    let mut new = old.clone();
    new.lens_layer = Some(0);
    let logistic = Logistic { weights: vec![0.25; n_patch_features(2)], bias: -1.5 };
    new.map = Some(MapWeights { logistic: logistic.clone(), score: None, threshold: -0.4 });
    let (n, wrong) = (120, 0.8);
    let mark =
        Mark { kind: "object".into(), state: "guessed".into(), n, wrong, beats_chance: true };
    new.reliability.push(mark);
    std::fs::write(&path, new.to_json().expect("json")).expect("written");
    assert_eq!(Calibration::load(folder.path(), &config).expect("a new file"), new);
    let wrong_files = [
        (r#"{"heads": []}"#, "`heads` is empty"),
        (r#"{"heads": [[99, 0]]}"#, "head [99, 0]"),
        (r#"{"heads": [[3, 0]], "lens_layer": 99}"#, "`lens_layer` is 99"),
        (r#"{"heads": [[3, 0]], "map": {"weights": [1], "bias": 0}}"#, "1 weights, expected 5"),
        (r#"{"heads": [[3, 0]], "seen": {"weights": [], "bias": 0}}"#, "`seen` has 0 weights"),
    ];
    for (text, expected) in wrong_files {
        std::fs::write(&path, text).expect("written");
        let error = Calibration::load(folder.path(), &config).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
