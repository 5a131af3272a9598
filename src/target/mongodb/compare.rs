//! Compares the documents that V2 holds with those that V1's rows become today, field by field.
//!
//! V1's rows are converted to the very bytes that a run would send, so a value of another type differs, too. What an update
//! leaves to the application is no difference (`stays.rs`), nor is a field that no definition writes. Names are told, never
//! values.
//!
//! Each chunk is compared with one snapshot of V2: a document and its ledger line are looked at as they stood together.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use mongodb::bson::RawDocument;

use super::change::{Fresh, id_of_elements};
use super::compose::{find, inside};
use super::document::{Documents, assemble, digest};
use super::ledger::{bson_at, digests, shape};
use super::session::{Shared, at, id_text};
use super::shape::{Node, Shape, shapes};
use super::splice::{Value, array, fields};
use super::step::{Step, Steps};
use super::stored::{By, Place, Stored, by};
use super::transaction::{Failure, Transaction};
use crate::error::Result;
use crate::ledger::Reject;
use crate::plan::{Column, Entity, Plan};
use crate::target::stays::compared;
use crate::target::{self, ACCOUNT_CHANGED, Batch, Difference, Keeps};

/// What V2 has beside the documents that a row of V1 becomes today.
const ONE_TOO_MANY: &str = "(a document of this key too many)";

/// Reads V2, and writes nothing.
pub struct Comparer {
    shared: Arc<Shared>,
    plan: Arc<Plan>,
}

impl Comparer {
    /// Of the V2 that all share.
    pub fn new(shared: Arc<Shared>, plan: Arc<Plan>) -> Self {
        Self { shared, plan }
    }
}

#[async_trait]
impl target::Comparer for Comparer {
    async fn compare(&mut self, batch: &mut Batch) -> Result<Vec<Difference>> {
        let entity = &self.plan.entities[batch.entity];
        let documents = assemble(batch, entity, |_| true);
        let connection = self.shared.connection().await?;
        let mut steps = Steps::reading(&self.shared, connection).await?;
        let shapes = shapes(entity);
        let chunk = Chunk { plan: &self.plan, entity, batch, documents: &documents, shapes: &shapes };
        let Seen { differences, rejects } = steps.take(&chunk).await?;
        for (row, reject) in rejects {
            batch.reject(row, reject);
        }
        Ok(differences)
    }
}

/// What comparing a chunk showed.
struct Seen {
    differences: Vec<Difference>,
    /// Rows that no run would bring to V2 any more.
    rejects: Vec<(u32, Reject)>,
}

/// Rows of V1, and what they become.
struct Chunk<'c> {
    plan: &'c Plan,
    entity: &'c Entity,
    batch: &'c Batch,
    documents: &'c Documents,
    shapes: &'c [Shape<'c>],
}

#[async_trait]
impl Step for Chunk<'_> {
    type Done = Seen;

    async fn take(&self, transaction: &mut Transaction<'_>) -> Result<Seen, Failure> {
        let Self { entity, batch, shapes, .. } = *self;
        let all = 0..u32::try_from(batch.lines.len()).unwrap_or(u32::MAX);
        let mut lines = transaction.lines(batch, &all, &shape(self.plan, entity)).await?;
        let mut seen = Seen { differences: Vec::new(), rejects: Vec::new() };
        lines.retain(|&row, line| {
            let account = at(line, "accountId").map(id_text);
            let changed = !batch.is_rejected(row) && batch.lines[row as usize].account_id != account;
            if changed {
                seen.rejects.push((row, Reject::new("account-changed", ACCOUNT_CHANGED)));
            }
            !changed && !batch.is_rejected(row)
        });
        let mut stored = Stored::default();
        for (inserts, shape) in self.documents.inserts.iter().zip(shapes) {
            stored.load(transaction, entity, shape, lines.values()).await?;
            if matches!(by(entity, shape), By::Nothing) {
                let ids = inserts.iter().filter_map(|insert| bson_at(insert.document, "_id")).collect();
                stored.load_ids(transaction, shape.collection, ids).await?;
            }
        }
        let fresh = Fresh::of(self.documents, shapes);
        for (&row, line) in &lines {
            let update = batch.update.as_ref();
            let keeps = update.and_then(|update| update.keeps.get(row as usize).copied());
            let mut of = Row { row, line, entity, keeps: keeps.unwrap_or_default(), found: BTreeSet::new() };
            for (number, shape) in shapes.iter().enumerate() {
                of.documents(shape, fresh.documents(row, number), &stored);
                for (array, path) in shape.growing.iter().enumerate() {
                    of.elements(shape, path, (number, array), &fresh, &stored);
                }
            }
            seen.differences.extend(of.found.into_iter().map(|(table, column)| Difference {
                entity: batch.name.to_string(),
                key: batch.lines[row as usize].key.clone(),
                table,
                column,
            }));
        }
        Ok(seen)
    }
}

/// One row of V1, and where V2 differs: collection, and field or `None`.
struct Row<'r> {
    row: u32,
    line: &'r RawDocument,
    entity: &'r Entity,
    keeps: Keeps,
    found: BTreeSet<(String, Option<String>)>,
}

