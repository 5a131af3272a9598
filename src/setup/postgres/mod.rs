//! Prepares a V2 of Postgres, in one transaction, so V2 is either ready or untouched. The tables themselves come from a
//! file (see [`SetupFiles`](super::SetupFiles)); nothing here knows their names.

mod clean;
mod load;
mod structure;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

pub use clean::what_clean_removes;

use super::{CONTROL_VERSION, SetupFiles, SetupSummary, files};
use crate::target::postgres::lock::{name_session, require_whole, seize_for_transaction};
use crate::{Error, Result};

/// How long setup waits for somebody else's lock on a table before it gives up.
const LOCK_TIMEOUT: &str = "10s";

/// The name of the database behind a connection: what `--clean` asks the user to type.
///
/// # Errors
/// Only if the server cannot be asked.
pub async fn database_name(conn: &mut PgConnection) -> Result<String> {
    sqlx::query_scalar("select current_database()::text").fetch_one(conn).await.map_err(v2)
}

/// Brings V2 to the state that `files` describe, in one transaction. With `clean`, removes first what an earlier
/// setup created, data included: the caller has asked the user. While it lasts it holds the lock of a run.
///
/// # Errors
/// Exit 2: mistakes in the files. Exit 5: V2 has tables of the same names and another structure, somebody else holds
/// the lock (another setup, a migration, a restore, …), or something that is not ours depends on what `clean` would remove. After any error V2
/// is as it was.
pub async fn apply(conn: &mut PgConnection, files: &SetupFiles, clean: bool) -> Result<SetupSummary> {
    // Mistakes in files are found before the database is asked for anything.
    let reference = files.reference()?;

    // Outside of the transaction: a name that is set inside of it goes with it, but others must see it meanwhile.
    name_session(conn, "setup", "V2").await?;
    let mut tx = conn.begin().await.map_err(v2)?;
    prepare_session(&mut tx).await?;
    let database = database_name(&mut tx).await?;
    require_whole(&mut tx, "V2").await?;
    let removed = if clean {
        clean::remove(&mut tx).await?
    } else {
        fence_off(&mut tx).await?;
        0
    };
    control_schema(&mut tx, files).await?;
    let structure = structure::ensure(&mut tx, files).await?;
    let tables = load::reference(&mut tx, &structure.schema, &reference, files).await?;
    remember(&mut tx, "control_version", &CONTROL_VERSION.to_string()).await?;
    remember(&mut tx, "tool_version", env!("CARGO_PKG_VERSION")).await?;
    tx.commit().await.map_err(v2)?;

    let (created, altered) = (structure.created, Vec::new());
    Ok(SetupSummary { database, schema: structure.schema, removed, created, altered, tables })
}

/// Settings for this transaction only, and the lock of a run, which needs no table and so can be had before there is any.
async fn prepare_session(conn: &mut PgConnection) -> Result<()> {
    execute(
        conn,
        format!("set local lock_timeout = '{LOCK_TIMEOUT}'; set local client_min_messages = warning"),
    )
    .await?;
    seize_for_transaction(conn, "V2").await
}

/// A run that lost its lock with its connection may still have writers: none of their transactions can begin from here on, and
/// those that are under way are waited for. (`--clean` takes their table away, which comes to the same.)
async fn fence_off(conn: &mut PgConnection) -> Result<()> {
    if exists(conn, "v1v2.lock").await? {
        let sql = "lock table v1v2.lock in exclusive mode; delete from v1v2.lock";
        execute(conn, sql.to_owned()).await?;
    }
    Ok(())
}

/// Creates what is missing of the schema `v1v2`, unless a newer program has been here.
async fn control_schema(conn: &mut PgConnection, files: &SetupFiles) -> Result<()> {
    if exists(conn, "v1v2.meta").await? {
        let version: Option<String> =
            sqlx::query_scalar("select value from v1v2.meta where key = 'control_version'")
                .fetch_optional(&mut *conn)
                .await
                .map_err(v2)?;
        let newer = version.and_then(|v| v.parse::<u32>().ok()).filter(|v| *v > CONTROL_VERSION);
        if let Some(newer) = newer {
            return Err(Error::refused(format!(
                "V2: its control schema has version {newer}, and this program knows versions up to {CONTROL_VERSION}"
            ))
            .help("use the newer v1v2 that set this database up"));
        }
    }
    run_script(conn, files, files::CONTROL).await?;
    run_script(conn, files, files::EVOLUTIONS).await
}

/// Writes one fact into `v1v2.meta` if it is not there like that already.
async fn remember(conn: &mut PgConnection, key: &str, value: &str) -> Result<()> {
    // Two statements, because ON CONFLICT locks, and so touches, even a row that it leaves as it is.
    sqlx::query("update v1v2.meta set value = $2 where key = $1 and value <> $2")
        .bind(key)
        .bind(value)
        .execute(&mut *conn)
        .await
        .map_err(v2)?;
    sqlx::query("insert into v1v2.meta (key, value) select $1, $2 where not exists (select from v1v2.meta where key = $1)")
        .bind(key)
        .bind(value)
        .execute(&mut *conn)
        .await
        .map_err(v2)?;
    Ok(())
}

/// Runs an SQL file; an error names the file and the line.
async fn run_script(conn: &mut PgConnection, files: &SetupFiles, name: &str) -> Result<()> {
    let text = files.text(name);
    let Err(error) = sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut *conn).await else {
        return Ok(());
    };
    Err(Error::database(&format!("V2, {}{}", files.place(name), line_of(&error, text)), &error))
}

/// `:12` for an error with a position in `text`; nothing for one without.
fn line_of(error: &sqlx::Error, text: &str) -> String {
    let position = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>())
        .and_then(|error| error.position());
    match position {
        // The server counts characters from 1.
        Some(sqlx::postgres::PgErrorPosition::Original(at)) => {
            format!(":{}", text.chars().take(at.saturating_sub(1)).filter(|c| *c == '\n').count() + 1)
        }
        _ => String::new(),
    }
}

/// Whether a table or view of this (quoted) name exists.
async fn exists(conn: &mut PgConnection, relation: &str) -> Result<bool> {
    sqlx::query_scalar("select to_regclass($1) is not null").bind(relation).fetch_one(conn).await.map_err(v2)
}

/// Runs statements that return nothing and were built here from quoted names.
async fn execute(conn: &mut PgConnection, sql: String) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.map(drop).map_err(v2)
}

/// One column of all rows of a query that was built here from quoted names.
async fn strings(conn: &mut PgConnection, sql: &str, argument: &str) -> Result<Vec<String>> {
    let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).bind(argument).fetch_all(conn).await.map_err(v2)?;
    rows.iter().map(|row| row.try_get(0).map_err(v2)).collect()
}

/// A name as SQL needs it, always in quotes.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An error of V2. Running into another session's lock is a refusal: nothing is broken.
fn v2(error: sqlx::Error) -> Error {
    let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
    if code.as_deref() == Some("55P03") {
        return Error::refused(format!(
            "V2: another session uses these tables and did not let go within {LOCK_TIMEOUT}"
        ))
        .help("stop what is running on V2 (a migration, the application), then run this again");
    }
    Error::database("V2", &error)
}
