//! Messages -> the prompt's text, through the checkpoint's own chat template.
//!
//! Why: a model answers well only in the layout it was trained on, and that layout ships with it
//! as a Jinja template written for Python. Picture placeholders come out as the template writes
//! them; what they expand to is the processor's business. Knows no tokens and no pixels.

mod python;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use minijinja::{Environment, Value, context};
use serde::{Deserialize, Serialize};

use crate::family::Family;
use crate::{Checkpoint, Error};

use super::tokenizer::{Tokenizer, template};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    /// The name templates know it by.
    fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", content = "text", rename_all = "lowercase")]
pub enum Part {
    /// The next picture in order.
    Image,
    Text(String),
}

/// What one side said.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    pub content: Vec<Part>,
}

impl Message {
    /// A user's question about `n_images` pictures, the pictures first.
    pub fn user(n_images: usize, text: impl Into<String>) -> Message {
        let mut content = vec![Part::Image; n_images];
        content.push(Part::Text(text.into()));
        Message { role: Role::User, content }
    }

    /// An answer given earlier in the conversation.
    pub fn assistant(text: impl Into<String>) -> Message {
        Message { role: Role::Assistant, content: vec![Part::Text(text.into())] }
    }

    /// The same without its pictures.
    pub fn without_images(&self) -> Message {
        let content = self.content.iter().filter(|part| **part != Part::Image).cloned().collect();
        Message { role: self.role, content }
    }

    /// Its words without its pictures.
    pub fn text(&self) -> String {
        let words = self.content.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Image => None,
        });
        words.collect()
    }

    /// How many pictures the message holds.
    pub fn n_images(&self) -> usize {
        self.content.iter().filter(|part| **part == Part::Image).count()
    }
}

/// A compiled chat template and what it refers to.
#[derive(Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special: BTreeMap<String, String>,
    image_token: String,
    /// The template takes each message's content as one string, not as parts.
    flat: bool,
    /// Where it comes from, for messages.
    file: String,
}

impl ChatTemplate {
    /// The template of a model folder: `chat_template.jinja`, `chat_template.json`,
    /// `processor_config.json` or `tokenizer_config.json`, the first that has one, else the
    /// family's usual one, where it has one.
    ///
    /// Errors: an unreadable file, or a template that does not compile, by name.
    pub fn load(files: &Checkpoint, tokenizer: &Tokenizer, family: &Family) -> Result<Self, Error> {
        let (source, file) = find(files, tokenizer, family)?;
        let special = tokenizer.special_tokens().clone();
        match ChatTemplate::new(&source, special, "<image>") {
            Ok(chat) => Ok(ChatTemplate { file, ..chat }),
            // In one line: the longer form draws the place.
            Err(error) => {
                let message = format!("the chat template is wrong: {error}");
                Err(Error::Processor { file, message })
            }
        }
    }

    /// Refuses a template that does not write a placeholder for a picture.
    pub(super) fn check_pictures(&self, image_token: &str) -> Result<(), Error> {
        let rendered = self.render(&[Message::user(1, "What is this?")])?;
        match rendered.matches(image_token).count() {
            1 => Ok(()),
            n => {
                let message = format!(
                    "the chat template writes {n} pictures for one ({image_token}); \
                     take the template that came with these weights"
                );
                Err(Error::Processor { file: self.file.clone(), message })
            }
        }
    }

    /// Compiles `source`. `special` are the tokens it may refer to (`bos_token`, …).
    pub fn new(
        source: &str,
        special: BTreeMap<String, String>,
        image_token: &str,
    ) -> Result<Self, minijinja::Error> {
        let environment = python::environment(source)?;
        let (image_token, file) = (image_token.to_owned(), "chat template".to_owned());
        let mut chat = ChatTemplate { environment, special, image_token, flat: false, file };
        chat.flat = !chat.takes_parts();
        Ok(chat)
    }

    /// The prompt for `messages`, ready for the assistant to speak.
    ///
    /// Errors: `Error::Processor` with what the template refuses (`raise_exception`).
    pub fn render(&self, messages: &[Message]) -> Result<String, Error> {
        self.try_render(messages, true).map_err(refused)
    }

    /// The same for a conversation that ends with an answer: nothing is asked for after it.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_answered(&self, messages: &[Message]) -> Result<String, Error> {
        self.try_render(messages, false).map_err(refused)
    }

    fn try_render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, minijinja::Error> {
        let messages: Vec<Value> = messages.iter().map(|message| self.value(message)).collect();
        let special = Value::from_pairs(self.special.iter().map(|(k, v)| (k.clone(), v.clone())));
        let given = context! {
            messages,
            tools => Value::from(()),
            documents => Value::from(()),
            add_generation_prompt,
            ..special
        };
        self.environment.get_template("chat")?.render(given)
    }

    fn value(&self, message: &Message) -> Value {
        let role = message.role.name();
        if !self.flat {
            let content: Vec<Value> = message.content.iter().map(part_value).collect();
            return context! { role, content };
        }
        let mut text = String::new();
        for part in &message.content {
            match part {
                Part::Image => text.extend([self.image_token.as_str(), "\n"]),
                Part::Text(words) => text.push_str(words),
            }
        }
        context! { role, content => text }
    }

    /// Whether text given as a part comes out as that text, and nothing of its wrapping does.
    fn takes_parts(&self) -> bool {
        let probe = Message { role: Role::User, content: vec![Part::Text("PROBE".into())] };
        let wrapping = ["\"text\"", "'text'"];
        self.try_render(&[probe], true).is_ok_and(|prompt| {
            prompt.contains("PROBE") && !wrapping.iter().any(|quoted| prompt.contains(quoted))
        })
    }
}

fn refused(error: minijinja::Error) -> Error {
    Error::Processor {
        file: "chat template".to_owned(),
        message: format!("refuses these messages: {}", reason(&error)),
    }
}

/// A part as transformers' templates expect it.
fn part_value(part: &Part) -> Value {
    match part {
        Part::Image => context! { type => "image" },
        Part::Text(text) => context! { type => "text", text => text.as_str() },
    }
}

/// The template's text and the file it came from.
fn find(
    files: &Checkpoint,
    tokenizer: &Tokenizer,
    family: &Family,
) -> Result<(String, String), Error> {
    let place = |name: &str| files.place(name).display().to_string();
    let name = "chat_template.jinja";
    if let Some(text) = files.text(name)? {
        return Ok((text, place(name)));
    }
    for name in ["chat_template.json", "processor_config.json"] {
        let json = files.json(name)?.unwrap_or_default();
        if let Some(text) = json.get("chat_template").and_then(template) {
            return Ok((text, place(name)));
        }
    }
    if let Some(text) = tokenizer.chat_template() {
        return Ok((text.to_owned(), place("tokenizer_config.json")));
    }
    let Some(text) = family.chat_template else {
        let file = place("chat_template.jinja");
        let message = "is missing; take the one that came with these weights".to_owned();
        return Err(Error::Processor { file, message });
    };
    Ok((text.to_owned(), "the built-in chat template".to_owned()))
}

/// The template's own words where it raised an exception, else the whole error.
fn reason(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.to_string(), str::to_owned)
}
