//! COCO's annotations: captions, and boxes.
//!
//! A caption is an answer to [`DESCRIBE`]. Boxes of one class in one picture are one row: "Where
//! is the dog?" has as its answer `[x1, y1, x2, y2]`, or several of them with "; " between, in
//! thousandths of the picture's width and height, which is how Qwen-VL and others write boxes.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::row::{Message, Origin, Place, Role};
use crate::{Error, Picture};

use super::intake::{Draft, Fault, Intake};
use super::places::Places;
use super::record::DESCRIBE;
use super::scan::Piece;
use super::text;

#[derive(Deserialize)]
struct Image {
    id: i64,
    file_name: String,
    #[serde(default)]
    width: f64,
    #[serde(default)]
    height: f64,
}

#[derive(Deserialize)]
struct Category {
    id: i64,
    name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: i64,
    caption: Option<String>,
    category_id: Option<i64>,
    /// Left, top, width and height in pixels.
    bbox: Option<Vec<f64>>,
    #[serde(default)]
    iscrowd: i64,
}

/// All boxes of one class in one picture, with the line of the first.
struct Boxes {
    line: usize,
    answers: Vec<String>,
}

/// Reads one annotation file.
pub(crate) fn read(path: &Path, intake: &mut Intake) -> Result<(), Error> {
    let bytes = text::read(path)?;
    let members = Piece::whole(&bytes).members();
    let part = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, piece)| *piece);
    let file = Arc::new(path.to_path_buf());
    let mut coco = Coco { file, places: places(path, intake), images: HashMap::new() };
    for piece in part("images").into_iter().flat_map(Piece::elements) {
        match piece.parse::<Image>() {
            Ok(image) => _ = coco.images.insert(image.id, image),
            Err(reason) => intake.fault(coco.at(piece.line), reason.into()),
        }
    }
    let categories = part("categories").into_iter().flat_map(Piece::elements);
    let categories = categories.filter_map(|piece| piece.parse::<Category>().ok());
    let categories: HashMap<i64, String> = categories.map(|one| (one.id, one.name)).collect();

    let mut boxes: BTreeMap<(i64, i64), Boxes> = BTreeMap::new();
    let total = bytes.len() as u64;
    for piece in part("annotations").into_iter().flat_map(Piece::elements) {
        intake.job.step((piece.bytes.as_ptr() as usize - bytes.as_ptr() as usize) as u64, total)?;
        let line = piece.line;
        match piece.parse::<Annotation>() {
            Err(reason) => intake.fault(coco.at(line), reason.into()),
            Ok(Annotation { image_id, caption: Some(caption), .. }) => {
                let draft = coco.draft(image_id, DESCRIBE, caption);
                intake.take(coco.at(line), draft)?;
            }
            Ok(annotation) if annotation.iscrowd != 0 => {}
            Ok(annotation) => match coco.in_thousandths(&annotation) {
                Err(fault) => intake.fault(coco.at(line), fault),
                Ok((category, answer)) => {
                    let key = (annotation.image_id, category);
                    let found = boxes.entry(key).or_insert(Boxes { line, answers: Vec::new() });
                    found.answers.push(answer);
                }
            },
        }
    }
    for ((image, category), Boxes { line, answers }) in boxes {
        let draft = match categories.get(&category) {
            None => Err(format!("no category has the id {category}").into()),
            Some(name) => {
                let question = match answers.len() {
                    1 => format!("Where is the {name}?"),
                    _ => format!("Where is each {name}?"),
                };
                coco.draft(image, &question, answers.join("; "))
            }
        };
        intake.take(coco.at(line), draft)?;
    }
    Ok(())
}

/// Pictures of `instances_train2017.json` lie in `train2017`, beside the annotations or beside
/// their folder.
fn places(path: &Path, intake: &Intake) -> Places {
    let folder = path.parent().unwrap_or(Path::new(""));
    let side = path.file_stem().and_then(|stem| stem.to_str()?.rsplit('_').next());
    let side = side.unwrap_or_default();
    let near = [folder.join(side), folder.join("..").join(side), folder.join("../images")];
    let near: Vec<PathBuf> = near.into_iter().filter(|path| path.is_dir()).collect();
    let mut source = intake.source.clone();
    source.pictures = source.pictures.or_else(|| near.into_iter().next());
    Places::beside(path, &source)
}

struct Coco {
    file: Arc<PathBuf>,
    places: Places,
    images: HashMap<i64, Image>,
}

impl Coco {
    fn at(&self, line: usize) -> Origin {
        Origin::new(&self.file, Place::Line(line))
    }

    fn image(&self, id: i64) -> Result<&Image, Fault> {
        self.images.get(&id).ok_or_else(|| format!("no picture has the id {id}").into())
    }

    fn picture(&self, image: &Image) -> Result<Picture, Fault> {
        Ok(self.places.find(&image.file_name)?)
    }

    fn draft(&self, image: i64, question: &str, answer: String) -> Result<Draft, Fault> {
        let pictures = vec![self.picture(self.image(image)?)?];
        let messages =
            vec![Message::new(Role::User, question), Message::new(Role::Assistant, answer)];
        Ok(Draft { pictures, messages, ..Draft::default() })
    }

    /// A box with its category.
    fn in_thousandths(&self, annotation: &Annotation) -> Result<(i64, String), Fault> {
        let category = annotation.category_id.ok_or("it has neither a caption nor a category")?;
        let &[x, y, width, height] = annotation.bbox.as_deref().unwrap_or_default() else {
            return Err("its bbox is not four numbers".into());
        };
        let image = self.image(annotation.image_id)?;
        let mut size = (image.width, image.height);
        if !(size.0 > 0.0 && size.1 > 0.0) {
            let (width, height) = self.picture(image)?.size().ok_or("its picture has no size")?;
            size = (f64::from(width), f64::from(height));
        }
        if !(width > 0.0 && height > 0.0 && x.is_finite() && y.is_finite()) {
            return Err(format!("its box of {width} x {height} pixels is empty").into());
        }
        let to = |value: f64, all: f64| (value / all * 1000.0).round().clamp(0.0, 1000.0) as u32;
        let (left, top) = (to(x, size.0), to(y, size.1));
        let (right, bottom) = (to(x + width, size.0), to(y + height, size.1));
        if left == right || top == bottom {
            return Err("its box lies outside of the picture".into());
        }
        Ok((category, format!("[{left}, {top}, {right}, {bottom}]")))
    }
}
