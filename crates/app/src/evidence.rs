//! What can be done with the evidence of an answer: checking its claims, covering, hiding,
//! searching, the raw numbers, and the report. Works on the engine's thread with a model and an
//! answer; knows no chats, no windows and no files.

mod check;
mod numbers;
mod phrase;
mod report;
mod search;
mod strike;
mod subject;
mod trial;

pub(crate) use check::{Counted, Worth, check};
pub(crate) use numbers::{expert, raw_map};
pub(crate) use report::{Facts, PictureFacts, html, json};
pub(crate) use search::search;
pub(crate) use subject::Subject;
pub(crate) use trial::{OnTrial, cover, spot, test, without};
