//! Bulk load: an empty V2 is filled without the indexes that only cost during the load.
//!
//! Building an index over documents that are there is several times cheaper than keeping it up with each of them. What is
//! taken away is recorded in `v1v2_dropped`, with its exact definition, before it goes, so that a killed run leaves a V2
//! that knows what it lacks. All indexes but `_id` go, unique ones too: the census has made emails, phones and user names
//! unique, V1 was asked about the others beforehand, and a duplicate that shows all the same when an index is built again
//! is reported with the ids of both documents. Nothing is ever dropped for it.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};

use super::session::{CONFLICTS, DROPPED, LEDGER, Shared, at, id_text, raw};
use crate::error::mongodb::{DUPLICATE_KEY, mongodb_code};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::plan::Plan;
use crate::target::Told;

/// If V2 is empty of what the plan writes and owes no index, takes the indexes away.
pub async fn begin(shared: &Shared, database: &Database, plan: &Plan, run: i32) -> Result<()> {
    let failed = |error: mongodb::error::Error| shared.failed(&error);
    let dropped = database.collection::<Document>(DROPPED);
    if dropped.find_one(doc! {}).await.map_err(failed)?.is_some() {
        return Ok(());
    }
    let mut collections: BTreeSet<&str> = plan
        .entities
        .iter()
        .flat_map(|entity| &entity.writes)
        .map(|write| write.table.name.as_str())
        .collect();
    if collections.is_empty() {
        return Ok(());
    }
    collections.extend([LEDGER, CONFLICTS]);
    for name in &collections {
        if raw(database, name).find_one(doc! {}).await.map_err(failed)?.is_some() {
            return Ok(());
        }
    }
    for name in collections {
        let mut gone = Vec::new();
        for index in indexes(shared, database, name).await? {
            let index_name = index.get_str("name").unwrap_or_default().to_owned();
            if index_name == "_id_" || index.get_bool("clustered").unwrap_or(false) {
                continue;
            }
            dropped
                .insert_one(doc! { "collection": name, "name": &index_name, "definition": index, "run": run })
                .await
                .map_err(failed)?;
            gone.push(index_name);
        }
        failpoint::reach("mongodb.bulk.noted")?;
        if !gone.is_empty() {
            database
                .run_command(doc! { "dropIndexes": name, "index": gone })
                .await
                .map_err(|error| shared.failed(&error).help("`--no-bulk` loads with all indexes in place"))?;
        }
        failpoint::reach("mongodb.bulk.dropped")?;
    }
    Ok(())
}

/// The indexes of a collection as `createIndexes` takes them.
async fn indexes(shared: &Shared, database: &Database, collection: &str) -> Result<Vec<Document>> {
    let failed = |error: mongodb::error::Error| shared.failed(&error);
    let cursor = database.run_cursor_command(doc! { "listIndexes": collection }).await.map_err(failed)?;
    let found: Vec<Document> = cursor.try_collect().await.map_err(failed)?;
    Ok(found
        .into_iter()
        .map(|index| index.into_iter().filter(|(key, _)| key != "v" && key != "ns").collect())
        .collect())
}

/// What was taken away and is not back yet: (collection, index).
pub async fn missing(shared: &Shared, database: &Database) -> Result<Vec<(String, String)>> {
    let owed = owed(shared, database).await?;
    Ok(owed.into_iter().map(|of| (text(&of, "collection"), text(&of, "name"))).collect())
}

async fn owed(shared: &Shared, database: &Database) -> Result<Vec<Document>> {
    let failed = |error: mongodb::error::Error| shared.failed(&error);
    let dropped = database.collection::<Document>(DROPPED);
    let cursor = dropped.find(doc! {}).sort(doc! { "_id": 1 }).await.map_err(failed)?;
    cursor.try_collect().await.map_err(failed)
}

fn text(document: &Document, field: &str) -> String {
    document.get_str(field).unwrap_or_default().to_owned()
}

