//! Laws: what must hold of the engine whatever the weights, on the tiny parity checkpoints.
//!
//! Cached = uncached, batched = single, a probe changes nothing, a follow-up answers as a fresh
//! conversation does, the same seed gives the same words, and what is cancelled stops.

use candle_core::{Device, Tensor};
use image::{Rgb, RgbImage};
use std::path::{Path, PathBuf};
use vlm::explain::EvidenceHeads;
use vlm::generate::{Answer, Cancel, Event, GenerateOptions, Session, Stop};
use vlm::processor::{ImageSpan, Inputs, Message, Processor};
use vlm::{Config, KvCache, Mask, Positions, Probe, Vlm};

pub(super) const CHECKPOINTS: [&str; 12] = [
    "llava-clip-llama",
    "llava-clip-llama-gguf",
    "smolvlm-llama-tiles",
    "idefics3-qwen2-bf16",
    "llava-next-clip-mistral-wide",
    "llava-onevision-siglip-qwen2-max9",
    "mllama-wide-tied",
    "qwen2-vl-tied-several-bf16",
    "qwen2-5-vl-windows-turns-bf16",
    "qwen3-vl-two-shapes-bf16",
    "blip-2-opt",
    "instructblip-llama",
];

/// Whether a picture's tokens depend on the question, so that another question changes them all.
pub(super) fn reads_the_question(name: &str) -> bool {
    name.starts_with("instructblip")
}

pub(super) struct Model {
    pub vlm: Vlm,
    pub processor: Processor,
    pub heads: EvidenceHeads,
}

pub(super) fn model(name: &str) -> Model {
    let dir: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/fixtures").join(name);
    let config = Config::load(&dir).expect("a good config");
    let processor = Processor::load(&dir, &config).expect("a good processor");
    let heads = EvidenceHeads::untrained(&config);
    Model { vlm: Vlm::load(&dir, &Device::Cpu).expect("good weights"), processor, heads }
}

pub(super) fn picture(hue: u8) -> RgbImage {
    RgbImage::from_fn(50, 40, |x, y| Rgb([hue, x as u8 * 5, y as u8 * 6]))
}

pub(super) fn options() -> GenerateOptions {
    GenerateOptions { max_new_tokens: 8, ..Default::default() }
}

pub(super) fn ask(
    model: &Model,
    session: &mut Session,
    messages: &[Message],
    options: &GenerateOptions,
) -> Answer {
    let n = messages.iter().map(Message::n_images).sum::<usize>() as u8;
    let images: Vec<RgbImage> = (0..n).map(|i| picture(60 * i)).collect();
    let model = (&model.vlm, &model.processor);
    session
        .ask(model, (messages, &images), options, &Cancel::new(), &mut |_| {})
        .expect("an answer")
}

fn tokens(answer: &Answer) -> Vec<u32> {
    answer.steps.iter().map(|step| step.token).collect()
}

pub(super) fn assert_same(left: &Answer, right: &Answer, what: &str) {
    assert_eq!(tokens(left), tokens(right), "{what}");
    for (a, b) in left.steps.iter().zip(&right.steps) {
        assert!((a.logprob - b.logprob).abs() < 1e-3, "{what}: {} {}", a.logprob, b.logprob);
        let (Some(a), Some(b)) = (&a.evidence, &b.evidence) else { continue };
        let (a, b) = (&a.heatmap, &b.heatmap);
        assert_eq!((a.rows, a.cols, a.source), (b.rows, b.cols, b.source), "{what}");
        let apart = a.values.iter().zip(&b.values).map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f32::max) < 1e-3, "{what}: {a:?} {b:?}");
    }
}

/// The answer about a picture, that to what comes `next` in the same session, and the latter
/// in a fresh one.
fn two_turns(name: &str, next: Message) -> [Answer; 3] {
    let model = model(name);
    let mut session = Session::new(model.heads.clone());
    let mut messages = vec![Message::user(1, "what is this")];
    let first = ask(&model, &mut session, &messages, &options());
    messages.push(Message::assistant(first.text.clone()));
    messages.push(next);
    let kept = ask(&model, &mut session, &messages, &options());
    let fresh = ask(&model, &mut Session::new(model.heads.clone()), &messages, &options());
    [first, kept, fresh]
}

#[test]
fn a_follow_up_answers_as_a_fresh_conversation_does() {
    for name in CHECKPOINTS {
        let [_, kept, fresh] = two_turns(name, Message::user(0, "and where is it"));
        assert_eq!(kept.reused_tokens > 0, !reads_the_question(name), "{name}");
        assert_eq!(fresh.reused_tokens, 0);
        assert_same(&kept, &fresh, name);
    }
}

