//! Getting a model as the faces do it: looked at, fetched from a hub on this machine, opened,
//! mended and removed.

// What it can do wrong is the concern of `hub`'s own tests.
#[allow(dead_code)]
#[path = "../../hub/tests/pulling/server.rs"]
mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use app::api::{LibraryChange, LibraryModel, LibraryState, TransferPhase};
use app::{App, Library, LibraryOptions, OpenOptions, Pace, Quantization};
use server::{Fault, Server};
use tempfile::TempDir;

fn fixture() -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/fixtures");
    fixtures.join("smolvlm-llama-square")
}

fn files() -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(fixture()).expect("the fixture").flatten();
    let files = entries.filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let of_model = name.ends_with(".json") || name == "model.safetensors";
        of_model && entry.path().is_file()
    });
    let read = |path: PathBuf| std::fs::read(path).expect("a file");
    files.map(|f| (f.file_name().to_string_lossy().into_owned(), read(f.path()))).collect()
}

struct Place {
    server: Server,
    folder: TempDir,
    library: Library,
}

fn place() -> Place {
    let files = files();
    let files: Vec<(&str, Vec<u8>)> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let server = Server::start(&files);
    let folder = TempDir::new().expect("a folder");
    let pace = Pace {
        stall: Duration::from_millis(500),
        backoff: Duration::from_millis(5),
        attempts: 3,
        ..Pace::default()
    };
    let library = Library::open(LibraryOptions {
        settings: Some(folder.path().join("settings.json")),
        folder: Some(folder.path().join("models")),
        mirror: Some(server.address.clone()),
        pace: Some(pace),
        ..Default::default()
    });
    Place { server, folder, library }
}

fn model(library: &Library) -> Option<LibraryModel> {
    let view = library.view(None, Quantization::None);
    view.models.into_iter().find(|model| model.name == "model")
}

#[test]
fn a_model_is_looked_at_fetched_opened_mended_and_removed() {
    let Place { library, folder, .. } = &place();
    assert!(model(library).is_none());
    let look = library.look(server::REPO, Quantization::None).expect("a look");
    assert!(look.fit.exact && look.fit.image_tokens == Some(4) && look.bytes > 10_000.0);
    let words = &look.fit.words;
    assert!(words.starts_with("needs ") && words.contains("512-px picture; this machine has"));
    assert!(!folder.path().join("models").exists(), "looking leaves nothing");

    let mut phases = Vec::new();
    let at = library.pull(server::REPO, Quantization::None, &mut |transfer| {
        phases.push(transfer.phase);
        true
    });
    let at = at.expect("a model");
    assert!(phases.contains(&TransferPhase::Downloading));
    let is_whole = |expected: bool| match model(library).expect("it is there").state {
        LibraryState::Installed { whole, current: false, registered: false, .. } => {
            assert_eq!(whole, expected)
        }
        other => panic!("{other:?}"),
    };
    is_whole(true);
    let options =
        OpenOptions { model: Some(at.clone()), device: "cpu".into(), ..Default::default() };
    App::open(options).wait_until_loaded().expect("it opens");

    std::fs::remove_file(at.join("tokenizer.json")).expect("a file");
    is_whole(false);
    let found = library.verify("model", false, &mut |_| true).expect("verified");
    assert_eq!((found.broken.len(), found.repaired), (1, false));
    assert_eq!(found.broken[0].path, "tokenizer.json");
    assert!(library.verify("model", true, &mut |_| true).expect("mended").repaired);
    is_whole(true);
    assert!(library.remove("model").expect("removed").is_empty());
    assert!(model(library).is_none() && !at.exists());
}

#[test]
fn half_a_model_is_shown_as_such_and_never_offered() {
    let Place { server, library, folder } = &place();
    server.will("model.safetensors", &[Fault::Stall(1000)]);
    let stopped = library.pull(server::REPO, Quantization::None, &mut |transfer| {
        transfer.file != "model.safetensors" || transfer.phase != TransferPhase::Downloading
    });
    assert_eq!(stopped.expect_err("nobody listened").code, "cancelled");
    let half = model(library).expect("it is known");
    assert!(matches!(half.state, LibraryState::Paused { done, all } if done < all));
    let settings = folder.path().join("settings.json");
    let change = LibraryChange {
        folder: Some(folder.path().join("models").display().to_string()),
        ..Default::default()
    };
    library.set_settings(change).expect("the folder can be written");
    let options = OpenOptions {
        model: Some(fixture()),
        device: "cpu".into(),
        settings: Some(settings),
        ..Default::default()
    };
    let offered = App::open(options).models();
    assert!(offered.iter().all(|model| model.shipped), "{offered:?}");
}

#[test]
fn what_this_version_cannot_open_is_refused_before_anything_is_fetched() {
    let Place { server, library, .. } = &place();
    let foreign = br#"{"model_type": "unheard_of"}"#.to_vec();
    server.state.lock().unwrap().files.insert("config.json".into(), foreign);
    let refused = library.pull(server::REPO, Quantization::None, &mut |_| true);
    let error = refused.expect_err("not known");
    assert_eq!(error.code, "model_unsupported");
    assert!(error.message.contains("unheard_of"), "{error:?}");
    assert!(server.ranges("model.safetensors").is_empty());
}

