//! Evolutions of MongoDB. What changes documents goes batch by batch, each batch in one transaction with the position that it
//! reached: a pipeline that is applied twice may lose data, so neither may be there without the other: see `batches.rs`.

mod batches;
mod bookkeeping;
mod command;
mod ids;
mod trial;
mod work;

use std::sync::Arc;

use async_trait::async_trait;

use super::{Evolution, Job, Record, Store, Watch};
use crate::connect::{self, Side};
use crate::error::{Error, INSUFFICIENT_PRIVILEGE, Kind, Result, UNAUTHORIZED, mongodb_code};
use crate::settings::Settings;
use crate::target::mongodb::session::is_prepared;
use crate::target::{self, RunLock, RunRecord, State};

/// A MongoDB that evolves.
pub struct MongoDb {
    settings: Arc<Settings>,
    v2: connect::MongoDb,
    place: String,
    lock: Option<Box<dyn RunLock>>,
}

impl MongoDb {
    /// Connects.
    pub(super) async fn open(settings: &Arc<Settings>) -> Result<Self> {
        let place = connect::place(Side::V2, settings)?.to_string();
        let v2 = connect::mongodb(settings).await?;
        Ok(Self { settings: settings.clone(), v2, place, lock: None })
    }

    fn failed(&self, error: &mongodb::error::Error) -> Error {
        Error::mongodb(&self.place, error)
    }
}

#[async_trait]
impl Store for MongoDb {
    fn place(&self) -> &str {
        &self.place
    }

    async fn is_prepared(&mut self) -> Result<bool> {
        is_prepared(&self.v2.database, &self.place).await
    }

    async fn records(&mut self) -> Result<Vec<Record>> {
        let records = bookkeeping::records(&self.v2.database).await;
        records.map_err(|error| match mongodb_code(&error) {
            // By SQL's code for it, whoever asked knows what to look at.
            Some(UNAUTHORIZED) => self.failed(&error).with_sqlstate(INSUFFICIENT_PRIVILEGE),
            _ => self.failed(&error),
        })
    }

    async fn lock(&mut self, record: &RunRecord) -> Result<()> {
        let target = target::mongodb::MongoDb::new(self.settings.clone(), self.place.clone());
        self.lock = Some(target.lock(record).await?);
        Ok(())
    }

    async fn run(&mut self, job: &Job<'_>, watch: &Watch) -> Result<()> {
        let Some(lock) = &self.lock else {
            return Err(Error::failed(format!("{}: the lock was given back", self.place)));
        };
        work::run(&self.v2, (&self.place, lock.run()), job, watch).await
    }

    async fn attempt(&mut self, jobs: &[Job<'_>]) -> Result<Vec<Vec<String>>> {
        trial::attempt(&self.v2.database, jobs, &self.place).await
    }

    async fn accept(&mut self, evolution: &Evolution) -> Result<()> {
        bookkeeping::accept(&self.v2.database, evolution).await.map_err(|error| self.failed(&error))
    }

    async fn release(&mut self, error: Option<&Error>) {
        let Some(lock) = self.lock.take() else { return };
        let state = match error.map(Error::kind) {
            None => State::Done,
            Some(Kind::Interrupted) => State::Interrupted,
            Some(_) => State::Failed,
        };
        target::release(lock, state, error.map(Error::message), &serde_json::json!({})).await;
    }
}
