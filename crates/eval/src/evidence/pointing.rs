//! Whether the words of things look at the things: what Tier 0 shows, against the boxes.
//!
//! Only words that are true of the picture are judged: a word of something that is not there has
//! no right place. It does not know how the evidence came about.

use std::ops::Range;

use scenes::{Scene, is_held_out};
use vlm::explain::{Evidence, Word, is_content_word};
use vlm::generate::Answer;

use super::assertions::{Assertion, Kind};
use super::localisation::{iou, oracle_iou};
use super::witness::{WordMap, strongest};

/// A thing is judged by its box where the box is this many cells wide and high.
const LEAST_CELLS: f32 = 2.0;

/// How the word of one thing did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pointed {
    /// The peak lies in a box of the class.
    pub hit: bool,
    /// The same with half a cell of tolerance.
    pub nearly: bool,
    /// IoU with its box, where there is one that is large enough.
    pub iou: Option<f32>,
    /// IoU of the map at Otsu's threshold over the best that the grid allows.
    pub outline: Option<f32>,
    /// The peak lies in no other thing's box.
    pub alone: Option<bool>,
    /// The maps of such things were kept out of training.
    pub held_out: bool,
    /// Whether the middle of the picture lies in the box, and how often any place does.
    pub centre: bool,
    pub anywhere: f64,
}

/// How the word of a thing that is there looks at it; None for other assertions.
pub(crate) fn pointed(assertion: &Assertion, words: &[Word], scene: &Scene) -> Option<Pointed> {
    if assertion.kind != Kind::Object || !assertion.holds {
        return None;
    }
    let first = scene.objects.iter().position(|o| Some(o.class) == assertion.class)?;
    let boxes = |same: bool| {
        let objects = scene.objects.iter();
        let of = objects.filter(move |o| (o.class == scene.objects[first].class) == same);
        of.map(|object| object.bbox.map(|v| v as f32))
    };
    let own: Vec<[f32; 4]> = boxes(true).collect();
    let evidence = strongest(words, &assertion.bytes).and_then(|word| word.evidence.as_ref());
    let inside = |bbox: &[f32; 4], at: (f32, f32)| contains(*bbox, at);
    let hit = evidence.is_some_and(|e| own.iter().any(|bbox| inside(bbox, e.peak)));
    let map = evidence.map(WordMap::of);
    let nearly = map
        .as_ref()
        .is_some_and(|map| hit || own.iter().any(|bbox| map.map().points_into(*bbox, 0.5)));
    let (width, height) = scene.image.dimensions();
    let centre = (width as f32 / 2.0, height as f32 / 2.0);
    let area = |[x0, y0, x1, y1]: &[f32; 4]| f64::from((x1 - x0) * (y1 - y0));
    let others: Vec<[f32; 4]> = boxes(false).collect();
    let object = &scene.objects[first];
    Some(Pointed {
        hit,
        nearly,
        iou: assertion.object.and_then(|_| boxed(own[0], evidence)),
        outline: assertion.object.and(map.as_ref()).and_then(|map| {
            let ceiling = oracle_iou(&map.cells, own[0]).max(f32::MIN_POSITIVE);
            Some(map.map().iou_at_otsu(own[0])? / ceiling)
        }),
        alone: evidence
            .filter(|_| !others.is_empty())
            .map(|evidence| hit && !others.iter().any(|bbox| inside(bbox, evidence.peak))),
        held_out: is_held_out(object.class, object.colour),
        centre: own.iter().any(|bbox| inside(bbox, centre)),
        anywhere: own.iter().map(area).sum::<f64>() / f64::from(width * height),
    })
}

/// IoU with a box that is large enough to be judged; 0 where the word has no region.
fn boxed(bbox: [f32; 4], evidence: Option<&Evidence>) -> Option<f32> {
    let Some(evidence) = evidence else { return Some(0.0) };
    let [x0, y0, x1, y1] = evidence.heatmap.cell_box(0, 0);
    let large = |length: f32, cell: f32| length >= LEAST_CELLS * cell;
    let judged = large(bbox[2] - bbox[0], x1 - x0) && large(bbox[3] - bbox[1], y1 - y0);
    judged.then(|| iou(evidence.bbox, bbox))
}

/// Words that carry nothing by themselves: how many there are, and how many have no region.
pub(crate) fn function_words(answer: &Answer) -> (usize, usize) {
    let mut count = (0, 0);
    for word in answer.words.iter().filter(|word| !is_content_word(&word.text)) {
        let tokens: Range<usize> = word.tokens.0..word.tokens.1 + 1;
        let shows = answer.steps[tokens].iter().any(|step| step.evidence.is_some());
        count = (count.0 + 1, count.1 + usize::from(!shows));
    }
    count
}

fn contains([x0, y0, x1, y1]: [f32; 4], (x, y): (f32, f32)) -> bool {
    x >= x0 && x < x1 && y >= y0 && y < y1
}
