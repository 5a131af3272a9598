//! Evolutions of Postgres. All that is written goes over the connection that holds the lock, so nobody who has lost the
//! lock can write: the server has ended their transaction with it.

mod bookkeeping;
mod trial;
mod work;

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::PgConnection;

use super::{Evolution, Job, Record, Store, Watch};
use crate::connect::{self, Side};
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::target::postgres::lock::{self, Held, RunLock};
use crate::target::{self, RunRecord, State};

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
        let place = self.place.clone();
        lock::name_session(self.connection()?, "evolve", &place).await
    }

    /// The advisory lock alone. Who has it shows in the name of the session.
    async fn lock_bare(&mut self) -> Result<()> {
        self.name_session().await?;
        let place = self.place.clone();
        lock::seize(self.connection()?, &place).await?;
        lock::require_whole(self.connection()?, &place).await
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
