//! `sightline`: the application in a terminal. Arguments in, one function of `app` or a library
//! called, text or JSON out. What fails is one line on stderr and a hint; exit code 2 for a
//! command that was typed wrongly, 1 for everything else.
mod ask;
mod bench;
mod classify;
mod data;
mod draw;
mod drawn;
mod inspect;
mod measure;
mod models;
mod output;
mod problem;
mod training;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use problem::Problem;

// Training frees and takes the same large buffers again at every step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Ask pictures questions, and see what the answers rest on.
#[derive(Parser)]
#[command(name = "sightline", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Ask(ask::Ask),
    Classify(classify::Classify),
    /// Look inside a model.
    #[command(subcommand)]
    Inspect(Inspect),
    Scenes(drawn::Scenes),
    /// Measure a model.
    #[command(subcommand)]
    Eval(Eval),
    Train(training::Train),
    /// Look at training data, mend it, and write it in another format.
    #[command(subcommand)]
    Data(data::Data),
    Bench(bench::Bench),
    Models(models::Models),
}

#[derive(Subcommand)]
enum Inspect {
    Forward(inspect::Forward),
}

#[derive(Subcommand)]
enum Eval {
    Nano(measure::Nano),
    Evidence(measure::Evidence),
    Calibrate(measure::Calibrate),
    Parity(measure::Parity),
    FineTuning(measure::FineTuning),
    Quantization(measure::Quantization),
    Sight(measure::Sight),
    Speed(bench::Speed),
}

fn main() -> ExitCode {
    vlm::claim_cores();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return problem::usage(&error),
    };
    let done = |()| ExitCode::SUCCESS;
    let result: Result<ExitCode, Problem> = match arguments.command {
        Command::Ask(ask) => ask.run().map(done),
        Command::Classify(classify) => classify.run().map(done),
        Command::Inspect(Inspect::Forward(forward)) => forward.run().map(done),
        Command::Scenes(scenes) => scenes.run().map(done),
        Command::Eval(Eval::Nano(nano)) => nano.run().map(done),
        Command::Eval(Eval::Evidence(evidence)) => evidence.run().map(done),
        Command::Eval(Eval::Calibrate(calibrate)) => calibrate.run().map(done),
        Command::Eval(Eval::Parity(parity)) => parity.run().map(done),
        Command::Eval(Eval::FineTuning(fine_tuning)) => fine_tuning.run().map(done),
        Command::Eval(Eval::Quantization(quantization)) => quantization.run().map(done),
        Command::Eval(Eval::Sight(sight)) => sight.run().map(done),
        Command::Eval(Eval::Speed(speed)) => speed.run().map(done),
        Command::Train(train) => train.start(),
        Command::Data(data) => data.run().map(done),
        Command::Bench(bench) => bench.run().map(done),
        Command::Models(models) => models.run().map(done),
    };
    result.unwrap_or_else(|problem| problem.report())
}
