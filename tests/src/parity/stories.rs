//! A trained language model, the 260,000 parameters of stories260K, from safetensors and from
//! every GGUF of it: ids, logits and stories are those that came with it.

use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::Value;
use vlm::explain::EvidenceHeads;
use vlm::generate::{Cancel, GenerateOptions, Session};
use vlm::processor::{Message, Processor};
use vlm::{Config, KvCache, Mask, Positions, Probe, Quantization, Vlm};

use super::real_settings::material;

/// The files, the largest deviation of a logit allowed, and the mean loss that is known of each.
const FILES: [(&str, f32, f64); 5] = [
    ("hf", 1e-4, 0.18036),
    ("stories260K-f32.gguf", 1e-4, 0.18036),
    ("stories260K-f16.gguf", 0.01, 0.18036),
    ("stories260K-q8_0.gguf", 0.2, 0.17820),
    ("stories260K-q4_0.gguf", 2.5, 0.2514),
];

fn ids(json: &Value) -> Vec<u32> {
    let ids = json.as_array().expect("ids").iter();
    ids.map(|id| id.as_u64().expect("an id") as u32).collect()
}

fn golden(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("golden.json")).expect("golden.json");
    serde_json::from_str(&text).expect("golden.json")
}

/// Logits `(T, V)` of `input_ids` after what the cache holds.
fn logits(vlm: &Vlm, input_ids: &[u32], cache: Option<&mut KvCache>) -> Vec<Vec<f32>> {
    let ids = Tensor::new(input_ids, &Device::Cpu).and_then(|ids| ids.unsqueeze(0)).expect("ids");
    let embeds = vlm.embed_tokens(&ids).expect("embeddings");
    let from = Positions::From(cache.as_ref().map_or(0, |cache| cache.len()));
    let hidden = vlm.forward(&embeds, &from, &Mask::Causal, cache, &mut Probe::none());
    let logits = vlm.logits(&hidden.expect("hidden states")).expect("logits");
    logits.squeeze(0).and_then(|rows| rows.to_vec2()).expect("rows")
}

fn greedy(vlm: &Vlm, prompt: &[u32], n_tokens: usize) -> Vec<u32> {
    let mut cache = KvCache::new();
    let mut all = prompt.to_vec();
    let mut rows = logits(vlm, prompt, Some(&mut cache));
    while all.len() < n_tokens {
        let last = rows.pop().expect("a row");
        let best = (0..last.len()).max_by(|a, b| last[*a].total_cmp(&last[*b])).expect("a token");
        all.push(best as u32);
        rows = logits(vlm, &[best as u32], Some(&mut cache));
    }
    all
}

#[test]
fn stories_are_told_as_by_the_reference() {
    let Some(folder) = material("weights/stories260K") else { return };
    let golden = golden(&folder);
    let (prompt, first) = (ids(&golden["prompt_ids"]), [1]);
    for (file, bound, loss) in FILES {
        let vlm = Vlm::load(&folder.join(file), &Device::Cpu).expect(file);
        for (input, key) in [(&first[..], "bos"), (&prompt[..], "prompt")] {
            let expected = golden[format!("logits_after_{key}_first16")].as_array().expect("16");
            let ours = logits(&vlm, input, None).pop().expect("a row");
            let apart = expected.iter().zip(&ours).map(|(a, b)| a.as_f64().unwrap() as f32 - b);
            let apart = apart.fold(0f32, |max, d| max.max(d.abs()));
            println!("{file}: logits after {key} differ by {apart:.1e}");
            assert!(apart <= bound, "{file}: {apart}");
            let told = ids(&golden[format!("greedy_from_{key}_ids")]);
            if !file.contains("-q") {
                assert_eq!(greedy(&vlm, input, told.len()), told, "{file} from {key}");
            }
        }
        let processor = Processor::load(&folder.join(file), &vlm.config).expect(file);
        let text = golden["mean_nll_reference"]["text"].as_str().expect("a text");
        let input = processor.tokenizer.encode_with(text, true).expect("ids");
        let rows = logits(&vlm, &input, None);
        let said = rows.iter().zip(&input[1..]).map(|(row, id)| {
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|v| f64::from(v - top).exp()).sum();
            sum.ln() - f64::from(row[*id as usize] - top)
        });
        let mean = said.sum::<f64>() / (input.len() - 1) as f64;
        println!("{file}: mean loss {mean:.5}, known {loss}");
        assert!((mean - loss).abs() < 1e-4, "{file}: {mean}");
    }
}

