//! Numbers and outcomes in plain words.

/// "94 %": never rounded up to certainty nor down to nothing.
pub(crate) fn percent(share: f32) -> String {
    let share = share.clamp(0.0, 1.0);
    match (100.0 * share).round() as u32 {
        100 if share < 1.0 => "99 %".into(),
        0 if share > 0.0 => "less than 1 %".into(),
        rounded => format!("{rounded} %"),
    }
}

/// "“red”, “car” and “house”"
pub(crate) fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("“{word}”")).collect();
    joined(&quoted)
}

/// "one, two and three"
pub(crate) fn joined(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_lists_are_said_as_people_say_them() {
        let rows = [(0.944, "94 %"), (0.999, "99 %"), (1.0, "100 %"), (0.001, "less than 1 %")];
        for (share, expected) in rows {
            assert_eq!(percent(share), expected);
        }
        assert_eq!(listed(&["red", "car", "house"]), "“red”, “car” and “house”");
        assert_eq!(listed(&[]), "");
    }
}
