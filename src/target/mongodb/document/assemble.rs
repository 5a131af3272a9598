//! Assembles documents row by row, so that a row which turns out not to fit is taken back as a whole.

use super::{Documents, Entry, Inserts, Pushed, Pushes, digest, raw};
use crate::ledger::{Line, Reject};
use crate::plan::{BsonKind, Column, Entity};
use crate::row::{Lines, NULL};
use crate::target::Batch;
use crate::target::mongodb::raw::Writer;
use crate::target::mongodb::shape::{ArrayShape, Node, Shape, shapes};
use crate::target::mongodb::value::{self, Fault};

/// Makes the documents of a chunk: of the rows that `wanted` accepts and that are not rejected yet. Rows that BSON
/// cannot hold are rejected in the batch. It may be called again, after further rejects or for a part of the rows: the
/// same rows give the same documents.
pub fn assemble(batch: &mut Batch, entity: &Entity, mut wanted: impl FnMut(u32) -> bool) -> Documents {
    let shapes = shapes(entity);
    let mut documents = empty(&shapes);
    let mut records: Vec<_> = batch.records.writes.iter().map(Cursor::of).collect();
    let mut writer = Writer::default();
    let mut rejects = Vec::new();
    for (row, line) in (0_u32..).zip(&batch.lines) {
        if batch.is_rejected(row) || !wanted(row) {
            continue;
        }
        records.iter_mut().for_each(|lines| lines.seek(row));
        let mut source = Source { row, line, records: &records, writer: &mut writer };
        if let Err(reject) = source.documents(&shapes, &mut documents) {
            documents.inserts.iter_mut().for_each(|inserts| inserts.take_back(row));
            documents.pushes.iter_mut().for_each(|pushes| pushes.take_back(row));
            rejects.push((row, reject));
        }
    }
    for (row, reject) in rejects {
        batch.reject(row, reject);
    }
    documents
}

/// Where the documents of each shape go, and the elements of each array that grows: [`Source::documents`] goes through
/// both in this order.
fn empty(shapes: &[Shape<'_>]) -> Documents {
    let mut documents = Documents { inserts: Vec::new(), pushes: Vec::new() };
    for shape in shapes {
        let collection = shape.collection.to_owned();
        let growing: Vec<String> = shape.growing.iter().map(|&path| path.to_owned()).collect();
        for field in growing.iter().cloned() {
            documents.pushes.push(Pushes { collection: collection.clone(), field, ..Pushes::default() });
        }
        documents.inserts.push(Inserts { collection, growing, ..Inserts::default() });
    }
    documents
}

/// The lines of one write, which stand in the order of their source rows.
struct Cursor<'b> {
    lines: Vec<(u32, &'b [u8])>,
    at: usize,
}

impl<'b> Cursor<'b> {
    fn of(lines: &'b Lines) -> Self {
        let texts = lines.iter_rows(|_| true).enumerate();
        let lines = texts.filter_map(|(number, text)| Some((lines.source_row(number)?, text))).collect();
        Self { lines, at: 0 }
    }

    fn seek(&mut self, row: u32) {
        self.at += self.lines[self.at..].iter().take_while(|(of, _)| *of < row).count();
    }

    fn of_row(&self, row: u32) -> impl Iterator<Item = &'b [u8]> {
        self.lines[self.at..].iter().take_while(move |(of, _)| *of == row).map(|(_, text)| *text)
    }
}

/// The fields of a line, still escaped.
fn fields(line: &[u8], columns: usize) -> Vec<&[u8]> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut fields = Vec::with_capacity(columns);
    let mut start = 0;
    // Tabs inside values are escaped, so every tab ends a field.
    for tab in memchr::memchr_iter(b'\t', line) {
        fields.push(&line[start..tab]);
        start = tab + 1;
    }
    fields.push(&line[start..]);
    fields
}

/// The reject of a row: its fault is in a column, or in the document or element as a whole.
fn reject(fault: Fault, shape: &Shape<'_>, inside: Option<&str>, column: Option<&str>) -> Reject {
    let parts: Vec<&str> = [Some(shape.collection), inside, column].into_iter().flatten().collect();
    fault.reject(&parts.join("."))
}

/// One source row and the lines it became.
struct Source<'s> {
    row: u32,
    line: &'s Line,
    records: &'s [Cursor<'s>],
    writer: &'s mut Writer,
}

