//! Takes stored documents apart and puts them together again, byte for byte: what nobody means to change comes out as it
//! went in, whatever its type, and has the digest that it had.

use mongodb::bson::{RawDocument, RawDocumentBuf};

/// BSON's number of an embedded document, as a type.
pub const DOCUMENT: u8 = 0x03;
/// BSON's number of an array.
const ARRAY: u8 = 0x04;

/// A document without fields.
const EMPTY: &[u8] = &[5, 0, 0, 0, 0];

/// A value with its type, as BSON has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'d> {
    pub kind: u8,
    pub bytes: &'d [u8],
}

impl<'d> Value<'d> {
    /// The embedded document that it is.
    pub fn document(self) -> Option<&'d RawDocument> {
        if self.kind == DOCUMENT { RawDocument::from_bytes(self.bytes).ok() } else { None }
    }

    /// The elements of the array that it is.
    pub fn items(self) -> Option<Vec<Self>> {
        let items = RawDocument::from_bytes(self.bytes).ok().filter(|_| self.kind == ARRAY)?;
        Some(fields(items).into_iter().map(|(_, item)| item).collect())
    }

    /// A document as a value.
    pub fn of(document: &'d RawDocument) -> Self {
        Self { kind: DOCUMENT, bytes: document.as_bytes() }
    }
}

/// The fields of a document in their order.
pub fn fields(document: &RawDocument) -> Vec<(&str, Value<'_>)> {
    let bytes = document.as_bytes();
    let mut start = 4;
    let mut found = Vec::new();
    for element in document.iter_elements() {
        // Nothing that a server returns is malformed.
        let Ok(element) = element else { break };
        let name = element.key().as_str();
        let value = start + 1 + name.len() + 1;
        let end = value + element.size();
        if end >= bytes.len() {
            break;
        }
        found.push((name, Value { kind: bytes[start], bytes: &bytes[value..end] }));
        start = end;
    }
    found
}

/// The elements of the array at a dotted path; none if there is no such array.
pub fn array<'d>(document: &'d RawDocument, path: &str) -> Vec<Value<'d>> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let Some((_, value)) = fields(document).into_iter().find(|(name, _)| *name == first) else {
        return Vec::new();
    };
    match rest {
        Some(rest) => value.document().map(|inner| array(inner, rest)).unwrap_or_default(),
        None => value.items().unwrap_or_default(),
    }
}

/// The document with other elements in the array at a dotted path, which is added at the end if it is not there.
pub fn with_array(document: &RawDocument, path: &str, items: &[Value<'_>]) -> RawDocumentBuf {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let changed = |value: Option<Value<'_>>| match rest {
        None => (ARRAY, numbered(items)),
        Some(rest) => {
            let inner = value.and_then(Value::document).unwrap_or_else(|| empty());
            (DOCUMENT, with_array(inner, rest, items))
        }
    };
    let mut builder = Builder::default();
    let mut done = false;
    for (name, value) in fields(document) {
        if name == first {
            let (kind, inner) = changed(Some(value));
            builder.push(name, Value { kind, bytes: inner.as_bytes() });
            done = true;
        } else {
            builder.push(name, value);
        }
    }
    if !done {
        let (kind, inner) = changed(None);
        builder.push(first, Value { kind, bytes: inner.as_bytes() });
    }
    builder.end()
}

/// An array as BSON has it: a document whose fields are numbers.
fn numbered(items: &[Value<'_>]) -> RawDocumentBuf {
    let mut builder = Builder::default();
    for (number, item) in items.iter().enumerate() {
        builder.push(&number.to_string(), *item);
    }
    builder.end()
}

/// How deep documents and arrays nest, the document itself included.
pub fn depth(document: &RawDocument) -> usize {
    let nested = fields(document).into_iter().filter(|(_, value)| matches!(value.kind, DOCUMENT | ARRAY));
    let inner = nested.filter_map(|(_, value)| RawDocument::from_bytes(value.bytes).ok().map(depth));
    1 + inner.max().unwrap_or(0)
}

/// A document without fields.
#[expect(clippy::expect_used, reason = "these are the five bytes of the empty document")]
pub fn empty() -> &'static RawDocument {
    RawDocument::from_bytes(EMPTY).expect("the empty document")
}

/// Puts a document together.
pub struct Builder(Vec<u8>);

impl Default for Builder {
    fn default() -> Self {
        Self(vec![0; 4])
    }
}

impl Builder {
    /// Adds a field. The name is one that a document had, or one of the plan: there is no NUL in it.
    pub fn push(&mut self, name: &str, value: Value<'_>) {
        self.0.push(value.kind);
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        self.0.extend_from_slice(value.bytes);
    }

    /// The document.
    #[expect(clippy::expect_used, reason = "its length and its end are filled in right here")]
    pub fn end(mut self) -> RawDocumentBuf {
        self.0.push(0);
        // Of documents of at most 16 MiB each, so this fits.
        let length = self.0.len() as i32;
        self.0[..4].copy_from_slice(&length.to_le_bytes());
        RawDocumentBuf::from_bytes(self.0).expect("a whole document")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::{Bson, Document, doc, rawdoc};

    #[test]
    fn what_is_taken_apart_comes_together_again() {
        let document = rawdoc! { "_id": 1, "a": { "b": [1, { "c": "x" }], "d": 2.5 }, "e": null };
        let mut builder = Builder::default();
        fields(&document).into_iter().for_each(|(name, value)| builder.push(name, value));
        assert_eq!(builder.end(), document);
        assert_eq!(*Builder::default().end(), *empty());
        let items = array(&document, "a.b");
        assert_eq!(items.len(), 2);
        assert_eq!(items[1].document(), Some(&*rawdoc! { "c": "x" }));
        assert_eq!(with_array(&document, "a.b", &items), document);
        assert_eq!((depth(&document), depth(empty())), (4, 1));
        assert!(array(&document, "a.d").is_empty() && array(&document, "x.y").is_empty());
    }

    #[test]
    fn arrays_are_replaced_where_they_are() {
        let document = rawdoc! { "_id": 1, "a": { "b": [1, 2], "d": 2.5 }, "e": null };
        let one = array(&document, "a.b")[1];
        let of = |document: RawDocumentBuf| Document::try_from(&*document).unwrap();
        assert_eq!(
            of(with_array(&document, "a.b", &[one])),
            doc! { "_id": 1, "a": { "b": [2], "d": 2.5 }, "e": null }
        );
        let many: Vec<Value<'_>> = (0..12).map(|_| one).collect();
        assert_eq!(
            of(with_array(&document, "x.y", &many)),
            doc! { "_id": 1, "a": { "b": [1, 2], "d": 2.5 }, "e": null, "x": { "y": vec![Bson::Int32(2); 12] } }
        );
    }
}
