//! Writes BSON bytes into one growing buffer.
//!
//! A chunk is some ten thousand documents of a dozen fields. A tree of values, or one buffer for each nested document
//! that is copied into the next, would cost more than parsing the fields; here every byte is written once, and the
//! lengths are filled in when a document is closed. The format is that of <https://bsonspec.org/spec.html>.

use super::value::Fault;

/// The largest document that MongoDB stores, in bytes (`BSONObjMaxUserSize`).
pub const MAX_DOCUMENT: usize = 16 * 1024 * 1024;

/// How deep documents and arrays may nest, the document itself included ("MongoDB Limits and Thresholds").
pub const MAX_DEPTH: usize = 100;

/// Writes one document after the other into the same buffer.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    /// The documents and arrays that are open.
    levels: Vec<Level>,
    /// Where the type of the value that comes next stands: it is known only when the value is.
    pending: usize,
    /// The levels around the document, in which it will be stored.
    outer: usize,
}

#[derive(Debug)]
struct Level {
    start: usize,
    /// The number of the next element of an array.
    next: u32,
}

impl Writer {
    /// Begins a document that will be stored `outer` levels deep (0 for one that is no part of another).
    pub fn begin(&mut self, outer: usize) {
        self.bytes.clear();
        self.levels.clear();
        self.outer = outer;
        self.open();
    }

    /// Ends the document.
    ///
    /// # Errors
    /// If MongoDB does not store documents of this size.
    pub fn finish(&mut self) -> Result<&[u8], Fault> {
        self.close();
        if self.bytes.len() > MAX_DOCUMENT { Err(Fault::Size) } else { Ok(&self.bytes) }
    }

    /// What was written up to now.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes back what was written since the buffer had this length; nothing that was opened since may be open.
    pub fn undo(&mut self, length: usize) {
        self.bytes.truncate(length);
    }

    /// Begins a field.
    ///
    /// # Errors
    /// If BSON cannot hold the name (a NUL in it), or the document is too large already: a text of a few megabytes
    /// can become gigabytes of BSON.
    pub fn key(&mut self, name: &str) -> Result<(), Fault> {
        if memchr::memchr(0, name.as_bytes()).is_some() {
            return Err(Fault::JsonKey);
        }
        self.begin_value()?;
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        Ok(())
    }

    /// Begins the next element of the array that is open.
    ///
    /// # Errors
    /// If the document is too large already.
    pub fn element(&mut self) -> Result<(), Fault> {
        self.begin_value()?;
        let mut number = 0;
        if let Some(level) = self.levels.last_mut() {
            number = level.next;
            level.next += 1;
        }
        // Elements are named by their number in decimal.
        let mut digits = [b'0'; 10];
        let mut first = digits.len() - 1;
        digits[first] = b'0' + (number % 10) as u8;
        while number >= 10 {
            number /= 10;
            first -= 1;
            digits[first] = b'0' + (number % 10) as u8;
        }
        self.bytes.extend_from_slice(&digits[first..]);
        self.bytes.push(0);
        Ok(())
    }

    fn begin_value(&mut self) -> Result<(), Fault> {
        if self.bytes.len() > MAX_DOCUMENT {
            return Err(Fault::Size);
        }
        self.pending = self.bytes.len();
        self.bytes.push(0);
        Ok(())
    }

    /// The value is a document.
    ///
    /// # Errors
    /// If it would be nested too deep.
    pub fn open_document(&mut self) -> Result<(), Fault> {
        self.open_level(0x03)
    }

    /// The value is an array.
    ///
    /// # Errors
    /// If it would be nested too deep.
    pub fn open_array(&mut self) -> Result<(), Fault> {
        self.open_level(0x04)
    }

    fn open_level(&mut self, of: u8) -> Result<(), Fault> {
        if self.outer + self.levels.len() >= MAX_DEPTH {
            return Err(Fault::Nesting);
        }
        self.bytes[self.pending] = of;
        self.open();
        Ok(())
    }

    fn open(&mut self) {
        self.levels.push(Level { start: self.bytes.len(), next: 0 });
        self.bytes.extend_from_slice(&[0; 4]);
    }

    /// Ends the document or array that was opened last, and returns where it began.
    pub fn close(&mut self) -> usize {
        self.bytes.push(0);
        let Some(Level { start, .. }) = self.levels.pop() else { return 0 };
        // A field of Postgres has at most 1 GB and what is before it at most 16 MiB, so this fits.
        let length = (self.bytes.len() - start) as i32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        start
    }

    fn value(&mut self, of: u8, bytes: &[u8]) {
        self.bytes[self.pending] = of;
        self.bytes.extend_from_slice(bytes);
    }

    /// The value is null.
    pub fn null(&mut self) {
        self.value(0x0A, &[]);
    }

