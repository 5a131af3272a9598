//! Case of names that were typed in one case only.
//!
//! Old school forms are full of `OBI ADA` and `ada obi`. Case that was typed on purpose is never touched; where there
//! is none, this makes the most usual one.

use super::words;

/// Names in Mac- whose next letter is a capital. Others (Macey, Machado, Macias) have none, so a list decides.
const MAC: &[&str] = &[
    "macallister",
    "macarthur",
    "macaulay",
    "macbride",
    "maccarthy",
    "maccormack",
    "macdonald",
    "macdougall",
    "macdowell",
    "macewan",
    "macfarlane",
    "macgregor",
    "macintosh",
    "macintyre",
    "mackay",
    "mackenzie",
    "mackinnon",
    "maclean",
    "macleod",
    "macmillan",
    "macnamara",
    "macneil",
    "macneill",
    "macphail",
    "macpherson",
    "macquarie",
    "macrae",
    "mactavish",
];

/// Two consonants that are a name or a short form of one, not initials.
const SHORT_NAMES: &[&str] = &["ng", "md", "st", "mc", "sk", "sh", "th", "kh", "ph", "ng'"];

/// True if the words have two or more letters and all of them are capitals, or all small.
pub(super) fn is_one_case<'a>(words: impl Iterator<Item = &'a &'a str>) -> bool {
    let (mut upper, mut lower) = (0usize, 0usize);
    for c in words.flat_map(|word| word.chars()) {
        upper += usize::from(c.is_uppercase());
        lower += usize::from(c.is_lowercase());
        if upper > 0 && lower > 0 {
            return false;
        }
    }
    upper + lower > 1
}

/// A word of a name. `leading`: the first word of the whole name, `closing`: the last word of its part, `given`: a
/// given name with a family name after it.
pub(super) fn title_case(word: &str, leading: bool, closing: bool, given: bool) -> String {
    if !leading && !closing && words::is_certain_particle(word) {
        return lower(word);
    }
    let mut letters = word.chars();
    if let (Some(a), Some(b), None) = (letters.next(), letters.next(), letters.next())
        && given
        && is_consonant(a)
        && is_consonant(b)
        && !SHORT_NAMES.iter().any(|name| name.eq_ignore_ascii_case(word))
    {
        return word.to_ascii_uppercase();
    }
    let pieces: Vec<&str> = word.split('-').collect();
    let count = pieces.len();
    let cased: Vec<String> = pieces
        .into_iter()
        .enumerate()
        .map(|(i, piece)| {
            let small = match i {
                0 => count > 1 && !leading && is_article(piece),
                _ => i + 1 < count && words::is_certain_particle(piece),
            };
            if small { lower(piece) } else { capitalise(piece) }
        })
        .collect();
    cased.join("-")
}

/// A title: a capital at the start of each hyphenated piece.
pub(super) fn title(word: &str) -> String {
    word.split('-').map(first_upper).collect::<Vec<_>>().join("-")
}

/// A suffix, in the case that its list has.
pub(super) fn suffix(word: &str) -> String {
    let known = [words::SUFFIXES, words::GENERATIONS, words::SUFFIXES_AFTER_COMMA]
        .into_iter()
        .find_map(|list| words::find_cased(word, list));
    let Some(known) = known else { return word.to_owned() };
    let mut letters = known.chars();
    word.chars().map(|c| if c == '.' { c } else { letters.next().unwrap_or(c) }).collect()
}

fn is_article(piece: &str) -> bool {
    ["al", "el", "ad", "ar", "as", "ash", "at", "an", "az"]
        .iter()
        .any(|article| piece.eq_ignore_ascii_case(article))
}

fn is_consonant(c: char) -> bool {
    c.is_ascii_alphabetic() && !matches!(c.to_ascii_lowercase(), 'a' | 'e' | 'i' | 'o' | 'u' | 'y')
}

/// Small letters. A Turkish İ becomes a plain i: what Unicode makes of it, an i with a second dot, is no letter of
/// any name.
fn lower(text: &str) -> String {
    if text.contains('\u{130}') { text.replace('\u{130}', "i").to_lowercase() } else { text.to_lowercase() }
}

/// The first letter as a capital (if it has a single one: ß stays), the others small.
fn first_upper(text: &str) -> String {
    let Some((at, first)) = text.char_indices().find(|(_, c)| c.is_alphabetic()) else { return lower(text) };
    let mut out = String::with_capacity(text.len());
    out.push_str(&text[..at]);
    let mut upper = first.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(single), None) => out.push(single),
        _ => out.push(first),
    }
    out.push_str(&lower(&text[at + first.len_utf8()..]));
    out
}

/// One piece without hyphens: initials, O'Brien, McDonald, MacLeod, plain.
fn capitalise(piece: &str) -> String {
    if piece.contains('.') {
        return piece.split('.').map(capitalise).collect::<Vec<_>>().join(".");
    }
    if let Some((at, mark)) = piece.char_indices().find(|(_, c)| matches!(c, '\'' | '’' | 'ʼ')) {
        let (before, after) = (&piece[..at], &piece[at + mark.len_utf8()..]);
        // O'Brien, D'Angelo, N'Golo; but Sa'id.
        let after = if before.chars().count() == 1 { capitalise(after) } else { lower(after) };
        return format!("{}{mark}{after}", first_upper(before));
    }
    let small = lower(piece);
    if let Some(rest) = small.strip_prefix("mc").filter(|rest| rest.chars().count() > 1) {
        return format!("Mc{}", first_upper(rest));
    }
    match small.strip_prefix("mac") {
        Some(rest) if MAC.contains(&small.as_str()) => format!("Mac{}", first_upper(rest)),
        _ => first_upper(piece),
    }
}
