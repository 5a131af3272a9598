//! The shapes of postal codes, and what looks like a street rather than a city.

use super::super::fold::Folded;

/// Words of which one in a segment means a street or a building, in English and the languages around it.
const STREET_WORDS: &[&str] = &[
    "street",
    "st",
    "road",
    "rd",
    "avenue",
    "ave",
    "drive",
    "dr",
    "lane",
    "ln",
    "way",
    "boulevard",
    "blvd",
    "close",
    "court",
    "ct",
    "crescent",
    "place",
    "square",
    "terrace",
    "highway",
    "hwy",
    "expressway",
    "estate",
    "house",
    "flat",
    "apartment",
    "apt",
    "suite",
    "ste",
    "unit",
    "floor",
    "block",
    "plot",
    "room",
    "building",
    "bldg",
    "po",
    "box",
    "rue",
    "calle",
    "via",
    "rua",
    "avenida",
    "straße",
    "strasse",
    "off",
    "opposite",
    "behind",
    "beside",
    "near",
    "junction",
];

/// True if a segment can be a city: words without digits, none of them a street's.
pub(super) fn is_city(segment: &str) -> bool {
    segment.contains(char::is_alphabetic)
        && !segment.contains(char::is_numeric)
        && segment.split(' ').count() <= 5
        && !segment.split([' ', '.']).enumerate().any(|(i, word)| is_street_word(word, i == 0))
}

fn is_street_word(word: &str, first: bool) -> bool {
    let folded = Folded::of(word);
    let street = folded.is_in(STREET_WORDS)
        || ["straße", "strasse", "straat"].iter().any(|ending| folded.as_str().ends_with(ending));
    // `St Albans`, `St. Louis`
    street && !(first && folded.as_str() == "st")
}

/// True for `count` digits and nothing else.
pub(super) fn is_digits(word: &str, count: usize) -> bool {
    word.len() == count && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// `62704` or `62704-1234`
pub(super) fn is_zip(word: &str) -> bool {
    match word.split_once('-') {
        Some((five, four)) => is_digits(five, 5) && is_digits(four, 4),
        None => is_digits(word, 5),
    }
}

/// Splits the last one or two words off `segment`, if `shape` accepts them (without their blank). Returns what is
/// before, and what `shape` made of them.
pub(super) fn take_end(segment: &str, shape: fn(&str) -> Option<String>) -> Option<(&str, String)> {
    let (before, last) = segment.rsplit_once(' ').unwrap_or(("", segment));
    let two_start = before.rsplit_once(' ').map_or(0, |(start, _)| start.len() + 1);
    let two: String = segment[two_start..].chars().filter(|c| *c != ' ').collect();
    let rest_of_two = segment[..two_start].trim_end();
    if !before.is_empty()
        && let Some(code) = shape(&two)
    {
        return Some((rest_of_two, code));
    }
    shape(last).map(|code| (before, code))
}

/// A postcode of the United Kingdom (Royal Mail's forms A9, A99, AA9, AA99, A9A, AA9A before the last three),
/// written without its blank; returned with it, in capitals.
pub(super) fn uk_postcode(compact: &str) -> Option<String> {
    if !compact.is_ascii() || !(5..=7).contains(&compact.len()) {
        return None;
    }
    let upper = compact.to_ascii_uppercase();
    let (out, inward) = upper.split_at(upper.len() - 3);
    let shape: String = out.chars().map(kind).collect();
    let fits = matches!(shape.as_str(), "A9" | "A99" | "AA9" | "AA99" | "A9A" | "AA9A");
    let inward_fits = inward.chars().map(kind).eq("9AA".chars());
    (fits && inward_fits).then(|| format!("{out} {inward}"))
}

/// A postal code of Canada (`A9A 9A9`), written without its blank; returned with it, in capitals.
pub(super) fn canadian_code(compact: &str) -> Option<String> {
    let fits = compact.is_ascii() && compact.chars().map(kind).eq("A9A9A9".chars());
    fits.then(|| {
        let upper = compact.to_ascii_uppercase();
        format!("{} {}", &upper[..3], &upper[3..])
    })
}

/// An Indian PIN: six digits, the first not zero.
pub(super) fn pin(compact: &str) -> Option<String> {
    let digits = compact.trim_start_matches('-');
    (is_digits(digits, 6) && !digits.starts_with('0')).then(|| digits.to_owned())
}

fn kind(c: char) -> char {
    match c {
        '0'..='9' => '9',
        'A'..='Z' | 'a'..='z' => 'A',
        _ => '?',
    }
}

/// Postal code and city of a segment such as `10115 Berlin`, `F-75001 Paris`, `1012 AB Amsterdam`.
pub(super) struct CodeAndCity<'a> {
    pub code: String,
    pub city: &'a str,
    /// Digits of the code; 0 for the Dutch form, which no other country has.
    pub digits: usize,
    /// A country's letters stood before the code.
    pub prefixed: bool,
}

/// Reads a segment that begins with a postal code and goes on with a city.
pub(super) fn code_and_city(segment: &str) -> Option<CodeAndCity<'_>> {
    let (first, rest) = segment.split_once(' ')?;
    let number = first.split_once('-').filter(|(letters, _)| {
        (1..=2).contains(&letters.len()) && letters.bytes().all(|byte| byte.is_ascii_uppercase())
    });
    let (code, prefixed) = match number {
        Some((_, number)) => (number, true),
        None => (first, false),
    };
    if is_digits(code, 4)
        && let Some((letters, city)) = rest.split_once(' ')
        && letters.len() == 2
        && letters.bytes().all(|byte| byte.is_ascii_uppercase())
        && is_city(city)
    {
        return Some(CodeAndCity { code: format!("{code} {letters}"), city, digits: 0, prefixed });
    }
    // `1012AB Amsterdam`
    if let Some(digits) = code.get(..4)
        && is_digits(digits, 4)
        && code.len() == 6
        && code[4..].bytes().all(|byte| byte.is_ascii_uppercase())
        && is_city(rest)
    {
        return Some(CodeAndCity {
            code: format!("{digits} {}", &code[4..]),
            city: rest,
            digits: 0,
            prefixed,
        });
    }
    let known = is_digits(code, 4) || is_digits(code, 5);
    (known && is_city(rest)).then(|| CodeAndCity {
        code: code.to_owned(),
        city: rest,
        digits: code.len(),
        prefixed,
    })
}
