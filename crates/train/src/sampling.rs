//! Which scene a seed gives, and which of its questions are asked.
//!
//! Everything follows from the stage and the seed, so a resumed run sees the same samples. It
//! does not know tokens.

use scenes::{Damage, Qa, Scene};

use crate::grounding::Grid;
use crate::parameters::Random;
use crate::recipe::Stage;

/// The least that a damaged picture is, of what is measured with.
const LEAST_DAMAGE: f64 = 0.25;

/// The scene of a seed under a stage's mixture; the picture of some is made worse.
pub(crate) fn scene(stage: &Stage, seed: u64, image_size: u32) -> Scene {
    let mut random = Random::new(seed ^ 0x5ce_e5);
    let mut scene = if random.uniform() < stage.collages {
        scenes::collage(seed, image_size)
    } else {
        let kinds = stage.scenes.map_or_else(scenes::Mix::default, scenes::Mix::from);
        scenes::scene(seed, &scenes::Options { size: image_size, kinds, ..Default::default() })
    };
    if random.uniform() < stage.damaged {
        let damage = Damage::ALL[(random.uniform() * Damage::ALL.len() as f64) as usize];
        let strength = LEAST_DAMAGE + (1.0 - LEAST_DAMAGE) * random.uniform();
        scene.image = damage.done_to(&scene.image, strength as f32, seed);
    }
    scene
}

/// What the words of a row may see of their picture.
#[derive(Default)]
pub(crate) struct View {
    /// Image tokens that they do not see; empty: they see all.
    pub(crate) hidden: Vec<bool>,
    /// What is true of the rest, where it is not the scene itself.
    pub(crate) scene: Option<Scene>,
}

/// How much of a thing may lie under the tokens of another that is hidden with them.
const SPARED: f32 = 0.25;

/// How a row's words see a scene: whole, without one of its things, or not at all.
pub(crate) fn view(stage: &Stage, scene: &Scene, seed: u64, tokens: Grid) -> View {
    let mut random = Random::new(seed ^ 0x0b5_c0ed);
    let draw = random.uniform();
    if draw < stage.blind {
        return View { hidden: vec![true; tokens.len()], scene: None };
    }
    if draw >= stage.blind + stage.covered || scene.objects.len() < 2 {
        return View::default();
    }
    let away = (random.uniform() * scene.objects.len() as f64) as usize;
    let hidden: Vec<bool> =
        tokens.cover(&scene.objects[away].bbox).iter().map(|&cover| cover > 0.1).collect();
    let is_spared = |(i, object): (usize, &scenes::Object)| {
        let cover = tokens.cover(&object.bbox);
        let lost = cover.iter().zip(&hidden).filter(|(_, hidden)| **hidden).map(|(c, _)| c);
        i == away || lost.sum::<f32>() <= SPARED * cover.iter().sum::<f32>()
    };
    match scene.objects.iter().enumerate().all(is_spared) {
        true => View { hidden, scene: Some(scene.without(away)) },
        false => View::default(),
    }
}

/// The questions asked about a scene: branches, each a conversation of one or more turns.
pub(crate) fn branches(stage: &Stage, scene: &Scene, seed: u64) -> Vec<Vec<Qa>> {
    let mut random = Random::new(seed ^ 0xb2a_2c4);
    let asked = choose(stage, scenes::questions(scene, seed), &mut random);
    if random.uniform() < stage.multi_turn {
        return vec![asked];
    }
    asked.into_iter().map(|qa| vec![qa]).collect()
}

/// A weighted draw without repetition: each question gets the key `u^(1/weight)`, the largest
/// keys win (Efraimidis and Spirakis).
fn choose(stage: &Stage, questions: Vec<Qa>, random: &mut Random) -> Vec<Qa> {
    let mut keyed: Vec<(f64, Qa)> = Vec::new();
    for qa in questions {
        let weight = stage.kinds.get(qa.kind.name()).copied().unwrap_or(1.0);
        let key = random.uniform().max(1e-12).ln() / weight.max(1e-9);
        let known = keyed.iter().any(|(_, other)| other.question == qa.question);
        if weight > 0.0 && !known {
            keyed.push((key, qa));
        }
    }
    keyed.sort_by(|a, b| b.0.total_cmp(&a.0));
    keyed.truncate(stage.questions);
    keyed.into_iter().map(|(_, qa)| qa).collect()
}
