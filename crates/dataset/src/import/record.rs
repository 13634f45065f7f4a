//! One record of any dialect becomes a row: the one place that knows how the field writes
//! conversations.
//!
//! JSON objects, lines of a CSV, members of a tar and records of a Parquet file all come here as
//! a map, with the pictures that were embedded beside it.

use serde_json::{Map, Value};

use crate::Picture;
use crate::row::{MARK, Message, Role};

use super::intake::{Draft, Fault};
use super::keys::{CAPTION, ID, Keys, LABEL, OTHER_MEDIA, TEXTS, get, side};
use super::places::Places;

/// What a caption answers where its source has no question.
pub const DESCRIBE: &str = "Describe the picture.";
/// What a class answers where its source has no question.
pub const WHAT: &str = "What is this?";

/// Makes a row of one record.
///
/// Errors: why it is none.
pub(crate) fn read(
    record: &Map<String, Value>,
    keys: &Keys,
    embedded: Vec<Picture>,
    places: &Places,
) -> Result<Draft, Fault> {
    let is_filled = |value: &Value| match value {
        Value::Array(items) => !items.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => false,
    };
    if let Some(medium) = OTHER_MEDIA.iter().find(|key| record.get(**key).is_some_and(is_filled)) {
        return Err(Fault::Skipped(format!("it has {medium}; only pictures are learned from")));
    }
    let mut reading = Reading { record, keys, places, pictures: embedded, inline: true };
    if reading.pictures.is_empty() {
        reading.list_pictures()?;
    }
    reading.inline = reading.pictures.is_empty();
    let mut messages = reading.messages()?;
    if let Some(system) = reading.text(&keys.system).filter(|text| !text.is_empty())
        && messages.first().is_none_or(|first| first.role != Role::System)
    {
        messages.insert(0, Message::new(Role::System, system));
    }
    let rejected = reading.pair(&mut messages)?;
    if messages.is_empty() {
        return Err("it has no messages".into());
    }
    let id = get(record, ID).and_then(text_of);
    Ok(Draft { id, pictures: reading.pictures, messages, rejected, split: side(record) })
}

/// A record while it is read.
struct Reading<'a> {
    record: &'a Map<String, Value>,
    keys: &'a Keys,
    places: &'a Places,
    pictures: Vec<Picture>,
    /// Whether texts and parts may bring pictures: nothing else did.
    inline: bool,
}

