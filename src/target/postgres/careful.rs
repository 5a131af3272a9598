//! The careful way to write a chunk: finds the rows that the database refuses, and writes all others.

use std::ops::Range;
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};

use super::writer::{Failure, Writer, insert_sql};
use crate::connect::answered;
use crate::error::{Class, classify};
use crate::failpoint;
use crate::ledger::Reject;
use crate::plan::{Plan, Write};
use crate::row::Row;
use crate::row::{Lines, Rows};
use crate::target::Batch;

impl Writer {
    /// Writes a part of the chunk row set by row set under savepoints. `suspect` is the row that made the fast way fail.
    pub(super) async fn insert_carefully(
        &mut self,
        batch: &mut Batch,
        rows: &Range<u32>,
        suspect: Option<u32>,
    ) -> Result<(), Failure> {
        let txid = self.begin().await?;
        let plan = self.plan.clone();
        let patience = self.patience;
        let connection = self.link.get().await?;
        let inserted = insert_what_fits(connection, patience, &plan, batch, rows, suspect).await;
        inserted.map_err(|error| self.failure(&error, None))?;
        self.write_ledger(batch, rows, txid).await?;
        self.commit_transaction(txid).await
    }
}

/// Has constraints judge what was done so far that would only speak up at COMMIT, when nobody knows any more for which row.
pub(super) const SPEAK_UP: &str = "set constraints all immediate; set constraints all deferred";

/// Inserts those of the chunk's rows that the database accepts, and rejects the others. Runs inside a transaction.
///
/// # Errors
/// One that is no row's fault.
pub(super) async fn insert_what_fits(
    connection: &mut PgConnection,
    patience: Duration,
    plan: &Plan,
    batch: &mut Batch,
    rows: &Range<u32>,
    suspect: Option<u32>,
) -> sqlx::Result<()> {
    let writes = &plan.entities[batch.entity].writes;
    let all = rows.start..=rows.end.saturating_sub(1);
    let rows: Vec<u32> = rows.clone().filter(|&row| !batch.is_rejected(row)).collect();
    execute(connection, patience, "savepoint chunk").await?;
    // Parts are inserted in order, so of two rows that exclude each other the first one stays.
    let mut parts = Vec::new();
    match suspect.and_then(|row| rows.binary_search(&row).ok()) {
        Some(at) => parts.extend([&rows[at + 1..], &rows[at..=at], &rows[..at]]),
        None => parts.push(&rows[..]),
    }
    while let Some(part) = parts.pop() {
        let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
        execute(connection, patience, "savepoint part").await?;
        failpoint::reach("postgres.careful.part")?;
        let inserted = async {
            insert(&mut *connection, patience, writes, batch, *first..=*last).await?;
            execute(&mut *connection, patience, SPEAK_UP).await
        };
        match inserted.await {
            Ok(()) => execute(connection, patience, "release savepoint part").await?,
            Err(error) if classify(&error) == Class::Row => {
                execute(connection, patience, "rollback to savepoint part; release savepoint part").await?;
                if let [row] = part {
                    batch.reject(*row, refused(&error));
                } else {
                    let (front, back) = part.split_at(part.len() / 2);
                    parts.extend([back, front]);
                }
            }
            Err(error) => return Err(error),
        }
    }
    // Now that it is known who is refused, the others are written once more without savepoints: a row's `xmin` would be
    // that of its savepoint, and rollback would take it for a row that somebody has edited since.
    execute(connection, patience, "rollback to savepoint chunk; release savepoint chunk").await?;
    insert(connection, patience, writes, batch, all).await
}

async fn execute(connection: &mut PgConnection, patience: Duration, sql: &'static str) -> sqlx::Result<()> {
    answered(patience, sqlx::raw_sql(sql).execute(connection)).await.map(drop)
}

async fn insert(
    connection: &mut PgConnection,
    patience: Duration,
    writes: &[Write],
    batch: &Batch,
    part: std::ops::RangeInclusive<u32>,
) -> sqlx::Result<()> {
    for (write, lines) in writes.iter().zip(&batch.records.writes) {
        let rows = lines_of(lines, write.columns.len(), |row| part.contains(&row) && !batch.is_rejected(row));
        if rows.is_empty() {
            continue;
        }
        let sql = insert_sql(write);
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for column in 0..write.columns.len() {
            let values: Vec<_> =
                (0..rows.len()).map(|row| rows.row(row)).map(|row: Row<'_>| row.text(column)).collect();
            query = query.bind(values.iter().map(|value| value.as_deref()).collect::<Vec<Option<&str>>>());
        }
        let written = answered(patience, query.execute(&mut *connection)).await?.rows_affected();
        if written != rows.len() as u64 {
            let sent = rows.len();
            return Err(sqlx::Error::Protocol(format!(
                "the server took {written} of {sent} rows of an INSERT"
            )));
        }
    }
    Ok(())
}

pub(super) fn lines_of(lines: &Lines, width: usize, wanted: impl FnMut(u32) -> bool) -> Rows {
    let mut rows = Rows::new(width);
    for line in lines.iter_rows(wanted) {
        rows.push(line);
    }
    rows
}

/// The reject of a row that the database refused: its SQLSTATE, and what it says without any value.
pub(super) fn refused(error: &sqlx::Error) -> Reject {
    let sqlx::Error::Database(database) = error else { return Reject::new("database", "V2 refused the row") };
    let code = database.code().unwrap_or_default();
    let mut place = database.table().map(|table| format!("{table}: ")).unwrap_or_default();
    if let Some(postgres) = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
        && let Some(column) = postgres.column()
    {
        place = place.replace(": ", &format!(".{column}: "));
    }
    let what = match &*code {
        "23505" => "another row has the same unique value",
        "23503" => "it refers to a row that V2 does not have",
        "23502" => "the column must not be null",
        "23514" => "a check constraint is violated",
        "22001" => "a text is too long for its column",
        "22003" => "a number is out of range",
        "22P02" | "22007" | "22008" => "a value does not have the form of its column's type",
        "22021" => "a text has bytes that are not valid in V2's encoding",
        "22P05" => "a text has a character that V2's encoding lacks",
        "54000" => "a value is too long for an index",
        "P0001" => "a trigger of V2 refused the row",
        _ => "V2 refused the row",
    };
    let constraint = database.constraint().map(|name| format!(" (constraint {name})")).unwrap_or_default();
    Reject::new(format!("database-{code}"), format!("{place}{what}{constraint}"))
}
