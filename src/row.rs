//! One row of V1 in COPY text, and the buffers in which rows travel.
//!
//! Values stay in Postgres's own text form from V1 to V2. A column that is carried over unchanged is not even
//! unescaped: COPY's escaping on the way out is its escaping on the way in, so every type passes through without a
//! codec of ours. The format is that of the chapter "COPY", section "Text Format", of Postgres's manual.

use std::borrow::Cow;

/// A null in COPY text.
pub const NULL: &[u8] = b"\\N";

/// Rows of one entity, in the order they were read.
#[derive(Debug, Default)]
pub struct Rows {
    bytes: Vec<u8>,
    /// End of each field in `bytes`, `width` of them for each row. A field is followed by a tab or a newline.
    ends: Vec<u32>,
    width: usize,
}

impl Rows {
    /// Number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// No rows yet, of `width` columns.
    pub fn new(width: usize) -> Self {
        Self { bytes: Vec::new(), ends: Vec::new(), width }
    }

    /// Adds one line as COPY sent it. Returns `false`, and adds nothing, if it has another number of fields.
    pub fn push(&mut self, line: &[u8]) -> bool {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let start = self.bytes.len();
        let before = self.ends.len();
        // Tabs inside values are escaped, so every tab ends a field.
        self.ends.extend(memchr::memchr_iter(b'\t', line).map(|at| (start + at) as u32));
        self.ends.push((start + line.len()) as u32);
        if self.ends.len() - before != self.width {
            self.ends.truncate(before);
            return false;
        }
        self.bytes.extend_from_slice(line);
        self.bytes.push(b'\n');
        true
    }

    /// Takes the last row away again.
    pub fn pop(&mut self) {
        let kept = self.ends.len().saturating_sub(self.width);
        self.ends.truncate(kept);
        self.bytes.truncate(self.ends.last().map_or(0, |&end| end as usize + 1));
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ends.len().checked_div(self.width).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Size in bytes of COPY text.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// One row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, index: usize) -> Row<'_> {
        let ends = &self.ends[index * self.width..(index + 1) * self.width];
        let start = if index == 0 { 0 } else { self.ends[index * self.width - 1] + 1 };
        Row { bytes: &self.bytes, start, ends }
    }
}

/// One row of a source query.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    bytes: &'a [u8],
    start: u32,
    ends: &'a [u32],
}

impl<'a> Row<'a> {
    /// A column as COPY wrote it, still escaped; `None` for null.
    pub fn raw(&self, column: usize) -> Option<&'a [u8]> {
        let start = if column == 0 { self.start } else { self.ends[column - 1] + 1 };
        let field = &self.bytes[start as usize..self.ends[column] as usize];
        (field != NULL).then_some(field)
    }

    /// A column's text; `None` for null.
    pub fn text(&self, column: usize) -> Option<Cow<'a, str>> {
        self.raw(column).map(unescape)
    }

    /// A column's text; `None` for null and for white space alone.
    pub fn filled(&self, column: usize) -> Option<Cow<'a, str>> {
        self.text(column).filter(|text| !text.trim().is_empty())
    }

    /// Whether a column is text at all, or null. A database of encoding SQL_ASCII holds whatever bytes it was given.
    pub fn is_text(&self, column: usize) -> bool {
        self.raw(column).is_none_or(|field| std::str::from_utf8(field).is_ok())
    }

    /// The first column that is no text.
    pub fn no_text(&self) -> Option<usize> {
        if std::str::from_utf8(self.line()).is_ok() {
            return None;
        }
        (0..self.ends.len()).find(|&column| !self.is_text(column))
    }

    /// The same row with other values in some columns; what converts it sees those. The only row of the result.
    #[must_use]
    pub fn with(&self, changes: &[(usize, Option<&str>)]) -> Rows {
        let mut line = Vec::with_capacity(self.line().len() + 64);
        for column in 0..self.ends.len() {
            if column > 0 {
                line.push(b'\t');
            }
            match changes.iter().find(|(changed, _)| *changed == column) {
                Some((_, Some(text))) => escape_into(&mut line, text),
                Some((_, None)) => line.extend_from_slice(NULL),
                None => line.extend_from_slice(self.raw(column).unwrap_or(NULL)),
            }
        }
        let mut rows = Rows::new(self.ends.len());
        rows.push(&line);
        rows
    }

    /// The elements of an array column; none for null.
    pub fn elements(&self, column: usize) -> Vec<Option<String>> {
        self.text(column).map(|text| elements(&text)).unwrap_or_default()
    }

    /// The whole row as COPY wrote it, without the newline.
    pub fn line(&self) -> &'a [u8] {
        let end = self.ends.last().copied().unwrap_or(self.start);
        &self.bytes[self.start as usize..end as usize]
    }
}

/// A line of COPY text to be kept as text. Bytes that are no text stand in it as COPY writes bytes by their number
/// (`\x` and two hexadecimal digits), so that nothing of the row is lost.
pub fn kept(line: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(line) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(line.len() + 16);
    for chunk in line.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    Cow::Owned(text)
}

