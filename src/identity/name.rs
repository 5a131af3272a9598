//! Names: one text into title, first, middle, last name and suffix, and whether two names can be one person's.
//!
//! No rule is right for all names, so this splits by signs that hold in many cultures (particles, commas, scripts)
//! and leaves the rest in order: nothing is dropped, and the parts in display order read as the name did. Only
//! names typed wholly in capitals or wholly in small letters get another case.

use std::borrow::Cow;

use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::blank;

pub use compare::compatible;

mod case;
mod cjk;
mod compare;
#[cfg(test)]
mod tests;
mod words;

/// A person's name in parts. No part is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Name {
    /// `Dr.`, `Mrs`, `Alhaji`.
    pub title: Option<String>,
    /// The first name; of people with a single name, that name. [`split`] fills it whenever there is any name.
    pub first: Option<String>,
    /// Everything between first and last name: names, initials, a nickname in brackets.
    pub middle: Option<String>,
    /// The family name with its particles: `de la Cruz`, `bin Salman`.
    pub last: Option<String>,
    /// `Jr.`, `III`, `PhD`.
    pub suffix: Option<String>,
}

/// Splits a full name.
pub fn split(full: &str) -> Name {
    let text = clean(full);
    if !text.contains(char::is_alphanumeric) {
        return Name::default();
    }
    if let Some((last, first)) = cjk::split(&text) {
        return Name { first: Some(first), last, ..Name::default() };
    }
    let mut groups: Vec<Vec<&str>> = text
        .split([',', '،'])
        .map(|group| group.split(' ').filter(|word| !word.is_empty()).collect())
        .filter(|group: &Vec<&str>| !group.is_empty())
        .collect();

    let mut draft = Draft::default();
    // `John Obi, PhD, MD`: groups at the end that hold nothing else are suffixes.
    while groups.len() > 1
        && groups.last().is_some_and(|group| group.iter().all(|w| words::suffix_after_comma(w)))
    {
        draft.suffix.splice(0..0, groups.pop().unwrap_or_default());
    }
    let mut groups = groups.into_iter();
    let mut head = groups.next().unwrap_or_default();
    let mut given: Vec<&str> = groups.flatten().collect();

    draft.take_title(&mut head);
    draft.take_suffix(&mut head);
    if given.is_empty() {
        draft.western(head);
    } else {
        // `Obi, Dr. Ada`: the family name stands first.
        draft.take_title(&mut given);
        draft.take_suffix(&mut given);
        // `Cruz, Juan de la`: particles at the end go with the family name.
        let kept = given.iter().rposition(|word| !words::is_particle(word)).map_or(given.len(), |at| at + 1);
        draft.last = given.split_off(kept);
        draft.last.extend(head);
        let mut given = given.into_iter();
        draft.first.extend(given.next());
        draft.middle.extend(given);
    }
    draft.finish()
}

/// Cleans a name that comes in parts. The parts stay what the source says they are, but a title before the first
/// name and a suffix after the last one are taken out, and a full name that stands alone in the first name's place is
/// split.
pub fn from_parts(first: Option<&str>, middle: Option<&str>, last: Option<&str>) -> Name {
    let clean_part = |part: Option<&str>| {
        part.map(clean).filter(|text| text.contains(char::is_alphanumeric)).map(Cow::into_owned)
    };
    let (first, middle, last) = (clean_part(first), clean_part(middle), clean_part(last));
    if let (Some(first), None, None) = (&first, &middle, &last) {
        return split(first);
    }
    let words_of = |part: &'_ Option<String>| -> Vec<String> {
        part.iter().flat_map(|text| text.split(' ')).map(str::to_owned).collect()
    };
    let (first, middle, last) = (words_of(&first), words_of(&middle), words_of(&last));
    fn borrowed(words: &[String]) -> Vec<&str> {
        words.iter().map(String::as_str).collect()
    }
    let mut draft = Draft { middle: borrowed(&middle), ..Draft::default() };
    let (mut given, mut family) = (borrowed(&first), borrowed(&last));
    draft.take_title(&mut given);
    draft.take_suffix(&mut family);
    (draft.first, draft.last) = (given, family);
    draft.finish()
}

