//! What goes into the network: prompts and ids letter for letter, pixels to rounding.

use image::{Rgb, RgbImage};
use vlm::Config;
use vlm::processor::{ImageSpan, Message, Packing, Part, Processor, Role, Tile};

use super::fixture;

#[test]
fn prompts_and_ids_equal_the_reference() {
    for case in fixture::all() {
        let config = Config::load(&case.dir).expect(&case.name);
        let processor = Processor::load(&case.dir, &config).expect(&case.name);
        let rendered = processor.chat.render(&case.messages).expect(&case.name);
        assert_eq!(rendered, case.prompt, "{}", case.name);
        let inputs = processor.prepare(&case.messages, &case.images).expect(&case.name);
        assert_eq!(inputs.input_ids, case.ids("input_ids"), "{}", case.name);
        assert_eq!(inputs.qformer_input_ids.is_empty(), processor.qformer_tokenizer.is_none());
        if processor.qformer_tokenizer.is_some() {
            let expected = case.ids("qformer_input_ids");
            assert_eq!(inputs.qformer_input_ids, expected, "{}", case.name);
        }
    }
}

#[test]
fn pixel_values_equal_the_reference() {
    for case in fixture::seeing() {
        let config = Config::load(&case.dir).expect(&case.name);
        let processor = Processor::load(&case.dir, &config).expect(&case.name);
        let inputs = processor.prepare(&case.messages, &case.images).expect(&case.name);
        let pixel_values = inputs.pixel_values.expect("pixel values");
        case.assert_close("pixel_values", &pixel_values, 1e-6);
    }
}

/// Spans cover exactly the picture tokens, and each lies within its picture where unpadded.
#[test]
fn spans_cover_the_picture_tokens() {
    for case in fixture::seeing() {
        let config = Config::load(&case.dir).expect(&case.name);
        let processor = Processor::load(&case.dir, &config).expect(&case.name);
        let inputs = processor.prepare(&case.messages, &case.images).expect(&case.name);
        let image_token = config.image_token_id;
        let n_pictured = inputs.input_ids.iter().filter(|id| **id == image_token).count();
        let seen = inputs.cross_attention_mask.iter().inspect(|visible| {
            assert_eq!(inputs.input_ids[visible.tokens.start], image_token, "{}", case.name);
        });
        let n_seen: usize = seen.map(|visible| visible.states.len()).sum();
        let has_tokens = inputs.cross_attention_mask.is_empty();
        let n_tokens = if has_tokens { n_pictured } else { n_seen };
        let spans = &inputs.image_spans;
        let covered: usize = spans.iter().map(|span| span.tokens.len()).sum();
        assert_eq!(covered, n_tokens, "{}", case.name);
        for span in spans {
            assert!(span.image < case.images.len(), "{}", case.name);
            if has_tokens {
                let mut ids = inputs.input_ids[span.tokens.clone()].iter();
                assert!(ids.all(|id| *id == image_token), "{}", case.name);
            }
            let span = &shown(span);
            let n_cells = (span.grid.0 * span.grid.1) as i64;
            let n_blank = match span.packing {
                Packing::Patches { .. } => 0,
                Packing::Tile { newline } => usize::from(newline),
                Packing::Mosaic { .. } => span.grid.0,
                Packing::CrossAttention { row_len, .. } => row_len * row_len - n_cells as usize,
                Packing::Queries => unreachable!("queries show what their patches show"),
            };
            let n_shown = (span.tokens.len() - n_blank) as i64;
            assert_eq!(n_shown + span.first_cell, n_cells, "{}", case.name);
            let blank = (0..span.tokens.len()).filter(|i| span.pixel_box(*i).is_none()).count();
            assert_eq!(blank, n_blank, "{}", case.name);
        }
    }
}

/// The span; for queries, which all show the whole picture, that of the patches they look at.
fn shown(span: &ImageSpan) -> ImageSpan {
    if span.packing != Packing::Queries {
        return span.clone();
    }
    for i in 0..span.tokens.len() {
        assert_eq!((span.cell(i), span.pixel_box(i)), (None, Some(span.source)));
    }
    span.patches(0)
}

