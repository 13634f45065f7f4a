//! Where things are, as the model's grids see them: boxes to patches and to image tokens, and
//! the names in a question to the objects they name.
//!
//! It does not know tensors; it gives plain weights.

use std::ops::Range;

use scenes::{Colour, Object, Scene, TextRole, class_names};
use vlm::model::region_encoder::pooling_weights;

/// A square grid of cells over a square picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    /// Cells on a side.
    pub(crate) side: usize,
    /// Pixels on a side of one cell.
    pub(crate) cell: f32,
}

impl Grid {
    pub(crate) fn new(image_size: usize, side: usize) -> Self {
        Self { side, cell: image_size as f32 / side as f32 }
    }

    pub(crate) fn len(&self) -> usize {
        self.side * self.side
    }

    /// Part of each cell that the box covers, row by row.
    pub(crate) fn cover(&self, bbox: &[u32; 4]) -> Vec<f32> {
        let part = |i: usize, low: u32, high: u32| {
            let start = i as f32 * self.cell;
            let (low, high) = (start.max(low as f32), (start + self.cell).min(high as f32));
            (high - low).max(0.0) / self.cell
        };
        let [x0, y0, x1, y1] = *bbox;
        let cell = |i: usize| part(i % self.side, x0, x1) * part(i / self.side, y0, y1);
        (0..self.len()).map(cell).collect()
    }

    /// What each cell counts in the mean under an object's box, adding up to 1.
    pub(crate) fn pooling(&self, object: &Object) -> Vec<f32> {
        let size = self.side as f32 * self.cell;
        pooling_weights(object.bbox.map(|v| v as f32), self.side, size)
    }

    /// Cells that count as inside a box: those whose centre it holds, else those it covers most.
    pub(crate) fn inside(&self, bbox: &[u32; 4]) -> Vec<bool> {
        let centred: Vec<bool> = (0..self.len()).map(|i| self.centre_in(i, bbox)).collect();
        if centred.contains(&true) {
            return centred;
        }
        let cover = self.cover(bbox);
        let most = cover.iter().copied().fold(0.0, f32::max);
        cover.iter().map(|&part| part > 0.0 && part >= 0.75 * most).collect()
    }

    /// Whether the centre of cell `i` lies in the box.
    pub(crate) fn centre_in(&self, i: usize, bbox: &[u32; 4]) -> bool {
        let centre = |k: usize| (k as f32 + 0.5) * self.cell;
        let (x, y) = (centre(i % self.side), centre(i / self.side));
        let [x0, y0, x1, y1] = bbox.map(|v| v as f32);
        x >= x0 && x < x1 && y >= y0 && y < y1
    }

    /// Cells inside any of the boxes.
    pub(crate) fn inside_any(&self, boxes: &[[u32; 4]]) -> Vec<bool> {
        let mut any = vec![false; self.len()];
        for bbox in boxes {
            for (cell, inside) in any.iter_mut().zip(self.inside(bbox)) {
                *cell |= inside;
            }
        }
        any
    }

    /// Part of each cell that the boxes cover, each box for itself.
    pub(crate) fn covers(&self, boxes: &[[u32; 4]]) -> Vec<f32> {
        let mut sums = vec![0f32; self.len()];
        for bbox in boxes {
            sums.iter_mut().zip(self.cover(bbox)).for_each(|(sum, part)| *sum += part);
        }
        sums
    }

    /// For each cell, the object that covers more than half of it; later objects lie on top.
    pub(crate) fn owners(&self, objects: &[Object]) -> Vec<Option<usize>> {
        let mut owners = vec![None; self.len()];
        for (index, object) in objects.iter().enumerate() {
            for (owner, cover) in owners.iter_mut().zip(self.cover(&object.bbox)) {
                if cover > 0.5 {
                    *owner = Some(index);
                }
            }
        }
        owners
    }
}

/// A name found in a question.
#[derive(Debug, PartialEq)]
pub(crate) struct Named {
    /// Bytes of the question.
    pub(crate) span: Range<usize>,
    pub(crate) class: usize,
    pub(crate) colour: Option<Colour>,
}

impl Named {
    /// Boxes of the scene's objects that answer to the name.
    pub(crate) fn boxes(&self, scene: &Scene) -> Vec<[u32; 4]> {
        let fits = |o: &&Object| {
            o.class == self.class && (self.colour.is_none() || o.colour == self.colour)
        };
        scene.objects.iter().filter(fits).map(|o| o.bbox).collect()
    }
}

/// Every class name in a text, singular or plural, longest first at each place.
pub(crate) fn names_in(text: &str) -> Vec<Named> {
    let named = |(class, span): (usize, Range<usize>)| {
        let colour = colour_before(text, span.start);
        Named { span, class, colour }
    };
    class_names(text).into_iter().map(named).collect()
}

/// The labels of lines and bars in a question, each with the box of where it is printed.
pub(crate) fn printed_in(question: &str, scene: &Scene) -> Vec<(Range<usize>, Vec<[u32; 4]>)> {
    let labels = scene.texts.iter().filter(|text| text.role == TextRole::Label);
    let is_whole = |span: &Range<usize>| {
        let letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        !letter(question[..span.start].chars().next_back())
            && !letter(question[span.end..].chars().next())
    };
    let found = labels.flat_map(|label| {
        let spans = question.match_indices(&label.text);
        let spans = spans.map(|(at, word)| at..at + word.len()).filter(is_whole);
        spans.map(|span| (span, vec![label.bbox])).collect::<Vec<_>>()
    });
    found.collect()
}

fn colour_before(text: &str, at: usize) -> Option<Colour> {
    let word = text[..at].trim_end().rsplit(' ').next()?;
    Colour::ALL.into_iter().find(|c| c.name() == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_become_cells() {
        let grid = Grid::new(192, 6);
        assert_eq!(grid.cover(&[0, 0, 48, 32])[..3], [1.0, 0.5, 0.0]);
        let inside = grid.inside(&[0, 0, 50, 40]);
        assert_eq!(inside.iter().filter(|&&c| c).count(), 2);
        let small = grid.inside(&[60, 60, 70, 70]);
        assert!(small[2 * 6 + 2] && !small[6 + 1], "the most covered cell stands in");
    }

    #[test]
    fn names_are_found_whole_and_with_their_colour() {
        let check = |text: &str, expected: &[(&str, Option<Colour>)]| {
            let found: Vec<_> =
                names_in(text).iter().map(|n| (&text[n.span.clone()], n.colour)).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("Is there a dog in the picture?", &[("dog", None)]);
        check("How many buses are there?", &[("buses", None)]);
        check("Is the red car left of the cat?", &[("car", Some(Colour::Red)), ("cat", None)]);
        check("Where is the light bulb?", &[("light bulb", None)]);
        check("What is scary?", &[]);
    }

    #[test]
    fn labels_are_found_where_they_are_printed() {
        let kinds = scenes::Mix::only(scenes::SceneKind::Document);
        let scene = scenes::scene(3, &scenes::Options { kinds, ..Default::default() });
        let label = scene.texts.iter().find(|text| text.role == TextRole::Label).expect("a label");
        let question = format!("How much is the {}?", label.text);
        let start = question.len() - 1 - label.text.len();
        let expected = vec![(start..question.len() - 1, vec![label.bbox])];
        assert_eq!(printed_in(&question, &scene), expected);
        assert!(printed_in(&format!("How much is the {}s?", label.text), &scene).is_empty());
    }
}
