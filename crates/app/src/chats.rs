//! The conversations, in memory.

use std::sync::Arc;

use vlm::generate::{Answer, Cancel};
use vlm::processor::{Message, Part, Role};

use crate::api::{AnswerRef, ApiError, Chat, ChatMessage, ChatRole};
use crate::failure::failure;

/// Characters of a chat's title.
const TITLE_CHARS: usize = 48;

pub(crate) struct Chats {
    next: u32,
    list: Vec<Record>,
}

/// An answer as it is shown, and as the engine made it.
pub(crate) type Kept = (ChatMessage, Arc<Answer>);

struct Record {
    id: u32,
    messages: Vec<ChatMessage>,
    /// As the engine made them, in the order of the messages.
    answers: Vec<Arc<Answer>>,
    running: Option<Cancel>,
}

impl Chats {
    /// With one empty chat.
    pub fn new() -> Chats {
        let mut chats = Chats { next: 0, list: Vec::new() };
        chats.start();
        chats
    }

    /// A new empty chat; one that is still empty is used again.
    pub fn start(&mut self) -> u32 {
        let empty = |chat: &&Record| chat.messages.is_empty() && chat.running.is_none();
        if let Some(chat) = self.list.iter().find(empty) {
            return chat.id;
        }
        let id = self.next;
        self.next += 1;
        let (messages, answers) = (Vec::new(), Vec::new());
        self.list.push(Record { id, messages, answers, running: None });
        id
    }

    pub fn all(&self) -> Vec<Chat> {
        self.list.iter().map(Record::view).collect()
    }

    pub fn get(&self, id: u32) -> Result<Chat, ApiError> {
        let chat = self.list.iter().find(|chat| chat.id == id);
        chat.map(Record::view).ok_or_else(|| missing(id))
    }

    /// Adds a question and marks the chat as busy.
    pub fn begin(&mut self, id: u32, question: ChatMessage, run: Cancel) -> Result<(), ApiError> {
        let chat = self.idle(id)?;
        chat.messages.push(question);
        chat.running = Some(run);
        Ok(())
    }

    /// Takes the last answer away, so that its question can be asked again.
    pub fn begin_again(&mut self, id: u32, run: Cancel) -> Result<Option<Kept>, ApiError> {
        let chat = self.idle(id)?;
        if chat.messages.is_empty() {
            let hint = "Ask a question first.";
            return Err(failure("nothing_to_repeat", "there is no answer to repeat", hint));
        }
        chat.running = Some(run);
        let answered = chat.messages.last().is_some_and(|m| m.role == ChatRole::Assistant);
        let kept = if answered { chat.messages.pop().zip(chat.answers.pop()) } else { None };
        Ok(kept)
    }

    /// The answer is there, or what was there before comes back.
    pub fn end(&mut self, id: u32, kept: Option<Kept>, drop_question: bool) {
        let Some(chat) = self.list.iter_mut().find(|chat| chat.id == id) else { return };
        chat.running = None;
        if drop_question {
            chat.messages.pop();
        }
        if let Some((message, answer)) = kept {
            chat.messages.push(message);
            chat.answers.push(answer);
        }
    }

    pub fn cancel(&self, id: u32) {
        let chat = self.list.iter().find(|chat| chat.id == id);
        if let Some(run) = chat.and_then(|chat| chat.running.as_ref()) {
            run.cancel();
        }
    }

    /// Asks every running answer to stop.
    pub fn cancel_all(&self) {
        self.list.iter().filter_map(|chat| chat.running.as_ref()).for_each(Cancel::cancel);
    }

    /// An answer as the engine made it.
    pub fn answer(&self, of: AnswerRef) -> Option<Arc<Answer>> {
        let chat = self.list.iter().find(|chat| chat.id == of.chat)?;
        chat.answers.get(of.answer as usize).cloned()
    }

    /// Keeps what a check or a test found with the answer it is about.
    pub fn keep(&mut self, answer: AnswerRef, change: impl FnOnce(&mut ChatMessage)) {
        let chat = self.list.iter_mut().find(|chat| chat.id == answer.chat);
        let messages = chat.into_iter().flat_map(|chat| &mut chat.messages);
        let mut answers = messages.filter(|message| message.role == ChatRole::Assistant);
        let _ = answers.nth(answer.answer as usize).map(change);
    }

