//! The structure of a MongoDB database: collections, options, indexes, views. It is kept as BSON, as JSON would lose
//! types, and objects of JSON the order of their keys, which decides what an index or a validator means.

use futures_util::TryStreamExt;
use mongodb::Database;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::Error as DriverError;

use crate::backup::MARKER;
use crate::connect::WRITE_PATIENCE;
use crate::error::{Error, Result};

/// One collection or view, without its documents.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) view: bool,
    /// As `listCollections` tells them.
    pub(super) options: Document,
    /// As `listIndexes` tells them.
    pub(super) indexes: Vec<Document>,
}

impl Part {
    pub(super) fn capped(&self) -> bool {
        self.options.get_bool("capped").unwrap_or(false)
    }

    pub(super) fn kind(&self) -> &'static str {
        match (self.view, self.capped()) {
            (true, _) => "view",
            (_, true) => "capped collection",
            _ => "collection",
        }
    }

    fn document(&self) -> Document {
        doc! { "name": &self.name, "view": self.view, "options": &self.options, "indexes": &self.indexes }
    }

    fn read(document: &Document) -> Option<Self> {
        let indexes = document.get_array("indexes").ok()?;
        Some(Self {
            name: document.get_str("name").ok()?.to_owned(),
            view: document.get_bool("view").ok()?,
            options: document.get_document("options").ok()?.clone(),
            indexes: indexes.iter().map(|index| index.as_document().cloned()).collect::<Option<_>>()?,
        })
    }
}

/// All parts as the bytes of `structure.bson`: one document after the other.
pub(super) fn to_bytes(parts: &[Part]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for part in parts {
        let raw = RawDocumentBuf::try_from(&part.document())
            .map_err(|_| Error::failed(format!("the options of {} cannot be written as BSON", part.name)))?;
        bytes.extend_from_slice(raw.as_bytes());
    }
    Ok(bytes)
}

/// Reads what [`to_bytes`] wrote; `None` if it is damaged.
pub(super) fn from_bytes(mut bytes: &[u8]) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let length = usize::try_from(i32::from_le_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
        let (first, rest) = bytes.split_at_checked(length)?;
        let document = Document::from_reader(first).ok()?;
        parts.push(Part::read(&document)?);
        bytes = rest;
    }
    Some(parts)
}

/// Names that the server keeps for itself; stored functions are the user's all the same.
fn is_internal(name: &str) -> bool {
    name.starts_with("system.") && name != "system.js"
}

/// Everything that a database holds, by name.
///
/// # Errors
/// Refused: there is a time series collection. Failed: the server does not answer.
pub(super) async fn read(place: &str, database: &Database) -> Result<Vec<Part>> {
    let failed = |error: DriverError| Error::mongodb(place, &error);
    let list = doc! { "listCollections": 1, "authorizedCollections": false };
    let found: Vec<Document> =
        database.run_cursor_command(list).await.map_err(failed)?.try_collect().await.map_err(failed)?;
    let mut parts = Vec::new();
    for collection in found {
        let name = collection.get_str("name").unwrap_or_default().to_owned();
        if is_internal(&name) {
            continue;
        }
        let kind = collection.get_str("type").unwrap_or("collection");
        if kind == "timeseries" {
            return Err(Error::refused(format!(
                "{place}: {name} is a time series collection, which is not supported"
            ))
            .help("back it up with mongodump, and move it to another database meanwhile"));
        }
        let view = kind == "view";
        let indexes = if view {
            Vec::new()
        } else {
            let list = doc! { "listIndexes": &name };
            database.run_cursor_command(list).await.map_err(failed)?.try_collect().await.map_err(failed)?
        };
        let options = collection.get_document("options").cloned().unwrap_or_default();
        parts.push(Part { name, view, options, indexes });
    }
    parts.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(parts)
}

/// Refuses a source that is itself half restored.
pub(super) fn require_whole(place: &str, parts: &[Part]) -> Result<()> {
    if parts.iter().any(|part| part.name == MARKER) {
        return Err(Error::refused(format!("{place} holds what is left of an interrupted restore or copy"))
            .help("finish it first: `v1v2 backup restore --clean`"));
    }
    Ok(())
}

/// The write concern of commands, which take none from the client.
fn concern() -> Document {
    let patience = i64::try_from(WRITE_PATIENCE.as_millis()).unwrap_or(i64::MAX);
    doc! { "w": "majority", "wtimeout": patience }
}

