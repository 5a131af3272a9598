//! What V2's collections were like when an entity was first written, kept beside the ledger.
//!
//! As in Postgres, what counts is what decides which documents V2 takes and keeps: validators, options, and indexes that
//! refuse documents (unique ones, those of special types) or remove them (a time to live). An index that only makes the
//! application faster is the application's own business.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, doc};
use mongodb::{ClientSession, Database};

use super::session::{DROPPED, LEDGER, META, Shared};
use crate::error::Result;
use crate::plan::Entity;
use crate::target::structure::{KEY, Structure, compare};

/// Options of an index that are its name, its version, or say nothing about which documents it takes.
const BESIDE: [&str; 5] = ["name", "v", "ns", "background", "hidden"];

/// The differences, in words.
pub async fn changes(shared: &Shared, database: &Database, entities: &[&Entity]) -> Result<Vec<String>> {
    let mut changes = BTreeSet::new();
    for entity in entities {
        if !is_written(shared, database, entity).await? {
            continue;
        }
        let found = database.collection::<Document>(META).find_one(doc! { "_id": key(entity) }).await;
        let found = found.map_err(|error| shared.failed(&error))?;
        let then = found.and_then(|of| serde_json::from_str::<Structure>(of.get_str("value").ok()?).ok());
        if let Some(then) = then {
            changes.extend(compare(&then, &read(shared, database, entity).await?));
        }
    }
    Ok(changes.into_iter().collect())
}

/// Remembers the collections as they are.
pub async fn keep(shared: &Shared, database: &Database, entities: &[&Entity], anew: bool) -> Result<()> {
    for entity in entities {
        let now = read(shared, database, entity).await?;
        let Ok(text) = serde_json::to_string(&now) else { continue };
        // What a rollback that was killed at its very end has left does not count.
        let how = if anew || !is_written(shared, database, entity).await? { "$set" } else { "$setOnInsert" };
        database
            .collection::<Document>(META)
            .update_one(doc! { "_id": key(entity) }, doc! { how: { "value": text } })
            .upsert(true)
            .await
            .map_err(|error| shared.failed(&error))?;
    }
    Ok(())
}

/// Forgets the collections of entities that have no ledger line left, and more with the last line of all.
pub async fn forget(database: &Database, session: &mut ClientSession) -> mongodb::error::Result<()> {
    let kept = doc! { "_id": { "$regex": "^(structure of |definitions? of |claims$)" } };
    let mut cursor = database.collection::<Document>(META).find(kept).session(&mut *session).await?;
    let kept: Vec<Document> = cursor.stream(&mut *session).try_collect().await?;
    for of in kept {
        let entity = of.get_str("_id").ok().and_then(|id| id.strip_prefix(KEY));
        // Definitions, and by which rules claims are made, go with the last line of all, as the entities do.
        let lines = entity.map_or_else(Document::new, super::ledger::lines_of);
        let line = super::session::raw(database, LEDGER).find_one(lines).session(&mut *session).await?;
        if line.is_none() {
            let of = doc! { "_id": of.get("_id") };
            database.collection::<Document>(META).delete_one(of).session(&mut *session).await?;
        }
    }
    Ok(())
}

async fn is_written(shared: &Shared, database: &Database, entity: &Entity) -> Result<bool> {
    let line = super::session::raw(database, LEDGER).find_one(super::ledger::lines_of(&entity.name)).await;
    line.map(|line| line.is_some()).map_err(|error| shared.failed(&error))
}

fn key(entity: &Entity) -> String {
    format!("{KEY}{}", entity.name)
}

