//! Writes reference data into Postgres, touching only rows that differ. Rows are matched by their id where the manifest
//! names one (so a code can be renamed), else by their key. The database compares, in its columns' own types: `1.0`
//! is not a change to a column that holds `1`.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::super::files::MANIFEST;
use super::super::mistakes::{Mistakes, did_you_mean};
use super::super::{ReferenceData, ReferenceTable, SetupFiles, TableSummary};
use super::{quoted, v2};
use crate::{Error, Result};

/// Loads all tables in the manifest's order.
pub(super) async fn reference(
    conn: &mut PgConnection,
    schema: &str,
    data: &ReferenceData,
    files: &SetupFiles,
) -> Result<Vec<TableSummary>> {
    let mut summaries = Vec::new();
    for table in &data.tables {
        let types = column_types(conn, schema, table, files).await?;
        let statement = Statement::new(schema, table, &types);
        statement.check_ids(conn, table, files).await?;
        let place = format!("V2, {}", files.place(&table.file));
        let run = async |conn: &mut PgConnection, sql: String| {
            statement.bind(&sql).execute(conn).await.map(|done| done.rows_affected())
        };
        let updated = run(conn, statement.update()).await.map_err(|error| Error::database(&place, &error))?;
        let inserted =
            run(conn, statement.insert()).await.map_err(|error| Error::database(&place, &error))?;
        let total: i64 =
            sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {}", statement.table)))
                .fetch_one(&mut *conn)
                .await
                .map_err(v2)?;
        let rows = table.rows.len() as u64;
        summaries.push(TableSummary {
            table: table.table.clone(),
            file: table.file.clone(),
            inserted,
            updated,
            unchanged: rows.saturating_sub(inserted + updated),
            others: u64::try_from(total).unwrap_or(0).saturating_sub(rows),
        });
    }
    Ok(summaries)
}

/// The type of each of the table's columns in V2, or what the manifest has wrong.
async fn column_types(
    conn: &mut PgConnection,
    schema: &str,
    table: &ReferenceTable,
    files: &SetupFiles,
) -> Result<Vec<String>> {
    let found: Vec<(String, String)> = sqlx::query_as(
        "select a.attname::text, format_type(a.atttypid, a.atttypmod)
         from pg_attribute a
         where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped",
    )
    .bind(format!("{}.{}", quoted(schema), quoted(&table.table)))
    .fetch_all(conn)
    .await
    .map_err(v2)?;
    let found: BTreeMap<String, String> = found.into_iter().collect();
    let mut mistakes = Mistakes::default();
    let place = files.place(MANIFEST);
    if found.is_empty() {
        mistakes.add(&place, format!("V2 has no table {}", quoted(&table.table)));
    }
    let names = table.columns.iter().map(|column| &column.name);
    for name in
        names.clone().chain(&table.updated).filter(|name| !found.is_empty() && !found.contains_key(*name))
    {
        let hint = did_you_mean(name, found.keys().map(String::as_str));
        mistakes.add(
            &place,
            format!("table {} of V2 has no column {}{hint}", quoted(&table.table), quoted(name)),
        );
    }
    mistakes.finish()?;
    Ok(names.filter_map(|name| found.get(name).cloned()).collect())
}

/// The parts that all statements on one table share.
struct Statement<'a> {
    /// With schema, quoted.
    table: String,
    /// `(select $1::text[] …) f`: the file's rows, in the columns' types.
    file: String,
    columns: Vec<String>,
    /// Positions of the columns by which a row of the file and one of V2 are the same.
    same: Vec<usize>,
    id: Option<usize>,
    key: &'a [usize],
    updated: Option<String>,
    /// One array per column.
    values: Vec<Vec<Option<String>>>,
    /// Column lists may be long: the lines come as one more array.
    lines: Vec<i64>,
}

