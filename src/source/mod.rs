//! Reads V1: everything from one snapshot, by COPY, in key order.
//!
//! One REPEATABLE READ transaction spans the whole run, so the census and the data passes see the same rows in the
//! same order, whatever the application does meanwhile. Reading is a hundred times faster than writing, so one
//! connection reads at a time, and a second one has V1 prepare what comes next; the transaction is read only, and a
//! read-only role suffices.

mod ahead;
pub mod files;
pub mod filter;
mod locks;

use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row as _};

pub use self::ahead::Ahead;
use self::files::Load;
pub use self::locks::despite_locks;
pub use crate::catalog::quote as quoted;
use crate::connect::{self, Side, answered};
use crate::error::{Error, Result};
use crate::ledger::literal;
use crate::plan::{KeyKind, Plan, Source};
use crate::settings::Settings;

/// Entities are sorted by their keys' bytes, which no index of V1 may offer. Sorting in memory halves what wide rows
/// cost V1's processor; at most two connections sort at a time.
const SORT_MEMORY: &str = "256MB";

/// A read-only view of V1 as it was when the run began.
pub struct Snapshot {
    connection: PgConnection,
    place: String,
    patience: Duration,
    /// Other connections would not see the tables that files have become.
    alone: bool,
}

impl Snapshot {
    /// Takes the snapshot. `place` names V1 in errors. Once a source has begun to send rows, it may not be silent for
    /// longer than `patience`; until then it may be sorting.
    pub async fn take(
        mut connection: PgConnection,
        place: String,
        patience: Duration,
        plan: &Plan,
    ) -> Result<Self> {
        files::load(&mut connection, &place, &plan.files, Load::Rows).await?;
        begin(&mut connection, &[], &place, patience).await?;
        Ok(Self { connection, place, patience, alone: !plan.files.is_empty() })
    }

    /// As [`Snapshot::take`], when nobody can empty or rewrite a table of the plan any more until the snapshot is closed.
    pub async fn of_locked_tables(
        mut connection: PgConnection,
        settings: &Settings,
        plan: &Plan,
    ) -> Result<Self> {
        let place = connect::place(Side::V1, settings)?.to_string();
        let patience = settings.patience();
        files::load(&mut connection, &place, &plan.files, Load::Rows).await?;
        let tables =
            despite_locks(settings, &mut connection, async |v1| locks::tables(v1, plan, &place).await);
        let tables = tables.await?;
        let begun =
            despite_locks(settings, &mut connection, async |v1| begin(v1, &tables, &place, patience).await);
        begun.await?;
        Ok(Self { connection, place, patience, alone: !plan.files.is_empty() })
    }

    /// What identifies V1: the cluster's system identifier (where the role may read it) and the database's name.
    pub async fn identity(&mut self) -> Result<(Option<String>, String)> {
        let row = sqlx::query("select current_database()::text").fetch_one(&mut self.connection).await;
        let name: String =
            row.and_then(|row| row.try_get(0)).map_err(|error| Error::database(&self.place, &error))?;
        let allowed = "select has_function_privilege('pg_control_system()', 'execute')";
        let allowed: bool = sqlx::query_scalar(allowed)
            .fetch_one(&mut self.connection)
            .await
            .map_err(|error| Error::database(&self.place, &error))?;
        if !allowed {
            return Ok((None, name));
        }
        let system = sqlx::query_scalar("select system_identifier::text from pg_control_system()")
            .fetch_one(&mut self.connection)
            .await
            .map_err(|error| Error::database(&self.place, &error))?;
        Ok((Some(system), name))
    }

