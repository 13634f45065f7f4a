//! The evidence picture: the originals with an outline for each claim or word that rests on a
//! region, in a colour of its own and named; below it the answer, and what is said of each claim.
use std::sync::Arc;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont};
use app::api::EvidenceView;
use image::{Rgb, RgbImage};

/// A picture of the conversation.
pub struct Panel {
    pub id: u32,
    pub image: Arc<RgbImage>,
}

/// A claim or a word of the answer.
pub struct Item {
    pub text: String,
    /// Written at its region.
    pub label: String,
    /// Written below the answer; nothing where empty.
    pub note: String,
    pub evidence: Option<EvidenceView>,
}

/// DejaVu Sans Bold, Latin part; see assets/LICENSES.md.
const FONT: &[u8] = include_bytes!("../assets/DejaVuSans-Bold-Latin.ttf");
const COLOURS: [[u8; 3]; 6] =
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [146, 84, 222], [196, 30, 58]];
const PAPER: Rgb<u8> = Rgb([250, 250, 248]);
const INK: Rgb<u8> = Rgb([30, 30, 34]);
const WHITE: Rgb<u8> = Rgb([255, 255, 255]);
const MARGIN: i32 = 24;
const LABEL: f32 = 18.0;
const CAPTION: f32 = 24.0;
/// A picture is shown between these sizes, longest side in px.
const SIDES: (f32, f32) = (720.0, 1600.0);

/// Draws all panels side by side, and `text` below with its evident items in their colours.
pub fn evidence(panels: &[Panel], text: &str, items: &[Item]) -> RgbImage {
    let shown: Vec<(f32, RgbImage)> = panels.iter().map(|panel| scaled(&panel.image)).collect();
    let inner: i32 = shown.iter().map(|(_, image)| image.width() as i32 + MARGIN).sum();
    let width = inner + MARGIN;
    let tallest = shown.iter().map(|(_, image)| image.height() as i32).max().unwrap_or(0);
    let caption = caption_lines(text, items, width - 2 * MARGIN);
    let below = (caption.len() as f32 * CAPTION * 1.4) as i32 + 2 * MARGIN;
    let height = MARGIN + tallest + below;
    let mut canvas = RgbImage::from_pixel(width as u32, height as u32, PAPER);
    let mut x = MARGIN;
    for (panel, (scale, image)) in panels.iter().zip(&shown) {
        image::imageops::replace(&mut canvas, image, i64::from(x), i64::from(MARGIN));
        let mut labels = Vec::new();
        for (colour, item) in evident(items) {
            mark(&mut canvas, (panel.id, (x, MARGIN), *scale), item, colour, &mut labels);
        }
        // Names lie above every frame.
        for label in labels {
            fill(&mut canvas, label.bbox, label.colour);
            let [x, y, ..] = label.bbox.map(|v| v as f32);
            draw_text(&mut canvas, (x + 6.0, y + LABEL * 0.15), LABEL, &label.text, WHITE);
        }
        x += image.width() as i32 + MARGIN;
    }
    let mut y = MARGIN + tallest + MARGIN;
    for line in caption {
        let mut x = MARGIN as f32;
        for (piece, colour) in line {
            x += draw_text(&mut canvas, (x, y as f32), CAPTION, &piece, colour);
        }
        y += (CAPTION * 1.4) as i32;
    }
    canvas
}

/// The items with a region, each with its colour.
fn evident(items: &[Item]) -> impl Iterator<Item = (Rgb<u8>, &Item)> {
    let items = items.iter().filter(|item| item.evidence.is_some());
    items.enumerate().map(|(idx, item)| (Rgb(COLOURS[idx % COLOURS.len()]), item))
}

fn scaled(image: &RgbImage) -> (f32, RgbImage) {
    let longest = image.width().max(image.height()) as f32;
    let scale = (longest.clamp(SIDES.0, SIDES.1) / longest).min(8.0);
    let side = |length: u32| ((length as f32 * scale).round() as u32).max(1);
    let filter = image::imageops::FilterType::CatmullRom;
    let (width, height) = (side(image.width()), side(image.height()));
    match longest > SIDES.1 {
        true => (scale, image::imageops::thumbnail(image, width, height)),
        false => (scale, image::imageops::resize(image, width, height, filter)),
    }
}

/// The name of a box.
struct Label {
    text: String,
    bbox: [i32; 4],
    colour: Rgb<u8>,
    /// The left top corner of what it names.
    of: (i32, i32),
}

