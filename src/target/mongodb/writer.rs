//! Writes chunks into MongoDB: one multi-document transaction each, read from one snapshot, committed by a majority.
//!
//! A transaction in which the server refused a document is gone, and there are no savepoints. So the refused row is
//! rejected and the chunk is written again without it; a chunk that loses several rows that way is split in halves, so
//! that a chunk full of bad rows costs a logarithm and not a square. A chunk that is more than the server wants to hold in
//! one transaction, or that took too long, is split too: what must be written together is a row and its ledger line, and
//! a half has both.
//!
//! Errors are told apart by the labels that server and driver give them: `TransientTransactionError` repeats the whole
//! transaction, `UnknownTransactionCommitResult` repeats the commit alone. Where even that stays unanswered, the ledger
//! is asked, because it was part of the transaction.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mongodb::bson::raw::cstr;
use mongodb::bson::{Bson, Document, RawArrayBuf, RawDocument, RawDocumentBuf, doc, rawdoc};
use mongodb::error::{TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::{ClientSession, Database};
use rand::RngExt;

use super::document::{Documents, Pushes, assemble};
use super::ledger::{LineShape, line_id};
use super::session::{CONFLICTS, LEDGER, LOCK, Shared, raw};
use crate::connect::transaction_options;
use crate::error::mongodb::{
    DUPLICATE_KEY, Duplicate, INVALID_DOCUMENT, WRITE_CONFLICT, is_row, is_too_large, mongodb_code,
};
use crate::error::{Class, Error, Result, classify_mongodb};
use crate::ledger::Reject;
use crate::plan::{AccountField, BsonKind, Entity, Fill, Plan, When};
use crate::target::{self, Batch};

/// How often a transaction is tried again after an error that goes away by itself. With the pauses of [`backoff`] that is
/// half a minute: an election takes some twelve seconds.
pub const ATTEMPTS: u32 = 16;

/// Rows that a chunk may lose one by one before it is split in halves.
const LOST_ONE_BY_ONE: u32 = 3;

/// Conflicts after which a chunk is split in halves. Chunks have nothing in common that they could clash over, so it is
/// the server's cache that is too small for them.
const CONFLICTS_BEFORE_SPLIT: u32 = 2;

/// A transaction that fails after this time failed for its age: the server ends them after 60 s
/// (`transactionLifetimeLimitSeconds`).
const OLD: Duration = Duration::from_secs(50);

/// Documents of one command: the server accepts 48 MB in one message, but a command's own document must stay below 16 MB.
const COMMAND_BYTES: usize = 8 * 1024 * 1024;

/// What a writer does with a transaction that is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Commits it; the number is that of the writer's fence.
    Commit(usize),
    /// Aborts it: a dry run.
    Abort,
}

/// Writes chunks over one session.
pub struct Writer {
    shared: Arc<Shared>,
    plan: Arc<Plan>,
    run: i32,
    ending: Ending,
    session: Option<(Database, ClientSession)>,
}

/// Why a part of a chunk was not written.
enum Failure {
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

impl Writer {
    /// A writer for one run. It connects when it is first needed.
    pub fn new(shared: Arc<Shared>, plan: Arc<Plan>, run: i32, ending: Ending) -> Self {
        Self { shared, plan, run, ending, session: None }
    }

    /// Writes a part of a chunk. What is not written yet stands in `open`, in order.
    async fn write(&mut self, batch: &mut Batch, part: Range<u32>) -> Result<()> {
        let mut open = vec![part];
        while let Some(part) = open.pop() {
            if let Some((front, back)) = self.write_or_split(batch, part).await? {
                open.extend([back, front]);
            }
        }
        Ok(())
    }

