//! How a family writes a picture into the prompt, and where its tokens end up.
//!
//! Follows transformers' `processing_{idefics3,smolvlm,llava,llava_next,llava_onevision}.py` and
//! `processing_{qwen2_vl,qwen2_5_vl,qwen3_vl,blip_2,instructblip,mllama}.py`. Knows the number of
//! tokens of a tile from the network's sizes, and refuses a folder whose files disagree about it.

mod any_resolution;
mod mllama;
mod qwen_vl;

use serde_json::Value;

use super::image::{ImageProcessor, Tile, Tiles};
use super::span::{ImageSpan, Packing, Visible};
use super::tokenizer::Tokenizer;
use super::{Message, Part};
use crate::config::{AnyResolution, Config, DynamicResolution, ProjectorConfig, SelectStrategy};
use crate::family::Pictures;
use crate::{Checkpoint, Error};

/// The tokens around and inside pictures.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The placeholder, also the token repeated for each embedding.
    pub image_token: String,
    pub image_token_id: u32,
    /// Embeddings of one tile; 0 where they depend on the picture.
    pub tokens_per_tile: usize,
    /// Rows and columns of embeddings.
    pub grid: (usize, usize),
    /// See `ImageSpan::first_cell`.
    first_cell: i64,
    family: Family,
    /// Height and width of what the vision encoder receives, in pixels.
    image_size: u32,
    /// px
    patch_size: u32,
}

#[derive(Clone, Debug)]
enum Family {
    /// Tiles between `<fake_token_around_image>`s, each announced by its row and column.
    Idefics3 { fake: String, global: String },
    /// The image token repeated.
    Llava,
    /// No pictures: a model that reads text only.
    Text,
    /// The same: for a view of the whole picture, then for its tiles side by side.
    LlavaNext(AnyResolution),
    /// The image token repeated as often as the picture's size asks for.
    QwenVl(DynamicResolution),
    /// One image token for each picture, whose patches are seen elsewhere; `bos`, where the
    /// tokenizer has one, begins the words.
    Mllama { states: mllama::States, bos: Option<String> },
    /// The image token repeated, before the text and the tokenizer's own first token.
    QFormer,
}

impl Layout {
    /// The layout of a model.
    ///
    /// Errors: `Error::Processor` when the tokenizer lacks a picture token, has it under another
    /// id, or `processor_config.json` counts other tokens than `config` gives.
    pub fn load(
        files: &Checkpoint,
        config: &Config,
        tokenizer: &Tokenizer,
    ) -> Result<Layout, Error> {
        let named = |key: &str, usual: &str| tokenizer.special(key).unwrap_or(usual).to_owned();
        let dynamic = &config.vision_config.dynamic;
        let usual = config.family().image_token;
        let family = match (config.family().pictures, &config.any_resolution, dynamic) {
            (Pictures::Announced, ..) => Family::Idefics3 {
                fake: named("fake_image_token", "<fake_token_around_image>"),
                global: named("global_image_token", "<global-img>"),
            },
            (Pictures::CrossAttention, ..) => Family::Mllama {
                states: mllama::States {
                    max_tiles: config.vision_config.tiles.as_ref().map_or(1, |t| t.max_num_tiles),
                    side: config.vision_config.patches_per_side(),
                },
                bos: tokenizer.special("bos_token").map(str::to_owned),
            },
            (Pictures::BeforeText, ..) => Family::QFormer,
            (Pictures::None, ..) => Family::Text,
            (Pictures::Repeated, Some(settings), _) => Family::LlavaNext(settings.clone()),
            (Pictures::Repeated, None, Some(dynamic)) => Family::QwenVl(dynamic.clone()),
            (Pictures::Repeated, None, None) => Family::Llava,
        };
        let grid_side = match config.projector {
            ProjectorConfig::PixelShuffle { scale_factor } => {
                config.vision_config.patches_per_side() / scale_factor.max(1)
            }
            _ => config.vision_config.patches_per_side(),
        };
        let has_class = config.vision_config.has_class_token();
        let drops_first = !matches!(family, Family::Idefics3 { .. })
            && config.vision_feature_select_strategy == SelectStrategy::Default;
        let layout = Layout {
            image_token: named("image_token", usual),
            image_token_id: config.image_token_id,
            tokens_per_tile: config.tokens_per_tile(),
            grid: (grid_side, grid_side),
            first_cell: i64::from(drops_first) - i64::from(has_class),
            family,
            image_size: config.vision_config.image_size as u32,
            patch_size: config.vision_config.patch_size as u32,
        };
        layout.check_tokenizer(config, tokenizer)?;
        layout.check_count(files)?;
        Ok(layout)
    }

    /// The tokens of the pictures that come before all text, of the tokenizer's own first token
    /// too (`Blip2Processor`): several pictures stand in order, as the frames of InstructBlipVideo.
    pub fn before_text(&self, tiled: &[Tiles]) -> Vec<u32> {
        match self.family {
            Family::QFormer => vec![self.image_token_id; self.tokens_per_tile * tiled.len()],
            _ => Vec::new(),
        }
    }

