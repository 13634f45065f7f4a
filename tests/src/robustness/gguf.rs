//! Bad GGUF models: files that do not fit together, are cut short, or say impossible things. A
//! good pair, changed in one place each time.

use std::path::{Path, PathBuf};

use candle_core::Device;
use tempfile::TempDir;
use vlm::processor::{Message, Processor};
use vlm::{Config, Vlm};

const MODEL: &str = "model-f16.gguf";
const EYES: &str = "mmproj-model-f16.gguf";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/fixtures").join(name)
}

/// The files of a good pair in a folder of their own.
fn copy() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in [MODEL, EYES] {
        put(&folder, name, &good(name));
    }
    folder
}

fn good(name: &str) -> Vec<u8> {
    std::fs::read(fixture("llava-clip-llama-gguf").join(name)).expect(name)
}

fn put(folder: &TempDir, name: &str, bytes: &[u8]) {
    std::fs::write(folder.path().join(name), bytes).expect("written");
}

/// What loading the model says, whatever part of it refuses.
fn refusal(path: &Path) -> String {
    let load = || {
        let config = Config::load(path)?;
        Processor::load(path, &config)?;
        Vlm::load(path, &Device::Cpu)
    };
    load().err().expect("a broken model was accepted").to_string()
}

/// The bytes with `from`, which is there once or more, replaced by as many others.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|window| window == from).expect("the bytes");
    let mut bytes = bytes.to_vec();
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

/// The bytes with the 32-bit value of `key` replaced.
fn with_value(bytes: &[u8], key: &str, value: u32) -> Vec<u8> {
    let at = bytes.windows(key.len()).position(|window| window == key.as_bytes()).expect(key);
    let mut bytes = bytes.to_vec();
    let at = at + key.len() + 4; // the kind of value
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    bytes
}

#[test]
fn a_model_is_found_by_its_file_or_its_folder() {
    let folder = copy();
    for path in [folder.path().to_path_buf(), folder.path().join(MODEL)] {
        let vlm = Vlm::load(&path, &Device::Cpu).expect("a good pair");
        assert!(vlm.eyes.is_some() && vlm.config.sees());
    }
    std::fs::remove_file(folder.path().join(EYES)).expect("removed");
    let vlm = Vlm::load(folder.path(), &Device::Cpu).expect("a language model");
    assert!(vlm.eyes.is_none());
}

#[test]
fn files_that_do_not_fit_together_are_named() {
    let folder = copy();
    put(&folder, "mmproj-other.gguf", &good(EYES));
    let message = refusal(folder.path());
    for part in [EYES, "mmproj-other.gguf", "width 32", "keep one"] {
        assert!(message.contains(part), "{message}");
    }
    let folder = copy();
    put(&folder, "another.gguf", &good(MODEL));
    let message = refusal(folder.path());
    assert!(message.contains(MODEL) && message.contains("another.gguf"), "{message}");
    // One that fits is taken, whatever lies beside it.
    let folder = copy();
    let other = with_value(&good(MODEL), "llama.embedding_length", 48);
    put(&folder, MODEL, &other);
    let message = refusal(folder.path());
    for part in [MODEL, EYES, "width 32", "reads 48"] {
        assert!(message.contains(part), "{message}");
    }
    let folder = copy();
    let message = refusal(&folder.path().join(EYES));
    assert!(message.contains("vision part") && message.contains(EYES), "{message}");
    put(&folder, EYES, &good(MODEL));
    let message = refusal(folder.path());
    assert!(message.contains(EYES) && message.contains("no vision part"), "{message}");
}

#[test]
fn missing_unexpected_and_misshaped_tensors_have_their_usual_names() {
    let rows = [
        (MODEL, "blk.1.attn_q.weight", "blk.1.attn_x.weight", "layers.1.self_attn.q_proj.weight"),
        (MODEL, "blk.1.attn_q.weight", "blk.1.attn_x.weight", "unexpected (blk.1.attn_x.weight)"),
        (
            EYES,
            "v.blk.0.attn_out.bias",
            "v.blk.0.attn_xxx.bias",
            "layers.0.self_attn.out_proj.bias",
        ),
    ];
    for (file, from, to, expected) in rows {
        let folder = copy();
        put(&folder, file, &replaced(&good(file), from.as_bytes(), to.as_bytes()));
        let message = refusal(folder.path());
        assert!(message.contains(expected) && message.contains("missing"), "{message}");
    }
    let folder = copy();
    put(&folder, MODEL, &with_value(&good(MODEL), "llama.feed_forward_length", 64));
    let message = refusal(folder.path());
    assert!(message.contains("up_proj.weight is [48, 32], expected [64, 32]"), "{message}");
}

