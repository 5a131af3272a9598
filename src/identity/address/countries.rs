//! The rules of the countries whose addresses have a form that can be told.
//!
//! Each rule reads segments from the end and gives up (`None`) unless it sees its country's own signs; a rule may rely
//! on less where the text names the country.

use super::shapes::{canadian_code, code_and_city, is_city, is_digits, is_zip, pin, take_end, uk_postcode};
use super::{Place, places};

/// Countries that write a postal code of five digits before the city, and those that write four.
const FIVE_DIGITS: &[&str] =
    &["DE", "FR", "IT", "ES", "FI", "EE", "HR", "TR", "MC", "MA", "DZ", "SN", "MX", "UA", "LT", "RS"];
const FOUR_DIGITS: &[&str] = &["AT", "CH", "BE", "DK", "NO", "LU", "HU", "LI", "SI", "BG", "TN", "PT"];

/// States of Nigeria whose names are ordinary words or another place's.
const DOUBTFUL_NIGERIAN: &[&str] = &["Niger", "Delta", "Plateau", "Rivers", "Cross River"];
/// States of Nigeria that have a city of their name.
const NIGERIAN_CITIES: &[&str] =
    &["Lagos", "Kano", "Kaduna", "Enugu", "Bauchi", "Gombe", "Katsina", "Sokoto", "Oyo", "Ondo"];

/// State codes that are a country's code as well: not enough without a ZIP code or the country.
const DOUBTFUL_US: &[&str] = &["AL", "AR", "CO", "DE", "GA", "ID", "IL", "IN", "MA"];

/// The rule of a country that the text names. `segments` come before the country.
pub(super) fn stated(code: &str, segments: &[&str]) -> Option<Place> {
    match code {
        "US" | "PR" => usa(segments, true),
        "GB" => united_kingdom(segments),
        "CA" => canada(segments, true),
        "NG" => nigeria(segments, true),
        "IN" => india(segments, true),
        "NL" => continental(segments, |digits| digits == 0),
        _ if FIVE_DIGITS.contains(&code) => continental(segments, |digits| digits == 5),
        _ if FOUR_DIGITS.contains(&code) => continental(segments, |digits| digits == 4),
        _ => None,
    }
}

/// The first rule whose signs are there, if the text names no country.
pub(super) fn unstated(segments: &[&str]) -> Option<Place> {
    united_kingdom(segments)
        .or_else(|| canada(segments, false))
        .or_else(|| usa(segments, false))
        .or_else(|| india(segments, false))
        .or_else(|| nigeria(segments, false))
        .or_else(|| bare_continental(segments))
}

/// A country without a rule of its own: street, city, perhaps a region that says what it is.
pub(super) fn general(segments: &[&str]) -> Place {
    const REGIONS: &[&str] =
        &["region", "province", "state", "county", "district", "prefecture", "governorate"];
    let mut rest = segments;
    let mut state = None;
    if let [before @ .., last] = rest
        && !before.is_empty()
        && is_city(last)
        && last.rsplit_once(' ').is_some_and(|(_, word)| REGIONS.iter().any(|r| r.eq_ignore_ascii_case(word)))
    {
        state = Some((*last).to_owned());
        rest = before;
    }
    Place { state, ..with_city(rest) }
}

/// The last segment as the city, if it can be one.
fn with_city(segments: &[&str]) -> Place {
    match segments {
        [lines @ .., city] if is_city(city) => {
            Place { lines: lines.len(), city: Some((*city).to_owned()), ..Place::default() }
        }
        _ => Place { lines: segments.len(), ..Place::default() },
    }
}

/// `rest` (what a segment holds beside its codes) as the city, or else the segment before.
fn city_in(rest: &str, before: &[&str]) -> Option<Place> {
    if rest.is_empty() {
        return Some(with_city(before));
    }
    is_city(rest).then(|| Place { lines: before.len(), city: Some(rest.to_owned()), ..Place::default() })
}

/// A state at the end of `text`: what stands before it, and the state.
fn take_state(text: &str, state: fn(&str) -> Option<&'static str>) -> Option<(&str, &'static str)> {
    if let Some(found) = state(text) {
        return Some(("", found));
    }
    // Names have up to three words; the longest that fits is meant.
    let gaps: Vec<usize> = text.rmatch_indices(' ').map(|(at, _)| at).take(3).collect();
    gaps.into_iter().rev().find_map(|at| Some((&text[..at], state(&text[at + 1..])?)))
}

/// `…, Springfield, IL 62704`
fn usa(segments: &[&str], stated: bool) -> Option<Place> {
    let (last, mut before) = segments.split_last()?;
    let (mut rest, word) = last.rsplit_once(' ').unwrap_or(("", last));
    let zip = is_zip(word);
    if !zip {
        rest = last;
    } else if rest.is_empty() {
        // `IL, 62704`
        (rest, before) = before.split_last().map(|(rest, before)| (*rest, before))?;
    }
    let (rest, state) = take_state(rest, places::us_state)?;
    let place = city_in(rest, before)?;
    let is_code = state.len() == 2;
    let sure = zip
        || stated
        || (is_code
            && !DOUBTFUL_US.contains(&state)
            && place.city.is_some()
            && place.lines > 0
            && rest.is_empty());
    sure.then(|| Place { state: Some(state.to_owned()), postal_code: zip.then(|| word.to_owned()), ..place })
}

