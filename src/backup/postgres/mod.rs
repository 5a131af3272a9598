//! Backups of Postgres, by its own `pg_dump` and `pg_restore`: they know what a dump must hold better than anybody. Around
//! them stands what they do not do: rows counted in the dump's own snapshot, an archive that is read back, a target
//! that was empty, and a comparison at the end.

mod contents;
mod data;
mod programs;
mod restore;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::postgres::PgConnection;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use self::programs::Programs;
pub(super) use self::restore::{alone, restore, what_is_there};
use super::folder::Draft;
use super::manifest::{FORMAT, Kind, Manifest};
use super::{MARKER, Observer, checksum, differing};
use crate::connect::{self, Side};
use crate::error::{Error, Result};
use crate::settings::Settings;

/// The archive, in `pg_dump`'s custom format.
const ARCHIVE: &str = "database.pgdump";

/// What tells this database from all others.
pub(super) async fn identity(connection: &mut PgConnection, settings: &Settings) -> Result<String> {
    let place = connect::place(Side::V2, settings)?;
    let identity = connect::identity(&place, connection).await?;
    let cluster = match identity.system {
        Some(system) => format!("cluster {system}"),
        // Not the start of the server: a backup is to be known after the next one, too.
        None => format!("server {}:{}", place.host, place.port),
    };
    Ok(format!("{cluster}/{}", place.database))
}

async fn server_version(place: &str, connection: &mut PgConnection) -> Result<String> {
    let version: String = sqlx::query_scalar("show server_version")
        .fetch_one(connection)
        .await
        .map_err(|error| Error::database(place, &error))?;
    Ok(version.split_whitespace().next().unwrap_or_default().to_owned())
}

pub(super) async fn create(settings: &Settings, root: &Path, observer: &dyn Observer) -> Result<PathBuf> {
    let place = connect::place(Side::V2, settings)?;
    let label = place.to_string();
    let failed = |error: sqlx::Error| Error::database(&label, &error);
    let programs = Programs::find().await?;
    let mut v2 = connect::postgres(Side::V2, settings).await?;
    let server = server_version(&label, &mut v2).await?;
    programs.require_for_server(&server)?;
    let identity = identity(&mut v2, settings).await?;
    let marked: bool = sqlx::query_scalar("select exists (select from pg_namespace where nspname = $1)")
        .bind(MARKER)
        .fetch_one(&mut v2)
        .await
        .map_err(failed)?;
    if marked {
        return Err(Error::refused(format!("{label} holds what is left of an interrupted restore"))
            .help("finish it first: `v1v2 backup restore --clean`"));
    }
    // Rows that a policy hides are an error, as in pg_dump.
    contents::run(&mut v2, "set row_security to off; begin isolation level repeatable read read only")
        .await
        .map_err(failed)?;
    let snapshot: String =
        sqlx::query_scalar("select pg_export_snapshot()").fetch_one(&mut v2).await.map_err(failed)?;
    let started = Timestamp::now();
    observer.step("counting");
    let tables = contents::tables(&label, &mut v2, |_| {}).await?;
    let roles = contents::roles(&label, &mut v2).await?;
    let mut draft = Draft::begin(root, &place.database, started)?;
    let work = async {
        dump(&programs, settings, &snapshot, &draft, observer).await?;
        // The counts' snapshot was the dump's, too, so neither may end before the other.
        contents::run(&mut v2, "commit").await.map_err(failed)?;
        let (bytes, sha256) = hash(draft.path().join(ARCHIVE)).await?;
        draft.add(ARCHIVE, bytes, sha256);
        observer.step("reading the backup back");
        let mut tables = tables;
        let found = read_back(&programs, &draft.path().join(ARCHIVE), &super::Unobserved).await?;
        let mut problems: Vec<String> = found.problem.into_iter().collect();
        for table in &mut tables {
            match found.tables.get(&table.full_name()) {
                Some(read) => {
                    table.sha256.clone_from(&read.sha256);
                    problems.extend(differing(table, read.rows, &read.sha256));
                }
                None if table.rows == 0 => {}
                None => problems.push(format!("{} is not in the archive", table.full_name())),
            }
        }
        if !problems.is_empty() {
            return Err(Error::failed("the backup cannot be read back as it was written; check the disk")
                .details(problems.join("\n")));
        }
        let mut manifest = Manifest {
            format: FORMAT,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            kind: Kind::Postgres,
            server,
            dumped_by: Some(programs.version.clone()),
            database: place.database.clone(),
            place: label.clone(),
            identity,
            started: started.to_string(),
            finished: Timestamp::now().to_string(),
            consistency: "one snapshot".to_owned(),
            rows: tables.iter().map(|table| table.rows).sum(),
            bytes: tables.iter().map(|table| table.bytes).sum(),
            files: Vec::new(),
            contents: tables,
            roles,
        };
        draft.describe(&mut manifest)
    };
    if let Err(error) = work.await {
        draft.discard();
        return Err(error);
    }
    draft.finish()
}

