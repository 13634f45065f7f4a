//! A second opinion: candle-transformers' own SigLIP (also as two towers), CLIP and Llama on the
//! same checkpoints.
//!
//! It was written by others from the same papers, so an error that we and our fixtures share would
//! show here. Its modules give no attention and no gradients, which is why they are not the engine.

use candle_core::{DType, Device, IndexOp, Tensor};
use candle_nn::{Module, VarBuilder};
use candle_transformers::models::clip::text_model::Activation;
use candle_transformers::models::clip::vision_model::{ClipVisionConfig, ClipVisionTransformer};
use candle_transformers::models::llama::{Cache, Llama, LlamaConfig};
use candle_transformers::models::siglip::{self, VisionConfig, VisionModel};
use serde_json::Value;
use vlm::model::Eyes;
use vlm::{DualEncoder, Mask, Positions, Probe, Vlm};

use super::fixture::{self, Fixture};

/// max|a-b| / max|b|
const BOUND: f32 = 1e-4;

fn case(name: &str) -> (Fixture, Vlm, Value, VarBuilder<'static>) {
    let case = fixture::all().into_iter().find(|case| case.name == name).expect(name);
    let vlm = Vlm::load(&case.dir, &Device::Cpu).expect(name);
    let text = std::fs::read_to_string(case.dir.join("config.json")).expect("config.json");
    let config = serde_json::from_str(&text).expect("JSON");
    let path = case.dir.join("model.safetensors");
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).expect("weights");
    let weights = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    (case, vlm, config, weights)
}

fn eyes(vlm: &Vlm) -> &Eyes {
    vlm.eyes.as_ref().expect("a tower")
}

fn assert_close(what: &str, ours: &Tensor, theirs: &Tensor) {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    let apart = (ours - theirs).and_then(|d| d.abs()?.max_all()?.to_scalar::<f32>());
    let largest = theirs.abs().and_then(|t| t.max_all()?.to_scalar::<f32>());
    let (apart, largest) = (apart.expect(what), largest.expect(what));
    assert!(apart <= BOUND * largest, "{what}: {apart} of {largest}");
}

#[test]
fn siglip_is_candles_siglip() {
    let (case, vlm, config, weights) = case("llava-siglip-llama-layers");
    let sizes: VisionConfig =
        serde_json::from_value(config["vision_config"].clone()).expect("sizes");
    let theirs = VisionModel::new(&sizes, false, weights.pp("vision_tower.vision_model"));
    let theirs = theirs.expect("their tower");
    let pixel_values = case.floats("pixel_values");
    let ours = eyes(&vlm).vision_encoder.forward(&pixel_values, None).expect("our features");
    assert_close("SigLIP", &ours, &theirs.forward(&pixel_values).expect("their features"));
}

#[test]
fn clip_is_candles_clip() {
    let (case, vlm, config, weights) = case("llava-clip-llama");
    let size = |key: &str| config["vision_config"][key].as_u64().expect(key) as usize;
    let sizes = ClipVisionConfig {
        embed_dim: size("hidden_size"),
        activation: Activation::QuickGelu,
        intermediate_size: size("intermediate_size"),
        num_hidden_layers: size("num_hidden_layers"),
        num_attention_heads: size("num_attention_heads"),
        projection_dim: 0,
        num_channels: 3,
        image_size: size("image_size"),
        patch_size: size("patch_size"),
    };
    let weights = weights.pp("vision_tower.vision_model");
    let theirs = ClipVisionTransformer::new(weights, &sizes).expect("their tower");
    let pixel_values = case.floats("pixel_values");
    // Theirs lists the output of each layer; ours counts the embeddings as state 0.
    let states = theirs.output_hidden_states(&pixel_values).expect("their states");
    for layer in 1..=sizes.num_hidden_layers {
        let ours = eyes(&vlm).vision_encoder.hidden_states(&pixel_values, &[layer as i64]);
        let ours = ours.expect("our states").remove(0);
        assert_close(&format!("CLIP layer {layer}"), &ours, &states[layer - 1]);
    }
}

#[test]
fn llama_is_candles_llama() {
    for name in ["llava-siglip-llama-layers", "llava-clip-llama"] {
        let (case, vlm, config, weights) = case(name);
        let image = config["image_token_index"].as_u64().expect("an id") as u32;
        let ids: Vec<u32> = case.ids("input_ids").into_iter().filter(|&id| id != image).collect();
        let sizes: LlamaConfig =
            serde_json::from_value(config["text_config"].clone()).expect("sizes");
        let sizes = sizes.into_config(false);
        let theirs = Llama::load(weights.pp("language_model"), &sizes).expect("their decoder");
        let mut cache = Cache::new(false, DType::F32, &sizes, &Device::Cpu).expect("a cache");
        let input = Tensor::new(ids, &Device::Cpu).and_then(|t| t.unsqueeze(0)).expect("ids");
        let theirs = theirs.forward(&input, 0, &mut cache).expect("their logits"); // (1, V)
        let embeds = vlm.embed_tokens(&input).expect("embeddings");
        let (positions, mask) = (Positions::From(0), Mask::Causal);
        let hidden = vlm.forward(&embeds, &positions, &mask, None, &mut Probe::none());
        let hidden = hidden.expect("hidden states");
        let last = hidden.i((.., hidden.dims()[1] - 1)).and_then(|t| t.contiguous());
        let ours = vlm.logits(&last.expect("a row")).expect("our logits");
        assert_close(name, &ours, &theirs);
    }
}

#[test]
fn two_towers_are_candles_two_towers() {
    let mut cases = fixture::comparisons().into_iter();
    let case = cases.find(|case| case.name == "siglip-sentencepiece").expect("a case");
    let text = std::fs::read_to_string(case.dir.join("config.json")).expect("config.json");
    let mut sizes: Value = serde_json::from_str(&text).expect("JSON");
    // Theirs takes no `null` for an id.
    sizes["text_config"].as_object_mut().expect("sizes").retain(|_, value| !value.is_null());
    let sizes: siglip::Config = serde_json::from_value(sizes).expect("sizes");
    let path = case.dir.join("model.safetensors");
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).expect("weights");
    let weights = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let theirs = siglip::Model::new(&sizes, weights).expect("their towers");
    let ours = DualEncoder::load(&case.dir, &Device::Cpu).expect("our towers");
    let texts: Vec<&str> = case.texts.iter().map(String::as_str).collect();
    let ids = ours.texts.encode(&texts).expect("ids").input_ids;
    let (_, theirs) = theirs.forward(&case.floats("pixel_values"), &ids).expect("their logits");
    let images = ours.encode_images(&case.images).expect("our pictures");
    let ours = ours.logits(&images, &ours.encode_texts(&texts).expect("our texts"));
    assert_close("SigLIP's logits", &ours.expect("our logits"), &theirs);
}
