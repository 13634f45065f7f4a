//! The conversations, in memory.

use vlm::generate::Cancel;
use vlm::processor::{Message, Part, Role};

use crate::api::{ApiError, Chat, ChatMessage, ChatRole};
use crate::failure::failure;

/// Characters of a chat's title.
const TITLE_CHARS: usize = 48;

pub(crate) struct Chats {
    next: u32,
    list: Vec<Record>,
}

struct Record {
    id: u32,
    messages: Vec<ChatMessage>,
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
        self.list.push(Record { id, messages: Vec::new(), running: None });
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
    pub fn begin_again(&mut self, id: u32, run: Cancel) -> Result<Option<ChatMessage>, ApiError> {
        let chat = self.idle(id)?;
        if chat.messages.is_empty() {
            let hint = "Ask a question first.";
            return Err(failure("nothing_to_repeat", "there is no answer to repeat", hint));
        }
        chat.running = Some(run);
        let answered = chat.messages.last().is_some_and(|m| m.role == ChatRole::Assistant);
        Ok(if answered { chat.messages.pop() } else { None })
    }

    /// The answer is there, or what was there before comes back.
    pub fn end(&mut self, id: u32, message: Option<ChatMessage>, drop_question: bool) {
        let Some(chat) = self.list.iter_mut().find(|chat| chat.id == id) else { return };
        chat.running = None;
        if drop_question {
            chat.messages.pop();
        }
        chat.messages.extend(message);
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

    pub fn uses_image(&self, image: u32) -> bool {
        let messages = self.list.iter().flat_map(|chat| &chat.messages);
        messages.flat_map(|message| &message.images).any(|&id| id == image)
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

/// The conversation as the engine reads it, and its pictures in order.
pub(crate) fn conversation(chat: &Chat) -> (Vec<Message>, Vec<u32>) {
    let mut images = Vec::new();
    let mut messages = Vec::new();
    for message in &chat.messages {
        images.extend(&message.images);
        let pictures = message.images.iter().map(|_| Part::Image);
        let content = pictures.chain([Part::Text(message.text.trim().to_string())]).collect();
        let role = match message.role {
            ChatRole::User => Role::User,
            ChatRole::Assistant => Role::Assistant,
        };
        messages.push(Message { role, content });
    }
    (messages, images)
}

/// Answers of a chat so far.
pub(crate) fn n_answers(chat: &Chat) -> u32 {
    chat.messages.iter().filter(|message| message.role == ChatRole::Assistant).count() as u32
}

fn missing(id: u32) -> ApiError {
    failure("no_such_chat", format!("chat {id} does not exist"), "Start a new chat.")
}