    /// Whether pictures have a place in the text; they stand before all of it otherwise.
    pub fn has_pictures_in_text(&self) -> bool {
        !matches!(self.family, Family::QFormer)
    }

    /// Replaces each placeholder of `prompt` by the tokens of its picture; there is none for
    /// pictures that come before the text.
    pub fn expand(&self, prompt: &str, tiled: &[Tiles]) -> Result<String, Error> {
        let prompt = match &self.family {
            Family::Mllama { bos: Some(bos), .. } => mllama::begin(prompt, bos, &self.image_token),
            _ => prompt.into(),
        };
        let pieces: Vec<&str> = prompt.split(self.image_token.as_str()).collect();
        if matches!(self.family, Family::QFormer) {
            let message = "writes pictures, but this model has them before the text".to_owned();
            return match pieces.len() {
                1 => Ok(prompt.into_owned()),
                _ => Err(wrong("chat template", message)),
            };
        }
        if pieces.len() != tiled.len() + 1 {
            let (found, n_images) = (pieces.len() - 1, tiled.len());
            let message = format!("writes {found} pictures for {n_images} given");
            return Err(wrong("chat template", message));
        }
        let mut expanded = pieces[0].to_owned();
        for (tiles, piece) in tiled.iter().zip(&pieces[1..]) {
            expanded.push_str(&self.picture(tiles));
            expanded.push_str(piece);
        }
        Ok(expanded)
    }

    /// Where the tokens of each picture are, and what they are made of and show.
    pub fn spans(&self, input_ids: &[u32], tiled: &[Tiles]) -> Result<Vec<ImageSpan>, Error> {
        let ids = input_ids.iter().enumerate();
        let positions: Vec<usize> =
            ids.filter(|(_, id)| **id == self.image_token_id).map(|(at, _)| at).collect();
        if let Family::Mllama { states, .. } = self.family {
            let spans = tiled.iter().enumerate().flat_map(|(i, tiles)| states.spans(i, tiles));
            return match positions.len() == tiled.len() {
                true => Ok(spans.collect()),
                false => Err(Error::ImageTokens { tokens: positions.len(), embeds: tiled.len() }),
            };
        }
        let mut spans = Vec::new();
        let mut taken = 0;
        for (image, tiles) in tiled.iter().enumerate() {
            for span in self.pieces(tiles) {
                let start = positions.get(taken).copied().unwrap_or(input_ids.len());
                let tokens = start..start + span.tokens.len();
                taken += tokens.len();
                spans.push(ImageSpan { image, tokens, ..span });
            }
        }
        match taken == positions.len() {
            true => Ok(spans),
            false => Err(Error::ImageTokens { tokens: positions.len(), embeds: taken }),
        }
    }

    /// Time, height and width of each of `n_tokens`, for decoders that turn by them.
    pub fn position_ids(&self, n_tokens: usize, spans: &[ImageSpan]) -> Option<Vec<[u32; 3]>> {
        matches!(self.family, Family::QwenVl(_)).then(|| qwen_vl::position_ids(n_tokens, spans))
    }

    /// Which positions see which picture, where pictures become no tokens.
    pub fn cross_attention_mask(&self, input_ids: &[u32], tiled: &[Tiles]) -> Vec<Visible> {
        match self.family {
            Family::Mllama { states, .. } => states.visible(input_ids, self.image_token_id, tiled),
            _ => Vec::new(),
        }
    }

    /// The messages with any picture token that was typed as text made harmless by a space.
    ///
    /// Errors: `Error::Processor` when pictures and `Part::Image`s differ in number.
    pub fn plain(&self, messages: &[Message], n_images: usize) -> Result<Vec<Message>, Error> {
        if n_images > 0 && matches!(self.family, Family::Text) {
            return Err(Error::TextOnly);
        }
        let asked: usize = messages.iter().map(Message::n_images).sum();
        if asked != n_images {
            let message = format!("the messages hold {asked} pictures, {n_images} were given");
            return Err(wrong("messages", message));
        }
        let mut messages = messages.to_vec();
        let harmless: String = self.image_token.chars().flat_map(|c| [c, ' ']).collect();
        for part in messages.iter_mut().flat_map(|message| &mut message.content) {
            if let Part::Text(text) = part {
                *text = text.replace(&self.image_token, harmless.trim_end());
            }
        }
        Ok(messages)
    }

    /// Refuses settings whose tiles the vision encoder cannot take, or other ones than
    /// `config.json` expects.
    pub fn check_tiles(&self, files: &Checkpoint, images: &ImageProcessor) -> Result<(), Error> {
        if matches!(self.family, Family::Text) {
            return Ok(());
        }
        let file = files.place("preprocessor_config.json").display().to_string();
        if let Family::LlavaNext(settings) = &self.family
            && settings.image_grid_pinpoints != images.settings.image_grid_pinpoints
        {
            let message = "image_grid_pinpoints are not those of config.json".to_owned();
            return Err(wrong(&file, message));
        }
        if let Family::QwenVl(dynamic) = &self.family {
            let found = qwen_vl::check(dynamic, self.patch_size, &images.settings);
            return found.map_err(|message| wrong(&file, message));
        }
        if let Family::Mllama { states, .. } = self.family
            && states.max_tiles != images.settings.max_image_tiles
        {
            let message = format!("max_image_tiles is not {}, as in config.json", states.max_tiles);
            return Err(wrong(&file, message));
        }
        let probe = ::image::RgbImage::new(self.image_size, self.image_size);
        for tile in images.tiles(&probe).tiles {
            let (width, height) = tile.pixels.dimensions();
            if (width, height) != (self.image_size, self.image_size) {
                let side = self.image_size;
                let message = format!(
                    "makes pictures of {width} x {height} pixels, but config.json says the \
                     vision encoder takes {side} x {side}"
                );
                return Err(wrong(&file, message));
            }
        }
        Ok(())
    }

