//! How scenes are put together: which things, how large, where, in which colours. A seed and
//! the options decide everything. It does not draw and does not ask.

use crate::background::Background;
use crate::canvas::{Canvas, Photo, Pose};
use crate::class::{Grammar, Theme, classes};
use crate::colour::Colour;
use crate::page;
use crate::rng::Rng;
use crate::scene::{Plan, Scene, SceneKind, Thing};
use crate::sprite::renderings;

/// How scenes are drawn from seeds.
#[derive(Clone, Debug)]
pub struct Options {
    /// Width and height of the picture, pixels.
    pub size: u32,
    /// How often each kind of scene comes.
    pub kinds: Mix,
    /// Show only renderings of the style that no training scene shows.
    pub held_out_style: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { size: 192, kinds: Mix::default(), held_out_style: false }
    }
}

/// Relative frequencies of the kinds of scenes.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    pub single: u32,
    pub several: u32,
    pub count: u32,
    pub dense: u32,
    pub sign: u32,
    pub document: u32,
    pub chart: u32,
    pub strange: u32,
}

impl Default for Mix {
    fn default() -> Self {
        Mix {
            single: 14,
            several: 36,
            count: 12,
            dense: 14,
            sign: 14,
            document: 6,
            chart: 4,
            strange: 0,
        }
    }
}

impl Mix {
    /// Scenes of things only: no signs, documents or charts.
    pub fn objects() -> Mix {
        Mix { sign: 0, document: 0, chart: 0, ..Mix::default() }
    }

    /// Scenes of one kind only.
    pub fn only(kind: SceneKind) -> Mix {
        let mut mix = Mix { single: 0, several: 0, count: 0, dense: 0, ..Mix::objects() };
        match kind {
            SceneKind::Single => mix.single = 1,
            SceneKind::Several => mix.several = 1,
            SceneKind::Count => mix.count = 1,
            SceneKind::Dense => mix.dense = 1,
            SceneKind::Sign => mix.sign = 1,
            SceneKind::Document => mix.document = 1,
            SceneKind::Chart => mix.chart = 1,
            SceneKind::Strange => mix.strange = 1,
        }
        mix
    }

    fn draw(&self, rng: &mut Rng) -> SceneKind {
        let weights = [
            self.single,
            self.several,
            self.count,
            self.dense,
            self.sign,
            self.document,
            self.chart,
            self.strange,
        ];
        match rng.weighted(&weights) {
            0 => SceneKind::Single,
            1 => SceneKind::Several,
            2 => SceneKind::Count,
            3 => SceneKind::Dense,
            4 => SceneKind::Sign,
            5 => SceneKind::Document,
            6 => SceneKind::Chart,
            _ => SceneKind::Strange,
        }
    }
}

/// The scene of a seed. The same on every platform.
pub fn scene(seed: u64, options: &Options) -> Scene {
    let kind = options.kinds.draw(&mut Rng::new(seed, 1));
    let mut composer = Composer::new(seed, kind, options.size, options.held_out_style);
    match kind {
        SceneKind::Single => composer.several(1),
        SceneKind::Several => {
            let n = 2 + composer.rng.weighted(&[45, 33, 22]);
            composer.several(n);
        }
        SceneKind::Count => composer.count(),
        SceneKind::Dense => composer.grid(),
        SceneKind::Sign => page::sign(&mut composer),
        SceneKind::Document => page::document(&mut composer),
        SceneKind::Chart => page::chart(&mut composer),
        SceneKind::Strange => composer.plan.background = Background::strange(&mut composer.rng),
    }
    composer.plan.scene()
}

/// A dense collage for region contrast: 2 × 2 to 4 × 4 different things with exact boxes.
pub fn collage(seed: u64, size: u32) -> Scene {
    let mut composer = Composer::new(seed, SceneKind::Dense, size, false);
    composer.grid();
    composer.plan.scene()
}

/// A scene while it is being planned.
pub(crate) struct Composer {
    pub rng: Rng,
    pub plan: Plan,
    /// The background alone, to see whether a thing would stand out.
    canvas: Canvas,
    /// Upright boxes taken so far: x0, y0, x1, y1.
    pub taken: Vec<[f32; 4]>,
    held_out_style: bool,
}

