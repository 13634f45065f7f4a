//! Sanity gates (Adebayo et al. 2018; evidence.md, F4): weights drawn anew, a blank picture and
//! another scene's picture must each destroy the maps of the shipped model.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use image::{Rgb, RgbImage};
use scenes::{Mix, Options, Qa, QaKind, Scene, SceneKind};
use vlm::Quantization;
use vlm::generate::Cancel;

use super::assertions::assertions;
use super::faithfulness::spearman;
use super::pointing::pointed;
use super::witness::{Said, Witness, WordMap, strongest};
use crate::ask::Model;
use crate::metric::SplitMix;

const N_SCENES: u64 = 16;
/// Nothing else uses these.
const FIRST_SEED: u64 = 12_950_000;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano")
}

/// Scenes with their list and its true answer.
fn asked() -> Vec<(Scene, Qa)> {
    let kinds = Mix::only(SceneKind::Several);
    let scene = |seed| scenes::scene(seed, &Options { kinds, ..Options::default() });
    let with_list = |scene: Scene| {
        let list = scenes::questions(&scene, scene.seed);
        Some((scene, list.into_iter().find(|qa| qa.kind == QaKind::List)?))
    };
    (FIRST_SEED..FIRST_SEED + N_SCENES).map(scene).filter_map(with_list).collect()
}

/// The true answer put into the model's mouth over some picture.
fn said(model: &Model, qa: &Qa, picture: &RgbImage) -> Said {
    let cancel = Cancel::new();
    let mut witness = Witness::new(model, &cancel);
    witness.retell(picture, (&qa.question, &qa.answer)).expect("an answer that is read")
}

/// How often words point into the boxes of `scene`, whatever was shown.
fn pointing(said: &Said, qa: &Qa, scene: &Scene) -> (usize, usize) {
    let of = assertions(qa, &qa.answer, scene);
    let pointed = of.iter().filter_map(|one| pointed(one, &said.answer.words, scene));
    pointed.fold((0, 0), |(hits, n), one| (hits + usize::from(one.hit), n + 1))
}

/// Over all scenes, each shown as `picture` says.
fn rate(model: &Model, all: &[(Scene, Qa)], picture: &dyn Fn(usize) -> RgbImage) -> f64 {
    let each = all
        .iter()
        .enumerate()
        .map(|(i, (scene, qa))| pointing(&said(model, qa, &picture(i)), qa, scene));
    let (hits, n) = each.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    hits as f64 / n.max(1) as f64
}

/// How often any place lies in the boxes.
fn chance(all: &[(Scene, Qa)]) -> f64 {
    let area = |(scene, _): &(Scene, Qa)| {
        let size = f64::from(scene.size() * scene.size());
        let of = |[x0, y0, x1, y1]: [u32; 4]| f64::from((x1 - x0) * (y1 - y0)) / size;
        let sum: f64 = scene.objects.iter().map(|object| of(object.bbox)).sum();
        sum / scene.objects.len().max(1) as f64
    };
    all.iter().map(area).sum::<f64>() / all.len().max(1) as f64
}

/// A copy of the model whose matrices have their values in a random order.
fn with_random_weights(dir: &Path) -> PathBuf {
    let to = std::env::temp_dir().join(format!("sightline-random-{}", std::process::id()));
    std::fs::create_dir_all(&to).expect("a folder");
    for entry in std::fs::read_dir(dir).expect("the model's folder").flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
    let path = to.join("model.safetensors");
    let mut random = SplitMix::new(7);
    let mut shuffled = HashMap::new();
    // In an order of their own, so that every run draws the same weights.
    let weights = candle_core::safetensors::load(&path, &Device::Cpu).expect("weights");
    for (name, tensor) in weights.into_iter().collect::<BTreeMap<_, _>>() {
        let tensor = if tensor.rank() < 2 { tensor } else { shuffle(&tensor, &mut random) };
        shuffled.insert(name, tensor);
    }
    candle_core::safetensors::save(&shuffled, &path).expect("weights written");
    to
}

fn shuffle(tensor: &Tensor, random: &mut SplitMix) -> Tensor {
    let mut work = || -> candle_core::Result<Tensor> {
        let flat = tensor.flatten_all()?.to_dtype(DType::F32)?;
        let mut values = flat.to_vec1::<f32>()?;
        for i in (1..values.len()).rev() {
            values.swap(i, random.below(i + 1));
        }
        Tensor::from_vec(values, tensor.shape(), &Device::Cpu)?.to_dtype(tensor.dtype())
    };
    work().expect("a tensor of the same shape")
}

#[test]
fn a_blank_or_another_picture_and_random_weights_destroy_the_maps() {
    let dir = shipped();
    if !dir.join("model.safetensors").exists() {
        println!("skipped: the shipped model is not in this checkout");
        return;
    }
    let model = Model::load(&dir, Quantization::None).expect("the shipped model");
    let all = asked();
    let right = rate(&model, &all, &|i| all[i].0.image.clone());
    let chance = chance(&all);
    assert!(right > 0.7 && right > chance + 0.4, "{right}, by chance {chance}");
    let size = all[0].0.size();
    let blank = rate(&model, &all, &|_| RgbImage::from_pixel(size, size, Rgb([128; 3])));
    assert!(blank < chance + 0.15, "of a blank picture {blank}, by chance {chance}");
    // The middle of another scene: the boxes of the first are by accident in the right place.
    let other = rate(&model, &all, &|i| all[(i + 1) % all.len()].0.image.clone());
    assert!(other < (chance + right) / 2.0, "of another picture {other}, by chance {chance}");

    let random_dir = with_random_weights(&dir);
    let random = Model::load(&random_dir, Quantization::None).expect("random weights");
    let _ = std::fs::remove_dir_all(&random_dir);
    let hits = rate(&random, &all, &|i| all[i].0.image.clone());
    // Things differ from what is behind them, so that any weights look at them more than elsewhere:
    // at some thing, not at the right one.
    assert!(hits < right / 2.0, "with random weights {hits}, with the model's own {right}");
    let agreement = agreement(&model, &random, &all);
    assert!(agreement < 0.2, "maps agree with those of random weights: {agreement}");
    println!("right {right}, chance {chance}, blank {blank}, other {other}");
    println!("random weights {hits}, agreement {agreement}");
}

/// Mean rank correlation of the maps of two models, where both have one.
fn agreement(one: &Model, other: &Model, all: &[(Scene, Qa)]) -> f64 {
    let mut found = Vec::new();
    for (scene, qa) in all {
        let [a, b] = [one, other].map(|model| said(model, qa, &scene.image));
        for of in assertions(qa, &qa.answer, scene) {
            let map = |said: &Said| {
                let word = strongest(&said.answer.words, &of.bytes)?;
                word.evidence.as_ref().map(WordMap::of)
            };
            if let (Some(a), Some(b)) = (map(&a), map(&b)) {
                let pairs = a.values.iter().zip(&b.values);
                let pairs: Vec<_> = pairs.map(|(a, b)| (f64::from(*a), f64::from(*b))).collect();
                found.extend(spearman(&pairs));
            }
        }
    }
    found.iter().sum::<f64>() / found.len().max(1) as f64
}