impl Reading<'_> {
    fn text(&self, names: &[String]) -> Option<String> {
        get(self.record, names).and_then(text_of)
    }

    /// Pictures that the record lists under a key of their own.
    fn list_pictures(&mut self) -> Result<(), Fault> {
        let Some(value) = get(self.record, &self.keys.images) else { return Ok(()) };
        match value {
            Value::String(text) if text.trim_start().starts_with('[') => {
                let items: Result<Vec<Value>, _> = serde_json::from_str(text);
                let items = items.map_err(|_| format!("`{text}` is no list of pictures"))?;
                items.iter().try_for_each(|item| self.list_picture(item))
            }
            Value::Array(items) => items.iter().try_for_each(|item| self.list_picture(item)),
            one => self.list_picture(one),
        }
    }

    fn list_picture(&mut self, value: &Value) -> Result<(), Fault> {
        match path_of(value) {
            Some(path) if path.trim().is_empty() => Ok(()),
            Some(path) => {
                self.pictures.push(self.places.find(path)?);
                Ok(())
            }
            None if value.is_null() => Ok(()),
            None => Err("its list of pictures holds something that is no path".into()),
        }
    }

    /// The conversation, in whichever way the record tells it.
    fn messages(&mut self) -> Result<Vec<Message>, Fault> {
        let keys = self.keys;
        if let Some(turns) = get(self.record, &keys.chosen).and_then(whole_conversation) {
            return self.turns(turns);
        }
        match get(self.record, &keys.messages) {
            Some(Value::Array(turns)) => return self.turns(turns),
            Some(Value::String(text)) if text.trim_start().starts_with('[') => {
                let turns: Result<Vec<Value>, _> = serde_json::from_str(text);
                return self.turns(&turns.map_err(|_| "its messages are no JSON")?);
            }
            Some(_) => return Err("its messages are no list".into()),
            None => {}
        }
        if let Some(Value::Array(pairs)) = get(self.record, TEXTS) {
            return self.pairs(pairs);
        }
        self.question_and_answer()
    }

    fn turns(&mut self, turns: &[Value]) -> Result<Vec<Message>, Fault> {
        turns.iter().filter(|turn| !turn.is_null()).map(|turn| self.turn(turn)).collect()
    }

    fn turn(&mut self, turn: &Value) -> Result<Message, Fault> {
        let Value::Object(turn) = turn else { return Err("a message is no object".into()) };
        let role = get(turn, &self.keys.role).and_then(Value::as_str);
        let role = role.ok_or_else(|| format!("a message without a role: {}", names(turn)))?;
        let named = self.keys.role_named(role);
        let role = named.ok_or_else(|| {
            Fault::Skipped(format!("the role `{role}` is neither system, user nor assistant"))
        })?;
        let text = match get(turn, &self.keys.content) {
            Some(Value::Array(parts)) => {
                let parts: Result<Vec<String>, Fault> =
                    parts.iter().map(|part| self.part(part)).collect();
                parts?.concat()
            }
            Some(value) => {
                self.inline_pictures(&text_of(value).ok_or("a message's text is no text")?)?
            }
            None => String::new(),
        };
        Ok(Message { role, text })
    }

    /// A part of a message: text, or a mark for a picture that may be named right here.
    fn part(&mut self, part: &Value) -> Result<String, Fault> {
        let part = match part {
            Value::String(text) => return self.inline_pictures(text),
            Value::Object(part) => part,
            _ => return Err("a part of a message is no object".into()),
        };
        let kind = part.get("type").and_then(Value::as_str);
        let picture = get(part, &["image", "image_url", "url", "path"]);
        match (kind, get(part, &["text", "value"]).and_then(text_of)) {
            (Some("text") | None, Some(text)) => self.inline_pictures(&text),
            (Some("image" | "image_url" | "input_image") | None, value) => {
                let named = picture.and_then(path_of).map(str::to_owned).or(value);
                if let Some(path) = named.filter(|path| self.inline && !path.is_empty()) {
                    self.pictures.push(self.places.find(&path)?);
                }
                Ok(MARK.to_owned())
            }
            (Some("text"), None) => Ok(String::new()),
            (Some(kind), _) => Err(Fault::Skipped(format!(
                "it has a part of type `{kind}`; only text and \
                     pictures are learned from"
            ))),
        }
    }

    /// Qwen's demo writes a picture's path into the text: "Picture 1: <img>a.jpg</img>".
    fn inline_pictures(&mut self, text: &str) -> Result<String, Fault> {
        const OPEN: &str = "<img>";
        const CLOSE: &str = "</img>";
        let (mut rest, mut out) = (text, String::new());
        while self.inline {
            let Some((before, after)) = rest.split_once(OPEN) else { break };
            let Some((path, behind)) = after.split_once(CLOSE) else { break };
            self.pictures.push(self.places.find(path)?);
            out.push_str(without_number(before));
            out.push_str(MARK);
            rest = behind;
        }
        Ok(out + rest)
    }

    /// `[{"user": ..., "assistant": ...}]`
    fn pairs(&mut self, pairs: &[Value]) -> Result<Vec<Message>, Fault> {
        let mut messages = Vec::new();
        for pair in pairs {
            let Value::Object(pair) = pair else { return Err("a pair is no object".into()) };
            let text = |names: &[&str]| get(pair, names).and_then(text_of).unwrap_or_default();
            messages.push(Message::new(Role::User, text(&["user", "question"])));
            messages.push(Message::new(Role::Assistant, text(&["assistant", "answer"])));
        }
        Ok(messages)
    }

    fn question_and_answer(&mut self) -> Result<Vec<Message>, Fault> {
        let mut messages = self.history();
        let caption = get(self.record, CAPTION).and_then(text_of);
        let label = get(self.record, LABEL).and_then(text_of);
        let pair = get(self.record, &self.keys.chosen).is_some();
        let answer = self.text(&self.keys.answer);
        let query = self.text(&self.keys.query).filter(|query| !query.is_empty());
        let (question, answer) = match (self.text(&self.keys.question), query) {
            (Some(question), Some(query)) if !question.is_empty() => {
                (format!("{question}\n{query}"), answer.or(caption).or(label))
            }
            (_, Some(question)) | (Some(question), None) => {
                (question, answer.or(caption).or(label))
            }
            _ if pair || answer.is_some() => (String::new(), answer),
            _ if caption.is_some() => (DESCRIBE.to_owned(), caption),
            _ if label.is_some() => (WHAT.to_owned(), label),
            _ => {
                let keys = names(self.record);
                return Err(format!("no messages, question or caption among {keys}").into());
            }
        };
        messages.push(Message { role: Role::User, text: self.inline_pictures(&question)? });
        messages.extend(answer.map(|answer| Message::new(Role::Assistant, answer)));
        Ok(messages)
    }

    /// Alpaca's earlier rounds: pairs of question and answer.
    fn history(&self) -> Vec<Message> {
        let rounds = get(self.record, &self.keys.history).and_then(Value::as_array);
        let turns = rounds.into_iter().flatten().filter_map(Value::as_array).flatten();
        let roles = [Role::User, Role::Assistant].into_iter().cycle();
        let turns = turns.zip(roles);
        turns.map(|(turn, role)| Message::new(role, text_of(turn).unwrap_or_default())).collect()
    }

    /// Puts the better answer of a pair at the end and gives the worse one.
    fn pair(&mut self, messages: &mut Vec<Message>) -> Result<Option<String>, Fault> {
        let chosen = get(self.record, &self.keys.chosen);
        if let Some(chosen) = chosen.filter(|chosen| whole_conversation(chosen).is_none()) {
            let text = self.last_text(chosen).ok_or("its better answer is no text")?;
            messages.push(Message::new(Role::Assistant, text));
        }
        let Some(rejected) = get(self.record, &self.keys.rejected) else { return Ok(None) };
        Ok(Some(self.last_text(rejected).ok_or("its worse answer is no text")?))
    }

    /// The text of a string, of a message, or of the last of many.
    fn last_text(&mut self, value: &Value) -> Option<String> {
        match value {
            Value::Array(turns) => self.last_text(turns.last()?),
            Value::Object(_) => self.turn(value).ok().map(|message| message.text),
            other => text_of(other),
        }
    }
}