impl<'a> Statement<'a> {
    fn new(schema: &str, table: &'a ReferenceTable, types: &[String]) -> Self {
        let columns: Vec<String> = table.columns.iter().map(|column| quoted(&column.name)).collect();
        let numbered = columns.iter().zip(types).enumerate();
        let cast: Vec<String> =
            numbered.clone().map(|(n, (column, kind))| format!("c{n}::{kind} as {column}")).collect();
        let arrays: Vec<String> = (1..=columns.len()).map(|n| format!("${n}::text[]")).collect();
        let names: Vec<String> = (0..columns.len()).map(|n| format!("c{n}")).collect();
        let file = format!(
            "(select {}, line from unnest({}, ${}::bigint[]) as u({}, line)) f",
            cast.join(", "),
            arrays.join(", "),
            columns.len() + 1,
            names.join(", ")
        );
        let column_values = |n: usize| table.rows.iter().map(|row| row.cells[n].to_text()).collect();
        Self {
            table: format!("{}.{}", quoted(schema), quoted(&table.table)),
            file,
            same: table.id.map_or_else(|| table.key.clone(), |id| vec![id]),
            id: table.id,
            key: &table.key,
            updated: table.updated.as_deref().map(quoted),
            values: (0..columns.len()).map(column_values).collect(),
            lines: table.rows.iter().map(|row| i64::try_from(row.line).unwrap_or(i64::MAX)).collect(),
            columns,
        }
    }

    fn bind(&self, sql: &str) -> sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments> {
        let mut query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        for values in &self.values {
            query = query.bind(values.clone());
        }
        query.bind(self.lines.clone())
    }

    fn matching(&self, positions: &[usize]) -> String {
        let equal = |n: &usize| format!("t.{0} = f.{0}", self.columns[*n]);
        positions.iter().map(equal).collect::<Vec<_>>().join(" and ")
    }

    /// Sets all columns of rows that are there and look different.
    fn update(&self) -> String {
        let others: Vec<&String> = self
            .columns
            .iter()
            .enumerate()
            .filter(|(n, _)| !self.same.contains(n))
            .map(|(_, column)| column)
            .collect();
        if others.is_empty() {
            // A table of keys only: what is there is right. Still takes the same arguments.
            return format!(
                "update {} t set {1} = t.{1} from {2} where false",
                self.table, self.columns[0], self.file
            );
        }
        let mut sets: Vec<String> = others.iter().map(|column| format!("{column} = f.{column}")).collect();
        sets.extend(self.updated.iter().map(|column| format!("{column} = current_timestamp")));
        let differ: Vec<String> =
            others.iter().map(|column| format!("t.{column} is distinct from f.{column}")).collect();
        format!(
            "update {} t set {} from {} where {} and ({})",
            self.table,
            sets.join(", "),
            self.file,
            self.matching(&self.same),
            differ.join(" or ")
        )
    }

    /// Adds the rows that are not there, in the file's order.
    fn insert(&self) -> String {
        let columns = self.columns.join(", ");
        let (also, now) = match &self.updated {
            Some(column) => (format!(", {column}"), ", current_timestamp"),
            None => (String::new(), ""),
        };
        format!(
            "insert into {table} ({columns}{also}) select {columns}{now} from {file} \
             where not exists (select from {table} t where {same}) order by line",
            table = self.table,
            file = self.file,
            same = self.matching(&self.same)
        )
    }

    /// An id is given once: other rows point at it. A key that V2 has under another id is refused.
    async fn check_ids(
        &self,
        conn: &mut PgConnection,
        table: &ReferenceTable,
        files: &SetupFiles,
    ) -> Result<()> {
        let Some(id) = self.id.map(|id| &self.columns[id]) else { return Ok(()) };
        let sql = format!(
            "select f.line, f.{id}::text, t.{id}::text from {file} join {table} t on {same} \
             where t.{id} <> f.{id} order by f.line",
            file = self.file,
            table = self.table,
            same = self.matching(self.key)
        );
        let place = format!("V2, {}", files.place(&table.file));
        let rows = self.bind(&sql).fetch_all(conn).await.map_err(|error| Error::database(&place, &error))?;
        let mut wrong = Vec::new();
        for row in &rows {
            let (line, ours, theirs): (i64, String, String) =
                (row.try_get(0).map_err(v2)?, row.try_get(1).map_err(v2)?, row.try_get(2).map_err(v2)?);
            wrong.push(format!(
                "{}:{line}: the file gives this row the id {ours}, but in V2's {} it has {theirs}",
                files.place(&table.file),
                quoted(&table.table)
            ));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let first = wrong.remove(0);
        let error = Error::refused(first).help("write V2's id into the file: other rows may point at it");
        Err(if wrong.is_empty() { error } else { error.details(wrong.join("\n")) })
    }
}
