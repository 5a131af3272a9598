//! The documents of a chunk: what one transaction inserts, and what it adds to documents that are there already.
//!
//! A record of the engine is a line of fields with dotted names. Here the fields nest, the lines that belong inside
//! another document become its array, and a row whose person has an account already becomes an element that is pushed
//! into that account's document. A row that BSON cannot hold is rejected whole: nothing of it is in the result.

mod assemble;

use mongodb::bson::RawDocument;

pub use super::digest::digest;
pub use assemble::assemble;

/// What one transaction writes.
#[derive(Debug)]
pub struct Documents {
    /// One for each write that makes documents, in the order of the entity's writes; some may be empty.
    pub inserts: Vec<Inserts>,
    /// One for each array in accounts' documents; to be written after the inserts, since an account may be among them.
    pub pushes: Vec<Pushes>,
}

/// New documents of one write, in the order of their source rows.
#[derive(Debug, Default)]
pub struct Inserts {
    /// The collection.
    pub collection: String,
    /// Dotted names of the arrays that later rows may add to: what [`digest`] leaves out of these documents.
    pub growing: Vec<String>,
    bytes: Vec<u8>,
    documents: Vec<Entry>,
    elements: Vec<u64>,
}

/// A new document.
#[derive(Debug, Clone, Copy)]
pub struct Insert<'a> {
    /// The source row, by its number in the chunk.
    pub row: u32,
    /// The document.
    pub document: &'a RawDocument,
    /// Its [`digest`], without the growing arrays.
    pub digest: u64,
    /// The digest of each element of the growing arrays, in order.
    pub elements: &'a [u64],
}

/// New elements of one array, each of a document that exists already.
#[derive(Debug, Default)]
pub struct Pushes {
    /// The collection.
    pub collection: String,
    /// The array's field, dotted.
    pub field: String,
    bytes: Vec<u8>,
    elements: Vec<Pushed>,
}

/// A new element of a document that exists already.
#[derive(Debug, Clone, Copy)]
pub struct Push<'a> {
    /// The source row, by its number in the chunk.
    pub row: u32,
    /// Which document: `{ _id: … }`.
    pub filter: &'a RawDocument,
    /// The element.
    pub element: &'a RawDocument,
    /// The element's [`digest`].
    pub digest: u64,
}

#[derive(Debug)]
struct Entry {
    row: u32,
    digest: u64,
    /// End in `bytes`, and in `elements`.
    end: usize,
    elements_end: usize,
}

#[derive(Debug)]
struct Pushed {
    row: u32,
    digest: u64,
    /// Ends in `bytes`: the filter comes first, then the element.
    filter_end: usize,
    end: usize,
}

impl Inserts {
    /// Number of documents.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// Size of all documents in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The documents.
    pub fn iter(&self) -> impl Iterator<Item = Insert<'_>> {
        let (mut start, mut first) = (0, 0);
        self.documents.iter().map(move |entry| {
            let document = raw(&self.bytes[start..entry.end]);
            let elements = &self.elements[first..entry.elements_end];
            (start, first) = (entry.end, entry.elements_end);
            Insert { row: entry.row, document, digest: entry.digest, elements }
        })
    }

    /// Takes back what the last row, not ended perhaps, has left.
    fn take_back(&mut self, row: u32) {
        while self.documents.last().is_some_and(|entry| entry.row == row) {
            self.documents.pop();
        }
        self.bytes.truncate(self.documents.last().map_or(0, |entry| entry.end));
        self.elements.truncate(self.documents.last().map_or(0, |entry| entry.elements_end));
    }
}

impl Pushes {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Size of all elements and filters in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The elements.
    pub fn iter(&self) -> impl Iterator<Item = Push<'_>> {
        let mut start = 0;
        self.elements.iter().map(move |pushed| {
            let filter = raw(&self.bytes[start..pushed.filter_end]);
            let element = raw(&self.bytes[pushed.filter_end..pushed.end]);
            start = pushed.end;
            Push { row: pushed.row, filter, element, digest: pushed.digest }
        })
    }

    /// Takes back what the last row, not ended perhaps, has left.
    fn take_back(&mut self, row: u32) {
        while self.elements.last().is_some_and(|pushed| pushed.row == row) {
            self.elements.pop();
        }
        self.bytes.truncate(self.elements.last().map_or(0, |pushed| pushed.end));
    }
}

#[expect(
    clippy::expect_used,
    reason = "every document here was closed by the writer, which fills its length in"
)]
fn raw(bytes: &[u8]) -> &RawDocument {
    RawDocument::from_bytes(bytes).expect("a whole document")
}

#[cfg(test)]
mod tests;
