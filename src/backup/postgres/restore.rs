//! Restores an archive. `pg_restore` works in one transaction and gets the archive through a pipe from us, so that it
//! cannot outlive us and commit half an hour later: the pipe breaks, and nothing of it is there. What was in the target
//! before goes in a transaction of its own, together with the mark that says so. Whoever has the lock of a run meanwhile is
//! this restore; should its connection be lost, the mark goes on keeping others out.

use std::path::Path;
use std::process::Stdio;

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::programs::{self, Programs};
use super::{ARCHIVE, GONE, contents, server_version};
use crate::backup::manifest::Manifest;
use crate::backup::{MARKER, Observer, Occupied, Restoring, folder};
use crate::connect::{self, Side};
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::target::postgres::lock;

/// By this name the server knows a `pg_restore` of ours.
const APPLICATION: &str = "v1v2 restore";

pub(in crate::backup) async fn what_is_there(settings: &Settings) -> Result<Occupied> {
    let place = connect::place(Side::V2, settings)?;
    let mut v2 = connect::postgres(Side::V2, settings).await?;
    let label = place.to_string();
    let contents = contents::in_the_way(&label, &mut v2).await?;
    let interrupted = "select obj_description(oid, 'pg_namespace') from pg_namespace where nspname = $1";
    let interrupted: Option<Option<String>> = sqlx::query_scalar(interrupted)
        .bind(MARKER)
        .fetch_optional(&mut v2)
        .await
        .map_err(|error| Error::database(&label, &error))?;
    let interrupted = interrupted.map(|comment| comment.unwrap_or_else(|| "restore".to_owned()));
    let prepared = contents.iter().any(|(name, _)| name == "table v1v2.lock");
    drop(v2.close().await);
    Ok(Occupied { database: place.database, place: label, contents, interrupted, prepared })
}

/// A connection with the lock of a run, which it keeps until it ends; who had lost the lock before cannot write any more. The
/// lock belongs to the database and not to v1v2's tables, so it outlives their removal.
pub(in crate::backup) async fn alone(settings: &Settings, occupied: &Occupied) -> Result<PgConnection> {
    let place = &occupied.place;
    let mut v2 = connect::postgres(Side::V2, settings).await?;
    lock::name_session(&mut v2, "backup restore", place).await?;
    lock::seize(&mut v2, place).await?;
    if occupied.prepared {
        lock::fence_off(&mut v2, place).await?;
    }
    Ok(v2)
}

