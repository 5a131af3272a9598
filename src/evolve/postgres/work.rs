//! Doing it: in one transaction with its own record, or statement by statement where Postgres does not allow one.

use std::time::Instant;

use sqlx::postgres::{PgDatabaseError, PgErrorPosition};
use sqlx::{AssertSqlSafe, PgConnection};

use super::bookkeeping;
use crate::definition::problem::{At, Problem, render};
use crate::error::{Error, INSUFFICIENT_PRIVILEGE, Result};
use crate::evolve::{Direction, Job, Script, Watch, Work};

/// SQLSTATE `active_sql_transaction`: of `CREATE INDEX CONCURRENTLY`, `VACUUM` and others in a transaction.
const NO_TRANSACTION: &str = "25001";

/// Applies it or takes it back.
pub(super) async fn run(
    connection: &mut PgConnection,
    job: &Job<'_>,
    watch: &Watch,
    place: &str,
) -> Result<()> {
    let failed = |error: sqlx::Error| Error::database(place, &error);
    // What stands half done goes on as it began, whatever its manifest says by now.
    let transactional = job.resume.map_or(job.evolution.transaction, |record| record.transactional);
    bookkeeping::begin(connection, job, transactional).await.map_err(failed)?;
    let began = Instant::now();
    let done = if transactional {
        in_transaction(connection, job, began, place).await
    } else {
        one_by_one(connection, job, (watch, began), place).await
    };
    let Err(error) = done else { return Ok(()) };
    // If the connection is gone, the record still says "running", and nobody holds the lock: that is told as well.
    if let Err(unsaid) = bookkeeping::fail(connection, job, error.message()).await {
        tracing::debug!("the failure could not be recorded: {}", Error::database(place, &unsaid));
    }
    let go_on = how_to_go_on(job, transactional);
    Err(match error.fix() {
        Some(fix) => {
            let help = format!("{fix}; {go_on}");
            error.help(help)
        }
        None => error.help(go_on),
    })
}

fn how_to_go_on(job: &Job<'_>, transactional: bool) -> String {
    let name = &job.evolution.name;
    let command = job.direction.as_str();
    match (transactional, job.direction) {
        (true, Direction::Up) => {
            format!("nothing of {name} is in V2; mend its script and run `v1v2 evolve {command}` again")
        }
        (true, Direction::Down) => {
            format!(
                "{name} is still applied as a whole; remove the cause (if you mend its script, let `v1v2 repair` accept it) and run \
                 `v1v2 evolve {command}` again"
            )
        }
        (false, _) => format!(
            "the statements of {name} before this one have been executed; mend this one (it may have left a part behind, such as an \
             invalid index) and run `v1v2 evolve {command}` again, which goes on with it"
        ),
    }
}

async fn in_transaction(
    connection: &mut PgConnection,
    job: &Job<'_>,
    began: Instant,
    place: &str,
) -> Result<()> {
    let failed = |error: sqlx::Error| Error::database(place, &error);
    plain(connection, "begin").await.map_err(failed)?;
    let work = async {
        if let Some(script) = job.script {
            for index in 0..script.parts() {
                execute(connection, script, index, place).await?;
            }
        }
        // A script's `set role` or `set local` must not stand in the way of the record.
        plain(connection, "reset role").await.map_err(failed)?;
        bookkeeping::finish(connection, job, milliseconds(began)).await.map_err(failed)?;
        plain(connection, "set constraints all immediate").await.map_err(failed)?;
        plain(connection, "commit").await.map_err(failed)
    };
    let done = work.await;
    if done.is_err() {
        // Does nothing, with a warning, where the commit itself has failed.
        plain(connection, "rollback").await.map_err(failed)?;
    }
    done
}

/// After each statement its success is noted, so that the next attempt begins with the one that failed.
async fn one_by_one(
    connection: &mut PgConnection,
    job: &Job<'_>,
    (watch, began): (&Watch, Instant),
    place: &str,
) -> Result<()> {
    let failed = |error: sqlx::Error| Error::database(place, &error);
    if let Some(script) = job.script {
        for index in job.done()..script.parts() {
            watch.check()?;
            let checksum = script.checksum_of(index);
            bookkeeping::advance(connection, job, (index, true), &checksum).await.map_err(failed)?;
            execute(connection, script, index, place).await?;
            let checksum = script.checksum_of(index + 1);
            bookkeeping::advance(connection, job, (index + 1, false), &checksum).await.map_err(failed)?;
        }
    }
    bookkeeping::finish(connection, job, milliseconds(began)).await.map_err(failed)
}

fn milliseconds(began: Instant) -> i64 {
    i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX)
}

/// A statement of ours that returns nothing.
pub(super) async fn plain(connection: &mut PgConnection, sql: &'static str) -> sqlx::Result<()> {
    sqlx::raw_sql(sql).execute(connection).await.map(drop)
}

/// Executes one statement of a script; how many rows it changed.
pub(super) async fn execute(
    connection: &mut PgConnection,
    script: &Script,
    index: usize,
    place: &str,
) -> Result<u64> {
    let Work::Sql(statements) = &script.work else { return Ok(0) };
    let Some(range) = statements.get(index) else { return Ok(0) };
    let sql = script.file.text[range.clone()].to_owned();
    match sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await {
        Ok(done) => Ok(done.rows_affected()),
        Err(error) => Err(located(&error, script, range, place)),
    }
}

/// The error with file, line and a caret: at the place that the server names, else at the statement.
fn located(error: &sqlx::Error, script: &Script, range: &std::ops::Range<usize>, place: &str) -> Error {
    let told = Error::database(place, error);
    let position = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        .and_then(|error| match error.position() {
            // The server counts characters from 1.
            Some(PgErrorPosition::Original(position)) => Some(position.saturating_sub(1)),
            _ => None,
        });
    let text = &script.file.text;
    let statement = &text[range.clone()];
    let (start, end) = match position.and_then(|position| statement.char_indices().nth(position)) {
        Some((offset, first)) => {
            let start = range.start + offset;
            let rest = &text[start..range.end];
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            (start, start + word.max(first.len_utf8()))
        }
        None => {
            let word = statement.find(char::is_whitespace).unwrap_or(statement.len());
            (range.start, range.start + word)
        }
    };
    let at = At { file: 0, start, end };
    let line = text[..at.start].matches('\n').count() + 1;
    let label = if position.is_some() { "here" } else { "this statement" };
    let problem = Problem::at(at, told.message().to_owned(), label);
    let message = format!("{}:{line}: {}", script.file.label, told.message());
    let located =
        Error::failed(message).details(render(&[problem], std::slice::from_ref(&script.file), false));
    let Some(code) = told.sqlstate() else { return located };
    let located = located.with_sqlstate(code);
    match (code, told.fix()) {
        (NO_TRANSACTION, _) => located.help(
            "what cannot be in a transaction goes into an evolution of its own, with `transaction = false` in its evolution.toml",
        ),
        (INSUFFICIENT_PRIVILEGE, Some(fix)) => located.help(fix),
        _ => located,
    }
}