    pub fn uses_image(&self, image: u32) -> bool {
        let mut messages = self.list.iter().flat_map(|chat| &chat.messages);
        let shown = |message: &ChatMessage| {
            let about = message.region.is_some_and(|region| region.image == image);
            about || message.images.contains(&image)
        };
        messages.any(shown)
    }

    fn idle(&mut self, id: u32) -> Result<&mut Record, ApiError> {
        let chat = self.list.iter_mut().find(|chat| chat.id == id).ok_or_else(|| missing(id))?;
        match chat.running {
            None => Ok(chat),
            Some(_) => Err(failure(
                "busy",
                "this chat is still being answered",
                "Stop the answer first, or wait for its end.",
            )),
        }
    }
}

impl Record {
    fn view(&self) -> Chat {
        let first = self.messages.first().map(|message| message.text.as_str()).unwrap_or("");
        let mut title: String = first.chars().take(TITLE_CHARS).collect();
        if title.len() < first.len() {
            title.push('…');
        }
        let busy = self.running.is_some();
        Chat { id: self.id, title, messages: self.messages.clone(), busy }
    }
}

/// A picture of a conversation, whole or a part of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shot {
    pub image: u32,
    /// Pixels of the original.
    pub part: Option<[f32; 4]>,
}

/// A conversation as the engine reads it.
pub(crate) struct Asked {
    pub messages: Vec<Message>,
    /// The pictures of its image parts, in order.
    pub shots: Vec<Shot>,
    /// It is a question about a part of a picture, apart from what was said before.
    pub aside: bool,
}

/// What is asked with the last of these messages. A question about a part stands alone, and what
/// comes after it does not know of it.
pub(crate) fn conversation(messages: &[ChatMessage]) -> Asked {
    let last = messages.iter().rposition(|message| message.role == ChatRole::User);
    if let Some((message, region)) = last.and_then(|at| Some((&messages[at], messages[at].region?)))
    {
        let content = vec![Part::Image, Part::Text(message.text.trim().to_string())];
        let messages = vec![Message { role: Role::User, content }];
        let shots = vec![Shot { image: region.image, part: Some(region.bbox) }];
        return Asked { messages, shots, aside: true };
    }
    let mut asked = Asked { messages: Vec::new(), shots: Vec::new(), aside: false };
    let mut aside = false;
    for message in messages {
        let is_question = message.role == ChatRole::User;
        aside = if is_question { message.region.is_some() } else { aside };
        if aside {
            continue;
        }
        asked.shots.extend(message.images.iter().map(|&image| Shot { image, part: None }));
        let pictures = message.images.iter().map(|_| Part::Image);
        let content = pictures.chain([Part::Text(message.text.trim().to_string())]).collect();
        let role = if is_question { Role::User } else { Role::Assistant };
        asked.messages.push(Message { role, content });
    }
    asked
}

/// Answers of a chat so far.
pub(crate) fn n_answers(chat: &Chat) -> u32 {
    chat.messages.iter().filter(|message| message.role == ChatRole::Assistant).count() as u32
}

fn missing(id: u32) -> ApiError {
    failure("no_such_chat", format!("chat {id} does not exist"), "Start a new chat.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Region;

    fn message(role: ChatRole, text: &str, region: Option<Region>) -> ChatMessage {
        ChatMessage {
            role,
            text: text.into(),
            images: if text == "first" { vec![3] } else { Vec::new() },
            region,
            words: Vec::new(),
            check: None,
            cancelled: false,
        }
    }

    #[test]
    fn a_question_about_a_part_stands_alone_and_leaves_no_trace() {
        let part = Region { image: 3, bbox: [0.0, 0.0, 5.0, 5.0] };
        let mut messages = vec![
            message(ChatRole::User, "first", None),
            message(ChatRole::Assistant, "one", None),
            message(ChatRole::User, "part", Some(part)),
        ];
        let asked = conversation(&messages);
        assert!(asked.aside && asked.messages.len() == 1);
        assert_eq!(asked.shots, [Shot { image: 3, part: Some(part.bbox) }]);
        messages.push(message(ChatRole::Assistant, "two", None));
        messages.push(message(ChatRole::User, "last", None));
        let asked = conversation(&messages);
        assert!(!asked.aside && asked.messages.len() == 3);
        assert_eq!(asked.shots, [Shot { image: 3, part: None }]);
    }
}
