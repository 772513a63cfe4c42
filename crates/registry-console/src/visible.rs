//! Characters that make a text look like another one: invisible ones, and those that change the direction. Pure.

/// What stands in a page for such a character.
const SHOWN: char = '\u{fffd}';

/// Returns a page without characters that can't be seen: messages and names come from registries and from other users.
pub fn with_visible_text(page: String) -> String {
    if !page.contains(is_invisible) {
        return page;
    }
    page.chars().map(|character| if is_invisible(character) { SHOWN } else { character }).collect()
}

/// Control characters except white space, format characters (Unicode category Cf), and separators of lines and paragraphs.
fn is_invisible(character: char) -> bool {
    let is_space = matches!(character, '\n' | '\r' | '\t');
    (character.is_control() && !is_space)
        || matches!(
            character,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
                | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_replaced() {
        let page = with_visible_text("a\u{202e}b\u{200b}c\u{2066}d\u{1b}e\u{e0041}f".to_owned());
        assert_eq!(page, "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}f");
    }

    #[test]
    fn visible_text_stays() {
        let text = "Grüße, ✓ “日本”\n\t\r";
        assert_eq!(with_visible_text(text.to_owned()), text);
    }
}
