//! Makes the shipped model's tokenizer again from what the drawn world can say:
//! `cargo run --release -p train --example tokenizer -- models/nano/tokenizer.json`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = std::env::args().nth(1).ok_or("name the file to write")?;
    train::build_nano_tokenizer(std::path::Path::new(&out))?;
    Ok(())
}
