//! Text for people. Names and addresses come from databases that anybody could write into, so everything that is shown
//! goes through [`printable`]; and whoever reads stdout may leave early (`| head`), which ends the printing, not the run.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;
use crate::settings::Color;

/// A text that does nothing to a terminal: control characters, escape sequences and the marks that reverse the
/// direction of writing (Unicode TR 9, section 2) become `\u{…}`; line ends and tabs too, so that a cell stays in its line.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if harmful(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

fn harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}' | '\u{2028}' | '\u{2029}')
}

/// As [`printable`] for a line of JSON, which stays the same JSON: such characters can stand in its strings only, where
/// `\u` means the same.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    if !json.contains(harmful) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if harmful(c) { out.push_str(&format!("\\u{:04x}", u32::from(c))) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Whether to colour what goes to a stream. `NO_COLOR` (no-color.org) and `TERM=dumb` count for `auto` only.
pub fn wants_color(color: Color, is_terminal: bool) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            is_terminal
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
    }
}

/// Prints an error to stderr: the sentence, the fix, the details. The texts are our own and may have several lines, so
/// each line is made printable by itself.
pub fn print_error(error: &Error, color: Color) {
    let paint = wants_color(color, io::stderr().is_terminal());
    let (red, cyan, plain) = if paint { ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m") } else { ("", "", "") };
    let mut text = format!("{red}error:{plain} {}\n", lines(error.message()));
    if let Some(details) = error.more() {
        // Definition problems come rendered, with their own colours: they hold no data.
        text.push_str(details.trim_end());
        text.push('\n');
    }
    if let Some(fix) = error.fix() {
        text.push_str(&format!("{cyan}fix:{plain} {}\n", lines(fix)));
    }
    // If stderr is gone, nobody is left to tell.
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

fn lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// Results on stdout. Shared by reference; what one call prints stays together.
pub struct Output {
    to: Mutex<Box<dyn Write + Send>>,
    closed: AtomicBool,
    silent: bool,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("closed", &self.closed).field("silent", &self.silent).finish()
    }
}

impl Output {
    /// Stdout. `silent` swallows text: with `--json` only events go there.
    pub fn stdout(silent: bool) -> Self {
        Self::to(Box::new(io::stdout()), silent)
    }

    /// Any writer.
    pub fn to(writer: Box<dyn Write + Send>, silent: bool) -> Self {
        Self { to: Mutex::new(writer), closed: AtomicBool::new(false), silent }
    }

    /// Prints one line. Data in it must have gone through [`printable`].
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.silent {
            self.raw(&format!("{}\n", text.as_ref()));
        }
    }

    /// Prints a table.
    pub fn table(&self, table: &Table) {
        if !self.silent {
            self.raw(&table.to_string());
        }
    }

    /// Prints bytes as they are, also with `--json`: for completions and events.
    pub fn raw(&self, text: &str) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        // A poisoned lock means that another thread died while printing; half a line is no reason to die too.
        let mut to = self.to.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if to.write_all(text.as_bytes()).and_then(|()| to.flush()).is_err() {
            self.closed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the reader has gone away.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// Which side of a column its cells keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A plain table: columns two blanks apart, no frame, so that it can be cut with `awk` too. Cells are made printable.
#[derive(Debug, Clone, Default)]
pub struct Table {
    columns: Vec<(String, Option<Align>)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Align)>) -> Self {
        let columns =
            columns.into_iter().map(|(name, align)| (printable(name).into_owned(), Some(align))).collect();
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row. Missing cells are empty, surplus ones are left out.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        self.rows.push(cells.into_iter().map(|cell| printable(cell.as_ref()).into_owned()).collect());
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let width = |index: usize| {
            let cells = std::iter::once(&names).chain(&self.rows).filter_map(|row| row.get(index));
            cells.map(|cell| console_width(cell)).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..names.len()).map(width).collect();
        for row in std::iter::once(&names).chain(&self.rows) {
            let mut line = String::new();
            for (index, ((_, align), width)) in self.columns.iter().zip(&widths).enumerate() {
                let cell = row.get(index).map_or("", String::as_str);
                let gap = " ".repeat(width - console_width(cell));
                if index > 0 {
                    line.push_str("  ");
                }
                match align {
                    Some(Align::Right) => line.extend([gap.as_str(), cell]),
                    _ => line.extend([cell, gap.as_str()]),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Columns a text takes on a terminal: a CJK character takes two, a combining mark none.
fn console_width(text: &str) -> usize {
    console::measure_text_width(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_json_is_the_same_json() {
        let value = serde_json::json!({ "a\u{9b}": "\u{1b}[2J\u{202e}\u{7f}é\n" });
        let line = value.to_string();
        let shown = printable_json(&line);
        assert!(!shown.contains(harmful), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn nothing_in_data_reaches_the_terminal_as_a_command() {
        assert_eq!(printable("Ada O’Neil, 李"), "Ada O’Neil, 李");
        assert_eq!(printable("\x1b[2Jboo\u{7}"), r"\u{1b}[2Jboo\u{7}");
        assert_eq!(printable("a\nb\tc\r"), r"a\nb\tc\r");
        assert_eq!(printable("\u{202e}txt.exe"), r"\u{202e}txt.exe");
        assert!(!printable("\u{9b}31m").contains('\u{9b}'), "C1 controls are commands too");
    }

    proptest::proptest! {
        #[test]
        fn printable_leaves_no_control_character(text in "\\PC*|.*|(?s:.*)") {
            let shown = printable(&text);
            proptest::prop_assert!(!shown.chars().any(char::is_control));
            proptest::prop_assert_eq!(printable(&shown).into_owned(), shown.into_owned());
        }
    }

    #[test]
    fn tables_are_aligned_by_what_is_seen() {
        let mut table = Table::new([("entity", Align::Left), ("rows", Align::Right)]);
        table.row(["学校", "7"]);
        table.row(["a\x1b[1m", "12,345"]);
        insta::assert_snapshot!(table.to_string(), @r"
        entity        rows
        学校             7
        a\u{1b}[1m  12,345
        ");
    }

    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_leaves_is_no_error() {
        let output = Output::to(Box::new(Gone), false);
        output.line("one");
        output.line("two");
        assert!(output.is_closed());
    }
}
