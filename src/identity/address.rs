//! Addresses: one text into lines, city, state, postal code and country, where its form leaves no doubt.
//!
//! A wrong city is worse than none, because nobody looks for it. So each country's rule demands signs that only its
//! own addresses have (a ZIP code after a state, a British postcode, …); without them the whole text goes to the
//! first line. Nothing is added that the text does not say, and the text itself is always kept.

use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::blank;

mod countries;
mod places;
mod shapes;
#[cfg(test)]
mod tests;

/// An address in parts. No part is empty; `raw` is the source's text, unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Address {
    /// House and street; or the whole text, where it could not be split.
    pub line1: Option<String>,
    /// What else stands before the city.
    pub line2: Option<String>,
    /// City or town.
    pub city: Option<String>,
    /// State, province or county: a code where the country uses codes (USA, Canada), else its name.
    pub state: Option<String>,
    /// Postal code, in its country's usual spelling.
    pub postal_code: Option<String>,
    /// The country's ISO 3166-1 alpha-2 code, if the text names the country.
    pub country: Option<String>,
    /// The source's text.
    pub raw: String,
}

/// What a country's rule found at the end of an address. The first `lines` segments are the lines.
#[derive(Debug, Default)]
struct Place {
    lines: usize,
    city: Option<String>,
    state: Option<String>,
    postal_code: Option<String>,
}

/// Splits an address. Commas, semicolons and line ends separate its segments.
pub fn split(raw: &str) -> Address {
    let mut address = Address { raw: raw.to_owned(), ..Address::default() };
    if blank::is_absent(raw) {
        return address;
    }
    let text = tidy(raw);
    let segments: Vec<&str> = text
        .split(',')
        .map(|segment| segment.trim_matches(|c: char| c == ' ' || c == ','))
        .filter(|segment| segment.contains(char::is_alphanumeric))
        .collect();
    let Some((country, place)) = place(&segments) else {
        let line = segments.join(", ");
        let line = line.trim_end_matches([' ', '.']);
        address.line1 = (!blank::is_absent(line)).then(|| line.to_owned());
        return address;
    };
    let mut lines = segments[..place.lines].iter().copied();
    address.line1 = lines.next().map(str::to_owned);
    // `12, Allen Avenue`: a house number alone is no line.
    if let Some(line) = &mut address.line1
        && line.len() <= 5
        && line.starts_with(|c: char| c.is_ascii_digit())
        && !line.contains(' ')
        && let Some(street) = lines.next()
    {
        *line = format!("{line} {street}");
    }
    address.line2 = Some(lines.collect::<Vec<_>>().join(", ")).filter(|line| !line.is_empty());
    address.city = place.city;
    address.state = place.state;
    address.postal_code = place.postal_code;
    address.country = country.map(|country| country.code.to_owned());
    address
}

/// The country if it is named, and what its rule found. `None`: not sure of anything.
fn place(segments: &[&str]) -> Option<(Option<places::Country>, Place)> {
    let (last, before) = segments.split_last()?;
    if before.is_empty() {
        return None;
    }
    if let Some(country) = places::country(last) {
        let place = countries::stated(country.code, before).unwrap_or_else(|| countries::general(before));
        return Some((Some(country), place));
    }
    // These are states or provinces too; the segment before tells.
    if matches!(*last, "DE" | "NL" | "IN")
        && let Some(country) = places::country_by_code(last)
        && let Some(place) = countries::stated(country.code, before)
        && place.postal_code.is_some()
    {
        return Some((Some(country), place));
    }
    Some((None, countries::unstated(segments)?))
}

/// NFC, commas for line ends and semicolons, single blanks, nothing invisible.
fn tidy(raw: &str) -> String {
    let visible: String = raw.chars().filter(|c| !blank::is_invisible(*c)).collect();
    // First, because a few characters become semicolons or blanks by it.
    let visible = if is_nfc(&visible) { visible } else { visible.nfc().collect() };
    let mut out = String::with_capacity(visible.len());
    for c in visible.chars() {
        match c {
            '\n' | '\r' | ';' | '|' | '，' | '、' | '\u{2028}' | '\u{2029}' => out.push(','),
            c if c.is_whitespace() || c.is_control() => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c => out.push(c),
        }
    }
    let end = out.trim_end_matches([' ', '.', ',']).len();
    out.truncate(end);
    out
}
