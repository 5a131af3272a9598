//! A dry run's V2: temporary tables with the columns, constraints, indexes and rows of the real ones.
//!
//! A dry run has to find the rows that the database would refuse, and only the database knows them. Temporary tables
//! let it decide without a single row in V2; they are gone with the connection. What one chunk would leave is there for the
//! next one, as in a run; nobody waits for a lock of ours, and no trigger of the application is set off. The latter is what a
//! dry run cannot foretell.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::careful::insert_what_fits;
use super::copies::{self, Copies};
use super::replace::{How, Session};
use super::stage::{Stage, pretend_ledger, pretend_lines};
use super::{foreign_keys, prune, table};
use crate::connect::{self, Side};
use crate::error::{Class, Error, Result, classify};
use crate::plan::Plan;
use crate::settings::{OnEdited, Settings};
use crate::source::quoted;
use crate::target::{self, Batch, Pruned, SAMPLES};

/// No run.
const RUN: i32 = 0;

/// Writes chunks into temporary tables, over one connection.
pub struct Trial {
    connection: PgConnection,
    /// V2's own names.
    real: Arc<Plan>,
    /// Those of the temporary tables.
    plan: Plan,
    copies: Copies,
    place: String,
    patience: Duration,
    /// Whether V2 has rows that may change or go.
    with_rows: bool,
}

impl Trial {
    /// Makes the temporary tables, with the rows that V2 has now.
    pub async fn begin(settings: &Settings, plan: &Arc<Plan>, place: &str, with_rows: bool) -> Result<Self> {
        let mut connection = connect::another(Side::V2, settings).await?;
        let real = plan.clone();
        let mut plan = Plan::clone(plan);
        let copies = Copies::of(&real);
        let made = async {
            for of in copies.iter() {
                copies::make(&mut connection, of, with_rows).await?;
            }
            foreign_keys::make(&mut connection, &real, &copies, with_rows).await?;
            pretend_ledger(&mut connection).await
        };
        made.await.map_err(|error| match &error {
            sqlx::Error::Database(of) if of.code().as_deref() == Some("42501") => {
                Error::database(place, &error)
                    .help("a dry run needs the privilege TEMPORARY on V2's database")
            }
            _ => Error::database(place, &error),
        })?;
        for write in plan.entities.iter_mut().flat_map(|entity| &mut entity.writes) {
            if let Some(copy) = copies.get(&write.table) {
                write.table = copy.clone();
            }
        }
        let (place, patience) = (place.to_owned(), settings.patience());
        Ok(Self { connection, real, plan, copies, place, patience, with_rows })
    }

    async fn execute(&mut self, sql: &'static str) -> sqlx::Result<()> {
        sqlx::raw_sql(sql).execute(&mut self.connection).await.map(drop)
    }

    async fn insert(&mut self, batch: &mut Batch, rows: &Range<u32>) -> sqlx::Result<()> {
        self.execute("begin").await?;
        insert_what_fits(&mut self.connection, self.patience, &self.plan, batch, rows, None).await?;
        // Who may need the lines: removals, and the pass that fills in what was left out.
        if self.with_rows || self.plan.entities[batch.entity].is_completed_later() {
            pretend_lines(&mut self.connection, batch).await?;
        }
        self.execute("commit").await
    }

    /// As [`Writer::update`](super::writer::Writer): first all rows at once, then one by one.
    async fn update(&mut self, batch: &mut Batch, rows: &Range<u32>) -> sqlx::Result<()> {
        let mut one_by_one = false;
        loop {
            self.execute("begin").await?;
            let entity = &self.plan.entities[batch.entity];
            let (connection, patience) = (&mut self.connection, self.patience);
            let (run, how, stage) = (RUN, How::Changed, Stage::Copies);
            let mut session = Session { connection, patience, run, entity, how, stage };
            let updated = match session.update(batch, rows, one_by_one).await {
                Ok(()) => self.execute("commit").await,
                Err(error) => Err(error),
            };
            match updated {
                Ok(()) => return Ok(()),
                Err(error) if classify(&error) == Class::Row && !one_by_one => {
                    self.execute("rollback").await?;
                    one_by_one = true;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[async_trait]
impl target::Trial for Trial {
    async fn commit(&mut self, batch: &mut Batch) -> Result<()> {
        let rows = 0..u32::try_from(batch.lines.len()).unwrap_or(u32::MAX);
        let tried = match batch.update {
            Some(_) => self.update(batch, &rows).await,
            None => self.insert(batch, &rows).await,
        };
        tried.map_err(|error| Error::database(&self.place, &error))
    }

    async fn prune(&mut self, gone: &[(usize, &[String])], on_edited: OnEdited) -> Result<Vec<Pruned>> {
        let (connection, patience, run) = (&mut self.connection, self.patience, RUN);
        let place = prune::Place { connection, name: &self.place, patience, run, stage: Stage::Copies };
        prune::prune(place, &self.plan, gone, on_edited).await
    }

    async fn samples(&mut self, entities: &[usize]) -> Result<Vec<(String, Vec<String>)>> {
        let mut samples = Vec::new();
        let password = self.real.accounts.as_ref().and_then(|accounts| accounts.password_column.as_deref());
        for entity in entities.iter().map(|&index| &self.real.entities[index]) {
            for write in &entity.writes {
                let Some(copy) = self.copies.get(&write.table) else { continue };
                if samples.iter().any(|(table, _)| *table == write.table.name) {
                    continue;
                }
                let columns = write.columns.iter().map(|column| {
                    let name = quoted(&column.name);
                    match password {
                        Some(password) if password == column.name => format!("'***' as {name}"),
                        _ => name,
                    }
                });
                let sql = format!(
                    "select row_to_json(sample)::text from (select {} from {} limit {SAMPLES}) as sample",
                    columns.collect::<Vec<_>>().join(", "),
                    table(copy),
                );
                let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
                    .fetch_all(&mut self.connection)
                    .await
                    .map_err(|error| Error::database(&self.place, &error))?;
                samples.push((write.table.name.clone(), rows));
            }
        }
        Ok(samples)
    }

    async fn end(self: Box<Self>) -> Result<()> {
        self.connection.close().await.map_err(|error| Error::database(&self.place, &error))
    }
}
