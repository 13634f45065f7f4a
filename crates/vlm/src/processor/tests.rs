//! Geometry of tiles and spans.

use image::{Rgb, RgbImage};

use super::image::{ImageProcessor, ImageSettings, Kind, Tiles};
use super::{ImageSpan, Packing};

fn processor(json: &str, kind: Kind) -> ImageProcessor {
    ImageProcessor { settings: ImageSettings::parse(json, kind).expect("settings") }
}

fn sources(tiles: &Tiles) -> Vec<[f32; 4]> {
    tiles.tiles.iter().map(|tile| tile.source).collect()
}

#[test]
fn tiles_know_what_they_show() {
    let wide = RgbImage::from_pixel(80, 40, Rgb([10, 20, 30]));
    let rows = [
        // Squeezed into one square.
        (
            r#"{"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 32},
                "do_image_splitting": false}"#,
            Kind::Idefics3,
            vec![[0.0, 0.0, 80.0, 40.0]],
        ),
        // Two tiles side by side and the whole.
        (
            r#"{"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}"#,
            Kind::Idefics3,
            vec![[0.0, 0.0, 40.0, 40.0], [40.0, 0.0, 80.0, 40.0], [0.0, 0.0, 80.0, 40.0]],
        ),
        // The middle square.
        (
            r#"{"size": {"shortest_edge": 20}, "crop_size": {"height": 20, "width": 20}}"#,
            Kind::Clip,
            vec![[20.0, 0.0, 60.0, 40.0]],
        ),
        // Padded above and below.
        (
            r#"{"size": {"shortest_edge": 20}, "crop_size": 20, "do_pad": true}"#,
            Kind::Llava,
            vec![[0.0, -20.0, 80.0, 60.0]],
        ),
        (r#"{"size": {"height": 16, "width": 16}}"#, Kind::Siglip, vec![[0.0, 0.0, 80.0, 40.0]]),
        // Squeezed, then halved and padded above and below.
        (
            r#"{"size": 20, "image_grid_pinpoints": [[40, 20], [60, 40]]}"#,
            Kind::LlavaOnevision,
            vec![
                [0.0, 0.0, 80.0, 40.0],
                [0.0, -40.0, 40.0, 0.0],
                [40.0, -40.0, 80.0, 0.0],
                [0.0, 0.0, 40.0, 40.0],
                [40.0, 0.0, 80.0, 40.0],
                [0.0, 40.0, 40.0, 80.0],
                [40.0, 40.0, 80.0, 80.0],
            ],
        ),
    ];
    for (json, kind, expected) in rows {
        let tiles = processor(json, kind).tiles(&wide);
        assert_eq!(sources(&tiles), expected, "{json}");
        let side = tiles.tiles[0].pixels.dimensions();
        assert!(tiles.tiles.iter().all(|tile| tile.pixels.dimensions() == side), "{json}");
        assert_eq!(side.0, side.1, "{json}");
    }
}

const KINDS: [Kind; 6] =
    [Kind::Idefics3, Kind::Clip, Kind::Llava, Kind::Siglip, Kind::LlavaNext, Kind::LlavaOnevision];

#[test]
fn extreme_shapes_stay_whole() {
    let json = r#"{"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}"#;
    for (width, height) in [(1, 1), (1, 900), (900, 1), (33, 32), (3, 2)] {
        for kind in KINDS {
            let square = r#"{"size": 32, "crop_size": 32, "image_grid_pinpoints": [[32, 64]]}"#;
            let json = if kind == Kind::Idefics3 { json } else { square };
            let tiles = processor(json, kind).tiles(&RgbImage::new(width, height));
            assert!(!tiles.tiles.is_empty(), "{width} x {height}");
        }
    }
}

#[test]
fn a_token_leads_back_to_its_pixels() {
    let source = [10.0, 20.0, 70.0, 50.0];
    let packing = Packing::Tile { newline: false };
    let span = ImageSpan { image: 0, tokens: 5..17, grid: (3, 4), first_cell: 0, source, packing };
    assert_eq!(span.pixel_box(0), Some([10.0, 20.0, 25.0, 30.0]));
    assert_eq!(span.pixel_box(11), Some([55.0, 40.0, 70.0, 50.0]));
    assert_eq!(span.pixel_box(12), None, "a newline after the tile");
    let packing = Packing::Mosaic { tiles: (1, 1), kept: (3, 4) };
    let rows = ImageSpan { packing, ..span.clone() };
    assert_eq!(rows.pixel_box(4), None, "a newline after the row");
    assert_eq!(rows.pixel_box(13), Some([55.0, 40.0, 70.0, 50.0]));
    let span = ImageSpan { first_cell: 1, ..span };
    assert_eq!(span.cell(3), Some((1, 0)));
    let span = ImageSpan { first_cell: -1, ..span };
    assert_eq!((span.cell(0), span.cell(1)), (None, Some((0, 0))));
    assert_eq!(span.pixel_box(0), Some(source));
}

#[test]
fn wrong_settings_name_their_key() {
    let rows = [
        (r#"{"image_processor_type": "FuyuImageProcessor"}"#, "image_processor_type"),
        (r#"{"resample": 9}"#, "resample"),
        (r#"{"size": {"longest_edge": 0}}"#, "size"),
        (r#"{"image_mean": [0.5]}"#, "image_mean"),
        (r#"{"max_image_size": {"height": 3, "width": 3}}"#, "max_image_size"),
        (r#"{"image_processor_type": "LlavaNextImageProcessor", "size": 9}"#, "crop_size"),
        (
            r#"{"image_processor_type": "LlavaOnevisionImageProcessor", "size": 9,
                "image_grid_pinpoints": [[9, 18], [9, 12]]}"#,
            "image_grid_pinpoints: [9, 12]",
        ),
        ("[", "EOF"),
    ];
    for (json, key) in rows {
        let error = ImageSettings::parse(json, Kind::Idefics3).expect_err(json);
        assert!(error.contains(key), "{error}");
    }
}
