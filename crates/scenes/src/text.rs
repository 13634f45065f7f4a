//! Letters: every glyph of every font is a small stencil from a committed sheet, so that text
//! looks the same everywhere. It knows advances only; there is no kerning.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::canvas::{Canvas, Pose};
use crate::scene::Letter;
use crate::sprite::{Sprite, decode, stencil};

/// One line of text in a plan.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub text: String,
    pub font: usize,
    /// Size of the em, pixels.
    pub em: f32,
    /// Left end of the base line.
    pub x: f32,
    pub y: f32,
    pub paint: [f32; 3],
}

/// A word that was drawn.
pub(crate) struct Word {
    pub letters: Vec<Letter>,
    /// Around its ink.
    pub bbox: [u32; 4],
}

/// How many fonts there are.
pub(crate) const N_FONTS: usize = 6;

#[derive(Deserialize)]
struct Index {
    em: f32,
    /// font, letter, x, y, width, height, left bearing, top above the base line, advance
    cells: Vec<(usize, char, u32, u32, u32, u32, f32, f32, f32)>,
}

struct Glyph {
    sprite: Sprite,
    left: f32,
    top: f32,
    advance: f32,
}

struct Fonts {
    em: f32,
    glyphs: HashMap<(usize, char), Glyph>,
}

fn fonts() -> &'static Fonts {
    static FONTS: OnceLock<Fonts> = OnceLock::new();
    FONTS.get_or_init(|| {
        let index: Index = serde_json::from_str(include_str!("../assets/glyphs.json"))
            .expect("glyphs.json is part of the build");
        let sheet = decode(include_bytes!("../assets/glyphs.png")).to_luma8();
        let mut glyphs = HashMap::new();
        for (font, letter, x, y, width, height, left, top, advance) in index.cells {
            let mut cover = Vec::with_capacity((width * height) as usize);
            for row in y..y + height {
                cover.extend((x..x + width).map(|column| sheet.get_pixel(column, row).0[0]));
            }
            let sprite = stencil(&cover, width as usize);
            glyphs.insert((font, letter), Glyph { sprite, left, top, advance });
        }
        Fonts { em: index.em, glyphs }
    })
}

/// Width of a text in pixels.
pub(crate) fn width(text: &str, font: usize, em: f32) -> f32 {
    let fonts = fonts();
    text.chars().map(|letter| advance(fonts, font, letter)).sum::<f32>() * em / fonts.em
}

fn advance(fonts: &Fonts, font: usize, letter: char) -> f32 {
    fonts.glyphs.get(&(font, letter)).map_or(fonts.em * 0.3, |glyph| glyph.advance)
}

impl Line {
    /// Draws the line; letters the fonts lack stay blank. Gives its words.
    pub fn draw(&self, canvas: &mut Canvas) -> Vec<Word> {
        let fonts = fonts();
        let scale = self.em / fonts.em;
        let mut words = Vec::new();
        let mut x = self.x;
        let mut word: Vec<Letter> = Vec::new();
        let mut ink = EMPTY;
        for letter in self.text.chars().chain([' ']) {
            if let Some(glyph) = fonts.glyphs.get(&(self.font, letter)) {
                let (width, height) = glyph.sprite.size();
                let (left, top) = (x + glyph.left * scale, self.y + glyph.top * scale);
                let (right, bottom) = (left + width * scale, top + height * scale);
                let pose = Pose {
                    x: (left + right) / 2.0,
                    y: (top + bottom) / 2.0,
                    scale,
                    turn: (1.0, 0.0),
                    flip: false,
                };
                canvas.draw(&glyph.sprite, &pose, Some(self.paint), 0);
                ink = around(ink, [left, top, right, bottom]);
                word.push(Letter { letter, x: pose.x, y: self.y - self.em * 0.35 });
            } else if !word.is_empty() {
                let letters = std::mem::take(&mut word);
                words.push(Word { letters, bbox: pixels(ink, canvas.side) });
                ink = EMPTY;
            }
            x += advance(fonts, self.font, letter) * scale;
        }
        words
    }
}

const EMPTY: [f32; 4] = [1e9, 1e9, -1e9, -1e9];

fn around(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
    [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]
}

/// The whole pixels around a box, inside the picture.
fn pixels(b: [f32; 4], side: usize) -> [u32; 4] {
    let whole = |v: f32| (v.max(0.0) as u32).min(side as u32);
    [whole(b[0]), whole(b[1]), whole(b[2] + 1.0), whole(b[3] + 1.0)]
}

#[cfg(test)]
mod tests {
    use crate::{Mix, Options, SceneKind, scene};

    #[test]
    fn letters_share_the_box_of_their_word() {
        for seed in 0..20 {
            let kinds = Mix::only(SceneKind::Sign);
            for text in &scene(seed, &Options { kinds, ..Options::default() }).texts {
                let n = text.letters.len();
                assert_eq!(text.part(0..n), text.bbox, "{}", text.text);
                for k in 0..n {
                    let [x0, y0, x1, y1] = text.part(k..k + 1);
                    let letter = text.letters[k];
                    assert!((x0 as f32..=x1 as f32).contains(&letter.x), "{letter:?} {x0} {x1}");
                    assert_eq!([y0, y1], [text.bbox[1], text.bbox[3]]);
                }
            }
        }
    }
}
