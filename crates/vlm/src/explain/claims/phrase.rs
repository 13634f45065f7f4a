//! Words -> noun phrases, places and relations, by the closed classes of `lexicon`.

use std::ops::Range;

use super::lexicon::*;

/// A word of a sentence.
pub(super) struct Token<'a> {
    pub bytes: Range<usize>,
    pub text: &'a str,
    pub lower: String,
    /// Whether a comma or the like stands between it and the word before.
    pub after_break: bool,
}

/// A noun phrase.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Noun {
    /// Its tokens, determiner and number too.
    pub tokens: Range<usize>,
    /// Its tokens without them.
    pub core: Range<usize>,
    pub number: Option<u32>,
    /// Whether it begins with "the" or the like.
    pub definite: bool,
    /// Whether an article or number says that it is one.
    pub certain: bool,
}

/// How something stands to what follows: "left of", "on top of".
pub(super) const RELATIONS: &[&[&str]] = &[
    &["to", "the", "left", "of"],
    &["to", "the", "right", "of"],
    &["on", "the", "left", "of"],
    &["on", "the", "right", "of"],
    &["left", "of"],
    &["right", "of"],
    &["on", "top", "of"],
    &["in", "front", "of"],
    &["next", "to"],
    &["above"],
    &["below"],
    &["under"],
    &["underneath"],
    &["beneath"],
    &["over"],
    &["behind"],
    &["beside"],
    &["inside"],
    &["between"],
];

/// The words of `text` with where they stand in it; `from`: where `text` itself stands.
pub(super) fn tokens(text: &str, from: usize) -> Vec<Token<'_>> {
    let mut end = 0;
    let token = |bytes: Range<usize>| {
        let gap = &text[end..bytes.start];
        end = bytes.end;
        let word = &text[bytes.clone()];
        Token {
            bytes: from + bytes.start..from + bytes.end,
            text: word,
            lower: word.to_lowercase(),
            after_break: gap.contains([',', ';', ':', '(', ')', '"', '“', '”', '—', '–']),
        }
    };
    crate::explain::words::split(text).into_iter().map(token).collect()
}

/// Whether the words from `i` on are these.
pub(super) fn reads(tokens: &[Token], i: usize, words: &[&str]) -> bool {
    let found = tokens.get(i..i + words.len());
    found.is_some_and(|found| found.iter().zip(words).all(|(token, word)| token.lower == **word))
}

/// The relation that begins at `i`, as its tokens; the thing it is to must follow.
pub(super) fn relation(tokens: &[Token], i: usize) -> Option<Range<usize>> {
    let words = RELATIONS.iter().find(|words| reads(tokens, i, words))?;
    let end = i + words.len();
    noun(tokens, end, false).map(|_| i..end)
}

/// The place in the picture that begins at `i`, as its tokens: "at the top left", "in the middle
/// of the picture".
pub(super) fn place(tokens: &[Token], i: usize) -> Option<Range<usize>> {
    let first = tokens.get(i)?.lower.as_str();
    if !matches!(first, "at" | "in" | "on" | "to" | "toward" | "towards" | "near" | "along") {
        return None;
    }
    let mut end = i + 1;
    end += usize::from(reads(tokens, end, &["the"]));
    let from = end;
    while tokens.get(end).is_some_and(|token| is_place(&token.lower) && !token.after_break) {
        end += 1;
    }
    if end == from {
        return None;
    }
    while tokens.get(end).is_some_and(|token| is_place_end(&token.lower)) {
        end += 1;
    }
    if reads(tokens, end, &["of"]) {
        let of = noun(tokens, end + 1, false)?;
        let last = &tokens[of.tokens.end - 1].lower;
        // "on the left of the car" is a relation.
        return is_no_thing(last).then_some(i..of.tokens.end);
    }
    Some(i..end)
}