    /// Writes a part, or says into which halves it must be split.
    async fn write_or_split(
        &mut self,
        batch: &mut Batch,
        part: Range<u32>,
    ) -> Result<Option<(Range<u32>, Range<u32>)>> {
        let (mut attempt, mut lost) = (0, 0);
        loop {
            let began = Instant::now();
            let Err(failure) = self.transaction(batch, &part).await else { return Ok(None) };
            if let Some((_, session)) = &mut self.session {
                // It may be gone already; a server that never hears of it gives it up by itself.
                drop(session.abort_transaction().await);
            }
            let failure = match failure {
                // The server gave it up for its age, which it reports in several ways.
                Failure::Transient(error) | Failure::Conflict(error) if began.elapsed() > OLD => {
                    Failure::TooLarge(error)
                }
                other => other,
            };
            match failure {
                Failure::Row(row, reject) => {
                    batch.reject(row, reject);
                    lost += 1;
                    if lost >= LOST_ONE_BY_ONE
                        && let Some(halves) = halves(&part)
                    {
                        return Ok(Some(halves));
                    }
                }
                Failure::TooLarge(error) => return halves(&part).map(Some).ok_or(error),
                Failure::Fatal(error) => return Err(error),
                Failure::Unknown(error) => {
                    // Asked before anything is tried again: the answer is final once the old transaction has ended.
                    tracing::warn!(entity = %batch.name, "asking the ledger what became of a chunk: {}", error.message());
                    self.session = None;
                    if self.was_committed(batch, &part).await? {
                        return Ok(None);
                    }
                }
                // A server that has no memory left for so much at once calls that a conflict, too, each time anew.
                Failure::Conflict(_) if attempt >= CONFLICTS_BEFORE_SPLIT && halves(&part).is_some() => {
                    return Ok(halves(&part));
                }
                Failure::Transient(error) | Failure::Conflict(error) => {
                    attempt += 1;
                    if attempt >= ATTEMPTS {
                        return Err(error.help(format!(
                            "it was tried {ATTEMPTS} times; run the same command again later"
                        )));
                    }
                    tracing::warn!(entity = %batch.name, attempt, "the chunk is tried again: {}", error.message());
                    tokio::time::sleep(backoff(attempt)).await;
                }
            }
        }
    }

    async fn transaction(&mut self, batch: &mut Batch, part: &Range<u32>) -> Result<(), Failure> {
        let plan = self.plan.clone();
        let entity = &plan.entities[batch.entity];
        let documents = assemble(batch, entity, |row| part.contains(&row));
        if self.session.is_none() {
            let opened = self.open().await.map_err(Failure::Transient)?;
            self.session = Some(opened);
        }
        let Some((database, session)) = &mut self.session else {
            return Err(Failure::Fatal(Error::failed("V2: no session")));
        };
        let mut transaction = Transaction {
            database,
            session,
            place: &self.shared.place,
            run: self.run,
            real: self.ending != Ending::Abort,
        };
        transaction.begin().await?;
        if let Ending::Commit(fence) = self.ending {
            transaction.pass_fence(fence).await?;
        }
        transaction.records(&documents).await?;
        transaction.ledger(&plan, batch, part, &documents).await?;
        match self.ending {
            Ending::Commit(_) => transaction.commit().await,
            Ending::Abort => {
                // Whether or not the server hears of it: nothing was committed.
                drop(transaction.session.abort_transaction().await);
                Ok(())
            }
        }
    }

    async fn open(&self) -> Result<(Database, ClientSession)> {
        let connection = self.shared.connection().await?;
        let session = connection.client.start_session().await.map_err(|error| self.shared.failed(&error))?;
        Ok((connection.database.clone(), session))
    }

    /// Whether the ledger has the part's lines of this run: they were written in one transaction, so one stands for all.
    async fn was_committed(&self, batch: &Batch, part: &Range<u32>) -> Result<bool> {
        let Some(line) = batch.lines.get(part.start as usize) else { return Ok(true) };
        let kind = self.plan.entities[batch.entity].source.key_kind;
        let filter = doc! { "_id": line_id(&batch.name, kind, &line.key), "run": self.run };
        let mut last = None;
        for attempt in 1..=ATTEMPTS {
            let found = match self.shared.connection().await {
                Ok(connection) => raw(&connection.database, LEDGER)
                    .find_one(filter.clone())
                    .await
                    .map_err(|error| self.shared.failed(&error)),
                Err(error) => Err(error),
            };
            match found {
                Ok(found) => return Ok(found.is_some()),
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(backoff(attempt)).await;
        }
        let why = last.map(|error| error.message().to_owned()).unwrap_or_default();
        Err(Error::failed(format!("nobody can tell whether the last chunk was committed: {why}"))
            .help("run the same command again: the ledger, which was part of that transaction, decides"))
    }
}

#[async_trait]
impl target::Writer for Writer {
    async fn commit(&mut self, batch: &mut Batch) -> Result<()> {
        let rows = 0..u32::try_from(batch.lines.len()).unwrap_or(u32::MAX);
        self.write(batch, rows).await
    }

