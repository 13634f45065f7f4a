//! Rows of token sequences and pictures as tensors.
//!
//! It knows shapes and masks, no losses. `N` pictures = rows, `T` longest row, `G` image tokens.

use candle_core::{D, Device, Tensor};
use scenes::Scene;

use crate::Error;
use crate::dialogue::{Row, Side};
use crate::grounding::Grid;
use crate::models::Words;

/// Added to the score of a key that must not be seen; the engine gives it exactly no weight.
const MASKED: f32 = -1e30;

/// What the decoder reads and what it should say.
pub(crate) struct Batch {
    /// `(N, T)`, padded.
    pub(crate) input_ids: Tensor,
    /// `(N, T)`
    pub(crate) positions: Tensor,
    /// `(N, 1, T, T)`, 0 or [`MASKED`]: opening and own branch, causally.
    pub(crate) mask: Tensor,
    /// `(M,)` flat indices into `N × T` of the rows that predict.
    pub(crate) rows: Tensor,
    /// `(M,)` the tokens they are to predict.
    pub(crate) targets: Tensor,
    /// `(N, R)` rows that are taught where to look: of each picture those of its grounds, in
    /// order, and zeros after them; `None` without any.
    pub(crate) looking: Option<Tensor>,
}

impl Batch {
    /// Collates rows; `pad` fills the ends.
    pub(crate) fn new(rows: &[Row], pad: u32) -> Result<Self, Error> {
        let (n, t) = (rows.len(), rows.iter().map(|r| r.ids.len()).max().unwrap_or(0));
        let mut input_ids = vec![pad; n * t];
        let mut positions = vec![0u32; n * t];
        let mut mask = vec![MASKED; n * t * t];
        let (mut predicting, mut targets) = (Vec::new(), Vec::new());
        for (i, row) in rows.iter().enumerate() {
            let length = row.ids.len();
            input_ids[i * t..i * t + length].copy_from_slice(&row.ids);
            positions[i * t..i * t + length].copy_from_slice(&row.positions);
            let mask = &mut mask[i * t * t..(i + 1) * t * t];
            allow(mask, &row.segments, t);
            hide(mask, row, t);
            for &(at, token) in &row.supervised {
                predicting.push((i * t + at) as u32);
                targets.push(token);
            }
        }
        let cpu = &Device::Cpu;
        let n_looking = n_looking(rows);
        let mut looking = vec![0u32; n * n_looking];
        for (line, row) in looking.chunks_mut(n_looking.max(1)).zip(rows) {
            let grounds = row.grounds.iter().map(|ground| ground.row as u32);
            line.iter_mut().zip(grounds).for_each(|(cell, at)| *cell = at);
        }
        let looking = match n_looking {
            0 => None,
            _ => Some(Tensor::from_vec(looking, (n, n_looking), cpu)?),
        };
        Ok(Self {
            looking,
            input_ids: Tensor::from_vec(input_ids, (n, t), cpu)?,
            positions: Tensor::from_vec(positions, (n, t), cpu)?,
            mask: Tensor::from_vec(mask, (n, 1, t, t), cpu)?,
            rows: Tensor::new(predicting, cpu)?,
            targets: Tensor::new(targets, cpu)?,
        })
    }
}

/// Most grounds of one row.
fn n_looking(rows: &[Row]) -> usize {
    rows.iter().map(|row| row.grounds.len()).max().unwrap_or(0)
}

/// Opens the mask where a row may look; padded rows see the first token only, so that no row of
/// the softmax is empty.
fn allow(mask: &mut [f32], segments: &[u32], t: usize) {
    for row in 0..t {
        let line = &mut mask[row * t..(row + 1) * t];
        let Some(&own) = segments.get(row) else {
            line[0] = 0.0;
            continue;
        };
        for (cell, &segment) in line.iter_mut().zip(&segments[..=row]) {
            if segment == 0 || segment == own {
                *cell = 0.0;
            }
        }
    }
}

/// Closes the mask of every row after the picture where it must not look: in a chat those rows
/// are what is read anew when image tokens are taken away.
fn hide(mask: &mut [f32], row: &Row, t: usize) {
    for at in row.after_picture..row.ids.len() {
        row.hidden.iter().for_each(|&column| mask[at * t + column] = MASKED);
    }
}

/// Attention rows with the columns they should rest on.
pub(crate) struct Gaze {
    /// `(R,)` flat indices into the rows of [`Batch::looking`].
    pub(crate) rows: Tensor,
    /// `(R, T)`, 1 at the columns that count.
    pub(crate) columns: Tensor,
    /// `(R, T)`, each row adding up to 1: how much of its image token the boxes cover.
    pub(crate) outline: Tensor,
    /// `(R,)`, adding up to 1.
    pub(crate) weights: Tensor,
}

