//! `cargo xtask`: everything a person or a machine does with this repository, each one word.
//!
//! It exists so that `./dev` stays a few lines of shell and Windows needs no shell at all.
//! It knows cargo, npm and the system's package manager; it does not know the product's crates.

mod bindings;
mod cargo_output;
mod display;
mod goldens;
mod licences;
mod packages;
mod process;
mod run;
mod suites;
mod tidy;
mod ui;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask run [FILE...]  install what is missing, build, open the window
cargo xtask test           install what is missing, run every test there is
cargo xtask tidy           the fast checks behind STYLE.md and ARCHITECTURE.md
cargo xtask bindings       write ui/src/backend/bindings.ts from app::api again
cargo xtask licences       write THIRD-PARTY.md again
cargo xtask goldens        make the parity fixtures again with the reference (Python)
cargo xtask ui             build ui/dist again (Node)";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let outcome = match command.as_str() {
        "run" => run::run(&rest),
        "test" => suites::test(),
        "tidy" => tidy::tidy(),
        "bindings" => bindings::write().map(|()| true),
        "licences" => licences::write().map(|()| true),
        "goldens" => goldens::make().map(|()| true),
        "ui" => ui::build().map(|()| true),
        "" | "help" | "-h" | "--help" => {
            println!("{USAGE}");
            Ok(true)
        }
        other => {
            eprintln!("xtask: there is no `{other}`.\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
