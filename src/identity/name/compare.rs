//! Whether two spellings can be one person's name.
//!
//! Rows with one email are merged only if their names agree, and `J. Obi`, `OBI, Jane` and `Jane Obi` do. The crate
//! `human_name` knows initials, nicknames and transliteration; it errs on the side of "yes", which the equal email
//! has to make up for.

use unicode_normalization::UnicodeNormalization;

/// Longer texts are no names; the crate's cost grows with them.
const LONGEST: usize = 200;

/// True if `a` and `b` can be the same person. Symmetric. A text that cannot be read as a name (empty, a single word,
/// too long) is compatible only with the same text, case and punctuation aside; an empty one with nothing.
pub fn compatible(a: &str, b: &str) -> bool {
    let (plain_a, plain_b) = (plain(a), plain(b));
    if plain_a.is_empty() || plain_b.is_empty() {
        return false;
    }
    if plain_a == plain_b {
        return true;
    }
    let (Some(a), Some(b)) = (parse(a), parse(b)) else { return false };
    // The crate does not promise symmetry.
    a.consistent_with(&b) && b.consistent_with(&a)
}

/// Letters and digits in small letters, words separated by single blanks.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.nfkc().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            out.push(c);
        } else if c.is_whitespace() && !out.is_empty() && !out.ends_with(' ') {
            out.push(' ');
        }
    }
    out.truncate(out.trim_end().len());
    out
}

fn parse(text: &str) -> Option<human_name::Name> {
    let clean = super::clean(text);
    (clean.len() <= LONGEST).then(|| human_name::Name::parse(&clean)).flatten()
}