pub(in crate::backup) async fn restore(
    settings: &Settings,
    mut v2: PgConnection,
    path: &Path,
    manifest: &Manifest,
    how: Restoring,
    observer: &dyn Observer,
) -> Result<()> {
    let place = connect::place(Side::V2, settings)?.to_string();
    let failed = |error: sqlx::Error| Error::database(&place, &error);
    let programs = Programs::find().await?;
    programs.require_for_dump(manifest.dumped_by.as_deref().unwrap_or_default())?;
    let version = server_version(&place, &mut v2).await?;
    require_alone(&place, &mut v2).await?;
    if !how.no_owner {
        require_roles(&place, &mut v2, manifest).await?;
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    clear(&place, &mut v2, &name, major).await?;
    feed(&programs, settings, path, how, observer).await?;
    observer.step("comparing");
    let mut problems = Vec::new();
    for table in &manifest.contents {
        let schema = table.schema.as_deref().unwrap_or_default();
        let rows = contents::count(&place, &mut v2, schema, &table.name).await?;
        if rows != table.rows {
            problems.push(format!("{} has {rows} rows instead of {}", table.full_name(), table.rows));
        }
        observer.advance(rows);
    }
    if !problems.is_empty() {
        return Err(Error::differences(format!("{place} does not hold what it should"))
            .help("see that nobody else writes there, then start again with --clean")
            .details(problems.join("\n")));
    }
    contents::run(&mut v2, &format!("drop schema {MARKER}")).await.map_err(failed)?;
    // The planner knows nothing of the new rows yet.
    observer.step("analyzing");
    contents::run(&mut v2, "analyze").await.map_err(failed)?;
    Ok(())
}

/// An earlier restore's `pg_restore` may still be at its last statements, after its archive has come to an end.
async fn require_alone(place: &str, v2: &mut PgConnection) -> Result<()> {
    let sql =
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = $1";
    let deadline = tokio::time::Instant::now() + GONE;
    loop {
        let others: i64 = sqlx::query_scalar(sql)
            .bind(APPLICATION)
            .fetch_one(&mut *v2)
            .await
            .map_err(|error| Error::database(place, &error))?;
        if others == 0 {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return Err(Error::refused(format!("another restore into {place} is still under way"))
                .help("wait for its end, then start again"));
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

async fn require_roles(place: &str, v2: &mut PgConnection, manifest: &Manifest) -> Result<()> {
    let sql = "select name from unnest($1) as name where name not in (select rolname::text from pg_roles) order by 1";
    let missing: Vec<String> = sqlx::query_scalar(sql)
        .bind(&manifest.roles)
        .fetch_all(v2)
        .await
        .map_err(|error| Error::database(place, &error))?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{place} has no role {}, which owns things in the backup or may use them",
        missing.join(", ")
    ))
    .help("create the roles first, or add --no-owner: everything then belongs to the user of the URL"))
}

/// Sets the mark and removes everything else, both or neither.
async fn clear(place: &str, v2: &mut PgConnection, backup: &str, version: u32) -> Result<()> {
    let failed = |error: sqlx::Error| Error::database(place, &error);
    let mut transaction = v2.begin().await.map_err(failed)?;
    let comment = format!("restore of {backup}, begun at {}", jiff::Timestamp::now());
    let mark = format!(
        "create schema if not exists {MARKER}; comment on schema {MARKER} is '{}'",
        comment.replace('\'', "''")
    );
    contents::run(&mut transaction, &mark).await.map_err(failed)?;
    if !contents::in_the_way(place, &mut transaction).await?.is_empty() {
        contents::remove_all(place, &mut transaction, version).await?;
    }
    transaction.commit().await.map_err(failed)?;
    Ok(())
}

/// Lets `pg_restore` read the archive from us, in one transaction.
async fn feed(
    programs: &Programs,
    settings: &Settings,
    path: &Path,
    how: Restoring,
    observer: &dyn Observer,
) -> Result<()> {
    let archive = path.join(ARCHIVE);
    let unreadable = |error: std::io::Error| folder::failed("read", &archive, &error);
    let mut file = tokio::fs::File::open(&archive).await.map_err(unreadable)?;
    let database = connect::place(Side::V2, settings)?.database;
    let mut command = programs.restore(settings)?;
    command.env("PGAPPNAME", APPLICATION).stdin(Stdio::piped());
    command.args(["--single-transaction", "--exit-on-error", "--no-password"]);
    if how.no_owner {
        command.args(["--no-owner", "--no-privileges"]);
    }
    // A bare name with = in it would be read as a connection string.
    let escaped = database.replace('\\', r"\\").replace('\'', r"\'");
    command.arg(format!("--dbname=dbname='{escaped}'"));
    observer.step("restoring");
    let mut child =
        command.spawn().map_err(|error| Error::failed(format!("pg_restore does not start: {error}")))?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let feeding = async {
        let Some(mut stdin) = stdin else { return Ok::<(), Error>(()) };
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = file.read(&mut buffer).await.map_err(unreadable)?;
            // Whoever stopped reading says why on stderr.
            if read == 0 || stdin.write_all(&buffer[..read]).await.is_err() {
                return Result::Ok(());
            }
        }
    };
    let listening = async {
        let mut text = Vec::new();
        if let Some(mut stderr) = stderr {
            // Unreadable messages are as good as none.
            drop(stderr.read_to_end(&mut text).await);
        }
        Ok::<_, Error>(text)
    };
    let ((), messages) = tokio::try_join!(feeding, listening)?;
    let status =
        child.wait().await.map_err(|error| Error::failed(format!("pg_restore was lost: {error}")))?;
    if status.success() { Ok(()) } else { Err(programs::failure("pg_restore", &messages)) }
}
