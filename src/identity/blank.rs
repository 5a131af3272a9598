//! What looks like nothing: invisible characters, and the words people type into a field they leave empty.
//!
//! Old forms demanded an email and a phone, so their columns are full of `N/A` and `-`. Taken as values they would
//! all be duplicates of each other; they have to count as missing before anything is compared.

/// True for characters that take no room on the screen: zero-width and soft-hyphen characters, marks of writing
/// direction, and the byte order mark. They come with text that was copied from a web page or a spreadsheet.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Cuts white space (Unicode's too), control characters and invisible characters from both ends.
pub fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c.is_control() || is_invisible(c))
}

/// Words that stand for "there is none", in the languages the example data comes in. Lower case, ASCII.
const ABSENT: &[&str] = &[
    "#n/a",
    "(none)",
    "(null)",
    "<null>",
    "absent",
    "aucun",
    "blank",
    "empty",
    "kein",
    "keine",
    "missing",
    "n.a",
    "n.a.",
    "n/a",
    "n/a.",
    "n\\a",
    "na",
    "nan",
    "nil",
    "ninguno",
    "no",
    "no email",
    "no mail",
    "no number",
    "no phone",
    "noemail",
    "nomail",
    "none",
    "nophone",
    "not applicable",
    "not available",
    "not given",
    "not provided",
    "null",
    "sin correo",
    "tba",
    "tbd",
    "undefined",
    "unknown",
    "x",
    "xx",
    "xxx",
];

/// True if a contact field says, in whatever way, that there is nothing: empty, only punctuation, or a word such as
/// `N/A`, `none`, `null`. Not for names: there are people called Null and Na.
pub fn is_absent(text: &str) -> bool {
    let text = trim(text);
    if text.chars().all(|c| c.is_ascii_punctuation() || c.is_whitespace() || is_invisible(c)) {
        return true;
    }
    // The longest word of the list has 14 characters.
    if text.len() > 16 {
        return false;
    }
    let bare = text.trim_matches(|c: char| matches!(c, '-' | '_' | '*' | '"' | '\'' | '!' | '?'));
    ABSENT.iter().any(|word| word.eq_ignore_ascii_case(bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trims_what_cannot_be_seen() {
        assert_eq!(trim("\u{feff}\u{a0} a b\u{200b}\t\0"), "a b");
        assert_eq!(trim("\u{3000}"), "");
    }

    #[test]
    fn knows_the_words_for_nothing() {
        for text in
            ["", " ", "-", "--", "N/A", "n/a.", "None", "NULL", " null ", "nil", "?", "'-'", "#N/A", "-none-"]
        {
            assert!(is_absent(text), "{text}");
        }
        for text in ["a@b.co", "0", "Nina", "nobody@example.org", "+1", "no thank you very much"] {
            assert!(!is_absent(text), "{text}");
        }
    }
}
