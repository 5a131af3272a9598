//! What was remarkable about an email, as a small set.

use std::ops::BitOr;

/// Remarks about an email address. Several can hold at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct EmailFlags(u8);

impl EmailFlags {
    /// Nothing remarkable.
    pub const NONE: Self = Self(0);
    /// A compatibility character (full-width letter, ligature, circled letter, …) became another one.
    pub const CHANGED_BY_NFKC: Self = Self(1);
    /// The part before the `@` is not ASCII: many servers cannot deliver it (RFC 6531).
    pub const NON_ASCII_LOCAL: Self = Self(1 << 1);
    /// The domain is not ASCII, or is the ASCII form (`xn--`) of one that is not.
    pub const NON_ASCII_DOMAIN: Self = Self(1 << 2);
    /// Letters of scripts that look alike (Latin, Greek, Cyrillic, …) stand in one word.
    pub const MIXED_SCRIPT: Self = Self(1 << 3);
    /// A Turkish `İ` or `ı`, whose lower case differs from system to system.
    pub const TURKISH_I: Self = Self(1 << 4);
    /// Invisible characters were taken out.
    pub const INVISIBLE_REMOVED: Self = Self(1 << 5);
    /// The field held several addresses; this is the first.
    pub const FIRST_OF_SEVERAL: Self = Self(1 << 6);
    /// Blanks beside the `@` were taken out.
    pub const REPAIRED: Self = Self(1 << 7);

    /// Flags and their stable names, for reports and the conflict log.
    const NAMES: [(Self, &'static str); 8] = [
        (Self::CHANGED_BY_NFKC, "compatibility-characters"),
        (Self::NON_ASCII_LOCAL, "non-ascii-local-part"),
        (Self::NON_ASCII_DOMAIN, "non-ascii-domain"),
        (Self::MIXED_SCRIPT, "mixed-scripts"),
        (Self::TURKISH_I, "turkish-i"),
        (Self::INVISIBLE_REMOVED, "invisible-characters"),
        (Self::FIRST_OF_SEVERAL, "first-of-several"),
        (Self::REPAIRED, "blanks-removed"),
    ];

    /// True if all of `other`'s flags are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Sets `other`'s flags.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// True if no flag is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True if another mailbox may have been folded into this spelling, or the spelling may imitate another: such an
    /// address must not merge two people on its own.
    pub fn forbids_merge(self) -> bool {
        let doubtful = Self::CHANGED_BY_NFKC | Self::MIXED_SCRIPT | Self::TURKISH_I | Self::INVISIBLE_REMOVED;
        self.0 & doubtful.0 != 0
    }

    /// The names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| name)
    }

    /// Flags what the folded local part shows.
    pub(super) fn note_local(&mut self, local: &str) {
        if !local.is_ascii() {
            self.insert(Self::NON_ASCII_LOCAL);
            if mixes_scripts(local) {
                self.insert(Self::MIXED_SCRIPT);
            }
        }
    }

    /// Flags what the folded `domain` and its canonical Unicode form show.
    pub(super) fn note_domain(&mut self, domain: &str, unicode: &str) {
        if !unicode.is_ascii() {
            self.insert(Self::NON_ASCII_DOMAIN);
            if unicode.split('.').any(mixes_scripts) {
                self.insert(Self::MIXED_SCRIPT);
            }
        }
        // UTS 46 folds more than NFKC does (other full stops, for one).
        if !domain.is_ascii() && domain != unicode {
            self.insert(Self::CHANGED_BY_NFKC);
        }
    }
}

impl BitOr for EmailFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// True if letters of two of the scripts with look-alike letters stand side by side. Scripts whose letters nobody
/// takes for Latin ones (Arabic, Han, …) are mixed with Latin every day and do not count.
fn mixes_scripts(word: &str) -> bool {
    let mut seen = 0u8;
    for c in word.chars() {
        seen |= match c {
            'a'..='z' | 'A'..='Z' | '\u{aa}' | '\u{ba}' | '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' => 1,
            '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' => 1 << 1,
            '\u{400}'..='\u{52f}'
            | '\u{1c80}'..='\u{1c8f}'
            | '\u{2de0}'..='\u{2dff}'
            | '\u{a640}'..='\u{a69f}' => 1 << 2,
            '\u{530}'..='\u{58f}' => 1 << 3,
            '\u{13a0}'..='\u{13ff}' | '\u{ab70}'..='\u{abbf}' => 1 << 4,
            '\u{10a0}'..='\u{10ff}' => 1 << 5,
            _ => 0,
        };
    }
    seen.count_ones() > 1
}