#[test]
fn a_folder_of_the_users_own_is_taken_up_only_when_it_is_whole() {
    let Place { library, folder, .. } = &place();
    let mine = folder.path().join("mine");
    std::fs::create_dir_all(&mine).expect("a folder");
    for (name, bytes) in files() {
        std::fs::write(mine.join(name), bytes).expect("a file");
    }
    let import = |copy| library.import(&mine, None, copy, &mut |_| true);
    let weights = mine.join("model.safetensors");
    let whole = std::fs::read(&weights).expect("weights");
    std::fs::write(&weights, &whole[..whole.len() - 100]).expect("a file");
    assert_eq!(import(false).expect_err("cut short").code, "model_weights");
    std::fs::write(&weights, whole).expect("a file");
    assert_eq!(import(false).expect("registered"), "mine");
    let view = library.view(None, Quantization::None);
    let there = view.models.iter().find(|model| model.name == "mine").expect("it is listed");
    let LibraryState::Installed { folder: at, registered: true, repairable: false, .. } =
        &there.state
    else {
        panic!("{there:?}")
    };
    assert_eq!(Path::new(at), mine);
    assert_eq!(import(false).expect_err("twice").code, "name_taken");
    assert_eq!(library.verify("mine", true, &mut |_| true).expect("read").broken, []);
    library.remove("mine").expect("removed");
    assert!(mine.join("config.json").exists(), "the user's own files stay");
    assert_eq!(
        library.import(folder.path(), None, false, &mut |_| true).expect_err("no").code,
        "model_missing"
    );
    let cut = folder.path().join("x.gguf");
    std::fs::write(&cut, b"GGUF\x03\0\0\0").expect("a file");
    assert_eq!(
        library.import(&cut, None, false, &mut |_| true).expect_err("cut").code,
        "model_weights"
    );
}

#[test]
fn a_model_that_sees_is_not_taken_up_with_a_template_that_writes_no_picture() {
    let Place { library, folder, .. } = &place();
    let mine = folder.path().join("mine");
    std::fs::create_dir_all(&mine).expect("a folder");
    for (name, bytes) in files() {
        std::fs::write(mine.join(name), bytes).expect("a file");
    }
    let template = "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}\
                    {% endfor %}";
    std::fs::write(mine.join("chat_template.jinja"), template).expect("a file");
    let error = library.import(&mine, None, false, &mut |_| true).expect_err("no pictures");
    assert_eq!(error.code, "model_processor");
    assert!(error.message.contains("writes 0 pictures for one"), "{error:?}");
    let options = OpenOptions { model: Some(mine), device: "cpu".into(), ..Default::default() };
    let error = App::open(options).wait_until_loaded().expect_err("nor opened");
    assert!(error.message.contains("writes 0 pictures for one"), "{error:?}");
}

#[test]
fn settings_are_checked_remembered_and_a_token_is_not_shown() {
    let folder = TempDir::new().expect("a folder");
    let settings = Some(folder.path().join("settings.json"));
    let library = || {
        let settings = settings.clone();
        Library::open(LibraryOptions { settings, ..Default::default() })
    };
    let place = folder.path().join("elsewhere").display().to_string();
    let change = LibraryChange {
        folder: Some(place.clone()),
        mirror: Some(" https://hub.example.org ".into()),
        token: Some("secret".into()),
        offline: Some(true),
        ..Default::default()
    };
    library().set_settings(change).expect("they are right");
    let read = library().settings();
    assert_eq!((read.folder, read.mirror.as_str()), (place, "https://hub.example.org"));
    assert!(read.offline && read.has_token && read.proxy.is_empty());
    for (change, code) in [
        (LibraryChange { mirror: Some("nowhere".into()), ..Default::default() }, "setting"),
        (LibraryChange { proxy: Some("http://".into()), ..Default::default() }, "setting"),
        (
            LibraryChange {
                folder: Some(folder.path().join("settings.json").display().to_string()),
                ..Default::default()
            },
            "folder_unwritable",
        ),
    ] {
        assert_eq!(library().set_settings(change).expect_err(code).code, code);
    }
    assert_eq!(library().settings().mirror, "https://hub.example.org", "nothing was changed");
    let error = library().look("SmolVLM-256M-Instruct", Quantization::None).expect_err("offline");
    assert_eq!(error.code, "offline");
    let error = library().look("gpt", Quantization::None).expect_err("unknown");
    assert_eq!(error.code, "model_unknown");
    let forget = LibraryChange { token: Some(String::new()), ..Default::default() };
    library().set_settings(forget).expect("forgotten");
    let text = std::fs::read_to_string(folder.path().join("settings.json")).expect("a file");
    assert!(!text.contains("secret"), "{text}");
}
