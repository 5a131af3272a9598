//! Compares what V2 holds with what V1's rows become today, field by field.
//!
//! Values are compared as Postgres compares them in a row of the same type: what was sent is cast to the column's type, so a
//! number of another scale, a padded text or a cut fraction of a second is judged as V2 would store it.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection};

use super::replace::{Found, found_by};
use super::sent::Sent;
use super::table;
use crate::connect::{self, Side, answered};
use crate::error::{Error, Result};
use crate::plan::{Entity, Plan, Write};
use crate::row::Lines;
use crate::settings::Settings;
use crate::source::quoted;
use crate::target::stays::{Stays, compared};
use crate::target::{self, Batch, Difference};

/// A connection that only reads.
pub struct Comparer {
    connection: PgConnection,
    settings: Arc<Settings>,
    plan: Arc<Plan>,
    place: String,
}

impl Comparer {
    /// Connects.
    pub async fn open(settings: &Arc<Settings>, plan: &Arc<Plan>, place: &str) -> Result<Self> {
        let connection = connect::postgres(Side::V2, settings).await?;
        Ok(Self { connection, settings: settings.clone(), plan: plan.clone(), place: place.to_owned() })
    }

    /// Records with an id of their own.
    async fn by_id(
        &mut self,
        entity: &Entity,
        batch: &Batch,
        (write, lines): (&Write, &Lines),
        id: usize,
        found: &mut Vec<Difference>,
    ) -> sqlx::Result<()> {
        let Some(update) = &batch.update else { return Ok(()) };
        let sent = Sent::of(write, lines, &(0..batch.lines.len() as u32).collect::<Vec<_>>());
        if sent.is_empty() {
            return Ok(());
        }
        let types = full_types(&mut self.connection, write).await?;
        let mut differing = Vec::new();
        let mut columns = Vec::new();
        for (index, column) in write.columns.iter().enumerate() {
            let full_type =
                types.iter().find(|(name, _)| *name == column.name).map_or("text", |(_, full)| full);
            let record = format!("record.{}::text", quoted(&column.name));
            let differs = format!("{record} is distinct from sent.c{index}::{full_type}::text");
            match compared(entity, column) {
                // Records are found by it.
                _ if index == id => continue,
                Stays::Always => continue,
                Stays::Never => differing.push(differs),
                Stays::WithEmail => differing.push(format!("not sent.email and {differs}")),
                Stays::WithPhone => differing.push(format!("not sent.phone and {differs}")),
            }
            columns.push(column.name.as_str());
        }
        let of = &write.columns[id];
        let sql = format!(
            "select sent.n, record.tableoid is null, array[{}]::bool[] from {} left join {} as record on record.{} = sent.c{id}::{} \
             where record.tableoid is null or {}",
            differing.join(", "),
            sent.from(write),
            table(&write.table),
            quoted(&of.name),
            of.type_name,
            if differing.is_empty() { "false".to_owned() } else { differing.join(" or ") }
        );
        let query = sent.bind(update, sqlx::query_as(AssertSqlSafe(sql)));
        let rows: Vec<(i32, bool, Vec<bool>)> =
            answered(self.settings.patience(), query.fetch_all(&mut self.connection)).await?;
        for (row, missing, which) in rows {
            let key = &batch.lines[row as usize].key;
            let difference = |column: Option<&str>| Difference {
                table: write.table.name.clone(),
                entity: batch.name.to_string(),
                key: key.clone(),
                column: column.map(str::to_owned),
            };
            if missing {
                found.push(difference(None));
                continue;
            }
            let columns = columns.iter().zip(which).filter(|(_, differs)| *differs);
            found.extend(columns.map(|(column, _)| difference(Some(column))));
        }
        Ok(())
    }

