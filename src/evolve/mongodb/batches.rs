//! Steps that go through a collection batch by batch, inside the server.
//!
//! A batch is one transaction of three writes: the run's fence (whoever has lost the lock cannot commit), the documents, and
//! the position in the record. The position names the batch before it, so a batch whose commit was not answered cannot be
//! done twice: its repetition finds that the position has moved on. While a batch is written, the ids of the next one are
//! read from the index.

use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use mongodb::error::{Error as DriverError, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::options::UpdateModifications;
use mongodb::{ClientSession, Database};

use super::bookkeeping::Book;
use super::ids::{self, Ids};
use super::work::{explained, lost};
use crate::connect::{self, transaction_options};
use crate::error::mongodb::WRITE_CONFLICT;
use crate::error::{Class, Error, Result, classify_mongodb, is_too_large, mongodb_code};
use crate::evolve::Watch;
use crate::evolve::steps::Pace;
use crate::report::EntityProgress;
use crate::target::RunName;
use crate::target::mongodb::lock::fence;
use crate::target::mongodb::session::LOCK;

/// Attempts of one batch: with the pauses in between they outlast an election.
const ATTEMPTS: u32 = 12;
/// How often a commit without an answer is tried again before the position is asked, which knows.
const COMMITS: u32 = 6;
/// The first pause; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After so many conflicts with other writers a batch is tried with half of its documents.
const CONFLICTS: u32 = 4;

/// After so long a batch that failed is tried with half of its documents: the server gives a transaction up after a minute.
const LONG: Duration = Duration::from_secs(25);

/// What is done to each batch.
pub(super) enum Change<'c> {
    /// An aggregation pipeline, to those that match.
    Update(&'c Document, &'c [Document]),
    /// Those that match are removed.
    Delete(&'c Document),
    /// The documents of another collection with the same ids are removed.
    DeleteFrom(&'c str),
    /// They are aggregated into another collection: no transaction can hold that, so it may happen twice.
    Aggregate(&'c [Document]),
}

/// The connection and the right to write.
pub(super) struct Writer<'w> {
    pub(super) v2: &'w connect::MongoDb,
    pub(super) place: &'w str,
    pub(super) run: RunName,
    pub(super) book: &'w Book<'w>,
    pub(super) session: ClientSession,
}

/// Why an attempt did not succeed.
pub(super) enum Fault {
    /// Decided here.
    Ours(Error),
    /// The driver's: may pass.
    Driver(DriverError),
}

impl From<DriverError> for Fault {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

/// How a batch ended.
enum Ended {
    Committed,
    /// By an earlier attempt, and perhaps with more documents than this one: only the record knows how far it got.
    Before,
    /// It is too much for one transaction.
    TooMuch,
}

impl Writer<'_> {
    fn database(&self) -> &Database {
        &self.v2.database
    }

    /// Goes through a collection from where it stopped.
    pub(super) async fn walk(
        &mut self,
        walked: &str,
        change: &Change<'_>,
        pace: Pace,
        (watch, progress): (&Watch, &EntityProgress),
    ) -> Result<()> {
        let failed = |error: DriverError| explained(self.place, &error);
        let Some(position) = self.book.position().await.map_err(failed)? else {
            return Err(lost(self.place));
        };
        if position.batches > 0 {
            tracing::info!(
                "going on after {} batches, {} documents changed",
                position.batches,
                position.documents
            );
        }
        let (mut number, mut limit) = (position.batches, pace.batch);
        let mut ids =
            ids::next(self.database(), walked, position.last.as_ref(), limit).await.map_err(failed)?;
        while let Some(batch) = ids {
            watch.check()?;
            let (database, after) = (self.v2.database.clone(), batch.last().cloned());
            let following = ids::next(&database, walked, after.as_ref(), limit);
            let (ended, following) = tokio::join!(self.commit(walked, &batch, number, change), following);
            match ended? {
                Ended::Committed => {
                    number += 1;
                    progress.advance(batch.0.len() as u64);
                    ids = following.map_err(|error| explained(self.place, &error))?;
                    rest(pace.throttle, watch).await;
                }
                Ended::Before => {
                    let position = self.book.position().await.map_err(failed)?;
                    let Some(position) = position else { return Err(lost(self.place)) };
                    number = position.batches;
                    progress.advance(batch.0.len() as u64);
                    ids =
                        ids::next(&database, walked, position.last.as_ref(), limit).await.map_err(failed)?;
                }
                Ended::TooMuch => {
                    ids = batch.half();
                    limit = (limit / 2).max(1);
                    tracing::debug!(limit, "a batch is too much for one transaction and is halved");
                }
            }
        }
        Ok(())
    }

    /// Commits a batch, as often as it takes.
    async fn commit(&mut self, walked: &str, batch: &Ids, number: i64, change: &Change<'_>) -> Result<Ended> {
        let (mut pause, mut conflicts) = (FIRST_PAUSE, 0);
        for attempt in 1.. {
            let began = Instant::now();
            let fault = match change {
                Change::Aggregate(pipeline) => self.aggregate(walked, batch, number, pipeline).await,
                _ => self.transaction(walked, batch, number, change).await,
            };
            let error = match fault {
                Ok(ended) => return Ok(ended),
                Err(Fault::Ours(error)) => return Err(error),
                Err(Fault::Driver(error)) => error,
            };
            conflicts += u32::from(mongodb_code(&error) == Some(WRITE_CONFLICT));
            let divisible = batch.0.len() > 1;
            if divisible && (is_too_large(&error) || conflicts >= CONFLICTS || began.elapsed() >= LONG) {
                return Ok(Ended::TooMuch);
            }
            if classify_mongodb(&error) != Class::Transient || attempt >= ATTEMPTS {
                return Err(explained(self.place, &error));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(Ended::Committed)
    }

    async fn transaction(
        &mut self,
        walked: &str,
        batch: &Ids,
        number: i64,
        change: &Change<'_>,
    ) -> Result<Ended, Fault> {
        begin(&mut self.session).await?;
        let work = async {
            pass_fence(self.v2, self.place, self.run, &mut self.session).await?;
            let documents = write(&self.v2.database, walked, batch, change, &mut self.session).await?;
            let last = batch.last().cloned().unwrap_or_default();
            Ok::<bool, Fault>(self.book.end_batch(Some(&mut self.session), number, &last, documents).await?)
        };
        match work.await {
            Ok(true) => {
                commit(&mut self.session).await?;
                Ok(Ended::Committed)
            }
            Ok(false) => {
                drop(self.session.abort_transaction().await);
                self.committed_before(number).await
            }
            Err(fault) => {
                // The server gives up an abandoned transaction by itself; this only tells it sooner.
                drop(self.session.abort_transaction().await);
                Err(fault)
            }
        }
    }

    async fn aggregate(
        &mut self,
        walked: &str,
        batch: &Ids,
        number: i64,
        pipeline: &[Document],
    ) -> Result<Ended, Fault> {
        let mut stages = vec![doc! { "$match": batch.filter() }];
        stages.extend_from_slice(pipeline);
        let mut found =
            self.database().collection::<Document>(walked).aggregate(stages).allow_disk_use(true).await?;
        // $merge answers nothing; the server has done it all when it answers.
        while found.advance().await? {}
        let last = batch.last().cloned().unwrap_or_default();
        if self.book.end_batch(None, number, &last, batch.0.len() as u64).await? {
            return Ok(Ended::Committed);
        }
        self.committed_before(number).await
    }

    /// The position is not where it was: an earlier attempt was committed after all, or the lock is lost.
    async fn committed_before(&self, number: i64) -> Result<Ended, Fault> {
        match self.book.position().await? {
            Some(position) if position.batches > number => Ok(Ended::Before),
            _ => Err(Fault::Ours(lost(self.place))),
        }
    }
}

/// Rests between two batches, unless the user wants to stop.
async fn rest(pause: Duration, watch: &Watch) {
    if pause.is_zero() {
        return;
    }
    let mut stop = watch.stop.clone();
    let asked = async {
        // The sender may be gone: then nobody will ever ask.
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    // Either will do.
    drop(tokio::time::timeout(pause, asked).await);
}

/// Begins a transaction that reads a snapshot and is committed by a majority.
pub(super) async fn begin(session: &mut ClientSession) -> Result<(), Fault> {
    Ok(session.start_transaction().with_options(transaction_options()).await?)
}

/// Writes to the run's fence: see `target/mongodb/lock.rs`.
pub(super) async fn pass_fence(
    v2: &connect::MongoDb,
    place: &str,
    run: RunName,
    session: &mut ClientSession,
) -> Result<(), Fault> {
    let ours = doc! { "_id": fence(0), "run": run.number };
    let fences = v2.database.collection::<Document>(LOCK);
    let passed = fences.update_one(ours, doc! { "$inc": { "chunks": 1_i64 } }).session(session).await?;
    if passed.matched_count == 1 { Ok(()) } else { Err(Fault::Ours(lost(place))) }
}

/// How many documents were changed.
async fn write(
    database: &Database,
    walked: &str,
    batch: &Ids,
    change: &Change<'_>,
    session: &mut ClientSession,
) -> Result<u64, Fault> {
    let here = database.collection::<Document>(walked);
    let only = |filter: &Document| match filter.is_empty() {
        true => batch.filter(),
        false => doc! { "$and": [batch.filter(), filter.clone()] },
    };
    Ok(match change {
        Change::Update(filter, pipeline) => {
            let pipeline = UpdateModifications::Pipeline(pipeline.to_vec());
            here.update_many(only(filter), pipeline).session(session).await?.modified_count
        }
        Change::Delete(filter) => here.delete_many(only(filter)).session(session).await?.deleted_count,
        Change::DeleteFrom(other) => {
            let listed = doc! { "_id": { "$in": batch.0.clone() } };
            database.collection::<Document>(other).delete_many(listed).session(session).await?.deleted_count
        }
        Change::Aggregate(_) => 0,
    })
}

/// Commits. Without an answer only the commit is tried again; if there is never one, the position tells.
pub(super) async fn commit(session: &mut ClientSession) -> Result<(), DriverError> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..COMMITS {
        match session.commit_transaction().await {
            Err(error) if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            result => return result,
        }
    }
    session.commit_transaction().await
}
