//! What the world can say, as plain text: material for a tokenizer.

use crate::compose::{Options, scene};
use crate::question::{QaKind, questions};
use crate::scene::Scene;

/// Questions and answers of `n_scenes` scenes, one string each; with what is printed in them, or
/// with an "x" in the place of each printed word.
pub fn caption_vocabulary(n_scenes: u64, printed: bool) -> Vec<String> {
    let options = Options { size: 64, ..Options::default() };
    let mut out = Vec::new();
    for seed in 0..n_scenes {
        // Any seed will do; these lie far from those that train and measure.
        let scene = scene(seed + (1 << 60), &options);
        for qa in questions(&scene, seed) {
            // Asks for words that are printed elsewhere.
            if !printed && qa.kind == QaKind::DocumentCheck {
                continue;
            }
            out.extend([qa.question, qa.answer].map(|text| match printed {
                true => text,
                false => without_printed(&scene, &text),
            }));
        }
    }
    for class in crate::classes() {
        out.push(class.with_article(None));
        out.push(class.plural.to_string());
    }
    out.extend([crate::UNSEEN, crate::STRANGE].map(String::from));
    out
}

fn without_printed(scene: &Scene, text: &str) -> String {
    let is_printed = |word: &str| scene.texts.iter().any(|printed| printed.text == word);
    let hidden = |word: &str| {
        let bare = word.trim_end_matches(['.', '?', ',']);
        if is_printed(bare) { word.replacen(bare, "x", 1) } else { word.to_string() }
    };
    text.split(' ').map(hidden).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_words_can_be_left_out() {
        let says = |texts: &[String], words: &[&str]| {
            texts.iter().any(|text| words.iter().any(|word| text.contains(word)))
        };
        let (with, without) = (caption_vocabulary(600, true), caption_vocabulary(600, false));
        let printed = ["How much is the milk", "the sugar?", "of Anna", "of Paul"];
        assert!(says(&with, &printed) && !says(&without, &printed));
        assert!(says(&without, &["How much is the x?"]) && says(&without, &["score of x?"]));
        assert!(without.len() < with.len());
    }
}
