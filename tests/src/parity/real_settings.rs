//! The processor settings and tokenizers of published checkpoints, where the test material is here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use image::RgbImage;
use vlm::processor::Tokenizer;
use vlm::processor::image::{Filter, ImageProcessor, ImageSettings, Kind, Size, open, resize};
use vlm::{Config, Quantization, Vlm};

/// The folder of test material, or `None` with the reason printed.
pub(super) fn material(folder: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/material");
    let path = root.join(folder);
    if !path.is_dir() {
        println!("skipped: {} is not here", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn published_preprocessor_settings_are_read() {
    let Some(folder) = material("processors/vlm-configs") else { return };
    let read = |file: &str| {
        let text = std::fs::read_to_string(folder.join(file)).expect(file);
        ImageSettings::parse(&text, Kind::Clip).expect(file)
    };
    let smol = read("SmolVLM2-500M-Video-Instruct/preprocessor_config.json");
    assert_eq!((smol.kind, smol.max_image_size), (Kind::Idefics3, 512));
    assert_eq!((smol.size, smol.filter), (Size::LongestEdge(2048), Filter::Lanczos));
    let siglip = read("siglip-so400m-patch14-384/preprocessor_config.json");
    assert_eq!(siglip.kind, Kind::Siglip);
    assert_eq!(siglip.size, Size::Exact { height: 384, width: 384 });

    let next = read("llava-v1.6/preprocessor_config.json");
    assert_eq!((next.kind, next.image_grid_pinpoints.len()), (Kind::LlavaNext, 5));

    // A 4:3 photo: 2 columns and rows of 336 pixels, and the whole.
    let tiles = ImageProcessor { settings: next }.tiles(&RgbImage::new(800, 600));
    assert_eq!((tiles.rows, tiles.cols, tiles.tiles.len()), (2, 2, 5));

    for file in ["Qwen2-VL-7B-Instruct", "Qwen2.5-VL-7B-Instruct"] {
        let qwen = read(&format!("{file}/preprocessor_config.json"));
        assert_eq!((qwen.kind, qwen.filter), (Kind::Qwen2Vl, Filter::Bicubic));
        let patches = qwen.patches.expect("patches");
        assert_eq!((patches.token_side(), patches.max_pixels), (28, 16_384 * 28 * 28));
        // What `smart_resize` of transformers 4.57.1 gives.
        for (size, expected) in [((800, 600), (812, 588)), ((6000, 4000), (4368, 2912))] {
            let images = ImageProcessor { settings: qwen.clone() };
            let tiles = images.tiles(&RgbImage::new(size.0, size.1)).tiles;
            assert_eq!(tiles[0].pixels.dimensions(), expected, "{size:?}");
        }
    }

    // The same: 4 columns and 3 rows of 512 pixels, and the whole.
    let tiles = ImageProcessor { settings: smol }.tiles(&RgbImage::new(800, 600));
    assert_eq!((tiles.rows, tiles.cols, tiles.tiles.len()), (3, 4, 13));
}

/// Llama-3.2-Vision's settings, published under the names of another program.
#[test]
fn published_canvas_settings_cut_pictures() {
    let Some(folder) = material("processors/onnxruntime-extensions/processor/mllama") else {
        return;
    };
    let text = std::fs::read_to_string(folder.join("llama_3_image.json")).expect("settings");
    let json: serde_json::Value = serde_json::from_str(&text).expect("settings");
    let theirs = &json["processor"]["transforms"][1]["operation"]["attrs"];
    let ours = serde_json::json!({
        "image_processor_type": json["processor"]["name"],
        "size": {"height": theirs["size"][0], "width": theirs["size"][1]},
        "max_image_tiles": theirs["max_image_tiles"],
        "rescale_factor": theirs["rescale/rescale_factor"],
        "image_mean": theirs["normalize/mean"],
        "image_std": theirs["normalize/std"],
    });
    let settings = ImageSettings::parse(&ours.to_string(), Kind::Clip).expect("settings");
    assert_eq!((settings.kind, settings.filter), (Kind::Mllama, Filter::Bilinear));
    let processor = ImageProcessor { settings };
    for (size, canvas) in [((800, 600), (2, 2)), ((560, 560), (1, 1)), ((2000, 500), (1, 4))] {
        let tiles = processor.tiles(&RgbImage::new(size.0, size.1));
        assert_eq!((tiles.rows, tiles.cols), canvas, "{size:?}");
        assert!(tiles.tiles.iter().all(|tile| tile.pixels.dimensions() == (560, 560)));
    }
}

/// Another implementation's first values for a photo brought to 540 x 360 pixels, in whole tokens.
#[test]
fn patches_of_a_photo_are_those_of_another_implementation() {
    let Some(folder) = material("processors/onnxruntime-extensions") else { return };
    let expected = std::fs::read_to_string(folder.join("qwen2.5vl/pixel_values_reference.txt"));
    let expected: Vec<f32> = expected
        .expect("the reference")
        .split_whitespace()
        .map(|value| value.parse().expect("a number"))
        .collect();
    assert_eq!(expected.len(), 1000);
    let settings = ImageSettings::parse("{}", Kind::Qwen2Vl).expect("settings");
    let images = ImageProcessor { settings };
    let photo = open(&folder.join("processor/australia.jpg")).expect("the photo");
    let photo = resize(&photo, 532, 364, Filter::Bicubic);
    let tiles = images.tiles(&photo).tiles;
    let pixel_values = images.pixel_values(&tiles.iter().collect::<Vec<_>>()).expect("patches");
    assert_eq!(pixel_values.dims(), [26 * 38, 3 * 2 * 14 * 14]);
    let ours: Vec<f32> =
        pixel_values.flatten_all().and_then(|values| values.to_vec1()).expect("numbers");
    let apart = ours.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // One step of 8 bits is 0.0146 in the channel with the least deviation.
    assert!(apart < 0.0147, "{apart}");
}

/// The network that a published file describes has as many parameters as transformers gives it.
#[test]
fn published_configurations_build_their_networks() {
    let Some(folder) = material("processors/vlm-configs") else { return };
    let text = std::fs::read_to_string(folder.join("Qwen2.5-VL-7B-Instruct/config.json"));
    let seven: serde_json::Value =
        serde_json::from_str(&text.expect("config.json")).expect("config.json");
    let mut three = seven.clone();
    for (key, value) in [
        ("hidden_size", 2048),
        ("intermediate_size", 11_008),
        ("num_attention_heads", 16),
        ("num_hidden_layers", 36),
        ("num_key_value_heads", 2),
        ("vocab_size", 151_936),
    ] {
        three[key] = value.into();
    }
    three["tie_word_embeddings"] = true.into();
    three["vision_config"]["out_hidden_size"] = 2048.into();
    let read = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name).join("config.json"));
        serde_json::from_str(&text.expect(name)).expect(name)
    };
    for (json, expected) in [
        (seven, 8_292_166_656),
        (three, 3_754_622_976),
        (read("SmolVLM2-256M-Video-Instruct"), 256_484_928),
        (read("SmolVLM2-500M-Video-Instruct"), 507_482_304),
        (read("llava-1.5-7b-hf"), 7_063_427_072),
    ] {
        let config = Config::from_json(&json).expect("a good config");
        let shapes = Vlm::parameter_shapes(&config).expect("shapes");
        let n: usize = shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert_eq!(n, expected);
        let bytes = |quantization| Vlm::weight_bytes(&config, quantization).expect("a size");
        assert_eq!(bytes(Quantization::None), 4 * n);
        let packed = bytes(Quantization::Q8_0) as f64 * 8.0 / n as f64;
        assert!((8.5..8.7).contains(&packed), "{packed} bits");
    }
}

