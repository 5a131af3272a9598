//! Phones: E.164 where the text is a number somebody could dial, and an honest "no" where it is not.
//!
//! A wrong number is worse than none: it becomes somebody else's login. So a text is turned into E.164 only if the
//! numbering plan knows numbers of that length, and whatever was guessed on the way is flagged. The rules of the
//! numbering plans are those of Google's libphonenumber, by way of the `rlibphonenumber` crate, which reads its
//! metadata once per process.

use std::borrow::Cow;

use rlibphonenumber::{NumberLengthType, PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat, Region};

use super::blank;

#[cfg(test)]
mod tests;

/// What a source's phone field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phone {
    /// Nothing: empty, only zeros, or a word such as `N/A`.
    Missing,
    /// Nothing that could be dialled from abroad: wrong length, a local number without its area code, a number
    /// mangled by a spreadsheet. The caller keeps the text as it is, as a contact only.
    Impossible,
    /// A number of a possible length.
    Possible {
        /// The number as E.164: `+`, country code, national number; no blanks.
        e164: String,
        /// True if the number lies in a range that its country's plan has handed out.
        valid: bool,
        /// The extension, digits only. Not part of `e164`, so an office's numbers compare equal.
        extension: Option<String>,
        /// What was remarkable about it.
        flags: PhoneFlags,
    },
}

/// Remarks about a phone number. Several can hold at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PhoneFlags(u8);

impl PhoneFlags {
    /// Nothing remarkable.
    pub const NONE: Self = Self(0);
    /// Letters were read as the digits they share a key with (`1-800-FLOWERS`).
    pub const LETTERS_TO_DIGITS: Self = Self(1);
    /// The field held several numbers; this is the first.
    pub const FIRST_OF_SEVERAL: Self = Self(1 << 1);
    /// Words beside the number were left out (`Tel.`, `after 5 pm`).
    pub const TEXT_IGNORED: Self = Self(1 << 2);

    const NAMES: [(Self, &'static str); 3] = [
        (Self::LETTERS_TO_DIGITS, "letters-to-digits"),
        (Self::FIRST_OF_SEVERAL, "first-of-several"),
        (Self::TEXT_IGNORED, "text-ignored"),
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

    /// The names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| name)
    }
}

/// Fewer digits than this are no second number, but an extension or the ending of another line.
const LEAST_DIGITS: usize = 7;

/// More digits than this are no number, whatever comes before and behind it: 15 of E.164, as many of an extension,
/// and what is dialled first. A field may hold a whole book, and each blank of it would be tried.
const MOST_DIGITS: usize = 40;

/// The one spelling of a phone field. `default_region` (ISO 3166-1 alpha-2, such as `NG`) is the country of numbers
/// that do not name theirs; check it once with [`check_region`]: with an unknown one, only numbers that begin with
/// `+` are understood.
pub fn normalise(raw: &str, default_region: &str) -> Phone {
    let text = blank::trim(raw);
    if blank::is_absent(text) {
        return Phone::Missing;
    }
    let visible: Cow<'_, str> = if text.is_ascii() || !text.contains(blank::is_invisible) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.chars().filter(|c| !blank::is_invisible(*c)).collect())
    };
    let mut text = visible.as_ref();
    // What a spreadsheet makes of a number: 8031234567.0 is one, 8.03E+09 no longer is.
    if let Some(whole) = text.strip_suffix(".0")
        && whole.bytes().all(|byte| byte.is_ascii_digit() || byte == b'+')
    {
        text = whole;
    }
    let letters = text.contains(char::is_alphabetic);
    if letters && (is_scientific(text) || has_stray_letter(text)) {
        return Phone::Impossible;
    }
    if !letters && text.contains('0') && !text.chars().any(|c| c.is_numeric() && c != '0') {
        return Phone::Missing;
    }
    let region = known_region(default_region);
    let Some((number, part)) = read(text, region) else { return Phone::Impossible };

    let mut flags = PhoneFlags::NONE;
    if part.len() != text.len() {
        flags.insert(PhoneFlags::FIRST_OF_SEVERAL);
    }
    if letters && part.contains(char::is_alphabetic) {
        let digits = PHONE_NUMBER_UTIL.normalize_digits_only(part);
        if !digits.contains(&number.national_number.to_string()) {
            flags.insert(PhoneFlags::LETTERS_TO_DIGITS);
        } else if number.extension.is_none() {
            flags.insert(PhoneFlags::TEXT_IGNORED);
        }
    }
    let valid = number.is_valid();
    let e164 = number.format_as(PhoneNumberFormat::E164).into_owned();
    // A number outside the plan may be read differently the second time (its first digits taken for a prefix), and
    // then two rows with one number would not meet.
    if !valid && dialable(&e164, region).is_none_or(|again| again.format_as(PhoneNumberFormat::E164) != e164)
    {
        return Phone::Impossible;
    }
    Phone::Possible { e164, valid, extension: number.extension.filter(|ext| !ext.is_empty()), flags }
}

