//! One V2 in MongoDB: the connections that everything else shares, and the names of the collections in which v1v2 itself
//! remembers what it did.

use std::sync::Arc;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, RawBsonRef, RawDocument};
use mongodb::{Collection, Database};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::connect::{self, MongoDb};
use crate::error::{Error, Result};
use crate::plan::BsonKind;
use crate::settings::Settings;

/// One document for each source row: `_id: { e: entity, k: key }`.
pub const LEDGER: &str = "v1v2_ledger";
/// One document for each invocation of a command that writes.
pub const RUNS: &str = "v1v2_runs";
/// Clashes and what was decided: `_id: { e: entity, k: key, kind }`.
pub const CONFLICTS: &str = "v1v2_conflicts";
/// Facts.
pub const META: &str = "v1v2_meta";
/// What was there before a run changed or removed it: `_id: { r: run, h: how, e: entity, k: key, n: number }`.
pub const REPLACED: &str = "v1v2_replaced";
/// What must not change between runs.
pub const ENTITIES: &str = "v1v2_entities";
/// Who may write, and one fence for each of its writers.
pub const LOCK: &str = "v1v2_lock";
/// Indexes that a bulk load took away and owes back.
pub const DROPPED: &str = "v1v2_dropped";

/// What all parts of one invocation share. Connects when it is first needed.
pub struct Shared {
    /// The settings.
    pub settings: Arc<Settings>,
    /// Where V2 is, for messages.
    pub place: String,
    connection: OnceCell<MongoDb>,
}

impl Shared {
    /// Not connected yet.
    pub fn new(settings: Arc<Settings>, place: String) -> Self {
        Self { settings, place, connection: OnceCell::new() }
    }

    /// The connection.
    pub async fn connection(&self) -> Result<&MongoDb> {
        self.connection.get_or_try_init(|| connect::mongodb(&self.settings)).await
    }

    /// The database; refuses one that `setup` has not prepared.
    pub async fn prepared(&self) -> Result<Database> {
        let database = self.connection().await?.database.clone();
        require_setup(&database, &self.place).await?;
        Ok(database)
    }

    /// An error of the driver, told without values.
    pub fn failed(&self, error: &mongodb::error::Error) -> Error {
        Error::mongodb(&self.place, error)
    }
}

/// Whether `setup` was ever here.
pub async fn is_prepared(database: &Database, place: &str) -> Result<bool> {
    let names = database.list_collection_names().filter(mongodb::bson::doc! { "name": LEDGER }).await;
    names.map(|names| !names.is_empty()).map_err(|error| Error::mongodb(place, &error))
}

/// Refuses a V2 that `setup` has not prepared.
pub async fn require_setup(database: &Database, place: &str) -> Result<()> {
    let names = database
        .list_collection_names()
        .filter(mongodb::bson::doc! { "name": { "$in": [LEDGER, META, LOCK] } })
        .await
        .map_err(|error| Error::mongodb(place, &error))?;
    if names.len() == 3 {
        let version = database.collection::<mongodb::bson::Document>(META);
        let version = version.find_one(mongodb::bson::doc! { "_id": "control_version" }).await;
        let version = version.map_err(|error| Error::mongodb(place, &error))?;
        let version = version.and_then(|fact| fact.get_str("value").ok()?.parse().ok());
        return crate::setup::require_control_version(place, version);
    }
    Err(Error::refused(format!("{place} has no collection {LEDGER}: it was not set up for a migration"))
        .help("run `v1v2 setup` first"))
}

/// Documents as they are, without being taken apart.
pub fn raw(database: &Database, name: &str) -> Collection<mongodb::bson::RawDocumentBuf> {
    database.collection(name)
}

/// An id's text as BSON.
pub fn id(kind: &BsonKind, text: &str) -> Bson {
    match kind {
        BsonKind::Uuid => match Uuid::parse_str(text) {
            Ok(uuid) => {
                Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: uuid.as_bytes().to_vec() })
            }
            Err(_) => Bson::String(text.to_owned()),
        },
        BsonKind::ObjectId => {
            ObjectId::parse_str(text).map_or_else(|_| Bson::String(text.to_owned()), Bson::ObjectId)
        }
        BsonKind::Int => text.parse().map_or_else(|_| Bson::String(text.to_owned()), Bson::Int32),
        BsonKind::Long => text.parse().map_or_else(|_| Bson::String(text.to_owned()), Bson::Int64),
        _ => Bson::String(text.to_owned()),
    }
}

/// An id as text: the way back of [`id`].
pub fn id_text(id: RawBsonRef<'_>) -> String {
    match id {
        RawBsonRef::Binary(binary) => match Uuid::from_slice(binary.bytes) {
            Ok(uuid) => uuid.to_string(),
            Err(_) => format!("{} bytes", binary.bytes.len()),
        },
        RawBsonRef::ObjectId(id) => id.to_hex(),
        RawBsonRef::String(text) => text.to_owned(),
        RawBsonRef::Int32(number) => number.to_string(),
        RawBsonRef::Int64(number) => number.to_string(),
        _ => String::new(),
    }
}

/// The field at a dotted path.
pub fn at<'d>(document: &'d RawDocument, path: &str) -> Option<RawBsonRef<'d>> {
    match path.split_once('.') {
        None => document.get(path).ok().flatten(),
        Some((first, rest)) => at(document.get(first).ok().flatten()?.as_document()?, rest),
    }
}

/// The text at a dotted path.
pub fn text_at<'d>(document: &'d RawDocument, path: &str) -> Option<&'d str> {
    at(document, path)?.as_str()
}

/// A count, however the server sent it.
pub fn count_at(document: &RawDocument, path: &str) -> u64 {
    match at(document, path) {
        Some(RawBsonRef::Int32(number)) => u64::try_from(number).unwrap_or(0),
        Some(RawBsonRef::Int64(number)) => u64::try_from(number).unwrap_or(0),
        Some(RawBsonRef::Double(number)) => number as u64,
        _ => 0,
    }
}