/// `tests/parity/texts.json`, made by `texts.py` beside it.
#[derive(serde::Deserialize)]
struct Texts {
    texts: Vec<String>,
    golden: Vec<String>,
    /// File of a decoder's tokenizer in the material -> the ids of all of these texts.
    plain: BTreeMap<String, Vec<Vec<u32>>>,
}

/// Every token is the reference's, and a stream of them says what all of them do.
#[test]
fn published_tokenizers_give_the_reference_tokens() {
    let Some(material) = material("") else { return };
    let text = include_str!("../../parity/texts.json");
    let Texts { texts, golden, plain } = serde_json::from_str(text).expect("texts.json");
    let texts: Vec<String> = [texts, golden].concat();
    for (file, expected) in plain {
        let folder = tempfile::tempdir().expect("a folder");
        let beside = material
            .join("tokenizers/onnxruntime-extensions")
            .join(if file.contains("phi-3") { "phi-3-vision" } else { "qwen2.5" });
        let settings = "tokenizer_config.json";
        std::fs::copy(material.join(&file), folder.path().join("tokenizer.json")).expect(&file);
        std::fs::copy(beside.join(settings), folder.path().join(settings)).expect(&file);
        let tokenizer = Tokenizer::load(folder.path()).expect(&file);
        assert_eq!(expected.len(), texts.len(), "{file}");
        for (text, expected) in texts.iter().zip(expected) {
            let found = tokenizer.encode(text).expect("ids");
            assert_eq!(found, expected, "{file}: {text:?}");
            let mut stream = tokenizer.stream();
            let mut streamed = String::new();
            for id in &found {
                streamed.push_str(&stream.push(*id).expect("text"));
            }
            streamed.push_str(&stream.finish().expect("text"));
            assert_eq!(streamed, tokenizer.decode(&found).expect("text"), "{file}: {text:?}");
        }
        println!("{file}: {} texts", texts.len());
    }
}

#[test]
fn a_clip_tokenizer_puts_its_tokens_around_a_text() {
    let Some(folder) = material("tokenizers") else { return };
    let clip = folder.join("onnxruntime-extensions/tokenizer/clip");
    let tokenizer = Tokenizer::load(&clip).expect("the CLIP tokenizer");
    let ids = tokenizer.encode_with("a photo of a cat", true).expect("ids");
    assert_eq!(ids, [49406, 320, 1125, 539, 320, 2368, 49407]);
}