impl Composer {
    pub fn new(seed: u64, kind: SceneKind, size: u32, held_out_style: bool) -> Composer {
        let mut rng = Rng::new(seed, 2);
        let side = size.clamp(32, 2048) as usize;
        let background = Background::draw(&mut rng);
        let mut canvas = Canvas::new(side);
        background.paint(&mut canvas);
        let photo = photo(&mut rng);
        let plan = Plan {
            seed,
            kind,
            side,
            background,
            photo,
            things: Vec::new(),
            panels: Vec::new(),
            lines: Vec::new(),
        };
        Composer { rng, plan, canvas, taken: Vec::new(), held_out_style }
    }

    /// `n` things of different classes.
    fn several(&mut self, n: usize) {
        let theme = self.rng.chance(0.35).then(|| self.any_class()).map(|c| classes()[c].theme);
        let (low, high) = SIZES[n.min(SIZES.len()) - 1];
        for _ in 0..n {
            let class = self.new_class(theme);
            self.place(class, (low, high));
        }
    }

    /// Several things of one class, sometimes with one of another.
    fn count(&mut self) {
        let mut class = self.any_class();
        while classes()[class].grammar != Grammar::Count {
            class = self.any_class();
        }
        let n = 1 + self.rng.weighted(&[18, 24, 24, 18, 16]);
        let other = n < 5 && self.rng.chance(0.4);
        let (low, high) = SIZES[(n + usize::from(other)).min(SIZES.len()) - 1];
        for _ in 0..n {
            self.place(class, (low, high));
        }
        if other {
            let other = self.new_class(None);
            self.place(other, (low, high));
        }
    }

    /// A grid of 2 × 2 to 4 × 4 cells, nearly all filled, each with another class.
    fn grid(&mut self) {
        let n = 2 + self.rng.weighted(&[25, 50, 25]);
        let cell = self.plan.side as f32 / n as f32;
        for i in 0..n * n {
            if self.rng.chance(0.06) && i > 0 {
                continue;
            }
            let class = self.new_class(None);
            let origin = ((i % n) as f32 * cell, (i / n) as f32 * cell);
            self.place_in_cell(class, origin, cell);
        }
    }

    /// A class, coloured ones more often than their number would give.
    pub fn any_class(&mut self) -> usize {
        let all = classes();
        let coloured = self.rng.chance(0.30);
        loop {
            let class = self.rng.below(all.len());
            let shown = !self.held_out_style || has_held_out(class);
            if shown && (!coloured || all[class].tintable) {
                return class;
            }
        }
    }

    /// A class that is not in the scene yet; of the theme more often than not.
    pub fn new_class(&mut self, theme: Option<Theme>) -> usize {
        let themed = theme.filter(|_| self.rng.chance(0.7));
        loop {
            let class = self.any_class();
            let wrong_theme = themed.is_some_and(|theme| classes()[class].theme != theme);
            let tries_left = self.rng.chance(0.98);
            let used = self.plan.things.iter().any(|thing| thing.class == class);
            if !used && !(wrong_theme && tries_left) {
                return class;
            }
        }
    }

    /// Puts a thing somewhere free, its longer side in `sizes` (shares of the picture).
    pub fn place(&mut self, class: usize, sizes: (f32, f32)) -> bool {
        let side = self.plan.side as f32;
        let mut wanted = self.rng.range(sizes.0, sizes.1) * side;
        for attempt in 0..60 {
            let mut thing = self.thing(class);
            if attempt % 20 == 19 {
                wanted *= 0.88;
            }
            thing.pose.scale = scale_for(&thing, wanted, side);
            let (half_x, half_y) = thing.pose.half_extent(thing.sprite().size());
            thing.pose.x = self.rng.range(half_x + 1.0, side - half_x - 1.0);
            thing.pose.y = self.rng.range(half_y + 1.0, side - half_y - 1.0);
            let (x, y) = (thing.pose.x, thing.pose.y);
            let space = [x - half_x, y - half_y, x + half_x, y + half_y];
            let slack = side * 0.012;
            let free = self.taken.iter().all(|other| !overlaps(&space, other, slack));
            if free && (attempt > 40 || self.stands_out(&thing)) {
                self.taken.push(space);
                self.plan.things.push(thing);
                return true;
            }
        }
        false
    }