impl Row<'_> {
    fn differs(&mut self, shape: &Shape<'_>, field: Option<String>) {
        self.found.insert((shape.collection.to_owned(), field));
    }

    /// The row's documents in one collection, each found by its `_id`.
    fn documents(&mut self, shape: &Shape<'_>, new: &[&RawDocument], stored: &Stored) {
        let mut ours = BTreeSet::new();
        for new in new {
            let place = Place::of(shape.collection, new);
            match stored.now(&place) {
                Some(old) => {
                    let mut differing = BTreeSet::new();
                    self.fields(Some(shape), &shape.nodes, "", (new, old), &mut differing);
                    differing.into_iter().for_each(|field| self.differs(shape, Some(field)));
                }
                None => self.differs(shape, None),
            }
            ours.insert(place);
        }
        if matches!(by(self.entity, shape), By::Field(..)) {
            let owner = at(self.line, "targetId").map(id_text).unwrap_or_default();
            let there = stored.several(shape.collection, &owner).iter();
            if there.filter(|place| stored.now(place).is_some()).any(|place| !ours.contains(place)) {
                self.differs(shape, Some(ONE_TOO_MANY.to_owned()));
            }
        }
    }

    /// The row's own elements of an array of its account, whoever created that. Others have elements there, too.
    fn elements(
        &mut self,
        shape: &Shape<'_>,
        path: &str,
        (number, of): (usize, usize),
        fresh: &Fresh<'_>,
        stored: &Stored,
    ) {
        let new: Vec<&RawDocument> = match fresh.documents(self.row, number) {
            [document, ..] => array(document, path).into_iter().filter_map(Value::document).collect(),
            [] => fresh.pushes(self.row, number, of).to_vec(),
        };
        if new.is_empty() {
            return;
        }
        let id = at(self.line, "accountId").map(id_text).unwrap_or_default();
        let place = Place { collection: shape.collection.to_owned(), id };
        let Some(account) = stored.now(&place) else {
            self.differs(shape, None);
            return;
        };
        let id_field = id_of_elements(self.entity, shape, path);
        let mut there = array(account, path);
        for new in new {
            let differing = |item: &Value<'_>| {
                let mut differing = BTreeSet::new();
                self.element(shape, path, (Value::of(new), *item), &mut differing);
                differing
            };
            let found = match id_field {
                Some(field) => there.iter().position(|item| {
                    let id = |of: &RawDocument| bson_at(of, field);
                    item.document().is_some_and(|item| id(item).is_some() && id(item) == id(new))
                }),
                // Nothing tells them apart but what they are; or, if V1 has changed since, what they were.
                None => there.iter().position(|item| differing(item).is_empty()).or_else(|| {
                    let (_, known) = digests(self.line);
                    let was = |item: &RawDocument| known.contains(&digest(item, &[]));
                    there.iter().position(|item| item.document().is_some_and(was))
                }),
            };
            match found.map(|at| there.remove(at)) {
                Some(item) => {
                    differing(&item).into_iter().for_each(|field| self.differs(shape, Some(field)));
                }
                None => self.differs(shape, Some(path.to_owned())),
            }
        }
    }

    /// Names the fields in which a document, or an embedded one at `path`, differs. `shape` is that of the document; elements
    /// of arrays have none.
    fn fields(
        &self,
        shape: Option<&Shape<'_>>,
        nodes: &[Node<'_>],
        path: &str,
        (new, old): (&RawDocument, &RawDocument),
        differing: &mut BTreeSet<String>,
    ) {
        let (new, old) = (fields(new), fields(old));
        for node in nodes {
            let name = node.name();
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let (new, old) = (find(&new, name), find(&old, name));
            match node {
                Node::Field { column, .. } => {
                    if new != old && self.is_compared(column) {
                        differing.insert(path);
                    }
                }
                Node::Document { .. } if old.is_some_and(|old| old.document().is_none()) => {
                    differing.insert(path);
                }
                Node::Document { nodes, .. } => {
                    self.fields(shape, nodes, &path, (inside(new), inside(old)), differing);
                }
                Node::Array { array, .. } => {
                    let Some(shape) = shape else { continue };
                    if shape.arrays[*array].grows {
                        continue;
                    }
                    let (new, old) = (new.and_then(Value::items), old.and_then(Value::items));
                    match (new, old) {
                        (Some(new), Some(old)) if new.len() == old.len() => {
                            for pair in new.into_iter().zip(old) {
                                self.element(shape, &path, pair, differing);
                            }
                        }
                        _ => drop(differing.insert(path)),
                    }
                }
            }
        }
    }

    /// The same of an element of the array at `path`.
    fn element(
        &self,
        shape: &Shape<'_>,
        path: &str,
        (new, old): (Value<'_>, Value<'_>),
        differing: &mut BTreeSet<String>,
    ) {
        let Some(array) = shape.arrays.iter().find(|array| array.path == path) else { return };
        match (new.document(), old.document()) {
            // Which of several writes made it, nothing says: a field that it has not is in neither of the two.
            (Some(new), Some(old)) => array
                .writes
                .iter()
                .for_each(|(_, _, nodes)| self.fields(None, nodes, path, (new, old), differing)),
            _ => drop(differing.insert(path.to_owned())),
        }
    }

    fn is_compared(&self, column: &Column) -> bool {
        !compared(self.entity, column).in_row(self.keeps)
    }
}
