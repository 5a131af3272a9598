//! The collection of evolutions. Every write names its run: one that has lost its lock changes nothing here any more.

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::{ClientSession, Collection, Database};
use uuid::Uuid;

use crate::evolve::{Direction, Evolution, Job, Record, State};
use crate::target::holder;

/// One document per evolution.
const EVOLUTIONS: &str = "v1v2_evolutions";

/// The driver's errors.
pub(super) type Driver<T> = mongodb::error::Result<T>;

fn collection(database: &Database) -> Collection<Document> {
    database.collection(EVOLUTIONS)
}

/// All records, by number.
pub(super) async fn records(database: &Database) -> Driver<Vec<Record>> {
    let found = collection(database).find(doc! {}).sort(doc! { "_id": 1 }).await?;
    let documents: Vec<Document> = found.try_collect().await?;
    Ok(documents.iter().map(record).collect())
}

fn record(document: &Document) -> Record {
    let text = |field: &str| document.get_str(field).ok().map(str::to_owned);
    let number = |field: &str| match document.get(field) {
        Some(Bson::Int32(number)) => i64::from(*number),
        Some(Bson::Int64(number)) => *number,
        _ => 0,
    };
    let started = document.get_datetime("startedAt").ok();
    Record {
        number: u32::try_from(number("_id")).unwrap_or(0),
        name: text("name").unwrap_or_default(),
        direction: match document.get_str("direction") {
            Ok("down") => Direction::Down,
            _ => Direction::Up,
        },
        state: State::from_text(document.get_str("state").unwrap_or_default()),
        checksum: text("checksum").unwrap_or_default(),
        transactional: false,
        serial: number("serial"),
        done: usize::try_from(number("done")).unwrap_or(0),
        begun: document.get_bool("begun").unwrap_or(false),
        step: text("step"),
        done_checksum: text("doneChecksum"),
        documents: u64::try_from(number("documents")).unwrap_or(0),
        by: text("by").unwrap_or_default(),
        started: started
            .and_then(|time| jiff::Timestamp::from_millisecond(time.timestamp_millis()).ok())
            .map(|time| time.strftime("%Y-%m-%d %H:%M:%S").to_string())
            .unwrap_or_default(),
        duration_ms: document.get_i64("durationMs").ok(),
        tool_version: text("toolVersion").unwrap_or_default(),
        error: text("error"),
    }
}

/// Where the step that was begun has got to.
pub(super) struct Position {
    /// Batches that are done.
    pub(super) batches: i64,
    /// The last `_id` that was dealt with.
    pub(super) last: Option<Bson>,
    /// Documents changed.
    pub(super) documents: u64,
}

/// The record of one evolution, in the hands of one run.
pub(super) struct Book<'b> {
    database: &'b Database,
    number: i32,
    run: Uuid,
}

impl<'b> Book<'b> {
    pub(super) fn new(database: &'b Database, evolution: &Evolution, run: Uuid) -> Self {
        Self { database, number: i32::try_from(evolution.number).unwrap_or(i32::MAX), run }
    }

    /// Ours, as long as nobody else has begun it since.
    fn ours(&self) -> Document {
        doc! { "_id": self.number, "run": self.run.to_string() }
    }

    /// It begins, or goes on. Going back keeps who applied it until it is done.
    pub(super) async fn begin(&self, job: &Job<'_>) -> Driver<()> {
        let evolution = job.evolution;
        let mut set = doc! {
            "name": &evolution.name, "direction": job.direction.as_str(), "state": State::Running.as_str(),
            "checksum": &evolution.checksum, "serial": job.serial, "run": self.run.to_string(),
        };
        let mut unset = doc! { "error": "" };
        if job.direction == Direction::Up {
            set.extend(doc! { "by": holder(), "toolVersion": env!("CARGO_PKG_VERSION"), "startedAt": DateTime::now() });
            unset.insert("durationMs", "");
        }
        if job.resume.is_none() {
            set.extend(doc! { "done": 0, "begun": false, "batches": 0_i64, "documents": 0_i64 });
            unset.extend(doc! { "position": "", "doneChecksum": "" });
        }
        let change = doc! { "$set": set, "$unset": unset };
        collection(self.database).update_one(doc! { "_id": self.number }, change).upsert(true).await.map(drop)
    }

