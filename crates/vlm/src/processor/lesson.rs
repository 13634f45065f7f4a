//! A whole conversation as something to learn from: its tokens, and which of them the assistant
//! says.
//!
//! The prompt of a lesson is that of an answer to the letter, so what is learned is what is asked.
//! It knows no loss.

use image::RgbImage;

use super::{Inputs, Message, Part, Processor, Role, Tiles};
use crate::Error;

/// A conversation with its answers.
#[derive(Clone, Debug)]
pub struct Lesson {
    pub inputs: Inputs,
    /// Of each of `input_ids`: whether the assistant says it, with the token that ends its turn.
    pub is_taught: Vec<bool>,
}

impl Lesson {
    /// The rows that predict what is taught, each with the token that is right.
    pub fn supervised(&self) -> Vec<(u32, u32)> {
        let taught = self.is_taught.iter().enumerate().skip(1).filter(|(_, taught)| **taught);
        taught.map(|(at, _)| (at as u32 - 1, self.inputs.input_ids[at])).collect()
    }
}

impl Processor {
    /// Lays out `messages` to the end of the last answer; `images` are the pictures of their
    /// `Part::Image`s, in order.
    ///
    /// # Errors
    /// As [`Processor::prepare`]; a chat template that writes a conversation otherwise once it is
    /// answered, since what is learned would then not be what is asked.
    pub fn prepare_lesson(
        &self,
        messages: &[Message],
        images: &[RgbImage],
    ) -> Result<Lesson, Error> {
        let tiled = self.images.tiles_of(images);
        let plain = self.layout.plain(messages, tiled.len())?;
        let whole = self.chat.render_answered(&plain)?;
        let mut inputs = self.prepare_prompt(&whole, &tiled)?;
        let mut is_taught = vec![false; inputs.input_ids.len()];
        let answers = plain.iter().enumerate().filter(|(_, m)| m.role == Role::Assistant);
        for (i, _) in answers {
            let asked = self.chat.render(&plain[..i])?;
            let answered = self.chat.render_answered(&plain[..=i])?;
            let fits = whole.starts_with(&asked) && whole.starts_with(answered.trim_end());
            if !fits || !answered.starts_with(&asked) {
                return Err(Error::Processor {
                    file: "chat template".to_owned(),
                    message: "writes a conversation otherwise once it is answered, so that it \
                              cannot be learned from"
                        .to_owned(),
                });
            }
            let n_images = |to: usize| {
                let parts = plain[..to].iter().flat_map(|message| &message.content);
                parts.filter(|part| **part == Part::Image).count()
            };
            let n_tokens = |text: &str, n_images: usize| -> Result<usize, Error> {
                let known = self.lay_out(text, self.seen_before(&tiled, n_images))?.input_ids;
                let pairs = known.iter().zip(&inputs.input_ids);
                Ok(pairs.take_while(|(a, b)| a == b).count())
            };
            let first = n_tokens(&asked, n_images(i))?;
            let end = n_tokens(answered.trim_end(), n_images(i + 1))?;
            is_taught.get_mut(first..end).unwrap_or_default().fill(true);
        }
        // A template that leaves the end to the tokenizer.
        let last = plain.last().map(Message::text).unwrap_or_default();
        let end = self.tokenizer.special("eos_token").and_then(|end| self.tokenizer.id(end));
        if let Some(end) = end.filter(|_| whole.trim_end().ends_with(last.trim_end())) {
            inputs.input_ids.truncate(is_taught.iter().rposition(|t| *t).map_or(0, |at| at + 1));
            is_taught.truncate(inputs.input_ids.len());
            inputs.input_ids.push(end);
            is_taught.push(true);
        }
        Ok(Lesson { inputs, is_taught })
    }

    /// The first pictures of a conversation; where they stand before all text, all of them.
    fn seen_before<'a>(&self, tiled: &'a [Tiles], n_images: usize) -> &'a [Tiles] {
        match self.layout.has_pictures_in_text() {
            true => &tiled[..n_images.min(tiled.len())],
            false => tiled,
        }
    }
}
