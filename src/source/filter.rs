//! Checks the SQL condition of `--filter`.
//!
//! The condition becomes part of a query that V1 evaluates. A read-only transaction alone does not make that safe: it
//! still allows `pg_sleep`, `pg_terminate_backend` or reading server files. So the condition is parsed and only what
//! is on a list may stand in it; and V1 gets the parsed expression written out again, not the text, so that a
//! difference between two parsers cannot smuggle anything past the check.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Function, FunctionArguments, Value, visit_expressions, visit_expressions_mut};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::error::{Error, Result};

/// Functions that only look at their arguments, or at the time.
const FUNCTIONS: &[&str] = &[
    "abs",
    "age",
    "array_length",
    "btrim",
    "cardinality",
    "ceil",
    "char_length",
    "coalesce",
    "concat",
    "current_date",
    "current_timestamp",
    "date_part",
    "date_trunc",
    "floor",
    "greatest",
    "initcap",
    "least",
    "left",
    "length",
    "localtimestamp",
    "lower",
    "ltrim",
    "make_date",
    "mod",
    "now",
    "nullif",
    "octet_length",
    "position",
    "replace",
    "right",
    "round",
    "rtrim",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "substring",
    "to_char",
    "to_date",
    "trim",
    "upper",
];

/// Words and operators in a condition, values in lists aside: nobody writes so many, and the stack holds them.
const MOST_WORDS: usize = 1_000;

/// The condition, checked and written out again.
///
/// # Errors
/// Usage: it is not one SQL expression, or holds something that is not allowed; the error says what.
pub fn check(entity: &str, condition: &str) -> Result<String> {
    let refuse = |what: String| {
        Error::usage(format!("--filter {entity}: {what}"))
            .help("a filter is one condition on the columns of the entity's query, such as created_at > '2024-01-01'")
    };
    let expression = parse(condition).map_err(refuse)?;
    let refused = visit_expressions(&expression, |part| match problem(part) {
        Some(what) => ControlFlow::Break(what),
        None => ControlFlow::Continue(()),
    });
    match refused {
        ControlFlow::Break(what) => Err(refuse(what)),
        ControlFlow::Continue(()) => {
            let written = write(&expression);
            // The parser does not write everything as it read it: of a quote behind a backslash it makes the end of
            // the string, and what was inside would become SQL. So what is written must read as what was checked.
            if parse(&written).as_ref() == Ok(&expression) {
                Ok(written)
            } else {
                Err(refuse("it cannot be handed on to V1 without a change of meaning".into()))
            }
        }
    }
}

/// One SQL expression and nothing else.
fn parse(condition: &str) -> std::result::Result<Expr, String> {
    let no_condition = |error: &dyn std::fmt::Display| format!("this is no SQL condition: {error}");
    let dialect = PostgreSqlDialect {};
    let tokens = Tokenizer::new(&dialect, condition).tokenize_with_location();
    let tokens = tokens.map_err(|error| no_condition(&error))?;
    // A chain of operators nests as deeply as it is long, and whatever walks over it needs a stack as deep. Long lists
    // of values are harmless.
    let nests = |token: &&TokenWithSpan| {
        !matches!(
            token.token,
            Token::Whitespace(_) | Token::Comma | Token::Number(..) | Token::SingleQuotedString(_)
        )
    };
    if tokens.iter().filter(nests).count() > MOST_WORDS {
        return Err(format!("it has more than {MOST_WORDS} words and operators"));
    }
    let mut parser = Parser::new(&dialect).with_recursion_limit(50).with_tokens_with_locations(tokens);
    let expression = parser.parse_expr().map_err(|error| no_condition(&error))?;
    // The parser stops at the end of the first expression and would ignore what follows.
    match parser.next_token().token {
        Token::EOF => Ok(expression),
        rest => Err(format!("{rest} does not belong to the condition")),
    }
}

/// The expression as text. The parser takes two quotes in a row for one that was escaped already, so all of them are.
fn write(expression: &Expr) -> String {
    let mut expression = expression.clone();
    let _never_stopped: ControlFlow<()> = visit_expressions_mut(&mut expression, |part| {
        if let Expr::Value(value) = part
            && let Value::SingleQuotedString(text) = &mut value.value
        {
            *text = text.replace('\'', "''");
        }
        ControlFlow::Continue(())
    });
    expression.to_string()
}

