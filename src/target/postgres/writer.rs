//! Writes chunks into a Postgres V2.
//!
//! The fast way is one transaction of `COPY … FROM STDIN`, table by table. When the database refuses a row, the
//! transaction is gone and so is the connection (a COPY that failed leaves the driver out of step with the server),
//! and the chunk is written again the careful way: `INSERT … SELECT unnest(…)` under savepoints, halving the rows
//! until each refused one stands alone. Only those are rejected; the others of the chunk are written.
//!
//! An error that goes away by itself (deadlock, restart of the server, lost connection) repeats the chunk. When the
//! connection is lost while COMMIT is under way nobody knows its outcome; then the ledger is asked, because it was
//! part of that transaction.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt;
use sqlx::postgres::PgDatabaseError;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::table;
use crate::connect::{self, Side};
use crate::error::{Class, Error, Result, classify};
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
    settings: Arc<Settings>,
    pub(super) plan: Arc<Plan>,
    pub(super) place: String,
    run: i32,
    connection: Option<PgConnection>,
    /// For ledger lines and conflicts: kept from chunk to chunk.
    spare: Lines,
}

/// Why a chunk was not written.
pub(super) enum Failure {
    /// The database refused a row, perhaps this one.
    Row(Option<u32>),
    /// Try again. With a number, the transaction may have been committed all the same.
    Transient(Error, Option<i64>),
    /// Stop.
    Fatal(Error),
}

#[async_trait]
impl target::Writer for Writer {
    async fn commit(&mut self, batch: &mut Batch) -> Result<()> {
        let mut careful = None;
        let mut attempt = 0;
        loop {
            let outcome = match careful {
                None => self.copy(batch).await,
                Some(suspect) => self.insert_carefully(batch, suspect).await,
            };
            let Err(failure) = outcome else { return Ok(()) };
            // Whatever failed, this connection may be out of step with its server: it is never used again.
            self.discard().await;
            match failure {
                Failure::Row(suspect) => careful = Some(suspect),
                Failure::Fatal(error) => return Err(error),
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
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn close(mut self: Box<Self>) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::debug!("closing a connection of V2: {}", Error::database(&self.place, &error));
        }
    }
}

impl Writer {
    /// A writer for one run. It connects when it is first needed.
    pub fn new(settings: Arc<Settings>, plan: Arc<Plan>, place: String, run: i32) -> Self {
        Self { settings, plan, place, run, connection: None, spare: Lines::default() }
    }

    async fn discard(&mut self) {
        if let Some(connection) = self.connection.take() {
            // The driver's own closing handshake would wait for replies that are out of step.
            if let Err(error) = connection.close_hard().await {
                tracing::debug!("dropping a connection of V2: {}", Error::database(&self.place, &error));
            }
        }
    }

    pub(super) async fn connection(&mut self) -> Result<&mut PgConnection, Failure> {
        if self.connection.is_none() {
            let opened = connect::another(Side::V2, &self.settings).await;
            // A server that is restarting refuses connections for a while.
            self.connection = Some(opened.map_err(|error| Failure::Transient(error, None))?);
        }
        match &mut self.connection {
            Some(connection) => Ok(connection),
            None => Err(Failure::Fatal(Error::failed("V2: no connection"))),
        }
    }

    /// Begins a transaction that only the holder of the run's lock can commit; returns its number.
    pub(super) async fn begin(&mut self) -> Result<i64, Failure> {
        let place = self.place.clone();
        let run = self.run;
        let connection = self.connection().await?;
        let begun = sqlx::raw_sql("begin").execute(&mut *connection).await;
        begun.map_err(|error| failure(&place, &error, None))?;
        // The row lock keeps another run from taking the lock over before this transaction has ended.
        let txid: Option<i64> =
            sqlx::query_scalar("select txid_current() from v1v2.lock where run = $1 for share")
                .bind(run)
                .fetch_optional(connection)
                .await
                .map_err(|error| failure(&place, &error, None))?;
        txid.ok_or_else(|| {
            Failure::Fatal(
                Error::failed(format!("{place}: this run has lost its lock to another run, and stops"))
                    .help("see `v1v2 status` for the run that goes on"),
            )
        })
    }

    async fn copy(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        let txid = self.begin().await?;
        let plan = self.plan.clone();
        let place = self.place.clone();
        let entity = &plan.entities[batch.entity];
        let connection = self.connection().await?;
        for (write, lines) in entity.writes.iter().zip(&batch.records.writes) {
            if lines.is_empty() {
                continue;
            }
            let columns: Vec<_> = write.columns.iter().map(|column| quoted(&column.name)).collect();
            let sql = format!("copy {} ({}) from stdin", table(&write.table), columns.join(", "));
            copy_in(connection, &sql, lines).await.map_err(|error| match classify(&error) {
                Class::Row => Failure::Row(line_of(&error).and_then(|line| lines.source_row(line))),
                _ => failure(&place, &error, None),
            })?;
        }
        self.write_ledger(batch, txid).await?;
        self.commit_transaction(txid).await
    }

