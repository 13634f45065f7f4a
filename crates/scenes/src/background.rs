//! What lies behind the things: plain, graded, sky over ground, noise, stripes, checks and
//! soft texture. A background is its numbers, so that it can be drawn again exactly.

use crate::canvas::Canvas;
use crate::rng::Rng;

/// The numbers of one background.
#[derive(Clone, Debug)]
pub(crate) struct Background {
    kind: Kind,
    first: [f32; 3],
    second: [f32; 3],
}

#[derive(Clone, Debug)]
enum Kind {
    Solid,
    /// Along (x, y), whose sum of absolute values is 1.
    Gradient(f32, f32),
    /// The horizon, as a share of the height.
    Ground(f32),
    /// A coarse grid of offsets, `n` × `n`, and a finer one.
    Texture(Grid, Option<Grid>),
    /// Direction divided by the period.
    Stripes(f32, f32),
    Checks(f32),
    Strange(Strange),
}

/// A picture of nothing that has a name, as varied as photographs are: clouds of several sizes
/// under a bent coordinate, and soft or sharp blobs on them.
#[derive(Clone, Debug)]
struct Strange {
    bend: Grid,
    clouds: Vec<Grid>,
    blobs: Vec<Blob>,
}

/// An ellipse: centre, inverse half axes, edge (1 sharp at the rim, towards 0 soft), colour.
#[derive(Clone, Debug)]
struct Blob {
    centre: (f32, f32),
    inverse: (f32, f32),
    edge: f32,
    colour: [f32; 3],
}

#[derive(Clone, Debug)]
struct Grid {
    n: usize,
    offsets: Vec<[f32; 3]>,
}

impl Background {
    /// A random background.
    pub fn draw(rng: &mut Rng) -> Background {
        let first = base_colour(rng);
        let mut second = first.map(|v| (v + rng.range(-70.0, 70.0)).clamp(0.0, 255.0));
        let kind = match rng.weighted(&[24, 20, 14, 20, 12, 10]) {
            0 => Kind::Solid,
            1 => {
                let x = rng.range(-1.0, 1.0);
                let y = if rng.chance(0.5) { 1.0 - x.abs() } else { x.abs() - 1.0 };
                Kind::Gradient(x, y)
            }
            2 => {
                second = base_colour(rng);
                Kind::Ground(rng.range(0.35, 0.75))
            }
            3 => {
                let coarse = Grid::draw(rng, &[3, 5, 8, 14], 30.0);
                let fine = rng.chance(0.5).then(|| Grid::draw(rng, &[24, 40, 64], 14.0));
                Kind::Texture(coarse, fine)
            }
            4 => {
                let period = rng.range(7.0, 30.0);
                let x = rng.range(-1.0, 1.0);
                Kind::Stripes(x / period, (1.0 - x.abs()) / period)
            }
            _ => Kind::Checks(rng.range(7.0, 30.0)),
        };
        if matches!(kind, Kind::Stripes(..) | Kind::Checks(_)) {
            second = first.map(|v| v + (second[0] - first[0]) * 0.5);
        }
        Background { kind, first, second }
    }

    /// A plain background of one colour.
    pub fn plain(colour: [f32; 3]) -> Background {
        Background { kind: Kind::Solid, first: colour, second: colour }
    }

    /// A picture from outside the drawn world.
    pub fn strange(rng: &mut Rng) -> Background {
        let first = base_colour(rng);
        let bend = Grid::draw(rng, &[3, 4, 6], 0.5);
        let n_clouds = 1 + rng.below(4);
        let clouds = (0..n_clouds).map(|_| {
            let strength = rng.range(20.0, 150.0);
            Grid::draw(rng, &[3, 5, 9, 16, 28, 50, 90], strength)
        });
        let clouds = clouds.collect();
        let n_blobs = rng.weighted(&[30, 10, 15, 15, 10, 10]) * 3;
        let blobs = (0..n_blobs).map(|_| Blob {
            centre: (rng.unit(), rng.unit()),
            inverse: (1.0 / rng.range(0.03, 0.6), 1.0 / rng.range(0.03, 0.6)),
            edge: rng.unit(),
            colour: base_colour(rng),
        });
        let blobs = blobs.collect();
        let kind = Kind::Strange(Strange { bend, clouds, blobs });
        Background { kind, first, second: first }
    }

    /// Fills the whole canvas.
    pub fn paint(&self, canvas: &mut Canvas) {
        let side = canvas.side;
        let scale = 192.0 / side as f32;
        for y in 0..side {
            for x in 0..side {
                let (px, py) = (x as f32 * scale, y as f32 * scale);
                canvas.pixels[y * side + x] = self.at(px, py);
            }
        }
    }

