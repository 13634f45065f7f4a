//! What simpler readings of the same model reach on the same kind of scenes: the mean attention of
//! all middle heads, the lens alone, the sum of attention on the picture.
//!
//! Own versions: SVAR (arXiv 2411.16724) sums attention on the picture over middle layers, TAM
//! (arXiv 2506.23270) reads the lens, here without its suppression of other words, which hurt in a
//! replication (evidence.md, finding 3); internal confidence (arXiv 2410.02762) is the lens's
//! peak. It does not know what is compared with them.

use scenes::Scene;
use vlm::explain::{Calibration, EvidenceHeads, WORD_FEATURES, Word};
use vlm::generate::Features;

use super::assertions::{Assertion, Kind, assertions};
use super::detection::Stratum;
use super::forced::forced;
use super::localisation::Map;
use super::look::asked;
use super::witness::{Witness, touches};
use crate::Error;
use crate::ask::Model;
use crate::metric::SplitMix;

/// What was found in one scene.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compared {
    /// Of each rightly named thing, whether the mean attention and the lens point into its box.
    pub points: Vec<Points>,
    pub judged: Vec<Suspected>,
}

/// Where simple maps point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Points {
    pub attention: bool,
    pub lens: bool,
}

/// How wrong simple scores find a named thing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suspected {
    pub wrong: bool,
    pub stratum: Stratum,
    /// Less attention on the picture.
    pub attention: f64,
    /// Less of the word in the picture.
    pub lens: f64,
}

/// All heads of the middle layers, and the lens that the model's calibration reads.
pub(crate) fn calibration(model: &Model) -> Calibration {
    let heads = EvidenceHeads::untrained(&model.vlm.config);
    let lens_layer = model.calibration.lens_layer.or(Some(0));
    Calibration { lens_layer, ..Calibration::from(heads) }
}

/// Asks and compares, with a witness that reads as [`calibration`] says.
///
/// Errors: the engine's; `Error::Cancelled`.
pub(crate) fn compare(witness: &mut Witness, scene: &Scene) -> Result<Compared, Error> {
    let mut random = SplitMix::new(scene.seed ^ 0xE71D);
    let mut found = Compared::default();
    for qa in asked(scene, &mut random) {
        let own = witness.answer(&scene.image, &qa.question, false)?.text;
        let put_in = forced(&qa, scene, &mut random);
        for text in [Some(own), put_in].into_iter().flatten() {
            let features = witness.features(&scene.image, (&qa.question, &text))?;
            let things = assertions(&qa, &text, scene).into_iter();
            for thing in things.filter(|one| one.kind == Kind::Object) {
                judge(&features, &thing, scene, &mut found);
            }
        }
    }
    Ok(found)
}

fn judge(features: &Features, thing: &Assertion, scene: &Scene, found: &mut Compared) {
    let word = features.words.iter().find(|word| touches(&word.word.bytes, &thing.bytes));
    let Some(word) = word else { return };
    let of = |name| WORD_FEATURES.iter().position(|feature| *feature == name);
    let feature = |name| of(name).and_then(|idx| word.features.get(idx).copied());
    let (Some(mass), Some(lens)) = (feature("mass"), feature("lens_peak")) else { return };
    found.judged.push(Suspected {
        wrong: !thing.holds,
        stratum: Stratum::new(word.word.tokens.0, thing.repeated, thing.word_class()),
        attention: f64::from(-mass),
        lens: f64::from(-lens),
    });
    if !thing.holds {
        return;
    }
    let boxes: Vec<[f32; 4]> = scene
        .objects
        .iter()
        .filter(|object| Some(object.class) == thing.class)
        .map(|object| object.bbox.map(|v| v as f32))
        .collect();
    let cells: Vec<[f32; 4]> =
        features.cells.iter().map(|cell| cell.bbox.unwrap_or_default()).collect();
    let [attention, lens] = simple_maps(features, &word.word).map(|values| {
        let map = Map { cells: &cells, values: &values };
        boxes.iter().any(|bbox| map.points_into(*bbox, 0.0))
    });
    found.points.push(Points { attention, lens });
}

/// The mean attention over the heads, and the lens, of a word's first token.
fn simple_maps(features: &Features, word: &Word) -> [Vec<f32>; 2] {
    let rows = (0..features.cells.len()).map(|cell| features.patch(word.tokens.0, cell));
    let rows: Vec<&[f32]> = rows.map(Option::unwrap_or_default).collect();
    // `n` heads twice, the lens, and two numbers that are the same for all patches.
    let n = |row: &&[f32]| row.len().saturating_sub(3) / 2;
    let attention = |row: &&[f32]| row[..n(row)].iter().map(|log| log.exp()).sum::<f32>();
    let lens = |row: &&[f32]| row.get(2 * n(row)).copied().unwrap_or(0.0);
    [rows.iter().map(attention).collect(), rows.iter().map(lens).collect()]
}