/// Checks a default region.
///
/// # Errors
/// A sentence that names the code, with the nearest one if it looks like a slip.
pub fn check_region(region: &str) -> Result<(), String> {
    if known_region(region).is_some() {
        return Ok(());
    }
    let mut hint = "use a code of ISO 3166-1 with two capital letters, such as NG, GB, US or DE".to_owned();
    let upper = blank::trim(region).to_ascii_uppercase();
    let slip = match upper.as_str() {
        "UK" => Some("GB"),
        "USA" => Some("US"),
        "NGA" | "NIGERIA" => Some("NG"),
        "GER" | "DEU" | "GERMANY" => Some("DE"),
        _ => known_region(&upper).map(|_| upper.as_str()),
    };
    if let Some(near) = slip {
        hint = format!("did you mean `{near}`?");
    }
    Err(format!("`{region}` is no region for phone numbers: {hint}"))
}

/// The region, if the numbering plans have it.
fn known_region(code: &str) -> Option<Region> {
    // The crate folds case; a setting should have one spelling.
    if code.len() != 2 || !code.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let region = code.parse::<Region>().ok()?;
    PHONE_NUMBER_UTIL.get_country_code_for_region(region).map(|_| region)
}

/// The number in `text`, and the part of the text that it was read from.
fn read(text: &str, region: Option<Region>) -> Option<(PhoneNumber, &str)> {
    // A slash or a comma can stand inside one number or between two. If what comes before it is a valid number
    // and enough follows for another, there are two.
    if let Some(first) = before_separator(text)
        && let Some(number) = dialable(first, region).filter(PhoneNumber::is_valid)
    {
        return Some((number, first));
    }
    if let Some(number) = dialable(text, region) {
        return Some((number, text));
    }
    // Two numbers with only a blank between them are too long for one.
    let total = digits(text);
    let mut seen = 0;
    let mut blank_before = false;
    for (at, c) in text.char_indices() {
        seen += usize::from(c.is_numeric());
        let is_blank = c.is_whitespace();
        let begins_gap = is_blank && !blank_before;
        blank_before = is_blank;
        if !begins_gap || seen < LEAST_DIGITS {
            continue;
        }
        if seen > MOST_DIGITS || total - seen < LEAST_DIGITS {
            break;
        }
        let first = &text[..at];
        if let Some(number) = dialable(first, region).filter(PhoneNumber::is_valid) {
            return Some((number, first));
        }
    }
    None
}

/// The text before the first separator that may stand between two numbers.
fn before_separator(text: &str) -> Option<&str> {
    let total = digits(text);
    if total <= LEAST_DIGITS {
        return None;
    }
    let mut seen = 0;
    for (at, c) in text.char_indices() {
        let width = match c {
            '/' | '\\' | ';' | ',' | '|' | '&' | '\n' | '\r' => 1,
            ' ' if text[at..].starts_with(" or ") => 4,
            ' ' if text[at..].starts_with(" and ") => 5,
            _ => {
                seen += usize::from(c.is_numeric());
                continue;
            }
        };
        let rest = &text[at + width..];
        // RFC 3966 writes its parameters after semicolons.
        if c == ';' && (rest.starts_with("ext=") || rest.starts_with("phone-context=")) {
            continue;
        }
        let left = total - seen;
        // 555 1234/5 means 555 1234 and 555 1235.
        if seen >= LEAST_DIGITS && (left >= LEAST_DIGITS || (c == '/' && (1..=3).contains(&left))) {
            return Some(text[..at].trim_end());
        }
    }
    None
}

/// The number, if it can be dialled from abroad.
fn dialable(text: &str, region: Option<Region>) -> Option<PhoneNumber> {
    // Local-only numbers are possible to the library, but as E.164 they would be a different, wrong number.
    let possible =
        |number: &PhoneNumber| matches!(number.is_possible_with_reason(), Ok(NumberLengthType::IsPossible));
    let plain = PHONE_NUMBER_UTIL.parse(text, region).ok().filter(possible);
    // People write 00 before a country code wherever they are, whatever their country's own prefix is.
    if let Some(rest) = text.strip_prefix("00")
        && !plain.as_ref().is_some_and(PhoneNumber::is_valid)
        && let Ok(number) = PHONE_NUMBER_UTIL.parse(format!("+{rest}"), None)
        && number.is_valid()
    {
        return Some(number);
    }
    plain
}

fn digits(text: &str) -> usize {
    text.chars().filter(|c| c.is_numeric()).count()
}

/// `8.03123E+09`
fn is_scientific(text: &str) -> bool {
    text.contains(['e', 'E'])
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b',' | b'e' | b'E' | b'+' | b'-'))
}

/// A single letter between two digits is a slip of the finger (`08O3…`). Dropping it would give a wrong number. An `x`
/// begins an extension.
fn has_stray_letter(text: &str) -> bool {
    let mut last = [' ', ' '];
    for c in text.chars() {
        if c.is_numeric() && last[0].is_numeric() && last[1].is_alphabetic() && !matches!(last[1], 'x' | 'X')
        {
            return true;
        }
        last = [last[1], c];
    }
    false
}
