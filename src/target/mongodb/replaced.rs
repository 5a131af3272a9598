//! What was there before a run changed or removed it: kept in `v1v2_replaced`, in the transaction of the change, and brought
//! back by a rollback of that run (`restore.rs`).

use futures_util::TryStreamExt;
use mongodb::Database;
use mongodb::bson::raw::cstr;
use mongodb::bson::{Bson, Document, RawBson, RawDocument, RawDocumentBuf, doc};

use super::ledger::bson_at;
use super::raw::{MAX_DEPTH, MAX_DOCUMENT};
use super::session::{LEDGER, REPLACED, RUNS, Shared, at, raw, text_at};
use super::splice::depth;
use super::value::Fault;
use crate::error::{Error, Result};
use crate::ledger::Reject;
use crate::target::RunName;

/// Bytes of what is kept that are read for one transaction.
const CHUNK_BYTES: usize = 8 * 1024 * 1024;

/// What happened to what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// V1's row had changed.
    Changed,
    /// V1's row was gone.
    Removed,
    /// V1's row had been rejected, and was tried again: only its line and its conflicts were there.
    Retried,
}

impl How {
    /// As it stands in `v1v2_replaced`.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Changed => "u",
            Self::Removed => "p",
            Self::Retried => "r",
        }
    }
}

/// An element of an array, by its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The array, dotted.
    pub field: String,
    /// Where the element stood when it was changed or removed, from 0.
    pub position: usize,
}

/// Something that was there.
#[derive(Debug)]
pub struct Kept {
    /// The collection.
    pub collection: String,
    /// The `_id` of the document.
    pub id: Bson,
    /// Set for an element of an array inside the document.
    pub slot: Option<Slot>,
    /// What was there; `None`: nothing.
    pub document: Option<RawDocumentBuf>,
    /// The digest of what the run made of it; `None`: nothing, it was removed.
    pub written: Option<u64>,
}

/// The row of V1 for whose sake something is kept.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'o> {
    pub run: i32,
    pub how: How,
    pub entity: &'o str,
    pub key: &'o Bson,
}

impl Owner<'_> {
    /// What is kept for the row, as documents. The numbers begin at `first`.
    ///
    /// # Errors
    /// Something is too large to be kept, or nested too deep: it cannot be changed, then, or no rollback would bring it back.
    pub fn records(self, first: usize, kept: &[Kept]) -> std::result::Result<Vec<RawDocumentBuf>, Reject> {
        let record = |(number, kept): (usize, &Kept)| {
            let number = i32::try_from(first + number).unwrap_or(i32::MAX);
            let id = doc! {
                "r": self.run, "h": self.how.letter(), "e": self.entity, "k": self.key.clone(), "n": number,
            };
            let mut record = RawDocumentBuf::new();
            append(&mut record, "_id", Bson::Document(id));
            record.append(cstr!("collection"), kept.collection.as_str());
            append(&mut record, "id", kept.id.clone());
            if let Some(slot) = &kept.slot {
                record.append(cstr!("field"), slot.field.as_str());
                record.append(cstr!("position"), i64::try_from(slot.position).unwrap_or(i64::MAX));
            }
            if let Some(document) = &kept.document {
                record.append(cstr!("document"), document.clone());
            }
            if let Some(written) = kept.written {
                record.append(cstr!("written"), written.cast_signed());
            }
            let fault = if record.as_bytes().len() > MAX_DOCUMENT {
                Some(Fault::Size)
            } else if record.as_bytes().len() > MAX_DEPTH && depth(&record) > MAX_DEPTH {
                Some(Fault::Nesting)
            } else {
                None
            };
            if let Some(fault) = fault {
                let mut reject = fault.reject(&kept.collection);
                reject.reason.push_str(" with what a rollback needs beside it");
                return Err(reject);
            }
            Ok(record)
        };
        kept.iter().enumerate().map(record).collect()
    }
}