    /// Number of rows of a source, within a filter.
    pub async fn count(&mut self, source: &Source, filter: Option<&str>) -> Result<u64> {
        let sql = format!("select count(*) from {}", relation(source, filter));
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut self.connection)
            .await
            .map_err(|error| Error::database(&self.place, &error))?;
        Ok(count.unsigned_abs())
    }

    /// The first and the last key, in key order; `None` for a source without rows.
    pub async fn key_range(&mut self, source: &Source) -> Result<Option<(String, String)>> {
        let key = order_key(source);
        let sql = format!(
            "select (select {name}::text from {from} order by {key} limit 1), \
             (select {name}::text from {from} order by {key} desc limit 1)",
            name = column(&source.key),
            from = relation(source, None),
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .fetch_one(&mut self.connection)
            .await
            .map_err(|error| Error::database(&self.place, &error))?;
        let first: Option<String> = row.try_get(0).map_err(|error| Error::database(&self.place, &error))?;
        let last: Option<String> = row.try_get(1).map_err(|error| Error::database(&self.place, &error))?;
        Ok(first.zip(last))
    }

    /// The keys of the rows that share their values of some columns with a row before them. Nulls share nothing.
    pub async fn repeated(&mut self, source: &Source, columns: &[&str]) -> Result<Vec<String>> {
        let columns: Vec<_> = columns.iter().map(|name| column(name)).collect();
        let filled: Vec<_> = columns.iter().map(|column| format!("{column} is not null")).collect();
        // Usually there are none, and counting groups tells that in half the time that numbering all rows takes.
        let any = format!(
            "select exists (select from {} where {} group by {} having count(*) > 1)",
            relation(source, None),
            filled.join(" and "),
            columns.join(", ")
        );
        let any: bool = sqlx::query_scalar(AssertSqlSafe(any))
            .fetch_one(&mut self.connection)
            .await
            .map_err(|error| Error::database(&self.place, &error))?;
        if !any {
            return Ok(Vec::new());
        }
        let sql = format!(
            "select key from (select {}::text as key, row_number() over (partition by {} order by {}) as number \
             from {} where {}) as numbered where number > 1",
            column(&source.key),
            columns.join(", "),
            order_key(source),
            relation(source, None),
            filled.join(" and ")
        );
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&mut self.connection)
            .await
            .map_err(|error| Error::database(&self.place, &error))
    }

    /// Reads columns of a source (all of them with `None`) in key order and hands each line of COPY text on.
    /// `each` returns `false` to stop early; the snapshot cannot be read any more after that.
    pub async fn read(
        &mut self,
        source: &Source,
        columns: Option<&[&str]>,
        filter: Option<&str>,
        mut each: impl AsyncFnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        self.read_in(Order::Key, source, columns, filter, &mut each).await
    }

    /// As [`Self::read`], of rows that [`Snapshot::begin_ahead`] has begun to read; with the same arguments.
    pub async fn read_begun(
        &mut self,
        begun: Option<Ahead>,
        source: &Source,
        columns: Option<&[&str]>,
        filter: Option<&str>,
        mut each: impl AsyncFnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        let mut portion = None;
        let mut begun = begun;
        if let Some(ahead) = &mut begun {
            portion = ahead.first().await;
        }
        let (Some(mut ahead), Some(mut lines)) = (begun, portion) else {
            return self.read(source, columns, filter, each).await;
        };
        while !lines.is_empty() {
            for line in &lines {
                if !each(line).await? {
                    return Ok(());
                }
            }
            lines = ahead.next().await?;
        }
        Ok(())
    }

    /// As [`Self::read`], of the rows with these keys (all with `None`), in whatever order is cheapest for V1.
    pub async fn scan(
        &mut self,
        source: &Source,
        columns: &[&str],
        keys: Option<&[String]>,
        mut each: impl AsyncFnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        let filter = match keys {
            None => None,
            Some([]) => return Ok(()),
            Some(keys) => {
                let keys: Vec<_> = keys.iter().map(|key| literal(key)).collect();
                Some(format!("{} in ({})", column(&source.key), keys.join(", ")))
            }
        };
        self.read_in(Order::Any, source, Some(columns), filter.as_deref(), &mut each).await
    }

    async fn read_in(
        &mut self,
        order: Order,
        source: &Source,
        columns: Option<&[&str]>,
        filter: Option<&str>,
        each: &mut impl AsyncFnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        let sql = copy_out(order, source, columns, filter);
        let place = &self.place;
        let mut lines =
            self.connection.copy_out_raw(&sql).await.map_err(|error| Error::database(place, &error))?;
        let mut patience = Duration::MAX;
        loop {
            let line = answered(patience, lines.try_next()).await;
            let Some(line) = line.map_err(|error| Error::database(place, &error))? else { break };
            patience = self.patience;
            if !each(&line).await? {
                break;
            }
        }
        Ok(())
    }

    /// Ends the snapshot.
    pub async fn close(self) -> Result<()> {
        self.connection.close().await.map_err(|error| Error::database(&self.place, &error))
    }
}