#[test]
fn a_second_picture_is_no_reason_to_read_the_first_again() {
    for name in CHECKPOINTS {
        let [first, kept, fresh] = two_turns(name, Message::user(1, "and this"));
        // LLaVA-OneVision cuts only a picture that is alone: beside a second one it is another. The
        // text before all pictures of Llama-3.2-Vision sees all of them.
        let another = ["onevision", "mllama"].iter().any(|family| name.contains(family));
        let same = !another && !reads_the_question(name);
        assert_eq!(kept.reused_tokens >= first.image_tokens, same, "{name}");
        assert_same(&kept, &fresh, name);
    }
}

/// Pictures so thin that no row or column of cut tiles holds some of them.
#[test]
fn the_thinnest_pictures_are_answered_about() {
    for name in CHECKPOINTS {
        let model = model(name);
        for (width, height) in [(1, 1), (1, 300), (300, 1)] {
            let messages = [Message::user(1, "what is this")];
            let given = (&messages[..], &[RgbImage::new(width, height)][..]);
            let mut session = Session::new(model.heads.clone());
            let answer = session.ask(
                (&model.vlm, &model.processor),
                given,
                &options(),
                &Cancel::new(),
                &mut |_| {},
            );
            if name.starts_with("qwen") && width.max(height) > 200 * width.min(height) {
                let error = answer.expect_err("the reference refuses it").to_string();
                assert!(error.contains("too long and thin"), "{name}: {error}");
                continue;
            }
            let answer = answer.unwrap_or_else(|e| panic!("{name}, {width} x {height}: {e}"));
            assert!(answer.image_tokens > 0, "{name}, {width} x {height}");
        }
    }
}

/// Logits `(B, T, V)` of prompts laid side by side, the shorter ones padded at the end; so many
/// positions read at once, without a cache where that is all of them.
fn logits(model: &Model, prompts: &[Inputs], at_once: usize) -> Tensor {
    let t = prompts.iter().map(|inputs| inputs.input_ids.len()).max().unwrap_or(0);
    let padded = |inputs: &Inputs| {
        let mut ids = inputs.input_ids.clone();
        ids.resize(t, 0);
        ids
    };
    let ids: Vec<u32> = prompts.iter().flat_map(padded).collect();
    let pixels = prompts.iter().map(|inputs| inputs.pixel_values.as_ref().expect("pixels"));
    let pixels = Tensor::cat(&pixels.collect::<Vec<_>>(), 0).expect("one batch of tiles");
    let mut first = 0;
    let same = |a: &Inputs, b: &Inputs| a.qformer_input_ids == b.qformer_input_ids;
    let embeds = prompts.chunk_by(same).map(|group| {
        let spans: Vec<_> = group.iter().flat_map(|inputs| inputs.image_spans.clone()).collect();
        let n_rows = spans.iter().map(ImageSpan::n_rows).sum();
        let own = pixels.narrow(0, first, n_rows).expect("tiles");
        first += n_rows;
        let features = model.vlm.picture_features(&own, &spans).expect("vision features");
        let projected = model.vlm.project_for(&features, &group[0].qformer_input_ids);
        projected.expect("image embeddings").image_embeds
    });
    let embeds = Tensor::cat(&embeds.collect::<Vec<_>>(), 0).expect("image embeddings");
    let spans: Vec<_> = prompts.iter().flat_map(|inputs| inputs.image_spans.clone()).collect();
    let packed = model.vlm.pack(&embeds, &spans).expect("image tokens");
    let visible = prompts.iter().map(|inputs| inputs.cross_attention_mask.clone()).collect();
    let mut cache = KvCache::new();
    let fused = model.vlm.fuse(&ids, &packed, visible, &mut cache).expect("embeddings");
    let mut logits = Vec::new();
    for from in (0..t).step_by(at_once) {
        let n = at_once.min(t - from);
        let piece = fused.narrow(1, from, n).and_then(|piece| piece.contiguous());
        let ids = prompts.iter().filter_map(|inputs| inputs.positions(from, n).expect("positions"));
        let ids: Vec<Tensor> = ids.collect(); // (3, 1, T) each
        let ids = (!ids.is_empty()).then(|| Tensor::cat(&ids, 1).expect("(3, B, T)"));
        let positions = ids.as_ref().map_or(Positions::From(from), Positions::Ids);
        let needed = at_once < t || model.vlm.config.text_config.has_cross_attention();
        let (cache, mut probe) = (needed.then_some(&mut cache), Probe::none());
        let piece = piece.expect("a piece");
        let hidden = model.vlm.forward(&piece, &positions, &Mask::Causal, cache, &mut probe);
        logits.push(model.vlm.logits(&hidden.expect("hidden states")).expect("logits"));
    }
    Tensor::cat(&logits, 1).expect("logits")
}

