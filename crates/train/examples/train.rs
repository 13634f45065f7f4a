//! Trains by a recipe without the rest of the product: `train RECIPE RUN`, `export RECIPE RUN
//! OUT`, `tokenizer OUT.json`. Progress goes to standard output, one line each few steps.

use std::path::Path;

use train::{Cancel, Event, Recipe};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        [_, "train", recipe, run] => train_by(Path::new(recipe), Path::new(run))?,
        [_, "export", recipe, run, out] => {
            let recipe = Recipe::load(Path::new(recipe))?;
            let progress = train::export(&recipe, Path::new(run), Path::new(out))?;
            println!("exported after {} images", progress.images);
        }
        [_, "tokenizer", out] => train::build_nano_tokenizer(Path::new(out))?,
        _ => return Err("use: train RECIPE RUN | export RECIPE RUN OUT | tokenizer OUT".into()),
    }
    Ok(())
}

fn train_by(recipe: &Path, run: &Path) -> Result<(), train::Error> {
    let recipe = Recipe::load(recipe)?;
    train::run(&recipe, run, &Cancel::default(), &mut |event| match event {
        Event::Stage { stage, images } => println!("stage {} from image {images}", stage.name),
        Event::Step { progress, losses, images_per_second, left } => {
            let losses: Vec<String> =
                losses.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
            println!(
                "{} images {:.0}s {images_per_second:.1}/s left {}m  {}",
                progress.images,
                progress.seconds,
                left.as_secs() / 60,
                losses.join("  ")
            );
        }
        Event::Measured { scores, .. } => println!("MEASURED {}", scores.line()),
        Event::Saved { .. } => {}
    })?;
    Ok(())
}