/// In a picture whose colours say where they are, what a token is made of has the colours of the
/// middle of what it is said to show.
#[test]
fn a_token_shows_what_it_is_made_of() {
    for case in fixture::seeing() {
        let config = Config::load(&case.dir).expect(&case.name);
        let processor = Processor::load(&case.dir, &config).expect(&case.name);
        let n_patches = config.vision_config.patches_per_side();
        for (width, height) in [(90, 50), (50, 90), (64, 64), (100, 12)] {
            let colour = |at: f32, length: u32| at * 255.0 / length as f32;
            let picture = RgbImage::from_fn(width, height, |x, y| {
                Rgb([colour(x as f32 + 0.5, width) as u8, colour(y as f32 + 0.5, height) as u8, 0])
            });
            let mut tiles = processor.images.tiles(&picture).tiles.into_iter();
            let inputs = processor.prepare(&[Message::user(1, "What?")], &[picture]).expect("ok");
            for span in &inputs.image_spans {
                let own: Vec<Tile> = tiles.by_ref().take(span.n_tiles()).collect();
                let span = &shown(span);
                for i in 0..span.tokens.len() {
                    let Some(cell) = span.cell(i) else { continue };
                    let [x0, y0, x1, y1] = span.pixel_box(i).expect("a cell shows something");
                    let (x, y) = ((x0 + x1) / 2.0, (y0 + y1) / 2.0);
                    let inside = (1.0..width as f32 - 1.0).contains(&x)
                        && (1.0..height as f32 - 1.0).contains(&y);
                    let Rgb([red, green, _]) = pixel(&own, span, cell, n_patches);
                    let apart = (colour(x, width) - f32::from(red))
                        .abs()
                        .max((colour(y, height) - f32::from(green)).abs());
                    // Half a pixel of 5 that show 12 is 25.5.
                    assert!(!inside || apart < 26.0, "{} {span:?} {cell:?} {apart}", case.name);
                }
            }
        }
    }
}

/// The pixel in the middle of a cell, in the tiles that its span is made of.
fn pixel(
    tiles: &[Tile],
    span: &ImageSpan,
    (row, col): (usize, usize),
    n_patches: usize,
) -> Rgb<u8> {
    let (width, height) = tiles[0].pixels.dimensions();
    let whole = (n_patches, n_patches);
    let (n_tiles, kept, shown, n_cells) = match span.packing {
        Packing::Tile { .. } | Packing::Patches { .. } | Packing::Queries => {
            ((1, 1), span.grid, span.grid, span.grid)
        }
        Packing::Mosaic { tiles, kept } => (tiles, kept, span.grid, whole),
        Packing::CrossAttention { .. } => ((1, 1), whole, whole, whole),
    };
    let middle = |at: usize, (n_tiles, kept): (usize, usize), shown: usize, n_cells: usize| {
        let margin = (n_tiles * n_cells - kept) / 2;
        let place = margin as f32 + (at as f32 + 0.5) * kept as f32 / shown as f32;
        place / n_cells as f32 // in tiles
    };
    let x = middle(col, (n_tiles.1, kept.1), shown.1, n_cells.1);
    let y = middle(row, (n_tiles.0, kept.0), shown.0, n_cells.0);
    let tile = y as usize * n_tiles.1 + x as usize;
    let (x, y) = (x.fract() * width as f32, y.fract() * height as f32);
    *tiles[tile].pixels.get_pixel(x as u32, y as u32)
}

#[test]
fn what_cannot_be_prepared_is_told() {
    let case = fixture::all().remove(0);
    let config = Config::load(&case.dir).expect("a config");
    let processor = Processor::load(&case.dir, &config).expect("a processor");
    let question = |content| [Message { role: Role::User, content }];
    let two = question(vec![Part::Image, Part::Text("Two?".into())]);
    let images = vec![case.images[0].clone(); 2];
    let error = processor.prepare(&two, &images).expect_err("one too many").to_string();
    assert!(error.contains("1 pictures, 2 were given"), "{error}");
    // A picture token typed as text is text.
    let typed = question(vec![Part::Image, Part::Text("What is <image>?".into())]);
    let inputs = processor.prepare(&typed, &images[..1]).expect("inputs");
    let n_tokens = inputs.input_ids.iter().filter(|id| **id == config.image_token_id).count();
    assert_eq!(n_tokens, inputs.image_spans.len() * config.tokens_per_tile());
    let mut other = config.clone();
    other.image_token_id += 1;
    let error = Processor::load(&case.dir, &other).err().expect("a wrong tokenizer").to_string();
    assert!(error.contains("<image>") && error.contains("tokenizer.json"), "{error}");
}