#[test]
fn text_is_cut_as_by_the_reference() {
    let Some(folder) = material("weights/stories260K") else { return };
    let golden = golden(&folder);
    for (file, _, _) in FILES {
        let config = Config::load(&folder.join(file)).expect(file);
        let processor = Processor::load(&folder.join(file), &config).expect(file);
        for case in golden["tokenizer_cases"].as_array().expect("cases") {
            let text = case["text"].as_str().expect("a text");
            let found = processor.tokenizer.encode_with(text, true).expect("ids");
            assert_eq!(found, ids(&case["ids"]), "{file}: {text:?}");
            assert_eq!(processor.tokenizer.decode(&found).expect("text"), text, "{file}");
        }
    }
}

/// 47 texts in Llama 2's vocabulary, as llama.cpp's own test has them.
#[test]
fn a_vocabulary_of_llama_cpp_cuts_as_llama_cpp_does() {
    let Some(folder) = material("tokenizers/llama.cpp") else { return };
    let path = folder.join("ggml-vocab-llama-spm.gguf");
    let tokenizer = vlm::processor::Tokenizer::load(&path).expect("a vocabulary");
    let read = |end: &str| std::fs::read_to_string(path.with_extension(end)).expect(end);
    let (texts, golden) = (read("gguf.inp"), read("gguf.out"));
    let mut wrong = Vec::new();
    let mut n_texts = 0;
    for (text, line) in texts.split("\n__ggml_vocab_test__\n").zip(golden.lines()) {
        let expected: Vec<u32> =
            line.split_whitespace().map(|id| id.parse().expect("an id")).collect();
        let found = tokenizer.encode(text).expect("ids");
        n_texts += 1;
        if found != expected {
            wrong.push(format!("{text:?}: {found:?}, not {expected:?}"));
        }
    }
    println!("{} of {n_texts} texts", n_texts - wrong.len());
    assert!(n_texts > 40 && wrong.is_empty(), "{}", wrong.join("\n"));
}

/// 8-bit blocks of the file are the blocks that are computed with: only activations are rounded.
#[test]
fn eight_bits_of_a_file_are_eight_bits_in_memory() {
    let Some(folder) = material("weights/stories260K") else { return };
    let path = folder.join("stories260K-q8_0.gguf");
    let prompt = ids(&golden(&folder)["prompt_ids"]);
    let exact = Vlm::load(&path, &Device::Cpu).expect("f32");
    let packed = Vlm::load_quantized(&path, &Device::Cpu, Quantization::Q8_0, None);
    let (exact, packed) =
        (logits(&exact, &prompt, None), logits(&packed.expect("q8"), &prompt, None));
    let (exact, packed) = (exact.concat(), packed.concat());
    let apart = exact.iter().zip(&packed).fold(0f32, |max, (a, b)| max.max((a - b).abs()));
    let largest = exact.iter().fold(0f32, |max, a| max.max(a.abs()));
    println!("{apart} of {largest}");
    // ffn_down is f32 in this file, as its rows are no whole blocks; here it is packed too.
    assert!(apart <= 0.02 * largest, "{apart} of {largest}");
}

#[test]
fn a_model_without_eyes_answers_and_refuses_pictures() {
    let Some(folder) = material("weights/stories260K") else { return };
    for file in ["hf", "stories260K-f16.gguf"] {
        let dir = folder.join(file);
        let config = Config::load(&dir).expect(file);
        let processor = Processor::load(&dir, &config).expect(file);
        let vlm = Vlm::load(&dir, &Device::Cpu).expect(file);
        assert!(!config.sees() && vlm.eyes.is_none());
        let options = GenerateOptions { max_new_tokens: 8, ..Default::default() };
        let mut session = Session::new(EvidenceHeads::untrained(&config));
        let mut ask = |messages: &[Message], images: &[image::RgbImage]| {
            let (model, given) = ((&vlm, &processor), (messages, images));
            session.ask(model, given, &options, &Cancel::new(), &mut |_| {})
        };
        let picture = [image::RgbImage::new(40, 30)];
        let error = ask(&[Message::user(1, "What is this?")], &picture).expect_err("no eyes");
        assert!(error.to_string().contains("reads text only"), "{error}");
        let story = ask(&[Message::user(0, "Lily and Tom went to the park")], &[]).expect(file);
        assert_eq!(story.text, ". They saw a big box", "{file}");
    }
}