    /// Tables with several records for a row of V1, compared as sets.
    async fn together(
        &mut self,
        entity: &Entity,
        batch: &Batch,
        (write, lines): (&Write, &Lines),
        (column, type_name, ledger): (&str, &str, &str),
        found: &mut Vec<Difference>,
    ) -> sqlx::Result<()> {
        let types = full_types(&mut self.connection, write).await?;
        let wanted = write.columns.iter().enumerate();
        let wanted: Vec<_> = wanted
            .filter(|(_, of)| of.name != column && compared(entity, of) != Stays::Always)
            .map(|(index, column)| {
                let full = types.iter().find(|(name, _)| *name == column.name);
                (index, column.name.as_str(), full.map_or("text", |(_, full)| full.as_str()))
            })
            .collect();
        let sent = Sent::of(write, lines, &(0..batch.lines.len() as u32).collect::<Vec<_>>());
        let keys: Vec<&str> =
            batch.lines.iter().filter(|line| line.reject.is_none()).map(|line| line.key.as_str()).collect();
        let numbers: Vec<i32> =
            (0..).zip(&batch.lines).filter(|(_, line)| line.reject.is_none()).map(|(row, _)| row).collect();
        let ours: Vec<_> =
            wanted.iter().map(|(index, _, full)| format!("sent.c{index}::{full}::text")).collect();
        let theirs: Vec<_> =
            wanted.iter().map(|(_, name, _)| format!("record.{}::text", quoted(name))).collect();
        let sets = write.columns.len() + 4;
        let of_row = format!(
            "(select known.n, {} from unnest(${sets}::int[], ${}::text[]) as known(n, key) \
              join v1v2.ledger t on t.key = known.key and t.entity = ${} join {} as record on record.{} = t.{ledger}::{type_name})",
            theirs.join(", "),
            sets + 1,
            sets + 2,
            table(&write.table),
            quoted(column)
        );
        let sent_rows = format!("(select sent.n, {} from {})", ours.join(", "), sent.from(write));
        let sql = format!(
            "select distinct n from (({sent_rows} except all {of_row}) union all ({of_row} except all {sent_rows})) as differing order by n"
        );
        let Some(update) = &batch.update else { return Ok(()) };
        let query = sent.bind(update, sqlx::query_as(AssertSqlSafe(sql)));
        let query = query.bind(numbers).bind(keys).bind(batch.name.to_string());
        let rows: Vec<(i32,)> =
            answered(self.settings.patience(), query.fetch_all(&mut self.connection)).await?;
        found.extend(rows.into_iter().map(|(row,)| Difference {
            table: write.table.name.clone(),
            entity: batch.name.to_string(),
            key: batch.lines[row as usize].key.clone(),
            column: Some("(the rows of this key)".to_owned()),
        }));
        Ok(())
    }
}

#[async_trait]
impl target::Comparer for Comparer {
    async fn compare(&mut self, batch: &mut Batch) -> Result<Vec<Difference>> {
        let plan = self.plan.clone();
        let entity = &plan.entities[batch.entity];
        let mut found = Vec::new();
        for (write, lines) in entity.writes.iter().zip(&batch.records.writes) {
            let compared = match found_by(entity, write) {
                Some(Found::ById(id)) => self.by_id(entity, batch, (write, lines), id, &mut found).await,
                Some(Found::Together(column, type_name, ledger)) => {
                    let by = (column, type_name, ledger);
                    self.together(entity, batch, (write, lines), by, &mut found).await
                }
                None => Ok(()),
            };
            compared.map_err(|error| Error::database(&self.place, &error))?;
        }
        Ok(found)
    }
}

/// The columns of a table with their types, modifiers included.
async fn full_types(connection: &mut PgConnection, write: &Write) -> sqlx::Result<Vec<(String, String)>> {
    sqlx::query_as(
        "select attname::text, format_type(atttypid, atttypmod) from pg_attribute \
         where attrelid = $1::text::regclass and attnum > 0 and not attisdropped",
    )
    .bind(table(&write.table))
    .fetch_all(connection)
    .await
}