    fn place_in_cell(&mut self, class: usize, origin: (f32, f32), cell: f32) {
        let fill = self.rng.range(0.62, 0.98);
        for attempt in 0..8 {
            let mut thing = self.thing(class);
            let (half_x, half_y) =
                Pose { scale: 1.0, ..thing.pose }.half_extent(thing.sprite().size());
            thing.pose.scale = fill * cell / 2.0 / half_x.max(half_y);
            let (half_x, half_y) = (half_x * thing.pose.scale, half_y * thing.pose.scale);
            let (room_x, room_y) = (cell / 2.0 - half_x, cell / 2.0 - half_y);
            thing.pose.x = origin.0 + cell / 2.0 + self.rng.range(-room_x, room_x);
            thing.pose.y = origin.1 + cell / 2.0 + self.rng.range(-room_y, room_y);
            if attempt == 7 || self.stands_out(&thing) {
                self.plan.things.push(thing);
                return;
            }
        }
    }

    /// A thing of the class with a random rendering, colour and turn, not yet placed.
    fn thing(&mut self, class: usize) -> Thing {
        let all = renderings(class);
        let held_out = self.held_out_style && !all.held_out.is_empty();
        let n = if held_out { all.held_out.len() } else { all.training.len() };
        let rng = &mut self.rng;
        let info = &classes()[class];
        let colour = info.tintable.then(|| *rng.choose(&Colour::ALL));
        let shape = info.theme == Theme::Shape;
        let turn = match rng.chance(if shape { 0.0 } else { 0.35 }) {
            true => rotation(rng.range(-0.3, 0.3)),
            false => (1.0, 0.0),
        };
        Thing {
            class,
            held_out_style: held_out,
            rendering: rng.below(n),
            colour,
            colour_jitter: [0; 3].map(|_: i32| rng.range(-14.0, 14.0)),
            pose: Pose { x: 0.0, y: 0.0, scale: 1.0, turn, flip: !shape && rng.chance(0.5) },
        }
    }

    /// Whether the thing differs enough from what is behind it.
    fn stands_out(&self, thing: &Thing) -> bool {
        let sprite = thing.sprite();
        let (half_x, half_y) = thing.pose.half_extent(sprite.size());
        let behind = self.canvas.mean(thing.pose.x, thing.pose.y, half_x, half_y);
        let (mean, needed) = match thing.paint() {
            Some(paint) => (paint, 120.0),
            None => (sprite.mean, 75.0),
        };
        let distance: f32 = mean.iter().zip(behind).map(|(a, b)| (a - b).abs()).sum();
        distance > needed
    }
}

/// Longer side of a thing as shares of the picture, by the number of things.
const SIZES: [(f32, f32); 5] =
    [(0.26, 0.72), (0.28, 0.5), (0.26, 0.43), (0.25, 0.38), (0.24, 0.33)];

/// The scale that makes the longer side `wanted`, or more where the shorter would be < 21 %.
fn scale_for(thing: &Thing, wanted: f32, side: f32) -> f32 {
    let (half_x, half_y) = Pose { scale: 1.0, ..thing.pose }.half_extent(thing.sprite().size());
    let (long, short) = (2.0 * half_x.max(half_y), 2.0 * half_x.min(half_y));
    let needed = (wanted / long).max(0.21 * side / short);
    needed.min(0.5f32.max(wanted / side) * side / long).min((side - 4.0) / long)
}

/// Whether two boxes share more than a strip `slack` wide.
fn overlaps(a: &[f32; 4], b: &[f32; 4], slack: f32) -> bool {
    a[0] < b[2] - slack && b[0] < a[2] - slack && a[1] < b[3] - slack && b[1] < a[3] - slack
}

fn has_held_out(class: usize) -> bool {
    classes()[class].theme == Theme::Shape || !renderings(class).held_out.is_empty()
}

/// Cosine and sine by a short series (exact enough below half a radian, same everywhere).
fn rotation(angle: f32) -> (f32, f32) {
    let a2 = angle * angle;
    let cos = 1.0 - a2 / 2.0 * (1.0 - a2 / 12.0 * (1.0 - a2 / 30.0));
    let sin = angle * (1.0 - a2 / 6.0 * (1.0 - a2 / 20.0));
    (cos, sin)
}

fn photo(rng: &mut Rng) -> Photo {
    let gain = rng.range(0.84, 1.1);
    Photo {
        gain: [0; 3].map(|_: i32| gain * rng.range(0.97, 1.03)),
        offset: rng.range(-12.0, 12.0),
        noise: if rng.chance(0.5) { rng.range(0.0, 12.0) } else { 0.0 },
        seed: rng.next_u64(),
    }
}
