//! The geometric shapes, as exact inside tests sampled into coverage; sprites are made of
//! them once. Only +, −, ×, ÷ and comparisons: the same bits on every platform.

/// Coverage (0..=255) of the shape `name` in a `side` × `side` square, row by row.
pub(crate) fn coverage(name: &str, side: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(side * side);
    for y in 0..side {
        for x in 0..side {
            out.push(pixel(name, x, y, side));
        }
    }
    out
}

/// Four by four samples of one pixel.
fn pixel(name: &str, x: usize, y: usize, side: usize) -> u8 {
    let mut hits = 0;
    for sample in 0..16 {
        let at = |p: usize, s: usize| (p as f32 + (s as f32 + 0.5) / 4.0) / side as f32 * 2.0 - 1.0;
        hits += u32::from(inside(name, at(x, sample % 4), at(y, sample / 4)));
    }
    (hits * 255 / 16) as u8
}

/// Whether the point (x right, y down, each in −1..1) lies in the shape.
fn inside(name: &str, x: f32, y: f32) -> bool {
    match name {
        "circle" => x * x + y * y <= 1.0,
        "square" => x.abs() <= 0.92 && y.abs() <= 0.92,
        "triangle" => (-0.9..=0.9).contains(&y) && x.abs() <= (y + 0.9) / 1.8,
        "diamond" => x.abs() / 0.8 + y.abs() <= 1.0,
        "ring" => (0.36..=1.0).contains(&(x * x + y * y)),
        "heart" => heart(x, y),
        "star" => star(x, y),
        _ => false,
    }
}

/// The classic sextic (x² + y² − 1)³ ≤ x²y³, scaled to the square.
fn heart(x: f32, y: f32) -> bool {
    let (x, y) = (x * 1.15, -y * 1.12 + 0.12);
    let body = x * x + y * y - 1.0;
    body * body * body <= x * x * y * y * y
}

/// Five points: the union of the pentagram's triangles, by the winding of its ten corners.
fn star(x: f32, y: f32) -> bool {
    let mut odd = false;
    for i in 0..STAR.len() {
        let (ax, ay) = STAR[i];
        let (bx, by) = STAR[(i + 1) % STAR.len()];
        if (ay > y) != (by > y) && x < (bx - ax) * (y - ay) / (by - ay) + ax {
            odd = !odd;
        }
    }
    odd
}

const STAR: [(f32, f32); 10] = [
    (0.0, -1.0),
    (0.247, -0.340),
    (0.951, -0.309),
    (0.399, 0.130),
    (0.588, 0.809),
    (0.0, 0.42),
    (-0.588, 0.809),
    (-0.399, 0.130),
    (-0.951, -0.309),
    (-0.247, -0.340),
];