/// Makes a collection or a view, without indexes.
///
/// # Errors
/// Failed: the server refuses it.
pub(super) async fn create(place: &str, database: &Database, part: &Part) -> Result<()> {
    let mut command = doc! { "create": &part.name };
    command.extend(part.options.clone());
    command.insert("writeConcern", concern());
    database.run_command(command).await.map(drop).map_err(|error| refused(place, &part.name, &error))
}

/// Makes a collection's indexes, all in one pass over its documents.
///
/// # Errors
/// Failed: the server refuses one.
pub(super) async fn create_indexes(place: &str, database: &Database, part: &Part) -> Result<()> {
    let made_with_the_collection = |index: &&Document| {
        index.get_str("name").is_ok_and(|name| name != "_id_")
            && !index.get_bool("clustered").unwrap_or(false)
    };
    let indexes: Vec<Bson> = part
        .indexes
        .iter()
        .filter(made_with_the_collection)
        .map(|index| {
            let mut index = index.clone();
            // Servers before 4.4 tell the collection here, and later ones refuse it.
            index.remove("ns");
            Bson::Document(index)
        })
        .collect();
    if indexes.is_empty() {
        return Ok(());
    }
    let command = doc! { "createIndexes": &part.name, "indexes": indexes, "writeConcern": concern() };
    database.run_command(command).await.map(drop).map_err(|error| refused(place, &part.name, &error))
}

/// Removes a collection or a view.
///
/// # Errors
/// Failed: the server refuses it.
pub(super) async fn remove(place: &str, database: &Database, name: &str) -> Result<()> {
    let command = doc! { "drop": name, "writeConcern": concern() };
    match database.run_command(command).await {
        Ok(_) => Ok(()),
        // 26: NamespaceNotFound
        Err(error) if crate::error::mongodb_code(&error) == Some(26) => Ok(()),
        Err(error) => Err(refused(place, name, &error)),
    }
}

fn refused(place: &str, name: &str, error: &DriverError) -> Error {
    let told = Error::mongodb(&format!("{place}, {name}"), error);
    if told.fix().is_some() {
        return told;
    }
    told.help("check that the target's version is not older than the source's, and the user's rights (readWrite, dbAdmin)")
}

/// How two structures differ, in words.
pub(super) fn differences(wanted: &[Part], found: &[Part]) -> Vec<String> {
    let mut problems = Vec::new();
    for part in wanted {
        match found.iter().find(|of| of.name == part.name) {
            None => problems.push(format!("{} is missing", part.name)),
            Some(of) if of.options != part.options || of.view != part.view => {
                problems.push(format!("{} has other options", part.name));
            }
            Some(of) => {
                let by_name = |indexes: &[Document]| {
                    let mut indexes = indexes.to_vec();
                    indexes.sort_by_key(|index| index.get_str("name").unwrap_or_default().to_owned());
                    indexes.iter_mut().for_each(|index| drop(index.remove("ns")));
                    // As text: documents are equal whatever the order of their fields, and an index's key is not.
                    indexes.iter().map(Document::to_string).collect::<Vec<_>>()
                };
                if by_name(&of.indexes) != by_name(&part.indexes) {
                    problems.push(format!("{} has other indexes", part.name));
                }
            }
        }
    }
    let more = found.iter().filter(|of| !wanted.iter().any(|part| part.name == of.name));
    problems.extend(more.map(|of| format!("{} was not there before", of.name)));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structure_survives_its_file() {
        let part = Part {
            name: "a".into(),
            view: false,
            options: doc! { "validator": { "z": 1_i64, "a": 1_i32 }, "capped": true },
            indexes: vec![doc! { "name": "b", "key": { "z": 1, "a": -1.0 } }],
        };
        let bytes = to_bytes(&[part.clone(), part.clone()]).unwrap();
        assert_eq!(from_bytes(&bytes).unwrap(), [part.clone(), part.clone()]);
        assert!(from_bytes(&bytes[..bytes.len() - 1]).is_none());
        assert!(differences(std::slice::from_ref(&part), std::slice::from_ref(&part)).is_empty());
        let mut other = part.clone();
        other.indexes[0] = doc! { "name": "b", "key": { "a": -1.0, "z": 1 } };
        assert_eq!(differences(&[part], &[other]), ["a has other indexes"]);
    }
}