    /// The colour at a point of a picture 192 wide.
    fn at(&self, x: f32, y: f32) -> [f32; 3] {
        let share = match &self.kind {
            Kind::Solid => 0.0,
            Kind::Gradient(dx, dy) => {
                let along = (x / 192.0 - 0.5) * dx + (y / 192.0 - 0.5) * dy;
                (along + 0.5).clamp(0.0, 1.0)
            }
            Kind::Ground(horizon) => {
                if y < horizon * 192.0 {
                    0.0
                } else {
                    1.0
                }
            }
            Kind::Texture(coarse, fine) => {
                let mut out = self.first;
                for grid in std::iter::once(coarse).chain(fine) {
                    let offset = grid.at(x / 192.0, y / 192.0);
                    for (o, v) in out.iter_mut().zip(offset) {
                        *o += v;
                    }
                }
                return out;
            }
            Kind::Stripes(dx, dy) => f32::from(odd(x * dx + y * dy)),
            Kind::Strange(strange) => return strange.at(self.first, x / 192.0, y / 192.0),
            Kind::Checks(period) => f32::from(odd(x / period) ^ odd(y / period)),
        };
        let mut out = self.first;
        for (o, s) in out.iter_mut().zip(self.second) {
            *o += (s - *o) * share;
        }
        out
    }
}

impl Strange {
    /// x and y in 0..1.
    fn at(&self, mut colour: [f32; 3], x: f32, y: f32) -> [f32; 3] {
        let [dx, dy, _] = self.bend.at(x, y);
        let (x, y) = ((x + dx).clamp(0.0, 1.0), (y + dy).clamp(0.0, 1.0));
        let mix = |colour: &mut [f32; 3], other: [f32; 3], share: f32| {
            colour.iter_mut().zip(other).for_each(|(c, o)| *c += (o - *c) * share);
        };
        for blob in &self.blobs {
            let across = (x - blob.centre.0) * blob.inverse.0;
            let down = (y - blob.centre.1) * blob.inverse.1;
            let inside = 1.0 - (across * across + down * down);
            if inside > 0.0 {
                let share = (inside / (1.02 - blob.edge)).min(1.0);
                mix(&mut colour, blob.colour, share);
            }
        }
        for cloud in &self.clouds {
            let offset = cloud.at(x, y);
            colour.iter_mut().zip(offset).for_each(|(c, o)| *c += o);
        }
        colour
    }
}

/// Whether a number lies in an odd unit interval (shifted to be positive).
fn odd(v: f32) -> u8 {
    ((v + 4096.0) as u32 & 1) as u8
}

/// Mostly light, sometimes anything.
fn base_colour(rng: &mut Rng) -> [f32; 3] {
    let mut colour = [0.0; 3];
    for v in &mut colour {
        *v = rng.range(0.0, 255.0);
    }
    let gray = (colour[0] + colour[1] + colour[2]) / 3.0;
    let light = rng.chance(0.6);
    let pale = rng.range(0.3, 1.0);
    colour.map(|v| {
        let v = gray + (v - gray) * pale;
        if light { 140.0 + v * 0.45 } else { v }
    })
}

impl Grid {
    fn draw(rng: &mut Rng, sizes: &[usize], strength: f32) -> Grid {
        let n = *rng.choose(sizes);
        let amount = rng.range(0.25, 1.0) * strength;
        let coloured = rng.chance(0.4);
        let offsets = (0..n * n)
            .map(|_| {
                let v = rng.range(-1.0, 1.0) * amount;
                if coloured {
                    [v, rng.range(-1.0, 1.0) * amount, rng.range(-1.0, 1.0) * amount]
                } else {
                    [v; 3]
                }
            })
            .collect();
        Grid { n, offsets }
    }

    /// Bilinear between the grid's points; x and y in 0..1.
    fn at(&self, x: f32, y: f32) -> [f32; 3] {
        let last = (self.n - 1) as f32;
        let (u, v) = ((x * last).clamp(0.0, last - 0.001), (y * last).clamp(0.0, last - 0.001));
        let (i, j) = (u as usize, v as usize);
        let (fu, fv) = (u - i as f32, v - j as f32);
        let row = j * self.n + i;
        let (a, b) = (self.offsets[row], self.offsets[row + 1]);
        let (c, d) = (self.offsets[row + self.n], self.offsets[row + self.n + 1]);
        let mut out = [0.0; 3];
        for k in 0..3 {
            let top = a[k] + (b[k] - a[k]) * fu;
            let bottom = c[k] + (d[k] - c[k]) * fu;
            out[k] = top + (bottom - top) * fv;
        }
        out
    }
}
