//! An answer without its unsupported claims, as a sentence that still reads.
//!
//! Text belongs to the shortest claim around it, so that a thing inside a relation stays when the
//! relation goes. It knows nothing of why a claim is not supported.

use crate::api::ClaimView;

/// `text` without what `claims` do not support; empty where nothing is left.
pub(super) fn without_unsupported(text: &str, claims: &[ClaimView]) -> String {
    let units: Vec<u16> = text.encode_utf16().collect();
    let owner = |at: u32| {
        let around = claims.iter().filter(|claim| claim.start <= at && at < claim.end);
        around.min_by_key(|claim| claim.end - claim.start)
    };
    let struck = |at: u32| {
        let claim = owner(at).filter(|claim| claim.trusted)?;
        claim.struck.filter(|(start, end)| *start <= at && at < *end).map(|_| claim)
    };
    let goes = |at: u32| struck(at).is_some();
    let mut kept = String::new();
    let mut at = 0;
    let (mut cut, mut at_word) = (false, false);
    while at < units.len() {
        let to = (at..units.len()).find(|&i| goes(i as u32) != goes(at as u32));
        let to = to.unwrap_or(units.len());
        let piece = String::from_utf16_lossy(&units[at..to]);
        match struck(at as u32) {
            // A number: what it counted stays.
            Some(claim) if claim.struck != Some((claim.start, claim.end)) => at_word = true,
            Some(_) => cut = true,
            None if at_word => {
                kept.push_str(piece.trim_start());
                at_word = false;
            }
            None if cut => {
                join(&mut kept, &piece);
                cut = false;
            }
            None => kept.push_str(&piece),
        }
        at = to;
    }
    if cut {
        join(&mut kept, "");
    }
    sentence(kept.trim())
}

/// Puts `after` behind `before`, between which something was taken out.
fn join(before: &mut String, after: &str) {
    let ended = after.trim_start();
    let ends = ended.is_empty() || ended.starts_with(['.', ',', ';', '!', '?']);
    let begins = before.trim_end().is_empty() || before.trim_end().ends_with(['.', '!', '?']);
    let was_last = ends && !ended.starts_with(',');
    let bare = bare(before);
    let dropped_and = before.trim_end().ends_with("and");
    before.truncate(bare);
    if begins {
        // The first of a list or sentence: what joined the rest to it goes too.
        let rest = after.trim_start_matches([',', ' ']);
        let rest = rest.strip_prefix("and ").unwrap_or(rest);
        let space = if before.is_empty() || rest.starts_with(['.', '!', '?']) { "" } else { " " };
        before.push_str(space);
        before.push_str(rest.trim_start_matches(['.', '!', '?']).trim_start());
    } else if ends {
        if was_last && dropped_and {
            last_comma_to_and(before);
        }
        before.push_str(ended);
    } else if ended.starts_with("and ") {
        before.push(' ');
        before.push_str(ended);
    } else {
        // A relation between two things that stay.
        before.push_str(" and ");
        before.push_str(ended);
    }
}

/// The length of `text` without the comma or "and" that led on.
fn bare(text: &str) -> usize {
    let mut text = text.trim_end();
    for led in ["and", ","] {
        let shorter = text.strip_suffix(led);
        text = shorter.filter(|t| led == "," || t.ends_with([' ', ','])).unwrap_or(text).trim_end();
    }
    text.len()
}

/// "a house, a tree" -> "a house and a tree", in the last sentence alone.
fn last_comma_to_and(text: &mut String) {
    let begins = text.rfind(['.', '!', '?']).map_or(0, |at| at + 1);
    if text[begins..].contains(" and ") {
        return;
    }
    if let Some(at) = text[begins..].rfind(", ") {
        text.replace_range(begins + at..begins + at + 2, " and ");
    }
}

/// With a capital first letter; nothing where only marks are left.
fn sentence(text: &str) -> String {
    if !text.contains(char::is_alphanumeric) {
        return String::new();
    }
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    first + chars.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ClaimKind, ClaimState};

    const NUMBERS: [&str; 2] = ["Three", "two"];

    /// `unsupported` and `kept` are pieces of `text`.
    fn check(text: &str, unsupported: &[&str], kept: &[&str], expected: &str) {
        let claim = |piece: &&str, state| {
            let byte = text.find(*piece).expect("a piece of the text");
            let units = |text: &str| text.encode_utf16().count() as u32;
            // Of things that are counted only the number goes.
            let (start, end) = (units(&text[..byte]), units(&text[..byte]) + units(piece));
            let number = NUMBERS.iter().find(|number| piece.starts_with(**number));
            let struck = (start, number.map_or(end, |number| start + units(number)));
            ClaimView {
                index: 0,
                kind: ClaimKind::Object,
                text: piece.to_string(),
                start,
                end,
                struck: (state == ClaimState::Unsupported).then_some(struck),
                state,
                probability: 0.0,
                with: 0.0,
                without: 0.0,
                trusted: true,
                evidence: None,
                words: String::new(),
                tested: None,
            }
        };
        let gone = unsupported.iter().map(|piece| claim(piece, ClaimState::Unsupported));
        let claims = gone.chain(kept.iter().map(|piece| claim(piece, ClaimState::Seen)));
        let claims: Vec<ClaimView> = claims.collect();
        assert_eq!(without_unsupported(text, &claims), expected, "{text}");
    }

    #[test]
    fn what_is_left_still_reads() {
        check("A house, a tree and a dog.", &["a dog"], &[], "A house and a tree.");
        check("A house, a tree and a dog.", &["a tree"], &[], "A house and a dog.");
        check("A house, a tree and a dog.", &["A house"], &[], "A tree and a dog.");
        check("A house and a dog.", &["a dog"], &[], "A house.");
        check("A house and a dog.", &["A house"], &[], "A dog.");
        check("A dog. A cat.", &["A dog"], &[], "A cat.");
        check("A dog. A cat.", &["A cat"], &[], "A dog.");
        check("Red.", &["Red"], &[], "");
        check(
            "A red car in front of a house.",
            &["A red car in front of a house"],
            &["A red car", "a house"],
            "A red car and a house.",
        );
        check("🐕 A dog and a cat", &["a cat"], &[], "🐕 A dog");
        check("Three dogs and a cat.", &["Three dogs"], &["a cat"], "Dogs and a cat.");
        check("A cat, two dogs and a hat.", &["two dogs"], &["a hat"], "A cat, dogs and a hat.");
        check("Nothing goes.", &[], &["Nothing"], "Nothing goes.");
    }
}
