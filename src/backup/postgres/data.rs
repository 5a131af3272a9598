//! What an archive of `pg_dump` holds, table by table: its rows are counted and hashed while `pg_restore` writes them as
//! COPY text. One pass over the stream; a row of any length needs no memory.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::backup::checksum::hex;

/// Rows and SHA-256 of one table's COPY text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) rows: u64,
    pub(super) sha256: String,
}

/// Reads the data of an archive as it comes. Outside of a table's rows lines are short, but for those of large objects,
/// of which only the beginning is kept.
#[derive(Default)]
pub(super) struct Reader {
    /// The beginning of the current line.
    line: Vec<u8>,
    /// Bytes of the current line so far.
    length: usize,
    table: Option<(String, Sha256, u64)>,
    pub(super) tables: BTreeMap<String, Found>,
}

/// The longest beginning of a line that can matter: a COPY statement with 1,600 columns (the server's limit) of 63
/// bytes each, quoted.
const LINE: usize = 1_600 * 140;

impl Reader {
    /// Takes the next bytes.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.add(&bytes[..end]);
            self.end_line();
            bytes = &bytes[end + 1..];
        }
        self.add(bytes);
    }

    fn add(&mut self, bytes: &[u8]) {
        let kept = if self.table.is_some() { 3 } else { LINE };
        let room = kept - self.line.len().min(kept);
        // While a line may still be the end mark, its bytes wait; then they count.
        let was = self.length;
        self.length += bytes.len();
        if let Some((_, hash, _)) = &mut self.table {
            if was <= 2 && self.length > 2 {
                hash.update(&self.line);
                hash.update(bytes);
            } else if was > 2 {
                hash.update(bytes);
            }
        }
        if self.length <= 2 || self.table.is_none() {
            self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    fn end_line(&mut self) {
        match self.table.take() {
            Some((name, hash, rows)) if self.length == 2 && self.line == br"\." => {
                let found = Found { rows, sha256: hex(&hash.finalize()) };
                self.tables.insert(name, found);
            }
            Some((name, mut hash, rows)) => {
                if self.length <= 2 {
                    hash.update(&self.line);
                }
                hash.update(b"\n");
                self.table = Some((name, hash, rows + 1));
            }
            None => {
                let line = String::from_utf8_lossy(&self.line);
                if let Some(name) = copied(&line) {
                    self.table = Some((name, Sha256::new(), 0));
                }
            }
        }
        self.line.clear();
        self.length = 0;
    }

    /// Whether the stream ended inside of a table.
    pub(super) fn is_cut(&self) -> bool {
        self.table.is_some()
    }
}

/// `schema.table` of `COPY public."User" (id, name) FROM stdin;`
fn copied(line: &str) -> Option<String> {
    let rest = line.strip_prefix("COPY ")?;
    rest.ends_with(" FROM stdin;").then_some(())?;
    let (schema, rest) = name(rest)?;
    let (table, _) = name(rest.strip_prefix('.')?)?;
    Some(format!("{schema}.{table}"))
}

/// A name at the beginning of a text, without its quotes, and what follows.
fn name(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(['.', ' ']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::checksum;

    #[test]
    fn rows_are_counted_however_the_stream_is_cut() {
        let text = "--\nSET x;\n\nCOPY public.\"User\" (id, \"a b\") FROM stdin;\n1\ta\n\n\\\\.\n.\n\\.\n\n\n\
                    COPY \"odd\"\".name\".t FROM stdin;\n\\.\nSELECT pg_catalog.setval('x', 1);\n";
        for size in 1..text.len() {
            let mut reader = Reader::default();
            text.as_bytes().chunks(size).for_each(|chunk| reader.take(chunk));
            let user = Found { rows: 4, sha256: checksum::of(b"1\ta\n\n\\\\.\n.\n") };
            let empty = Found { rows: 0, sha256: checksum::of(b"") };
            let expected = [("odd\".name.t".to_owned(), empty), ("public.User".to_owned(), user)];
            assert_eq!(reader.tables, BTreeMap::from(expected), "{size}");
            assert!(!reader.is_cut());
        }
        let mut reader = Reader::default();
        reader.take(b"COPY public.t (a) FROM stdin;\n1\n2");
        assert!(reader.is_cut());
    }
}