#[test]
fn a_batch_computes_what_each_computes_alone() {
    for name in CHECKPOINTS {
        let model = model(name);
        let prepare = |(text, hue): (&str, u8)| {
            let messages = [Message::user(1, text)];
            model.processor.prepare(&messages, &[picture(hue)]).expect("a prompt")
        };
        let prompts = [("what is this", 10), ("where is it", 90), ("which colour is the car", 200)];
        let prompts = prompts.map(prepare);
        let together = logits(&model, &prompts, usize::MAX);
        for (i, prompt) in prompts.iter().enumerate() {
            let alone = logits(&model, std::slice::from_ref(prompt), usize::MAX);
            let n_tokens = prompt.input_ids.len();
            let own = together.narrow(0, i, 1).and_then(|row| row.narrow(1, 0, n_tokens));
            let apart = (own.expect("a row") - &alone).and_then(|d| d.abs()?.max_all());
            let apart = apart.and_then(|d| d.to_scalar::<f32>()).expect("a number");
            let largest = alone.abs().and_then(|t| t.max_all()?.to_scalar::<f32>());
            assert!(apart <= 1e-5 * largest.expect("a number"), "{name}, prompt {i}: {apart}");
        }
    }
}

#[test]
fn what_is_read_in_pieces_counts_as_what_is_read_at_once() {
    for name in CHECKPOINTS {
        let model = model(name);
        let messages = [Message::user(2, "what is this")];
        let pictures = [picture(10), RgbImage::new(90, 20)];
        let prompt = [model.processor.prepare(&messages, &pictures).expect("a prompt")];
        let whole = logits(&model, &prompt, usize::MAX);
        for at_once in [1, 7] {
            let apart =
                (logits(&model, &prompt, at_once) - &whole).and_then(|d| d.abs()?.max_all());
            let apart = apart.and_then(|d| d.to_scalar::<f32>()).expect("a number");
            let largest = whole.abs().and_then(|t| t.max_all()?.to_scalar::<f32>());
            assert!(apart <= 1e-5 * largest.expect("a number"), "{name}, {at_once}: {apart}");
        }
    }
}

#[test]
fn a_question_without_pictures_may_come_before_them() {
    for name in CHECKPOINTS {
        let model = model(name);
        let mut session = Session::new(model.heads.clone());
        let mut messages = vec![Message::user(0, "is there a cat")];
        let first = ask(&model, &mut session, &messages, &options());
        assert!(first.steps.iter().all(|step| step.evidence.is_none()), "{name}");
        messages.push(Message::assistant(first.text.clone()));
        messages.push(Message::user(1, "and here"));
        for _ in 0..2 {
            let kept = ask(&model, &mut session, &messages, &options());
            let fresh = ask(&model, &mut Session::new(model.heads.clone()), &messages, &options());
            assert_same(&kept, &fresh, name);
        }
        let again = ask(&model, &mut session, &messages[..1], &options());
        assert_same(&again, &first, name);
    }
}

/// Where layers of their own see a picture that fills its canvas, everything they look at is some
/// part of it.
#[test]
fn all_that_cross_attention_sees_is_on_the_map() {
    let model = model("mllama-wide-tied");
    let messages = [Message::user(1, "what is this")];
    let wide = RgbImage::from_fn(36, 12, |x, y| Rgb([x as u8 * 7, y as u8 * 20, 90]));
    let mut session = Session::new(model.heads.clone());
    let given = ((&model.vlm, &model.processor), (&messages[..], &[wide][..]));
    let answer = session.ask(given.0, given.1, &options(), &Cancel::new(), &mut |_| {});
    for step in answer.expect("an answer").steps {
        let map = step.evidence.expect("evidence").heatmap;
        assert_eq!((map.rows, map.cols, map.source), (3, 9, [0.0, 0.0, 36.0, 12.0]));
        assert!((map.mass() - 1.0).abs() < 1e-4, "{}", map.mass());
    }
}