/// A better answer that brings its question along.
fn whole_conversation(chosen: &Value) -> Option<&Vec<Value>> {
    chosen.as_array().filter(|turns| turns.len() > 1)
}

/// The text of a cell; of many answers the most common, of many captions the first.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Array(items) => {
            let one = |item: &Value| match item {
                Value::Object(answer) => answer.get("answer").and_then(text_of),
                other if other.is_array() => None,
                other => text_of(other),
            };
            most_common(items.iter().filter_map(one).collect())
        }
        _ => None,
    }
}

/// The first of the texts that are there most often.
fn most_common(texts: Vec<String>) -> Option<String> {
    // A handful of answers; a file that has a million is not worth an hour.
    let texts = &texts[..texts.len().min(100)];
    let count = |text: &String| texts.iter().filter(|other| *other == text).count();
    let best = texts.iter().map(count).max()?;
    texts.iter().find(|text| count(text) == best).cloned()
}

/// A path, or the object that holds one.
fn path_of(value: &Value) -> Option<&str> {
    match value {
        Value::String(path) => Some(path),
        Value::Object(object) => get(object, &["path", "url", "image", "file_name"])?.as_str(),
        _ => None,
    }
}

/// "Picture 1: " before a path is layout.
fn without_number(text: &str) -> &str {
    let trimmed = text.trim_end_matches(' ').strip_suffix(':');
    let trimmed = trimmed.map(|text| text.trim_end_matches(|c: char| c.is_ascii_digit()));
    trimmed.and_then(|text| text.strip_suffix("Picture ")).unwrap_or(text)
}

fn names(record: &Map<String, Value>) -> String {
    let keys: Vec<&str> = record.keys().take(12).map(String::as_str).collect();
    if keys.is_empty() { "no keys".to_owned() } else { keys.join(", ") }
}
