use super::*;
use proptest::prelude::*;

#[test]
fn fields_of_a_line() {
    let mut rows = Rows::new(4);
    assert!(rows.push(b"1\ta\\tb\t\\N\t\n"));
    assert!(!rows.push(b"too\tfew\n"));
    assert!(rows.push(b"2\t\\\\N\tx\t{1,2}\n"));
    assert_eq!(rows.len(), 2);
    let row = rows.row(0);
    assert_eq!(row.text(1).as_deref(), Some("a\tb"));
    assert_eq!(row.text(2), None);
    assert_eq!(row.text(3).as_deref(), Some(""));
    assert_eq!(row.filled(3), None);
    assert_eq!(row.line(), b"1\ta\\tb\t\\N\t");
    assert_eq!(rows.row(1).text(1).as_deref(), Some("\\N"), "an escaped backslash is not a null");
    assert_eq!(rows.row(1).elements(3), [Some("1".to_owned()), Some("2".to_owned())]);
}

#[test]
fn bytes_that_are_no_text_are_kept_by_their_number() {
    let mut rows = Rows::new(3);
    rows.push(b"1\tcaf\xe9\xff\t\xc3\xa9\n");
    let row = rows.row(0);
    assert_eq!((row.no_text(), row.is_text(0), row.is_text(2)), (Some(1), true, true));
    assert_eq!(kept(row.line()), "1\tcaf\\xe9\\xff\té");
    rows.push("2\té\t\\N\n".as_bytes());
    assert_eq!(rows.row(1).no_text(), None);
    assert_eq!(kept(rows.row(1).line()), "2\té\t\\N");
}

#[test]
fn elements_of_arrays() {
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(elements("{}"), []);
    assert_eq!(
        elements("{a,NULL,\"NULL\",\"b \\\"c\\\\\",\"\"}"),
        [some("a"), None, some("NULL"), some("b \"c\\"), some("")]
    );
    assert_eq!(elements("[2:3]={x,y}"), [some("x"), some("y")]);
    assert_eq!(elements("no array"), []);
}

#[test]
fn a_row_can_be_taken_back() {
    let mut lines = Lines::default();
    lines.text(Some("a"));
    lines.display(1);
    lines.end_line(0);
    lines.text(Some("b"));
    lines.end_line(1);
    lines.text(Some("unfinished"));
    lines.take_back(1);
    assert_eq!(lines.bytes(), b"a\t1\n");
    assert_eq!(lines.len(), 1);
    lines.raw(None);
    lines.end_line(2);
    assert_eq!(lines.iter_rows(|row| row == 2).collect::<Vec<_>>(), [b"\\N\n"]);
}

#[test]
fn parts_are_the_lines_of_their_rows() {
    let mut lines = Lines::default();
    for row in [0, 0, 2, 3, 3, 3, 7] {
        lines.display(row);
        lines.end_line(row);
    }
    assert_eq!(lines.part(&(0..8)), (lines.bytes(), 0, 7));
    assert_eq!(lines.part(&(0..3)), (&b"0\n0\n2\n"[..], 0, 3));
    assert_eq!(lines.part(&(3..7)), (&b"3\n3\n3\n"[..], 3, 3));
    assert_eq!(lines.part(&(4..7)), (&b""[..], 6, 0));
    assert_eq!(lines.part(&(8..9)).2, 0);
}

proptest! {
    #[test]
    fn escaping_is_undone(text in any::<String>()) {
        let mut escaped = Vec::new();
        escape_into(&mut escaped, &text);
        prop_assert_eq!(unescape(&escaped), text.as_str());
        prop_assert!(memchr::memchr3(b'\t', b'\n', b'\r', &escaped).is_none());
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        elements(&text);
        let mut rows = Rows::new(2);
        rows.push(text.as_bytes());
    }
}
