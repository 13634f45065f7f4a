//! Whether an answer is right.
//!
//! It compares words, as a reader would: an article or the full stop makes no difference, a
//! second thing named beside the right one does. It knows no model and no picture.

/// Words that carry nothing in an answer.
const FILLERS: &[&str] = &["a", "an", "the", "some", "it", "is", "its", "there", "are", "of"];

/// Lower case words without punctuation and fillers.
pub fn words(answer: &str) -> Vec<String> {
    let lower = answer.to_lowercase();
    let words = lower.split(|c: char| !(c.is_alphanumeric() || "'-%$€.:/".contains(c)));
    let words = words.map(|word| word.trim_matches(['.', ':', '\'']));
    words.filter(|word| !word.is_empty() && !FILLERS.contains(word)).map(str::to_owned).collect()
}

/// The same words in the same order.
pub fn same(said: &str, truth: &str) -> bool {
    !words(truth).is_empty() && words(said) == words(truth)
}

/// The same thing, whether or not its colour is told as well; another colour is a mistake.
pub fn same_object(said: &str, truth: &str, colours: &[&str]) -> bool {
    if same(said, truth) {
        return true;
    }
    let bare = |answer| -> Vec<String> {
        words(answer).into_iter().filter(|word| !colours.contains(&word.as_str())).collect()
    };
    let one_is_bare = [said, truth].iter().any(|answer| bare(answer) == words(answer));
    one_is_bare && !bare(truth).is_empty() && bare(said) == bare(truth)
}

/// Whether an answer to "Is there ...?" begins with yes (true) or no (false).
pub fn yes(said: &str) -> Option<bool> {
    match words(said).first().map(String::as_str) {
        Some("yes") => Some(true),
        Some("no") => Some(false),
        _ => None,
    }
}

/// The same characters, as read off a sign: case and spaces do not count.
pub fn same_text(said: &str, truth: &str) -> bool {
    let bare = |text: &str| -> String {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    !bare(truth).is_empty() && bare(said) == bare(truth)
}

/// The same printed words in the same order, case aside.
pub fn same_print(said: &str, truth: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let bare = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        text.split_whitespace().map(bare).filter(|word| !word.is_empty()).collect()
    };
    !words(truth).is_empty() && words(said) == words(truth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_compared_as_a_reader_would() {
        let rows = [
            ("A dog.", "a dog", true),
            ("dog", "A dog.", true),
            ("A cat.", "A dog.", false),
            ("A dog and a cat.", "A dog.", false),
            ("", "A dog.", false),
            ("Top left.", "top left", true),
            ("Left.", "Top left.", false),
            ("3", "3.", true),
            ("$4.50", "4.50", false),
        ];
        for (said, truth, expected) in rows {
            assert_eq!(same(said, truth), expected, "{said:?} for {truth:?}");
        }
    }

    #[test]
    fn a_colour_told_as_well_is_no_mistake() {
        let colours = ["red", "orange"];
        let rows = [
            ("A red car.", "A car.", true),
            ("A car.", "A red car.", true),
            ("An orange.", "An orange.", true),
            ("Red.", "An orange.", false),
            ("A red cat.", "A red car.", false),
            ("A red car.", "An orange car.", false),
        ];
        for (said, truth, expected) in rows {
            assert_eq!(same_object(said, truth, &colours), expected, "{said:?} for {truth:?}");
        }
    }

    #[test]
    fn yes_and_no_are_heard() {
        assert_eq!(yes("Yes."), Some(true));
        assert_eq!(yes("no, there is not"), Some(false));
        assert_eq!(yes("A dog."), None);
        assert!(same_text("open  24H", "OPEN 24 h"));
        assert!(!same_text("", ""));
        assert!(same_print("\"Thank you\".", "THANK YOU") && !same_print("thankyou", "THANK YOU"));
    }
}
