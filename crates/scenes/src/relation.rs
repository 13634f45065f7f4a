//! Left, right, above, below: between things that stand clearly so.

use crate::class::classes;
use crate::question::{Answer, Qa, QaKind, unique, yes_no};
use crate::rng::Rng;
use crate::scene::{Object, Scene};

/// How one thing stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    LeftOf,
    RightOf,
    Above,
    Below,
}

impl Relation {
    /// Between two things: clear where the middles are apart mostly along one direction.
    pub fn between(a: &Object, b: &Object, size: u32) -> Option<Relation> {
        let ((ax, ay), (bx, by)) = (a.centre(size), b.centre(size));
        let (dx, dy) = (ax - bx, ay - by);
        if dx.abs() > 1.3 * dy.abs() && dx.abs() > 0.12 {
            Some(if dx < 0.0 { Relation::LeftOf } else { Relation::RightOf })
        } else if dy.abs() > 1.3 * dx.abs() && dy.abs() > 0.12 {
            Some(if dy < 0.0 { Relation::Above } else { Relation::Below })
        } else {
            None
        }
    }

    /// The opposite direction.
    pub fn inverse(self) -> Relation {
        match self {
            Relation::LeftOf => Relation::RightOf,
            Relation::RightOf => Relation::LeftOf,
            Relation::Above => Relation::Below,
            Relation::Below => Relation::Above,
        }
    }

    /// "left of", "above".
    pub fn words(self) -> &'static str {
        match self {
            Relation::LeftOf => "left of",
            Relation::RightOf => "right of",
            Relation::Above => "above",
            Relation::Below => "below",
        }
    }

    fn answer(self) -> &'static str {
        match self {
            Relation::LeftOf => "to the left",
            Relation::RightOf => "to the right",
            Relation::Above => "above",
            Relation::Below => "below",
        }
    }
}

/// Every clear relation of a scene: which object, how, to which other.
pub fn relations(scene: &Scene) -> Vec<(usize, Relation, usize)> {
    let mut out = Vec::new();
    for (i, a) in scene.objects.iter().enumerate() {
        for (j, b) in scene.objects.iter().enumerate() {
            if i != j
                && let Some(relation) = Relation::between(a, b, scene.size())
            {
                out.push((i, relation, j));
            }
        }
    }
    out
}

pub(crate) fn ask(scene: &Scene, rng: &mut Rng, out: &mut Vec<Qa>) {
    let mut things = unique(scene);
    rng.shuffle(&mut things);
    let mut pairs = Vec::new();
    for a in &things {
        for b in &things {
            if a.class != b.class
                && let Some(relation) = Relation::between(a, b, scene.size())
            {
                pairs.push((*a, relation, *b));
            }
        }
    }
    let Some(&(a, relation, b)) = pairs.first() else { return };
    let verb = classes()[a.class].verb();
    let question = format!("Where {verb} the {} relative to the {}?", a.name, b.name);
    let mut answer = Answer::default();
    answer.rest(relation.answer(), a.bbox);
    out.push(answer.sentence(QaKind::Relation, question));
    let start = if verb == "is" { "Is" } else { "Are" };
    for (said, truth) in [(relation, true), (relation.inverse(), false)] {
        let question = format!("{start} the {} {} the {}?", a.name, said.words(), b.name);
        let yes_on = [a.bbox];
        out.push(yes_no(QaKind::RelationCheck, question, truth.then_some(&yes_on[..])));
    }
    let alone = pairs.iter().find(|(a, relation, b)| stands_alone(scene, a, *relation, b));
    if let Some((a, relation, b)) = alone {
        let question = format!("What is {} the {}?", relation.words(), b.name);
        out.push(Answer::default().thing(a).sentence(QaKind::RelationOf, question));
    }
}

/// Whether `a` is the only thing that could be meant by "`relation` the b".
fn stands_alone(scene: &Scene, a: &Object, relation: Relation, b: &Object) -> bool {
    let (bx, by) = b.centre(scene.size());
    scene.objects.iter().all(|other| {
        let (x, y) = other.centre(scene.size());
        let beyond = match relation {
            Relation::LeftOf => x < bx,
            Relation::RightOf => x > bx,
            Relation::Above => y < by,
            Relation::Below => y > by,
        };
        !beyond || other.bbox == a.bbox || other.bbox == b.bbox
    })
}
