//! `sightline train`: a recipe carried out, with its progress shown.
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use train::fine_tune::{self, Examples, FineTune};
use train::{Cancel, Event, Recipe};

use crate::problem::Problem;

/// Train a model by a recipe. Ctrl-C stops after the step at hand and keeps a checkpoint.
#[derive(clap::Args)]
pub struct Train {
    /// The recipe, a TOML file.
    recipe: PathBuf,
    /// Go on from the checkpoint in the folder.
    #[arg(long)]
    resume: bool,
    /// Where checkpoint and loss curve go; beside the recipe, named after it, otherwise.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write the weights into this model folder at the end.
    #[arg(long, value_name = "DIR")]
    export: Option<PathBuf>,
}

/// How the libraries below are to behave while copies of the model train side by side: their own
/// threads would only fight with the copies' (measured: a quarter fewer pictures each second), and
/// memory given back after each step is cleared anew for the next (a sixth of the time).
const SURROUNDINGS: [(&str, &str); 2] =
    [("RAYON_NUM_THREADS", "1"), ("MIMALLOC_PURGE_DELAY", "-1")];

impl Train {
    /// They read these once, at their start, so the program runs itself anew where they are unset.
    pub fn start(self) -> Result<ExitCode, Problem> {
        if std::env::var_os(SURROUNDINGS[0].0).is_some() {
            return self.run().map(|()| ExitCode::SUCCESS);
        }
        // Ctrl-C reaches both; the one that trains decides when to stop.
        let _ = ctrlc::set_handler(|| {});
        let again = std::env::current_exe().and_then(|program| {
            std::process::Command::new(program)
                .args(std::env::args_os().skip(1))
                .envs(SURROUNDINGS)
                .status()
        });
        let status = again.map_err(|error| {
            Problem::new(format!("the training cannot be started: {error}"), "Try it again.")
        })?;
        Ok(status.code().map_or(ExitCode::FAILURE, |code| ExitCode::from(code as u8)))
    }

    fn run(self) -> Result<(), Problem> {
        let folder = self.out.clone().unwrap_or_else(|| self.recipe.with_extension("run"));
        let checkpoint = folder.join("checkpoint.safetensors");
        if checkpoint.exists() && !self.resume {
            return Err(Problem::usage(
                format!("{} is there from an earlier run", checkpoint.display()),
                "Add --resume to go on from it, or name another folder with --out.",
            ));
        }
        let cancel = Cancel::default();
        let stop = cancel.clone();
        // Without the handler Ctrl-C ends the program; the last checkpoint stays.
        let _ = ctrlc::set_handler(move || stop.cancel());
        if let Some(recipe) = FineTune::load(&self.recipe).map_err(problem)? {
            return self.fine_tune(&recipe, &folder, &cancel);
        }
        let recipe = Recipe::load(&self.recipe).map_err(problem)?;
        let mut display = Display::new();
        let progress = train::run(&recipe, &folder, &cancel, &mut |event| display.show(&event));
        let progress = progress.map_err(problem)?;
        display.bar.finish_and_clear();
        if let Some(model) = &self.export {
            train::export(&recipe, &folder, model).map_err(problem)?;
        }
        let done = progress.stage >= recipe.stages.len();
        let end = if done { "finished" } else { "stopped; go on with --resume" };
        let (images, folder) = (progress.images, folder.display());
        crate::ask::print(&format!("{end} after {images} images; checkpoint in {folder}\n"))
    }
}