#[test]
fn impossible_metadata_is_refused_by_its_key() {
    let rows = [
        (MODEL, "llama.block_count", u32::MAX),
        (MODEL, "llama.attention.head_count", 0),
        (MODEL, "llama.attention.head_count", u32::MAX),
        (MODEL, "llama.attention.head_count_kv", 3),
        (MODEL, "llama.feed_forward_length", u32::MAX),
        (MODEL, "llama.rope.dimension_count", 6),
        (MODEL, "tokenizer.ggml.bos_token_id", 7_000_000),
        (EYES, "clip.vision.block_count", u32::MAX),
        (EYES, "clip.vision.image_size", u32::MAX),
        (EYES, "clip.vision.patch_size", 0),
        (EYES, "clip.vision.attention.head_count", 0),
    ];
    for (file, key, value) in rows {
        let folder = copy();
        put(&folder, file, &with_value(&good(file), key, value));
        let message = refusal(folder.path());
        let end = key.rsplit('.').next().expect("a key");
        let hf = ["num_key_value_heads", "vision_config"];
        let named = message.contains(end) || hf.iter().any(|key| message.contains(key));
        assert!(named, "{key} = {value}: {message}");
    }
    let rows = [
        (MODEL, "gpt-2", "gpt-9", "gpt-9"),
        (MODEL, "gpt2", "gpt9", "gpt9"),
        (EYES, "mlp", "mlq", "mlq"),
    ];
    for (file, from, to, expected) in rows {
        let folder = copy();
        put(&folder, file, &replaced(&good(file), from.as_bytes(), to.as_bytes()));
        let message = refusal(folder.path());
        assert!(message.contains(expected) && message.contains("supported"), "{message}");
    }
}

/// As `llama-gguf-split` cuts and names them.
#[test]
fn a_model_in_parts_is_read_as_one_and_a_wrong_part_is_named() {
    let name = |i: usize| format!("model-f16-split-{i:05}-of-00004.gguf");
    let part =
        |i: usize| std::fs::read(fixture("text-qwen2-split-gguf").join(name(i))).expect("a part");
    let copy = || {
        let folder = tempfile::tempdir().expect("a folder");
        (1..=4).for_each(|i| put(&folder, &name(i), &part(i)));
        folder
    };
    let folder = copy();
    for path in [folder.path().to_path_buf(), folder.path().join(name(3))] {
        Vlm::load(&path, &Device::Cpu).expect("all parts, whichever is named");
    }
    std::fs::remove_file(folder.path().join(name(3))).expect("removed");
    let message = refusal(folder.path());
    assert!(message.contains(&name(3)), "{message}");
    let folder = copy();
    put(&folder, &name(3), &part(2));
    let message = refusal(folder.path());
    assert!(message.contains(&name(3)) && message.contains("part 3 of 4"), "{message}");
    let folder = copy();
    std::fs::rename(folder.path().join(name(1)), folder.path().join("m.gguf")).expect("renamed");
    let message = refusal(&folder.path().join("m.gguf"));
    assert!(message.contains("4 parts") && message.contains("00001-of-"), "{message}");
}

#[test]
fn eyes_made_for_another_kind_of_decoder_are_named() {
    let folder = copy();
    let eyes = std::fs::read(fixture("qwen2-vl-gguf").join(EYES)).expect("eyes");
    put(&folder, EYES, &eyes);
    let message = refusal(folder.path());
    for part in [EYES, "qwen2vl", "llama"] {
        assert!(message.contains(part), "{message}");
    }
}

/// The bytes with one more text among the metadata. It ends in so many spaces that what follows
/// keeps its alignment.
fn with_text(bytes: &[u8], key: &str, value: &str) -> Vec<u8> {
    let length = (8 + key.len() + 4 + 8 + value.len()).next_multiple_of(32);
    let value = format!("{value:width$}", width = length - (8 + key.len() + 4 + 8));
    let n_keys = u64::from_le_bytes(bytes[16..24].try_into().expect("8 bytes")) + 1;
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let more = [text(key), 8u32.to_le_bytes().to_vec(), text(&value)].concat();
    [&bytes[..16], &n_keys.to_le_bytes(), &more, &bytes[24..]].concat()
}

/// A language model's file of one fixture with the eyes of another, after `change`.
fn pair(model: &str, eyes: &str, change: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (from, name) in [(model, MODEL), (eyes, EYES)] {
        let bytes = std::fs::read(fixture(from).join(name)).expect(name);
        put(&folder, name, &change(name, bytes));
    }
    folder
}