/// What is wrong with one part of a condition, its own parts aside.
fn problem(part: &Expr) -> Option<String> {
    match part {
        Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => {
            Some(format!("`{part}` stands for a value that nobody gives"))
        }
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::JsonAccess { .. }
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::InList { .. }
        | Expr::Between { .. }
        | Expr::BinaryOp { .. }
        | Expr::Like { .. }
        | Expr::ILike { .. }
        | Expr::SimilarTo { .. }
        | Expr::AnyOp { .. }
        | Expr::AllOp { .. }
        | Expr::UnaryOp { .. }
        | Expr::Cast { .. }
        | Expr::AtTimeZone { .. }
        | Expr::Extract { .. }
        | Expr::Ceil { .. }
        | Expr::Floor { .. }
        | Expr::Position { .. }
        | Expr::Substring { .. }
        | Expr::Trim { .. }
        | Expr::Collate { .. }
        | Expr::Nested(_)
        | Expr::Value(_)
        | Expr::TypedString(_)
        | Expr::Case { .. }
        | Expr::Tuple(_)
        | Expr::Array(_)
        | Expr::Interval(_) => None,
        Expr::Function(function) => function_problem(function),
        Expr::Exists { .. } | Expr::Subquery(_) | Expr::InSubquery { .. } => Some(
            "a filter cannot hold a query of its own; put it into the definition's query as a column".into(),
        ),
        other => Some(format!("`{other}` is not allowed in a filter")),
    }
}

fn function_problem(function: &Function) -> Option<String> {
    let name = function.name.to_string();
    if !FUNCTIONS.contains(&name.to_ascii_lowercase().as_str()) {
        return Some(format!(
            "the function {name} is not allowed in a filter (allowed: {})",
            FUNCTIONS.join(", ")
        ));
    }
    let plain = function.over.is_none()
        && function.filter.is_none()
        && function.within_group.is_empty()
        && !matches!(function.args, FunctionArguments::Subquery(_));
    (!plain).then(|| format!("the function {name} can only be called with plain arguments"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn conditions_pass() {
        for condition in [
            "id = 'x'",
            "\"createdAt\"::date between '2020-01-01' and current_date",
            "lower(name) like 'st %' and not (is_active is not true)",
            "country in ('NG', 'GB') or country is null",
            "extract(year from created_at) >= 2020",
            "meta->>'kind' = 'primary'",
            "id > 'a' -- a comment",
        ] {
            assert!(check("schools", condition).is_ok(), "{condition}: {:?}", check("schools", condition));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for condition in [
            "",
            "id = 1; drop table x",
            "id = 1) or (1 = 1",
            "true limit 1",
            "pg_sleep(10) is null",
            "PG_SLEEP(10) is null",
            "pg_catalog.pg_terminate_backend(1)",
            "id in (select id from other)",
            "exists (select 1)",
            "(select count(*) from x) > 1",
            "lo_import('/etc/passwd') > 0",
            "set_config('a', 'b', false) = 'b'",
            "count(*) over () > 1",
            "coalesce(pg_sleep(1), null) is null",
            "case when pg_sleep(1) is null then true end",
            "id = $1",
        ] {
            let refused = check("schools", condition);
            assert!(refused.is_err(), "{condition}: {refused:?}");
            assert_eq!(refused.unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn what_v1_gets_is_the_expression_alone() {
        assert_eq!(check("e", "a = 1 /* ; */ -- )").unwrap(), "a = 1");
    }

    #[test]
    fn quotes_stay_where_they_are() {
        for condition in
            [r"a = 'O''Brien'", r"a = ''''''''", r"a LIKE '%\%' AND b = 'x'", r"a = '\'''", r"a = 'b\''''c'"]
        {
            assert_eq!(check("e", condition).unwrap(), condition);
        }
        // Written carelessly, the first string would end at its second quote, and the second one would be SQL.
        let smuggled = r"a = '\''' OR b = ' or pg_sleep(9) is null --'";
        assert_eq!(check("e", smuggled).unwrap(), smuggled);
        let identifier = r#""a\""" = 1 OR " or pg_sleep(9) is null --" = 1"#;
        assert!(check("e", identifier).is_err_and(|error| error.message().contains("change of meaning")));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            drop(check("e", &text));
        }

        #[test]
        fn what_passes_passes_again(text in "[a-z ()'=<>1-9:.,]{1,30}") {
            if let Ok(once) = check("e", &text) {
                prop_assert_eq!(check("e", &once).unwrap(), once);
            }
        }
    }
}
