//! The command line as it is typed: messages, exit codes, JSON, files.
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn fixture() -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/fixtures");
    fixtures.join("smolvlm-llama-square")
}

fn picture() -> String {
    fixture().join("image-0.png").display().to_string()
}

fn model() -> String {
    fixture().display().to_string()
}

fn sightline(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sightline"));
    command.args(arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code, and stderr: one line and a hint.
fn fails(arguments: &[&str], exit: i32, message: &str, hint: &str) {
    let output = sightline(arguments);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {stderr}");
    let expected = format!("sightline: {message}\nhint: {hint}\n");
    assert_eq!(stderr, expected, "{arguments:?}");
}

#[test]
fn what_is_typed_wrongly_exits_with_2_and_a_hint() {
    let form = "usage: sightline ask IMAGE... \"QUESTION\"";
    let picture = picture();
    fails(&["ask", "What?"], 2, "the picture is missing before the question", form);
    fails(&["ask", &picture], 2, "the question is missing after the pictures", form);
    fails(&["ask", &picture, " "], 2, "the question is empty", form);
    fails(
        &["ask", "a.png", "What?", "--temperature", "warm"],
        2,
        "invalid value 'warm' for '--temperature <TEMPERATURE>': give a number from 0 to 10",
        "see `sightline --help`",
    );
    fails(
        &["eval", "quantization", "--scenes", "0"],
        2,
        "invalid value '0' for '--scenes <N>': 0 is not in 1..=1000000",
        "see `sightline --help`",
    );
    fails(
        &["eval", "nano", "--seeds", "9..3"],
        2,
        "invalid value '9..3' for '--seeds <A..B>': give two numbers with two dots between, \
         such as 10000000..10001000",
        "see `sightline --help`",
    );
}

#[test]
fn what_fails_exits_with_1_and_a_hint() {
    fails(
        &["ask", &picture(), "What?", "--model", "nowhere"],
        1,
        "nowhere is no model: it has no config.json and no *.gguf",
        "Choose the folder that holds config.json, tokenizer.json and *.safetensors, or a .gguf \
         file.",
    );
    let output = sightline(&["ask", "missing.png", "What?", "--model", &model()]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("missing.png") && stderr.contains("\nhint: "), "{stderr}");
}

#[test]
fn the_models_that_can_be_got_are_listed_and_none_is_removed_by_mistake() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().display().to_string();
    let output = sightline(&["models", "list", "smolvlm", "--json", "--folder", &folder]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    let models = object["models"].as_array().expect("models");
    assert!(models.len() >= 3);
    for model in models {
        assert_eq!(model["state"]["type"], "available");
        assert!(model["fit"]["words"].as_str().expect("words").contains("512-px picture"));
        assert!(model["repo"].is_string() && model["licence"].is_string());
    }
    let remove = ["models", "remove", "x", "--folder", &folder];
    let missing = format!("there is no model `x` in {folder}");
    fails(&remove, 1, &missing, "`sightline models list` names them.");
    for name in ["a/b/c", "owner/model@"] {
        fails(
            &["models", "pull", name, "--folder", &folder],
            1,
            &format!("`{name}` is not of the form OWNER/NAME[@REVISION]"),
            "Take it from the model's page.",
        );
    }
    // A model whose manifest became unreadable.
    let broken = Path::new(&folder).join("x");
    std::fs::create_dir_all(&broken).expect("a folder");
    std::fs::write(broken.join("manifest.json"), "{").expect("a file");
    let list = text(&sightline(&["models", "list", "x", "--folder", &folder]).stdout);
    let line = list.lines().find(|line| line.starts_with("x ")).expect("it is listed");
    assert!(line.contains("damaged"), "{line}");
    fails(&remove, 2, "x is not removed without being sure", "Add --yes to remove it.");
    let removed = sightline(&[&remove[..], &["--yes"]].concat());
    assert!(removed.status.success() && !broken.exists(), "{}", text(&removed.stderr));
    fails(
        &["models", "pull", "SmolVLM-256M-Instruct", "--offline", "--folder", &folder],
        1,
        "Sightline is set to stay offline",
        "Switch offline off to fetch models.",
    );
}

#[test]
fn an_imported_model_is_verified_against_what_was_imported() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().display().to_string();
    let run = |arguments: &[&str]| {
        let output = sightline(&[&["models"], arguments, &["--folder", &folder]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    run(&["import", &model(), "--name", "own", "--copy"]);
    let verified = run(&["verify", "own"]);
    assert!(verified.ends_with("files are as they were imported\n"), "{verified}");
    let weights = Path::new(&folder).join("own/model.safetensors");
    std::fs::write(weights, "spoilt").expect("a file");
    let output = sightline(&["models", "verify", "own", "--folder", &folder]);
    let stderr = text(&output.stderr);
    assert!(stderr.ends_with("hint: Import it again.\n"), "{stderr}");
}

#[test]
fn json_has_the_promised_keys_and_greedy_is_repeatable() {
    let (picture, model) = (picture(), model());
    let how = ["--json", "--greedy", "--model", &model, "--max-new-tokens", "5"];
    let arguments = [&["ask", &picture, "What?"][..], &how].concat();
    let ask = || {
        let output = sightline(&arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("one JSON object")
    };
    let (one, two) = (ask(), ask());
    assert_eq!(one["text"], two["text"]);
    assert_eq!(one["tokens"], two["tokens"]);
    for key in ["text", "tokens", "timings", "model", "image_tokens"] {
        assert!(!one[key].is_null(), "{key} is missing");
    }
    let timings = ["load_ms", "encode_ms", "prefill_ms", "first_token_ms"];
    for key in timings.into_iter().chain(["decode_tokens_per_second"]) {
        assert!(one["timings"][key].is_number(), "timings.{key} is missing");
    }
    assert_eq!(one["image_tokens"], 4);
    for token in one["tokens"].as_array().expect("tokens") {
        assert!(token["text"].is_string() && token["logprob"].is_number());
        let evidence = &token["evidence"];
        let region = evidence["box"].is_array() && evidence["score"].is_number();
        assert!(evidence.is_null() || region, "{evidence}");
    }
}

#[test]
fn the_cost_of_quantising_is_measured_kept_and_shown_again() {
    let cache = tempfile::tempdir().expect("a folder");
    let model = model();
    let measure = |more: &[&str]| {
        let arguments = [&["eval", "quantization", "--model", &model, "--scenes", "2"], more];
        let mut command = Command::new(env!("CARGO_BIN_EXE_sightline"));
        command.args(arguments.concat()).env("XDG_CACHE_HOME", cache.path());
        let output = command.output().expect("the program starts");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let json =
        |text: &str| -> serde_json::Value { serde_json::from_str(text).expect("one JSON object") };
    let first = json(&measure(&["--json"]));
    for figure in ["perplexity", "same_answer", "existence_f1", "existence_accuracy", "evidence"] {
        for format in ["q8", "q4"] {
            let found = &first[format!("{figure}_{format}")];
            for key in ["value", "n", "interval", "baseline", "lost", "demand", "holds"] {
                assert!(found.get(key).is_some(), "{figure}_{format}.{key} in {first}");
            }
        }
    }
    let perplexity = &first["perplexity_q8"];
    let ratio = perplexity["value"].as_f64().unwrap() / perplexity["baseline"].as_f64().unwrap();
    assert!((ratio - 1.0).abs() < 0.02, "8 bits change little: {ratio}");
    assert!(perplexity["n"].as_u64().unwrap() > 20, "{perplexity}");
    assert!(first["bytes_q4"].as_u64() < first["bytes_none"].as_u64());
    assert_eq!(first["measured"]["stored"], false);
    let again = json(&measure(&["--json"]));
    assert_eq!(again["measured"]["stored"], true);
    assert_eq!(again["measured"]["date"], first["measured"]["date"]);
    assert_eq!(again["same_answer_q4"], first["same_answer_q4"]);
    assert!(measure(&[]).contains("Stored: "), "the table says that it is stored");
    let other = json(&measure(&["--json", "--seed", "10000500"]));
    assert_eq!(other["measured"]["stored"], false, "other scenes are measured");
    assert_eq!(json(&measure(&["--json", "--fresh"]))["measured"]["stored"], false);
}

#[test]
fn evidence_forward_and_scenes_write_their_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (picture, model) = (picture(), model());
    let done = |arguments: &[&str]| {
        let output = sightline(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    };
    let evidence = at("evidence.png");
    done(&["ask", &picture, "What?", "--model", &model, "--evidence", &evidence]);
    assert!(image::open(&evidence).is_ok());
    let tensors = at("forward.safetensors");
    let forward = ["inspect", "forward", "--model", &model, "--image", &picture];
    done(&[&forward[..], &["--prompt", "What?", "--out", &tensors]].concat());
    let bytes = std::fs::read(&tensors).expect("the tensors");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut names = tensors.names();
    names.sort();
    let expected = ["image_embeds", "input_ids", "logits", "pixel_values", "vision_features"];
    assert_eq!(names, expected);
    done(&["scenes", "--seed", "5", "--count", "2", "--out", &at("scenes")]);
    for name in ["scene-5.png", "scene-5.json", "scene-6.png", "scene-6.json"] {
        assert!(folder.path().join("scenes").join(name).is_file(), "{name}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_as_one() {
    fails(
        &["ask", &picture(), "What?", "--model", &model(), "--json", "--evidence", "/dev/full"],
        1,
        "cannot write /dev/full: No space left on device (os error 28)",
        "The disk is full: free some space, or write to another disk.",
    );
    let output = Command::new("sh")
        .args(["-c", "exec \"$0\" \"$@\" > /dev/full", env!("CARGO_BIN_EXE_sightline")])
        .args(["ask", &picture(), "What?", "--model", &model()])
        .output()
        .expect("a shell");
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("cannot write the answer: No space left"), "{stderr}");
}

#[test]
fn labels_are_ranked_and_models_are_told_what_they_are_for() {
    let two_towers = fixture().with_file_name("clip-quick-gelu").display().to_string();
    let (picture, model) = (picture(), model());
    let output = sightline(&[
        "classify",
        "--model",
        &two_towers,
        &picture,
        "--labels",
        "cat,ball",
        "--json",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let labels = found["images"][0]["labels"].as_array().expect("labels");
    let probability = |i: usize| labels[i]["probability"].as_f64().expect("a probability");
    assert_eq!(labels.len(), 2);
    assert!(probability(0) >= probability(1));
    assert!((probability(0) + probability(1) - 1.0).abs() < 1e-6);
    let output = sightline(&["classify", "--model", &two_towers, &picture, "--labels", "cat,ball"]);
    assert!(text(&output.stdout).contains(" %  cat\n"), "{}", text(&output.stdout));
    fails(
        &["ask", &picture, "What?", "--model", &two_towers],
        1,
        "a `clip` model compares pictures with texts and cannot answer questions",
        "Use it with `sightline classify`.",
    );
    fails(
        &["classify", "--model", &model, &picture, "--labels", "cat"],
        1,
        "`model_type` is `smolvlm`, which is not supported; supported: clip, siglip, siglip2",
        "Choose a model of a supported kind.",
    );
    fails(
        &["classify", "--model", &two_towers, &picture, "--labels", "cat,,dog"],
        2,
        "a label is empty",
        "usage: sightline classify --model DIR IMAGE --labels cat,dog",
    );
    fails(
        &["classify", "--model", &two_towers, &picture, "--labels", "cat", "--template", "a cat"],
        2,
        "the template has no {} for the label",
        "write it like \"a photo of {}\"",
    );
}
