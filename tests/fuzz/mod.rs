//! Hostile text for everything that reads text of others: V1's rows, its contact columns, definitions, filters.
//!
//! The tests beside the code try what its author thought of; these try what nobody did, and many of them: 256 cases
//! each, or as many as `PROPTEST_CASES` says (`PROPTEST_CASES=100000 cargo test --test all fuzz`). A case that fails
//! is printed in its shortest form.

mod definitions;
mod filters;
mod people;
mod rows;

use proptest::prelude::*;

/// Text with everything that has a meaning to somebody on the way: quotes, escapes, separators, characters that look
/// like others, that combine, that are wider in lower case, that turn around the line.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[ -~]{0,8}",
        3 => any::<String>(),
        3 => proptest::sample::select(SPECIAL).prop_map(str::to_owned),
        1 => "\\PC{0,6}",
        1 => "[0-9]{1,40}",
        1 => (proptest::sample::select(SPECIAL), 1_usize..2_000).prop_map(|(text, times)| text.repeat(times)),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

const SPECIAL: &[&str] = &[
    "\\",
    "\\N",
    "\\.",
    "\t",
    "\n",
    "\r\n",
    "\0",
    "\"",
    "'",
    "''",
    "$$",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ",",
    ";",
    "=",
    "@",
    "+",
    "-",
    "--",
    "/*",
    "*/",
    "#",
    "%",
    "&",
    "<",
    ">",
    "|",
    "~",
    "`",
    "NULL",
    "null",
    "\u{1b}[2J",
    "\u{9b}",
    "\u{7f}",
    "\u{a0}",
    "\u{ad}",
    "\u{200b}",
    "\u{200d}",
    "\u{202e}",
    "\u{2028}",
    "\u{feff}",
    "\u{fffd}",
    "\u{10ffff}",
    "é",
    "e\u{301}",
    "ß",
    "ẞ",
    "İ",
    "ı",
    "ſ",
    "K",
    "ﬁ",
    "Ａ",
    "０",
    "٣",
    "。",
    "．",
    "＠",
    "а",
    "ο",
    "한",
    "각",
    "李",
    "ﷺ",
    "👩‍👩‍👧",
    "🇳🇬",
    "xn--",
    "xn--a",
    "mailto:",
    "ext",
    "Dr. ",
    "van der ",
    " al-",
    ", Jr.",
    "III",
    "P.O. Box ",
    "Ph.D.",
];
