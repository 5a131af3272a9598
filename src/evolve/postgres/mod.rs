//! Evolutions of Postgres. All that is written goes over the connection that holds the lock, so nobody who has lost the
//! lock can write: the server has ended their transaction with it.

mod bookkeeping;
mod trial;
mod work;

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{Evolution, Job, Record, Store, Watch};
use crate::connect::{self, Side};
use crate::error::{Error, Result};
use crate::ledger::literal;
use crate::settings::Settings;
use crate::target::postgres::lock::{ADVISORY_KEY, Held, RunLock};
use crate::target::{self, RunRecord, State, holder};

/// A Postgres that evolves.
pub struct Postgres {
    settings: Arc<Settings>,
    place: String,
    access: Access,
}

/// The connection, and by what right it writes.
enum Access {
    /// Without the lock, or with the bare advisory lock: V2 was never set up for a migration.
    Own(Box<PgConnection>),
    /// V2 was set up: the lock of a run, with its record.
    Run(Box<RunLock>),
    /// It was given back.
    Gone,
}

impl Postgres {
    /// Connects.
    pub(super) async fn open(settings: &Arc<Settings>) -> Result<Self> {
        let place = connect::place(Side::V2, settings)?.to_string();
        let connection = connect::postgres(Side::V2, settings).await?;
        Ok(Self { settings: settings.clone(), place, access: Access::Own(Box::new(connection)) })
    }

    fn connection(&mut self) -> Result<&mut PgConnection> {
        match &mut self.access {
            Access::Own(connection) => Ok(connection),
            Access::Run(lock) => Ok(lock.connection()),
            Access::Gone => Err(Error::failed(format!("{}: the lock was given back", self.place))),
        }
    }

    fn failed(&self, error: &sqlx::Error) -> Error {
        Error::database(&self.place, error)
    }

    /// Lets others see who has the lock.
    async fn name_session(&mut self) -> Result<()> {
        // The server cuts names off after 63 bytes.
        let name = format!("v1v2 evolve, {}", holder());
        let sql = format!("set application_name to {}", literal(&name));
        let named = sqlx::raw_sql(AssertSqlSafe(sql)).execute(self.connection()?).await;
        named.map(drop).map_err(|error| self.failed(&error))
    }

    /// The advisory lock alone. Who has it shows in the name of the session.
    async fn lock_bare(&mut self) -> Result<()> {
        self.name_session().await?;
        let query = sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(ADVISORY_KEY);
        let locked: bool = query
            .fetch_one(self.connection()?)
            .await
            .map_err(|error| Error::database(&self.place, &error))?;
        if locked {
            return Ok(());
        }
        let holder: Option<String> = sqlx::query_scalar(
            "select a.application_name from pg_locks l join pg_stat_activity a using (pid) \
             where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.database = \
               (select oid from pg_database where datname = current_database()) \
               and (l.classid::int8 << 32 | l.objid::int8) = $1",
        )
        .bind(ADVISORY_KEY)
        .fetch_optional(self.connection()?)
        .await
        .map_err(|error| Error::database(&self.place, &error))?;
        let holder = holder.unwrap_or_else(|| "somebody who has just ended".to_owned());
        Err(Error::refused(format!("{} is in use by another run: {holder}", self.place))
            .help("wait until it has ended; if its program is dead, the server frees the lock by itself within moments"))
    }
}

#[async_trait]
impl Store for Postgres {
    fn place(&self) -> &str {
        &self.place
    }

    async fn is_prepared(&mut self) -> Result<bool> {
        let query = sqlx::query_scalar("select to_regclass('v1v2.ledger') is not null");
        let prepared = query.fetch_one(self.connection()?).await;
        prepared.map_err(|error| self.failed(&error))
    }

    async fn records(&mut self) -> Result<Vec<Record>> {
        let found = bookkeeping::records(self.connection()?).await;
        found.map_err(|error| self.failed(&error))
    }

    async fn lock(&mut self, record: &RunRecord) -> Result<()> {
        if self.is_prepared().await? {
            let held = Held::take(&self.settings, &self.place).await?;
            self.access = Access::Run(Box::new(held.record(record).await?));
        } else {
            self.lock_bare().await?;
        }
        let made = bookkeeping::make(self.connection()?).await;
        made.map_err(|error| self.failed(&error))
    }

    async fn run(&mut self, job: &Job<'_>, watch: &Watch) -> Result<()> {
        let (place, settings) = (self.place.clone(), self.settings.clone());
        let connection = self.connection()?;
        let done = work::run(connection, job, watch, &place).await;
        // What a script has set must not decide what the next one means.
        if done.is_ok() {
            connect::as_new(connection, Side::V2, &settings).await?;
            self.name_session().await?;
        }
        done
    }

    async fn attempt(&mut self, jobs: &[Job<'_>]) -> Result<Vec<Vec<String>>> {
        // Not the lock of a run, which leaves a record; this one shuts out the same people.
        self.lock_bare().await?;
        let place = self.place.clone();
        trial::attempt(self.connection()?, jobs, &place).await
    }

    async fn accept(&mut self, evolution: &Evolution) -> Result<()> {
        let accepted = bookkeeping::accept(self.connection()?, evolution).await;
        accepted.map_err(|error| self.failed(&error))
    }

    async fn release(&mut self, error: Option<&Error>) {
        if let Access::Run(lock) = std::mem::replace(&mut self.access, Access::Gone) {
            let state = match error.map(Error::kind) {
                None => State::Done,
                Some(crate::error::Kind::Interrupted) => State::Interrupted,
                Some(_) => State::Failed,
            };
            target::release(lock, state, error.map(Error::message), &serde_json::json!({})).await;
        }
        // Otherwise the lock ends with the connection.
    }
}
