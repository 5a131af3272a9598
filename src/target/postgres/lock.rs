//! One run per V2 at a time, and its record.
//!
//! Two things together: an advisory lock, which the server takes away when the holder's connection dies, and the row
//! in `v1v2.lock`, which says who it is and which every chunk's transaction checks. So a run whose connection was
//! lost cannot go on writing once another one has taken the lock.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use super::ending::End;
use super::link::{self, Session};
use super::stage::Stage;
use super::{bulk, prune, rollback, which_run};
use crate::backup::{self, MARKER};
use crate::connect::{self, Side};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::ledger::literal;
use crate::plan::Plan;
use crate::settings::{OnEdited, Settings};
use crate::setup::require_control_version;
use crate::target::record::ENDED_WITHOUT_A_WORD;
use crate::target::{self, Pruned, RolledBack, RunName, RunRecord, State, ToTakeBack, holder};

/// Key of the advisory lock: the bytes of "v1v2" and a version. Advisory locks belong to one database.
pub const ADVISORY_KEY: i64 = 0x7631_7632_0001;

/// V2 is ours, and nothing was written yet: the moment for everything that may still refuse.
pub struct Held {
    connection: PgConnection,
    place: String,
    settings: Arc<Settings>,
    session: Session,
}

/// The right to write to V2, on record. During a run its connection does nothing but hold the lock and keep the run's
/// record; what is written over it can only be written while the lock is held.
pub struct RunLock {
    held: Held,
    run: RunName,
}

impl Held {
    /// Takes the lock, or refuses and says who holds it.
    pub async fn take(settings: &Arc<Settings>, place: &str) -> Result<Self> {
        let mut connection = connect::postgres(Side::V2, settings).await?;
        let failed = |error: sqlx::Error| Error::database(place, &error);
        seize(&mut connection, place).await?;
        require_whole(&mut connection, place).await?;
        require_control_schema(&mut connection, place).await?;
        failpoint::reach("postgres.lock.taken")?;
        fence_off(&mut connection, place).await?;
        failpoint::reach("postgres.lock.fenced")?;
        let session = link::session(&mut connection, settings.patience()).await.map_err(failed)?;
        Ok(Self { connection, place: place.to_owned(), settings: settings.clone(), session })
    }
}

#[async_trait]
impl target::Held for Held {
    async fn require_same_source(&mut self, record: &RunRecord) -> Result<()> {
        require_same_source(&mut self.connection, &self.place, record).await
    }

    async fn find_run(&mut self, id: Option<&str>) -> Result<ToTakeBack> {
        which_run::find_run(&mut self.connection, id, &self.place).await
    }

    async fn begin(self: Box<Self>, record: &RunRecord) -> Result<Box<dyn target::RunLock>> {
        Ok(Box::new(self.record(record).await?))
    }
}

impl Held {
    /// Records the run.
    pub async fn record(mut self, record: &RunRecord) -> Result<RunLock> {
        let place = self.place.clone();
        let failed = |error: sqlx::Error| Error::database(&place, &error);
        let id = Uuid::now_v7();
        let number: i32 = sqlx::query_scalar(
            "with over as (update v1v2.runs set state = 'failed', finished_at = clock_timestamp(), \
                             error = $8 \
                           where state = 'running'), \
                  begun as (insert into v1v2.runs (id, command, arguments, tool_version, source_system, source_database) \
                            values ($1, $2, $3, $4, $5, $6) returning no), \
                  holder as (insert into v1v2.lock (single, run, holder, pid) \
                             select true, no, $7, pg_backend_pid() from begun \
                             on conflict (single) do update set run = excluded.run, holder = excluded.holder, \
                               pid = excluded.pid, since = clock_timestamp()) \
             select no from begun",
        )
        .bind(id)
        .bind(record.command)
        .bind(&record.arguments)
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(&record.source_system)
        .bind(&record.source_database)
        .bind(holder())
        .bind(ENDED_WITHOUT_A_WORD)
        .fetch_one(&mut self.connection)
        .await
        .map_err(failed)?;
        failpoint::reach("postgres.run.recorded")?;
        Ok(RunLock { held: self, run: RunName { number, id } })
    }
}

impl RunLock {
    /// The connection that holds the lock.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.held.connection
    }
}