/// Brings everything back. All indexes of a collection are built in one scan of it; collections side by side.
pub async fn restore(shared: &Shared, each: &Told<'_>) -> Result<usize> {
    let database = shared.prepared().await?;
    let mut collections: Vec<(String, Vec<Document>)> = Vec::new();
    for index in owed(shared, &database).await? {
        let name = text(&index, "collection");
        match collections.iter_mut().find(|(of, _)| *of == name) {
            Some((_, indexes)) => indexes.push(index),
            None => collections.push((name, vec![index])),
        }
    }
    let count = collections.iter().map(|(_, indexes)| indexes.len()).sum();
    let builds =
        collections.iter().map(|(collection, indexes)| build(shared, &database, collection, indexes, each));
    futures_util::future::try_join_all(builds).await?;
    Ok(count)
}

async fn build(
    shared: &Shared,
    database: &Database,
    collection: &str,
    owed: &[Document],
    each: &Told<'_>,
) -> Result<()> {
    let definitions: Vec<Bson> = owed.iter().filter_map(|index| index.get("definition").cloned()).collect();
    owed.iter().for_each(|index| each(&format!("{collection}.{}", text(index, "name"))));
    failpoint::reach("mongodb.restore.before")?;
    let built =
        database.run_command(doc! { "createIndexes": collection, "indexes": definitions.clone() }).await;
    if let Err(error) = built {
        let mut told = shared.failed(&error);
        if mongodb_code(&error) == Some(DUPLICATE_KEY) {
            for definition in definitions.iter().filter_map(Bson::as_document) {
                if let Some(ids) = duplicate(shared, database, collection, definition).await? {
                    told = Error::failed(format!(
                        "{}: the unique index {} of {collection} cannot come back: the documents with _id {} have the same value",
                        shared.place,
                        text(definition, "name"),
                        ids.join(" and ")
                    ));
                    break;
                }
            }
        }
        return Err(
            told.help("repair the documents, then run `v1v2 repair`; `v1v2 status` lists what is missing")
        );
    }
    failpoint::reach("mongodb.restore.after")?;
    let ids: Vec<Bson> = owed.iter().filter_map(|index| index.get("_id").cloned()).collect();
    database
        .collection::<Document>(DROPPED)
        .delete_many(doc! { "_id": { "$in": ids } })
        .await
        .map(drop)
        .map_err(|error| shared.failed(&error))
}

/// The ids of the first documents that a unique index would not take together.
async fn duplicate(
    shared: &Shared,
    database: &Database,
    collection: &str,
    definition: &Document,
) -> Result<Option<Vec<String>>> {
    if !definition.get_bool("unique").unwrap_or(false) {
        return Ok(None);
    }
    let failed = |error: mongodb::error::Error| shared.failed(&error);
    let mut value = Document::new();
    for (number, field) in definition.get_document("key").into_iter().flat_map(Document::keys).enumerate() {
        // To a unique index, what is absent and what is null are one value.
        value.insert(format!("k{number}"), doc! { "$ifNull": [format!("${field}"), null] });
    }
    let mut stages = Vec::new();
    if let Ok(partial) = definition.get_document("partialFilterExpression") {
        stages.push(doc! { "$match": partial.clone() });
    }
    stages.push(doc! { "$group": {
        "_id": value, "first": { "$min": "$_id" }, "last": { "$max": "$_id" }, "count": { "$sum": 1 },
    } });
    stages.push(doc! { "$match": { "count": { "$gt": 1 } } });
    stages.push(doc! { "$limit": 1 });
    let collection = database.collection::<Document>(collection);
    let mut aggregate = collection.aggregate(stages).allow_disk_use(true);
    if let Some(collation) = definition.get("collation")
        && let Ok(collation) = mongodb::bson::deserialize_from_bson(collation.clone())
    {
        aggregate = aggregate.collation(collation);
    }
    let mut cursor = aggregate.await.map_err(failed)?;
    if !cursor.advance().await.map_err(failed)? {
        return Ok(None);
    }
    let group = cursor.current();
    Ok(Some(["first", "last"].into_iter().filter_map(|field| Some(id_text(at(group, field)?))).collect()))
}
