//! Arrays of Postgres as arrays of BSON.

use super::raw::Writer;
use super::value::{self, Fault};
use crate::catalog::BsonKind;

const NO_ARRAY: Fault = Fault::NoValue("array");

/// Writes the text of an array (`{a,"b,c",NULL}`, chapter "Arrays" of Postgres's manual, section "Array Input and
/// Output Syntax") as the value that comes next. Several dimensions nest; bounds (`[0:1]={…}`) are left out, because
/// BSON's arrays have none.
///
/// # Errors
/// If it is no array, or an element is no value of its kind.
pub fn write(writer: &mut Writer, kind: &BsonKind, text: &str) -> Result<(), Fault> {
    let text = match text.split_once('=') {
        Some((bounds, rest)) if bounds.starts_with('[') => rest,
        _ => text,
    };
    let mut reader = Reader { text, at: 0, plain: String::new() };
    reader.array(writer, kind)?;
    if reader.at == text.len() { Ok(()) } else { Err(NO_ARRAY) }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    /// An element whose escapes were taken off.
    plain: String,
}

impl Reader<'_> {
    fn skip(&mut self, byte: u8) -> bool {
        let is_next = self.text.as_bytes().get(self.at) == Some(&byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn array(&mut self, writer: &mut Writer, kind: &BsonKind) -> Result<(), Fault> {
        if !self.skip(b'{') {
            return Err(NO_ARRAY);
        }
        writer.open_array()?;
        if !self.skip(b'}') {
            loop {
                writer.element()?;
                match self.text.as_bytes().get(self.at) {
                    Some(b'{') => self.array(writer, kind)?,
                    Some(b'"') => self.quoted(writer, kind)?,
                    _ => self.bare(writer, kind)?,
                }
                if self.skip(b'}') {
                    break;
                }
                if !self.skip(b',') {
                    return Err(NO_ARRAY);
                }
            }
        }
        writer.close();
        Ok(())
    }

    fn bare(&mut self, writer: &mut Writer, kind: &BsonKind) -> Result<(), Fault> {
        let rest = &self.text[self.at..];
        let end = rest.bytes().position(|byte| matches!(byte, b',' | b'}')).ok_or(NO_ARRAY)?;
        let element = &rest[..end];
        // Postgres quotes what is empty, and what holds a quote, a brace or a backslash.
        if element.is_empty() || element.contains(['"', '{', '\\']) {
            return Err(NO_ARRAY);
        }
        self.at += end;
        if element.eq_ignore_ascii_case("null") {
            writer.null();
            return Ok(());
        }
        value::write(writer, kind, element)
    }

    fn quoted(&mut self, writer: &mut Writer, kind: &BsonKind) -> Result<(), Fault> {
        self.at += 1;
        self.plain.clear();
        loop {
            let rest = &self.text[self.at..];
            let end = memchr::memchr2(b'"', b'\\', rest.as_bytes()).ok_or(NO_ARRAY)?;
            self.at += end + 1;
            if rest.as_bytes()[end] == b'"' {
                if self.plain.is_empty() {
                    return value::write(writer, kind, &rest[..end]);
                }
                self.plain.push_str(&rest[..end]);
                return value::write(writer, kind, &self.plain);
            }
            self.plain.push_str(&rest[..end]);
            let escaped = self.text[self.at..].chars().next().ok_or(NO_ARRAY)?;
            self.plain.push(escaped);
            self.at += escaped.len_utf8();
        }
    }
}
