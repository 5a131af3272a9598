//! A short word in small letters, on the stack.
//!
//! Names and addresses are looked up word by word in small lists, for millions of rows. Folding a word once and
//! comparing octets makes that cheap, and costs no allocation.

/// Longer words are on none of the lists.
const ROOM: usize = 32;

/// A word in lower case, without dots.
pub(super) struct Folded {
    octets: [u8; ROOM],
    len: usize,
}

impl Folded {
    /// Folds a word. One that is too long becomes empty, which no list has.
    pub fn of(word: &str) -> Self {
        let mut this = Self { octets: [0; ROOM], len: 0 };
        for c in word.chars().filter(|c| *c != '.').flat_map(char::to_lowercase) {
            let Some(room) = this.octets.get_mut(this.len..this.len + c.len_utf8()) else {
                this.len = 0;
                break;
            };
            c.encode_utf8(room);
            this.len += c.len_utf8();
        }
        this
    }

    /// The folded word.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.octets[..self.len]).unwrap_or_default()
    }

    /// True if the list has the word.
    pub fn is_in(&self, list: &[&str]) -> bool {
        let word = self.as_str();
        !word.is_empty() && list.contains(&word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_short_words_only() {
        assert_eq!(Folded::of("Ph.D.").as_str(), "phd");
        assert_eq!(Folded::of("ÉÖ").as_str(), "éö");
        assert_eq!(Folded::of(&"x".repeat(33)).as_str(), "");
        assert!(!Folded::of("...").is_in(&["", "a"]));
    }
}
