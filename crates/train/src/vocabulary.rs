//! The words of the model: its tokenizer, the chat's fixed pieces as token ids, and how the
//! tokenizer is made.
//!
//! The trainer lays out sequences token by token, so it needs the exact ids that the chat
//! template gives. It does not know Jinja: a test elsewhere holds the two together.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{
    AddedToken, OffsetReferential, OffsetType, PreTokenizer, PreTokenizerWrapper, Tokenizer,
    TokenizerBuilder,
};
use tokenizers::{DecoderWrapper, NormalizerWrapper, PostProcessorWrapper};

use crate::Error;

const PAD: &str = "<pad>";
const START: &str = "<|im_start|>";
const END: &str = "<end_of_utterance>";
const IMAGE: &str = "<image>";
const FAKE: &str = "<fake_token_around_image>";
const GLOBAL: &str = "<global-img>";

/// The tokenizer and the fixed pieces of a conversation.
pub struct Speech {
    tokenizer: Tokenizer,
    /// Padding, never attended to.
    pub pad: u32,
    /// Ends every turn.
    pub end: u32,
    /// Everything up to and with the picture: `<|im_start|>User:` and the image tokens.
    pub opening: Vec<u32>,
    /// Where the image tokens lie in [`Speech::opening`].
    pub image_tokens: Range<usize>,
    /// Between a question and its answer: `<end_of_utterance>\nAssistant:`.
    pub reply: Vec<u32>,
    /// Between an answer's end and the next question: `\nUser:`.
    pub next: Vec<u32>,
}

impl Speech {
    /// Reads `tokenizer.json` of a model folder whose pictures take `n_image_tokens` tokens.
    ///
    /// # Errors
    /// [`Error::Model`] when it cannot be read or lacks a special token.
    pub fn load(folder: &Path, n_image_tokens: usize) -> Result<Self, Error> {
        let path = folder.join("tokenizer.json");
        let tokenizer = Tokenizer::from_file(&path)
            .map_err(|e| Error::Model(format!("{}: {e}", path.display())))?;
        Self::new(tokenizer, n_image_tokens)
    }

    fn new(tokenizer: Tokenizer, n_image_tokens: usize) -> Result<Self, Error> {
        let id = |token: &str| {
            tokenizer
                .token_to_id(token)
                .ok_or_else(|| Error::Model(format!("the tokenizer has no token {token}")))
        };
        let (pad, end) = (id(PAD)?, id(END)?);
        let opening_text =
            format!("{START}User:{FAKE}{GLOBAL}{}{FAKE}", IMAGE.repeat(n_image_tokens));
        let opening = encode(&tokenizer, &opening_text)?;
        let image = id(IMAGE)?;
        let first = opening.iter().position(|&t| t == image).unwrap_or(0);
        let reply = encode(&tokenizer, &format!("{END}\nAssistant:"))?;
        let next = encode(&tokenizer, "\nUser:")?;
        let image_tokens = first..first + n_image_tokens;
        Ok(Self { tokenizer, pad, end, opening, image_tokens, reply, next })
    }

    /// Token ids of a text, nothing added.
    ///
    /// # Errors
    /// [`Error::Model`] when the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        encode(&self.tokenizer, text)
    }

    /// Token ids with the bytes of `text` that each stands for.
    ///
    /// # Errors
    /// [`Error::Model`] when the tokenizer fails.
    pub fn encode_spans(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>, Error> {
        let encoding =
            self.tokenizer.encode(text, false).map_err(|e| Error::Model(e.to_string()))?;
        let spans = encoding.get_offsets().iter().map(|&(a, b)| a..b);
        Ok(encoding.get_ids().iter().copied().zip(spans).collect())
    }

    /// Text of ids, special tokens left out.
    ///
    /// # Errors
    /// [`Error::Model`] when an id is unknown.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.tokenizer.decode(ids, true).map_err(|e| Error::Model(e.to_string()))
    }
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, Error> {
    let encoding = tokenizer.encode(text, false).map_err(|e| Error::Model(e.to_string()))?;
    Ok(encoding.get_ids().to_vec())
}

/// Learns a byte-level BPE with single digits from `texts` and writes it to `path`.
///
/// # Errors
/// [`Error::Model`] when training or writing fails.
pub fn build_tokenizer(
    texts: &[String],
    vocab_size: usize,
    path: &Path,
) -> Result<Tokenizer, Error> {
    let fail = |e: tokenizers::Error| Error::Model(e.to_string());
    let bytes = ByteLevel::new(false, true, true);
    let split: Vec<PreTokenizerWrapper> = vec![Digits::new(true).into(), bytes.into()];
    let mut tokenizer = TokenizerBuilder::<
        BPE,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    >::new()
    .with_model(BPE::default())
    .with_pre_tokenizer(Some(Sequence::new(split).into()))
    .with_decoder(Some(bytes.into()))
    .build()
    .map_err(fail)?;
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .min_frequency(8)
        .show_progress(false)
        .special_tokens(special_tokens())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    tokenizer.train(&mut trainer, texts.iter().map(String::as_str)).map_err(fail)?;
    let tokenizer: Tokenizer = tokenizer.into();
    tokenizer.save(path, true).map_err(fail)?;
    Ok(tokenizer)
}

