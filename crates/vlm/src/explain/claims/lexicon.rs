//! The closed classes of English that tell where a noun phrase begins and ends.

/// Whether `word` is one of `all`, which spaces part.
fn holds(all: &str, word: &str) -> bool {
    all.split(' ').any(|known| known == word)
}

/// "two" → 2, "12" → 12; articles are no numbers.
pub(super) fn number(word: &str) -> Option<u32> {
    let words = "zero one two three four five six seven eight nine ten eleven twelve";
    let written = words.split(' ').position(|known| known == word).map(|n| n as u32);
    written.or_else(|| word.parse().ok())
}

/// Begins a noun phrase, and is no part of what the thing is.
pub(super) fn is_determiner(word: &str) -> bool {
    const ALL: &str = "\
         a an the this that these those its his her their my your our another some several \
         many few various multiple both each every all other more numerous";
    holds(ALL, word)
}

/// Says that what follows is not there.
pub(super) fn is_negation(word: &str) -> bool {
    matches!(word, "no" | "not" | "without" | "neither" | "nor" | "never" | "n't")
}

pub(super) fn is_colour(word: &str) -> bool {
    const ALL: &str = "\
         red orange yellow green blue purple pink brown black white gray grey violet beige \
         gold golden silver turquoise teal cyan magenta maroon navy tan cream lime";
    holds(ALL, word)
}

/// Adjectives that often come in lists before a noun, or alone after "is".
pub(super) fn is_adjective(word: &str) -> bool {
    const ALL: &str = "\
         small large big little tiny tall short long wide old young new dark light bright \
         round wooden empty full open closed clear cloudy happy sad beautiful colorful \
         colourful visible striped plain simple blurry sunny dirty clean wet dry heavy bare \
         ready busy calm quiet cute soft thick thin flat";
    is_colour(word) || holds(ALL, word)
}

pub(super) fn is_verb(word: &str) -> bool {
    const ALL: &str = "\
         is are was were be been being am has have had do does did can could will would may \
         might must should it's there's isn't aren't shows show shown depicts depict depicted \
         features contains contain includes include appears appear seems seem sits sit stands \
         stand lies lie hangs hang wears wear holds hold looks look rides ride walks walk \
         runs run plays play eats eat says say reads read see sees displays surrounded \
         located placed seated parked covered filled made attached mounted dressed painted \
         written printed labeled labelled taken set positioned situated arranged named called \
         goes comes flies fly sleeps rests leans faces points gives creates adds suggests \
         indicates indicating suggesting";
    holds(ALL, word)
}

pub(super) fn is_copula(word: &str) -> bool {
    matches!(word, "is" | "are" | "was" | "were" | "isn't" | "aren't")
}

/// Whether the sentence so far says that something is there.
pub(super) fn is_existential(word: &str) -> bool {
    matches!(
        word,
        "there"
            | "there's"
            | "shows"
            | "show"
            | "contains"
            | "contain"
            | "includes"
            | "include"
            | "features"
            | "depicts"
            | "depict"
            | "see"
            | "sees"
            | "displays"
            | "has"
            | "have"
            | "with"
            | "of"
            | "wearing"
            | "holding"
    )
}

pub(super) fn is_preposition(word: &str) -> bool {
    const ALL: &str = "\
         in on at of by with from to into onto over under above below behind beside near next \
         between among inside outside around across along against through toward towards for \
         as like underneath beneath atop within up down off about alongside front";
    holds(ALL, word)
}

/// Joins, points and hedges: never part of a noun phrase.
pub(super) fn is_joint(word: &str) -> bool {
    const ALL: &str = "\
         and or but while which who whose where when because so if then than it they them he \
         she we you i him us there here very also just only too still quite possibly likely \
         probably perhaps together directly slightly partially mostly what how why yes no not \
         without nor neither one's overall additionally however respectively both sorry well";
    holds(ALL, word)
}

/// Names the picture, a part of it, or a way of grouping: no thing in it.
pub(super) fn is_no_thing(word: &str) -> bool {
    const ALL: &str = "\
         image picture photo photograph scene view drawing painting illustration screenshot \
         close-up background foreground left right top bottom side corner middle center \
         centre front back edge half part kind type sort style group bunch pair couple set \
         row number lot piece variety thing things object objects something nothing anything \
         color colour distance area total way sense mood atmosphere setting moment time day \
         focus one ones frame shot position words word letters writing caption collection \
         series atmosphere rest";
    holds(ALL, word)
}

/// Words of places in a picture: "top left", "middle".
pub(super) fn is_place(word: &str) -> bool {
    const ALL: &str = "\
         top bottom upper lower left right middle center centre far background foreground \
         left-hand right-hand bottom-left bottom-right top-left top-right upper-left upper- \
         right lower-left lower-right";
    holds(ALL, word)
}

/// What may stand after a word of a place: "corner of the picture".
pub(super) fn is_place_end(word: &str) -> bool {
    const ALL: &str = "\
         corner side half part edge third portion hand area";
    holds(ALL, word)
}

/// Whether a noun is more than one: good enough for "is" or "are".
pub(super) fn is_plural(noun: &str) -> bool {
    const MORE: &str = "\
         people men women children feet teeth mice geese";
    const LESS: &str = "\
         bus glass grass dress gas cross lens octopus cactus walrus canvas compass mattress \
         moss hippopotamus virus iris tennis christmas asparagus platypus chess rhinoceros \
         circus";
    holds(MORE, noun)
        || (noun.ends_with('s') && !noun.ends_with("ss") && noun.len() > 2 && !holds(LESS, noun))
}

/// The plural of a phrase that ends with a singular noun.
pub(super) fn plural(phrase: &str) -> String {
    const IRREGULAR: &[(&str, &str)] = &[
        ("person", "people"),
        ("man", "men"),
        ("child", "children"),
        ("foot", "feet"),
        ("tooth", "teeth"),
        ("mouse", "mice"),
        ("goose", "geese"),
        ("fish", "fish"),
        ("sheep", "sheep"),
        ("leaf", "leaves"),
        ("knife", "knives"),
    ];
    let ends = |end: &&str| phrase.ends_with(end);
    let irregular = IRREGULAR
        .iter()
        .find_map(|(one, more)| phrase.strip_suffix(one).map(|before| format!("{before}{more}")));
    irregular.unwrap_or_else(|| match phrase.strip_suffix('y') {
        Some(before) if !before.ends_with(['a', 'e', 'o', 'u']) => format!("{before}ies"),
        _ if ["s", "x", "ch", "sh"].iter().any(|end| ends(end)) => format!("{phrase}es"),
        _ => format!("{phrase}s"),
    })
}

/// Whether a noun takes no article.
pub(super) fn is_mass(noun: &str) -> bool {
    const ALL: &str = "\
         bread water grass snow sand food hair furniture cheese rice milk juice coffee tea \
         wood sky ice meat paper text luggage traffic broccoli corn lettuce garlic fruit \
         writing smoke fire sushi butter honey salt sugar pasta popcorn chocolate bacon";
    holds(ALL, noun)
}
