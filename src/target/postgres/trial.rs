//! A dry run's V2: temporary tables with the columns, constraints and indexes of the real ones.
//!
//! A dry run has to find the rows that the database would refuse, and only the database knows them. Temporary tables
//! let it decide without a single row in V2; they are gone with the connection. Foreign keys are not part of them:
//! references between entities are checked by the engine itself.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::careful::insert_what_fits;
use super::table;
use crate::connect::{self, Side};
use crate::error::{Error, Result};
use crate::plan::{Plan, TableName};
use crate::settings::Settings;
use crate::source::quoted;
use crate::target::{self, Batch, SAMPLES};

/// Writes chunks into temporary tables, over one connection.
pub struct Trial {
    connection: PgConnection,
    /// V2's own names.
    real: Arc<Plan>,
    /// Those of the temporary tables.
    plan: Plan,
    place: String,
    patience: Duration,
}

impl Trial {
    /// Makes the temporary tables, with the rows that V2 has now.
    pub async fn begin(settings: &Settings, plan: &Arc<Plan>, place: &str, with_rows: bool) -> Result<Self> {
        let mut connection = connect::another(Side::V2, settings).await?;
        let real = plan.clone();
        let mut plan = Plan::clone(plan);
        let mut made: Vec<TableName> = Vec::new();
        for write in plan.entities.iter_mut().flat_map(|entity| &mut entity.writes) {
            let temporary = temporary(&write.table);
            if !made.contains(&temporary) {
                let mut sql = format!(
                    "create temporary table {} (like {} including all excluding comments excluding statistics)",
                    quoted(&temporary.name),
                    table(&write.table)
                );
                if with_rows {
                    sql.push_str(&format!(
                        "; insert into {} select * from {}",
                        table(&temporary),
                        table(&write.table)
                    ));
                }
                let made_it = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await;
                made_it.map_err(|error| {
                    Error::database(place, &error)
                        .help("a dry run needs the privilege TEMPORARY on V2's database")
                })?;
                made.push(temporary.clone());
            }
            write.table = temporary;
        }
        Ok(Self { connection, real, plan, place: place.to_owned(), patience: settings.patience() })
    }
}

#[async_trait]
impl target::Trial for Trial {
    async fn commit(&mut self, batch: &mut Batch) -> Result<()> {
        let failed = |error: sqlx::Error| Error::database(&self.place, &error);
        sqlx::raw_sql("begin").execute(&mut self.connection).await.map_err(failed)?;
        let rows = 0..u32::try_from(batch.lines.len()).unwrap_or(u32::MAX);
        let inserted =
            insert_what_fits(&mut self.connection, self.patience, &self.plan, batch, &rows, None).await;
        inserted.map_err(failed)?;
        sqlx::raw_sql("commit").execute(&mut self.connection).await.map(drop).map_err(failed)
    }

    async fn samples(&mut self, entities: &[usize]) -> Result<Vec<(String, Vec<String>)>> {
        let mut samples = Vec::new();
        let password = self.real.accounts.as_ref().and_then(|accounts| accounts.password_column.as_deref());
        for entity in entities.iter().map(|&index| &self.real.entities[index]) {
            for write in &entity.writes {
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
                    table(&temporary(&write.table)),
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

/// The temporary table for a table of V2. Two schemas may have tables of the same name.
fn temporary(table: &TableName) -> TableName {
    let mut name = format!("{}.{}", table.schema, table.name);
    // Postgres cuts names at 63 bytes; a hash keeps long ones apart.
    if name.len() > 63 {
        name = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(name.as_bytes()));
    }
    TableName { schema: "pg_temp".into(), name }
}
