//! The COPY text of rows, and the arrays in it.

use proptest::prelude::*;
use v1v2::row::{Lines, Rows, elements, escape_into, unescape};

use super::hostile;

fn cell() -> impl Strategy<Value = Option<String>> {
    proptest::option::weighted(0.8, hostile())
}

/// An array as Postgres writes it: each element in quotes, which it always may be.
fn array_text(elements: &[Option<String>]) -> String {
    let element = |element: &Option<String>| match element {
        None => "NULL".to_owned(),
        Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
    };
    format!("{{{}}}", elements.iter().map(element).collect::<Vec<_>>().join(","))
}

proptest! {
    #[test]
    fn what_goes_into_a_line_comes_out_of_it(table in proptest::collection::vec(proptest::collection::vec(cell(), 3), 1..6)) {
        let mut lines = Lines::default();
        for (number, row) in (0..).zip(&table) {
            row.iter().for_each(|cell| lines.text(cell.as_deref()));
            lines.end_line(number);
        }
        let mut rows = Rows::new(3);
        for line in lines.iter_rows(|_| true) {
            prop_assert!(rows.push(line));
        }
        prop_assert_eq!(rows.len(), table.len());
        for (number, row) in table.iter().enumerate() {
            let read = rows.row(number);
            for (column, cell) in row.iter().enumerate() {
                let text = read.text(column);
                prop_assert_eq!(text.as_deref(), cell.as_deref());
                // A column that is carried over unchanged is sent on as it came.
                let mut again = Lines::default();
                again.raw(read.raw(column));
                again.end_line(0);
                let mut escaped = Lines::default();
                escaped.text(cell.as_deref());
                escaped.end_line(0);
                prop_assert_eq!(again.bytes(), escaped.bytes());
            }
        }
        // Nothing in a value ends a line early, or the data (`\.` alone in its line).
        prop_assert_eq!(lines.bytes().iter().filter(|byte| **byte == b'\n').count(), table.len());
        prop_assert!(!lines.bytes().split(|byte| *byte == b'\n').any(|line| line == b"\\."));
    }

    #[test]
    fn any_bytes_are_a_line_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200), width in 1_usize..5) {
        let mut rows = Rows::new(width);
        rows.push(b"before\t".repeat(width - 1).as_slice());
        let before = rows.len();
        let taken = rows.push(&bytes);
        prop_assert_eq!(rows.len(), before + usize::from(taken));
        if taken {
            let row = rows.row(before);
            for column in 0..width {
                let text = row.text(column);
                prop_assert_eq!(text.is_none(), row.raw(column).is_none());
                row.elements(column);
                row.filled(column);
            }
            prop_assert_eq!(row.line(), bytes.strip_suffix(b"\n").unwrap_or(&bytes));
            rows.pop();
        }
        prop_assert_eq!(rows.len(), before);
        prop_assert!(rows.push(b"after\t".repeat(width - 1).as_slice()));
    }

    #[test]
    fn any_bytes_unescape_to_text(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\\')], 0..60)) {
        let text = unescape(&bytes).into_owned();
        let mut escaped = Vec::new();
        escape_into(&mut escaped, &text);
        prop_assert_eq!(unescape(&escaped), text);
    }

    #[test]
    fn arrays_are_read_as_postgres_writes_them(list in proptest::collection::vec(cell(), 0..6), bounds: bool) {
        let mut text = array_text(&list);
        if bounds {
            text = format!("[2:{}]={text}", list.len() + 1);
        }
        prop_assert_eq!(elements(&text), list);
    }

    #[test]
    fn any_text_is_an_array_or_none(text in hostile()) {
        elements(&text);
        elements(&format!("{{{text}}}"));
        elements(&format!("[{text}={{{text}}}"));
    }
}
