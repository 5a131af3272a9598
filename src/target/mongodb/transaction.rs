//! One multi-document transaction: a part of a chunk, with its ledger lines and conflicts.
//!
//! Documents go out as raw commands, in order, so that the server's answer names the one that it refuses. Whatever goes wrong is
//! sorted here into what the writer can do about it.

use std::ops::Range;

use futures_util::TryStreamExt;
use mongodb::bson::raw::cstr;
use mongodb::bson::{Bson, Document, RawArrayBuf, RawBson, RawDocument, RawDocumentBuf, doc, rawdoc};
use mongodb::error::{TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::{ClientSession, Database};

use super::conflicts::Log;
use super::document::{Documents, Pushes};
use super::ledger::{Digests, LineShape, bson_at, line_id, shape};
use super::lock;
use super::replaced::{How, Kept, Owner};
use super::session::{CONFLICTS, LEDGER, LOCK, REPLACED, raw};
use super::writer::{ATTEMPTS, backoff};
use crate::connect::transaction_options;
use crate::error::mongodb::{
    DUPLICATE_KEY, Duplicate, INVALID_DOCUMENT, WRITE_CONFLICT, is_row, is_too_large, mongodb_code,
};
use crate::error::{Class, Error, classify_mongodb};
use crate::failpoint::{self, Injected};
use crate::ledger::Reject;
use crate::plan::Plan;
use crate::target::Batch;

/// Documents of one command: the server accepts 48 MB in one message, but a command's own document must stay below 16 MB.
const COMMAND_BYTES: usize = 8 * 1024 * 1024;

/// Documents, or updates, that the server accepts in one command (`maxWriteBatchSize`).
const COMMAND_DOCUMENTS: usize = 100_000;

/// What an update costs beside its filter and its element, in bytes: names, lengths and the document around it.
const UPDATE_BYTES: usize = 64;

/// Why a part of a chunk was not written.
pub enum Failure {
    /// The server refused a row, and why.
    Row(u32, Reject),
    /// Try again.
    Transient(Error),
    /// Another transaction was in the way. Try again, at some time with less.
    Conflict(Error),
    /// More than one transaction can hold.
    TooLarge(Error),
    /// Nobody answered the commit.
    Unknown(Error),
    /// Stop.
    Fatal(Error),
}

impl From<Injected> for Failure {
    fn from(injected: Injected) -> Self {
        failure("V2", &injected.into())
    }
}

/// One transaction under way.
pub struct Transaction<'t> {
    /// V2.
    pub database: &'t Database,
    /// The session that it is part of.
    pub session: &'t mut ClientSession,
    /// V2's name for people.
    pub place: &'t str,
    /// The run's number.
    pub run: i32,
    /// Whether it is to be committed; a dry run's is not, and its accounts may not be there.
    pub real: bool,
}

