//! Which keys of a record hold what: the field's habits, or what a `dataset_info.json` says.

use serde_json::{Map, Value};

use crate::{Role, Split};

/// For each part of a row the keys that may hold it, the first that is there counts.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub messages: Vec<String>,
    pub images: Vec<String>,
    pub question: Vec<String>,
    /// More of the question, in Alpaca's form.
    pub query: Vec<String>,
    pub answer: Vec<String>,
    pub history: Vec<String>,
    pub system: Vec<String>,
    pub chosen: Vec<String>,
    pub rejected: Vec<String>,
    /// Inside a message.
    pub role: Vec<String>,
    pub content: Vec<String>,
    /// What the roles are called; everybody's names where it is empty.
    pub roles: Vec<(String, Role)>,
}

/// A picture described, without a question.
pub(crate) const CAPTION: &[&str] = &["caption", "captions", "text", "txt", "description"];
/// What a picture shows, in a word.
pub(crate) const LABEL: &[&str] = &["label", "class", "category"];
pub(crate) const ID: &[&str] = &["id", "question_id", "sample_id", "uid", "__key__"];
pub(crate) const SPLIT: &[&str] = &["split"];
/// Pairs of turns, as The Cauldron has them.
pub(crate) const TEXTS: &[&str] = &["texts", "qa"];
/// What a model that sees still pictures cannot learn from.
pub(crate) const OTHER_MEDIA: &[&str] = &["videos", "video", "audios", "audio"];

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

impl Keys {
    /// What is found in the wild.
    pub fn any() -> Keys {
        Keys {
            messages: list(&["conversations", "messages", "conversation"]),
            images: list(&[
                "images",
                "image",
                "image_path",
                "image_paths",
                "file_name",
                "filename",
                "image_file",
                "picture",
                "pictures",
                "img",
                "photo",
                "file",
                "path",
            ]),
            question: list(&["question", "prompt", "instruction", "problem", "user"]),
            query: list(&["input", "query"]),
            answer: list(&[
                "answer",
                "response",
                "output",
                "completion",
                "multiple_choice_answer",
                "answers",
                "solution",
                "assistant",
            ]),
            history: list(&["history"]),
            system: list(&["system", "system_prompt"]),
            chosen: list(&["chosen", "chosen_messages"]),
            rejected: list(&["rejected", "rejected_messages"]),
            role: list(&["from", "role"]),
            content: list(&["value", "content"]),
            roles: Vec::new(),
        }
    }

    /// Whether a record with these keys may be a row.
    pub fn knows(&self, name: &str) -> bool {
        let own = [&self.messages, &self.question, &self.answer, &self.chosen, &self.images];
        let shared = [CAPTION, LABEL, TEXTS];
        own.iter().any(|names| names.iter().any(|own| own.eq_ignore_ascii_case(name)))
            || shared.iter().any(|names| names.iter().any(|own| own.eq_ignore_ascii_case(name)))
    }

    /// Whether a column is worth reading at all.
    pub fn wants(&self, name: &str) -> bool {
        let own = [&self.query, &self.history, &self.system, &self.rejected];
        let shared = [ID, SPLIT, OTHER_MEDIA];
        self.knows(name)
            || own.iter().any(|names| names.iter().any(|own| own.eq_ignore_ascii_case(name)))
            || shared.iter().any(|names| names.iter().any(|own| own.eq_ignore_ascii_case(name)))
    }

    /// The role of this name.
    pub fn role_named(&self, name: &str) -> Option<Role> {
        if !self.roles.is_empty() {
            return self.roles.iter().find(|(own, _)| own == name).map(|(_, role)| *role);
        }
        match name.to_ascii_lowercase().as_str() {
            "user" | "human" => Some(Role::User),
            "assistant" | "gpt" | "model" | "bot" | "chatgpt" | "bing" | "bard" => {
                Some(Role::Assistant)
            }
            "system" | "developer" => Some(Role::System),
            _ => None,
        }
    }
}

/// The first of these keys that holds something, its case only where nothing else fits.
pub(crate) fn get<'a, S: AsRef<str>>(
    record: &'a Map<String, Value>,
    names: &[S],
) -> Option<&'a Value> {
    let exact = names.iter().filter_map(|name| record.get(name.as_ref()));
    let loose = names.iter().flat_map(|name| {
        record.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name.as_ref())).map(|(_, v)| v)
    });
    exact.chain(loose).find(|value| !value.is_null())
}

/// The side a record names.
pub(crate) fn side(record: &Map<String, Value>) -> Option<Split> {
    get(record, SPLIT).and_then(Value::as_str).and_then(Split::named)
}
