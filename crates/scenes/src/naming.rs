//! The names of classes in a text, singular or plural. It takes no notice of colours and numbers.

use std::ops::Range;

use crate::class::classes;

/// Every class that `text`, in lower case, names, with the bytes of its name, in order; of several
/// names at one place the longest.
pub fn class_names(text: &str) -> Vec<(usize, Range<usize>)> {
    let words = words(text);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < words.len() {
        match class_at(text, &words[at..]) {
            Some((class, n_words)) => {
                found.push((class, words[at].start..words[at + n_words - 1].end));
                at += n_words;
            }
            None => at += 1,
        }
    }
    found
}

/// Byte ranges of words: letters and digits.
pub fn words(text: &str) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    for (at, c) in text.char_indices().filter(|(_, c)| c.is_alphanumeric()) {
        match words.last_mut().filter(|word| word.end == at) {
            Some(word) => word.end = at + c.len_utf8(),
            None => words.push(at..at + c.len_utf8()),
        }
    }
    words
}

/// The class whose name these words begin with, and of how many words the name is; of several
/// the longest.
fn class_at(text: &str, words: &[Range<usize>]) -> Option<(usize, usize)> {
    let length = |name: &str| {
        let parts: Vec<&str> = name.split(' ').collect();
        let here = words.iter().map(|word| &text[word.clone()]).take(parts.len());
        here.eq(parts.iter().copied()).then_some(parts.len())
    };
    let found = classes().iter().enumerate().filter_map(|(class, info)| {
        Some((class, length(info.name).or_else(|| length(info.plural))?))
    });
    found.max_by_key(|(_, n_words)| *n_words)
}
