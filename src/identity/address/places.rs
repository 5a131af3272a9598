//! Names of countries and states, from the data files beside the code.

use std::collections::HashMap;
use std::sync::LazyLock;

/// A country of ISO 3166-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Country {
    /// Alpha-2 code, which is written to V2: it does not change with the language.
    pub code: &'static str,
}

/// What each spelling stands for. Names are in lower case, codes in capitals: the two never meet.
type Places<T> = LazyLock<HashMap<String, T>>;

static COUNTRIES: Places<Country> = LazyLock::new(|| {
    let mut all = HashMap::new();
    for line in lines(include_str!("../data/countries.txt")) {
        let mut fields = line.splitn(3, ' ');
        let (Some(code), Some(alpha3), Some(spellings)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let country = Country { code };
        all.insert(code.to_owned(), country);
        all.insert(alpha3.to_owned(), country);
        for spelling in spellings.split('|') {
            all.insert(spelling.trim_end_matches('.').to_lowercase(), country);
        }
    }
    all
});
static US: Places<&str> = LazyLock::new(|| coded(include_str!("../data/us_states.txt")));
static CANADA: Places<&str> = LazyLock::new(|| coded(include_str!("../data/canadian_provinces.txt")));
static NIGERIA: Places<&str> = LazyLock::new(|| named(include_str!("../data/nigerian_states.txt")));
static INDIA: Places<&str> = LazyLock::new(|| named(include_str!("../data/indian_states.txt")));
static UK: Places<&str> = LazyLock::new(|| named(include_str!("../data/uk_counties.txt")));

/// No spelling in the files is longer, in octets.
const LONGEST: usize = 64;

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty())
}

fn coded(text: &'static str) -> HashMap<String, &'static str> {
    let both = |line: &'static str| {
        let (code, name) = line.split_once(' ').unwrap_or((line, line));
        [(code.to_owned(), code), (name.to_lowercase(), name)]
    };
    lines(text).flat_map(both).collect()
}

fn named(text: &'static str) -> HashMap<String, &'static str> {
    lines(text).map(|name| (name.to_lowercase(), name)).collect()
}

/// What `text` stands for: a code in capitals, or a name in any case.
fn find<T: Copy>(places: &HashMap<String, T>, text: &str) -> Option<T> {
    if text.len() > LONGEST || text.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    places.get(text).filter(|_| is_code(text)).or_else(|| places.get(text.to_lowercase().as_str())).copied()
}

fn is_code(text: &str) -> bool {
    text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// The country that `text` names. Codes count only in capitals, and codes and names that are also a state's of the USA
/// or a province's of Canada do not count: `CA` is California far more often than Canada, and `Georgia` the state.
pub(super) fn country(text: &str) -> Option<Country> {
    let text = text.trim_end_matches('.');
    find(&COUNTRIES, text).filter(|_| us_state(text).is_none() && province(text).is_none())
}

/// The country with an alpha-2 code, even if the code is also a state's.
pub(super) fn country_by_code(code: &str) -> Option<Country> {
    COUNTRIES.get(code).copied()
}

/// A state of the USA, by code in capitals or by name.
pub(super) fn us_state(text: &str) -> Option<&'static str> {
    find(&US, text)
}

/// A province of Canada, by code in capitals or by name.
pub(super) fn province(text: &str) -> Option<&'static str> {
    find(&CANADA, text)
}

/// A state of Nigeria; the second value is true if the text says that it is one (`Oyo State`).
pub(super) fn nigerian_state(text: &str) -> Option<(&'static str, bool)> {
    let bare = text
        .len()
        .checked_sub(6)
        .filter(|at| text.is_char_boundary(*at) && text[*at..].eq_ignore_ascii_case(" state"))
        .map(|at| text[..at].trim_end());
    let name = find(&NIGERIA, bare.unwrap_or(text).trim_end_matches('.'))?;
    Some((name, bare.is_some()))
}

/// A state of India.
pub(super) fn indian_state(text: &str) -> Option<&'static str> {
    find(&INDIA, text)
}

/// A county of the United Kingdom.
pub(super) fn county(text: &str) -> Option<&'static str> {
    find(&UK, text)
}