    /// The value is a boolean.
    pub fn bool(&mut self, value: bool) {
        self.value(0x08, &[u8::from(value)]);
    }

    /// The value is an integer of 32 bits.
    pub fn int(&mut self, value: i32) {
        self.value(0x10, &value.to_le_bytes());
    }

    /// The value is an integer of 64 bits.
    pub fn long(&mut self, value: i64) {
        self.value(0x12, &value.to_le_bytes());
    }

    /// The value is a double.
    pub fn double(&mut self, value: f64) {
        self.value(0x01, &value.to_le_bytes());
    }

    /// The value is a decimal, in the bits of IEEE 754 decimal128.
    pub fn decimal(&mut self, bits: u128) {
        self.value(0x13, &bits.to_le_bytes());
    }

    /// The value is a date: milliseconds since 1970 in UTC.
    pub fn date(&mut self, milliseconds: i64) {
        self.value(0x09, &milliseconds.to_le_bytes());
    }

    /// The value is an ObjectId.
    pub fn object_id(&mut self, id: [u8; 12]) {
        self.value(0x07, &id);
    }

    /// The value is a uuid: binary of subtype 4.
    pub fn uuid(&mut self, id: uuid::Uuid) {
        self.value(0x05, &16_i32.to_le_bytes());
        self.bytes.push(4);
        self.bytes.extend_from_slice(id.as_bytes());
    }

    /// The value is a text.
    pub fn string(&mut self, text: &str) {
        self.value(0x02, &(text.len() as i32 + 1).to_le_bytes());
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    /// The value is binary of subtype 0, given in hexadecimal.
    ///
    /// # Errors
    /// If it is no hexadecimal.
    pub fn binary(&mut self, hex: &[u8]) -> Result<(), Fault> {
        let (pairs, rest) = hex.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Fault::NoValue("bytea"));
        }
        self.value(0x05, &(pairs.len() as i32).to_le_bytes());
        self.bytes.push(0);
        self.bytes.reserve(pairs.len());
        for pair in pairs {
            self.bytes.push(byte(*pair).ok_or(Fault::NoValue("bytea"))?);
        }
        Ok(())
    }
}

/// The byte that two hexadecimal digits mean.
pub fn byte([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |digit: u8| (digit as char).to_digit(16);
    Some((digit(high)? << 4 | digit(low)?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::{Bson, Document, RawDocument, doc};

    fn document(writer: &mut Writer) -> Document {
        let bytes = writer.finish().unwrap();
        RawDocument::from_bytes(bytes).unwrap().try_into().unwrap()
    }

    #[test]
    fn documents_and_arrays_nest() {
        let mut writer = Writer::default();
        for _ in 0..2 {
            writer.begin(0);
            writer.key("a").unwrap();
            writer.open_document().unwrap();
            writer.key("b").unwrap();
            writer.open_array().unwrap();
            for number in 0..1_234 {
                writer.element().unwrap();
                writer.int(number);
            }
            writer.close();
            writer.key("c").unwrap();
            writer.null();
            writer.close();
            writer.key("d").unwrap();
            writer.string("é");
            let before = writer.bytes().len();
            writer.key("e").unwrap();
            writer.open_document().unwrap();
            writer.close();
            writer.undo(before);
            let numbers: Vec<Bson> = (0..1_234).map(Bson::Int32).collect();
            assert_eq!(document(&mut writer), doc! { "a": { "b": numbers, "c": null }, "d": "é" });
            let raw = RawDocument::from_bytes(writer.bytes()).unwrap();
            let array = raw.get_document("a").unwrap().get_array("b").unwrap();
            let names: Vec<String> = RawDocument::from_bytes(array.as_bytes())
                .unwrap()
                .iter_elements()
                .map(|element| element.unwrap().key().as_str().to_owned())
                .collect();
            assert!((0..1_234).map(|number| number.to_string()).eq(names), "elements are named in order");
        }
    }

    #[test]
    fn has_limits() {
        let mut writer = Writer::default();
        writer.begin(0);
        assert_eq!(writer.key("a\0b"), Err(Fault::JsonKey));
        let open = |writer: &mut Writer| {
            (1..).find(|_| {
                writer.key("a").unwrap();
                writer.open_document().is_err()
            })
        };
        assert_eq!(open(&mut writer), Some(100), "the document is a level too");
        writer.begin(2);
        assert_eq!(open(&mut writer), Some(98));

        let text = "x".repeat(MAX_DOCUMENT);
        for (length, fits) in [(MAX_DOCUMENT - 13, true), (MAX_DOCUMENT - 12, false)] {
            writer.begin(0);
            writer.key("a").unwrap();
            writer.string(&text[..length]);
            assert_eq!(writer.finish().is_ok(), fits);
        }
        assert_eq!(writer.key("b"), Err(Fault::Size));
    }
}
