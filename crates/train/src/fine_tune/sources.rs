//! Examples that the drawn world gives: pictures of a thing that it does not know, and what it does
//! know, so that nothing is forgotten while something is learned.

use serde::{Deserialize, Serialize};
use vlm::processor::Message;

use super::examples::Example;
use crate::parameters::Random;

/// Side of the pictures, pixels.
const SIZE: u32 = 192;
/// Of so many pictures of the world, one is asked for the thing that is not in it.
const ABSENT_OF: u64 = 4;
/// Questions about one picture of the world, in one conversation.
const QUESTIONS: usize = 3;

/// Pictures of a kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drawn {
    pub drawn: Subject,
    /// How many pictures there are.
    pub pictures: usize,
    /// Seed of the first; every picture takes the next one.
    pub first_seed: u64,
    /// How often each is taken while others are taken once.
    #[serde(default = "one")]
    pub repeat: usize,
}

pub(super) fn one() -> usize {
    1
}

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// [`scenes::robot`], a thing that no class of the world names.
    Robots,
    /// The world that the shipped model knows.
    World,
}

impl Drawn {
    /// The example of this number, below `pictures` times `repeat`.
    pub(super) fn example(&self, idx: usize) -> Example {
        let (turn, picture) = ((idx / self.pictures) as u64, (idx % self.pictures) as u64);
        let seed = self.first_seed + picture;
        match self.drawn {
            Subject::Robots => {
                let robot = scenes::robot(seed, SIZE);
                let asked = (picture + turn) as usize % robot.questions.len();
                conversation(robot.image, &robot.questions[asked..=asked])
            }
            Subject::World => {
                let kinds = scenes::Mix::default();
                let options = scenes::Options { size: SIZE, kinds, ..Default::default() };
                let scene = scenes::scene(seed, &options);
                let mut random = Random::new(seed ^ turn);
                let mut all = scenes::questions(&scene, seed);
                let mut asked = Vec::new();
                if seed.is_multiple_of(ABSENT_OF) {
                    let question = format!("Is there a {}?", scenes::ROBOT);
                    asked.push((question, "No.".to_owned()));
                }
                while asked.len() < QUESTIONS && !all.is_empty() {
                    let at = (random.uniform() * all.len() as f64) as usize;
                    let qa = all.swap_remove(at);
                    asked.push((qa.question, qa.answer));
                }
                conversation(scene.image, &asked)
            }
        }
    }
}

fn conversation(image: image::RgbImage, turns: &[(String, String)]) -> Example {
    let mut messages = Vec::new();
    for (i, (question, answer)) in turns.iter().enumerate() {
        messages.push(Message::user(usize::from(i == 0), question.as_str()));
        messages.push(Message::assistant(answer.as_str()));
    }
    Example { images: vec![image], messages }
}
