//! `sightline models`: getting models, and keeping those that are there.
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use app::api::{
    Fit, LibraryModel, LibraryState, LibraryView, Look, Transfer, TransferPhase, Verdict, Verified,
};
use app::{Library, LibraryOptions};
use indicatif::{ProgressBar, ProgressStyle};

use crate::ask::print;
use crate::problem::Problem;

/// Get, check and remove models.
#[derive(clap::Args)]
pub struct Models {
    #[command(subcommand)]
    what: What,
    /// The folder that models are kept in.
    #[arg(long, global = true, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Address of a mirror of the Hub (else HF_ENDPOINT).
    #[arg(long, global = true, value_name = "URL")]
    mirror: Option<String>,
    /// Address of a proxy (else HTTPS_PROXY).
    #[arg(long, global = true, value_name = "URL")]
    proxy: Option<String>,
    /// Ask no server (else HF_HUB_OFFLINE).
    #[arg(long, global = true)]
    offline: bool,
    /// none, q8_0 or q4_0: state the need of weights held so.
    #[arg(long, global = true, default_value = "none")]
    quantization: app::Quantization,
}

#[derive(clap::Subcommand)]
enum What {
    /// The known models and those that are there.
    List {
        /// Only those that have this in their name, family or what they are good at.
        #[arg(default_value = "")]
        search: String,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Download a model of the list, or OWNER/NAME[@REVISION] of the Hub; goes on where it stopped.
    Pull {
        name: String,
        /// Download also what does not fit into this machine's memory.
        #[arg(long)]
        yes: bool,
    },
    /// Take up a model folder or a .gguf file that is there already.
    Import {
        path: PathBuf,
        /// Its name in the list; that of the folder or file otherwise.
        #[arg(long)]
        name: Option<String>,
        /// Copy it into the models' folder instead of using it where it is.
        #[arg(long)]
        copy: bool,
    },
    /// Compare every file of a model with what it was when it was fetched or imported.
    Verify {
        name: String,
        /// Fetch again what is broken.
        #[arg(long)]
        repair: bool,
    },
    /// Remove the files that were fetched for a model.
    Remove {
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

impl Models {
    pub fn run(self) -> Result<(), Problem> {
        let how = self.quantization;
        let library = Library::open(LibraryOptions {
            settings: Some(app::settings_file()),
            folder: self.folder,
            mirror: self.mirror,
            proxy: self.proxy,
            offline: self.offline,
            pace: None,
        });
        let stop = library.clone();
        // Without the handler Ctrl-C simply ends the program; what has arrived is kept either way.
        let _ = ctrlc::set_handler(move || stop.stop_all());
        match self.what {
            What::List { search, json } => list(&library.view(None, how), &search, json),
            What::Pull { name, yes } => pull(&library, &name, how, yes),
            What::Import { path, name, copy } => {
                let bar = Bar::new();
                let imported = library.import(&path, name.as_deref(), copy, &mut |t| bar.show(t));
                bar.end();
                print(&format!("{} is imported\n", imported?))
            }
            What::Verify { name, repair } => {
                let view = library.view(None, how);
                let there = view.models.iter().find(|model| model.name == name);
                let imported = there.is_some_and(|model| model.repo.is_none());
                verify(&library, (&name, imported), repair)
            }
            What::Remove { name, yes } => remove(&library, &name, yes),
        }
    }
}

fn list(view: &LibraryView, search: &str, json: bool) -> Result<(), Problem> {
    let wanted = search.to_lowercase();
    let has = |model: &&LibraryModel| {
        let words =
            [&model.name, &model.family, &model.good_at.join(" ")].map(|w| w.to_lowercase());
        words.iter().any(|word| word.contains(&wanted))
    };
    let models: Vec<&LibraryModel> = view.models.iter().filter(has).collect();
    if json {
        let object = serde_json::json!({
            "models": models, "settings": view.settings, "diskFree": view.disk_free,
        });
        return print(&format!("{object:#}\n"));
    }
    let mut text = String::new();
    for model in &models {
        text += &format!("{:<32} {:<12} {}\n", model.name, state(model), facts(model));
        if !model.good_at.is_empty() {
            text += &format!("    {}\n", model.good_at.join("; "));
        }
    }
    if models.is_empty() {
        text += &format!("no model has `{search}` in its name, family or abilities\n");
    }
    let free = view.disk_free.map_or(String::new(), |free| format!(", {} free", size(free)));
    print(&format!("{text}\nmodels are kept in {}{free}\n", view.settings.folder))
}

fn state(model: &LibraryModel) -> String {
    match &model.state {
        LibraryState::Available if !model.supported => "unsupported".into(),
        LibraryState::Available => "available".into(),
        LibraryState::Busy(_) => "busy".into(),
        LibraryState::Paused { done, all } => format!("{:.0} % there", 100.0 * done / all.max(1.0)),
        LibraryState::Installed { whole: false, .. } => "damaged".into(),
        LibraryState::Installed { registered: true, .. } => "registered".into(),
        LibraryState::Installed { .. } => "installed".into(),
    }
}

fn facts(model: &LibraryModel) -> String {
    let family = Some(model.family.clone()).filter(|family| !family.is_empty());
    let weights = model.parameters.map(|n| format!("{} weights", count(n)));
    let memory = model.fit.as_ref().map(|fit| {
        let about = if fit.exact { "" } else { "about " };
        format!("needs {about}{}{}", size(fit.needs), note(fit))
    });
    let disk = model.bytes.map(|bytes| format!("{} on disk", size(bytes)));
    let licence = Some(model.licence.clone()).filter(|licence| !licence.is_empty());
    let licence = licence.map(|l| if model.gated { format!("{l} (terms to accept)") } else { l });
    let all: Vec<String> = [family, weights, memory, disk, licence].into_iter().flatten().collect();
    all.join(" · ")
}

fn note(fit: &Fit) -> &'static str {
    match fit.verdict {
        Verdict::Fits => "",
        Verdict::Tight => " (tight)",
        Verdict::TooBig => " (more than is free)",
    }
}

fn pull(library: &Library, name: &str, how: app::Quantization, yes: bool) -> Result<(), Problem> {
    let look = library.look(name, how)?;
    let Look { name: folder, repo, bytes, done, n_files, licence, fit, .. } = &look;
    let rest = if *done > 0.0 { format!(", {} there", size(*done)) } else { String::new() };
    let licence = if licence.is_empty() { "licence not stated" } else { licence };
    eprintln!("{repo}: {n_files} files, {}{rest}, {licence}", size(*bytes));
    eprintln!("{folder} {}", fit.words);
    if fit.verdict == Verdict::TooBig && !yes {
        let message = format!("{folder} {}", fit.words);
        confirm("It does not fit. Download it all the same?", message, "download it all the same")?;
    }
    let bar = Bar::new();
    let pulled = library.pull(name, how, &mut |transfer| bar.show(transfer));
    bar.end();
    let at = pulled.map_err(|error| match error.code.as_str() {
        "cancelled" => Problem::new("stopped; what has arrived is kept", "Pull it again to go on."),
        _ => error.into(),
    })?;
    print(&format!("{folder} is there: sightline ask PICTURE \"...\" --model {}\n", at.display()))
}

fn verify(library: &Library, (name, imported): (&str, bool), repair: bool) -> Result<(), Problem> {
    let bar = Bar::new();
    let verified = library.verify(name, repair, &mut |transfer| bar.show(transfer));
    bar.end();
    let Verified { n_files, broken, repaired } = verified?;
    for file in &broken {
        eprintln!("{} {}", file.path, file.what);
    }
    let (came, mend) = match imported {
        true => ("imported", "Import it again.".to_owned()),
        false => ("fetched", format!("Mend it: sightline models verify {name} --repair")),
    };
    match (broken.len(), repaired) {
        (0, _) => print(&format!("{name}: all {n_files} files are as they were {came}\n")),
        (n, true) => print(&format!("{name}: {n} of {n_files} files were broken and are mended\n")),
        (n, false) => Err(Problem::new(format!("{name}: {n} of {n_files} files are broken"), mend)),
    }
}

fn remove(library: &Library, name: &str, yes: bool) -> Result<(), Problem> {
    library.check_there(name)?;
    if !yes {
        let message = format!("{name} is not removed without being sure");
        confirm(&format!("Remove {name}?"), message, "remove it")?;
    }
    let left = library.remove(name)?;
    if !left.is_empty() {
        eprintln!("left, since they are not of the model: {}", left.join(", "));
    }
    print(&format!("{name} is removed\n"))
}

/// Asks at a terminal; elsewhere `--yes` is the only way to say so.
fn confirm(question: &str, message: String, to: &str) -> Result<(), Problem> {
    if !std::io::stdin().is_terminal() {
        return Err(Problem::usage(message, format!("Add --yes to {to}.")));
    }
    eprint!("{question} [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    match read.is_ok() && answer.trim().eq_ignore_ascii_case("y") {
        true => Ok(()),
        false => Err(Problem::new("nothing was done", "")),
    }
}

/// A line of progress on stderr.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Bar {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {prefix}") {
            bar.set_style(style);
        }
        Bar(bar)
    }

    fn show(&self, transfer: &Transfer) -> bool {
        let Transfer { phase, file, done, all, bytes_per_second, seconds_left } = transfer;
        self.0.set_length(*all as u64);
        self.0.set_position(*done as u64);
        let phase = match phase {
            TransferPhase::Asking => "asking",
            TransferPhase::Downloading => "downloading",
            TransferPhase::Waiting => "waiting for the network,",
            TransferPhase::Verifying => "verifying",
            TransferPhase::Copying => "copying",
        };
        self.0.set_message(format!("{phase} {file}"));
        let left = seconds_left.map_or(String::new(), |s| format!(", {} left", duration(s)));
        let speed = format!("{}/s{left}", size(*bytes_per_second));
        self.0.set_prefix(format!("{} of {}, {speed}", size(*done), size(*all)));
        true
    }

    fn end(self) {
        self.0.finish_and_clear();
    }
}

/// "2.1 GB", "513 MB", "12 KB"
fn size(bytes: f64) -> String {
    match bytes {
        b if b >= 1e10 => format!("{:.0} GB", b / 1e9),
        b if b >= 1e9 => format!("{:.1} GB", b / 1e9),
        b if b >= 1e6 => format!("{:.0} MB", b / 1e6),
        b => format!("{:.0} KB", b / 1e3),
    }
}

/// "2.3 billion", "507 million"
fn count(n: f64) -> String {
    if n >= 1e9 { format!("{:.1} billion", n / 1e9) } else { format!("{:.0} million", n / 1e6) }
}

/// "12 s", "3 min", "1 h 20 min"
fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}
