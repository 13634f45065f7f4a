//! Text <-> token ids, as the checkpoint's `tokenizer.json` and its companions say.
//!
//! Why: a checkpoint spreads its vocabulary over several files, and a token missing here is a
//! picture silently read as text there. Knows no prompts and no models, only ids and text.

mod padded;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::Value;
use tokenizers::AddedToken;

pub use padded::{PaddedTexts, TextTokenizer};
pub use stream::TextStream;

use crate::{Checkpoint, Error};

/// A tokenizer and its special tokens.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    special: BTreeMap<String, String>,
    chat_template: Option<String>,
}

/// Keys of `tokenizer_config.json` and `special_tokens_map.json` that name one special token.
const SPECIAL_KEYS: [&str; 11] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
    "image_token",
    "fake_image_token",
    "global_image_token",
    "end_of_utterance_token",
];

impl Tokenizer {
    /// Reads `tokenizer.json` of a model folder, then the tokens that `added_tokens.json`,
    /// `tokenizer_config.json` and `special_tokens_map.json` add to it.
    ///
    /// Errors: `Error::Io`, `Error::Json`, `Error::Processor`, each naming the file.
    pub fn load(dir: &Path) -> Result<Tokenizer, Error> {
        Self::read(&Checkpoint::open(dir)?)
    }

    pub(super) fn read(files: &Checkpoint) -> Result<Tokenizer, Error> {
        let path = files.place("tokenizer.json");
        let Some(text) = files.text("tokenizer.json")? else {
            let message = "is missing; a tokenizer in another format (tokenizer.model, vocab.json) \
                           cannot be read, so download tokenizer.json too";
            return Err(wrong(&path, message));
        };
        let inner = tokenizers::Tokenizer::from_bytes(&text).map_err(|error| {
            wrong(&path, format!("is not a tokenizer ({error}); download it again"))
        })?;
        let mut tokenizer = Tokenizer { inner, special: BTreeMap::new(), chat_template: None };
        tokenizer.forget_training_limits();
        for name in ["added_tokens.json", "tokenizer_config.json", "special_tokens_map.json"] {
            if let Some(json) = files.json(name)? {
                let path = files.place(name);
                tokenizer.take(name, &json).map_err(|message| wrong(&path, message))?;
            }
        }
        Ok(tokenizer)
    }

    /// From the text of a `tokenizer.json` alone.
    pub fn from_json(text: &str) -> Result<Tokenizer, Error> {
        let inner = tokenizers::Tokenizer::from_bytes(text)
            .map_err(|error| wrong(Path::new("tokenizer.json"), error))?;
        Ok(Tokenizer { inner, special: BTreeMap::new(), chat_template: None })
    }

