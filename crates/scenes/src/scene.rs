//! A drawn scene and everything true about it. A scene is made from a seed: first a plan
//! (numbers only), then its picture; taking one thing away is drawing the plan without it.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::background::Background;
use crate::canvas::{Canvas, Photo, Pose};
use crate::class::classes;
use crate::colour::Colour;
use crate::sprite::{Sprite, renderings};
use crate::text::{Line, Word};

/// What kind of picture a scene is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SceneKind {
    /// One thing.
    Single,
    /// Two to four different things.
    Several,
    /// One to five things of the same class, sometimes with another beside them.
    Count,
    /// A grid filled with things.
    Dense,
    /// A sign with words on it.
    Sign,
    /// A receipt or a table.
    Document,
    /// A bar chart.
    Chart,
    /// Shapeless: from outside the drawn world.
    Strange,
}

/// One thing in a scene.
#[derive(Clone, Debug, Serialize)]
pub struct Object {
    /// Its position in [`classes`].
    pub class: usize,
    /// The name of its class.
    pub name: String,
    /// Its colour where one is known (shapes and repainted things).
    pub colour: Option<Colour>,
    /// Around its visible pixels: x0, y0, x1, y1, the last two exclusive.
    pub bbox: [u32; 4],
    pub mask: Mask,
}

impl Object {
    /// "red car", or "dog" where no colour is known.
    pub fn phrase(&self) -> String {
        match self.colour {
            Some(colour) => format!("{} {}", colour.name(), self.name),
            None => self.name.clone(),
        }
    }

    /// "a red car", "an apple", "bread".
    pub fn with_article(&self) -> String {
        classes()[self.class].with_article(self.colour.map(Colour::name))
    }

    /// The middle of its box as shares of a picture `size` wide.
    pub fn centre(&self, size: u32) -> (f32, f32) {
        let [x0, y0, x1, y1] = self.bbox;
        ((x0 + x1) as f32 / 2.0 / size as f32, (y0 + y1) as f32 / 2.0 / size as f32)
    }
}

/// The visible pixels of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Left and top of the box it fills.
    pub origin: (u32, u32),
    /// Width and height of that box.
    pub size: (u32, u32),
    /// Row by row.
    pub bits: Vec<bool>,
}

impl Mask {
    /// Whether the pixel (x, y) of the picture belongs to the object.
    pub fn contains(&self, x: u32, y: u32) -> bool {
        let inside = x >= self.origin.0
            && y >= self.origin.1
            && x < self.origin.0 + self.size.0
            && y < self.origin.1 + self.size.1;
        inside && self.bits[((y - self.origin.1) * self.size.0 + x - self.origin.0) as usize]
    }

    /// How many pixels are visible.
    pub fn area(&self) -> usize {
        self.bits.iter().filter(|&&bit| bit).count()
    }
}

/// Runs over the box, row by row, starting with a run of pixels that are not the object's.
impl Serialize for Mask {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut runs: Vec<u32> = Vec::new();
        let (mut value, mut length) = (false, 0);
        for &bit in &self.bits {
            if bit != value {
                runs.push(length);
                (value, length) = (bit, 0);
            }
            length += 1;
        }
        runs.push(length);
        #[derive(Serialize)]
        struct Rle {
            origin: (u32, u32),
            size: (u32, u32),
            runs: Vec<u32>,
        }
        Rle { origin: self.origin, size: self.size, runs }.serialize(serializer)
    }
}

/// A scene: its picture and what is true about it.
#[derive(Clone, Debug)]
pub struct Scene {
    pub seed: u64,
    pub kind: SceneKind,
    pub image: RgbImage,
    pub objects: Vec<Object>,
    /// What is written in the picture, in reading order.
    pub texts: Vec<TextItem>,
    /// Signs and bars.
    pub panels: Vec<Panel>,
    pub(crate) plan: Plan,
}

/// A filled box that means something: the board of a sign, a bar of a chart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Panel {
    pub role: PanelRole,
    pub colour: Option<Colour>,
    /// x0, y0, x1, y1 in pixels, the last two exclusive.
    pub bbox: [u32; 4],
    /// The letter under a bar; empty for a sign.
    pub label: String,
    /// The height of a bar; 0 for a sign.
    pub value: u32,
    #[serde(skip)]
    pub(crate) paint: [f32; 3],
    #[serde(skip)]
    pub(crate) radius: f32,
}

/// What a panel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PanelRole {
    Sign,
    Bar,
    /// A line between rows; no part of the truth.
    Rule,
}

/// Something written in the picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TextItem {
    pub text: String,
    pub role: TextRole,
    /// Around its ink: x0, y0, x1, y1 in pixels, the last two exclusive.
    pub bbox: [u32; 4],
    #[serde(skip)]
    pub letters: Vec<Letter>,
}

impl TextItem {
    /// Box around some of its letters, from the middle of the gap before to that of the gap after.
    pub fn part(&self, letters: std::ops::Range<usize>) -> [u32; 4] {
        let [x0, y0, x1, y1] = self.bbox;
        let before = |i: usize| match (i.checked_sub(1), self.letters.get(i)) {
            (Some(left), Some(right)) => ((self.letters[left].x + right.x) / 2.0) as u32,
            (None, _) => x0,
            (_, None) => x1,
        };
        let left = before(letters.start).clamp(x0, x1.saturating_sub(1));
        [left, y0, before(letters.end).clamp(left + 1, x1), y1]
    }
}