impl Transaction<'_> {
    /// Begins it, with a snapshot to read from and a majority to confirm it.
    pub async fn begin(&mut self) -> Result<(), Failure> {
        let begun = self.session.start_transaction().with_options(transaction_options()).await;
        begun.map_err(|error| failure(self.place, &error))
    }

    /// Writes to this writer's own fence. Whoever takes the lock over removes all fences first: that waits for
    /// transactions under way, and those that come later find no fence.
    pub async fn pass_fence(&mut self, fence: usize) -> Result<(), Failure> {
        let filter = doc! { "_id": lock::fence(fence), "run": self.run };
        let passed = self
            .database
            .collection::<Document>(LOCK)
            .update_one(filter, doc! { "$inc": { "chunks": 1_i64 } })
            .session(&mut *self.session)
            .await
            .map_err(|error| failure(self.place, &error))?;
        if passed.matched_count == 1 {
            return Ok(());
        }
        Err(Failure::Fatal(lock::lost(self.place)))
    }

    /// Writes what the rows became.
    pub async fn records(&mut self, documents: &Documents) -> Result<(), Failure> {
        failpoint::reach("mongodb.fenced")?;
        for inserts in &documents.inserts {
            let documents: Vec<_> = inserts.iter().map(|of| (of.row, of.document)).collect();
            self.insert(&inserts.collection, &documents).await?;
            failpoint::reach("mongodb.inserted")?;
        }
        for pushes in documents.pushes.iter().filter(|pushes| !pushes.is_empty()) {
            self.push(pushes).await?;
            failpoint::reach("mongodb.pushed")?;
        }
        Ok(())
    }

    /// Inserts documents in order, in as few commands as they fit into.
    pub async fn insert(
        &mut self,
        collection: &str,
        mut documents: &[(u32, &RawDocument)],
    ) -> Result<(), Failure> {
        while !documents.is_empty() {
            let mut list = RawArrayBuf::new();
            let mut rows = Vec::new();
            let mut size = 0;
            for (row, document) in documents {
                size += document.as_bytes().len();
                if (size > COMMAND_BYTES || rows.len() == COMMAND_DOCUMENTS) && !rows.is_empty() {
                    break;
                }
                list.push(*document);
                rows.push(*row);
            }
            documents = &documents[rows.len()..];
            let mut command = RawDocumentBuf::new();
            command.append(cstr!("insert"), collection);
            command.append(cstr!("ordered"), true);
            command.append(cstr!("documents"), list);
            self.run(collection, command, &rows).await?;
        }
        Ok(())
    }

    /// Puts documents in the place of those with their `_id`, in as few commands as they fit into.
    pub async fn replace(
        &mut self,
        collection: &str,
        documents: &[(u32, Bson, &RawDocument)],
    ) -> Result<(), Failure> {
        let mut open = documents.iter().peekable();
        while open.peek().is_some() {
            let (mut rows, mut updates, mut size) = (Vec::new(), RawArrayBuf::new(), 0);
            while let Some((row, id, document)) = open.peek() {
                size += document.as_bytes().len() + UPDATE_BYTES;
                if (size > COMMAND_BYTES || rows.len() == COMMAND_DOCUMENTS) && !rows.is_empty() {
                    break;
                }
                let id = RawBson::try_from(id.clone())
                    .map_err(|_| Failure::Fatal(Error::failed("an id is no BSON")))?;
                // With `upsert` for lines and conflicts that a rollback brings back.
                updates.push(rawdoc! { "q": { "_id": id }, "u": (*document).to_owned(), "upsert": true });
                rows.push(*row);
                open.next();
            }
            let mut command = RawDocumentBuf::new();
            command.append(cstr!("update"), collection);
            command.append(cstr!("ordered"), true);
            command.append(cstr!("updates"), updates);
            self.run(collection, command, &rows).await?;
        }
        Ok(())
    }

    /// Adds elements to arrays of documents that exist, in as few commands as they fit into.
    async fn push(&mut self, pushes: &Pushes) -> Result<(), Failure> {
        let field = mongodb::bson::raw::CString::try_from(pushes.field.as_str())
            .map_err(|_| Failure::Fatal(Error::failed("an array's name holds a NUL")))?;
        let mut open = pushes.iter().peekable();
        while open.peek().is_some() {
            let (mut rows, mut updates, mut size) = (Vec::new(), RawArrayBuf::new(), 0);
            while let Some(push) = open.peek() {
                size +=
                    push.filter.as_bytes().len() + push.element.as_bytes().len() + field.len() + UPDATE_BYTES;
                if (size > COMMAND_BYTES || rows.len() == COMMAND_DOCUMENTS) && !rows.is_empty() {
                    break;
                }
                let mut element = RawDocumentBuf::new();
                element.append(&field, push.element);
                updates.push(rawdoc! { "q": push.filter.to_owned(), "u": { "$push": element } });
                rows.push(push.row);
                open.next();
            }
            let mut command = RawDocumentBuf::new();
            command.append(cstr!("update"), pushes.collection.as_str());
            command.append(cstr!("ordered"), true);
            command.append(cstr!("updates"), updates);
            let found = self.run(&pushes.collection, command, &rows).await?;
            if self.real && found != rows.len() as u64 {
                return Err(Failure::Fatal(
                    Error::failed(format!(
                        "{}: {} accounts that got a further role are not in {} any more",
                        self.place,
                        rows.len() as u64 - found.min(rows.len() as u64),
                        pushes.collection
                    ))
                    .help("somebody removed them during the run: run the same command again"),
                ));
            }
        }
        Ok(())
    }

    /// Runs one write command; returns how many documents it touched.
    async fn run(&mut self, collection: &str, command: RawDocumentBuf, rows: &[u32]) -> Result<u64, Failure> {
        let reply = self
            .database
            .run_raw_command(command)
            .session(&mut *self.session)
            .await
            .map_err(|error| failure(self.place, &error))?;
        let Ok(errors) = reply.get_array("writeErrors") else {
            return Ok(match reply.get("n") {
                Some(Bson::Int32(count)) => u64::try_from(*count).unwrap_or(0),
                Some(Bson::Int64(count)) => u64::try_from(*count).unwrap_or(0),
                _ => 0,
            });
        };
        let first = errors.first().and_then(Bson::as_document);
        Err(self.refused(collection, first, rows))
    }

    /// What the server said about one document.
    fn refused(&self, collection: &str, error: Option<&Document>, rows: &[u32]) -> Failure {
        let code = error.and_then(|error| error.get_i32("code").ok()).unwrap_or(0);
        let index = error.and_then(|error| error.get_i32("index").ok());
        let row = index.and_then(|index| rows.get(usize::try_from(index).ok()?));
        let (Some(error), Some(&row), true) = (error, row, is_row(code)) else {
            return Failure::Fatal(Error::failed(format!(
                "{}: the server refused a document of {collection} [{code}]",
                self.place
            )));
        };
        let message = error.get_str("errmsg").unwrap_or_default();
        let reason = match code {
            DUPLICATE_KEY => {
                let index = Duplicate::parse(message).map(|of| of.index).unwrap_or_default();
                format!("{collection}: another document has the same unique value (index {index})")
            }
            INVALID_DOCUMENT => {
                format!("{collection}: the collection's validator refuses the document{}", rule(error))
            }
            _ => format!("{collection}: the server refuses the document"),
        };
        Failure::Row(row, Reject::new(format!("database-{code}"), reason))
    }

    /// Ledger lines and conflicts, in the transaction of the documents they describe.
    pub async fn ledger(
        &mut self,
        plan: &Plan,
        batch: &Batch,
        part: &Range<u32>,
        documents: &Documents,
    ) -> Result<(), Failure> {
        failpoint::reach("mongodb.ledger.before")?;
        let entity = &plan.entities[batch.entity];
        let shape = shape(plan, entity);
        if batch.again {
            self.forget(batch, part, &shape).await?;
        }
        let digests = Digests::of(documents);
        let mut lines = Vec::with_capacity(part.len());
        for row in part.clone() {
            let line = &batch.lines[row as usize];
            let source = line.reject.as_ref().map(|_| crate::row::kept(batch.rows.row(row as usize).line()));
            let digests = if line.reject.is_some() { Vec::new() } else { digests.of_row(row) };
            let document = shape.document(self.run, line, &digests, source.as_deref());
            let document = document.map_err(|_| Failure::Fatal(Error::failed("a ledger line is no BSON")))?;
            lines.push((row, document));
        }
        let documents: Vec<_> = lines.iter().map(|(row, document)| (*row, &**document)).collect();
        let written = self.insert(LEDGER, &documents).await;
        written.map_err(|failure| self.ours(failure))?;
        failpoint::reach("mongodb.ledger.lines")?;
        let notes = batch.records.notes.iter().filter(|note| part.contains(&note.row));
        let conflicts: Vec<_> = notes
            .map(|note| (note.row, shape.conflict(self.run, &batch.lines[note.row as usize].key, note)))
            .collect();
        self.conflicts(&conflicts).await
    }

    /// A collection of v1v2's own never refuses a document for the row's sake: whoever has it already is another run.
    pub fn ours(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Row(_, reject) => {
                Failure::Fatal(Error::failed(format!("{}: {}", self.place, reject.reason)))
            }
            other => other,
        }
    }

    /// Entries of the conflict log, with the rows that they are about.
    pub async fn conflicts(&mut self, conflicts: &[(u32, Document)]) -> Result<(), Failure> {
        let raw = conflicts
            .iter()
            .map(|(row, of)| Ok((*row, RawDocumentBuf::try_from(of)?)))
            .collect::<mongodb::bson::error::Result<Vec<_>>>()
            .map_err(|_| Failure::Fatal(Error::failed("a conflict is no BSON")))?;
        let documents: Vec<_> = raw.iter().map(|(row, document)| (*row, &**document)).collect();
        self.insert(CONFLICTS, &documents).await
    }

    /// Lines of rows that are tried again go, and are kept for a rollback.
    async fn forget(&mut self, batch: &Batch, part: &Range<u32>, shape: &LineShape) -> Result<(), Failure> {
        let ids: Vec<Document> =
            part.clone().map(|row| line_id(&batch.name, shape.key, &batch.lines[row as usize].key)).collect();
        let ids = doc! { "_id": { "$in": ids } };
        let lines = self.find(LEDGER, ids.clone()).await?;
        let mut log = Log::read(self, &batch.name, lines.iter()).await?;
        let mut kept = Vec::new();
        for line in &lines {
            let Some(key) = bson_at(line, "_id.k") else { continue };
            let owner = Owner { run: self.run, how: How::Retried, entity: &batch.name, key: &key };
            let of: Vec<Kept> = [Kept::own(LEDGER, line)].into_iter().chain(log.kept(&key)).collect();
            // A line whose source row is as large as it may be is too large to be kept; V1 still has the row.
            kept.extend(owner.records(0, &of).unwrap_or_default());
            log.forget(&key);
        }
        let kept: Vec<_> = kept.iter().map(|record| (0, &**record)).collect();
        let written = self.insert(REPLACED, &kept).await;
        written.map_err(|failure| self.ours(failure))?;
        self.delete(LEDGER, ids).await?;
        log.write(self).await
    }

    /// Removes documents; returns how many.
    pub async fn delete(&mut self, collection: &str, filter: Document) -> Result<u64, Failure> {
        self.database
            .collection::<Document>(collection)
            .delete_many(filter)
            .session(&mut *self.session)
            .await
            .map(|deleted| deleted.deleted_count)
            .map_err(|error| failure(self.place, &error))
    }

    /// Reads documents, as this transaction sees them.
    pub async fn find(&mut self, collection: &str, filter: Document) -> Result<Vec<RawDocumentBuf>, Failure> {
        let collection = raw(self.database, collection);
        let found = match collection.find(filter).session(&mut *self.session).await {
            Ok(mut cursor) => cursor.stream(&mut *self.session).try_collect().await,
            Err(error) => Err(error),
        };
        found.map_err(|error| failure(self.place, &error))
    }

    /// What an error of the driver means for the transaction.
    pub fn failed(&self, error: &mongodb::error::Error) -> Failure {
        failure(self.place, error)
    }

    /// Commits it; an unanswered commit is repeated, and it alone.
    pub async fn commit(&mut self) -> Result<(), Failure> {
        failpoint::reach("mongodb.commit.before")?;
        let mut attempt = 0;
        loop {
            let Err(error) = self.session.commit_transaction().await else {
                // As if nobody had answered.
                return failpoint::reach("mongodb.commit.after").map_err(|of| Failure::Unknown(of.into()));
            };
            let unknown = error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT);
            if !unknown {
                return Err(failure(self.place, &error));
            }
            attempt += 1;
            if attempt >= ATTEMPTS {
                return Err(Failure::Unknown(Error::mongodb(self.place, &error)));
            }
            tracing::warn!(
                attempt,
                "the commit is repeated: {}",
                Error::mongodb(self.place, &error).message()
            );
            tokio::time::sleep(backoff(attempt)).await;
        }
    }
}

