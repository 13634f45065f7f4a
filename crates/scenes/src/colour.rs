//! The colours the world can name, and the paint that stands for each. Only shapes and tinted
//! things have a known colour; nothing here looks at pixels.

use serde::{Deserialize, Serialize};

/// A named colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    Red,
    Orange,
    Yellow,
    Green,
    Blue,
    Purple,
    Pink,
    Brown,
    Black,
    White,
    Gray,
}

impl Colour {
    /// Every colour, in the order of the enum.
    pub const ALL: [Colour; 11] = [
        Colour::Red,
        Colour::Orange,
        Colour::Yellow,
        Colour::Green,
        Colour::Blue,
        Colour::Purple,
        Colour::Pink,
        Colour::Brown,
        Colour::Black,
        Colour::White,
        Colour::Gray,
    ];

    /// The English word.
    pub fn name(self) -> &'static str {
        match self {
            Colour::Red => "red",
            Colour::Orange => "orange",
            Colour::Yellow => "yellow",
            Colour::Green => "green",
            Colour::Blue => "blue",
            Colour::Purple => "purple",
            Colour::Pink => "pink",
            Colour::Brown => "brown",
            Colour::Black => "black",
            Colour::White => "white",
            Colour::Gray => "gray",
        }
    }

    /// The middle of the colour, as 8-bit RGB.
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Colour::Red => [216, 36, 40],
            Colour::Orange => [255, 138, 16],
            Colour::Yellow => [250, 216, 40],
            Colour::Green => [44, 160, 60],
            Colour::Blue => [40, 90, 216],
            Colour::Purple => [136, 56, 176],
            Colour::Pink => [252, 136, 192],
            Colour::Brown => [126, 76, 40],
            Colour::Black => [26, 26, 26],
            Colour::White => [246, 246, 246],
            Colour::Gray => [140, 140, 140],
        }
    }
}
