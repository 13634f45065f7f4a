//! Everything true about a scene as JSON: what `sightline scenes` writes beside each picture.

use serde::Serialize;

use crate::place::{Place, placed};
use crate::question::{Qa, questions};
use crate::relation::{Relation, relations};
use crate::scene::{Object, Panel, Scene, SceneKind, TextItem};

/// The truth about one scene. Boxes are x0, y0, x1, y1 in pixels, the last two exclusive;
/// masks are runs over their box, row by row, the first run outside the object.
#[derive(Debug, Serialize)]
pub struct Truth<'a> {
    pub seed: u64,
    pub kind: SceneKind,
    pub width: u32,
    pub height: u32,
    pub objects: Vec<ObjectTruth<'a>>,
    /// How many of each class are there.
    pub counts: Vec<ClassCount>,
    /// Every clear relation: subject, relation, other, as positions in `objects`.
    pub relations: Vec<(usize, Relation, usize)>,
    pub texts: &'a [TextItem],
    pub panels: &'a [Panel],
    pub questions: Vec<Qa>,
}

/// One object with what follows from its box.
#[derive(Debug, Serialize)]
pub struct ObjectTruth<'a> {
    #[serde(flatten)]
    pub object: &'a Object,
    /// "red car"
    pub phrase: String,
    /// Row and column of nine; none near a border.
    pub place: Option<Place>,
}

/// A class with its number.
#[derive(Debug, PartialEq, Serialize)]
pub struct ClassCount {
    pub name: String,
    pub count: usize,
}

impl Scene {
    /// Everything true about the scene.
    pub fn truth(&self) -> Truth<'_> {
        let mut counts: Vec<ClassCount> = Vec::new();
        for object in &self.objects {
            match counts.iter_mut().find(|entry| entry.name == object.name) {
                Some(entry) => entry.count += 1,
                None => counts.push(ClassCount { name: object.name.clone(), count: 1 }),
            }
        }
        let objects = self.objects.iter().map(|object| ObjectTruth {
            object,
            phrase: object.phrase(),
            place: placed(object, self.size()),
        });
        Truth {
            seed: self.seed,
            kind: self.kind,
            width: self.image.width(),
            height: self.image.height(),
            objects: objects.collect(),
            counts,
            relations: relations(self),
            texts: &self.texts,
            panels: &self.panels,
            questions: questions(self, 0),
        }
    }
}
