//! What the world can say, as plain text: material for a tokenizer.

use crate::compose::{Options, scene};
use crate::question::questions;

/// Questions and answers of `n_scenes` scenes, one string each.
pub fn caption_vocabulary(n_scenes: u64) -> Vec<String> {
    let options = Options { size: 64, ..Options::default() };
    let mut out = Vec::new();
    for seed in 0..n_scenes {
        // Any seed will do; these lie far from those that train and measure.
        let scene = scene(seed + (1 << 60), &options);
        for qa in questions(&scene, seed) {
            out.push(qa.question);
            out.push(qa.answer);
        }
    }
    for class in crate::classes() {
        out.push(class.with_article(None));
        out.push(class.plural.to_string());
    }
    out
}