    async fn close(self: Box<Self>) {}
}

/// Two halves of a part; `None` if it is a single row.
fn halves(part: &Range<u32>) -> Option<(Range<u32>, Range<u32>)> {
    let middle = part.start + (part.end - part.start) / 2;
    (middle > part.start).then_some((part.start..middle, middle..part.end))
}

/// Exponential, with jitter so that two writers that met in a conflict do not meet again: 50 ms, 100 ms, … 3 s.
pub fn backoff(attempt: u32) -> Duration {
    let base = (50_u64 << attempt.min(6)).min(3_000);
    Duration::from_millis(rand::rng().random_range(base / 2..=base))
}

/// One transaction under way.
struct Transaction<'t> {
    database: &'t Database,
    session: &'t mut ClientSession,
    place: &'t str,
    run: i32,
    real: bool,
}

impl Transaction<'_> {
    async fn begin(&mut self) -> Result<(), Failure> {
        let begun = self.session.start_transaction().with_options(transaction_options()).await;
        begun.map_err(|error| failure(self.place, &error))
    }

    /// Writes to this writer's own fence. Whoever takes the lock over removes all fences first: that waits for
    /// transactions under way, and those that come later find no fence.
    async fn pass_fence(&mut self, fence: usize) -> Result<(), Failure> {
        let filter = doc! { "_id": super::lock::fence(fence), "run": self.run };
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
        Err(Failure::Fatal(super::lock::lost(self.place)))
    }

    async fn records(&mut self, documents: &Documents) -> Result<(), Failure> {
        for inserts in &documents.inserts {
            let documents: Vec<_> = inserts.iter().map(|of| (of.row, of.document)).collect();
            self.insert(&inserts.collection, &documents).await?;
        }
        for pushes in documents.pushes.iter().filter(|pushes| !pushes.is_empty()) {
            self.push(pushes).await?;
        }
        Ok(())
    }

