//! What goes into the network: prompts and ids letter for letter, pixels to rounding.

use vlm::Config;
use vlm::processor::{Message, Part, Processor, Role};

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
    }
}

#[test]
fn pixel_values_equal_the_reference() {
    for case in fixture::all() {
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
    for case in fixture::all() {
        let config = Config::load(&case.dir).expect(&case.name);
        let processor = Processor::load(&case.dir, &config).expect(&case.name);
        let inputs = processor.prepare(&case.messages, &case.images).expect(&case.name);
        let image_token = config.image_token_id;
        let n_tokens = inputs.input_ids.iter().filter(|id| **id == image_token).count();
        let spans = &inputs.image_spans;
        let covered: usize = spans.iter().map(|span| span.tokens.len()).sum();
        assert_eq!(covered, n_tokens, "{}", case.name);
        for span in spans {
            assert!(span.image < case.images.len(), "{}", case.name);
            let n_cells = (span.grid.0 * span.grid.1) as i64;
            assert_eq!(span.tokens.len() as i64 + span.first_cell, n_cells, "{}", case.name);
            let mut ids = inputs.input_ids[span.tokens.clone()].iter();
            assert!(ids.all(|id| *id == image_token), "{}", case.name);
        }
    }
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