#[test]
fn looking_at_the_evidence_changes_no_token() {
    for name in CHECKPOINTS {
        let model = model(name);
        let messages = [Message::user(1, "what is this")];
        let say = |evidence| {
            let options = GenerateOptions { evidence, ..options() };
            ask(&model, &mut Session::new(model.heads.clone()), &messages, &options)
        };
        let (with, without) = (say(true), say(false));
        assert_same(&with, &without, name);
        assert!(without.steps.iter().all(|step| step.evidence.is_none()), "{name}");
    }
}

/// A query has no place of its own; what a word rests on lies over the patches that it looked at.
#[test]
fn evidence_of_queries_lies_over_patches() {
    for name in ["blip-2-opt", "instructblip-llama"] {
        let model = model(name);
        let messages = [Message::user(1, "what is this")];
        let answer = ask(&model, &mut Session::new(model.heads.clone()), &messages, &options());
        let side = model.vlm.config.vision_config.patches_per_side();
        let maps = answer.steps.iter().filter_map(|step| step.evidence.as_ref());
        let maps: Vec<_> = maps.map(|evidence| &evidence.heatmap).collect();
        assert!(!maps.is_empty(), "{name}");
        for map in maps {
            assert_eq!((map.rows, map.cols), (side, side), "{name}");
            assert_eq!(map.source, [0.0, 0.0, 50.0, 40.0], "{name}");
            assert!(map.mass() > 0.0 && map.mass() <= 1.0 + 1e-5, "{name}: {}", map.mass());
            let (first, rest) = map.values.split_first().expect("cells");
            assert!(rest.iter().any(|value| (value - first).abs() > 1e-6), "{name}: {map:?}");
        }
    }
}

#[test]
fn the_same_seed_says_the_same_and_another_may_not() {
    let model = model(CHECKPOINTS[0]);
    let messages = [Message::user(1, "what is this")];
    let say = |seed| {
        let options = GenerateOptions { temperature: 1.5, seed, ..options() };
        tokens(&ask(&model, &mut Session::new(model.heads.clone()), &messages, &options))
    };
    assert_eq!(say(7), say(7));
    let different = (0..8).map(say).collect::<std::collections::BTreeSet<_>>();
    assert!(different.len() > 1, "eight seeds said the same");
}

#[test]
fn a_cancelled_answer_stops_and_the_session_lives() {
    let model = model(CHECKPOINTS[0]);
    let mut session = Session::new(model.heads.clone());
    let messages = [Message::user(1, "what is this")];
    let cancel = Cancel::new();
    let mut steps = 0;
    let answer = session
        .ask(
            (&model.vlm, &model.processor),
            (&messages, &[picture(0)]),
            &options(),
            &cancel,
            &mut |event| {
                if let Event::Step(_) = event {
                    steps += 1;
                    cancel.cancel();
                }
            },
        )
        .expect("a cancelled answer is an answer");
    assert!(matches!(answer.stop, Stop::Cancelled | Stop::End), "{:?}", answer.stop);
    assert!(steps <= 1, "{steps} steps after the cancel");
    let whole = ask(&model, &mut session, &messages, &options());
    let fresh = ask(&model, &mut Session::new(model.heads.clone()), &messages, &options());
    assert_same(&whole, &fresh, "after a cancel");
}

/// What a model says greedily it finds as likely as when it said it, whether or not the session
/// still holds the prompt; and it finds another answer less likely.
#[test]
fn an_answer_is_scored_as_it_was_said() {
    let dir: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano");
    let config = Config::load(&dir).expect("a good config");
    let processor = Processor::load(&dir, &config).expect("a good processor");
    let vlm = Vlm::load(&dir, &Device::Cpu).expect("good weights");
    let images = [vlm::processor::image::open(&dir.join("example.png")).expect("a picture")];
    let messages = [Message::user(1, "What is in the picture?")];
    let heads = || EvidenceHeads::load(&dir, &config).expect("heads");
    let (model, cancel) = ((&vlm, &processor), Cancel::new());
    let mut session = Session::new(heads());
    let long = GenerateOptions { max_new_tokens: 64, ..Default::default() };
    let answer = session.ask(model, (&messages, &images), &long, &cancel, &mut |_| {});
    let answer = answer.expect("an answer");
    assert_eq!(answer.stop, Stop::End);
    let mut fresh = Session::new(heads());
    for session in [&mut session, &mut fresh] {
        let mut score = |text: &str| {
            session.score(model, (&messages, &images), text, &cancel).expect("a score")
        };
        let scores = score(answer.text.trim());
        assert_eq!(scores.len(), answer.steps.len() + 1, "each token and the end");
        for (score, step) in scores.iter().zip(&answer.steps) {
            assert!((score - step.logprob).abs() < 1e-3, "{score} {}", step.logprob);
        }
        let sum = |scores: Vec<f32>| scores.iter().sum::<f32>();
        assert!(sum(score("A spoon and a zebra.")) < sum(scores) - 1.0);
    }
    cancel.cancel();
    let stopped = fresh.score(model, (&messages, &images), "A dog.", &cancel);
    assert!(matches!(stopped, Err(vlm::Error::Cancelled)), "{stopped:?}");
}