/// One letter of a text and the middle of its ink, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Letter {
    pub letter: char,
    pub x: f32,
    pub y: f32,
}

/// What a text is in its picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TextRole {
    /// The words of a sign.
    Sign,
    /// The heading of a document.
    Title,
    /// What a line or a bar is about.
    Label,
    /// The value that belongs to the label before it.
    Value,
}

/// The numbers a picture is drawn from.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub seed: u64,
    pub kind: SceneKind,
    pub side: usize,
    pub background: Background,
    pub photo: Photo,
    pub things: Vec<Thing>,
    pub panels: Vec<Panel>,
    pub lines: Vec<(Line, TextRole)>,
}

/// One thing of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Thing {
    pub class: usize,
    pub held_out_style: bool,
    pub rendering: usize,
    pub colour: Option<Colour>,
    /// How far its paint is from the middle of its colour.
    pub colour_jitter: [f32; 3],
    pub pose: Pose,
}

impl Thing {
    pub fn sprite(&self) -> &'static Sprite {
        let all = renderings(self.class);
        let list = if self.held_out_style { &all.held_out } else { &all.training };
        &list[self.rendering]
    }

    /// The exact paint, if it is painted.
    pub fn paint(&self) -> Option<[f32; 3]> {
        let middle = self.colour?.rgb();
        let mut out = self.colour_jitter;
        for (o, m) in out.iter_mut().zip(middle) {
            *o = (*o + f32::from(m)).clamp(0.0, 255.0);
        }
        Some(out)
    }
}

impl Plan {
    /// Draws the plan and reads the truth off the picture.
    pub fn scene(self) -> Scene {
        let mut canvas = Canvas::new(self.side);
        self.background.paint(&mut canvas);
        for panel in &self.panels {
            canvas.fill(panel.bbox, panel.radius, panel.paint);
        }
        let mut texts = Vec::new();
        for (line, role) in &self.lines {
            let words = line.draw(&mut canvas).into_iter();
            texts.extend(words.map(|Word { letters, bbox }| {
                let text = letters.iter().map(|letter| letter.letter).collect();
                TextItem { text, role: *role, bbox, letters }
            }));
        }
        for (i, thing) in self.things.iter().enumerate() {
            canvas.draw(thing.sprite(), &thing.pose, thing.paint(), i as u8 + 1);
        }
        let objects = objects(&self, &canvas);
        Scene {
            seed: self.seed,
            kind: self.kind,
            image: canvas.develop(&self.photo),
            objects,
            texts,
            panels: self.panels.iter().filter(|p| p.role != PanelRole::Rule).cloned().collect(),
            plan: self,
        }
    }
}

impl Scene {
    /// Width and height of the picture in pixels.
    pub fn size(&self) -> u32 {
        self.plan.side as u32
    }

    /// The same scene with the object taken away; every pixel it did not cover stays.
    /// A number that names no object takes nothing away.
    pub fn without(&self, object_idx: usize) -> Scene {
        let mut plan = self.plan.clone();
        if object_idx < plan.things.len() {
            plan.things.remove(object_idx);
        }
        plan.scene()
    }

    /// The same scene with the object in another colour. Things whose colour is their own
    /// (a dog) stay as they are.
    pub fn recoloured(&self, object_idx: usize, colour: Colour) -> Scene {
        let mut plan = self.plan.clone();
        if let Some(thing) = plan.things.get_mut(object_idx)
            && thing.colour.is_some()
        {
            thing.colour = Some(colour);
        }
        plan.scene()
    }

    /// How many objects of a class are there.
    pub fn count(&self, class: usize) -> usize {
        self.objects.iter().filter(|object| object.class == class).count()
    }
}

/// Boxes and masks of what is visible of each thing.
fn objects(plan: &Plan, canvas: &Canvas) -> Vec<Object> {
    let side = plan.side;
    let mut boxes = vec![[u32::MAX, u32::MAX, 0, 0]; plan.things.len()];
    for (at, &owner) in canvas.owner.iter().enumerate() {
        if owner > 0 {
            let (x, y) = ((at % side) as u32, (at / side) as u32);
            let b = &mut boxes[owner as usize - 1];
            *b = [b[0].min(x), b[1].min(y), b[2].max(x + 1), b[3].max(y + 1)];
        }
    }
    let mut out = Vec::with_capacity(boxes.len());
    for (i, (thing, bbox)) in plan.things.iter().zip(boxes).enumerate() {
        let [x0, y0, x1, y1] = if bbox[2] == 0 { [0; 4] } else { bbox };
        let mut bits = Vec::with_capacity(((x1 - x0) * (y1 - y0)) as usize);
        for y in y0..y1 {
            let row = y as usize * side;
            let owners = &canvas.owner[row + x0 as usize..row + x1 as usize];
            bits.extend(owners.iter().map(|&owner| owner as usize == i + 1));
        }
        out.push(Object {
            class: thing.class,
            name: classes()[thing.class].name.to_string(),
            colour: thing.colour,
            bbox: [x0, y0, x1, y1],
            mask: Mask { origin: (x0, y0), size: (x1 - x0, y1 - y0), bits },
        });
    }
    out
}
