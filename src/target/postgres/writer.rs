//! Writes chunks into a Postgres V2.
//!
//! The fast way is one transaction of `COPY … FROM STDIN`, table by table. When the database refuses a row, the
//! transaction is gone and so is the connection (a COPY that failed leaves the driver out of step with the server),
//! and the chunk is written again the careful way: `INSERT … SELECT unnest(…)` under savepoints, halving the rows
//! until each refused one stands alone. Only those are rejected; the others of the chunk are written.
//!
//! An error that goes away by itself (deadlock, restart of the server, lost connection) repeats the chunk. When the
//! connection is lost while COMMIT is under way nobody knows its outcome; then the ledger is asked, because it was
//! part of that transaction. A chunk that runs into the server's `statement_timeout` is written in halves: what must be
//! written together is a row and its ledger line, and a half has both.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt;
use sqlx::PgConnection;
use sqlx::postgres::PgDatabaseError;

use super::careful::lines_of;
use super::link::Link;
use super::{readback, replace, table};
use crate::connect::answered;
use crate::error::{Class, Error, Result, classify, is_cancelled};
use crate::failpoint::{self, Injected};
use crate::ledger;
use crate::plan::{Plan, Write};
use crate::row::Lines;
use crate::settings::Settings;
use crate::source::quoted;
use crate::target::{self, Batch};

/// How often a chunk is tried again after an error that goes away by itself.
const ATTEMPTS: u32 = 8;

/// One connection that writes chunks. Several of them work side by side, each with its own chunks.
pub struct Writer {
    pub(super) plan: Arc<Plan>,
    pub(super) place: String,
    pub(super) run: i32,
    pub(super) link: Link,
    pub(super) patience: Duration,
    /// Whether the server ends statements that take too long.
    impatient: bool,
    /// Rows of a transaction that the server's `statement_timeout` is enough for, as far as we know.
    rows: u32,
    /// The writes, by entity and index, whose rows were read back.
    read_back: HashSet<(usize, usize)>,
    /// For ledger lines and conflicts: kept from chunk to chunk.
    spare: Lines,
}

/// Why a chunk was not written.
pub(super) enum Failure {
    /// The database refused a row, perhaps this one.
    Row(Option<u32>),
    /// Try again. With a number, the transaction may have been committed all the same.
    Transient(Error, Option<i64>),
    /// The server gave a statement up for the time it took: less at once may do.
    TooSlow(Error),
    /// Stop.
    Fatal(Error),
}

impl From<Injected> for Failure {
    fn from(injected: Injected) -> Self {
        let error = sqlx::Error::from(injected);
        let described = Error::database("V2", &error);
        match classify(&error) {
            Class::Transient => Self::Transient(described, None),
            _ => Self::Fatal(described),
        }
    }
}

/// Rows of a chunk that one transaction writes.
struct Part {
    rows: Range<u32>,
    /// Written the careful way, beginning with a row that the database seems to refuse.
    careful: Option<Option<u32>>,
}

impl Part {
    /// Two halves; `None` if it is a single row. Once rows were rejected, only the careful way leaves them out.
    fn halves(&self) -> Option<[Self; 2]> {
        let Range { start, end } = self.rows;
        let middle = start + (end - start) / 2;
        let half = |rows| Self { rows, careful: self.careful.map(|_| None) };
        (middle > start).then(|| [half(start..middle), half(middle..end)])
    }
}

#[async_trait]
impl target::Writer for Writer {
    async fn commit(&mut self, batch: &mut Batch) -> Result<()> {
        let end = u32::try_from(batch.lines.len()).unwrap_or(u32::MAX);
        let mut open = vec![Part { rows: 0..end, careful: None }];
        while let Some(part) = open.pop() {
            let halves = match part.halves() {
                Some(halves) if part.rows.len() > self.rows as usize => Some(halves),
                _ => self.write(batch, part).await?,
            };
            // In order: the last one is taken first.
            open.extend(halves.into_iter().flat_map(|[front, back]| [back, front]));
        }
        Ok(())
    }

    async fn close(mut self: Box<Self>) {
        self.link.close().await;
    }
}

impl Writer {
    /// A writer for one run. It connects when it is first needed.
    pub fn new(settings: Arc<Settings>, plan: Arc<Plan>, place: String, run: i32) -> Self {
        let (patience, impatient) = (settings.patience(), !settings.statement_timeout.is_zero());
        let link = Link::new(settings, place.clone());
        let (read_back, spare) = (HashSet::new(), Lines::default());
        Self { plan, place, run, link, patience, impatient, rows: u32::MAX, read_back, spare }
    }

