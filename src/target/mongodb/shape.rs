//! How the fields of an entity's documents nest: worked out once for a chunk, from the dotted names of its writes.

use crate::plan::{Column, Entity, When, Write};

/// One collection's documents.
#[derive(Debug)]
pub struct Shape<'p> {
    /// Index of the write that makes the documents.
    pub write: usize,
    /// The collection.
    pub collection: &'p str,
    /// Their fields.
    pub nodes: Vec<Node<'p>>,
    /// How many columns the write has.
    pub columns: usize,
    /// The arrays that later rows can add elements to, dotted: those of accounts.
    pub growing: Vec<&'p str>,
    /// Their arrays of embedded documents.
    pub arrays: Vec<ArrayShape<'p>>,
}

/// An array of embedded documents.
#[derive(Debug)]
pub struct ArrayShape<'p> {
    /// The field, dotted.
    pub path: &'p str,
    /// Whether later rows can add elements.
    pub grows: bool,
    /// The writes that make elements: index, number of columns, fields.
    pub writes: Vec<(usize, usize, Vec<Node<'p>>)>,
}

/// A field.
#[derive(Debug)]
pub enum Node<'p> {
    /// One value.
    Field {
        /// The last part of its name.
        name: &'p str,
        /// Index of the column.
        index: usize,
        /// The column.
        column: &'p Column,
    },
    /// A nested document.
    Document {
        /// Its name.
        name: &'p str,
        /// Its fields.
        nodes: Vec<Node<'p>>,
    },
    /// An array of embedded documents.
    Array {
        /// The last part of its name.
        name: &'p str,
        /// Index into [`Shape::arrays`].
        array: usize,
    },
}

impl Node<'_> {
    /// The last part of its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Field { name, .. } | Self::Document { name, .. } | Self::Array { name, .. } => name,
        }
    }
}

/// The shapes of an entity's documents, in the order of its writes.
pub fn shapes(entity: &Entity) -> Vec<Shape<'_>> {
    let is_owner = |(_, write): &(usize, &Write)| write.inside.is_none();
    entity.writes.iter().enumerate().filter(is_owner).map(|owner| shape(entity, owner)).collect()
}

fn shape<'p>(entity: &'p Entity, (index, write): (usize, &'p Write)) -> Shape<'p> {
    let mut nodes = fields(write);
    // MongoDB would move it there.
    if let Some(at) = nodes.iter().position(|node| node.name() == "_id") {
        nodes[..=at].rotate_right(1);
    }
    // Whoever has an account already gets a further role in it; a document of another kind is written once.
    let grows = write.when == When::Account;
    let mut arrays: Vec<ArrayShape<'p>> = Vec::new();
    for (number, elements) in entity.writes.iter().enumerate().filter(|(_, other)| other.table == write.table)
    {
        let Some(path) = elements.inside.as_deref() else { continue };
        let made = (number, elements.columns.len(), fields(elements));
        if let Some(array) = arrays.iter_mut().find(|array| array.path == path) {
            array.writes.push(made);
        } else {
            place(&mut nodes, path, |name| Node::Array { name, array: arrays.len() });
            arrays.push(ArrayShape { path, grows, writes: vec![made] });
        }
    }
    let growing = arrays.iter().filter(|array| array.grows).map(|array| array.path).collect();
    let columns = write.columns.len();
    Shape { write: index, collection: &write.table.name, nodes, columns, growing, arrays }
}

fn fields(write: &Write) -> Vec<Node<'_>> {
    let mut nodes = Vec::with_capacity(write.columns.len());
    for (index, column) in write.columns.iter().enumerate() {
        place(&mut nodes, &column.name, |name| Node::Field { name, index, column });
    }
    nodes
}

/// Puts a node where its dotted name says. The plan has seen to it that no name leads through another field.
fn place<'p>(nodes: &mut Vec<Node<'p>>, path: &'p str, make: impl FnOnce(&'p str) -> Node<'p>) {
    let Some((first, rest)) = path.split_once('.') else {
        nodes.push(make(path));
        return;
    };
    let known = nodes.iter().position(|node| matches!(node, Node::Document { name, .. } if *name == first));
    let at = known.unwrap_or_else(|| {
        nodes.push(Node::Document { name: first, nodes: Vec::new() });
        nodes.len() - 1
    });
    if let Node::Document { nodes, .. } = &mut nodes[at] {
        place(nodes, rest, make);
    }
}