    /// A step begins, with so many done before it; false if the record is not ours any more.
    pub(super) async fn begin_step(&self, done: usize, checksum: &str, step: &str) -> Driver<bool> {
        let set = doc! {
            "done": count(done), "begun": true, "doneChecksum": checksum, "step": step, "batches": 0_i64, "documents": 0_i64,
        };
        self.change(doc! { "$set": set, "$unset": { "position": "" } }).await
    }

    /// So many steps are done; false if the record is not ours any more.
    pub(super) async fn end_step(&self, done: usize, checksum: &str) -> Driver<bool> {
        self.change(ended(done, checksum)).await
    }

    /// As [`Book::end_step`], in the transaction of the step.
    pub(super) async fn end_step_in(
        &self,
        session: &mut ClientSession,
        done: usize,
        checksum: &str,
    ) -> Driver<bool> {
        let mut filter = self.ours();
        filter.extend(doc! { "done": count(done) - 1, "begun": true });
        let all = collection(self.database);
        let update = all.update_one(filter, ended(done, checksum)).session(session);
        Ok(update.await?.matched_count == 1)
    }

    /// A batch is done, in its transaction if there is one; false if another attempt has committed it already, or the record
    /// is not ours any more.
    pub(super) async fn end_batch(
        &self,
        session: Option<&mut ClientSession>,
        batch: i64,
        last: &Bson,
        documents: u64,
    ) -> Driver<bool> {
        let mut filter = self.ours();
        filter.insert("batches", batch);
        let documents = i64::try_from(documents).unwrap_or(i64::MAX);
        let change =
            doc! { "$set": { "position": last }, "$inc": { "batches": 1_i64, "documents": documents } };
        let all = collection(self.database);
        let update = all.update_one(filter, change);
        let done = match session {
            Some(session) => update.session(session).await?,
            None => update.await?,
        };
        Ok(done.matched_count == 1)
    }

    /// Where the step that was begun has got to; `None` if the record is not ours any more.
    pub(super) async fn position(&self) -> Driver<Option<Position>> {
        let found = collection(self.database).find_one(self.ours()).await?;
        Ok(found.map(|found| Position {
            batches: found.get_i64("batches").unwrap_or(0),
            last: found.get("position").cloned(),
            documents: found
                .get_i64("documents")
                .ok()
                .and_then(|count| u64::try_from(count).ok())
                .unwrap_or(0),
        }))
    }

    /// How many steps are done.
    pub(super) async fn done(&self) -> Driver<i32> {
        let found = collection(self.database).find_one(self.ours()).await?;
        Ok(found.and_then(|found| found.get_i32("done").ok()).unwrap_or(-1))
    }

    /// It is done; `took` is in milliseconds. False if the record is not ours any more.
    pub(super) async fn finish(&self, direction: Direction, took: i64) -> Driver<bool> {
        let state = if direction == Direction::Up { State::Applied } else { State::Reverted };
        let started = DateTime::from_millis(DateTime::now().timestamp_millis() - took);
        let mut set = doc! {
            "state": state.as_str(), "durationMs": took, "by": holder(), "toolVersion": env!("CARGO_PKG_VERSION"),
            "done": 0, "begun": false,
        };
        if direction == Direction::Down {
            set.insert("startedAt", started);
        }
        let unset = doc! { "step": "", "position": "", "batches": "", "documents": "", "doneChecksum": "", "error": "" };
        self.change(doc! { "$set": set, "$unset": unset }).await
    }

    /// It stopped with an error.
    pub(super) async fn fail(&self, error: &str) -> Driver<()> {
        self.change(doc! { "$set": { "state": State::Failed.as_str(), "error": error } }).await.map(drop)
    }

    async fn change(&self, change: Document) -> Driver<bool> {
        Ok(collection(self.database).update_one(self.ours(), change).await?.matched_count == 1)
    }
}

fn ended(done: usize, checksum: &str) -> Document {
    let set = doc! { "done": count(done), "begun": false, "doneChecksum": checksum };
    doc! { "$set": set, "$unset": { "position": "" } }
}

fn count(done: usize) -> i32 {
    i32::try_from(done).unwrap_or(i32::MAX)
}

/// The folder is right.
pub(super) async fn accept(database: &Database, evolution: &Evolution) -> Driver<()> {
    let number = i32::try_from(evolution.number).unwrap_or(i32::MAX);
    let set = doc! { "checksum": &evolution.checksum, "name": &evolution.name };
    collection(database).update_one(doc! { "_id": number }, doc! { "$set": set }).await.map(drop)
}