/// Begins the transaction of a snapshot. The tables are locked first: it is the first query that takes the snapshot, and
/// LOCK is none.
async fn begin(v1: &mut PgConnection, tables: &[String], place: &str, patience: Duration) -> Result<()> {
    let mut sql =
        format!("begin isolation level repeatable read, read only; set local work_mem = '{SORT_MEMORY}'");
    if !tables.is_empty() {
        sql.push_str(&format!("; lock table {} in access share mode", tables.join(", ")));
    }
    let Err(error) = answered(patience, sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *v1)).await else {
        return Ok(());
    };
    // For another try; if that fails too, so will the try.
    drop(answered(patience, sqlx::raw_sql("rollback").execute(v1)).await);
    Err(Error::database(place, &error))
}

/// A column of the source, as SQL.
fn column(name: &str) -> String {
    format!("source.{}", quoted(name))
}

fn relation(source: &Source, filter: Option<&str>) -> String {
    // The query may end in a comment: its own lines keep it from swallowing the parenthesis.
    let from = format!("(\n{}\n) as source", source.query);
    match filter {
        Some(filter) => format!("{from} where (\n{filter}\n)"),
        None => from,
    }
}

/// What the source is ordered by. Text keys go by bytes, because the ledger is read in the same order, on a server
/// whose collations may differ.
fn order_key(source: &Source) -> String {
    let key = column(&source.key);
    match source.key_kind {
        KeyKind::Text => format!("{key}::text collate \"C\""),
        KeyKind::Integer | KeyKind::Uuid => key,
    }
}

/// In which order rows are read.
#[derive(Clone, Copy)]
enum Order {
    Key,
    Any,
}

fn copy_out(order: Order, source: &Source, columns: Option<&[&str]>, filter: Option<&str>) -> String {
    let columns = match columns {
        Some(columns) => columns.iter().map(|name| column(name)).collect::<Vec<_>>(),
        None => source.columns.iter().map(|known| column(&known.name)).collect(),
    };
    let order = match order {
        Order::Key => format!(" order by {}", order_key(source)),
        Order::Any => String::new(),
    };
    format!("copy (select {} from {}{order}) to stdout", columns.join(", "), relation(source, filter))
}

/// Compares two keys the way both servers order them.
pub fn compare_keys(kind: KeyKind, a: &str, b: &str) -> std::cmp::Ordering {
    match kind {
        KeyKind::Text | KeyKind::Uuid => a.as_bytes().cmp(b.as_bytes()),
        KeyKind::Integer => {
            let number = |text: &str| text.parse::<i64>().unwrap_or(i64::MAX);
            number(a).cmp(&number(b))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::SourceColumn;

    #[test]
    fn copies_in_key_order() {
        let column = |name: &str| SourceColumn {
            name: name.into(),
            type_name: "text".into(),
            element_type: None,
            unique: false,
        };
        let source = Source {
            query: "select id, \"a\"\"b\" from t -- all".into(),
            key: "id".into(),
            key_index: 0,
            key_kind: KeyKind::Text,
            columns: vec![column("id"), column("a\"b")],
        };
        assert_eq!(
            copy_out(Order::Key, &source, None, Some("id > 'x'")),
            "copy (select source.\"id\", source.\"a\"\"b\" from (\nselect id, \"a\"\"b\" from t -- all\n) as source \
             where (\nid > 'x'\n) order by source.\"id\"::text collate \"C\") to stdout"
        );
    }

    #[test]
    fn numbers_compare_as_numbers() {
        assert!(compare_keys(KeyKind::Integer, "9", "10").is_lt());
        assert!(compare_keys(KeyKind::Text, "9", "10").is_gt());
    }
}
