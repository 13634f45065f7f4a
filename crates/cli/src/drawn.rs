//! `sightline scenes`: pictures of the drawn world with everything true about them.
use std::path::PathBuf;

use scenes::Options;

use crate::problem::Problem;

/// Draw scenes and write each as scene-<seed>.png with its truth as scene-<seed>.json.
#[derive(clap::Args)]
pub struct Scenes {
    /// The first seed; the others follow it.
    #[arg(long)]
    seed: u64,
    /// How many.
    #[arg(long)]
    count: u64,
    /// The folder to write to; made when it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Scenes {
    pub fn run(self) -> Result<(), Problem> {
        let end = self.seed.checked_add(self.count).ok_or_else(|| {
            Problem::usage("the seeds go beyond the greatest number", "Choose a smaller seed.")
        })?;
        let made = std::fs::create_dir_all(&self.out);
        made.map_err(|error| crate::output::unwritable(&self.out, &error))?;
        for seed in self.seed..end {
            let scene = scenes::scene(seed, &Options::default());
            let mut png = std::io::Cursor::new(Vec::new());
            let drawn = scene.image.write_to(&mut png, image::ImageFormat::Png);
            drawn.map_err(|error| Problem::new(format!("scene {seed}: {error}"), ""))?;
            let truth = serde_json::to_vec_pretty(&scene.truth());
            let truth =
                truth.map_err(|error| Problem::new(format!("scene {seed}: {error}"), ""))?;
            let file = |ending: &str| self.out.join(format!("scene-{seed}.{ending}"));
            crate::output::write(&file("png"), png.get_ref())?;
            crate::output::write(&file("json"), &truth)?;
        }
        let noun = if self.count == 1 { "scene" } else { "scenes" };
        crate::ask::print(&format!("{} {noun} in {}\n", self.count, self.out.display()))
    }
}