/// The noun phrase that begins at `i`. `bare`: whether one without article or number counts.
pub(super) fn noun(tokens: &[Token], i: usize, bare: bool) -> Option<Noun> {
    let mut at = i;
    let word = |at: usize| tokens.get(at).map_or("", |token| token.lower.as_str());
    let free = |at: usize| at == i || !tokens[at].after_break;
    let (mut definite, mut certain, mut count) = (false, false, None);
    while at < tokens.len() && free(at) && (is_determiner(word(at)) || number(word(at)).is_some()) {
        definite |= matches!(word(at), "the" | "this" | "that" | "these" | "those");
        count = count.or(number(word(at)));
        certain = true;
        at += 1;
    }
    let core = at;
    while at < tokens.len() && goes_on(tokens, core, at) {
        at += 1;
    }
    if at == core || !(certain || bare) {
        return None;
    }
    // "a cup of coffee", but "a picture of a dog" names the dog.
    if word(at) == "of" && !is_no_thing(word(at - 1)) && !is_determiner(word(at + 1)) {
        let end = noun(tokens, at + 1, true).map_or(at, |of| of.core.end);
        at = end.max(at);
    }
    Some(Noun { tokens: i..at, core: core..at, number: count, definite, certain })
}

/// Whether token `at` belongs to the noun phrase whose first word is `core`.
fn goes_on(tokens: &[Token], core: usize, at: usize) -> bool {
    let word = |at: usize| tokens.get(at).map_or("", |token| token.lower.as_str());
    let nominal = |at: usize| {
        let lower = word(at);
        at < tokens.len()
            && !is_determiner(lower)
            && !is_verb(lower)
            && !is_preposition(lower)
            && !is_joint(lower)
            && (at == core
                || !(number(lower).is_some() || lower.starts_with(|c: char| c.is_ascii_digit())))
    };
    let first = at == core;
    // "black and white cat"
    if word(at) == "and" && !first {
        return is_colour(word(at - 1)) && is_colour(word(at + 1)) && nominal(at + 2);
    }
    if !nominal(at) {
        return false;
    }
    if tokens[at].after_break && !first {
        return is_adjective(word(at - 1)) && (is_adjective(word(at)) || nominal(at + 1));
    }
    // "a man riding a horse", "a car parked outside"; but "a parking lot", "a striped shirt".
    let participle = word(at).ends_with("ing") || word(at).ends_with("ed");
    let after_noun = !first && !is_adjective(word(at - 1));
    !(participle && after_noun && word(at).len() > 4 && !nominal(at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noun_phrases_end_where_they_should() {
        let rows = [
            ("a red car at the top", Some("a red car")),
            ("a small, round table with", Some("a small, round table")),
            ("a black and white cat sleeping", Some("a black and white cat")),
            ("a black cat and white snow", Some("a black cat")),
            ("a man riding a horse", Some("a man")),
            ("a parking lot", Some("a parking lot")),
            ("the two dogs", Some("the two dogs")),
            ("a cup of coffee on", Some("a cup of coffee")),
            ("3 apples", Some("3 apples")),
            ("dogs", None),
            ("is red", None),
        ];
        for (text, expected) in rows {
            let words = tokens(text, 0);
            let found = noun(&words, 0, false).map(|noun| {
                &text[words[noun.tokens.start].bytes.start..words[noun.tokens.end - 1].bytes.end]
            });
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn places_and_relations_are_told_apart() {
        let rows = [
            ("at the top left", Some(4), None),
            ("in the middle of the picture", Some(6), None),
            ("on the left side of the image", Some(7), None),
            ("on the left of the car", None, Some(4)),
            ("left of the dog", None, Some(2)),
            ("in the background", Some(3), None),
            ("on the table", None, None),
            ("above the owl", None, Some(1)),
        ];
        for (text, at, to) in rows {
            let words = tokens(text, 0);
            assert_eq!(place(&words, 0).map(|found| found.end), at, "{text}");
            assert_eq!(relation(&words, 0).map(|found| found.end), to, "{text}");
        }
    }
}
