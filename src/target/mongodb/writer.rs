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
use mongodb::bson::doc;
use mongodb::{ClientSession, Database};
use rand::RngExt;

use super::document::assemble;
use super::foreseen::Foreseen;
use super::ledger::line_id;
use super::lock;
use super::session::{CONFLICTS, LEDGER, Shared, raw};
use super::transaction::{Failure, Transaction};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::plan::Plan;
use crate::target::{self, Batch, REFUSED};

/// How often a transaction is tried again after an error that goes away by itself. With the pauses of [`backoff`] that is
/// half a minute: an election takes some twelve seconds.
pub const ATTEMPTS: u32 = 16;

/// Rows that a chunk may lose one by one before it is split in halves.
const LOST_ONE_BY_ONE: u32 = 3;

/// How long trouble that goes away by itself is waited for, from its first sign. Without a primary each attempt waits for one
/// by itself, so attempts alone are no measure.
const PATIENCE: Duration = Duration::from_secs(90);

/// Conflicts after which a chunk is split in halves. Chunks have nothing in common that they could clash over, so it is
/// the server's cache that is too small for them.
const CONFLICTS_BEFORE_SPLIT: u32 = 2;

/// A transaction that fails after this time failed for its age: the server ends them after 60 s
/// (`transactionLifetimeLimitSeconds`).
const OLD: Duration = Duration::from_secs(50);

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
    /// What is to be remembered of transactions that were aborted.
    pub(super) foreseen: Option<Foreseen>,
}

impl Writer {
    /// A writer for one run. It connects when it is first needed.
    pub fn new(shared: Arc<Shared>, plan: Arc<Plan>, run: i32, ending: Ending) -> Self {
        Self { shared, plan, run, ending, session: None, foreseen: None }
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
        let mut trouble: Option<Instant> = None;
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
                    if trouble.get_or_insert(began).elapsed() > PATIENCE {
                        return Err(error.help("run the same command again later"));
                    }
                }
                // A server that has no memory left for so much at once calls that a conflict, too, each time anew.
                Failure::Conflict(_) if attempt >= CONFLICTS_BEFORE_SPLIT && halves(&part).is_some() => {
                    return Ok(halves(&part));
                }
                Failure::Transient(error) | Failure::Conflict(error) => {
                    attempt += 1;
                    let since = *trouble.get_or_insert(began);
                    if attempt >= ATTEMPTS || since.elapsed() > PATIENCE {
                        let seconds = since.elapsed().as_secs();
                        return Err(error.help(format!(
                            "it was tried {attempt} times in {seconds} s; run the same command again later"
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
        // Those of rows that are in V2 already depend on what the transaction finds there.
        let documents = batch.update.is_none().then(|| assemble(batch, entity, |row| part.contains(&row)));
        if self.session.is_none() {
            let opened = self.open().await?;
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
        failpoint::reach("mongodb.begun")?;
        if let Ending::Commit(fence) = self.ending {
            transaction.pass_fence(fence).await?;
        }
        let mut changed = None;
        match &documents {
            Some(documents) => {
                transaction.records(documents).await?;
                transaction.ledger(&plan, batch, part, documents).await?;
            }
            None => changed = Some(transaction.update(&plan, batch, part).await?),
        }
        if let Ending::Commit(_) = self.ending {
            return transaction.commit().await;
        }
        // Whether or not the server hears of it: nothing was committed.
        drop(transaction.session.abort_transaction().await);
        if let Some(foreseen) = &mut self.foreseen {
            let (changed, pretended) = changed.unzip();
            if let Some(changed) = &changed {
                foreseen.changed(&plan, entity, changed);
            }
            if let Some(documents) = documents.as_ref().or(pretended.flatten().as_ref()) {
                let lines = &batch.lines[part.start as usize..part.end as usize];
                let accounts = lines.iter().filter_map(|line| line.account_id.as_deref());
                foreseen.new_rows(&plan, entity, documents, accounts);
            }
        }
        Ok(())
    }

    async fn open(&self) -> Result<(Database, ClientSession), Failure> {
        let connection = self.shared.connection().await.map_err(Failure::Transient)?;
        let database = connection.database.clone();
        let session = connection.client.start_session().await;
        let session = session.map_err(|error| Failure::Transient(self.shared.failed(&error)))?;
        if let Ending::Commit(fence) = self.ending {
            let named = lock::name_session(&self.shared, &database, (self.run, fence), &session).await;
            if !named.map_err(Failure::Transient)? {
                return Err(Failure::Fatal(lock::lost(&self.shared.place)));
            }
        }
        Ok((database, session))
    }

    /// Whether the ledger has the part's lines of this run: they were written in one transaction, so one stands for all. A
    /// row whose change was refused keeps its line; then it is the conflict log that tells.
    async fn was_committed(&self, batch: &Batch, part: &Range<u32>) -> Result<bool> {
        let mut rows = part.clone();
        let row = match batch.update {
            Some(_) => rows.find(|&row| !batch.is_rejected(row)).unwrap_or(part.start),
            None => part.start,
        };
        let Some(line) = batch.lines.get(row as usize) else { return Ok(true) };
        let kind = self.plan.entities[batch.entity].source.key_kind;
        let mut id = line_id(&batch.name, kind, &line.key);
        let refused = batch.update.is_some() && batch.is_rejected(row);
        if refused {
            id.insert("kind", REFUSED);
        }
        let collection = if refused { CONFLICTS } else { LEDGER };
        let filter = doc! { "_id": id, "run": self.run };
        let mut last = None;
        for attempt in 1..=ATTEMPTS {
            let found = match self.shared.connection().await {
                Ok(connection) => raw(&connection.database, collection)
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
    failpoint::pause(Duration::from_millis(rand::rng().random_range(base / 2..=base)))
}
