//! Lines in the text format of Postgres's COPY (manual, "COPY", section "Text Format").

/// Collects lines; [`take`](Self::take) hands them over.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    in_line: bool,
}

impl Lines {
    fn separate(&mut self) {
        if self.in_line {
            self.bytes.push(b'\t');
        }
        self.in_line = true;
    }

    /// A column with a text value. Escaped so that tabs, line ends, backslashes and a literal `\N` stay text.
    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        self.separate();
        for &byte in value.as_bytes() {
            let escaped = match byte {
                b'\\' => b'\\',
                b'\t' => b't',
                b'\n' => b'n',
                b'\r' => b'r',
                other => {
                    self.bytes.push(other);
                    continue;
                }
            };
            self.bytes.extend([b'\\', escaped]);
        }
        self
    }

    /// A column that may be NULL.
    pub(super) fn optional(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => {
                self.separate();
                self.bytes.extend(b"\\N");
                self
            }
        }
    }

    pub(super) fn end_line(&mut self) {
        self.bytes.push(b'\n');
        self.in_line = false;
    }

    /// Bytes collected so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The lines so far; what follows begins anew with room for as many.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let room = self.bytes.capacity();
        std::mem::replace(&mut self.bytes, Vec::with_capacity(room))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_copy_reads_as_its_own() {
        let mut lines = Lines::default();
        lines.text("a\tb").optional(None).text("\\N").optional(Some("x\r\ny")).text("").end_line();
        lines.text("é").end_line();
        assert_eq!(String::from_utf8(lines.take()).unwrap(), "a\\tb\t\\N\t\\\\N\tx\\r\\ny\t\né\n");
        assert_eq!(lines.len(), 0);
    }
}
