//! The pictures of things: the committed atlases decoded once into premultiplied pixels with
//! half-size levels, and the shapes drawn once. It does not know where a sprite will stand.

use std::sync::OnceLock;

use serde::Deserialize;

use crate::class::{Theme, classes};
use crate::shape;

/// One size of a sprite: premultiplied RGBA and the share of each pixel that takes a tint.
pub(crate) struct Level {
    pub width: usize,
    pub height: usize,
    /// Red, green, blue (times alpha), alpha, and the part that takes a tint (times alpha).
    pub pixels: Vec<[u8; 5]>,
}

/// One rendering of one class.
pub(crate) struct Sprite {
    /// Largest first, each half the size of the one before.
    pub levels: Vec<Level>,
    /// Mean luminance (0..=255) of the part that takes a tint.
    pub tint_luminance: f32,
    /// Mean colour of what is opaque.
    pub mean: [f32; 3],
}

/// All renderings of one class.
pub(crate) struct Renderings {
    pub training: Vec<Sprite>,
    /// Of a style that no training scene shows.
    pub held_out: Vec<Sprite>,
}

/// The renderings of class `class`.
pub(crate) fn renderings(class: usize) -> &'static Renderings {
    static PACK: OnceLock<Vec<Renderings>> = OnceLock::new();
    &PACK.get_or_init(load)[class]
}

const ATLASES: [(&str, &[u8], &[u8]); 6] = [
    ("noto", include_bytes!("../assets/noto.webp"), include_bytes!("../assets/noto-tint.png")),
    (
        "twemoji",
        include_bytes!("../assets/twemoji.webp"),
        include_bytes!("../assets/twemoji-tint.png"),
    ),
    (
        "fluent",
        include_bytes!("../assets/fluent.webp"),
        include_bytes!("../assets/fluent-tint.png"),
    ),
    (
        "emojione",
        include_bytes!("../assets/emojione.webp"),
        include_bytes!("../assets/emojione-tint.png"),
    ),
    (
        "fluent-flat",
        include_bytes!("../assets/fluent-flat.webp"),
        include_bytes!("../assets/fluent-flat-tint.png"),
    ),
    (
        "noto-v1",
        include_bytes!("../assets/noto-v1.webp"),
        include_bytes!("../assets/noto-v1-tint.png"),
    ),
];

#[derive(Deserialize)]
struct Index {
    styles: Vec<Style>,
}

#[derive(Deserialize)]
struct Style {
    name: String,
    held_out: bool,
    /// class, x, y, width, height, mean luminance of the tinted part
    cells: Vec<(String, u32, u32, u32, u32, u32)>,
}

/// Decodes everything. The assets are compiled in and tested, so a failure is a broken build.
fn load() -> Vec<Renderings> {
    let index: Index = serde_json::from_str(include_str!("../assets/sprites.json"))
        .expect("sprites.json is part of the build");
    let mut all: Vec<Renderings> = classes()
        .iter()
        .map(|_| Renderings { training: Vec::new(), held_out: Vec::new() })
        .collect();
    for style in &index.styles {
        let sprites = load_style(style);
        for (class, sprite) in sprites {
            let slot = &mut all[class];
            let list = if style.held_out { &mut slot.held_out } else { &mut slot.training };
            list.push(sprite);
        }
    }
    for (class, slot) in classes().iter().zip(&mut all) {
        if class.theme == Theme::Shape {
            slot.training.push(shape_sprite(class.name));
        }
    }
    all
}

fn load_style(style: &Style) -> Vec<(usize, Sprite)> {
    let (_, picture, tint) = ATLASES
        .iter()
        .find(|(name, _, _)| *name == style.name)
        .expect("every style of sprites.json is compiled in");
    let picture = decode(picture).to_rgba8();
    let tint = decode(tint).to_luma8();
    let mut out = Vec::new();
    for (name, x, y, width, height, luminance) in &style.cells {
        let Some(class) = crate::class::class_named(name) else { continue };
        let mut pixels = Vec::with_capacity((width * height) as usize);
        for row in *y..y + height {
            for column in *x..x + width {
                let tint_share =
                    if classes()[class].tintable { tint.get_pixel(column, row).0[0] } else { 0 };
                pixels.push(premultiplied(picture.get_pixel(column, row).0, tint_share));
            }
        }
        let level = Level { width: *width as usize, height: *height as usize, pixels };
        out.push((class, Sprite::new(level, *luminance as f32)));
    }
    out
}

pub(crate) fn decode(bytes: &[u8]) -> image::DynamicImage {
    image::load_from_memory(bytes).expect("the atlases are part of the build")
}

fn premultiplied(rgba: [u8; 4], tint: u8) -> [u8; 5] {
    let alpha = u32::from(rgba[3]);
    let [r, g, b, t] =
        [rgba[0], rgba[1], rgba[2], tint].map(|v| ((u32::from(v) * alpha + 127) / 255) as u8);
    [r, g, b, rgba[3], t]
}

/// A shape is a white sprite that is tinted all over.
fn shape_sprite(name: &str) -> Sprite {
    const SIDE: usize = 128;
    stencil(&shape::coverage(name, SIDE), SIDE)
}

/// A sprite that is nothing but paint, from its coverage row by row.
pub(crate) fn stencil(coverage: &[u8], width: usize) -> Sprite {
    let pixels: Vec<[u8; 5]> = coverage.iter().map(|&cover| [cover; 5]).collect();
    Sprite::new(Level { width, height: pixels.len() / width, pixels }, 255.0)
}

impl Sprite {
    fn new(level: Level, tint_luminance: f32) -> Sprite {
        let mut sum = [0u64; 4];
        for p in &level.pixels {
            for (s, v) in sum.iter_mut().zip(p) {
                *s += u64::from(*v);
            }
        }
        let total = (sum[3] as f32 / 255.0).max(1e-3);
        let mean = [sum[0], sum[1], sum[2]].map(|s| s as f32 / total);
        let mut levels = vec![level];
        while levels.last().is_some_and(|l| l.width.min(l.height) > 12) {
            levels.push(halved(&levels[levels.len() - 1]));
        }
        Sprite { levels, tint_luminance: tint_luminance.max(1.0), mean }
    }

    /// Width and height of the sprite as shipped.
    pub fn size(&self) -> (f32, f32) {
        (self.levels[0].width as f32, self.levels[0].height as f32)
    }
}

/// Half the size, each pixel the mean of four.
fn halved(level: &Level) -> Level {
    let (width, height) = (level.width.div_ceil(2), level.height.div_ceil(2));
    let mut pixels = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let mut sum = [0u32; 5];
            for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                let (sx, sy) = (x * 2 + dx, y * 2 + dy);
                if sx < level.width && sy < level.height {
                    for (s, v) in sum.iter_mut().zip(&level.pixels[sy * level.width + sx]) {
                        *s += u32::from(*v);
                    }
                }
            }
            pixels.push(sum.map(|v| ((v + 2) / 4) as u8));
        }
    }
    Level { width, height, pixels }
}