#[async_trait]
impl target::RunLock for RunLock {
    fn run(&self) -> RunName {
        self.run
    }

    async fn begin_bulk(&mut self, plan: &Plan) -> Result<()> {
        let Self { held: Held { connection, place, .. }, run } = self;
        let missing = bulk::missing(connection, place).await?;
        if missing.is_empty() && bulk::is_empty(connection, plan, place).await? {
            bulk::begin(connection, plan, place, run.number).await?;
        }
        Ok(())
    }

    async fn prune(
        &mut self,
        plan: &Plan,
        gone: &[(usize, &[String])],
        on_edited: OnEdited,
    ) -> Result<Vec<Pruned>> {
        let Self { held: Held { connection, place, settings, .. }, run } = self;
        let (patience, run, stage) = (settings.patience(), run.number, Stage::Real);
        let place = prune::Place { connection, name: place, patience, run, stage };
        prune::prune(place, plan, gone, on_edited).await
    }

    async fn rollback(
        &mut self,
        plan: &Plan,
        run: RunName,
        advance: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<RolledBack> {
        let Held { connection, place, .. } = &mut self.held;
        rollback::rollback(connection, plan, run, place, advance).await
    }

    async fn release(
        self: Box<Self>,
        state: State,
        error: Option<&str>,
        counts: &serde_json::Value,
    ) -> Result<()> {
        let Self { held, run } = *self;
        let Held { connection, place, settings, session } = held;
        let end = End { run: run.number, state, error, counts: counts.to_string() };
        if end.record(connection, &settings, &place, &session).await? {
            return Ok(());
        }
        Err(Error::failed(format!("{place}: another run has taken the lock over meanwhile")))
    }
}

/// Takes the advisory lock for as long as the connection lives, or refuses and says who holds it.
pub async fn seize(connection: &mut PgConnection, place: &str) -> Result<()> {
    seize_by(connection, place, "select pg_try_advisory_lock($1)").await
}

/// The same for as long as the transaction lasts that is open.
pub async fn seize_for_transaction(connection: &mut PgConnection, place: &str) -> Result<()> {
    seize_by(connection, place, "select pg_try_advisory_xact_lock($1)").await
}

async fn seize_by(connection: &mut PgConnection, place: &str, sql: &'static str) -> Result<()> {
    let locked: bool = sqlx::query_scalar(sql)
        .bind(ADVISORY_KEY)
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| Error::database(place, &error))?;
    if locked { Ok(()) } else { Err(held(connection, place).await?) }
}

/// By this name others see who has the lock where no record of a run can tell them: `v1v2 evolve, …`.
pub async fn name_session(connection: &mut PgConnection, command: &str, place: &str) -> Result<()> {
    // The server cuts names off after 63 bytes.
    let name = format!("v1v2 {command}, {}", holder());
    let sql = format!("set application_name to {}", literal(&name));
    let named = sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await;
    named.map(drop).map_err(|error| Error::database(place, &error))
}

/// Refuses a V2 that is being restored, or whose restore was interrupted. To be asked with the lock in hand: the mark is set
/// by whoever has the lock, and stays when that one loses it.
pub async fn require_whole(connection: &mut PgConnection, place: &str) -> Result<()> {
    let mark: Option<Option<String>> = sqlx::query_scalar(
        "select obj_description(oid, 'pg_namespace') from pg_namespace where nspname = $1",
    )
    .bind(MARKER)
    .fetch_optional(connection)
    .await
    .map_err(|error| Error::database(place, &error))?;
    match mark {
        None => Ok(()),
        Some(what) => Err(backup::half_restored(place, what.as_deref().unwrap_or("restore"))),
    }
}

/// A holder that lost the advisory lock with its connection may still have writers. After this none of their
/// transactions can begin, and those that were under way have ended, so what is read from now on stays true. It takes a
/// lock on the table: writers share the row, and a queue of them would let an update of it starve.
pub async fn fence_off(connection: &mut PgConnection, place: &str) -> Result<()> {
    let sql = format!(
        "begin; lock table v1v2.lock in exclusive mode; \
         update v1v2.lock set run = null, holder = {}, pid = pg_backend_pid(), since = clock_timestamp(); commit",
        literal(&holder())
    );
    let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await else { return Ok(()) };
    let error = Error::database(place, &error);
    if error.sqlstate() == Some("55P03") {
        return Err(Error::refused(format!(
            "{place}: an earlier run lost its lock, and one of its chunks is still being written"
        ))
        .help(
            "run the same command again in a moment, or end that program; lock_timeout says how long to wait",
        ));
    }
    Err(error)
}

