//! Ids one at a time -> text as it becomes whole.
//!
//! Why: one character may take several tokens, and a token's text depends on those before it
//! (leading spaces). Text is held back until it cannot change, so no half character ever shows.

use super::Tokenizer;
use crate::Error;

/// Decodes ids that arrive one by one. The pieces put together are `Tokenizer::decode` of all ids.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    /// Ids before this are only context for those after it.
    context_from: usize,
    /// Ids before this have been given out as text.
    given_to: usize,
}

impl<'a> TextStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> TextStream<'a> {
        TextStream { tokenizer, ids: Vec::new(), context_from: 0, given_to: 0 }
    }

    /// Takes the next id; returns the text that is now certain, often empty.
    pub fn push(&mut self, id: u32) -> Result<String, Error> {
        self.ids.push(id);
        let (before, now) = self.texts()?;
        // The next ids may yet make a character of what is broken so far.
        if now.len() <= before.len() || now.ends_with('\u{FFFD}') {
            return Ok(String::new());
        }
        Ok(self.give(&before, &now))
    }

    /// What is still held back, once no more ids come.
    pub fn finish(&mut self) -> Result<String, Error> {
        let (before, now) = self.texts()?;
        Ok(self.give(&before, &now))
    }

    fn texts(&self) -> Result<(String, String), Error> {
        let before = self.tokenizer.decode(&self.ids[self.context_from..self.given_to])?;
        let now = self.tokenizer.decode(&self.ids[self.context_from..])?;
        Ok((before, now))
    }

    fn give(&mut self, before: &str, now: &str) -> String {
        let text = now.strip_prefix(before).unwrap_or_default().to_owned();
        self.context_from = self.given_to;
        self.given_to = self.ids.len();
        text
    }
}
