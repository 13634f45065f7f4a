//! The nine places of a picture and their words. A thing near a border between two places has
//! none that can be asked for.

use crate::scene::Object;

/// One of nine places: row and column, each 0, 1 or 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    pub row: u8,
    pub column: u8,
}

/// How near (share of the picture) a middle may come to a border and still be clear.
const MARGIN: f32 = 0.03;

/// The place of an object whose middle is clear of the borders.
pub fn placed(object: &Object, size: u32) -> Option<Place> {
    let (x, y) = object.centre(size);
    let clear = |v: f32| (v - 1.0 / 3.0).abs() > MARGIN && (v - 2.0 / 3.0).abs() > MARGIN;
    (clear(x) && clear(y)).then(|| Place::of(object, size))
}

impl Place {
    /// Row by row.
    pub const ALL: [Place; 9] = {
        let mut all = [Place { row: 0, column: 0 }; 9];
        let mut i = 0;
        while i < 9 {
            all[i] = Place { row: i as u8 / 3, column: i as u8 % 3 };
            i += 1;
        }
        all
    };

    /// The place of the middle of an object's box.
    pub fn of(object: &Object, size: u32) -> Place {
        let (x, y) = object.centre(size);
        let third = |v: f32| ((v * 3.0) as u8).min(2);
        Place { row: third(y), column: third(x) }
    }

    /// As an answer, without full stop: "Top left", "In the middle".
    pub fn answer(self) -> &'static str {
        match (self.row, self.column) {
            (0, 0) => "top left",
            (0, 1) => "at the top",
            (0, _) => "top right",
            (1, 0) => "on the left",
            (1, 1) => "in the middle",
            (1, _) => "on the right",
            (_, 0) => "bottom left",
            (_, 1) => "at the bottom",
            _ => "bottom right",
        }
    }

    /// In a sentence: "at the top left", "in the middle".
    pub fn phrase(self) -> &'static str {
        match (self.row, self.column) {
            (0, 0) => "at the top left",
            (0, 2) => "at the top right",
            (2, 0) => "at the bottom left",
            (2, 2) => "at the bottom right",
            _ => self.answer(),
        }
    }
}
