//! One row alone: its turns, its marks, its answers.

use crate::row::{MARK, Message, Role, Row};
use crate::{Kind, Repair};

/// Tells all that is wrong with the texts of a row.
pub(crate) fn check(row: &Row, say: &mut dyn FnMut(Kind, String, Option<Repair>)) {
    let (n_marks, n_pictures) = (row.n_marks(), row.pictures.len());
    if n_marks != n_pictures {
        let message = format!("{} and {}", count(n_marks, "mark"), count(n_pictures, "picture"));
        let has_question = row.messages.iter().any(|message| message.role == Role::User);
        let fix = if has_question { Repair::FixMarks } else { Repair::Drop };
        say(Kind::Marks, message, Some(fix));
    }
    if let Some((kind, message)) = fault_of_turns(&row.messages) {
        let mut fixed = row.messages.clone();
        fix_turns(&mut fixed);
        let is_fixed = fault_of_turns(&fixed).is_none();
        say(kind, message, Some(if is_fixed { Repair::FixTurns } else { Repair::Drop }));
    }
    let answers = row.messages.iter().filter(|message| message.role == Role::Assistant);
    if answers.clone().any(|answer| answer.text.trim().is_empty()) {
        say(Kind::EmptyAnswer, "an answer is empty".into(), Some(Repair::Drop));
    }
    if row
        .rejected
        .as_deref()
        .is_some_and(|worse| Some(worse.trim()) == row.answer().map(str::trim))
    {
        let message = "the better and the worse answer are the same";
        say(Kind::SamePair, message.into(), Some(Repair::DropRejected));
    }
    let is_untrimmed = |text: &str| text.trim() != text && !text.trim().is_empty();
    if row.messages.iter().any(|message| is_untrimmed(&message.text)) {
        say(Kind::Untrimmed, "white space around a text".into(), Some(Repair::Trim));
    }
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// An instruction at most, then questions and answers in turn, an answer last; else what is not
/// so.
pub(crate) fn fault_of_turns(messages: &[Message]) -> Option<(Kind, String)> {
    let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
    let turns = roles.strip_prefix(&[Role::System]).unwrap_or(&roles);
    let wanted = [Role::User, Role::Assistant].into_iter().cycle();
    if let Some(idx) = turns.iter().zip(wanted).position(|(role, wanted)| *role != wanted) {
        let place = idx + roles.len() - turns.len() + 1;
        let before = if idx == 0 { "the start" } else { turns[idx - 1].name() };
        let message = format!("message {place} is {} after {before}", turns[idx].name());
        return Some((Kind::Roles, message));
    }
    match turns.last() {
        None => Some((Kind::Roles, "there are no messages".into())),
        Some(Role::User) => Some((Kind::NoAnswer, "the last question has no answer".into())),
        Some(_) => None,
    }
}

/// Joins neighbours of one role, and cuts answers before the first question and the question at
/// the end.
pub(crate) fn fix_turns(messages: &mut Vec<Message>) {
    let mut fixed: Vec<Message> = Vec::with_capacity(messages.len());
    for message in messages.drain(..) {
        let asked = fixed.iter().any(|message| message.role == Role::User);
        match fixed.last_mut() {
            Some(last) if last.role == message.role => {
                last.text =
                    format!("{}\n{}", last.text, message.text).replace(&format!("{MARK}\n"), MARK);
            }
            _ if message.role == Role::Assistant && !asked => {}
            _ => fixed.push(message),
        }
    }
    if fixed.last().is_some_and(|last| last.role == Role::User) {
        fixed.pop();
    }
    *messages = fixed;
}
