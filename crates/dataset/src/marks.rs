//! The marks that say where in a text a picture is shown, in one spelling.

use crate::row::{MARK, Message, Role};

/// Other spellings, longest first.
const SPELLINGS: &[&str] = &[
    "<|vision_start|><|image_pad|><|vision_end|>",
    "<image_placeholder>",
    "<|image_pad|>",
    "<ImageHere>",
    "<|image|>",
];

/// Gives every mark one spelling and no line break beside it. Where a conversation has no marks at
/// all, they lead its first question.
pub(crate) fn normalise(messages: &mut [Message], n_pictures: usize) {
    for message in messages.iter_mut() {
        for spelling in SPELLINGS {
            if message.text.contains(spelling) {
                message.text = message.text.replace(spelling, MARK);
            }
        }
        if message.text.contains(MARK) {
            message.text = without_breaks(&message.text);
        }
    }
    if !messages.iter().any(|message| message.text.contains(MARK)) {
        lead(messages, n_pictures);
    }
}

/// As many marks as pictures: those that lack lead the first question, those that are too many
/// are taken from the end.
pub(crate) fn fix(messages: &mut [Message], n_pictures: usize) {
    let n_marks: usize = messages.iter().map(|message| message.text.matches(MARK).count()).sum();
    lead(messages, n_pictures.saturating_sub(n_marks));
    for _ in n_pictures..n_marks {
        let mut places = messages.iter_mut().rev();
        let last = places.find_map(|message| Some((message.text.rfind(MARK)?, message)));
        if let Some((start, message)) = last {
            message.text.replace_range(start..start + MARK.len(), "");
        }
    }
}

fn lead(messages: &mut [Message], n_marks: usize) {
    if let Some(first) = messages.iter_mut().find(|message| message.role == Role::User) {
        first.text.insert_str(0, &MARK.repeat(n_marks));
    }
}

/// "<image>\nWho is this?" is "<image>Who is this?": layout is left to the chat template.
fn without_breaks(text: &str) -> String {
    const BREAKS: [char; 2] = ['\n', '\r'];
    let n_parts = text.matches(MARK).count() + 1;
    let trimmed = text.split(MARK).enumerate().map(|(idx, part)| {
        let part = if idx > 0 { part.trim_start_matches(BREAKS) } else { part };
        if idx + 1 < n_parts { part.trim_end_matches(BREAKS) } else { part }
    });
    trimmed.collect::<Vec<_>>().join(MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_have_one_spelling_and_lead_where_there_are_none() {
        let rows: &[(&str, usize, &str)] = &[
            ("Who?", 0, "Who?"),
            ("Who?", 2, "<image><image>Who?"),
            ("<image>\nWho?", 1, "<image>Who?"),
            ("Who?\r\n<image>\n\n", 1, "Who?<image>"),
            ("A\n<image>\n<image>\nB\n", 2, "A<image><image>B\n"),
            ("<|vision_start|><|image_pad|><|vision_end|>Who?", 1, "<image>Who?"),
            ("<|image|>Who?", 1, "<image>Who?"),
            ("<image>Who?", 3, "<image>Who?"),
        ];
        for (text, n_pictures, expected) in rows {
            let mut messages =
                vec![Message::new(Role::System, "Be kind."), Message::new(Role::User, *text)];
            normalise(&mut messages, *n_pictures);
            assert_eq!(messages[1].text, *expected);
            normalise(&mut messages, *n_pictures);
            assert_eq!(messages[1].text, *expected, "twice is once");
        }
    }
}