async fn read(shared: &Shared, database: &Database, entity: &Entity) -> Result<Structure> {
    let failed = |error: mongodb::error::Error| shared.failed(&error);
    let names: BTreeSet<&str> = entity.writes.iter().map(|write| &*write.table.name).collect();
    let mut structure = Structure::new();
    for name in names {
        let mut parts = BTreeMap::new();
        let list = doc! { "listCollections": 1, "filter": { "name": name } };
        let list = database.run_cursor_command(list).await.map_err(failed)?;
        for collection in list.try_collect::<Vec<_>>().await.map_err(failed)? {
            for (option, value) in collection.get_document("options").into_iter().flatten() {
                flatten(option.clone(), value, &mut parts);
            }
        }
        let list = database.run_cursor_command(doc! { "listIndexes": name }).await.map_err(failed)?;
        let mut indexes: Vec<Document> = list.try_collect().await.map_err(failed)?;
        // What a bulk load owes is there, as far as anybody is concerned.
        let owed = database.collection::<Document>(DROPPED).find(doc! { "collection": name }).await;
        let owed: Vec<Document> = owed.map_err(failed)?.try_collect().await.map_err(failed)?;
        indexes.extend(owed.iter().filter_map(|of| of.get_document("definition").ok().cloned()));
        parts.extend(indexes.iter().filter_map(part));
        structure.insert(name.to_owned(), parts);
    }
    Ok(structure)
}

/// An index as a part of the structure, if it is one.
fn part(index: &Document) -> Option<(String, String)> {
    let name = index.get_str("name").ok()?;
    let special = || {
        let mut kinds = index.get_document("key").into_iter().flat_map(Document::values);
        // Plain ones are 1 and -1; others (`text`, `2dsphere`, `hashed`) refuse values that they cannot hold.
        kinds.any(|kind| kind.as_str().is_some())
    };
    let unique = index.get_bool("unique").unwrap_or(false);
    if name == "_id_" || !(unique || index.contains_key("expireAfterSeconds") || special()) {
        return None;
    }
    let kind = if unique { "unique index" } else { "index" };
    // In the order of their names: one that was built again may have them in another order.
    let options: BTreeMap<&String, &Bson> =
        index.iter().filter(|(option, _)| !BESIDE.contains(&option.as_str())).collect();
    let options: Vec<String> = options.iter().map(|(option, value)| format!("{option}: {value}")).collect();
    Some((format!("{kind} {name}"), options.join(", ")))
}

/// Each value with its path, so that a change of a large validator is told by the place where it is.
fn flatten(path: String, value: &Bson, parts: &mut BTreeMap<String, String>) {
    match value {
        Bson::Document(inner) if !inner.is_empty() => {
            for (field, value) in inner {
                flatten(format!("{path}.{field}"), value, parts);
            }
        }
        value => drop(parts.insert(path, value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_that_decide_about_documents_count() {
        let of = |index: Document| part(&index);
        assert_eq!(of(doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" }), None);
        assert_eq!(of(doc! { "v": 2, "key": { "name": 1 }, "name": "by_name" }), None);
        assert_eq!(
            of(doc! { "v": 2, "unique": true, "key": { "a": 1, "b": -1 }, "name": "ab" }),
            Some(("unique index ab".to_owned(), r#"key: { "a": 1, "b": -1 }, unique: true"#.to_owned()))
        );
        assert!(of(doc! { "key": { "at": 1 }, "name": "old", "expireAfterSeconds": 60 }).is_some());
        assert!(of(doc! { "key": { "place": "2dsphere" }, "name": "map" }).is_some());
    }

    #[test]
    fn a_validator_is_compared_place_by_place() {
        let structure = |least: i32| {
            let mut parts = BTreeMap::new();
            let validator =
                doc! { "$jsonSchema": { "required": ["a"], "properties": { "a": { "minimum": least } } } };
            flatten("validator".to_owned(), &Bson::Document(validator), &mut parts);
            BTreeMap::from([("things".to_owned(), parts)])
        };
        assert_eq!(
            compare(&structure(1), &structure(2)),
            ["things: validator.$jsonSchema.properties.a.minimum was 1, and is 2 now"]
        );
    }
}
