//! `sightline bench`: speeds beside the peers'.
use crate::problem::Problem;

/// Measure how fast models run here.
#[derive(clap::Args)]
pub struct Bench {
    /// Do one order, given as JSON, and print what was found: what this program tells itself.
    #[arg(long, hide = true)]
    worker: Option<String>,
    #[arg(long, default_value = "smolvlm-500m")]
    shape: String,
    #[arg(long, default_value = "q8_0")]
    quantization: String,
}

impl Bench {
    pub fn run(self) -> Result<(), Problem> {
        let cache = std::path::PathBuf::from(std::env::var("HOME").unwrap_or_default())
            .join(".cache/sightline");
        let shape = ::bench::checkpoint::ModelShape::ALL
            .into_iter()
            .find(|s| s.name() == self.shape)
            .expect("shape");
        let made =
            ::bench::checkpoint::Checkpoint::open_or_make(shape, &app::shipped_model()?, &cache)
                .expect("made");
        use ::bench::work::Work::*;
        let order = ::bench::work::Order {
            one_tile: made.folder(::bench::checkpoint::Cut::OneTile).into(),
            tiles: made.folder(::bench::checkpoint::Cut::Tiles).into(),
            quantization: self.quantization.parse()?,
            cache,
            work: vec![
                Load,
                Encode,
                Prefill512,
                Prefill1100,
                Decode,
                DecodeCaptured,
                FirstTokenTile,
                Memory,
            ],
            repeats: 3,
        };
        println!("{:?}", ::bench::machine::Machine::measure());
        ::bench::work::work(&order, &mut |s| {
            println!("{:?} {:?} {:?} {:?}", s.work, s.seconds, s.tokens, s.peak_mib)
        })
        .expect("work");
        Ok(())
    }
}
