//! Whether a short answer says the right fact, however it is worded: models that were not trained
//! on the drawn world answer in sentences of their own.
//!
//! It compares the one thing that the question asks for, and takes no notice of the rest.

use scenes::{Colour, NUMBERS, Qa, QaKind};

use crate::judge;
use crate::mentions::named;

/// Whether `said` gives the fact that the question asks for.
pub(crate) fn is_right(qa: &Qa, said: &str) -> bool {
    let truth = qa.answer.as_str();
    let same =
        |of: &dyn Fn(&str) -> Option<Vec<usize>>| of(truth).is_some_and(|t| of(said) == Some(t));
    match qa.kind {
        QaKind::Colour => same(&colours),
        QaKind::Count => same(&|text| number(text).map(|n| vec![n])),
        QaKind::Where => same(&place),
        QaKind::Relation => same(&side),
        QaKind::What | QaKind::At | QaKind::RelationOf => {
            let class = |text: &str| named(text).first().map(|named| vec![named.class]);
            let told = (colours(truth), colours(said));
            same(&class) && !matches!(told, (Some(truth), Some(said)) if truth != said)
        }
        QaKind::Read => contains(&print(said), &print(truth)),
        QaKind::DocumentField | QaKind::ChartValue => {
            contains(&judge::words(said), &judge::words(truth))
        }
        _ => crate::ask::is_right(qa, said),
    }
}

/// The colours of a text, by number.
fn colours(text: &str) -> Option<Vec<usize>> {
    let words = plain(text);
    let is_said = |colour: &Colour| {
        let name = colour.name();
        words.iter().any(|word| word == name || (name == "grey" && word == "gray"))
    };
    let all = Colour::ALL.iter().enumerate().filter(|(_, colour)| is_said(colour));
    Some(all.map(|(idx, _)| idx).collect()).filter(|all: &Vec<usize>| !all.is_empty())
}

/// The first number.
fn number(text: &str) -> Option<usize> {
    let of = |word: &String| {
        word.parse().ok().or_else(|| NUMBERS.iter().position(|number| number == word))
    };
    plain(text).iter().find_map(of)
}

/// Row and column of nine.
fn place(text: &str) -> Option<Vec<usize>> {
    let words = plain(text);
    let has = |all: &[&str]| words.iter().any(|word| all.contains(&word.as_str()));
    let third = |low: &[&str], high: &[&str]| match (has(low), has(high)) {
        (true, _) => Some(0),
        (_, true) => Some(2),
        _ => None,
    };
    let row = third(&["top", "upper"], &["bottom", "lower"]);
    let column = third(&["left"], &["right"]);
    let middle = has(&["middle", "center", "centre"]);
    (row.is_some() || column.is_some() || middle)
        .then(|| vec![row.unwrap_or(1), column.unwrap_or(1)])
}

/// Left, right, above or below.
fn side(text: &str) -> Option<Vec<usize>> {
    let sides = [&["left"][..], &["right"], &["above", "over"], &["below", "under", "beneath"]];
    let words = plain(text);
    let is_said = |side: &&[&str]| words.iter().any(|word| side.contains(&word.as_str()));
    let all = sides.iter().enumerate().filter(|(_, side)| is_said(side));
    Some(all.map(|(idx, _)| idx).collect()).filter(|all: &Vec<usize>| !all.is_empty())
}

/// Lower case words of letters and digits.
fn plain(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric());
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Printed words, case and punctuation around them aside.
fn print(text: &str) -> Vec<String> {
    let bare = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    text.split_whitespace().map(bare).filter(|word| !word.is_empty()).collect()
}

/// Whether the words stand in a row somewhere.
fn contains(said: &[String], truth: &[String]) -> bool {
    !truth.is_empty() && said.windows(truth.len()).any(|part| part == truth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found_in_sentences() {
        let rows = [
            (QaKind::Colour, "Red.", "The car is red.", true),
            (QaKind::Colour, "Red.", "The car is blue, not red.", false),
            (QaKind::Count, "3", "There are three dogs.", true),
            (QaKind::Count, "3", "4", false),
            (QaKind::Where, "Top left.", "In the upper left corner.", true),
            (QaKind::Where, "At the top.", "Top left.", false),
            (QaKind::Where, "In the middle.", "It is in the center of the picture.", true),
            (QaKind::Relation, "To the left.", "It is left of the car.", true),
            (QaKind::Relation, "Above.", "Below.", false),
            (QaKind::At, "A red car.", "This is a car.", true),
            (QaKind::At, "A red car.", "A blue car.", false),
            (QaKind::What, "An owl.", "A cat.", false),
            (QaKind::Read, "THANK YOU", "The sign says \"Thank you\".", true),
            (QaKind::ChartValue, "7", "The value is 7.", true),
            (QaKind::ChartValue, "7", "17", false),
        ];
        for (kind, truth, said, expected) in rows {
            let (question, mentions) = (String::new(), Vec::new());
            let qa = Qa { kind, question, answer: truth.to_owned(), mentions };
            assert_eq!(is_right(&qa, said), expected, "{said:?} for {truth:?}");
        }
    }
}