    /// The ids of `text`. Special tokens written out in it are recognised; none is put around it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encode_with(text, false)
    }

    /// The same, with the tokens the checkpoint puts around every text (often a first `<s>`).
    pub fn encode_with(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, Error> {
        let encoding = self.inner.encode_fast(text, add_special_tokens).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`, special tokens left out. Broken UTF-8 shows as U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.inner.decode(ids, true).map_err(failed)
    }

    /// The text of `ids`, special tokens written out.
    pub fn decode_with_special(&self, ids: &[u32]) -> Result<String, Error> {
        self.inner.decode(ids, false).map_err(failed)
    }

    /// A decoder for ids that come one at a time.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream::new(self)
    }

    /// The id of a token by its exact spelling.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The spelling of an id in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether the id is one of the special tokens that answers leave out.
    pub fn is_special(&self, id: u32) -> bool {
        let added = self.inner.get_added_vocabulary();
        self.inner.id_to_token(id).is_some_and(|token| added.is_special_token(&token))
    }

    /// One more than the highest id.
    pub fn vocab_size(&self) -> usize {
        let ids = self.inner.get_vocab(true).into_values();
        ids.max().map_or(0, |id| id as usize + 1)
    }

    /// A special token by its key in `tokenizer_config.json`: `bos_token`, `eos_token`, …
    pub fn special(&self, key: &str) -> Option<&str> {
        self.special.get(key).map(String::as_str)
    }

    /// All special tokens by key: what a chat template may refer to.
    pub fn special_tokens(&self) -> &BTreeMap<String, String> {
        &self.special
    }

    /// The `chat_template` of `tokenizer_config.json`.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// Truncation and padding stored with a tokenizer belong to its training.
    fn forget_training_limits(&mut self) {
        self.inner.with_padding(None);
        // Taking a limit away cannot fail; only setting an impossible one can.
        self.inner.with_truncation(None).ok();
    }

    fn take(&mut self, file: &str, json: &Value) -> Result<(), String> {
        let Some(map) = json.as_object() else { return Err("is not a JSON object".into()) };
        if file == "added_tokens.json" {
            let ids = map.iter().filter_map(|(token, id)| Some((id.as_u64()?, token.clone())));
            return self.add(ids.map(|(id, text)| (id, AddedToken::from(text, true))).collect());
        }
        if let Some(Value::Object(added)) = map.get("added_tokens_decoder") {
            let tokens = added.iter().filter_map(|(id, value)| Some((id.parse().ok()?, value)));
            let tokens = tokens.filter_map(|(id, value)| Some((id, added_token(value)?)));
            self.add(tokens.collect())?;
        }
        for key in SPECIAL_KEYS {
            if let Some(token) = map.get(key).and_then(added_token) {
                self.special.insert(key.to_owned(), token.content.clone());
                self.inner.add_special_tokens([token.special(true)]).map_err(|e| e.to_string())?;
            }
        }
        let listed = map.get("additional_special_tokens").and_then(Value::as_array);
        for token in listed.into_iter().flatten().filter_map(added_token) {
            self.inner.add_special_tokens([token.special(true)]).map_err(|e| e.to_string())?;
        }
        let template = map.get("chat_template").and_then(template);
        self.chat_template = template.or(self.chat_template.take());
        Ok(())
    }

    /// Adds tokens in the order of their ids and checks that each got the id the file promises.
    fn add(&mut self, mut tokens: Vec<(u64, AddedToken)>) -> Result<(), String> {
        tokens.sort_by_key(|(id, _)| *id);
        for (id, token) in tokens {
            let text = token.content.clone();
            let special = token.special;
            let known = self.inner.token_to_id(&text);
            if known.is_none() || special {
                self.inner.add_tokens([token]).map_err(|error| error.to_string())?;
            }
            let got = self.inner.token_to_id(&text);
            if got.map(u64::from) != Some(id) {
                return Err(format!(
                    "gives {text} the id {id}, but tokenizer.json gives it {}; \
                     the two files are of different models",
                    got.map_or("none".to_owned(), |got| got.to_string())
                ));
            }
        }
        Ok(())
    }
}

/// A token as Hugging Face writes it: a string, or an object with `content` and flags.
fn added_token(value: &Value) -> Option<AddedToken> {
    if let Some(text) = value.as_str() {
        return Some(AddedToken::from(text, true));
    }
    let flag = |key: &str| value.get(key).and_then(Value::as_bool);
    let token = AddedToken::from(value.get("content")?.as_str()?, flag("special").unwrap_or(true));
    let normalized = flag("normalized").unwrap_or(!token.special);
    Some(
        token
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .single_word(flag("single_word").unwrap_or(false))
            .normalized(normalized),
    )
}

/// A chat template as `tokenizer_config.json` writes it: text, or a list of named ones.
pub(super) fn template(value: &Value) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let named: HashMap<&str, &str> = value
        .as_array()?
        .iter()
        .filter_map(|entry| Some((entry.get("name")?.as_str()?, entry.get("template")?.as_str()?)))
        .collect();
    named.get("default").map(|text| (*text).to_owned())
}

fn wrong(path: &Path, message: impl ToString) -> Error {
    Error::Processor { file: path.display().to_string(), message: message.to_string() }
}

fn failed(error: tokenizers::Error) -> Error {
    wrong(Path::new("tokenizer.json"), error)
}
