//! `--filter`: SQL text from the command line, of which nothing but a plain condition may reach V1.

use proptest::prelude::*;
use v1v2::source::filter::check;

use super::hostile;

/// Something like SQL: conditions, and what must not be one.
fn sql_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => proptest::sample::select(
            &[
                "id", "name", "\"createdAt\"", "1", "'x'", "''", "E'\\''", "$1", "$$x$$", "null", "true", "=", "<>", "<", "and", "or",
                "not", "is null", "in (1, 2)", "between 1 and 2", "like 'a%'", "::text", "::int", "(", ")", ",", ";", "--", "/*", "*/",
                "lower(name)", "pg_sleep(1)", "now()", "count(*)", "over ()", "(select 1)", "exists (select 1)", "case when", "then",
                "else", "end", "interval '1 day'", "array[1]", "any(array[1])", "collate \"C\"", "at time zone 'UTC'", "+", "-", "||",
                "->>", "~", "limit 1", "union select 1", "from x", "drop table x", "cast(", "as int)", "extract(year from d)",
                "position('a' in name)", "substring(name from 1 for 2)", "U&'\\0061'", "x'1f'", r"'\'''", r#""\""""#, "' or pg_sleep(9) is null --'", ".", "*", ":", "?", "@>",
            ][..]
        )
        .prop_map(str::to_owned),
        1 => hostile(),
        1 => "[a-z_]{1,8}\\(",
    ];
    proptest::collection::vec(piece, 1..12).prop_map(|pieces| pieces.join(" "))
}

proptest! {
    #[test]
    fn what_passes_is_one_condition_and_nothing_else(text in prop_oneof![1 => hostile(), 4 => sql_like()]) {
        let Ok(condition) = check("people", &text) else { return Ok(()) };
        // It is read again as the same thing: what V1 gets is what was checked.
        let again = check("people", &condition);
        prop_assert!(again.is_ok(), "{:?} became {:?}: {:?}", text, condition, again);
        prop_assert_eq!(again.unwrap(), condition.clone());
        // No value, so no comment and no second statement, outside of quotes.
        let bare = without_quoted(&condition);
        for token in [";", "--", "/*", "$1"] {
            prop_assert!(!bare.contains(token), "{:?} became {:?}", text, condition);
        }
        let lower = bare.to_lowercase();
        for word in ["select ", "pg_sleep", "drop ", "union ", " limit "] {
            prop_assert!(!lower.contains(word), "{:?} became {:?}", text, condition);
        }
    }

    #[test]
    fn a_refusal_is_a_usage_error(text in hostile()) {
        if let Err(error) = check("people", &text) {
            prop_assert_eq!(error.exit_code(), 2);
            prop_assert!(error.fix().is_some());
        }
    }
}

/// The text without what stands in quotes of any kind.
fn without_quoted(sql: &str) -> String {
    let mut bare = String::new();
    let mut quote = None;
    for c in sql.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None => bare.push(c),
        }
    }
    bare
}

#[test]
fn depth_is_no_danger() {
    for text in [
        "(".repeat(20_000),
        format!("{}1{}", "(".repeat(5_000), ")".repeat(5_000)),
        "not ".repeat(20_000) + "true",
        format!("{}1", "- ".repeat(20_000)),
        vec!["a"; 20_000].join(" and "),
        vec!["a"; 20_000].join(" || "),
        "case when true then ".repeat(3_000),
        format!("a in ({})", vec!["1"; 50_000].join(", ")),
    ] {
        drop(check("people", &text));
    }
    // What people do write: a long list.
    let list = format!("id in ({})", vec!["'c0123456789'"; 20_000].join(", "));
    assert!(check("people", &list).is_ok());
    assert!(check("people", &vec!["a"; 490].join(" and ")).is_ok());
}