impl Gaze {
    /// The rows of one side; `None` when there are none.
    pub(crate) fn new(
        rows: &[Row],
        side: Side,
        grid: Grid,
        first_image_token: usize,
    ) -> Result<Option<Self>, Error> {
        let t = rows.iter().map(|r| r.ids.len()).max().unwrap_or(0);
        let (mut flat, mut columns, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        let (mut outline, n_looking) = (Vec::new(), n_looking(rows));
        for (i, row) in rows.iter().enumerate() {
            for (k, ground) in row.grounds.iter().enumerate().filter(|(_, g)| g.side == side) {
                flat.push((i * n_looking + k) as u32);
                weights.push(ground.weight);
                let start = columns.len();
                columns.resize(start + t, 0f32);
                outline.resize(start + t, 0f32);
                if ground.boxes.is_empty() {
                    columns[start] = 1.0;
                    outline[start] = 1.0;
                }
                let covers = grid.covers(&ground.boxes);
                let total = covers.iter().sum::<f32>().max(1e-6);
                for (cell, cover) in covers.into_iter().enumerate() {
                    outline[start + first_image_token + cell] += cover / total;
                }
                for (cell, inside) in grid.inside_any(&ground.boxes).into_iter().enumerate() {
                    columns[start + first_image_token + cell] += f32::from(u8::from(inside));
                }
            }
        }
        if flat.is_empty() {
            return Ok(None);
        }
        let (n, total) = (flat.len(), weights.iter().sum::<f32>());
        weights.iter_mut().for_each(|w| *w /= total);
        let cpu = &Device::Cpu;
        Ok(Some(Self {
            rows: Tensor::new(flat, cpu)?,
            columns: Tensor::from_vec(columns, (n, t), cpu)?,
            outline: Tensor::from_vec(outline, (n, t), cpu)?,
            weights: Tensor::new(weights, cpu)?,
        }))
    }
}

/// Keeps the logarithm of an attention weight finite.
const FLOOR: f64 = 1e-5;

impl Gaze {
    /// `-log` of the attention mass on the columns that count: `rows (R, T)` → `(R,)`. Content
    /// with any place inside a box.
    pub(crate) fn on_boxes(&self, rows: &Tensor) -> candle_core::Result<Tensor> {
        ((rows * &self.columns)?.sum(D::Minus1)? + FLOOR)?.log()?.neg()
    }

    /// Cross-entropy of the attention against the outline: `rows (R, T)` → `(R,)`. Content only
    /// with the whole of the boxes.
    pub(crate) fn as_covered(&self, rows: &Tensor) -> candle_core::Result<Tensor> {
        ((rows + FLOOR)?.log()? * &self.outline)?.sum(D::Minus1)?.neg()
    }
}

/// Image tokens and the word that each is to say: `(K,)` flat indices into `N × G` and `(K,)`
/// tokens. A list is `None` when it would be empty.
pub(crate) struct Lens {
    /// First token of the name of the object that a token lies on.
    pub(crate) names: Option<(Tensor, Tensor)>,
    /// The same for the colour, where it is known.
    pub(crate) colours: Option<(Tensor, Tensor)>,
    /// The letters that are printed on a token, each of them once.
    pub(crate) letters: Option<(Tensor, Tensor)>,
}

impl Lens {
    pub(crate) fn new(scenes: &[Scene], grid: Grid, words: &Words) -> Result<Self, Error> {
        let (mut names, mut colours, mut letters) = (Vec::new(), Vec::new(), Vec::new());
        for (i, scene) in scenes.iter().enumerate() {
            let flat = |cell: usize| (i * grid.len() + cell) as u32;
            for (cell, owner) in grid.owners(&scene.objects).into_iter().enumerate() {
                let Some(object) = owner.map(|o| &scene.objects[o]) else { continue };
                if scenes::is_held_out(object.class, object.colour) {
                    continue;
                }
                names.push((flat(cell), words.names[object.class]));
                let colour = object.colour.and_then(|colour| words.colours.get(&colour));
                colours.extend(colour.map(|&word| (flat(cell), word)));
            }
            for text in &scene.texts {
                for (k, letter) in text.letters.iter().enumerate() {
                    let Some(&word) = words.letters.get(&letter.letter) else { continue };
                    let inside = grid.inside(&text.part(k..k + 1)).into_iter().enumerate();
                    let inside = inside.filter(|(_, inside)| *inside);
                    letters.extend(inside.map(|(cell, _)| (flat(cell), word)));
                }
            }
        }
        let list = |pairs: Vec<(u32, u32)>| -> Result<Option<(Tensor, Tensor)>, Error> {
            let (rows, words): (Vec<u32>, Vec<u32>) = pairs.into_iter().unzip();
            let cpu = &Device::Cpu;
            let list = (Tensor::new(rows.as_slice(), cpu)?, Tensor::new(words, cpu)?);
            Ok((!rows.is_empty()).then_some(list))
        };
        Ok(Self { names: list(names)?, colours: list(colours)?, letters: list(letters)? })
    }
}

/// The pictures of some scenes, as the processor gives them: `(N, 3, S, S)` in `[-1, 1]`.
pub(crate) fn pixel_values(scenes: &[Scene]) -> Result<Tensor, Error> {
    let side = scenes.first().map_or(0, |s| s.image.width() as usize);
    let mut values = Vec::with_capacity(scenes.len() * 3 * side * side);
    for scene in scenes {
        let raw = scene.image.as_raw();
        for channel in 0..3 {
            let plane = raw.iter().skip(channel).step_by(3);
            values.extend(plane.map(|&v| f32::from(v) / 255.0 * 2.0 - 1.0));
        }
    }
    Ok(Tensor::from_vec(values, (scenes.len(), 3, side, side), &Device::Cpu)?)
}
