//! Models that load without an error and are blind all the same: the shipped one, its eyes broken
//! in one place each time, is refused pictures and says why.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use app::api::{AskRequest, SightVerdict};
use app::{App, OpenOptions};
use candle_core::{DType, Device, Tensor};
use eval::{Model, Sight, Verdict};
use tempfile::TempDir;
use vlm::Quantization;
use vlm::generate::Cancel;

type Tensors = HashMap<String, Tensor>;

fn nano() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano")
}

fn check(folder: &Path, quantization: Quantization) -> Sight {
    let model = Model::load(folder, quantization).expect("a model that loads");
    let parts = (&model.vlm, &model.processor);
    eval::sight::check(parts, &model.calibration.heads, &Cancel::new()).expect("a check that ends")
}

/// The shipped model with `change` made to its tensors.
fn broken(change: impl FnOnce(&mut Tensors)) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for entry in std::fs::read_dir(nano()).expect("the model").flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("a copy");
        }
    }
    let weights = folder.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&weights, &Device::Cpu).expect("weights");
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, weights).expect("written weights");
    folder
}

/// Replaces the tensors of these names by what `with` makes of them; at least one must fit.
fn replace(tensors: &mut Tensors, fits: impl Fn(&str) -> bool, with: impl Fn(&Tensor) -> Tensor) {
    let names: Vec<String> = tensors.keys().filter(|name| fits(name)).cloned().collect();
    assert!(!names.is_empty(), "no tensor has such a name");
    for name in names {
        let replaced = with(&tensors[&name]);
        tensors.insert(name, replaced);
    }
}

/// The rows in another order: each output of the projector goes to another place.
fn shuffled(weight: &Tensor) -> Tensor {
    let n = weight.dim(0).expect("rows") as u32;
    let order: Vec<u32> = (0..n).map(|i| (i * 7 + 3) % n).collect();
    let order = Tensor::new(order, &Device::Cpu).expect("an order");
    weight.index_select(&order, 0).expect("rows in another order")
}

/// Numbers of the same spread that mean nothing.
fn random(weight: &Tensor) -> Tensor {
    let values = weight.to_dtype(DType::F32).expect("numbers");
    let spread = values.sqr().and_then(|v| v.mean_all()?.sqrt()?.to_scalar::<f32>());
    let mut state = 1u32;
    let values = (0..weight.elem_count()).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    });
    let values: Vec<f32> = values.collect();
    let noise = Tensor::from_vec(values, weight.dims(), &Device::Cpu).expect("noise");
    let noise = noise.affine(f64::from(spread.expect("a spread")) * 1.7, 0.0);
    noise.and_then(|noise| noise.to_dtype(weight.dtype())).expect("noise")
}

fn layer_of(name: &str) -> Option<usize> {
    let rest = name.strip_prefix("model.vision_model.encoder.layers.")?;
    rest.split('.').next()?.parse().ok()
}

#[test]
fn the_shipped_model_sees_in_every_format() {
    for quantization in Quantization::ALL {
        let sight = check(&nano(), quantization);
        assert_eq!(sight.verdict, Verdict::Sees, "{quantization:?}: {sight}");
    }
}

#[test]
fn a_shuffled_projector_is_blind() {
    let folder = broken(|tensors| {
        replace(tensors, |name| name.contains("modality_projection"), shuffled);
    });
    let sight = check(folder.path(), Quantization::None);
    assert_eq!(sight.verdict, Verdict::Blind, "{sight}");
}

#[test]
fn half_a_tower_is_blind() {
    let folder = broken(|tensors| {
        let layers = tensors.keys().filter_map(|name| layer_of(name)).max().expect("layers") + 1;
        let lost = |name: &str| {
            layer_of(name).is_some_and(|layer| layer >= layers / 2) && name.ends_with(".weight")
        };
        replace(tensors, lost, random);
    });
    let sight = check(folder.path(), Quantization::None);
    assert_eq!(sight.verdict, Verdict::Blind, "{sight}");
}

#[test]
fn a_tower_of_zeros_is_blind() {
    let nothing = |weight: &Tensor| weight.zeros_like().expect("zeros");
    for from_layer in [3, 0] {
        let folder = broken(|tensors| {
            let lost = |name: &str| {
                layer_of(name).is_some_and(|layer| layer >= from_layer) && name.ends_with(".weight")
            };
            replace(tensors, lost, nothing);
        });
        let sight = check(folder.path(), Quantization::None);
        assert_eq!(sight.verdict, Verdict::Blind, "from layer {from_layer}: {sight}");
    }
}

#[test]
fn constant_embeddings_are_blind() {
    let folder = broken(|tensors| {
        let nothing = |weight: &Tensor| weight.zeros_like().expect("zeros");
        replace(tensors, |name| name.contains("patch_embedding.weight"), nothing);
    });
    let sight = check(folder.path(), Quantization::None);
    assert_eq!(sight.verdict, Verdict::Blind, "{sight}");
    assert!(sight.reason.contains("look the same"), "{sight}");
}

#[test]
fn weights_without_a_language_are_not_called_blind() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/fixtures/llava-clip-llama");
    let sight = check(&fixture, Quantization::None);
    assert_eq!(sight.verdict, Verdict::Unproven, "{sight}");
}

#[test]
fn the_program_refuses_a_blind_model_pictures_and_nothing_else() {
    let folder = broken(|tensors| {
        replace(tensors, |name| name.contains("modality_projection"), shuffled);
    });
    let app = App::open(OpenOptions { model: Some(folder.path().into()), ..Default::default() });
    let card = app.wait_until_loaded().expect("a model that loads");
    assert_eq!(card.sight.verdict, SightVerdict::Blind);
    let picture = app.attach_path(&nano().join("example.png")).expect("a picture");
    let ask = |images: Vec<u32>| {
        let chat = app.new_chat();
        let question = "What is in the picture?".to_string();
        app.ask(
            AskRequest { chat, question, images, region: None, options: Default::default() },
            |_| true,
        )
    };
    let refused = ask(vec![picture.id]).expect_err("a blind model spoke about a picture");
    assert_eq!(refused.code, "blind");
    assert!(refused.message.contains("does not see"), "{refused:?}");
    ask(Vec::new()).expect("a question without a picture");
}