/// The name as it is spoken and written: title, first, middle, last, suffix; in CJK scripts the family name first and
/// no blanks (with a middle dot between parts that are all katakana).
pub fn display(name: &Name) -> String {
    let core: Vec<&str> =
        [&name.first, &name.middle, &name.last].into_iter().flatten().map(String::as_str).collect();
    let core = match &name.last {
        Some(last) if core.len() > 1 && core.iter().all(|part| cjk::is_cjk(part)) => {
            if core.iter().all(|part| cjk::is_katakana(part)) {
                core.join("・")
            } else {
                let given: String = core[..core.len() - 1].concat();
                format!("{last}{given}")
            }
        }
        _ => core.join(" "),
    };
    let mut out = String::new();
    for part in [name.title.as_deref(), Some(core.as_str()), name.suffix.as_deref()].into_iter().flatten() {
        if !out.is_empty() && !part.is_empty() {
            out.push(' ');
        }
        out.push_str(part);
    }
    out
}

/// NFC, single blanks, nothing invisible, no stray punctuation at the ends.
fn clean(raw: &str) -> Cow<'_, str> {
    let text = blank::trim(raw).trim_matches(|c: char| matches!(c, ' ' | ',' | '،' | ';' | ':' | '*' | '_'));
    let tidy = text.is_ascii() && !text.contains("  ") && !text.bytes().any(|byte| byte.is_ascii_control());
    if tidy {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // The joiners are invisible too, but belong to the spelling of Persian and Indian names.
        if blank::is_invisible(c) && !matches!(c, '\u{200c}' | '\u{200d}') {
            continue;
        }
        let blank = c.is_whitespace() || c.is_control();
        if !blank {
            out.push(c);
        } else if !out.ends_with(' ') {
            out.push(' ');
        }
    }
    if !is_nfc(&out) {
        out = out.nfc().collect();
    }
    // Taking characters out can bring blanks or punctuation to an end.
    let trimmed =
        blank::trim(&out).trim_matches(|c: char| matches!(c, ' ' | ',' | '،' | ';' | ':' | '*' | '_'));
    if trimmed.len() == out.len() { Cow::Owned(out) } else { Cow::Owned(clean(trimmed).into_owned()) }
}

/// The words of each part, before their case is looked at.
#[derive(Default)]
struct Draft<'a> {
    title: Vec<&'a str>,
    first: Vec<&'a str>,
    middle: Vec<&'a str>,
    last: Vec<&'a str>,
    suffix: Vec<&'a str>,
}

impl<'a> Draft<'a> {
    fn take_title(&mut self, words: &mut Vec<&'a str>) {
        let mut taken = 0;
        while taken + 1 < words.len() && words::is_title(words[taken], words.len() - taken - 1, taken > 0) {
            taken += 1;
        }
        self.title.extend(words.drain(..taken));
    }

    fn take_suffix(&mut self, words: &mut Vec<&'a str>) {
        let mut kept = words.len();
        while kept > 1 && words::is_suffix(words[kept - 1], kept - 1) {
            kept -= 1;
        }
        self.suffix.splice(0..0, words.drain(kept..));
    }

    /// First, middle, last, from words in the order in which most of the world's Latin-script names are written.
    fn western(&mut self, mut words: Vec<&'a str>) {
        // A surname alone, particles and all, is a single name.
        if words.len() < 2 || words::is_lower_particle(words[0]) {
            self.first = words;
            return;
        }
        // `Abd al-Rahman` is one name.
        let given = if words.len() > 2 && words::is_half_name(words[0]) { 2 } else { 1 };
        let start = words::last_name_start(&words, given);
        self.last = words.split_off(start);
        self.middle = words.split_off(given);
        self.first = words;
    }

    fn finish(self) -> Name {
        let core = || self.first.iter().chain(&self.middle).chain(&self.last);
        let recase = case::is_one_case(core());
        let family = !self.last.is_empty();
        let part = |words: &[&str], first_word: bool, given: bool| -> Option<String> {
            if words.is_empty() {
                return None;
            }
            if !recase {
                return Some(words.join(" "));
            }
            let last_index = words.len() - 1;
            let cased = words.iter().enumerate().map(|(i, word)| {
                let leading = first_word && i == 0;
                case::title_case(word, leading, i == last_index, given)
            });
            Some(joined(cased))
        };
        let decoration = |words: &[&str], cased: fn(&str) -> String| -> Option<String> {
            match (words.is_empty(), recase) {
                (true, _) => None,
                (false, false) => Some(words.join(" ")),
                (false, true) => Some(joined(words.iter().map(|word| cased(word)))),
            }
        };
        Name {
            title: decoration(&self.title, case::title),
            first: part(&self.first, true, family),
            middle: part(&self.middle, self.first.is_empty(), family),
            last: part(&self.last, self.first.is_empty() && self.middle.is_empty(), false),
            suffix: decoration(&self.suffix, case::suffix),
        }
    }
}

fn joined(words: impl Iterator<Item = String>) -> String {
    let text = words.collect::<Vec<_>>().join(" ");
    if is_nfc(&text) { text } else { text.nfc().collect() }
}
