//! Messages and pictures -> what a model receives: `input_ids`, `pixel_values`, `image_spans`.
//!
//! Why one place: training and answering must see the same tokens and pixels, and evidence must
//! lead back from a token to pixels of the picture it came from. Knows no weights.
//!
//! Legend: `N` tiles, `C` channels, `S` side of a tile, `T` tokens.

pub mod chat;
pub mod image;
mod layout;
mod lesson;
mod span;
#[cfg(test)]
mod tests;
pub mod tokenizer;

use std::path::Path;

use ::image::RgbImage;
use candle_core::{Device, Tensor};

pub use chat::{ChatTemplate, Message, Part, Role};
pub use image::{ImageProcessor, Tile, Tiles};
pub use layout::Layout;
pub use lesson::Lesson;
pub use span::{ImageSpan, Packing, Visible};
pub use tokenizer::{PaddedTexts, TextStream, TextTokenizer, Tokenizer};

use crate::config::{ProjectorConfig, QFormerConfig};
use crate::{Checkpoint, Config, Error};
use image::ImageSettings;

/// What a model receives for one conversation.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// (T,)
    pub input_ids: Vec<u32>,
    /// (N, C, S, S): the tiles of all pictures in order; of Qwen-VL (P, values of a patch), the
    /// patches of all pictures. `None` without pictures.
    pub pixel_values: Option<Tensor>,
    /// Which positions see which picture, one for each; empty where pictures become tokens.
    pub cross_attention_mask: Vec<Visible>,
    /// (L,): the text in the Q-Former's tokens, which a picture's embeddings then depend on; empty
    /// where no Q-Former reads it.
    pub qformer_input_ids: Vec<u32>,
    /// Where the pictures' tokens are, which tiles they are made of and what they show.
    pub image_spans: Vec<ImageSpan>,
    /// Time, height and width of each token for multimodal rotary; `None` where tokens stand one
    /// after another.
    pub position_ids: Option<Vec<[u32; 3]>>,
    /// The text whose tokens `input_ids` are, picture tokens written out.
    pub prompt: String,
}

impl Inputs {
    /// Where `n_tokens` from token `from` on stand, `(3, 1, T)` for `Positions::Ids`; tokens after
    /// the prompt follow its largest position. `None` where they stand one after another.
    pub fn positions(&self, from: usize, n_tokens: usize) -> Result<Option<Tensor>, Error> {
        let Some(ids) = &self.position_ids else { return Ok(None) };
        let next = ids.iter().flatten().max().map_or(0, |largest| largest + 1);
        let at = |token: usize| match ids.get(token) {
            Some(position) => *position,
            None => [next + (token - ids.len()) as u32; 3],
        };
        let tokens = from..from + n_tokens;
        let dimension = |d: usize| tokens.clone().map(move |token| at(token)[d]);
        let ids: Vec<u32> = (0..3).flat_map(dimension).collect();
        Ok(Some(Tensor::from_vec(ids, (3, 1, n_tokens), &Device::Cpu)?))
    }
}

/// Everything a checkpoint says about its inputs.
#[derive(Clone)]
pub struct Processor {
    pub tokenizer: Tokenizer,
    /// Of the folder `qformer_tokenizer`, where the Q-Former reads the question (InstructBLIP).
    pub qformer_tokenizer: Option<Tokenizer>,
    pub chat: ChatTemplate,
    pub images: ImageProcessor,
    pub layout: Layout,
}

impl Processor {
    /// Reads the processor's files of a model and checks that they fit `config`.
    ///
    /// Errors: a missing or wrong file, or a tokenizer of another model, by name.
    pub fn load(dir: &Path, config: &Config) -> Result<Processor, Error> {
        let files = &Checkpoint::open(dir)?;
        let tokenizer = Tokenizer::read(files)?;
        let qformer_tokenizer = qformer_tokenizer(dir, config)?;
        let layout = Layout::load(files, config, &tokenizer)?;
        let chat = ChatTemplate::load(files, &tokenizer, config.family())?;
        let settings = match config.sees() {
            true => ImageSettings::read(files, config.image_processor())?,
            // Never used, since the layout refuses pictures.
            false => ImageSettings::parse("{}", config.image_processor())
                .map_err(|message| Error::config("preprocessor_config.json", message))?,
        };
        let images = ImageProcessor { settings };
        let processor = Processor { tokenizer, qformer_tokenizer, chat, images, layout };
        processor.layout.check_tiles(files, &processor.images)?;
        if config.sees() && processor.layout.has_pictures_in_text() {
            processor.chat.check_pictures(&processor.layout.image_token)?;
        }
        Ok(processor)
    }