/// The fields that a validator named, without their values.
fn rule(error: &Document) -> String {
    let mut fields = Vec::new();
    if let Ok(info) = error.get_document("errInfo")
        && let Ok(details) = info.get_document("details")
    {
        named(details, &mut fields);
    }
    fields.dedup();
    if fields.is_empty() { String::new() } else { format!(" ({})", fields.join(", ")) }
}

/// Names of fields in the server's explanation: `propertyName` and `missingProperties`.
fn named(details: &Document, fields: &mut Vec<String>) {
    for (key, value) in details {
        match (key.as_str(), value) {
            ("propertyName", Bson::String(name)) => fields.push(name.clone()),
            ("missingProperties" | "additionalProperties", Bson::Array(names)) => {
                fields.extend(names.iter().filter_map(Bson::as_str).map(str::to_owned));
            }
            (_, Bson::Document(inner)) => named(inner, fields),
            (_, Bson::Array(items)) => {
                items.iter().filter_map(Bson::as_document).for_each(|inner| named(inner, fields));
            }
            _ => {}
        }
    }
}

fn failure(place: &str, error: &mongodb::error::Error) -> Failure {
    let described = Error::mongodb(place, error);
    if is_too_large(error) {
        return Failure::TooLarge(described);
    }
    if mongodb_code(error) == Some(WRITE_CONFLICT) {
        return Failure::Conflict(described);
    }
    if error.contains_label(TRANSIENT_TRANSACTION_ERROR) || classify_mongodb(error) == Class::Transient {
        return Failure::Transient(described);
    }
    Failure::Fatal(described)
}
