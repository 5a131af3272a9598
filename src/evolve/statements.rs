//! Where the statements of an SQL script begin and end, because they are sent one by one: an error then has a place even
//! where the server gives none (a violated constraint), and what cannot run in a transaction is not wrapped into the
//! implicit one that several statements in one message are.
//!
//! Only what can hold a semicolon is understood: quotes of all kinds, comments (which nest), and bodies of SQL functions
//! between `BEGIN ATOMIC` and `END`. Lexical structure: PostgreSQL manual, section 4.1.

use std::ops::Range;

use super::folder::Problems;

/// What begins at a place of a script.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    /// Blanks and comments.
    Nothing,
    /// Anything in quotes of any kind.
    Quoted,
    Word,
    /// Another byte.
    Sign(u8),
}

/// The token that begins at this place, and where it ends.
fn token(bytes: &[u8], at: usize) -> (Token, usize) {
    match bytes[at] {
        b'-' if bytes[at..].starts_with(b"--") => {
            (Token::Nothing, memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |end| at + end))
        }
        b'/' if bytes[at..].starts_with(b"/*") => (Token::Nothing, after_comment(bytes, at)),
        b'\'' => {
            // E'…' alone lets a backslash escape the quote.
            let escapes =
                at > 0 && matches!(bytes[at - 1], b'e' | b'E') && !is_word(bytes, at.wrapping_sub(2));
            (Token::Quoted, after_quote(bytes, at, b'\'', escapes))
        }
        b'"' => (Token::Quoted, after_quote(bytes, at, b'"', false)),
        b'$' if !is_word(bytes, at.wrapping_sub(1)) => (Token::Quoted, after_dollar_quote(bytes, at)),
        byte if is_word_byte(byte) => {
            let length = bytes[at..].iter().position(|byte| !is_word_byte(*byte));
            (Token::Word, length.map_or(bytes.len(), |length| at + length))
        }
        byte if byte.is_ascii_whitespace() => (Token::Nothing, at + 1),
        byte => (Token::Sign(byte), at + 1),
    }
}

/// The statements of a script, without the semicolons between them; those that are empty are left out.
pub fn split(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut statements = Vec::new();
    let mut at = 0;
    let mut current: Option<Range<usize>> = None;
    let mut routine = Routine::default();
    while at < bytes.len() {
        let start = at;
        let (token, end) = token(bytes, start);
        at = end;
        match token {
            Token::Nothing => continue,
            Token::Sign(b';') if !routine.inside() => {
                statements.extend(current.take());
                routine = Routine::default();
                continue;
            }
            Token::Word => routine.word(&text[start..end].to_ascii_lowercase()),
            Token::Quoted | Token::Sign(_) => {}
        }
        current = Some(current.map_or(start..end, |current| current.start..end));
    }
    statements.extend(current);
    statements
}

/// As [`split`]; tells what a script must not contain.
pub(super) fn checked(
    text: &str,
    transaction: bool,
    file: usize,
    problems: &mut Problems,
) -> Vec<Range<usize>> {
    let statements = split(text);
    for range in &statements {
        if let Some(word) = controls_transaction(&text[range.clone()]) {
            let message = match transaction {
                true => format!(
                    "{word}: the script runs in one transaction, which it must not begin or end itself"
                ),
                false => format!("{word}: without a transaction each statement commits by itself"),
            };
            problems.at(file, range.start..range.start + word.len(), message, "take this out");
        } else if text[range.clone()].starts_with('\\') {
            problems.at(
                file,
                range.start..range.start + 1,
                "commands of psql are not SQL",
                "take this line out",
            );
        } else if let Some(end) = copies_through_client(&text[range.clone()]) {
            // Sent to the server, it would wait for rows that never come.
            problems.at(
                file,
                range.start + end.start..range.start + end.end,
                "COPY from or to the program that sends it: a script has no rows to send and nowhere to put them",
                "write INSERT … VALUES, or name a file of the server",
            );
        }
    }
    statements
}

/// The word with which a statement would begin or end a transaction.
fn controls_transaction(statement: &str) -> Option<&str> {
    let end = statement.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(statement.len());
    let word = &statement[..end];
    let next = statement[end..].trim_start().to_ascii_lowercase();
    let controls = match word.to_ascii_lowercase().as_str() {
        "begin" | "commit" | "end" | "abort" => true,
        "rollback" => !next.starts_with("to"),
        "start" | "prepare" => next.starts_with("transaction"),
        _ => false,
    };
    controls.then_some(word)
}