    /// The spans of one picture, each at place 0: the tiles in order, each with its tokens.
    fn pieces(&self, tiles: &Tiles) -> Vec<ImageSpan> {
        match (&self.family, tiles.tiles.as_slice()) {
            (Family::LlavaNext(_), [only]) => vec![self.piece(only, true)],
            (Family::LlavaNext(settings), [view, ..]) => {
                let mosaic = any_resolution::mosaic(tiles, self.grid.0, settings.max_tiles);
                vec![self.piece(view, false), mosaic]
            }
            (Family::QwenVl(dynamic), each) => {
                let merge_size = dynamic.spatial_merge_size;
                let span = |tile| qwen_vl::span(tile, self.patch_size, merge_size);
                each.iter().map(span).collect()
            }
            (_, each) => each.iter().map(|tile| self.piece(tile, false)).collect(),
        }
    }

    fn piece(&self, tile: &Tile, newline: bool) -> ImageSpan {
        ImageSpan {
            image: 0,
            tokens: 0..self.tokens_per_tile + usize::from(newline),
            grid: self.grid,
            first_cell: self.first_cell,
            source: tile.source,
            packing: match self.family {
                Family::QFormer => Packing::Queries,
                _ => Packing::Tile { newline },
            },
        }
    }

    /// `get_image_prompt_string` of the processors.
    fn picture(&self, tiles: &Tiles) -> String {
        let (fake, global) = match &self.family {
            Family::Idefics3 { fake, global } => (fake, global),
            Family::Mllama { .. } => return self.image_token.clone(),
            _ => {
                let n_tokens = self.pieces(tiles).iter().map(|span| span.tokens.len()).sum();
                return self.image_token.repeat(n_tokens);
            }
        };
        let run = self.image_token.repeat(self.tokens_per_tile);
        let mut text = String::new();
        for row in 1..=tiles.rows {
            for col in 1..=tiles.cols {
                text.push_str(&format!("{fake}<row_{row}_col_{col}>{run}"));
            }
            text.push('\n');
        }
        if tiles.rows > 0 {
            text.push('\n');
        }
        text + &format!("{fake}{global}{run}{fake}")
    }

    fn check_tokenizer(&self, config: &Config, tokenizer: &Tokenizer) -> Result<(), Error> {
        let (token, id) = (&self.image_token, self.image_token_id);
        let found = tokenizer.id(token);
        if found != Some(id) && config.sees() {
            let found = found.map_or("has no such token".to_owned(), |id| format!("says {id}"));
            let message = format!(
                "config.json gives {token} the id {id}, the tokenizer {found}; \
                 take the tokenizer.json that came with these weights"
            );
            return Err(wrong("tokenizer.json", message));
        }
        let (have, fit) = (tokenizer.vocab_size(), config.text_config.n_embeddings());
        // A picture's token is never looked up, so it needs no row of the embedding.
        let fit_with_image = if id as usize == fit { fit + 1 } else { fit };
        if have > fit_with_image {
            let message = format!(
                "has {have} tokens, but the model knows {fit}; \
                 take the tokenizer.json that came with these weights"
            );
            return Err(wrong("tokenizer.json", message));
        }
        Ok(())
    }

    fn check_count(&self, files: &Checkpoint) -> Result<(), Error> {
        let (key, gives) = match &self.family {
            Family::Idefics3 { .. } => ("image_seq_len", self.tokens_per_tile.into()),
            Family::LlavaNext(AnyResolution { max_tiles: Some(n), .. }) => {
                ("vision_aspect_ratio", Value::from(format!("anyres_max_{n}")))
            }
            Family::QFormer => ("num_query_tokens", self.tokens_per_tile.into()),
            Family::LlavaNext(_)
            | Family::Llava
            | Family::QwenVl(_)
            | Family::Mllama { .. }
            | Family::Text => {
                return Ok(());
            }
        };
        let name = "processor_config.json";
        let settings = files.json(name)?.unwrap_or_default();
        match settings.get(key).filter(|says| !says.is_null()) {
            Some(says) if *says != gives => {
                let message = format!("{key} is {says}, but config.json gives {gives}");
                Err(wrong(&files.place(name).display().to_string(), message))
            }
            _ => Ok(()),
        }
    }
}

/// The image processor class of a family's checkpoints that name none.
fn wrong(file: &str, message: String) -> Error {
    Error::Processor { file: file.to_owned(), message }
}
