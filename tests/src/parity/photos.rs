//! Photos: our pixels are those that Pillow decodes and the reference processors make of them.
//!
//! What they make was written by `tests/parity/photos.py`. Equality is to the bit: decoding is
//! integer arithmetic and so is resizing, once its weights are rounded.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use vlm::processor::image::{ImageProcessor, ImageSettings, Kind, open};

use super::real_settings::material;

/// `tests/parity/photos.json`.
#[derive(Deserialize)]
struct Expected {
    /// Name -> `preprocessor_config.json`.
    processors: BTreeMap<String, Value>,
    /// Photo -> "loaded" or a processor -> SHA-256 of the pixels.
    photos: BTreeMap<String, BTreeMap<String, String>>,
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/parity"))
}

#[test]
fn a_jpeg_of_every_layout_decodes_as_with_pillow() {
    let entries = std::fs::read_dir(folder().join("jpeg")).expect("the fixtures");
    let jpegs = entries.map(|entry| entry.expect("a file").path());
    let jpegs: Vec<_> = jpegs.filter(|path| path.extension().is_some_and(|e| e == "jpg")).collect();
    assert!(jpegs.len() >= 12, "{} layouts", jpegs.len());
    for jpeg in jpegs {
        let ours = open(&jpeg).expect("a picture");
        let reference = open(&jpeg.with_extension("png")).expect("its pixels");
        assert_eq!(ours.dimensions(), reference.dimensions(), "{}", jpeg.display());
        let steps = ours.as_raw().iter().zip(reference.as_raw()).map(|(a, b)| a.abs_diff(*b));
        assert_eq!(steps.max(), Some(0), "{}", jpeg.display());
    }
}

#[test]
fn photos_are_processed_as_by_the_reference() {
    let Some(material) = material("") else { return };
    let text = std::fs::read_to_string(folder().join("photos.json")).expect("photos.json");
    let expected: Expected = serde_json::from_str(&text).expect("photos.json");
    let processor = |settings: &Value| ImageProcessor {
        settings: ImageSettings::parse(&settings.to_string(), Kind::Clip).expect("settings"),
    };
    let processors: BTreeMap<&str, ImageProcessor> =
        expected.processors.iter().map(|(name, text)| (name.as_str(), processor(text))).collect();
    let mut wrong = Vec::new();
    for (photo, sums) in &expected.photos {
        let picture = open(&material.join(photo)).expect(photo);
        for (step, sum) in sums {
            let found = match processors.get(step.as_str()) {
                None => digest([picture.as_raw().as_slice()]),
                Some(processor) => {
                    let tiles = processor.tiles(&picture).tiles;
                    digest(tiles.iter().map(|tile| tile.pixels.as_raw().as_slice()))
                }
            };
            if found != *sum {
                wrong.push(format!("{photo}: {step}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not the reference's pixels:\n{}", wrong.join("\n"));
    println!("{} photos, {} processors", expected.photos.len(), processors.len());
}

fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut sum = Sha256::new();
    parts.into_iter().for_each(|part| sum.update(part));
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