/// Where a statement says `FROM STDIN` or `TO STDOUT`, if it is a COPY.
fn copies_through_client(statement: &str) -> Option<Range<usize>> {
    let bytes = statement.as_bytes();
    let (mut at, mut depth, mut before) = (0, 0_u32, String::new());
    while at < bytes.len() {
        let (token, end) = token(bytes, at);
        match token {
            Token::Sign(b'(') => depth += 1,
            Token::Sign(b')') => depth = depth.saturating_sub(1),
            Token::Word if depth == 0 => {
                let word = statement[at..end].to_ascii_lowercase();
                match (before.as_str(), word.as_str()) {
                    ("", "copy") => {}
                    ("", _) => return None,
                    ("from", "stdin") | ("to", "stdout") => return Some(at..end),
                    _ => {}
                }
                before = word;
            }
            _ => {}
        }
        at = end;
    }
    None
}

/// Whether one is inside the body of a routine that is written in SQL itself.
#[derive(Default)]
struct Routine {
    words: usize,
    creates: bool,
    is_routine: bool,
    depth: usize,
}

impl Routine {
    fn word(&mut self, word: &str) {
        self.words += 1;
        match word {
            "create" if self.words == 1 => self.creates = true,
            // CREATE [OR REPLACE] FUNCTION
            "function" | "procedure" if self.creates && matches!(self.words, 2 | 4) => self.is_routine = true,
            "begin" if self.is_routine => self.depth += 1,
            "case" if self.depth > 0 => self.depth += 1,
            "end" if self.depth > 0 => self.depth -= 1,
            _ => {}
        }
    }

    fn inside(&self) -> bool {
        self.depth > 0
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn is_word(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_some_and(|byte| is_word_byte(*byte))
}

fn after_comment(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if bytes[at..].starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// A doubled quote needs no care: it ends one literal and begins the next.
fn after_quote(bytes: &[u8], start: usize, quote: u8, escapes: bool) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escapes => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `$$ … $$` or `$tag$ … $tag$`; anything else that begins with a dollar is one byte.
fn after_dollar_quote(bytes: &[u8], start: usize) -> usize {
    let rest = &bytes[start + 1..];
    let Some(length) = rest.iter().position(|byte| !is_word_byte(*byte)) else { return start + 1 };
    if rest[length] != b'$' || rest.first().is_some_and(u8::is_ascii_digit) {
        return start + 1;
    }
    let tag = &bytes[start..start + length + 2];
    let body = start + tag.len();
    memchr::memmem::find(&bytes[body..], tag).map_or(bytes.len(), |end| body + end + tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<&str> {
        split(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn semicolons_that_end_nothing() {
        let text = "select ';', \"a;b\", E'\\';', 'it''s;' -- one; two\n; /* x; /* y; */ ; */ do $x$ begin; $$ ; $$ end $x$;;\n; select $1";
        let expected =
            ["select ';', \"a;b\", E'\\';', 'it''s;'", "do $x$ begin; $$ ; $$ end $x$", "select $1"];
        assert_eq!(parts(text), expected);
    }

    #[test]
    fn the_body_of_an_sql_function_is_one_statement() {
        let text = "create or replace function f() returns int begin atomic select case when true then 1 end; select 2; end; select 3";
        assert_eq!(parts(text).len(), 2, "{:?}", parts(text));
        assert_eq!(parts("alter table begin_x add end_y int; select 1").len(), 2);
    }

    #[test]
    fn nothing_but_comments_is_nothing() {
        assert!(parts("-- nothing\n/* at all */ ;;").is_empty());
        assert_eq!(parts("select 'never closed; select 2").len(), 1);
    }

    #[test]
    fn transactions_are_not_the_scripts_business() {
        for text in
            ["commit", "BEGIN", "start transaction", "end", "rollback", "abort", "prepare transaction 'x'"]
        {
            assert!(controls_transaction(text).is_some(), "{text}");
        }
        for text in ["rollback to savepoint x", "savepoint x", "prepare q as select 1", "begins"] {
            assert!(controls_transaction(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_copy_through_the_client_is_told_from_others() {
        for text in [
            "copy t from stdin",
            "COPY t (a, b) /* x */ from\n STDIN with (format csv)",
            "copy (select 1) to stdout",
        ] {
            assert!(copies_through_client(text).is_some(), "{text}");
        }
        for text in [
            "copy stdin from '/f'",
            "copy t from program 'x > stdin'",
            "copy (select a from stdin) to '/f'",
            "select 1 from stdin",
        ] {
            assert!(copies_through_client(text).is_none(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_split_without_loss(text in "[ ;'\"$a-z/*\\-\\\\\nEé]{0,60}") {
            let found = split(&text);
            let mut last = 0;
            for range in found {
                proptest::prop_assert!(range.start >= last && range.end <= text.len() && range.start < range.end);
                proptest::prop_assert!(text.is_char_boundary(range.start) && text.is_char_boundary(range.end));
                last = range.end;
            }
        }
    }
}