/// Packed weights see nearly as exact ones do where towers are unlike those of the shipped model:
/// pictures of any shape, fused projections, a Q-Former.
#[test]
fn packed_weights_of_other_towers_see() {
    for name in
        CHECKPOINTS.into_iter().filter(|name| name.contains("qwen") || name.contains("blip"))
    {
        let exact = model(name);
        let dir: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/fixtures").join(name);
        let packed = Vlm::load_quantized(&dir, &Device::Cpu, vlm::Quantization::Q8_0, None);
        let packed = Model { vlm: packed.expect("packed weights"), ..model(name) };
        let messages = [Message::user(1, "what is this")];
        let inputs = exact.processor.prepare(&messages, &[picture(90)]).expect("a prompt");
        let [exact, packed] =
            [&exact, &packed].map(|model| logits(model, std::slice::from_ref(&inputs), usize::MAX));
        let size = |t: &Tensor| t.sqr().and_then(|t| t.sum_all()?.to_scalar::<f32>()).expect("sum");
        let apart = (size(&(&exact - &packed).expect("one shape")) / size(&exact)).sqrt();
        assert!(apart > 0.0 && apart < 0.1, "{name}: {apart}");
    }
}

/// The model with packed weights gives nearly the logits of the exact one, from a fresh file,
/// from the file of an earlier start, and from memory where no file can be written.
#[test]
fn packed_weights_are_near_the_exact_ones_wherever_they_are_kept() {
    use vlm::{Mask, Positions, Probe, Quantization};
    let dir: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano");
    let cache = tempfile::tempdir().expect("a folder");
    let config = Config::load(&dir).expect("a good config");
    let processor = Processor::load(&dir, &config).expect("a good processor");
    // What it speaks: on ids in no order it is sure of nothing, and roundings show.
    let said = "What is in the picture? A red car, a butterfly and a cake. Where is the red car? \
                Bottom left. How many cakes are there? 1";
    let ids = processor.tokenizer.encode(said).expect("tokens");
    let logits = |vlm: &Vlm| -> Vec<f32> {
        let ids = Tensor::from_slice(&ids, (1, ids.len()), &Device::Cpu).unwrap();
        let embeds = vlm.embed_tokens(&ids).unwrap();
        let (from, mut probe) = (Positions::From(0), Probe::none());
        let hidden = vlm.forward(&embeds, &from, &Mask::Causal, None, &mut probe).unwrap();
        vlm.logits(&hidden).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    let exact = logits(&Vlm::load(&dir, &Device::Cpu).expect("the shipped model"));
    let size = exact.iter().map(|v| v * v).sum::<f32>().sqrt();
    let bytes = |quantization| Vlm::weight_bytes(&config, quantization).expect("a size");
    for (quantization, tolerance) in [(Quantization::Q8_0, 0.02), (Quantization::Q4_0, 0.3)] {
        let load = |cache: Option<&Path>| {
            let vlm = Vlm::load_quantized(&dir, &Device::Cpu, quantization, cache);
            logits(&vlm.expect("packed weights"))
        };
        let fresh = load(Some(cache.path()));
        let apart = exact.iter().zip(&fresh).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
        assert!(apart < tolerance * size, "{quantization:?}: {}", apart / size);
        assert!(apart > 0.0, "{quantization:?} changed nothing");
        assert_eq!(load(Some(cache.path())), fresh, "from the file");
        assert!(3 * bytes(quantization) < bytes(Quantization::None), "{quantization:?}");
        assert_eq!(load(None), fresh, "in memory");
        let file =
            std::fs::read_dir(cache.path().join("packed")).unwrap().flatten().next().unwrap();
        std::fs::write(file.path(), b"damaged").unwrap();
        assert_eq!(load(Some(cache.path())), fresh, "a damaged file is made anew");
        let blocked = cache.path().join("a file, no folder");
        std::fs::write(&blocked, b"").unwrap();
        assert_eq!(load(Some(&blocked)), fresh, "a disk that refuses");
    }
}