/// Lets `pg_dump` write the archive from the snapshot.
async fn dump(
    programs: &Programs,
    settings: &Settings,
    snapshot: &str,
    draft: &Draft,
    observer: &dyn Observer,
) -> Result<()> {
    let mut command = programs.dump(settings)?;
    // Its stdout is a file of ours, so that nobody else can have made it, and its mode is ours too.
    let file = draft.file(ARCHIVE)?;
    command.stdout(Stdio::from(file));
    command.args(["--format=custom", "--no-password", "--verbose"]).arg(format!("--snapshot={snapshot}"));
    if !settings.lock_timeout.is_zero() {
        command.arg(format!("--lock-wait-timeout={}", settings.lock_timeout.as_millis()));
    }
    let mut child =
        command.spawn().map_err(|error| Error::failed(format!("pg_dump does not start: {error}")))?;
    let mut kept = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            let text = String::from_utf8_lossy(&line);
            // pg_dump: dumping contents of table "public.User"
            match text.split_once("dumping contents of table ") {
                Some((_, table)) => observer.step(&format!("reading {}", table.replace('"', ""))),
                None if text.contains("rror:") => {
                    kept.extend_from_slice(&line);
                    kept.push(b'\n');
                }
                None => {}
            }
        }
    }
    let status = child.wait().await.map_err(|error| Error::failed(format!("pg_dump was lost: {error}")))?;
    if !status.success() {
        return Err(programs::failure("pg_dump", &kept));
    }
    let path = draft.path().join(ARCHIVE);
    let synced = tokio::fs::File::open(&path).await;
    let synced = match synced {
        Ok(file) => file.sync_all().await,
        Err(error) => Err(error),
    };
    synced.map_err(|error| super::folder::failed("sync", &path, &error))
}

async fn hash(path: PathBuf) -> Result<(u64, String)> {
    let work = tokio::task::spawn_blocking(move || checksum::of_file(&path)).await;
    work.map_err(|_| Error::failed("reading the backup panicked"))?
}

/// What an archive holds.
struct Archive {
    tables: std::collections::BTreeMap<String, data::Found>,
    /// Why it could not be read to its end.
    problem: Option<String>,
}

/// Lets `pg_restore` decompress everything, and counts.
async fn read_back(programs: &Programs, path: &Path, observer: &dyn Observer) -> Result<Archive> {
    let mut command = programs.read_only();
    command.args(["--data-only", "--file=-"]).arg(path).stdout(Stdio::piped());
    let mut child =
        command.spawn().map_err(|error| Error::failed(format!("pg_restore does not start: {error}")))?;
    let mut reader = data::Reader::default();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let data = async {
        let Some(mut stdout) = stdout else { return Ok(()) };
        let mut buffer = vec![0; 256 << 10];
        let mut told = 0;
        loop {
            match stdout.read(&mut buffer).await? {
                0 => return std::io::Result::Ok(()),
                read => reader.take(&buffer[..read]),
            }
            let rows: u64 = reader.tables.values().map(|table| table.rows).sum();
            observer.advance(rows - told);
            told = rows;
        }
    };
    let messages = async {
        let mut text = Vec::new();
        if let Some(stderr) = stderr {
            stderr.take(64 << 10).read_to_end(&mut text).await?;
        }
        std::io::Result::Ok(text)
    };
    let lost = |error: std::io::Error| Error::failed(format!("pg_restore was lost: {error}"));
    let ((), _messages) = tokio::try_join!(data, messages).map_err(lost)?;
    let status = child.wait().await.map_err(lost)?;
    let problem = if !status.success() {
        Some(format!("{ARCHIVE}: pg_restore cannot read it to its end"))
    } else {
        reader.is_cut().then(|| format!("{ARCHIVE} ends in the middle of a table"))
    };
    Ok(Archive { tables: reader.tables, problem })
}

/// What is damaged.
pub(super) async fn verify(path: &Path, manifest: &Manifest, observer: &dyn Observer) -> Result<Vec<String>> {
    let programs = Programs::find().await?;
    programs.require_for_dump(manifest.dumped_by.as_deref().unwrap_or_default())?;
    let mut problems = Vec::new();
    for file in &manifest.files {
        let (_, sha256) = hash(path.join(&file.name)).await?;
        if sha256 != file.sha256 {
            problems.push(format!("{} has changed: its SHA-256 is another one", file.name));
        }
    }
    observer.begin("backup", Some(manifest.rows));
    let found = read_back(&programs, &path.join(ARCHIVE), observer).await?;
    problems.extend(found.problem);
    for table in &manifest.contents {
        match found.tables.get(&table.full_name()) {
            Some(read) => problems.extend(differing(table, read.rows, &read.sha256)),
            None if table.rows == 0 => {}
            None => problems.push(format!("{} is missing", table.full_name())),
        }
    }
    Ok(problems)
}

/// How long the server may need to notice that a program is gone.
const GONE: Duration = Duration::from_secs(5);
