//! Lists of names in messages. Pure.

/// Joins names: "a", "a and b", "a, b and c". `conjunction` is the word before the last name.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>, conjunction: &str) -> String {
    let mut names: Vec<&str> = names.into_iter().collect();
    match names.pop() {
        None => String::new(),
        Some(last) if names.is_empty() => last.to_owned(),
        Some(last) => format!("{} {conjunction} {last}", names.join(", ")),
    }
}

/// Joins at most `most` names: "a, b and 7 more".
pub fn listed_up_to<'a>(names: impl IntoIterator<Item = &'a str>, conjunction: &str, most: usize) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.len().saturating_sub(most) {
        0 => listed(names, conjunction),
        more => format!("{} and {more} more", names[..most].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_last_two_names_with_and() {
        assert_eq!(listed([], "and"), "");
        assert_eq!(listed(["a"], "and"), "a");
        assert_eq!(listed(["a", "b"], "or"), "a or b");
        assert_eq!(listed(["a", "b", "c"], "and"), "a, b and c");
    }

    #[test]
    fn counts_omitted_names() {
        assert_eq!(listed_up_to(["a", "b"], "and", 2), "a and b");
        assert_eq!(listed_up_to(["a", "b", "c", "d"], "and", 2), "a, b and 2 more");
    }
}
