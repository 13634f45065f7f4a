//! VQA v2: a file of questions and a file of annotations, joined by `question_id`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::row::{Origin, Place};
use crate::{Error, Picture};

use super::intake::{Draft, Fault, Intake};
use super::keys::Keys;
use super::places::Places;
use super::scan::Piece;
use super::{record, text};

#[derive(Deserialize)]
struct Question {
    question_id: i64,
    image_id: i64,
    question: String,
    /// The picture's name, where somebody wrote one down.
    image: Option<String>,
}

/// What an annotation answers: `multiple_choice_answer`, else the most common of `answers`.
type Answer = Map<String, Value>;

/// Reads a pair of files, given either.
pub(crate) fn read(path: &Path, intake: &mut Intake) -> Result<(), Error> {
    let (questions_path, annotations_path) = pair(path)?;
    let annotations = text::read(&annotations_path)?;
    let annotations_file = Arc::new(annotations_path);
    let mut answers: HashMap<i64, Answer> = HashMap::new();
    for piece in part(&annotations, "annotations") {
        match piece.parse::<Answer>() {
            Ok(answer) => {
                let id = answer.get("question_id").and_then(Value::as_i64);
                _ = id.map(|id| answers.insert(id, answer));
            }
            Err(reason) => {
                let origin = Origin::new(&annotations_file, Place::Line(piece.line));
                intake.fault(origin, reason.into());
            }
        }
    }
    let bytes = text::read(&questions_path)?;
    let set = Set { side: subtype(&bytes), places: places(&questions_path, &bytes, intake) };
    let file = Arc::new(questions_path);
    let total = bytes.len() as u64;
    for piece in part(&bytes, "questions") {
        intake.job.step((piece.bytes.as_ptr() as usize - bytes.as_ptr() as usize) as u64, total)?;
        let question = piece.parse::<Question>().map_err(Fault::Malformed);
        let draft = question.and_then(|question| {
            let answer = answers.remove(&question.question_id);
            set.draft(question, answer)
        });
        intake.take(Origin::new(&file, Place::Line(piece.line)), draft)?;
    }
    for id in answers.into_keys().take(1) {
        let origin = Origin::new(&annotations_file, Place::Whole);
        let message = format!("answers without a question, such as that of question {id}");
        intake.fault(origin, Fault::Skipped(message));
    }
    Ok(())
}

/// Whether a file of the pair is the one with the questions.
pub(crate) fn is_questions(path: &Path) -> bool {
    text::read(path).is_ok_and(|bytes| has(&bytes, "questions"))
}

fn has(bytes: &[u8], name: &str) -> bool {
    Piece::whole(bytes).members().iter().any(|(key, _)| key == name)
}

fn part<'a>(bytes: &'a [u8], name: &str) -> impl Iterator<Item = Piece<'a>> + use<'a> {
    let members = Piece::whole(bytes).members().into_iter();
    let pieces: Vec<Piece> = members.filter(|(key, _)| key == name).map(|(_, p)| p).collect();
    pieces.into_iter().flat_map(Piece::elements)
}

/// "train2014", as the file says.
fn subtype(bytes: &[u8]) -> String {
    let members = Piece::whole(bytes).members().into_iter();
    let found = members.filter(|(key, _)| key == "data_subtype").find_map(|(_, p)| p.parse().ok());
    found.unwrap_or_default()
}

/// (questions, annotations): the other file lies beside the one that was chosen, and shares the
/// longest stretch of name at its end where there are several.
fn pair(path: &Path) -> Result<(PathBuf, PathBuf), Error> {
    let bytes = text::read(path)?;
    let (mine, other) = if has(&bytes, "questions") {
        ("questions", "annotations")
    } else {
        ("annotations", "questions")
    };
    if has(&bytes, other) {
        return Ok((path.to_path_buf(), path.to_path_buf()));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let entries = std::fs::read_dir(folder).map_err(Error::read(folder))?;
    let siblings = entries.flatten().map(|entry| entry.path());
    let is_json = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "json");
    let fits = |sibling: &PathBuf| {
        sibling != path && text::read(sibling).is_ok_and(|bytes| has(&bytes, other))
    };
    let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let bare = name(path).replace(mine, "");
    let alike = |sibling: &PathBuf| {
        let theirs = name(sibling).replace(other, "");
        theirs.chars().rev().zip(bare.chars().rev()).take_while(|(a, b)| a == b).count()
    };
    let mut candidates: Vec<PathBuf> = siblings.filter(is_json).collect();
    candidates.sort_by_key(|sibling| (std::cmp::Reverse(alike(sibling)), sibling.clone()));
    let partner = candidates.into_iter().find(fits);
    let partner = partner.ok_or(Error::Partner { path: path.to_path_buf(), wanted: other })?;
    let path = path.to_path_buf();
    Ok(if mine == "questions" { (path, partner) } else { (partner, path) })
}

/// Beside the questions, or in a folder called by the subtype.
fn places(path: &Path, bytes: &[u8], intake: &Intake) -> Places {
    let folder = path.parent().unwrap_or(Path::new("")).join(subtype(bytes));
    let mut source = intake.source.clone();
    source.pictures = source.pictures.or_else(|| folder.is_dir().then_some(folder));
    Places::beside(path, &source)
}

struct Set {
    side: String,
    places: Places,
}

impl Set {
    fn draft(&self, question: Question, answer: Option<Answer>) -> Result<Draft, Fault> {
        let picture = match &question.image {
            Some(name) => self.places.find(name)?,
            None => self.picture(question.image_id)?,
        };
        let mut record = answer.unwrap_or_default();
        record.insert("question".into(), question.question.into());
        record.insert("question_id".into(), question.question_id.into());
        record::read(&record, &Keys::any(), vec![picture], &self.places)
    }

    /// `COCO_train2014_000000458752.jpg`, or the number alone.
    fn picture(&self, id: i64) -> Result<Picture, Fault> {
        let long = format!("COCO_{}_{id:012}.jpg", self.side);
        let names =
            [long.clone(), format!("{id:012}.jpg"), format!("{id}.jpg"), format!("{id}.png")];
        for name in names {
            let picture = self.places.find(&name)?;
            if picture.exists() {
                return Ok(picture);
            }
        }
        Ok(self.places.find(&long)?)
    }
}