    /// The same processor without tiles where the checkpoint may do without: a picture is one
    /// view of the whole.
    pub fn overview(&self) -> Processor {
        let mut overview = self.clone();
        overview.images.settings.do_image_splitting = false;
        overview
    }

    /// Lays out `messages`; `images` are the pictures of their `Part::Image`s, in order.
    ///
    /// Errors: `Error::Processor` when the counts differ or the template refuses the messages.
    pub fn prepare(&self, messages: &[Message], images: &[RgbImage]) -> Result<Inputs, Error> {
        self.prepare_tiled(messages, &self.images.tiles_of(images))
    }

    /// The same for pictures that were cut into tiles before.
    pub fn prepare_tiled(&self, messages: &[Message], tiled: &[Tiles]) -> Result<Inputs, Error> {
        self.images.check(tiled)?;
        let messages = self.layout.plain(messages, tiled.len())?;
        self.prepare_prompt(&self.chat.render(&messages)?, tiled)
    }

    /// The same for a conversation that was rendered before, with a placeholder for each picture
    /// where the family has them in the text.
    pub fn prepare_prompt(&self, rendered: &str, tiled: &[Tiles]) -> Result<Inputs, Error> {
        let tiles: Vec<&Tile> = tiled.iter().flat_map(|tiled| &tiled.tiles).collect();
        let pixel_values = (!tiles.is_empty()).then(|| self.images.pixel_values(&tiles));
        Ok(Inputs { pixel_values: pixel_values.transpose()?, ..self.lay_out(rendered, tiled)? })
    }

    /// The same without `pixel_values`, for other text about pictures that are prepared already.
    pub(crate) fn lay_out(&self, rendered: &str, tiled: &[Tiles]) -> Result<Inputs, Error> {
        let text = self.layout.expand(rendered, tiled)?;
        let qformer_input_ids = match &self.qformer_tokenizer {
            Some(tokenizer) => tokenizer.encode_with(&text, true)?,
            None => Vec::new(),
        };
        // A template that writes the first token itself must not get it twice.
        let bos = self.tokenizer.special("bos_token");
        let begins = bos.is_some_and(|bos| rendered.starts_with(bos));
        let mut input_ids = self.layout.before_text(tiled);
        let prompt = self.layout.image_token.repeat(input_ids.len()) + &text;
        input_ids.extend(self.tokenizer.encode_with(&text, !begins)?);
        let cross_attention_mask = self.layout.cross_attention_mask(&input_ids, tiled);
        let image_spans = self.layout.spans(&input_ids, tiled)?;
        let position_ids = self.layout.position_ids(input_ids.len(), &image_spans);
        Ok(Inputs {
            input_ids,
            pixel_values: None,
            cross_attention_mask,
            qformer_input_ids,
            image_spans,
            position_ids,
            prompt,
        })
    }

    /// One picture alone: `pixel_values` (N, C, S, S) and the tiles they were made of.
    pub fn pixel_values(&self, image: &RgbImage) -> Result<(Tensor, Vec<Tile>), Error> {
        let tiles = self.images.tiles(image).tiles;
        let pixel_values = self.images.pixel_values(&tiles.iter().collect::<Vec<_>>())?;
        Ok((pixel_values, tiles))
    }
}

/// The Q-Former's own tokenizer, where it reads text.
fn qformer_tokenizer(dir: &Path, config: &Config) -> Result<Option<Tokenizer>, Error> {
    let ProjectorConfig::QFormer(QFormerConfig { text: Some(text), .. }) = &config.projector else {
        return Ok(None);
    };
    let dir = dir.join("qformer_tokenizer");
    let tokenizer = Tokenizer::load(&dir)?;
    let (have, fit) = (tokenizer.vocab_size(), text.vocab_size);
    if have > fit {
        let message = format!(
            "has {have} tokens, but the Q-Former knows {fit}; \
             take the tokenizer.json that came with these weights"
        );
        let file = dir.join("tokenizer.json").display().to_string();
        return Err(Error::Processor { file, message });
    }
    Ok(Some(tokenizer))
}
