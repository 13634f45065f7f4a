//! Parity with transformers: on tiny random checkpoints of every supported combination, our
//! prompt, token ids, pixel values, activations and greedy answers equal the reference's.
//!
//! The fixtures are made by `tests/parity/make.py` with the versions in
//! `tests/parity/requirements.txt`, those of photos by `photos.py` and those of chat templates by
//! `templates.py` beside it; nothing here needs Python.

mod fixture;
mod inputs;
mod outputs;
mod photos;
mod real_settings;
mod second_oracle;
mod stories;
mod templates;
mod towers;