/// `…, London SW1A 1AA`, with or without a county
fn united_kingdom(segments: &[&str]) -> Option<Place> {
    let (last, mut before) = segments.split_last()?;
    let (mut rest, code) = take_end(last, uk_postcode)?;
    let mut state = None;
    if rest.is_empty() {
        if let [earlier @ .., county] = before
            && earlier.len() > 1
            && let Some(county) = places::county(county)
        {
            (state, before) = (Some(county), earlier);
        }
    } else if before.len() > 1
        && let Some(county) = places::county(rest)
    {
        (state, rest) = (Some(county), "");
    }
    let place = city_in(rest, before)?;
    Some(Place { state: state.map(str::to_owned), postal_code: Some(code), ..place })
}

/// `…, Toronto, ON M5V 2T6`
fn canada(segments: &[&str], stated: bool) -> Option<Place> {
    let (last, mut before) = segments.split_last()?;
    let (mut rest, code) = match take_end(last, canadian_code) {
        Some((rest, code)) => (rest, Some(code)),
        None if stated => (*last, None),
        None => return None,
    };
    if rest.is_empty() {
        (rest, before) = before.split_last().map(|(rest, before)| (*rest, before))?;
    }
    let (rest, state) = match take_state(rest, places::province) {
        Some((rest, state)) => (rest, Some(state)),
        None => (rest, None),
    };
    if code.is_none() && state.is_none() {
        return None;
    }
    let place = city_in(rest, before)?;
    Some(Place { state: state.map(str::to_owned), postal_code: code, ..place })
}

/// `…, Ikeja, Lagos State`, with or without a postal code of six digits
fn nigeria(segments: &[&str], stated: bool) -> Option<Place> {
    let (last, mut before) = segments.split_last()?;
    let mut code = None;
    let mut rest = *last;
    let (start, word) = last.rsplit_once(' ').unwrap_or(("", last));
    if is_digits(word, 6) {
        (code, rest) = (Some(word), start);
        if rest.is_empty() {
            (rest, before) = before.split_last().map(|(rest, before)| (*rest, before))?;
        }
    }
    let (state, says_state) = places::nigerian_state(rest)?;
    let mut before = before.to_vec();
    // `Ikeja 100271, Lagos`
    if code.is_none()
        && let Some(town) = before.last_mut()
        && let Some((start, word)) = town.rsplit_once(' ')
        && is_digits(word, 6)
        && is_city(start)
    {
        (code, *town) = (Some(word), start);
    }
    let mut place = with_city(&before);
    let certain_name = !DOUBTFUL_NIGERIAN.contains(&state) && place.city.is_some() && place.lines > 0;
    if !(stated || says_state || certain_name) {
        return None;
    }
    place.postal_code = code.map(str::to_owned);
    // `12 Broad Street, Lagos, Nigeria`: the city, not the state.
    if place.city.is_none() && !says_state && NIGERIAN_CITIES.contains(&state) {
        place.city = Some(state.to_owned());
    } else {
        place.state = Some(state.to_owned());
    }
    Some(place)
}

/// `…, Bengaluru, Karnataka 560001`, `…, Bengaluru - 560 001, Karnataka`
fn india(segments: &[&str], stated: bool) -> Option<Place> {
    let (last, mut before) = segments.split_last()?;
    let mut state = places::indian_state(last);
    let mut rest = *last;
    if state.is_some() {
        (rest, before) = before.split_last().map(|(rest, before)| (*rest, before))?;
    }
    let mut code = None;
    if let Some((start, found)) = take_end(rest, pin) {
        (rest, code) = (start.trim_end_matches([' ', '-']), Some(found));
    }
    if code.is_none() && !(stated && state.is_some()) {
        return None;
    }
    if rest.is_empty() && state.is_none() {
        if let [earlier @ .., name] = before
            && let Some(found) = places::indian_state(name)
        {
            (state, before) = (Some(found), earlier);
        }
    } else if state.is_none()
        && let Some((start, found)) = take_state(rest, places::indian_state)
        // Delhi is a city as well, and New Delhi is one.
        && (start.is_empty() || found != "Delhi")
        && (!start.is_empty() || before.last().is_some_and(|town| is_city(town)))
    {
        (rest, state) = (start, Some(found));
    }
    if !stated && state.is_none() {
        return None;
    }
    let place = match city_in(rest, before) {
        Some(place) => place,
        // The state is sure, the rest of the segment is a street.
        None if code.is_none() => Place { lines: before.len() + 1, ..Place::default() },
        None => return None,
    };
    Some(Place { state: state.map(str::to_owned), postal_code: code, ..place })
}

/// `…, 10115 Berlin`, where the country is known; or `…, Berlin, 10115`
fn continental(segments: &[&str], fits: fn(usize) -> bool) -> Option<Place> {
    let (last, before) = segments.split_last()?;
    if let Some(found) = code_and_city(last).filter(|found| fits(found.digits)) {
        let city = Some(found.city.to_owned());
        return Some(Place { lines: before.len(), city, postal_code: Some(found.code), state: None });
    }
    let place = with_city(before);
    let alone = last.bytes().all(|byte| byte.is_ascii_digit()) && fits(last.len()) && place.city.is_some();
    alone.then(|| Place { postal_code: Some((*last).to_owned()), ..place })
}

/// `…, 10115 Berlin` without a country. Four or five digits can be a house number too, so the segment before must
/// have one of its own; the Dutch form and a country's letter before the code need no such proof.
fn bare_continental(segments: &[&str]) -> Option<Place> {
    let (last, before) = segments.split_last()?;
    let found = code_and_city(last)?;
    let numbered = before.last().is_some_and(|street| {
        street.contains(|c: char| c.is_ascii_digit()) && street.contains(char::is_alphabetic)
    });
    if !(found.digits == 0 || found.prefixed || (found.digits == 5 && numbered)) {
        return None;
    }
    let city = Some(found.city.to_owned());
    Some(Place { lines: before.len(), city, postal_code: Some(found.code), state: None })
}