    /// Inserts documents in order, in as few commands as they fit into.
    async fn insert(
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
                if size > COMMAND_BYTES && !rows.is_empty() {
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

    /// Adds elements to arrays of documents that exist.
    async fn push(&mut self, pushes: &Pushes) -> Result<(), Failure> {
        let mut rows = Vec::with_capacity(pushes.len());
        let mut updates = RawArrayBuf::new();
        let field = mongodb::bson::raw::CString::try_from(pushes.field.as_str())
            .map_err(|_| Failure::Fatal(Error::failed("an array's name holds a NUL")))?;
        for push in pushes.iter() {
            rows.push(push.row);
            let mut element = RawDocumentBuf::new();
            element.append(&field, push.element);
            updates.push(rawdoc! { "q": push.filter.to_owned(), "u": { "$push": element } });
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
    async fn ledger(
        &mut self,
        plan: &Plan,
        batch: &Batch,
        part: &Range<u32>,
        documents: &Documents,
    ) -> Result<(), Failure> {
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
        written.map_err(|failure| match failure {
            // The ledger is ours: whoever has the line already is another run.
            Failure::Row(_, reject) => {
                Failure::Fatal(Error::failed(format!("{}: {}", self.place, reject.reason)))
            }
            other => other,
        })?;
        let notes = batch.records.notes.iter().filter(|note| part.contains(&note.row));
        let conflicts: Vec<_> = notes
            .map(|note| (note.row, shape.conflict(self.run, &batch.lines[note.row as usize].key, note)))
            .collect();
        let raw = conflicts
            .iter()
            .map(|(row, of)| Ok((*row, RawDocumentBuf::try_from(of)?)))
            .collect::<mongodb::bson::error::Result<Vec<_>>>()
            .map_err(|_| Failure::Fatal(Error::failed("a conflict is no BSON")))?;
        let documents: Vec<_> = raw.iter().map(|(row, document)| (*row, &**document)).collect();
        self.insert(CONFLICTS, &documents).await
    }

    /// Lines of rows that are tried again.
    async fn forget(&mut self, batch: &Batch, part: &Range<u32>, shape: &LineShape) -> Result<(), Failure> {
        let ids: Vec<Document> =
            part.clone().map(|row| line_id(&batch.name, shape.key, &batch.lines[row as usize].key)).collect();
        self.delete(LEDGER, doc! { "_id": { "$in": ids } }).await?;
        let keys: Vec<Bson> =
            part.clone().map(|row| super::ledger::key(shape.key, &batch.lines[row as usize].key)).collect();
        self.delete(CONFLICTS, doc! { "_id.e": &*batch.name, "_id.k": { "$in": keys } }).await
    }

    async fn delete(&mut self, collection: &str, filter: Document) -> Result<(), Failure> {
        self.database
            .collection::<Document>(collection)
            .delete_many(filter)
            .session(&mut *self.session)
            .await
            .map(drop)
            .map_err(|error| failure(self.place, &error))
    }

    async fn commit(&mut self) -> Result<(), Failure> {
        let mut attempt = 0;
        loop {
            let Err(error) = self.session.commit_transaction().await else { return Ok(()) };
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

/// How an entity's ledger lines are written.
pub fn shape(plan: &Plan, entity: &Entity) -> LineShape {
    LineShape {
        entity: entity.name.to_string(),
        key: entity.source.key_kind,
        account: account_kind(plan),
        target: kind_of(entity, When::Row, &Fill::Id),
    }
}

/// What ids of accounts are in V2.
pub fn account_kind(plan: &Plan) -> BsonKind {
    let account = plan.entities.iter().find(|entity| entity.account.is_some());
    account.map_or(BsonKind::Uuid, |entity| kind_of(entity, When::Account, &Fill::Account(AccountField::Id)))
}

fn kind_of(entity: &Entity, when: When, fill: &Fill) -> BsonKind {
    let columns = entity.writes.iter().filter(|write| write.when == when).flat_map(|write| &write.columns);
    let column = columns.into_iter().find(|column| column.fill == *fill);
    column.and_then(|column| column.bson.as_ref()).map_or(BsonKind::Uuid, |bson| bson.kind.clone())
}

/// The digests of what each row wrote.
struct Digests {
    /// Collections with documents of their own.
    shapes: usize,
    /// (row, shape, digest)
    documents: Vec<(u32, usize, u64)>,
    /// (row, digest)
    elements: Vec<(u32, u64)>,
}

impl Digests {
    fn of(documents: &Documents) -> Self {
        let mut this = Self { shapes: documents.inserts.len(), documents: Vec::new(), elements: Vec::new() };
        for (shape, inserts) in documents.inserts.iter().enumerate() {
            for insert in inserts.iter() {
                this.documents.push((insert.row, shape, insert.digest));
                this.elements.extend(insert.elements.iter().map(|&digest| (insert.row, digest)));
            }
        }
        for pushes in &documents.pushes {
            this.elements.extend(pushes.iter().map(|push| (push.row, push.digest)));
        }
        this.documents.sort_unstable();
        this.elements.sort_by_key(|(row, _)| *row);
        this
    }

    /// The number of collections with documents of their own; eight bytes for each of them, in the order of the entity's
    /// writes (zeros where the row wrote none); then eight for each element that it added to an account's array.
    fn of_row(&self, row: u32) -> Vec<u8> {
        let mut bytes = vec![0; 1 + 8 * self.shapes];
        bytes[0] = u8::try_from(self.shapes).unwrap_or(u8::MAX);
        let first = self.documents.partition_point(|(of, ..)| *of < row);
        for (_, shape, digest) in self.documents[first..].iter().take_while(|(of, ..)| *of == row) {
            bytes[1 + 8 * shape..9 + 8 * shape].copy_from_slice(&digest.to_be_bytes());
        }
        let first = self.elements.partition_point(|(of, _)| *of < row);
        for (_, digest) in self.elements[first..].iter().take_while(|(of, _)| *of == row) {
            bytes.extend(digest.to_be_bytes());
        }
        bytes
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
