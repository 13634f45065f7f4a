//! What must hold of any run, on a model small enough to train in a test.

use std::path::{Path, PathBuf};

use crate::replicas::Replicas;
use crate::run::{CHECKPOINT, Cancel, Event, run};
use crate::step::Step;
use crate::{Recipe, checkpoint, models};

const CONFIG: &str = r#"{
  "model_type": "smolvlm", "image_token_id": 3, "scale_factor": 2, "tie_word_embeddings": true,
  "text_config": { "model_type": "llama", "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16,
    "vocab_size": 1461, "tie_word_embeddings": true, "rms_norm_eps": 1e-5 },
  "vision_config": { "model_type": "smolvlm_vision", "hidden_size": 32, "image_size": 64,
    "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 1, "patch_size": 16 }
}"#;

const RECIPE: &str = r#"
name = "tiny"
model = "."
compute = "f32"
evidence = { question = [[0, 0]], answer = [[1, 1]] }

[text_tower]
hidden_size = 32
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 48
max_position_embeddings = 16
projection_dim = 16

[[stages]]
name = "contrastive"
objective = "contrastive"
images = 40
batch = 4
learning_rate = 1e-3
collages = 0.5
first_seed = 0
modules = { vision_encoder = 1.0, text_tower = 1.0, region_head = 1.0 }
weights = { region = 1.0, patch = 0.5, caption = 0.1 }

[[stages]]
name = "align"
objective = "dialogue"
images = 80
batch = 4
learning_rate = 1e-3
warmup_images = 8
multi_turn = 0.5
first_seed = 100
modules = { projector = 1.0, language_model = 1.0 }
weights = { answer = 1.0, evidence = 0.3, lens = 0.3 }
"#;

/// A folder with a tiny model's files and the recipe.
fn tiny() -> (tempfile::TempDir, Recipe) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("config.json"), CONFIG).expect("written");
    let nano = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/nano");
    let tokenizer = folder.path().join("tokenizer.json");
    std::fs::copy(nano.join("tokenizer.json"), tokenizer).expect("the shipped tokenizer");
    let path = folder.path().join("recipe.toml");
    std::fs::write(&path, RECIPE).expect("written");
    let recipe = Recipe::load(&path).expect("a sound recipe");
    (folder, recipe)
}

fn checkpoint_of(recipe: &Recipe, folder: &Path) -> checkpoint::Checkpoint {
    let config = vlm::Config::load(&recipe.model).expect("config");
    let shapes = models::parameter_shapes(recipe, &config).expect("shapes");
    checkpoint::load(&folder.join(CHECKPOINT), &shapes).expect("a checkpoint")
}

fn values(state: &checkpoint::Checkpoint, name: &str) -> Vec<f32> {
    let var = &state.parameters.vars[name];
    var.as_detached_tensor().flatten_all().expect("flat").to_vec1().expect("f32")
}

#[test]
fn a_resumed_run_equals_one_never_stopped() {
    let (folder, recipe) = tiny();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    run(&recipe, &whole, &Cancel::default(), &mut |_| {}).expect("the whole run");
    let cancel = Cancel::default();
    let stopped = run(&recipe, &parts, &cancel, &mut |event| {
        if let Event::Step { progress, .. } = event
            && progress.step == 20
        {
            cancel.cancel();
        }
    });
    assert_eq!(stopped.expect("the first part").step, 20);
    run(&recipe, &parts, &Cancel::default(), &mut |_| {}).expect("the rest");
    let (a, b) = (checkpoint_of(&recipe, &whole), checkpoint_of(&recipe, &parts));
    for name in a.parameters.vars.keys() {
        assert_eq!(values(&a, name), values(&b, name), "{name}");
    }
    let losses = |folder: &Path| -> Vec<String> {
        let curve = std::fs::read_to_string(folder.join("curve.csv")).expect("a curve");
        let line = |l: &str| format!("{:?}{:?}", l.split(',').next(), l.split(',').next_back());
        curve.lines().map(line).collect()
    };
    assert_eq!(losses(&whole), losses(&parts));
}

#[test]
fn frozen_modules_stay_and_every_trained_weight_moves() {
    let (folder, recipe) = tiny();
    for only in 0..recipe.stages.len() {
        let mut recipe = recipe.clone();
        recipe.stages = vec![recipe.stages[only].clone()];
        recipe.stages[0].images = 8;
        recipe.stages[0].multi_turn = 0.0;
        let config = vlm::Config::load(&recipe.model).expect("config");
        let shapes = models::parameter_shapes(&recipe, &config).expect("shapes");
        let mut start = crate::Parameters::init(&shapes, recipe.seed).expect("weights");
        let heads = recipe.evidence.question.iter().chain(&recipe.evidence.answer);
        heads.for_each(|&[l, h]| start.tie_query_to_key(l, h, 16).expect("tied"));
        let at = folder.path().join(format!("stage{only}"));
        run(&recipe, &at, &Cancel::default(), &mut |_| {}).expect("two steps");
        let end = checkpoint_of(&recipe, &at);
        for (name, var) in &mut start.vars {
            let before: Vec<f32> = var.flatten_all().expect("flat").to_vec1().expect("f32");
            let moved = before != values(&end, name);
            let trained = recipe.stages[0].modules.contains_key(crate::module_of(name));
            assert_eq!(moved, trained, "stage {only}: {name}");
        }
    }
}

#[test]
fn two_rows_can_be_learned_by_heart() {
    let (_folder, mut recipe) = tiny();
    let stage = crate::Stage { learning_rate: 5e-3, ..recipe.stages.remove(1) };
    let config = vlm::Config::load(&recipe.model).expect("config");
    let shapes = models::parameter_shapes(&recipe, &config).expect("shapes");
    let parameters = crate::Parameters::init(&shapes, 0).expect("weights");
    let models = models::Models::new(&recipe, &config, &parameters, Some(&stage)).expect("built");
    let groups = crate::run::groups(&stage, &parameters);
    let mut optimizer = crate::Optimizer::default();
    let replicas = Replicas::new(2).expect("threads");
    let mut loss_of_step = || {
        let step = Step::compute(&replicas, &models, &stage, &groups, &[7, 8]).expect("a step");
        let moved = optimizer.step(&groups, step.gradients, (5e-3, 1.0), &replicas);
        moved.expect("an update");
        step.parts.iter().find(|(name, _)| *name == "answer").map_or(f64::NAN, |p| p.1)
    };
    let first = loss_of_step();
    let last = (0..60).map(|_| loss_of_step()).last().unwrap_or(f64::NAN);
    assert!(last < 0.5 * first, "from {first} to {last}");
}

#[test]
fn every_problem_of_a_recipe_is_told_at_once() {
    let broken = RECIPE
        .replace("compute = \"f32\"", "compute = \"f16\"")
        .replace("batch = 4\nlearning_rate = 1e-3\ncoll", "batch = 3\nlearning_rate = 0\ncoll")
        .replace("projector = 1.0", "projektor = 1.0");
    let error = Recipe::parse(&broken, Path::new("r.toml")).expect_err("refused").to_string();
    for part in ["compute:", "batch: 3", "learning_rate:", "projektor", "r.toml"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let unknown = format!("colour = 1\n{RECIPE}");
    let error = Recipe::parse(&unknown, Path::new("r.toml")).expect_err("refused").to_string();
    assert!(error.contains("unknown field `colour`"), "{error}");
}
