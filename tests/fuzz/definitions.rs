//! Definition files: what people write, with every kind of damage.

use proptest::prelude::*;
use v1v2::definition::Definitions;

use super::hostile;

/// The built-in files, to be damaged.
const FILES: &[(&str, &str)] = &[
    ("accounts.toml", include_str!("../../migrators/accounts.toml")),
    ("schools.toml", include_str!("../../migrators/schools.toml")),
    ("students.toml", include_str!("../../migrators/students.toml")),
];

/// Reads, and renders every problem: a place outside of the text would panic here.
fn read(files: &[(&str, &str)]) -> (usize, String) {
    let definitions = Definitions::from_texts(files);
    (definitions.problems.len(), definitions.render(&definitions.problems))
}

/// Something like a definition: the right words in the wrong places.
fn toml_like() -> impl Strategy<Value = String> {
    let word = proptest::sample::select(
        &[
            "entity",
            "after",
            "source",
            "key",
            "query",
            "account",
            "postgres",
            "columns",
            "table",
            "each",
            "type",
            "role",
            "name",
            "email",
            "id",
            "ids",
            "lookup",
            "by",
            "missing",
            "order",
            "policies",
            "builtin",
            "disabled",
            "mongodb",
            "fields",
            "scope",
            "when",
            "placeholder",
            "phone_region",
        ][..],
    );
    let value = prop_oneof![
        hostile().prop_map(|text| format!("{text:?}")),
        hostile().prop_map(|text| format!("'''{text}'''")),
        Just("true".to_owned()),
        "-?[0-9]{1,25}",
        "[0-9]\\.[0-9]e[0-9]{1,4}",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}",
        word.clone().prop_map(|word| format!("{{ {word} = true }}")),
        word.clone().prop_map(|word| format!("[\"{word}\", \"{word}\"]")),
        (word.clone(), word.clone())
            .prop_map(|(a, b)| format!("{{ {a} = \"{b}\", key = \"{b}\", {a}.{b} = 1 }}")),
    ];
    let line = prop_oneof![
        4 => (word.clone(), value).prop_map(|(word, value)| format!("{word} = {value}\n")),
        1 => word.clone().prop_map(|word| format!("[{word}]\n")),
        1 => word.clone().prop_map(|word| format!("[[{word}]]\n")),
        1 => (word.clone(), word).prop_map(|(a, b)| format!("[{a}.{b}]\n")),
        1 => hostile(),
    ];
    proptest::collection::vec(line, 0..14).prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn any_text_is_a_definition_or_a_list_of_problems(text in hostile(), like in toml_like()) {
        for text in [text, like] {
            for name in ["accounts.toml", "people.toml"] {
                let (problems, rendered) = read(&[(name, &text)]);
                prop_assert_eq!(problems == 0, rendered.is_empty(), "{}", rendered);
            }
        }
    }

    #[test]
    fn a_damaged_definition_is_still_read(
        file in 0..FILES.len(), at in any::<prop::sample::Index>(), length in 0_usize..40, insert in hostile(),
    ) {
        let (name, text) = FILES[file];
        let boundary = |mut index: usize| { while !text.is_char_boundary(index) { index += 1; } index };
        let start = boundary(at.index(text.len()));
        let end = boundary((start + length).min(text.len()));
        let damaged = format!("{}{insert}{}", &text[..start], &text[end..]);
        let (_, first) = read(&[(name, &damaged)]);
        let (_, second) = read(&[(name, &damaged)]);
        prop_assert_eq!(first, second);
    }
}

#[test]
fn depth_and_length_are_no_danger() {
    for text in [
        format!("a = {}{}", "[".repeat(20_000), "]".repeat(20_000)),
        format!("a = {}1{}", "{ a = ".repeat(5_000), " }".repeat(5_000)),
        format!("[{}]", ["a"; 5_000].join(".")),
        "[[postgres]]\n".repeat(3_000),
        format!("entity = \"{}\"", "x".repeat(1_000_000)),
    ] {
        read(&[("people.toml", &text)]);
        read(&[("accounts.toml", &text)]);
    }
}
