//! Rollback of documents that refer to documents of the same collection.
//!
//! Between entities the order of a rollback sees to it that whatever refers goes first. Inside of one there is no such order: a
//! chunk is a range of keys, and a row may refer to a later key. So before the first chunk it is worked out which documents are going to
//! stay (somebody edited them, or they are not of this run), and what they refer to stays, too, with what that refers to.

use std::collections::{HashMap, HashSet};

use mongodb::Database;
use mongodb::bson::{Document, RawBsonRef, doc};

use super::document::digest;
use super::ledger::{self, digests, is_written};
use super::references::{each_at, own, references};
use super::session::{LEDGER, at, id_text, raw};
use super::shape::Shape;
use crate::plan::{AccountField, Entity, Fill, Plan};

/// The ids of an entity's documents to which others of it refer that a rollback of this run leaves in place.
pub async fn needed_within(
    database: &Database,
    plan: &Plan,
    entity: &Entity,
    shapes: &[Shape<'_>],
    run: i32,
) -> mongodb::error::Result<HashSet<String>> {
    let mut needed = HashSet::new();
    let Some(collection) = own(entity) else { return Ok(needed) };
    // Documents that are about to go, with what they refer to; and what has to stay.
    let mut going: HashMap<String, Vec<String>> = HashMap::new();
    let mut open: Vec<String> = Vec::new();
    for (number, shape) in shapes.iter().enumerate() {
        let paths = own_paths(plan, entity, shape.collection, &collection);
        if paths.is_empty() {
            continue;
        }
        let made = made(database, entity, (number, shape), run).await?;
        let mut documents = raw(database, shape.collection).find(doc! {}).batch_size(1_000).await?;
        while documents.advance().await? {
            let document = documents.current();
            let mut targets = Vec::new();
            for path in &paths {
                each_at(document, path, &mut |id| targets.extend([id_text(id)]));
            }
            let id = at(document, "_id").map(id_text).unwrap_or_default();
            if made.get(&id) != Some(&digest(document, &[])) {
                open.append(&mut targets);
            } else if shape.collection == collection {
                going.insert(id, targets);
            }
        }
    }
    while let Some(id) = open.pop() {
        open.extend(going.remove(&id).into_iter().flatten());
        needed.insert(id);
    }
    Ok(needed)
}

/// The fields of a collection's documents that hold ids of the entity's own rows.
fn own_paths(plan: &Plan, entity: &Entity, collection: &str, own: &str) -> Vec<String> {
    let itself = |index: usize| plan.entities.get(index).is_some_and(|other| other.name == entity.name);
    let refers = |fill: &Fill| matches!(fill, Fill::Reference { entity, .. } if itself(*entity));
    let writes = entity.writes.iter().filter(|write| write.table.name == collection);
    writes
        .filter(|write| write.columns.iter().any(|column| refers(&column.fill)))
        .flat_map(|write| references(plan, entity, write))
        .filter(|reference| reference.collection == own)
        .map(|reference| reference.path)
        .collect()
}

/// The digests of the documents that the run made, by id.
async fn made(
    database: &Database,
    entity: &Entity,
    (number, shape): (usize, &Shape<'_>),
    run: i32,
) -> mongodb::error::Result<HashMap<String, u64>> {
    let id = entity.writes[shape.write].columns.iter().find(|column| column.name == "_id");
    let by = match id.map(|column| &column.fill) {
        Some(Fill::Account(AccountField::Id)) => "accountId",
        _ => "targetId",
    };
    let mut lines: Document = ledger::lines_of(&entity.name);
    lines.insert("run", run);
    let mut lines = raw(database, LEDGER).find(lines).batch_size(10_000).await?;
    let mut made = HashMap::new();
    while lines.advance().await? {
        let line = lines.current();
        let id: Option<RawBsonRef<'_>> = at(line, by).filter(|_| is_written(line));
        if let (Some(id), Some(digest)) = (id, digests(line).0.get(number)) {
            made.insert(id_text(id), *digest);
        }
    }
    Ok(made)
}
