//! Writes reference data into MongoDB, touching only what differs. Documents are matched by `_id` where the manifest names
//! an id (so a code can be renamed), else by their key. Fields that the files do not know stay: they are the
//! application's.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use mongodb::ClientSession;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::error::{Error as DriverError, ErrorKind};

use super::super::reference::{ReferenceData, ReferenceTable};
use super::super::{SetupFiles, TableSummary};
use super::meta;
use super::reference::{Wanted, WantedCollection, documents, shown};
use super::same::same;
use super::transaction::Fault;
use crate::Error;
use crate::connect::MongoDb;

/// Loads all collections in the manifest's order.
pub(super) async fn reference(
    session: &mut ClientSession,
    v2: &MongoDb,
    data: &ReferenceData,
    files: &SetupFiles,
) -> Result<Vec<TableSummary>, Fault> {
    let mut summaries = Vec::new();
    for of in documents(data) {
        summaries.push(collection(session, v2, &of, files).await?);
    }
    Ok(summaries)
}

/// What is there of a collection.
struct Present {
    by_id: HashMap<String, Document>,
    /// The keys' values to the id, both as text.
    by_key: HashMap<String, String>,
}

impl Present {
    fn of(documents: Vec<Document>, key: &[String]) -> Self {
        let mut this = Self { by_id: HashMap::new(), by_key: HashMap::new() };
        for document in documents {
            let id = shown(document.get("_id").unwrap_or(&Bson::Null));
            this.by_key.insert(key_text(&document, key), id.clone());
            this.by_id.insert(id, document);
        }
        this
    }
}

/// The values of a document's key.
fn key_text(fields: &Document, key: &[String]) -> String {
    let values: Vec<String> =
        key.iter().map(|field| shown(fields.get(field).unwrap_or(&Bson::Null))).collect();
    values.join("\u{1f}")
}

async fn collection(
    session: &mut ClientSession,
    v2: &MongoDb,
    of: &WantedCollection<'_>,
    files: &SetupFiles,
) -> Result<TableSummary, Fault> {
    let WantedCollection { table, documents } = of;
    let name = &table.collection;
    let target = v2.database.collection::<Document>(name);
    let found =
        target.find(doc! {}).session(&mut *session).await?.stream(&mut *session).try_collect().await?;
    let key = documents.first().map(|wanted| wanted.key.clone()).unwrap_or_default();
    let present = Present::of(found, &key);
    check_ids(table, documents, &present, files)?;

    let now = DateTime::now();
    let at = |line: u64| format!("V2, {}:{line}", files.place(&table.file));
    let (mut fresh, mut lines, mut matched) = (Vec::new(), Vec::new(), HashSet::new());
    let mut updated = 0;
    for wanted in documents {
        let id = match table.id {
            Some(_) => shown(&wanted.id),
            None => {
                let known = present.by_key.get(&key_text(&wanted.fields, &key)).cloned();
                known.unwrap_or_else(|| shown(&wanted.id))
            }
        };
        let Some(live) = present.by_id.get(&id) else {
            fresh.push(inserted(table, wanted, now));
            lines.push(wanted.line);
            continue;
        };
        matched.insert(id);
        let Some(change) = change(table, wanted, live, now) else { continue };
        let filter = doc! { "_id": live.get("_id").cloned().unwrap_or(Bson::Null) };
        let done = target.update_one(filter, change).session(&mut *session).await;
        done.map_err(|error| Fault::Driver(at(wanted.line), error))?;
        updated += 1;
    }
    if !fresh.is_empty() {
        let done = target.insert_many(&fresh).session(&mut *session).await;
        // The first document that was refused says which line it is from.
        done.map_err(|error| {
            let line = first_refused(&error).and_then(|index| lines.get(index)).copied();
            Fault::Driver(line.map_or_else(|| format!("V2, {}", files.place(&table.file)), at), error)
        })?;
    }
    Ok(TableSummary {
        table: name.clone(),
        file: table.file.clone(),
        inserted: fresh.len() as u64,
        updated,
        unchanged: matched.len() as u64 - updated,
        others: (present.by_id.len() - matched.len()) as u64,
    })
}

/// A document as it is written for the first time.
fn inserted(table: &ReferenceTable, wanted: &Wanted, now: DateTime) -> Document {
    let mut document = doc! { "_id": wanted.id.clone() };
    document.extend(wanted.fields.clone());
    for stamp in [&table.created, &table.updated].into_iter().flatten() {
        document.insert(stamp, now);
    }
    document
}

/// What makes the live document like the file's; `None` if it is.
fn change(table: &ReferenceTable, wanted: &Wanted, live: &Document, now: DateTime) -> Option<Document> {
    let differs = |(field, value): &(&String, &Bson)| !live.get(*field).is_some_and(|live| same(value, live));
    let mut set: Document =
        wanted.fields.iter().filter(differs).map(|(field, value)| (field.clone(), value.clone())).collect();
    let there = |field: &&String| live.contains_key(field.as_str());
    let unset: Document =
        wanted.absent.iter().filter(there).map(|field| (field.clone(), Bson::Boolean(true))).collect();
    if set.is_empty() && unset.is_empty() {
        return None;
    }
    if let Some(stamp) = &table.updated {
        set.insert(stamp, now);
    }
    let mut change = Document::new();
    for (operator, fields) in [("$set", set), ("$unset", unset)] {
        if !fields.is_empty() {
            change.insert(operator, fields);
        }
    }
    Some(change)
}

/// An id is given once: other documents point at it. A key that V2 has under another id is refused.
fn check_ids(
    table: &ReferenceTable,
    documents: &[Wanted],
    present: &Present,
    files: &SetupFiles,
) -> Result<(), Error> {
    if table.id.is_none() {
        return Ok(());
    }
    let mut wrong = Vec::new();
    for wanted in documents {
        let ours = shown(&wanted.id);
        let Some(theirs) = present.by_key.get(&key_text(&wanted.fields, &wanted.key)) else { continue };
        if *theirs != ours {
            wrong.push(format!(
                "{}:{}: the file's id becomes {ours}, but V2's {} has this {} with _id {theirs}",
                files.place(&table.file),
                wanted.line,
                table.collection,
                wanted.key.join(", "),
            ));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let first = wrong.remove(0);
    let error = Error::refused(first)
        .help("write an id into the file that leads to V2's (a uuid is taken as it is): other documents may point at it");
    Err(if wrong.is_empty() { error } else { error.details(wrong.join("\n")) })
}

/// Position of the first document that the server refused.
fn first_refused(error: &DriverError) -> Option<usize> {
    match error.kind.as_ref() {
        ErrorKind::InsertMany(many) => many.write_errors.iter().flatten().map(|write| write.index).next(),
        _ => None,
    }
}

/// Writes one fact into `v1v2_meta` if it is not there like that already.
pub(super) async fn remember(
    session: &mut ClientSession,
    v2: &MongoDb,
    key: &str,
    value: &str,
) -> Result<(), Fault> {
    let found = meta(v2).find_one(doc! { "_id": key }).session(&mut *session).await?;
    if found.is_some_and(|found| found.get_str("value").is_ok_and(|live| live == value)) {
        return Ok(());
    }
    let set = doc! { "$set": { "value": value } };
    meta(v2).update_one(doc! { "_id": key }, set).upsert(true).session(session).await?;
    Ok(())
}