impl Train {
    /// A model that is there learns something more; what it learned is written as `peft` reads it.
    fn fine_tune(&self, recipe: &FineTune, folder: &Path, cancel: &Cancel) -> Result<(), Problem> {
        let mut display = Display::new();
        display.bar.set_length(recipe.steps);
        display.bar.set_prefix("fine-tune");
        let gathered = crate::data::gathered(recipe, cancel)?;
        let lessons: (&dyn Examples, &dyn Examples) = (&gathered.train, &gathered.held_out);
        let cache = vlm::cache_folder();
        let folders = (folder, cache.as_deref());
        let taught =
            fine_tune::run(recipe, lessons, folders, cancel, &mut |event| display.tell(&event));
        let (learned, progress) = taught.map_err(problem)?;
        display.bar.finish_and_clear();
        let config = vlm::Config::load(&recipe.model)?;
        let out = self.export.clone().unwrap_or_else(|| folder.join("adapter"));
        let base = recipe.model.display().to_string();
        let mut said = format!("{} of {} steps", progress.step, recipe.steps);
        if let Some(lora) = learned.lora() {
            lora.write(&out, &config, &base)?;
            said += &format!("; the adapter is in {}", out.display());
        }
        crate::ask::print(&format!("{said}; checkpoint in {}\n", folder.display()))
    }
}

/// A bar on a terminal; elsewhere, where a bar is hidden, a line every so often.
struct Display {
    bar: ProgressBar,
    last_line: Instant,
}

impl Display {
    const LINE_EVERY: Duration = Duration::from_secs(30);

    fn new() -> Display {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} images {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Display { bar, last_line: Instant::now() }
    }

    fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Stage { stage, images } => {
                self.bar.set_prefix(stage.name.clone());
                self.bar.set_length(stage.images);
                self.bar.set_position(*images);
            }
            Event::Step { progress, losses, images_per_second, left } => {
                self.bar.set_position(progress.stage_images);
                let losses: Vec<String> =
                    losses.iter().map(|(name, loss)| format!("{name} {loss:.3}")).collect();
                let left = indicatif::HumanDuration(*left);
                let losses = losses.join(", ");
                self.bar.set_message(format!("{images_per_second:.0}/s, {left} left; {losses}"));
                self.line_now_and_then("images", progress.stage_images);
            }
            Event::Measured { scores, .. } => {
                let scores: Vec<String> = scores
                    .by_name
                    .iter()
                    .map(|(name, score)| format!("{name} {:.3}", score.value()))
                    .collect();
                self.say(&scores.join(", "));
            }
            Event::Saved { .. } => {}
        }
    }
}

impl Display {
    /// The same of a fine-tuning.
    fn tell(&mut self, event: &fine_tune::Event<'_>) {
        match event {
            fine_tune::Event::Step { progress, loss, left, .. } => {
                self.bar.set_position(progress.step);
                let left = indicatif::HumanDuration(*left);
                self.bar.set_message(format!("{left} left; loss {loss:.3}"));
                self.line_now_and_then("steps", progress.step);
            }
            fine_tune::Event::Measured { progress, held } => {
                let fine_tune::Held { n, loss, right, blind_right, .. } = held;
                let (right, blind) = (100.0 * right, 100.0 * blind_right);
                let mut line = format!(
                    "step {}: of {n} held-out examples {right:.0} % right, {blind:.0} % without \
                     their pictures; loss {loss:.3}",
                    progress.step
                );
                if held.is_not_looking() {
                    line += "\nIt is not looking: the answers can be guessed from the questions.";
                }
                self.say(&line);
            }
            fine_tune::Event::Saved { .. } => {}
        }
    }

    /// Where the bar is hidden, a line every so often.
    fn line_now_and_then(&mut self, unit: &str, at: u64) {
        if self.bar.is_hidden() && self.last_line.elapsed() > Self::LINE_EVERY {
            self.last_line = Instant::now();
            let of = self.bar.length().unwrap_or_default();
            println!("{} {at}/{of} {unit} {}", self.bar.prefix(), self.bar.message());
        }
    }

    /// A hidden bar swallows what is printed above it.
    fn say(&self, line: &str) {
        if self.bar.is_hidden() { println!("{line}") } else { self.bar.println(line) }
    }
}

pub(crate) fn problem(error: train::Error) -> Problem {
    let text = error.to_string();
    match text.rsplit_once("; ") {
        Some((message, hint)) => Problem::new(message, hint),
        None => Problem::new(text, "See the recipe and the folder it names."),
    }
}
