//! The things the world is made of: their names, their grammar, and what is alike. The order
//! of the table is part of the meaning of every seed: append only.

/// What kind of thing a class is; things of one theme make the hardest "no" questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    Animal,
    Food,
    Vehicle,
    Household,
    Wear,
    Nature,
    Shape,
}

/// How a class is spoken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// "a dog", "two dogs"
    Count,
    /// "bread": no article, never counted
    Mass,
    /// "scissors": always plural, never counted
    Plural,
}

/// One class of the drawn world.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    /// The singular, or the only form: "dog", "scissors".
    pub name: &'static str,
    /// "dogs"; equal to the name where there is no other form.
    pub plural: &'static str,
    pub grammar: Grammar,
    pub theme: Theme,
    /// Always drawn in a known colour (shapes and repainted things).
    pub tintable: bool,
}

impl Class {
    /// The noun phrase with its article for an optional adjective: "an apple", "a red car",
    /// "bread".
    pub fn with_article(&self, adjective: Option<&str>) -> String {
        let phrase = match adjective {
            Some(word) => format!("{word} {}", self.name),
            None => self.name.to_string(),
        };
        match self.grammar {
            Grammar::Count => format!("{} {phrase}", article(&phrase)),
            Grammar::Mass | Grammar::Plural => phrase,
        }
    }

    /// "is" or "are", as the noun demands.
    pub fn verb(&self) -> &'static str {
        if self.grammar == Grammar::Plural { "are" } else { "is" }
    }
}

/// "a" or "an", by the first letter (no class begins with a silent or a long one).
pub(crate) fn article(phrase: &str) -> &'static str {
    if phrase.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// Every class, shapes last. A class is named elsewhere by its position here.
pub fn classes() -> &'static [Class] {
    CLASSES
}

/// The position of a class in [`classes`], by its name.
pub fn class_named(name: &str) -> Option<usize> {
    CLASSES.iter().position(|class| class.name == name)
}

const fn one(name: &'static str, plural: &'static str, theme: Theme) -> Class {
    Class { name, plural, grammar: Grammar::Count, theme, tintable: false }
}

const fn mass(name: &'static str, theme: Theme) -> Class {
    Class { name, plural: name, grammar: Grammar::Mass, theme, tintable: false }
}

const fn pair(name: &'static str, theme: Theme) -> Class {
    Class { name, plural: name, grammar: Grammar::Plural, theme, tintable: false }
}

const fn tinted(name: &'static str, plural: &'static str, theme: Theme) -> Class {
    Class { name, plural, grammar: Grammar::Count, theme, tintable: true }
}

use Theme::{Animal, Food, Household, Nature, Shape, Vehicle, Wear};

const CLASSES: &[Class] = &[
    one("dog", "dogs", Animal),
    one("cat", "cats", Animal),
    one("horse", "horses", Animal),
    one("cow", "cows", Animal),
    one("pig", "pigs", Animal),
    one("sheep", "sheep", Animal),
    one("rabbit", "rabbits", Animal),
    one("elephant", "elephants", Animal),
    one("lion", "lions", Animal),
    one("monkey", "monkeys", Animal),
    one("panda", "pandas", Animal),
    one("fox", "foxes", Animal),
    one("frog", "frogs", Animal),
    one("turtle", "turtles", Animal),
    one("duck", "ducks", Animal),
    one("owl", "owls", Animal),
    one("penguin", "penguins", Animal),
    one("fish", "fish", Animal),
    one("whale", "whales", Animal),
    one("crab", "crabs", Animal),
    one("butterfly", "butterflies", Animal),
    one("bee", "bees", Animal),
    one("apple", "apples", Food),
    one("banana", "bananas", Food),
    pair("grapes", Food),
    one("strawberry", "strawberries", Food),
    one("watermelon", "watermelons", Food),
    one("pineapple", "pineapples", Food),
    one("carrot", "carrots", Food),
    one("mushroom", "mushrooms", Food),
    mass("bread", Food),
    one("pizza", "pizzas", Food),
    one("hamburger", "hamburgers", Food),
    one("ice cream", "ice creams", Food),
    one("donut", "donuts", Food),
    one("cake", "cakes", Food),
    tinted("car", "cars", Vehicle),
    one("bus", "buses", Vehicle),
    one("bicycle", "bicycles", Vehicle),
    one("train", "trains", Vehicle),
    one("airplane", "airplanes", Vehicle),
    one("rocket", "rockets", Vehicle),
    one("sailboat", "sailboats", Vehicle),
    one("house", "houses", Household),
    tinted("book", "books", Household),
    one("clock", "clocks", Household),
    one("key", "keys", Household),
    pair("scissors", Household),
    tinted("umbrella", "umbrellas", Household),
    one("bell", "bells", Household),
    one("light bulb", "light bulbs", Household),
    one("phone", "phones", Household),
    one("camera", "cameras", Household),
    one("gift", "gifts", Household),
    tinted("mug", "mugs", Household),
    tinted("balloon", "balloons", Household),
    one("pencil", "pencils", Household),
    one("chair", "chairs", Household),
    tinted("shirt", "shirts", Wear),
    tinted("dress", "dresses", Wear),
    one("hat", "hats", Wear),
    pair("glasses", Wear),
    one("crown", "crowns", Wear),
    one("ball", "balls", Household),
    one("guitar", "guitars", Household),
    one("tree", "trees", Nature),
    one("cactus", "cactuses", Nature),
    one("sunflower", "sunflowers", Nature),
    one("rose", "roses", Nature),
    one("sun", "suns", Nature),
    one("rainbow", "rainbows", Nature),
    one("fire", "fires", Nature),
    one("snowman", "snowmen", Nature),
    tinted("circle", "circles", Shape),
    tinted("square", "squares", Shape),
    tinted("triangle", "triangles", Shape),
    tinted("star", "stars", Shape),
    tinted("heart", "hearts", Shape),
    tinted("diamond", "diamonds", Shape),
    tinted("ring", "rings", Shape),
];
