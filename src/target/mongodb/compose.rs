//! What a document becomes when V1's row has changed: the new one, in the order of a new one's fields, with those fields of
//! the old one that stay.

use mongodb::bson::{RawDocument, RawDocumentBuf};

use super::shape::Node;
use super::splice::{Builder, DOCUMENT, Value, empty, fields};
use crate::plan::Column;

/// Composes a document of the fields `nodes`. With `foreign`, fields of the old one that are not among them stay, too: they
/// are the application's own.
pub fn compose(
    nodes: &[Node<'_>],
    new: &RawDocument,
    old: &RawDocument,
    stays: &dyn Fn(&Column) -> bool,
    foreign: bool,
) -> RawDocumentBuf {
    let (new, old) = (fields(new), fields(old));
    let mut builder = Builder::default();
    for node in nodes {
        let name = node.name();
        let (new, old) = (find(&new, name), find(&old, name));
        match node {
            Node::Field { column, .. } => {
                if let Some(value) = if stays(column) { old } else { new } {
                    builder.push(name, value);
                }
            }
            Node::Array { .. } => {
                if let Some(value) = new {
                    builder.push(name, value);
                }
            }
            Node::Document { nodes, .. } => {
                let inner = compose(nodes, inside(new), inside(old), stays, foreign);
                // As in a new document: an object of which nothing is there is not there, either.
                if *inner != *empty() {
                    builder.push(name, Value { kind: DOCUMENT, bytes: inner.as_bytes() });
                }
            }
        }
    }
    for (name, value) in
        old.iter().filter(|(name, _)| foreign && nodes.iter().all(|node| node.name() != *name))
    {
        builder.push(name, *value);
    }
    builder.end()
}

/// The value of a field.
pub fn find<'d>(fields: &[(&str, Value<'d>)], wanted: &str) -> Option<Value<'d>> {
    fields.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value)
}

/// The embedded document that a value is.
pub fn inside<'d>(value: Option<Value<'d>>) -> &'d RawDocument {
    value.and_then(Value::document).unwrap_or_else(|| empty())
}
