//! Fine-tuning: step for step as `peft` does it, an adapter that changes nothing at first and the
//! same merged, packed weights beneath, a run that is stopped, and rows of files.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use eval::fine_tuning::{beside_peft, resumed};
use train::fine_tune::{
    Base, Event, Example, Examples, FineTune, FromFile, Learned, Part, Source, gather, run,
};
use vlm::generate::Cancel;
use vlm::model::nn::Adapter;
use vlm::processor::{Message, Processor};
use vlm::{Config, Mask, Positions, Probe, Quantization, Vlm};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/fine_tuning")
}

fn checkpoint(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/fixtures").join(name)
}

#[test]
fn every_step_is_peft_s() {
    let all = beside_peft(&cases(), &|_, _| {}, &Cancel::new()).expect("cases that can be trained");
    assert_eq!(all.len(), 5);
    for held in all {
        assert!(held.same_lessons, "{held:?}");
        assert_eq!(held.n_steps, 50, "{held:?}");
        assert!(held.loss < 1e-4, "{held:?}");
        assert!(held.trained < 1e-4 && held.round_trip.is_none_or(|trip| trip < 1e-4), "{held:?}");
        assert_eq!(held.round_trip.is_some(), !held.case.starts_with("projector"), "{held:?}");
    }
}

#[test]
fn a_stopped_run_goes_on_as_if_it_had_not_been_stopped() {
    assert_eq!(resumed(&cases(), &Cancel::new()).expect("a run"), 0.0);
}

fn recipe(name: &str) -> FineTune {
    FineTune { model: checkpoint(name), compute: "f32".into(), steps: 3, ..FineTune::default() }
}