/// Takes COPY's escaping off. What is no text would be replaced by U+FFFD; rows with such columns are rejected before
/// anything of them is used ([`Row::no_text`]).
pub fn unescape(field: &[u8]) -> Cow<'_, str> {
    if memchr::memchr(b'\\', field).is_none() {
        return String::from_utf8_lossy(field);
    }
    let mut plain = Vec::with_capacity(field.len());
    let mut bytes = field.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'b') => plain.push(8),
            Some(b'f') => plain.push(12),
            Some(b'n') => plain.push(b'\n'),
            Some(b'r') => plain.push(b'\r'),
            Some(b't') => plain.push(b'\t'),
            Some(b'v') => plain.push(11),
            Some(other) => plain.push(other),
            None => plain.push(b'\\'),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&plain).into_owned())
}

/// Appends text in COPY's escaping.
pub fn escape_into(out: &mut Vec<u8>, text: &str) {
    for &byte in text.as_bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.push(byte),
        }
    }
}

/// The elements of a one-dimensional array in Postgres's text form (`{a,"b c",NULL}`). Text that is no array has
/// no elements.
pub fn elements(text: &str) -> Vec<Option<String>> {
    // An array with other lower bounds is written `[2:3]={a,b}`.
    let text = match text.split_once('=') {
        Some((bounds, rest)) if bounds.starts_with('[') => rest,
        _ => text,
    };
    let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if inner.is_empty() {
        return found;
    }
    let mut element = String::new();
    let mut quoted = false;
    let mut was_quoted = false;
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => element.extend(chars.next()),
            '"' => {
                quoted = !quoted;
                was_quoted = true;
            }
            ',' if !quoted => {
                found.push(element_value(std::mem::take(&mut element), was_quoted));
                was_quoted = false;
            }
            _ => element.push(char),
        }
    }
    found.push(element_value(element, was_quoted));
    found
}

fn element_value(element: String, was_quoted: bool) -> Option<String> {
    (was_quoted || !element.eq_ignore_ascii_case("null")).then_some(element)
}

/// Lines of COPY text for one table, each remembered with the source row that it came from, so that a row the
/// database refuses can be taken out again.
#[derive(Debug, Default, Clone)]
pub struct Lines {
    bytes: Vec<u8>,
    /// Source row of the chunk, and end of the line (behind its newline).
    lines: Vec<(u32, u32)>,
}

impl Lines {
    /// The text to send.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lines.clear();
    }

    /// The source row that a line (counted from 0) came from.
    pub fn source_row(&self, line: usize) -> Option<u32> {
        self.lines.get(line).map(|&(row, _)| row)
    }

    /// All lines, each with the source row that it came from.
    pub fn with_rows(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let mut start = 0;
        self.lines.iter().map(move |&(row, end)| {
            let line = &self.bytes[start as usize..end as usize];
            start = end;
            (row, line)
        })
    }

    /// The lines of the source rows that `wanted` accepts.
    pub fn iter_rows<'a>(
        &'a self,
        mut wanted: impl FnMut(u32) -> bool + 'a,
    ) -> impl Iterator<Item = &'a [u8]> {
        self.with_rows().filter_map(move |(row, line)| wanted(row).then_some(line))
    }

    /// The lines of some of the source rows: their bytes, the number of the first one, and how many they are. Lines
    /// stand in the order of their source rows.
    pub fn part(&self, rows: &std::ops::Range<u32>) -> (&[u8], usize, usize) {
        let first = self.lines.partition_point(|&(row, _)| row < rows.start);
        let behind = self.lines.partition_point(|&(row, _)| row < rows.end);
        let end_of = |line: usize| line.checked_sub(1).map_or(0, |last| self.lines[last].1 as usize);
        (&self.bytes[end_of(first)..end_of(behind)], first, behind - first)
    }

    /// Begins a field with raw COPY text.
    pub fn raw(&mut self, field: Option<&[u8]>) {
        self.bytes.extend_from_slice(field.unwrap_or(NULL));
        self.bytes.push(b'\t');
    }

    /// Appends a field of plain text.
    pub fn text(&mut self, field: Option<&str>) {
        match field {
            Some(text) => escape_into(&mut self.bytes, text),
            None => self.bytes.extend_from_slice(NULL),
        }
        self.bytes.push(b'\t');
    }

    /// Appends a field that is written by `std::fmt` and needs no escaping: numbers, ids, times.
    pub fn display(&mut self, field: impl std::fmt::Display) {
        use std::io::Write;
        // Writing into a Vec cannot fail.
        let written = write!(self.bytes, "{field}");
        debug_assert!(written.is_ok());
        self.bytes.push(b'\t');
    }

    /// Ends the line: it came from this source row of the chunk.
    pub fn end_line(&mut self, row: u32) {
        let has_fields = self.bytes.len() as u32 > self.lines.last().map_or(0, |&(_, end)| end);
        match self.bytes.last_mut() {
            Some(last_tab) if has_fields => *last_tab = b'\n',
            _ => self.bytes.push(b'\n'),
        }
        self.lines.push((row, self.bytes.len() as u32));
    }

    /// Begins a line; the value is for [`Lines::abandon`].
    pub fn begin(&self) -> usize {
        self.bytes.len()
    }

    /// Gives up a line that was begun and not ended.
    pub fn abandon(&mut self, begun: usize) {
        self.bytes.truncate(begun);
    }

    /// Takes back everything that was written for source rows from `row` on, finished or not.
    pub fn take_back(&mut self, row: u32) {
        while self.lines.last().is_some_and(|&(of, _)| of >= row) {
            self.lines.pop();
        }
        self.bytes.truncate(self.lines.last().map_or(0, |&(_, end)| end as usize));
    }
}

#[cfg(test)]
mod tests;