impl<'s> Source<'s> {
    fn documents(&mut self, shapes: &[Shape<'_>], documents: &mut Documents) -> Result<(), Reject> {
        let mut pushes = documents.pushes.iter_mut();
        for (shape, inserts) in shapes.iter().zip(&mut documents.inserts) {
            let mut is_new = false;
            for line in self.lines(shape.write) {
                is_new = true;
                self.insert(shape, line, inserts)?;
            }
            for array in &shape.arrays {
                let pushes = if array.grows { pushes.next() } else { None };
                if !is_new {
                    self.push(shape, array, pushes)?;
                }
            }
        }
        Ok(())
    }

    /// The lines that the row became in one write.
    fn lines(&self, write: usize) -> impl Iterator<Item = &'s [u8]> + use<'s> {
        self.records[write].of_row(self.row)
    }

    /// A new document.
    fn insert(&mut self, shape: &Shape<'_>, line: &[u8], to: &mut Inserts) -> Result<(), Reject> {
        self.writer.begin(0);
        let fields = fields(line, shape.columns);
        self.nodes(shape, None, &shape.nodes, &fields, &mut to.elements)?;
        let bytes = self.writer.finish().map_err(|fault| reject(fault, shape, None, None))?;
        to.bytes.extend_from_slice(bytes);
        let digest = digest(raw(bytes), &shape.growing);
        let (end, elements_end) = (to.bytes.len(), to.elements.len());
        to.documents.push(Entry { row: self.row, digest, end, elements_end });
        Ok(())
    }

    /// New elements of an account's document that is there already.
    fn push(
        &mut self,
        shape: &Shape<'_>,
        array: &ArrayShape<'_>,
        mut to: Option<&mut Pushes>,
    ) -> Result<(), Reject> {
        for (write, columns, nodes) in &array.writes {
            for line in self.lines(*write) {
                let (Some(to), Some(account)) = (to.as_deref_mut(), self.line.account_id.as_deref()) else {
                    let place = format!("{}.{}", shape.collection, array.path);
                    let reason = format!("{place}: the row has no document that could take this element");
                    return Err(Reject::new("missing-reference", reason));
                };
                self.filter(shape, account, to)?;
                let filter_end = to.bytes.len();
                // In the document, the documents that the path leads through, and the array.
                self.writer.begin(2 + array.path.matches('.').count());
                let fields = fields(line, *columns);
                self.nodes(shape, Some(array.path), nodes, &fields, &mut Vec::new())?;
                let whole = |fault| reject(fault, shape, Some(array.path), None);
                let bytes = self.writer.finish().map_err(whole)?;
                to.bytes.extend_from_slice(bytes);
                let (digest, end) = (digest(raw(bytes), &[]), to.bytes.len());
                to.elements.push(Pushed { row: self.row, digest, filter_end, end });
            }
        }
        Ok(())
    }

    /// Which document: the account's.
    fn filter(&mut self, shape: &Shape<'_>, account: &str, to: &mut Pushes) -> Result<(), Reject> {
        let kind = match shape.nodes.first() {
            Some(Node::Field { name: "_id", column, .. }) => column.bson.as_ref().map(|bson| &bson.kind),
            _ => None,
        };
        self.writer.begin(0);
        let written = self.writer.key("_id").and_then(|()| {
            value::write(self.writer, kind.unwrap_or(&BsonKind::Uuid), account)?;
            self.writer.finish()
        });
        let filter = written.map_err(|fault| fault.reject(&format!("{}._id", shape.collection)))?;
        to.bytes.extend_from_slice(filter);
        Ok(())
    }

    /// Fields of the document that is open; says whether there are any. `inside` is the array whose element it is.
    fn nodes(
        &mut self,
        shape: &Shape<'_>,
        inside: Option<&str>,
        nodes: &[Node<'_>],
        fields: &[&[u8]],
        digests: &mut Vec<u64>,
    ) -> Result<bool, Reject> {
        let mut any = false;
        for node in nodes {
            any |= match node {
                Node::Field { name, index, column } => {
                    let written = field(self.writer, name, column, fields.get(*index).copied());
                    written.map_err(|fault| reject(fault, shape, inside, Some(&column.name)))?
                }
                Node::Document { name, nodes } => {
                    let before = self.writer.bytes().len();
                    let opened = self.writer.key(name).and_then(|()| self.writer.open_document());
                    opened.map_err(|fault| reject(fault, shape, inside, None))?;
                    let any = self.nodes(shape, inside, nodes, fields, digests)?;
                    self.writer.close();
                    if !any {
                        self.writer.undo(before);
                    }
                    any
                }
                Node::Array { name, array } => {
                    self.array(shape, name, &shape.arrays[*array], digests)?;
                    true
                }
            };
        }
        Ok(any)
    }

    /// An array of embedded documents, empty if the row has none.
    fn array(
        &mut self,
        shape: &Shape<'_>,
        name: &str,
        array: &ArrayShape<'_>,
        digests: &mut Vec<u64>,
    ) -> Result<(), Reject> {
        let inside = Some(array.path);
        let opened = self.writer.key(name).and_then(|()| self.writer.open_array());
        opened.map_err(|fault| reject(fault, shape, inside, None))?;
        for (write, columns, nodes) in &array.writes {
            for line in self.lines(*write) {
                let opened = self.writer.element().and_then(|()| self.writer.open_document());
                opened.map_err(|fault| reject(fault, shape, inside, None))?;
                self.nodes(shape, inside, nodes, &fields(line, *columns), digests)?;
                let start = self.writer.close();
                if array.grows {
                    digests.push(digest(raw(&self.writer.bytes()[start..]), &[]));
                }
            }
        }
        self.writer.close();
        Ok(())
    }
}

/// One field; says whether it is there.
fn field(writer: &mut Writer, name: &str, column: &Column, text: Option<&[u8]>) -> Result<bool, Fault> {
    let (kind, null) = match &column.bson {
        Some(bson) => (&bson.kind, bson.null),
        None => (&BsonKind::Text, false),
    };
    match text {
        Some(text) if text != NULL => {
            writer.key(name)?;
            value::write_field(writer, kind, text)?;
        }
        _ if null => {
            writer.key(name)?;
            writer.null();
        }
        _ => return Ok(false),
    }
    Ok(true)
}