/// Draws an item's outline and adds its label where it hides no other.
fn mark(
    canvas: &mut RgbImage,
    (id, (left, top), scale): (u32, (i32, i32), f32),
    item: &Item,
    colour: Rgb<u8>,
    labels: &mut Vec<Label>,
) {
    let Some(evidence) = item.evidence.as_ref().filter(|evidence| evidence.image == id) else {
        return;
    };
    let px = |v: f32| (v * scale).round() as i32;
    let (x0, y0) = (px(evidence.bbox[0]) + left, px(evidence.bbox[1]) + top);
    // Outlines of several items around the same region stay visible side by side.
    let aside = labels.iter().filter(|label| label.of == (x0, y0)).count() as i32 * 4;
    for (thick, colour) in [(5, WHITE), (3, colour)] {
        for ring in &evidence.outline {
            let corner = |[x, y]: [f32; 2]| (px(x) + left + aside, px(y) + top + aside);
            let next = ring.iter().cycle().skip(1);
            for (&from, &to) in ring.iter().zip(next) {
                edge(canvas, corner(from), corner(to), thick, colour);
            }
        }
    }
    let text = item.label.clone();
    let (width, height) = (text_width(&text, LABEL) as i32 + 12, (LABEL * 1.35) as i32);
    let x = x0.min(canvas.width() as i32 - width - 4).max(4);
    let mut y = if y0 - height >= top { y0 - height } else { y0 };
    let hides =
        |l: &[i32; 4], y: i32| x < l[2] && x + width > l[0] && y < l[3] && y + height > l[1];
    while labels.iter().any(|label| hides(&label.bbox, y)) {
        y += height + 1;
    }
    labels.push(Label { text, bbox: [x, y, x + width, y + height], colour, of: (x0, y0) });
}

type Line = Vec<(String, Rgb<u8>)>;

/// The answer cut into lines that fit.
fn caption_lines(text: &str, items: &[Item], width: i32) -> Vec<Line> {
    let answer = text.split_whitespace().map(|piece| {
        let at = piece.as_ptr() as usize - text.as_ptr() as usize;
        let says = |item: &Item| {
            let from = text.find(&item.text);
            from.is_some_and(|from| (from..from + item.text.len()).contains(&at))
        };
        let colour = evident(items).find(|(_, item)| says(item)).map_or(INK, |(colour, _)| colour);
        (piece, colour)
    });
    let mut lines = wrapped(answer, width);
    for item in items.iter().filter(|item| !item.note.is_empty()) {
        let colour = evident(items).find(|(_, other)| std::ptr::eq(*other, item));
        let colour = colour.map_or(INK, |(colour, _)| colour);
        lines.extend(wrapped(item.note.split_whitespace().map(|piece| (piece, colour)), width));
    }
    lines
}

fn wrapped<'a>(pieces: impl Iterator<Item = (&'a str, Rgb<u8>)>, width: i32) -> Vec<Line> {
    let mut lines: Vec<Line> = vec![Vec::new()];
    let mut used = 0.0;
    for (piece, colour) in pieces {
        let piece = format!("{piece} ");
        let length = text_width(&piece, CAPTION);
        if used + length > width as f32 && used > 0.0 {
            lines.push(Vec::new());
            used = 0.0;
        }
        used += length;
        if let Some(line) = lines.last_mut() {
            line.push((piece, colour));
        }
    }
    lines
}

fn fill(canvas: &mut RgbImage, [x0, y0, x1, y1]: [i32; 4], colour: Rgb<u8>) {
    let (width, height) = (canvas.width() as i32, canvas.height() as i32);
    for y in y0.max(0)..y1.min(height) {
        for x in x0.max(0)..x1.min(width) {
            canvas.put_pixel(x as u32, y as u32, colour);
        }
    }
}

/// A line along an axis: outlines have no others.
fn edge(canvas: &mut RgbImage, a: (i32, i32), b: (i32, i32), thick: i32, colour: Rgb<u8>) {
    let half = thick / 2;
    let (x0, y0) = (a.0.min(b.0) - half, a.1.min(b.1) - half);
    fill(canvas, [x0, y0, a.0.max(b.0) + half + 1, a.1.max(b.1) + half + 1], colour);
}

fn text_width(text: &str, size: f32) -> f32 {
    let Ok(font) = FontRef::try_from_slice(FONT) else { return 0.0 };
    let font = font.as_scaled(PxScale::from(size));
    text.chars().map(|c| font.h_advance(font.glyph_id(c))).sum()
}

/// Draws `text` with its top left at `(x, y)`; returns how wide it is.
fn draw_text(
    canvas: &mut RgbImage,
    (x, y): (f32, f32),
    size: f32,
    text: &str,
    colour: Rgb<u8>,
) -> f32 {
    let Ok(font) = FontRef::try_from_slice(FONT) else { return 0.0 };
    let scaled = font.as_scaled(PxScale::from(size));
    let mut pen = x;
    for c in text.chars() {
        let id = scaled.glyph_id(c);
        let at = ab_glyph::point(pen, y + scaled.ascent());
        pen += scaled.h_advance(id);
        let Some(outline) = font.outline_glyph(id.with_scale_and_position(size, at)) else {
            continue;
        };
        let bounds = outline.px_bounds();
        outline.draw(|gx, gy, cover| {
            let (px, py) = (bounds.min.x as i32 + gx as i32, bounds.min.y as i32 + gy as i32);
            if px < 0 || py < 0 || px >= canvas.width() as i32 || py >= canvas.height() as i32 {
                return;
            }
            let pixel = canvas.get_pixel_mut(px as u32, py as u32);
            for (below, above) in pixel.0.iter_mut().zip(colour.0) {
                let mixed = f32::from(*below) * (1.0 - cover) + f32::from(above) * cover;
                *below = mixed.clamp(0.0, 255.0) as u8;
            }
        });
    }
    pen - x
}
