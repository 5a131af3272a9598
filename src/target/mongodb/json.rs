//! JSON text of Postgres as BSON.
//!
//! It is read here and not by `serde_json`, because that reads a number into a double or an integer and forgets how
//! it was written, and because the text can go straight into the document's buffer. V1 has checked the syntax already.

use std::borrow::Cow;

use super::number;
use super::raw::Writer;
use super::value::Fault;

/// Text that Postgres takes for JSON and BSON does not (half a surrogate pair), or no JSON at all.
const NO_JSON: Fault = Fault::NoValue("JSON");

/// Writes JSON text as the value that comes next: whole numbers as `int` or `long`, others as a double if that has the
/// same value, as a decimal if not.
///
/// # Errors
/// A number that neither holds; a key that MongoDB takes for a path or an operator, or that is there twice (`jsonb` has
/// none of those, and which of the two a program reads is its own choice); nesting too deep; text that is no JSON.
pub fn write(writer: &mut Writer, text: &str) -> Result<(), Fault> {
    let mut reader = Reader { text, at: 0, keys: Vec::new() };
    reader.value(writer)?;
    reader.blank();
    if reader.at == text.len() { Ok(()) } else { Err(NO_JSON) }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    /// The keys of the objects that are open, as ranges of the writer's bytes.
    keys: Vec<(usize, usize)>,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, writer: &mut Writer) -> Result<(), Fault> {
        self.blank();
        match self.peek() {
            Some(b'{') => self.object(writer),
            Some(b'[') => self.array(writer),
            Some(b'"') => {
                let text = self.string()?;
                writer.string(&text);
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => self.number(writer),
            _ => {
                let rest = &self.text[self.at..];
                let word = ["null", "true", "false"].into_iter().find(|word| rest.starts_with(word));
                let word = word.ok_or(NO_JSON)?;
                self.at += word.len();
                if word == "null" {
                    writer.null()
                } else {
                    writer.bool(word == "true")
                }
                Ok(())
            }
        }
    }

    fn object(&mut self, writer: &mut Writer) -> Result<(), Fault> {
        self.at += 1;
        writer.open_document()?;
        let first_key = self.keys.len();
        self.blank();
        if !self.skip(b'}') {
            loop {
                self.blank();
                let key = self.string()?;
                if key.starts_with('$') || key.contains('.') {
                    return Err(Fault::JsonKey);
                }
                writer.key(&key)?;
                let end = writer.bytes().len() - 1;
                self.keys.push((end - key.len(), end));
                self.blank();
                if !self.skip(b':') {
                    return Err(NO_JSON);
                }
                self.value(writer)?;
                self.blank();
                if self.skip(b'}') {
                    break;
                }
                if !self.skip(b',') {
                    return Err(NO_JSON);
                }
            }
        }
        are_distinct(&mut self.keys[first_key..], writer.bytes())?;
        self.keys.truncate(first_key);
        writer.close();
        Ok(())
    }

    fn array(&mut self, writer: &mut Writer) -> Result<(), Fault> {
        self.at += 1;
        writer.open_array()?;
        self.blank();
        if !self.skip(b']') {
            loop {
                writer.element()?;
                self.value(writer)?;
                self.blank();
                if self.skip(b']') {
                    break;
                }
                if !self.skip(b',') {
                    return Err(NO_JSON);
                }
            }
        }
        writer.close();
        Ok(())
    }

    fn number(&mut self, writer: &mut Writer) -> Result<(), Fault> {
        let start = self.at;
        let mut is_whole = true;
        while let Some(byte @ (b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) = self.peek() {
            is_whole &= byte.is_ascii_digit() || byte == b'-';
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        if is_whole && let Ok(whole) = text.parse::<i64>() {
            match i32::try_from(whole) {
                Ok(int) => writer.int(int),
                Err(_) => writer.long(whole),
            }
            return Ok(());
        }
        match number::double(text) {
            Ok(double) => writer.double(double),
            Err(Fault::Precision) => writer.decimal(number::decimal(text)?),
            Err(_) => return Err(NO_JSON),
        }
        Ok(())
    }

    fn string(&mut self) -> Result<Cow<'t, str>, Fault> {
        if !self.skip(b'"') {
            return Err(NO_JSON);
        }
        let mut whole = Cow::Borrowed("");
        loop {
            let rest = &self.text[self.at..];
            let end = memchr::memchr2(b'"', b'\\', rest.as_bytes()).ok_or(NO_JSON)?;
            match &mut whole {
                // Most texts have no escape.
                Cow::Borrowed("") => whole = Cow::Borrowed(&rest[..end]),
                whole => whole.to_mut().push_str(&rest[..end]),
            }
            self.at += end + 1;
            if rest.as_bytes()[end] == b'"' {
                return Ok(whole);
            }
            let escaped = self.escaped()?;
            whole.to_mut().push(escaped);
        }
    }

    /// The character behind a backslash.
    fn escaped(&mut self) -> Result<char, Fault> {
        let byte = self.peek().ok_or(NO_JSON)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => byte as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let mut code = self.code()?;
                if (0xd800..0xdc00).contains(&code) {
                    if !(self.skip(b'\\') && self.skip(b'u')) {
                        return Err(NO_JSON);
                    }
                    let low = self.code()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(NO_JSON);
                    }
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                }
                char::from_u32(code).ok_or(NO_JSON)?
            }
            _ => return Err(NO_JSON),
        })
    }

    /// The four hexadecimal digits behind `\u`.
    fn code(&mut self) -> Result<u32, Fault> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or(NO_JSON)?;
        self.at += 4;
        digits
            .iter()
            .try_fold(0, |code, digit| Some(code << 4 | (*digit as char).to_digit(16)?))
            .ok_or(NO_JSON)
    }
}

/// Refuses an object that has a key twice.
fn are_distinct(keys: &mut [(usize, usize)], bytes: &[u8]) -> Result<(), Fault> {
    let of = |&(start, end): &(usize, usize)| (end - start, &bytes[start..end]);
    let is_rising = |keys: &[(usize, usize)]| keys.windows(2).all(|pair| of(&pair[0]) < of(&pair[1]));
    // jsonb's keys stand in this order already: by length, then by bytes.
    if !is_rising(keys) {
        keys.sort_unstable_by(|a, b| of(a).cmp(&of(b)));
        if !is_rising(keys) {
            return Err(Fault::JsonKey);
        }
    }
    Ok(())
}