fn append(record: &mut RawDocumentBuf, name: &str, value: Bson) {
    if let (Ok(name), Ok(value)) = (mongodb::bson::raw::CString::try_from(name), RawBson::try_from(value)) {
        record.append(name, value);
    }
}

impl Kept {
    /// A document of v1v2's own.
    pub fn own(collection: &str, document: &RawDocumentBuf) -> Self {
        let id = bson_at(document, "_id").unwrap_or(Bson::Null);
        let document = Some(document.clone());
        Self { collection: collection.to_owned(), id, slot: None, document, written: None }
    }

    /// The way back of [`Owner::records`].
    pub fn read(record: &RawDocument) -> Option<Self> {
        let position = at(record, "position").and_then(|position| position.as_i64());
        let slot = text_at(record, "field").zip(position).map(|(field, position)| Slot {
            field: field.to_owned(),
            position: usize::try_from(position).unwrap_or(0),
        });
        Some(Self {
            collection: text_at(record, "collection")?.to_owned(),
            id: bson_at(record, "id")?,
            slot,
            document: at(record, "document").and_then(|of| of.as_document()).map(RawDocument::to_owned),
            written: at(record, "written").and_then(|written| written.as_i64()).map(i64::cast_unsigned),
        })
    }
}

/// All that a run has replaced.
pub fn of_run(run: i32) -> Document {
    doc! { "_id": { "$gte": { "r": run }, "$lt": { "r": run + 1 } } }
}

/// What later runs keep of rows that a run had rejected: of no use once that run is taken back.
pub fn rejected_by(run: i32) -> Document {
    doc! { "_id.h": How::Retried.letter(), "document.run": run }
}

/// The next of what a run has replaced of an entity, last key first, whole keys only; empty at the end.
pub async fn next(
    database: &Database,
    run: i32,
    how: How,
    entity: &str,
) -> mongodb::error::Result<Vec<RawDocumentBuf>> {
    let of = |key: Bson| doc! { "r": run, "h": how.letter(), "e": entity, "k": key };
    let filter = doc! { "_id": { "$gte": of(Bson::MinKey), "$lte": of(Bson::MaxKey) } };
    let mut cursor = raw(database, REPLACED).find(filter).sort(doc! { "_id": -1 }).await?;
    let (mut found, mut size) = (Vec::<RawDocumentBuf>::new(), 0);
    while let Some(record) = cursor.try_next().await? {
        let same_key = found.last().is_some_and(|last| bson_at(last, "_id.k") == bson_at(&record, "_id.k"));
        if size > CHUNK_BYTES && !same_key {
            break;
        }
        size += record.as_bytes().len();
        found.push(record);
    }
    Ok(found)
}

/// Refuses to take back a run of which a later one has changed or removed rows: that one goes first.
pub async fn require_latest(shared: &Shared, database: &Database, run: RunName) -> Result<()> {
    let failed = |error: mongodb::error::Error| shared.failed(&error);
    // A row that this run had rejected has nothing that a later one could need.
    let lines = doc! {
        "collection": LEDGER, "document.run": run.number, "_id.r": { "$ne": run.number },
        "_id.h": { "$ne": How::Retried.letter() },
    };
    let latest = raw(database, REPLACED).find_one(lines).sort(doc! { "_id": -1 }).await.map_err(failed)?;
    let Some(later) = latest.as_ref().and_then(|record| at(record, "_id.r")?.as_i32()) else { return Ok(()) };
    let later = database.collection::<Document>(RUNS).find_one(doc! { "no": later }).await.map_err(failed)?;
    let id = later.as_ref().and_then(|later| later.get("_id")).map(super::overview::uuid_text);
    Err(Error::refused(format!(
        "{}: a later run has changed or removed rows that this run made",
        shared.place
    ))
    .help(format!("take that one back first: `v1v2 rollback --run {}`", id.unwrap_or_default())))
}
