//! The laws of the drawn world: a seed means the same everywhere, the truth is true of the
//! pixels, and every answer follows from it.

use std::time::Instant;

use image::RgbImage;
use scenes::{
    Colour, Existence, Grammar, Mix, Options, Qa, QaKind, Scene, SceneKind, Theme, classes,
    collage, questions, scene,
};

const KINDS: [SceneKind; 8] = [
    SceneKind::Single,
    SceneKind::Several,
    SceneKind::Count,
    SceneKind::Dense,
    SceneKind::Sign,
    SceneKind::Document,
    SceneKind::Chart,
    SceneKind::Strange,
];

fn scenes_of(kind: SceneKind, n: u64) -> Vec<Scene> {
    let options = Options { kinds: Mix::only(kind), ..Options::default() };
    (0..n).map(|seed| scene(seed, &options)).collect()
}

/// FNV-1a, so that the fingerprint depends on nothing but the bytes.
fn fingerprint(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn a_seed_means_the_same_for_ever() {
    let mut found = Vec::new();
    for kind in KINDS {
        let mut bytes = Vec::new();
        for scene in scenes_of(kind, 4) {
            bytes.extend_from_slice(scene.image.as_raw());
            bytes.extend(serde_json::to_vec(&scene.truth()).unwrap());
        }
        found.push(fingerprint(bytes));
    }
    found.push(fingerprint(collage(7, 192).image.into_raw()));
    assert_eq!(found, GOLDEN, "a change here changes every scene that was ever measured");
}

const GOLDEN: [u64; 9] = [
    10790810527274132259,
    17440441300677864482,
    11557211774230256774,
    1315515976422764068,
    911625563346255856,
    4120763363835838536,
    471082138293521005,
    601235884061064663,
    13741419900613747989,
];

#[test]
fn the_world_has_enough_things_and_speaks_of_them_rightly() {
    assert!(classes().len() >= 64, "{}", classes().len());
    let rows = [
        ("apple", Some("red"), "a red apple"),
        ("apple", None, "an apple"),
        ("umbrella", Some("orange"), "an orange umbrella"),
        ("bread", None, "bread"),
        ("scissors", None, "scissors"),
        ("dog", None, "a dog"),
    ];
    for (name, adjective, expected) in rows {
        let class = &classes()[scenes::class_named(name).unwrap()];
        assert_eq!(class.with_article(adjective), expected);
    }
    for (i, class) in classes().iter().enumerate() {
        assert_eq!(scenes::class_named(class.name), Some(i), "{} is named twice", class.name);
        let same = class.plural == class.name;
        assert!(same || class.grammar == Grammar::Count, "{}", class.name);
    }
}

#[test]
fn boxes_hold_their_masks_and_things_stay_visible() {
    for kind in [SceneKind::Single, SceneKind::Several, SceneKind::Count, SceneKind::Dense] {
        for scene in scenes_of(kind, 60) {
            assert!(!scene.objects.is_empty(), "{kind:?} {}", scene.seed);
            for object in &scene.objects {
                let [x0, y0, x1, y1] = object.bbox;
                assert!(x0 < x1 && y0 < y1 && x1 <= 192 && y1 <= 192, "{kind:?} {}", scene.seed);
                assert_eq!(object.mask.origin, (x0, y0));
                assert_eq!(object.mask.size, (x1 - x0, y1 - y0));
                assert!((x0..x1).any(|x| object.mask.contains(x, y0)), "the box is tight");
                assert!((y0..y1).any(|y| object.mask.contains(x1 - 1, y)), "the box is tight");
            }
            for i in 0..scene.objects.len() {
                for j in 0..i {
                    let shared = scene.objects[i].mask.area() + scene.objects[j].mask.area();
                    assert!(shared > 0 && disjoint(&scene, i, j));
                }
            }
        }
    }
}

fn disjoint(scene: &Scene, i: usize, j: usize) -> bool {
    let (a, b) = (&scene.objects[i], &scene.objects[j]);
    let [x0, y0, x1, y1] = a.bbox;
    !(y0..y1).any(|y| (x0..x1).any(|x| a.mask.contains(x, y) && b.mask.contains(x, y)))
}

#[test]
fn little_of_a_thing_is_hidden() {
    let (mut hidden, mut n) = (0, 0);
    for scene in scenes_of(SceneKind::Several, 80) {
        for i in 0..scene.objects.len() {
            let mut alone = scene.clone();
            for j in (0..scene.objects.len()).rev().filter(|&j| j != i) {
                alone = alone.without(j);
            }
            let (seen, whole) = (scene.objects[i].mask.area(), alone.objects[0].mask.area());
            hidden += usize::from((seen as f32) < 0.85 * whole as f32);
            n += 1;
        }
    }
    assert_eq!(hidden, 0, "of {n}");
}

#[test]
fn taking_a_thing_away_changes_nothing_else() {
    for kind in [SceneKind::Several, SceneKind::Sign] {
        for scene in scenes_of(kind, 20).iter().filter(|scene| !scene.objects.is_empty()) {
            let less = scene.without(0);
            assert_eq!(less.objects.len() + 1, scene.objects.len());
            assert_eq!(less.texts, scene.texts);
            only_near(&scene.image, &less.image, scene.objects[0].bbox);
            assert_ne!(scene.image, less.image);
            assert_eq!(scene.without(99).image, scene.image);
        }
    }
}

#[test]
fn a_thing_can_be_repainted() {
    let mut repainted = 0;
    for scene in scenes_of(SceneKind::Several, 40) {
        for (i, object) in scene.objects.iter().enumerate() {
            let other = if object.colour == Some(Colour::Red) { Colour::Blue } else { Colour::Red };
            let changed = scene.recoloured(i, other);
            only_near(&scene.image, &changed.image, object.bbox);
            assert_eq!(changed.objects[i].bbox, object.bbox);
            match object.colour {
                Some(_) => {
                    repainted += 1;
                    assert_eq!(changed.objects[i].colour, Some(other));
                    assert_ne!(changed.image, scene.image);
                }
                None => assert_eq!(changed.image, scene.image, "a {} has its own", object.name),
            }
        }
    }
    assert!(repainted > 10);
}

/// Two pictures agree but for a box and what is around it of the thing: pixels that it covers
/// by less than half, such as a balloon's thin string.
fn only_near(a: &RgbImage, b: &RgbImage, [x0, y0, x1, y1]: [u32; 4]) {
    for (x, y, pixel) in a.enumerate_pixels() {
        let near = x + 16 >= x0 && x < x1 + 16 && y + 16 >= y0 && y < y1 + 16;
        assert!(near || pixel == b.get_pixel(x, y), "({x}, {y}) changed");
    }
}

#[test]
fn answers_follow_from_the_truth() {
    let mut asked = 0;
    for kind in KINDS {
        for scene in scenes_of(kind, 60) {
            for qa in questions(&scene, scene.seed * 31) {
                asked += 1;
                mentions_are_sound(&scene, &qa);
                answer_is_right(&scene, &qa);
            }
        }
    }
    assert!(asked > 3000, "{asked}");
}

fn mentions_are_sound(scene: &Scene, qa: &Qa) {
    for mention in &qa.mentions {
        assert!(qa.answer.get(mention.span.clone()).is_some_and(|s| !s.is_empty()), "{qa:?}");
        let [x0, y0, x1, y1] = mention.bbox;
        assert!(x0 < x1 && y0 < y1 && x1 <= scene.size() && y1 <= scene.size(), "{qa:?}");
    }
    let nothing = ["No.", "0", scenes::UNSEEN, scenes::STRANGE];
    assert_eq!(qa.mentions.is_empty(), nothing.contains(&qa.answer.as_str()), "{qa:?}");
}

fn answer_is_right(scene: &Scene, qa: &Qa) {
    let lower = qa.answer.to_lowercase();
    match qa.kind {
        QaKind::Count => assert_eq!(qa.answer, qa.mentions.len().to_string(), "{qa:?}"),
        QaKind::Exists(how) => {
            let here = scene.objects.iter().any(|o| named(&qa.question, &o.name));
            assert_eq!(how == Existence::Present, here, "{qa:?}");
            assert_eq!(qa.answer == "Yes.", here, "{qa:?}");
        }
        QaKind::What | QaKind::At | QaKind::RelationOf => {
            let object = scene.objects.iter().find(|o| o.bbox == qa.mentions[0].bbox);
            assert_eq!(lower, format!("{}.", object.unwrap().with_article()), "{qa:?}");
        }
        QaKind::Colour if scene.texts.is_empty() => {
            let object = scene.objects.iter().find(|o| o.bbox == qa.mentions[0].bbox).unwrap();
            assert_eq!(lower, format!("{}.", object.colour.unwrap().name()), "{qa:?}");
        }
        QaKind::Read => {
            let words: Vec<&str> = scene.texts.iter().map(|text| text.text.as_str()).collect();
            assert_eq!(qa.answer, words.join(" "));
        }
        _ => {}
    }
}

/// Whether the question is about this name as a whole word.
fn named(question: &str, name: &str) -> bool {
    let padded = format!(" {} ", question.trim_end_matches('?'));
    padded.contains(&format!(" {name} "))
}

#[test]
fn every_yes_comes_with_a_no() {
    for kind in KINDS {
        for scene in scenes_of(kind, 40) {
            let mut balance = std::collections::BTreeMap::<&str, i32>::new();
            for qa in questions(&scene, 5) {
                let step = match qa.answer.as_str() {
                    "Yes." => 1,
                    "No." => -1,
                    _ => 0,
                };
                *balance.entry(qa.kind.name()).or_default() += step;
            }
            assert!(balance.values().all(|&v| v == 0), "{kind:?} {}: {balance:?}", scene.seed);
        }
    }
}

#[test]
fn the_held_out_style_is_another_one() {
    let training = Options { kinds: Mix::only(SceneKind::Single), ..Options::default() };
    let held_out = Options { held_out_style: true, ..training.clone() };
    let mut differ = 0;
    for seed in 0..30 {
        let (a, b) = (scene(seed, &training), scene(seed, &held_out));
        let shape = classes()[b.objects[0].class].theme == Theme::Shape;
        differ += u32::from(!shape && a.image != b.image);
    }
    assert!(differ > 15, "{differ}");
}

#[test]
fn sizes_that_make_no_sense_do_no_harm() {
    for size in [0, 1, 33, 64, 500] {
        for kind in KINDS {
            let options = Options { size, kinds: Mix::only(kind), ..Options::default() };
            let scene = scene(3, &options);
            assert_eq!(scene.image.width(), size.clamp(32, 2048));
            questions(&scene, 1);
        }
    }
}

#[test]
fn scenes_are_made_fast() {
    collage(0, 192);
    scenes_of(SceneKind::Sign, 1);
    let start = Instant::now();
    let n = 200;
    for seed in 0..n {
        questions(&scene(seed, &Options::default()), seed);
    }
    let each = start.elapsed().as_secs_f64() * 1e3 / n as f64;
    println!("{each:.2} ms for a scene with its questions");
    assert!(each < 50.0, "{each:.2} ms");
}
