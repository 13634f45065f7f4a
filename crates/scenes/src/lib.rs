//! A drawn world with known truth: a seed gives a picture and everything true about it, and
//! questions whose answers are right by construction. The same on every platform, for ever.
//!
//! Why: a model is taught and measured on pictures nobody had to label, and its evidence can
//! be checked because where everything is is known. What it does not know: models, tensors.

mod background;
mod canvas;
mod check;
mod class;
mod colour;
mod compose;
mod damage;
mod held_out;
mod naming;
mod page;
mod place;
mod question;
mod reading;
mod relation;
mod rng;
mod robot;
mod scene;
mod shape;
mod sprite;
mod text;
mod truth;
mod words;

pub use check::{STRANGE, UNSEEN, other_answers, verification};
pub use class::{Class, Grammar, Theme, class_named, classes};
pub use colour::Colour;
pub use compose::{Mix, Options, collage, scene};
pub use damage::Damage;
pub use held_out::is_held_out;
pub use naming::{class_names, words};
pub use place::{Place, placed};
pub use question::{Existence, Mention, NUMBERS, Qa, QaKind, questions};
pub use relation::{Relation, relations};
pub use robot::{ROBOT, RobotPicture, robot};
pub use scene::{Letter, Mask, Object, Panel, PanelRole, Scene, SceneKind, TextItem, TextRole};
pub use truth::{ClassCount, ObjectTruth, Truth};
pub use words::caption_vocabulary;