    /// Ledger lines and conflicts, in the transaction of the records they describe.
    pub(super) async fn write_ledger(&mut self, batch: &Batch, txid: i64) -> Result<(), Failure> {
        let place = self.place.clone();
        let run = self.run;
        let connection = self.connection().await?;
        if batch.again {
            let keys: Vec<&str> = batch.lines.iter().map(|line| line.key.as_str()).collect();
            for known in ["v1v2.ledger", "v1v2.conflicts"] {
                sqlx::query(AssertSqlSafe(format!(
                    "delete from {known} where entity = $1 and key = any($2)"
                )))
                .bind(&*batch.name)
                .bind(&keys)
                .execute(&mut *connection)
                .await
                .map_err(|error| failure(&place, &error, None))?;
            }
        }
        let mut lines = std::mem::take(&mut self.spare);
        let connection = self.connection().await?;
        lines.clear();
        for (row, line) in (0_u32..).zip(&batch.lines) {
            let source =
                line.reject.as_ref().map(|_| String::from_utf8_lossy(batch.rows.row(row as usize).line()));
            ledger::append(&mut lines, row, txid, run, &batch.name, line, source.as_deref());
        }
        let sql = format!("copy v1v2.ledger ({}) from stdin", ledger::COLUMNS);
        copy_in(connection, &sql, &lines).await.map_err(|error| failure(&place, &error, None))?;
        lines.clear();
        for note in &batch.records.notes {
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
            copy_in(connection, sql, &lines).await.map_err(|error| failure(&place, &error, None))?;
        }
        self.spare = lines;
        Ok(())
    }

    pub(super) async fn commit_transaction(&mut self, txid: i64) -> Result<(), Failure> {
        let place = self.place.clone();
        let connection = self.connection().await?;
        let ended = sqlx::raw_sql("commit").execute(&mut *connection).await;
        ended.map_err(|error| match classify(&error) {
            // A deferred constraint speaks up at COMMIT.
            Class::Row => Failure::Row(None),
            _ => failure(&place, &error, Some(txid)),
        })?;
        // COMMIT of an aborted transaction is answered without an error, but it is a rollback.
        match status_of(connection, txid).await {
            Ok(Some(status)) if status == "committed" => Ok(()),
            Ok(_) => Err(Failure::Fatal(Error::failed(format!("{place}: COMMIT did not commit the chunk")))),
            Err(error) => Err(failure(&place, &error, Some(txid))),
        }
    }

    /// Asks a new connection what became of a transaction whose COMMIT was not answered.
    async fn was_committed(&mut self, txid: i64) -> Result<bool> {
        for attempt in 1..=ATTEMPTS {
            let place = self.place.clone();
            let asked = match self.connection().await {
                Ok(connection) => {
                    status_of(connection, txid).await.map_err(|error| Error::database(&place, &error))
                }
                Err(Failure::Transient(error, _) | Failure::Fatal(error)) => Err(error),
                Err(Failure::Row(_)) => Err(Error::failed(format!("{place}: no connection"))),
            };
            match asked {
                Ok(Some(status)) if status == "committed" => return Ok(true),
                // The server may not have noticed yet that the connection is gone.
                Ok(Some(status)) if status == "in progress" => {}
                Ok(_) => return Ok(false),
                Err(error) => {
                    tracing::warn!("asking V2 what became of a chunk: {}", error.message());
                    self.discard().await;
                }
            }
            tokio::time::sleep(backoff(attempt)).await;
        }
        Err(Error::failed(format!("{}: nobody can tell whether the last chunk was committed", self.place))
            .help("run the same command again: the ledger, which was part of that transaction, decides"))
    }
}

async fn status_of(connection: &mut PgConnection, txid: i64) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar("select txid_status($1)").bind(txid).fetch_one(connection).await
}

/// Exponential, with jitter so that two writers that met in a deadlock do not meet again: 50 ms, 100 ms, … 3 s.
fn backoff(attempt: u32) -> Duration {
    let base = (50_u64 << attempt.min(6)).min(3_000);
    Duration::from_millis(rand::rng().random_range(base / 2..=base))
}

pub(super) fn failure(place: &str, error: &sqlx::Error, committing: Option<i64>) -> Failure {
    let described = Error::database(place, error);
    match classify(error) {
        Class::Transient => Failure::Transient(described, committing),
        Class::Row | Class::Fatal => Failure::Fatal(described),
    }
}

async fn copy_in(connection: &mut PgConnection, sql: &str, lines: &Lines) -> sqlx::Result<()> {
    let mut copy = connection.copy_in_raw(sql).await?;
    // Slices keep the server working while the rest is on its way.
    for slice in lines.bytes().chunks(256 * 1024) {
        copy.send(slice).await?;
    }
    let written = copy.finish().await?;
    if written != lines.len() as u64 {
        let (sent, what) = (lines.len(), "rows of a COPY");
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