/// Special tokens in id order; the tile marks are those of the SmolVLM processor.
fn special_tokens() -> Vec<AddedToken> {
    let mut names: Vec<String> =
        [PAD, START, END, IMAGE, FAKE, GLOBAL].iter().map(ToString::to_string).collect();
    for row in 1..=2 {
        names.extend((1..=2).map(|col| format!("<row_{row}_col_{col}>")));
    }
    names.into_iter().map(|name| AddedToken::from(name, true)).collect()
}

/// Scenes whose questions and answers the shipped tokenizer is learned from.
const TOKENIZER_SCENES: u64 = 6_000;
/// How often each name is repeated, so that it becomes one token however rarely it comes up.
const NAME_REPEATS: usize = 200;

/// The shipped model's tokenizer, from what the drawn world can say. A word that is only ever
/// printed (on a sign, on a receipt) is spelled letter by letter: there are too many to be known
/// by sight, and letters are what the vision tower is taught to see.
///
/// # Errors
/// [`Error::Model`] when training or writing fails.
pub fn build_nano_tokenizer(path: &Path) -> Result<(), Error> {
    let mut words: Vec<String> = vec!["User:".into(), "Assistant:".into()];
    for class in scenes::classes() {
        words.extend([class.name, class.plural].map(|name| format!(" {name}")));
    }
    for colour in scenes::Colour::ALL {
        let name = colour.name();
        let upper = name[..1].to_uppercase() + &name[1..];
        words.extend([format!(" {name}"), format!(" {upper}")]);
    }
    let mut texts = said(true);
    for word in &words {
        texts.extend(std::iter::repeat_n(word.clone(), NAME_REPEATS));
    }
    let tokenizer = build_tokenizer(&texts, 2048, path)?;
    words.extend(said(false));
    spell_the_rest(&tokenizer, &words, path)
}

/// Questions open a turn right after the picture, answers and later turns after a space.
fn said(printed: bool) -> Vec<String> {
    let said = scenes::caption_vocabulary(TOKENIZER_SCENES, printed);
    said.iter().map(|text| format!(" {text}")).chain(said.iter().cloned()).collect()
}

/// Writes the tokenizer with only those merges that `spoken` needs; the ids stay what they are.
fn spell_the_rest(tokenizer: &Tokenizer, spoken: &[String], path: &Path) -> Result<(), Error> {
    let fail = |e: tokenizers::Error| Error::Model(e.to_string());
    let json = |e: serde_json::Error| Error::Model(e.to_string());
    let mut file: serde_json::Value =
        serde_json::from_str(&tokenizer.to_string(true).map_err(fail)?).map_err(json)?;
    let merges: Vec<(String, String)> =
        serde_json::from_value(file["model"]["merges"].take()).map_err(json)?;
    let ranks = merges.iter().cloned().enumerate().map(|(rank, pair)| (pair, rank)).collect();
    let mut used = BTreeSet::new();
    for text in spoken {
        let mut split = text.as_str().into();
        if let Some(pre) = tokenizer.get_pre_tokenizer() {
            pre.pre_tokenize(&mut split).map_err(fail)?;
        }
        for (word, ..) in split.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            merge(word, &ranks, &mut used);
        }
    }
    let kept: Vec<_> = used.into_iter().map(|rank| &merges[rank]).collect();
    file["model"]["merges"] = serde_json::to_value(kept).map_err(json)?;
    let text = serde_json::to_string_pretty(&file).map_err(json)?;
    std::fs::write(path, text).map_err(Error::writing(path))
}

/// Merges one word as a BPE does, and notes the ranks of the merges it took.
fn merge(word: &str, ranks: &HashMap<(String, String), usize>, used: &mut BTreeSet<usize>) {
    let mut parts: Vec<String> = word.chars().map(String::from).collect();
    loop {
        let rank = |pair: &[String]| ranks.get(&(pair[0].clone(), pair[1].clone())).copied();
        let pairs = parts.windows(2).enumerate();
        let Some((rank, at)) = pairs.filter_map(|(at, pair)| Some((rank(pair)?, at))).min() else {
            return;
        };
        used.insert(rank);
        let second = parts.remove(at + 1);
        parts[at].push_str(&second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_printed_is_spelled_and_what_is_said_is_not() {
        let path = std::env::temp_dir().join(format!("spelled-{}.json", std::process::id()));
        let texts: Vec<String> =
            [" OPEN dog", " dog OPEN"].repeat(20).into_iter().map(String::from).collect();
        let tokenizer = build_tokenizer(&texts, 400, &path).expect("a tokenizer");
        let tokens = |tokenizer: &Tokenizer, text: &str| {
            tokenizer.encode(text, false).expect("tokens").get_ids().to_vec()
        };
        assert_eq!(tokens(&tokenizer, " OPEN").len(), 1);
        spell_the_rest(&tokenizer, &[" dog".to_owned()], &path).expect("written");
        let spelled = Tokenizer::from_file(&path).expect("a tokenizer");
        assert_eq!(tokens(&spelled, " dog"), tokens(&tokenizer, " dog"));
        assert_eq!(tokens(&spelled, " OPEN").len(), 5);
        let _ = std::fs::remove_file(&path);
    }
}