fn hidden(vlm: &Vlm) -> Vec<f32> {
    let ids = Tensor::arange(3u32, 19, &Device::Cpu).and_then(|ids| ids.unsqueeze(0)).expect("ids");
    let embeds = vlm.embed_tokens(&ids).expect("words");
    let hidden = vlm.forward(&embeds, &Positions::From(0), &Mask::Causal, None, &mut Probe::none());
    let logits = vlm.logits(&hidden.expect("states")).expect("logits");
    logits.flatten_all().and_then(|all| all.to_vec1()).expect("numbers")
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    let largest = b.iter().fold(0f32, |top, v| top.max(v.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

/// One lesson, to be taken again and again.
fn one() -> Vec<Example> {
    let messages = vec![Message::user(1, "What is this?"), Message::assistant("A dog.")];
    vec![Example { images: vec![image::RgbImage::new(60, 50)], messages }]
}

fn taught(recipe: &FineTune) -> (Learned, Vec<f64>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut losses = Vec::new();
    let mut on_event = |event: Event<'_>| {
        if let Event::Step { loss, .. } = event {
            losses.push(loss);
        }
    };
    let (one, places) = (one(), (folder.path(), None));
    let (learned, _) =
        run(recipe, (&one, &one), places, &train::Cancel::default(), &mut on_event).expect("a run");
    (learned, losses)
}

#[test]
fn an_adapter_changes_nothing_at_first_and_then_something() {
    for (name, dora) in [("smolvlm-llama-square", false), ("llava-siglip-qwen2-sharded", true)] {
        let recipe = FineTune { dora, ..recipe(name) };
        let config = Config::load(&recipe.model).expect("a config");
        let plain = hidden(&Vlm::load(&recipe.model, &Device::Cpu).expect("a model"));
        let base = Base::load(&recipe, &config).expect("weights");
        let start = Learned::start(&recipe, &config).expect("a start");
        let model = start.model(&recipe, (&base, None), false).expect("a model");
        assert!(apart(&hidden(&model), &plain) < 1e-5, "{name}: identity at the start");
        let (learned, losses) = taught(&FineTune { learning_rate: 1e-2, ..recipe.clone() });
        let after = hidden(&learned.model(&recipe, (&base, None), false).expect("a model"));
        assert!(apart(&after, &plain) > 1e-3, "{name}: nothing was learned");
        assert!(losses[2] < losses[0], "{name}: {losses:?}");
        // Merged it gives the same.
        let lora = learned.lora().expect("an adapter");
        let merged = Vlm::weights(&recipe.model, &Device::Cpu, |_| true).expect("weights");
        let merged = merged.into_iter().map(|(name, weight)| {
            let layer = name.strip_suffix(".weight").unwrap_or(&name);
            let part = |end: &str| lora.tensors.get(&format!("{layer}{end}")).cloned();
            let weight = match (part(".lora_A.weight"), part(".lora_B.weight")) {
                (Some(down), Some(up)) => {
                    let magnitude = part(".lora_magnitude_vector");
                    let adapter = Adapter { down, up, scale: lora.scale, magnitude };
                    adapter.merged(&weight).expect("a weight")
                }
                _ => weight,
            };
            (name, weight)
        });
        let tensors: std::collections::HashMap<String, Tensor> = merged.collect();
        let merged = Vlm::from_tensors(&config, tensors.into(), Default::default());
        assert!(apart(&hidden(&merged.expect("a model")), &after) < 1e-4, "{name}: merged");
    }
}

#[test]
fn what_is_not_chosen_stays() {
    let recipe =
        FineTune { train: vec![Part::Projector], adapt: vec![], ..recipe("llava-clip-llama") };
    let (learned, _) = taught(&recipe);
    assert!(learned.lora().is_none());
    let own = learned.own();
    assert!(!own.is_empty());
    for (name, tensor) in own {
        assert!(name.starts_with("multi_modal_projector."), "{name}");
        let before = Vlm::weights(&recipe.model, &Device::Cpu, |other| other == name);
        let before = before.expect("weights").remove(0).1;
        let moved =
            (tensor - before).and_then(|d| d.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>());
        assert!(moved.expect("a number") > 0.0, "{name} did not move");
    }
}

#[test]
fn packed_weights_learn_by_adapters_too() {
    let recipe = FineTune {
        quantization: Quantization::Q8_0,
        learning_rate: 1e-2,
        ..recipe("smolvlm-llama-square")
    };
    let (_, packed) = taught(&recipe);
    let (_, dense) = taught(&FineTune { quantization: Quantization::None, ..recipe });
    for (packed, dense) in packed.iter().zip(&dense) {
        assert!((packed / dense - 1.0).abs() < 0.05, "{packed} {dense}");
    }
    assert!(packed[2] < packed[0], "{packed:?}");
}

#[test]
fn impossible_recipes_say_everything_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("recipe.toml");
    let text = r#"
        model = "."
        rank = 0
        adapt = []
        train = ["projector"]
        quantization = "q8_0"
        compute = "f64"
        steps = 0
    "#;
    std::fs::write(&path, text).expect("a file");
    let error = FineTune::load(&path).expect_err("impossible").to_string();
    for field in ["rank", "quantization", "compute", "steps"] {
        assert!(error.contains(&format!("- {field}")), "{field} in {error}");
    }
    std::fs::write(&path, "model = \".\"\nranks = 3\n").expect("a file");
    assert!(FineTune::load(&path).expect_err("unknown").to_string().contains("ranks"));
    std::fs::write(&path, "[[stages]]\n").expect("a file");
    assert!(FineTune::load(&path).expect("another kind").is_none());
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/teach-a-class.toml");
    assert!(FineTune::load(&shipped).expect("the recipe").is_some());
}

#[test]
fn rows_of_a_file_become_lessons_and_bad_ones_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let row = |picture: &str, answer: &str| {
        let said = |from: &str, value: &str| serde_json::json!({ "from": from, "value": value });
        let turns = [said("human", "<image>\nWhat is this?"), said("gpt", answer)];
        serde_json::json!({ "image": picture, "conversations": turns }).to_string()
    };
    let mut rows: Vec<String> = (0..8)
        .map(|i| {
            let picture = format!("{i}.png");
            let image = image::RgbImage::from_pixel(40 + i, 40, image::Rgb([i as u8 * 20; 3]));
            image.save(folder.path().join(&picture)).expect("a picture");
            row(&picture, &format!("Number {i}."))
        })
        .collect();
    rows.push(row("gone.png", "No."));
    let file = folder.path().join("rows.jsonl");
    std::fs::write(&file, rows.join("\n")).expect("a file");
    let from = FromFile { file, pictures: None, held_out: 0.25, repeat: 2 };
    let recipe = FineTune {
        data: vec![Source::File(from)],
        learning_rate: 1e-2,
        ..recipe("smolvlm-llama-square")
    };
    let gathered = gather(&recipe, dataset::Job::quiet()).expect("lessons");
    assert_eq!(gathered.n_left_out, 1);
    let told: Vec<String> = gathered.findings.iter().map(|f| f.origin.to_string()).collect();
    assert!(told.iter().any(|place| place.ends_with("rows.jsonl:9")), "{told:?}");
    assert_eq!(gathered.train.len() / 2 + gathered.held_out.len(), 8);
    assert!(!gathered.held_out.is_empty());
    let config = Config::load(&recipe.model).expect("a config");
    let processor = Processor::load(&recipe.model, &config).expect("a processor");
    let example = gathered.train.get(0).expect("an example");
    let lesson = processor.prepare_lesson(&example.messages, &example.images).expect("a lesson");
    let said: Vec<u32> = lesson.supervised().into_iter().map(|(_, token)| token).collect();
    assert!(processor.tokenizer.decode(&said).expect("text").trim().starts_with("Number"));
    let places = (folder.path().join("run"), None);
    let lessons: (&dyn Examples, &dyn Examples) = (&gathered.train, &gathered.held_out);
    let mut held = None;
    let mut on_event = |event: Event<'_>| {
        if let Event::Measured { held: found, .. } = event {
            held = Some(*found);
        }
    };
    let stop = train::Cancel::default();
    run(&recipe, lessons, (&places.0, places.1), &stop, &mut on_event).expect("a run");
    assert_eq!(held.expect("a measurement").n, gathered.held_out.len());
}