    /// Writes a part, or says into which halves it must be split.
    async fn write(&mut self, batch: &mut Batch, mut part: Part) -> Result<Option<[Part; 2]>> {
        let mut attempt = 0;
        loop {
            let outcome = match part.careful {
                careful if batch.update.is_some() => self.update(batch, &part.rows, careful.is_some()).await,
                None => self.copy(batch, &part.rows).await,
                Some(suspect) => self.insert_carefully(batch, &part.rows, suspect).await,
            };
            let Err(failure) = outcome else {
                // What was slow once, perhaps for somebody's lock, is tried with a little more each time.
                self.rows = self.rows.saturating_add(self.rows / 8 + 1);
                return Ok(None);
            };
            // Whatever failed, this connection may be out of step with its server: it is never used again.
            self.link.discard(matches!(failure, Failure::Transient(..))).await;
            match failure {
                Failure::Row(suspect) if part.careful.is_none() => part.careful = Some(suspect),
                Failure::Row(_) => {
                    let what = format!(
                        "{}: at COMMIT, V2 refuses rows of {} that it takes one by one",
                        self.place, batch.name
                    );
                    let help =
                        "look at V2's constraint triggers that are deferred; this chunk was not committed";
                    return Err(Error::failed(what).help(help));
                }
                Failure::Fatal(error) => return Err(error),
                Failure::TooSlow(error) => {
                    let Some(halves) = part.halves() else { return Err(too_slow(error)) };
                    self.rows = (part.rows.len() as u32).div_ceil(2);
                    tracing::warn!(entity = %batch.name, rows = self.rows, "the chunk took too long, and is halved");
                    return Ok(Some(halves));
                }
                Failure::Transient(error, committing) => {
                    attempt += 1;
                    if attempt >= ATTEMPTS {
                        return Err(error.help(format!(
                            "it was tried {ATTEMPTS} times; run the same command again later"
                        )));
                    }
                    tracing::warn!(entity = %batch.name, attempt, "the chunk is tried again: {}", error.message());
                    tokio::time::sleep(backoff(attempt)).await;
                    if let Some(txid) = committing
                        && self.was_committed(txid).await?
                    {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Begins a transaction that only the holder of the run's lock can commit; returns its number.
    pub(super) async fn begin(&mut self) -> Result<i64, Failure> {
        let (patience, run) = (self.patience, self.run);
        let connection = self.link.get().await?;
        let begun = answered(patience, sqlx::raw_sql("begin").execute(&mut *connection)).await;
        begun.map_err(|error| self.failure(&error, None))?;
        // The row lock keeps another run from taking the lock over before this transaction has ended.
        let sql = "select txid_current() from v1v2.lock where run = $1 for share";
        let connection = self.link.get().await?;
        let txid = answered(patience, sqlx::query_scalar(sql).bind(run).fetch_optional(connection)).await;
        let txid: Option<i64> = txid.map_err(|error| self.failure(&error, None))?;
        txid.ok_or_else(|| {
            Failure::Fatal(
                Error::failed(format!(
                    "{}: this run has lost its lock to another run, and stops",
                    self.place
                ))
                .help("see `v1v2 status` for the run that goes on"),
            )
        })
    }

    async fn copy(&mut self, batch: &mut Batch, rows: &Range<u32>) -> Result<(), Failure> {
        let txid = self.begin().await?;
        failpoint::reach("postgres.begun")?;
        let plan = self.plan.clone();
        let entity = &plan.entities[batch.entity];
        for (write, lines) in entity.writes.iter().zip(&batch.records.writes) {
            let (bytes, first, count) = lines.part(rows);
            if count == 0 {
                continue;
            }
            let columns: Vec<_> = write.columns.iter().map(|column| quoted(&column.name)).collect();
            let sql = format!("copy {} ({}) from stdin", table(&write.table), columns.join(", "));
            let patience = self.patience;
            failpoint::reach("postgres.copy.before")?;
            let copied = copy_in(self.link.get().await?, patience, &sql, bytes, count).await;
            copied.map_err(|error| match classify(&error) {
                Class::Row => Failure::Row(line_of(&error).and_then(|line| lines.source_row(first + line))),
                _ => self.failure(&error, None),
            })?;
            failpoint::reach("postgres.copy.after")?;
        }
        self.read_back(batch, rows).await?;
        self.write_ledger(batch, rows, txid).await?;
        self.commit_transaction(txid).await
    }

    /// Compares the first rows that this writer writes into each table with what it sent.
    async fn read_back(&mut self, batch: &Batch, rows: &Range<u32>) -> Result<(), Failure> {
        let plan = self.plan.clone();
        let writes = &plan.entities[batch.entity].writes;
        for (index, (write, lines)) in writes.iter().zip(&batch.records.writes).enumerate() {
            if lines.part(rows).2 == 0 || !self.read_back.insert((batch.entity, index)) {
                continue;
            }
            let sent = lines_of(lines, write.columns.len(), |row| rows.contains(&row));
            let compared = readback::compare(self.link.get().await?, write, &sent);
            let compared = answered(self.patience, compared).await;
            let Some(found) = compared.map_err(|error| self.failure(&error, None))? else { continue };
            let what = match found.column {
                Some(column) => format!("the column {column} of {} is not what was sent", write.table.name),
                None => format!("{} does not show what was sent", write.table.name),
            };
            let (some, all) = (found.rows, sent.len());
            let what = format!("{}: {what}, in {some} of the {all} rows looked at", self.place);
            return Err(Failure::Fatal(Error::differences(what).help(
                "a trigger or row security of V2 changes rows: disable it while migrating, or take a column that V2 \
                 fills by itself out of the definition; these rows were not committed",
            )));
        }
        Ok(())
    }

    /// Ledger lines and conflicts, in the transaction of the records they describe.
    pub(super) async fn write_ledger(
        &mut self,
        batch: &Batch,
        rows: &Range<u32>,
        txid: i64,
    ) -> Result<(), Failure> {
        failpoint::reach("postgres.ledger.before")?;
        let (patience, run) = (self.patience, self.run);
        let of_part = &batch.lines[rows.start as usize..rows.end as usize];
        if batch.again {
            let keys: Vec<&str> = of_part.iter().map(|line| line.key.as_str()).collect();
            let forgotten = replace::forget(self.link.get().await?, patience, run, &batch.name, &keys).await;
            forgotten.map_err(|error| self.failure(&error, None))?;
            failpoint::reach("postgres.ledger.forgotten")?;
        }
        let mut lines = std::mem::take(&mut self.spare);
        lines.clear();
        for (row, line) in rows.clone().zip(of_part) {
            let source = line.reject.as_ref().map(|_| crate::row::kept(batch.rows.row(row as usize).line()));
            ledger::append(&mut lines, row, txid, run, &batch.name, line, source.as_deref());
        }
        let sql = format!("copy v1v2.ledger ({}) from stdin", ledger::COLUMNS);
        let copied = copy_in(self.link.get().await?, patience, &sql, lines.bytes(), lines.len()).await;
        copied.map_err(|error| self.failure(&error, None))?;
        failpoint::reach("postgres.ledger.lines")?;
        lines.clear();
        for note in batch.records.notes.iter().filter(|note| rows.contains(&note.row)) {
            lines.text(Some(&batch.name));
            lines.text(Some(&batch.lines[note.row as usize].key));
            lines.text(Some(&note.kind));
            lines.display(run);
            lines.text(Some(&note.decision));
            lines.text(note.other.as_ref().map(|(entity, _)| &**entity));
            lines.text(note.other.as_ref().map(|(_, key)| key.as_str()));
            lines.text(note.detail.as_deref());
            lines.end_line(note.row);
        }
        if !lines.is_empty() {
            let sql = "copy v1v2.conflicts (entity, key, kind, run, decision, other_entity, other_key, detail) from stdin";
            let copied = copy_in(self.link.get().await?, patience, sql, lines.bytes(), lines.len()).await;
            copied.map_err(|error| self.failure(&error, None))?;
        }
        self.spare = lines;
        Ok(())
    }

    pub(super) async fn commit_transaction(&mut self, txid: i64) -> Result<(), Failure> {
        failpoint::reach("postgres.commit.before")?;
        let patience = self.patience;
        let ended = sqlx::raw_sql("commit").execute(self.link.get().await?);
        answered(patience, ended).await.map_err(|error| match classify(&error) {
            // A deferred constraint speaks up at COMMIT.
            Class::Row => Failure::Row(None),
            _ => self.failure(&error, Some(txid)),
        })?;
        // As if nobody had answered.
        let unanswered = |injected: Injected| self.failure(&injected.into(), Some(txid));
        failpoint::reach("postgres.commit.after").map_err(unanswered)?;
        // COMMIT of an aborted transaction is answered without an error, but it is a rollback.
        match answered(patience, status_of(self.link.get().await?, txid)).await {
            Ok(Some(status)) if status == "committed" => Ok(()),
            Ok(_) => {
                Err(Failure::Fatal(Error::failed(format!("{}: COMMIT did not commit the chunk", self.place))))
            }
            Err(error) => Err(self.failure(&error, Some(txid))),
        }
    }

    /// Asks a new connection what became of a transaction whose COMMIT was not answered.
    async fn was_committed(&mut self, txid: i64) -> Result<bool> {
        for attempt in 1..=ATTEMPTS {
            let asked = match self.link.get().await {
                Ok(connection) => answered(self.patience, status_of(connection, txid))
                    .await
                    .map_err(|error| Error::database(&self.place, &error)),
                Err(Failure::Fatal(error)) => return Err(error),
                Err(Failure::Transient(error, _) | Failure::TooSlow(error)) => Err(error),
                Err(Failure::Row(_)) => Err(Error::failed(format!("{}: no connection", self.place))),
            };
            match asked {
                Ok(Some(status)) if status == "committed" => return Ok(true),
                // The server may not have noticed yet that the connection is gone.
                Ok(Some(status)) if status == "in progress" => {}
                Ok(_) => return Ok(false),
                Err(error) => {
                    tracing::warn!("asking V2 what became of a chunk: {}", error.message());
                    self.link.discard(true).await;
                }
            }
            tokio::time::sleep(backoff(attempt)).await;
        }
        Err(Error::failed(format!("{}: nobody can tell whether the last chunk was committed", self.place))
            .help("run the same command again: the ledger, which was part of that transaction, decides"))
    }

    /// What an error that is no row's means for the chunk.
    pub(super) fn failure(&self, error: &sqlx::Error, committing: Option<i64>) -> Failure {
        let described = Error::database(&self.place, error);
        match classify(error) {
            Class::Transient => Failure::Transient(described, committing),
            Class::Row | Class::Fatal if self.impatient && is_cancelled(error) => Failure::TooSlow(described),
            Class::Row | Class::Fatal => Failure::Fatal(described),
        }
    }
}

/// A single row took too long: nothing is left to be halved.
fn too_slow(error: Error) -> Error {
    error.help(
        "a single row takes longer than statement_timeout lets it: raise it, or look at V2's triggers, and at the locks \
         that others hold there; `batch_size` is not to blame",
    )
}

async fn status_of(connection: &mut PgConnection, txid: i64) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar("select txid_status($1)").bind(txid).fetch_one(connection).await
}

/// Exponential, with jitter so that two writers that met in a deadlock do not meet again: 50 ms, 100 ms, … 3 s.
pub(super) fn backoff(attempt: u32) -> Duration {
    let base = (50_u64 << attempt.min(6)).min(3_000);
    failpoint::pause(Duration::from_millis(rand::rng().random_range(base / 2..=base)))
}

async fn copy_in(
    connection: &mut PgConnection,
    patience: Duration,
    sql: &str,
    bytes: &[u8],
    sent: usize,
) -> sqlx::Result<()> {
    let mut copy = answered(patience, connection.copy_in_raw(sql)).await?;
    failpoint::reach("postgres.copy.middle")?;
    // Slices keep the server working while the rest is on its way.
    for slice in bytes.chunks(256 * 1024) {
        answered(patience, async { copy.send(slice).await.map(drop) }).await?;
    }
    let written = answered(patience, copy.finish()).await?;
    if written != sent as u64 {
        let what = "rows of a COPY";
        return Err(sqlx::Error::Protocol(format!("the server took {written} of {sent} {what}")));
    }
    Ok(())
}

/// The line (from 0) that COPY's error context names: `COPY User, line 12, column email: …`.
fn line_of(error: &sqlx::Error) -> Option<usize> {
    let sqlx::Error::Database(database) = error else { return None };
    let context = database.try_downcast_ref::<PgDatabaseError>()?.r#where()?;
    let first = context.lines().next()?.strip_prefix("COPY ")?;
    let number = first.rsplit_once(", line ")?.1.split([',', ':']).next()?;
    number.trim().parse::<usize>().ok()?.checked_sub(1)
}

/// `INSERT` of rows that come as one array of text for each column.
pub(super) fn insert_sql(write: &Write) -> String {
    let names: Vec<_> = write.columns.iter().map(|column| quoted(&column.name)).collect();
    let values: Vec<_> =
        write.columns.iter().enumerate().map(|(i, column)| format!("c{i}::{}", column.type_name)).collect();
    let arrays: Vec<_> = (1..=write.columns.len()).map(|number| format!("${number}::text[]")).collect();
    let aliases: Vec<_> = (0..write.columns.len()).map(|i| format!("c{i}")).collect();
    format!(
        "insert into {} ({}) select {} from unnest({}) as line({})",
        table(&write.table),
        names.join(", "),
        values.join(", "),
        arrays.join(", "),
        aliases.join(", ")
    )
}
