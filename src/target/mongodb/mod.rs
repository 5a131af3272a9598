//! MongoDB as V2. Start with `writer`: how a chunk is written, and what happens when the database refuses.
//!
//! The engine converts a row once, whatever V2 is. What is left to do for MongoDB is to give the text of each field its BSON
//! type, to nest the fields, and to say which rows BSON cannot hold ([`document`]).

mod accounts;
mod array;
mod bulk;
mod change;
mod compare;
mod compose;
mod conflicts;
mod control;
mod counts;
mod date;
mod definition;
mod digest;
pub mod document;
mod foreseen;
mod groups;
mod hierarchy;
mod json;
mod lag;
mod ledger;
pub(crate) mod lock;
mod number;
mod overview;
mod plain;
mod prune;
mod raw;
mod references;
mod removal;
mod replaced;
mod restore;
mod rollback;
pub(crate) mod session;
mod shape;
mod splice;
mod step;
mod stored;
mod structure;
mod transaction;
mod trial;
mod update;
mod value;
mod which_run;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::PgConnection;

use crate::backup::mongodb::marker;
use crate::definition::Definitions;
use crate::error::Result;
use crate::plan::{self, Plan};
use crate::settings::Settings;
use crate::target::{
    Comparer, Control, Held, Logs, Replicas, RunLock, RunName, RunRecord, Target, Told, Trial, Writer,
};

/// A V2 in MongoDB.
pub struct MongoDb {
    shared: Arc<session::Shared>,
}

impl MongoDb {
    /// The V2 of the settings. Nothing is connected yet.
    pub fn new(settings: Arc<Settings>, place: String) -> Self {
        Self { shared: Arc::new(session::Shared::new(settings, place)) }
    }
}

impl MongoDb {
    /// Takes the lock for a command that needs no V2 which `setup` has prepared, records the run where it can be recorded,
    /// and sets up the fences.
    ///
    /// # Errors
    /// Refused, naming the holder, if another run has it.
    pub async fn lock(&self, record: &RunRecord) -> Result<Box<dyn RunLock>> {
        let connection = self.shared.connection().await?;
        marker::require_none(connection).await?;
        if session::is_prepared(&connection.database, &self.shared.place).await? {
            return self.hold().await?.begin(record).await;
        }
        let held = lock::Held::take_whole(&self.shared, Some(record.command)).await?;
        let run = RunName { number: 0, id: held.id() };
        Ok(Box::new(held.fence(run).await?))
    }
}

#[async_trait]
impl Target for MongoDb {
    fn place(&self) -> &str {
        &self.shared.place
    }

    fn logs(&self) -> Logs {
        Logs { conflicts: session::CONFLICTS, rejects: session::LEDGER }
    }

    async fn plan(&self, definitions: &Definitions, v1: &mut PgConnection) -> Result<Plan> {
        let connection = self.shared.connection().await?;
        plan::compile_mongodb(definitions, v1, &connection.database).await
    }

    async fn control(&self) -> Result<Box<dyn Control>> {
        Ok(Box::new(control::Session::open(&self.shared).await?))
    }

    async fn hold(&self) -> Result<Box<dyn Held>> {
        Ok(Box::new(lock::Held::take(&self.shared).await?))
    }

    fn writer(&self, plan: &Arc<Plan>, run: RunName, number: usize) -> Box<dyn Writer> {
        let ending = writer::Ending::Commit(number);
        Box::new(writer::Writer::new(self.shared.clone(), plan.clone(), run.number, ending))
    }

    async fn trial(&self, plan: &Arc<Plan>, with_rows: bool) -> Result<Box<dyn Trial>> {
        Ok(Box::new(trial::Trial::new(self.shared.clone(), plan.clone(), with_rows)))
    }

    async fn comparer(&self, plan: &Arc<Plan>) -> Result<Box<dyn Comparer>> {
        Ok(Box::new(compare::Comparer::new(self.shared.clone(), plan.clone())))
    }

    async fn replicas(&self) -> Result<Box<dyn Replicas>> {
        Ok(Box::new(lag::Replicas::open(&self.shared).await?))
    }

    async fn restore(&self, each: &Told<'_>) -> Result<usize> {
        bulk::restore(&self.shared, each).await
    }
}
