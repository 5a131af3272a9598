//! Documents on their way: read from one moment of the server, carried as the bytes that the server sent, written by a
//! majority. Nothing looks into a document, so every BSON type and every order of fields arrives as it left, and
//! memory holds a few batches whatever the collection's size.

use mongodb::bson::raw::RawDocument;
use mongodb::bson::{Document, RawDocumentBuf, Timestamp, doc};
use mongodb::error::Error as DriverError;
use mongodb::options::ReadConcern;
use mongodb::{ClientSession, Database};
use tokio::sync::mpsc;

use super::structure::Part;
use crate::backup::Observer;
use crate::backup::checksum::Tally;
use crate::connect::MongoDb;
use crate::error::{Error, Result, mongodb_code};

/// Bytes in a batch. The server takes messages of 48 MB; a tenth of that costs nothing in speed.
const BATCH_BYTES: usize = 4 << 20;

/// Documents in a batch: 100,000 is the server's limit (`maxWriteBatchSize`).
const BATCH_DOCUMENTS: u64 = 10_000;

/// Batches between reader and writer.
pub(super) const AHEAD: usize = 3;

/// SnapshotTooOld, SnapshotUnavailable.
const TOO_OLD: i32 = 239;
const UNAVAILABLE: i32 = 246;

/// Some documents, one after the other.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) documents: u64,
}

impl Batch {
    pub(super) fn push(&mut self, document: &[u8]) {
        self.bytes.extend_from_slice(document);
        self.documents += 1;
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES || self.documents >= BATCH_DOCUMENTS
    }

    /// The documents; each begins with its length.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let length = i32::from_le_bytes(rest.get(..4)?.try_into().ok()?);
            let (first, left) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            rest = left;
            Some(first)
        })
    }
}

/// Reads collections as they were at one moment.
pub(super) struct Moment {
    session: ClientSession,
    database: Database,
    place: String,
}

impl Moment {
    /// The server's present. What was created before this call is in it.
    pub(super) async fn now(db: &MongoDb) -> Result<Self> {
        let place = db.place.to_string();
        let failed = |error: DriverError| Error::mongodb(&place, &error);
        // A moment that the driver chose could lie before the youngest collection, which would then be refused.
        let pong = db.database.run_command(doc! { "ping": 1 }).await.map_err(failed)?;
        let time: Option<Timestamp> = pong.get_timestamp("operationTime").ok();
        let mut starting = db.client.start_session().snapshot(true);
        if let Some(time) = time {
            starting = starting.snapshot_time(time);
        }
        let session = starting.await.map_err(failed)?;
        Ok(Self { session, database: db.database.clone(), place })
    }

    /// Sends all documents of a collection. A capped one is read by itself, in its own order: servers do not read those
    /// from a snapshot.
    pub(super) async fn read(&mut self, part: &Part, to: mpsc::Sender<Batch>) -> Result<()> {
        let failed = |error: DriverError| broken(&self.place, &part.name, &error);
        let collection = self.database.collection::<RawDocumentBuf>(&part.name);
        let find =
            collection.find(Document::new()).hint(mongodb::options::Hint::Keys(doc! { "$natural": 1 }));
        let mut batch = Batch::default();
        if part.capped() {
            let mut cursor = find.read_concern(ReadConcern::majority()).await.map_err(failed)?;
            while cursor.advance().await.map_err(failed)? {
                if !hand_on(&mut batch, cursor.current(), &to).await {
                    return Ok(());
                }
            }
        } else {
            // Said here too: the client's own read concern would take the session's place.
            let find = find.read_concern(ReadConcern::snapshot());
            let mut cursor = find.session(&mut self.session).await.map_err(failed)?;
            while cursor.advance(&mut self.session).await.map_err(failed)? {
                if !hand_on(&mut batch, cursor.current(), &to).await {
                    return Ok(());
                }
            }
        }
        if batch.documents > 0 {
            // Nobody listens any more: whoever does not has an error of its own.
            drop(to.send(batch).await);
        }
        Ok(())
    }
}

/// False if nobody listens any more.
async fn hand_on(batch: &mut Batch, document: &RawDocument, to: &mpsc::Sender<Batch>) -> bool {
    batch.push(document.as_bytes());
    !batch.is_full() || to.send(std::mem::take(batch)).await.is_ok()
}

fn broken(place: &str, name: &str, error: &DriverError) -> Error {
    match mongodb_code(error) {
        Some(TOO_OLD) => Error::failed(format!(
            "{place}: reading {name} took longer than the server remembers the moment that the backup is of"
        ))
        .help(
            "let it remember longer, on every member: db.adminCommand({ setParameter: 1, \
             minSnapshotHistoryWindowInSeconds: 3600 }) (default 300; it costs cache and disk), then start again",
        ),
        Some(UNAVAILABLE) => Error::failed(format!("{place}: {name} was created or changed while it was read"))
            .help("start again when nobody changes collections or indexes"),
        _ => Error::mongodb(&format!("{place}, {name}"), error),
    }
}

/// Writes documents into one collection.
pub(super) struct Inserter<'d> {
    pub(super) place: &'d str,
    pub(super) database: &'d Database,
    pub(super) observer: &'d dyn Observer,
}

impl Inserter<'_> {
    /// Writes batches until there are no more; what came.
    pub(super) async fn write(&self, name: &str, mut from: mpsc::Receiver<Batch>) -> Result<Tally> {
        let collection = self.database.collection::<RawDocumentBuf>(name);
        let mut tally = Tally::default();
        while let Some(batch) = from.recv().await {
            let mut documents = Vec::with_capacity(usize::try_from(batch.documents).unwrap_or_default());
            for document in batch.iter() {
                tally.add(document);
                let raw = RawDocumentBuf::from_bytes(document.to_vec())
                    .map_err(|_| Error::failed(format!("a document of {name} is not BSON")))?;
                documents.push(raw);
            }
            // Documents may be older than the validator, which does not look at what is there already.
            let insert = collection.insert_many(documents).ordered(true).bypass_document_validation(true);
            insert.await.map_err(|error| Error::mongodb(&format!("{}, {name}", self.place), &error))?;
            self.observer.advance(batch.documents);
        }
        Ok(tally)
    }
}

/// Counts and hashes what a collection holds now.
pub(super) async fn tally(place: &str, database: &Database, part: &Part) -> Result<Tally> {
    let failed = |error: DriverError| Error::mongodb(&format!("{place}, {}", part.name), &error);
    let collection = database.collection::<RawDocumentBuf>(&part.name);
    let mut cursor = collection.find(Document::new()).await.map_err(failed)?;
    let mut tally = Tally::default();
    while cursor.advance().await.map_err(failed)? {
        tally.add(cursor.current().as_bytes());
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_its_documents() {
        let mut batch = Batch::default();
        let documents = [doc! { "a": 1 }, doc! {}, doc! { "b": "c" }];
        for document in &documents {
            batch.push(RawDocumentBuf::try_from(document).unwrap().as_bytes());
        }
        assert_eq!(batch.documents, 3);
        let lengths: Vec<usize> = batch.iter().map(<[u8]>::len).collect();
        assert_eq!(lengths, [12, 5, 14]);
    }
}