/// Refuses a V2 that `setup` has not prepared, or that of another version.
pub async fn require_control_schema(connection: &mut PgConnection, place: &str) -> Result<()> {
    let there: bool = sqlx::query_scalar("select to_regclass('v1v2.ledger') is not null")
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| Error::database(place, &error))?;
    if there {
        let version = sqlx::query_scalar("select value from v1v2.meta where key = 'control_version'");
        let version: Option<String> =
            version.fetch_optional(connection).await.map_err(|error| Error::database(place, &error))?;
        return require_control_version(place, version.and_then(|version| version.parse().ok()));
    }
    Err(Error::refused(format!("{place} has no schema v1v2: it was not set up for a migration"))
        .help("run `v1v2 setup` first"))
}

/// A ledger describes one source: lines of another V1 would be taken for rows that are gone.
async fn require_same_source(connection: &mut PgConnection, place: &str, record: &RunRecord) -> Result<()> {
    let Some(database) = &record.source_database else { return Ok(()) };
    let row = sqlx::query(
        "select source_system, source_database from v1v2.runs \
         where source_database is not null and no in (select run from v1v2.ledger) \
           and (source_database <> $1 or source_system <> $2) limit 1",
    )
    .bind(database)
    .bind(&record.source_system)
    .fetch_optional(connection)
    .await
    .map_err(|error| Error::database(place, &error))?;
    let Some(row) = row else { return Ok(()) };
    let other: String = row.try_get(1).map_err(|error| Error::database(place, &error))?;
    let system: Option<String> = row.try_get(0).map_err(|error| Error::database(place, &error))?;
    let cluster = system.map(|system| format!(" of the cluster {system}")).unwrap_or_default();
    Err(Error::refused(format!(
        "the ledger in {place} was made from another V1: the database {other:?}{cluster}, not {database:?} of this one"
    ))
    .help("point V1_DATABASE_URL at that database, or use another V2 (or `v1v2 setup --clean`, which empties this one)"))
}

async fn held(connection: &mut PgConnection, place: &str) -> Result<Error> {
    let failed = |error: sqlx::Error| Error::database(place, &error);
    let holder: Option<(i32, String)> = sqlx::query_as(
        "select a.pid, coalesce(a.application_name, '') from pg_locks l join pg_stat_activity a using (pid) \
         where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.database = \
           (select oid from pg_database where datname = current_database()) \
           and (l.classid::int8 << 32 | l.objid::int8) = $1",
    )
    .bind(ADVISORY_KEY)
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed)?;
    let on_record = "select to_regclass('v1v2.lock') is not null";
    let on_record: bool = sqlx::query_scalar(on_record).fetch_one(&mut *connection).await.map_err(failed)?;
    // Not the record of a run that has ended: its lock may be somebody else's by now.
    let row = match &holder {
        Some((pid, _)) if on_record => sqlx::query(
            "select l.holder, to_char(r.started_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC', r.command, r.id::text \
             from v1v2.lock l join v1v2.runs r on r.no = l.run where l.pid = $1",
        )
        .bind(pid)
        .fetch_optional(connection)
        .await
        .map_err(failed)?,
        _ => None,
    };
    let who = match (row, holder) {
        (Some(row), _) => {
            let text = |index: usize| row.try_get::<String, _>(index).unwrap_or_default();
            format!("`{}` of {} (run {}, since {})", text(2), text(0), text(3), text(1))
        }
        (None, Some((_, name))) if name.starts_with("v1v2 ") => name,
        (None, Some(_)) => "a run that is just beginning or ending".to_owned(),
        (None, None) => "somebody who has just ended".to_owned(),
    };
    Ok(Error::refused(format!("{place} is in use by another run: {who}")).help(
        "wait until it has ended; if its program is dead, the server frees the lock by itself within moments",
    ))
}
