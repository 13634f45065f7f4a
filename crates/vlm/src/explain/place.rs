//! A region in plain words, for those who cannot or do not want to look.

/// Where `bbox` lies in a picture of `width` x `height` pixels, such as "top left".
pub fn place(bbox: [f32; 4], width: u32, height: u32) -> &'static str {
    let (w, h) = (width.max(1) as f32, height.max(1) as f32);
    let [x0, y0, x1, y1] = [
        (bbox[0] / w).clamp(0.0, 1.0),
        (bbox[1] / h).clamp(0.0, 1.0),
        (bbox[2] / w).clamp(0.0, 1.0),
        (bbox[3] / h).clamp(0.0, 1.0),
    ];
    let (wide, high) = (x1 - x0 > 0.75, y1 - y0 > 0.75);
    let across = third((x0 + x1) / 2.0);
    let down = third((y0 + y1) / 2.0);
    match (wide, high) {
        (true, true) => "almost the whole picture",
        (true, false) => ["across the top", "across the middle", "across the bottom"][down],
        (false, true) => ["down the left side", "down the middle", "down the right side"][across],
        (false, false) => NAMES[down][across],
    }
}

const NAMES: [[&str; 3]; 3] = [
    ["top left", "top", "top right"],
    ["left", "in the middle", "right"],
    ["bottom left", "bottom", "bottom right"],
];

fn third(x: f32) -> usize {
    ((x * 3.0) as usize).min(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_said_in_words() {
        let rows = [
            ([0.0, 0.0, 30.0, 30.0], "top left"),
            ([40.0, 40.0, 60.0, 60.0], "in the middle"),
            ([70.0, 40.0, 100.0, 60.0], "right"),
            ([0.0, 80.0, 100.0, 100.0], "across the bottom"),
            ([-10.0, -10.0, 110.0, 110.0], "almost the whole picture"),
        ];
        for (bbox, expected) in rows {
            assert_eq!(place(bbox, 100, 100), expected);
        }
    }
}