#[test]
fn eyes_of_another_family_or_generation_are_named() {
    let same = |_: &str, bytes: Vec<u8>| bytes;
    let (two, two_5) = ("qwen2-vl-gguf", "qwen2-5-vl-windows-gguf");
    for (eyes, kind) in
        [("llava-clip-llama-gguf", "llava"), ("smolvlm-llama-tiles-gguf", "idefics3")]
    {
        let message = refusal(pair(two, eyes, same).path());
        assert!(message.contains(&format!("{EYES} holds eyes of kind {kind}")), "{message}");
        let message = refusal(pair(eyes, two, same).path());
        assert!(message.contains("a decoder of kind qwen2vl"), "{message}");
    }
    let (name_2, name_2_5) = ("Qwen2-VL-2B-Instruct", "Qwen2.5 VL 3B Instruct");
    for key in ["general.basename", "general.name", "general.base_model.0.name"] {
        for (fixture, own, other) in [(two, name_2, name_2_5), (two_5, name_2_5, name_2)] {
            let named = |name: &'static str| {
                pair(fixture, fixture, |file, bytes| match file {
                    MODEL => with_text(&bytes, key, name),
                    _ => bytes,
                })
            };
            Vlm::load(named(own).path(), &Device::Cpu).expect("its own eyes");
            let message = refusal(named(other).path());
            assert!(message.contains(&format!("calls itself {other}")), "{message}");
            assert!(message.contains(EYES) && message.contains("put the mmproj"), "{message}");
        }
    }
    // The file of the eyes contradicts itself.
    let (windows, none) = ("clip.vision.n_wa_pattern", "clip.vision.n_xx_pattern");
    let without = pair(two_5, two_5, |file, bytes| match file {
        EYES => replaced(&bytes, windows.as_bytes(), none.as_bytes()),
        _ => bytes,
    });
    let message = refusal(without.path());
    assert!(message.contains("lacks the windows"), "{message}");
}

/// What Idefics3 puts around its picture tokens would be read as letters.
#[test]
fn eyes_beside_a_vocabulary_without_their_tokens_are_named() {
    for (token, other) in [
        ("<fake_token_around_image>", "<fake_token_around_xmage>"),
        ("<global-img>", "<global-xmg>"),
    ] {
        let name = "smolvlm-llama-tiles-gguf";
        let folder = pair(name, name, |file, bytes| match file {
            MODEL => replaced(&bytes, token.as_bytes(), other.as_bytes()),
            _ => bytes,
        });
        let message = refusal(folder.path());
        assert!(message.contains(EYES) && message.contains(token), "{message}");
        assert!(message.contains(MODEL), "{message}");
    }
}

#[test]
fn a_template_that_writes_no_picture_is_refused() {
    let folder = copy();
    let bytes = good(MODEL);
    let key = b"tokenizer.chat_template";
    let at = bytes.windows(key.len()).position(|window| window == key).expect("a template");
    let template = replaced(&bytes[at..], b"<image>", b"<imago>");
    put(&folder, MODEL, &[&bytes[..at], &template].concat());
    let message = refusal(folder.path());
    assert!(message.contains(MODEL), "{message}");
    assert!(message.contains("chat template writes 0 pictures for one"), "{message}");
}

/// Files of the first LLaVA have no picture token: it gets the id after the last, and no row.
#[test]
fn a_vocabulary_without_the_picture_token_gets_one() {
    let folder = copy();
    put(&folder, MODEL, &replaced(&good(MODEL), b"<image>", b"<imago>"));
    let config = Config::load(folder.path()).expect("a config");
    assert_eq!(config.image_token_id as usize, config.text_config.vocab_size);
    let processor = Processor::load(folder.path(), &config).expect("a processor");
    let vlm = Vlm::load(folder.path(), &Device::Cpu).expect("a model");
    let picture = image::RgbImage::new(40, 30);
    let inputs = processor.prepare(&[Message::user(1, "What is this?")], &[picture]);
    let inputs = inputs.expect("inputs");
    let pixels = inputs.pixel_values.as_ref().expect("pixels");
    let embeds = vlm.encode_images(pixels).and_then(|e| vlm.pack(&e, &inputs.image_spans));
    let merged = vlm.merge(&inputs.input_ids, &embeds.expect("picture tokens")).expect("merged");
    assert_eq!(merged.dims()[1], inputs.input_ids.len());
}

#[test]
fn files_cut_short_are_named() {
    for file in [MODEL, EYES] {
        let whole = good(file);
        for n in [0, 3, 20, 100, whole.len() / 4, whole.len() / 2, whole.len() - 40] {
            let folder = copy();
            put(&folder, file, &whole[..n]);
            let message = refusal(folder.path());
            assert!(message.contains(file), "{n} bytes of {file}: {message}");
        }
    }
}

/// Whatever byte of the header is another one, there is a model or an error.
#[test]
fn a_changed_header_never_panics() {
    let folder = copy();
    for file in [MODEL, EYES] {
        let whole = good(file);
        for i in 0..400 {
            let at = i * 37 % 12_000.min(whole.len());
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (i % 8);
            put(&folder, file, &bytes);
            let path = folder.path();
            let _ = Config::load(path).and_then(|config| Processor::load(path, &config));
            let _ = Vlm::load(path, &Device::Cpu);
        }
        put(&folder, file, &whole);
    }
}
