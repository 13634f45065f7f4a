//! Writes a sheet of scenes, to look at what the generator makes:
//! `cargo run --release -p scenes --example contact_sheet -- OUT.png [KIND] [FIRST_SEED]`.

use std::time::Instant;

use image::{Rgb, RgbImage, imageops};
use scenes::{Mix, Options, Scene, SceneKind, collage, questions, scene};

const COLUMNS: u32 = 8;
const ROWS: u32 = 5;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let out = args.get(1).map_or("contact_sheet.png", String::as_str);
    let kind = args.get(2).map_or("all", String::as_str);
    let first: u64 = args.get(3).and_then(|s| s.parse().ok()).unwrap_or(0);
    let mut options = Options::default();
    options.kinds = match kind {
        "single" => Mix::only(SceneKind::Single),
        "several" => Mix::only(SceneKind::Several),
        "count" => Mix::only(SceneKind::Count),
        "dense" => Mix::only(SceneKind::Dense),
        "sign" => Mix::only(SceneKind::Sign),
        "document" => Mix::only(SceneKind::Document),
        "chart" => Mix::only(SceneKind::Chart),
        "strange" => Mix::only(SceneKind::Strange),
        _ => Mix::default(),
    };
    options.held_out_style = kind == "held-out";
    let make = |seed: u64| match kind {
        "collage" => collage(seed, options.size),
        _ => scene(seed, &options),
    };
    make(first);
    let step = options.size + 4;
    let mut sheet = RgbImage::from_pixel(COLUMNS * step, ROWS * step, Rgb([255; 3]));
    let start = Instant::now();
    let all: Vec<Scene> = (0..COLUMNS * ROWS).map(|i| make(first + u64::from(i))).collect();
    println!("{:.2} ms for each scene", start.elapsed().as_secs_f64() * 1e3 / all.len() as f64);
    for (i, scene) in all.iter().enumerate() {
        let mut picture = scene.image.clone();
        for object in &scene.objects {
            frame(&mut picture, object.bbox);
        }
        let (x, y) = (i as u32 % COLUMNS * step, i as u32 / COLUMNS * step);
        imageops::replace(&mut sheet, &picture, i64::from(x), i64::from(y));
    }
    for scene in all.iter().take(6) {
        println!("{:?} {}", scene.kind, scene.seed);
        for qa in questions(scene, 0) {
            let rests: Vec<&str> =
                qa.mentions.iter().map(|mention| &qa.answer[mention.span.clone()]).collect();
            println!("  {} {} -> {} {rests:?}", qa.kind.name(), qa.question, qa.answer);
        }
    }
    sheet.save(out).expect("the sheet can be written");
}

/// Draws the outline of a box.
fn frame(picture: &mut RgbImage, [x0, y0, x1, y1]: [u32; 4]) {
    for x in x0..x1 {
        picture.put_pixel(x, y0, Rgb([255, 0, 255]));
        picture.put_pixel(x, y1 - 1, Rgb([255, 0, 255]));
    }
    for y in y0..y1 {
        picture.put_pixel(x0, y, Rgb([255, 0, 255]));
        picture.put_pixel(x1 - 1, y, Rgb([255, 0, 255]));
    }
}
