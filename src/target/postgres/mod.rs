//! Postgres as V2. Start with `writer.rs`: how a chunk is written, and what happens when the database refuses.

mod accounts;
mod bulk;
mod careful;
mod compare;
mod control;
mod copies;
mod counts;
mod definition;
mod ending;
mod foreign_keys;
mod lag;
mod link;
pub(crate) mod lock;
mod overview;
mod prune;
mod readback;
mod replace;
mod restore;
mod rollback;
mod sent;
mod stage;
mod structure;
mod together;
mod trial;
mod update;
mod which_run;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::PgConnection;

pub use crate::catalog::quote_table as table;
use crate::connect::{self, Side};
use crate::definition::Definitions;
use crate::error::Result;
use crate::plan::{self, Plan};
use crate::settings::Settings;
use crate::target::{Comparer, Control, Held, Logs, Replicas, RunName, Target, Told, Trial, Writer};

/// A V2 in Postgres.
pub struct Postgres {
    settings: Arc<Settings>,
    place: String,
}

impl Postgres {
    /// The V2 of the settings. Nothing is connected yet.
    pub fn new(settings: Arc<Settings>, place: String) -> Self {
        Self { settings, place }
    }
}

#[async_trait]
impl Target for Postgres {
    fn place(&self) -> &str {
        &self.place
    }

    fn logs(&self) -> Logs {
        Logs { conflicts: "v1v2.conflicts", rejects: "v1v2.outcomes" }
    }

    async fn plan(&self, definitions: &Definitions, v1: &mut PgConnection) -> Result<Plan> {
        let mut v2 = connect::postgres(Side::V2, &self.settings).await?;
        let (source, target) =
            (connect::place(Side::V1, &self.settings)?, connect::place(Side::V2, &self.settings)?);
        connect::same_database((&source, v1), (&target, &mut v2)).await?;
        plan::compile(definitions, v1, &mut v2).await
    }

    async fn control(&self) -> Result<Box<dyn Control>> {
        Ok(Box::new(control::Session::open(&self.settings, &self.place).await?))
    }

    async fn hold(&self) -> Result<Box<dyn Held>> {
        Ok(Box::new(lock::Held::take(&self.settings, &self.place).await?))
    }

    fn writer(&self, plan: &Arc<Plan>, run: RunName, _number: usize) -> Box<dyn Writer> {
        let place = self.place.clone();
        Box::new(writer::Writer::new(self.settings.clone(), plan.clone(), place, run.number))
    }

    async fn trial(&self, plan: &Arc<Plan>, with_rows: bool) -> Result<Box<dyn Trial>> {
        Ok(Box::new(trial::Trial::begin(&self.settings, plan, &self.place, with_rows).await?))
    }

    async fn comparer(&self, plan: &Arc<Plan>) -> Result<Box<dyn Comparer>> {
        Ok(Box::new(compare::Comparer::open(&self.settings, plan, &self.place).await?))
    }

    async fn replicas(&self) -> Result<Box<dyn Replicas>> {
        Ok(Box::new(lag::Replicas::open(&self.settings, &self.place).await?))
    }

    async fn restore(&self, each: &Told<'_>) -> Result<usize> {
        bulk::restore(&self.settings, &self.place, each).await
    }
}
