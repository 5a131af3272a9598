//! Reads rows back and compares them with what was sent: a trigger or a policy of V2 may change or hide them without an
//! error, and everything else would still look right.
//!
//! Done inside the transaction that writes, for the first rows that a writer writes into each table: whatever
//! interferes with all rows is found before anything of it is in V2, and a load of millions of rows pays for some
//! thousands. Columns are compared as text after a cast of what was sent to the column's full type, so that a number
//! rounded to its scale, a padded text or a timestamp of less precision is the same.

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::table;
use crate::plan::Write;
use crate::row::{Row, Rows};
use crate::source::quoted;

/// What differs: the name of a column, or nothing for rows that are not found at all; and in how many of the rows.
pub struct Difference {
    pub column: Option<String>,
    pub rows: i64,
}

/// Compares; `sent` are the rows of this transaction.
pub async fn compare(
    connection: &mut PgConnection,
    write: &Write,
    sent: &Rows,
) -> sqlx::Result<Option<Difference>> {
    let types: Vec<(String, String, bool)> = sqlx::query_as(
        "select attname::text, format_type(atttypid, atttypmod), \
                exists (select from pg_index where indrelid = attrelid and indisprimary and attnum = any (indkey)) \
         from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped",
    )
    .bind(table(&write.table))
    .fetch_all(&mut *connection)
    .await?;
    let full_type = |name: &str| {
        types.iter().find(|(of, ..)| of == name).map_or("text", |(_, full_type, _)| full_type.as_str())
    };
    let sent_as: Vec<_> = write
        .columns
        .iter()
        .enumerate()
        .map(|(i, column)| format!("sent.c{i}::{}::text", full_type(&column.name)))
        .collect();
    let arrays: Vec<_> = (1..=write.columns.len()).map(|number| format!("${number}::text[]")).collect();
    let aliases: Vec<_> = (0..write.columns.len()).map(|i| format!("c{i}")).collect();
    let from = format!("unnest({}) as sent({})", arrays.join(", "), aliases.join(", "));
    // By the primary key each row has one counterpart, whose columns can be told apart. Other unique indexes may be away
    // during a bulk load.
    let written = |name: &String| write.columns.iter().position(|column| column.name == *name);
    let key = types.iter().filter(|(_, _, primary)| *primary).map(|(name, ..)| written(name));
    let key: Option<Vec<usize>> = key.collect::<Option<_>>().filter(|key: &Vec<_>| !key.is_empty());
    let sql = match key {
        Some(key) => {
            let same: Vec<_> = key
                .into_iter()
                .map(|column| {
                    let of = &write.columns[column];
                    let (name, full_type) = (quoted(&of.name), full_type(&of.name));
                    format!("record.{name} = sent.c{column}::{full_type}")
                })
                .collect();
            let differing = write.columns.iter().zip(&sent_as).map(|(column, sent)| {
                let record = format!("record.{}::text", quoted(&column.name));
                format!(
                    "count(*) filter (where record.tableoid is not null and {record} is distinct from {sent})"
                )
            });
            format!(
                "select count(*) filter (where record.tableoid is null), {} from {from} left join {} as record on {}",
                differing.collect::<Vec<_>>().join(", "),
                table(&write.table),
                same.join(" and ")
            )
        }
        None => {
            // All that this transaction wrote, as a whole.
            let record = write.columns.iter().map(|column| format!("record.{}::text", quoted(&column.name)));
            format!(
                "select count(*) from (select {} from {from} except all select {} from {} as record \
                 where record.xmin::text::bigint = (txid_current() & 4294967295)) as missing",
                sent_as.join(", "),
                record.collect::<Vec<_>>().join(", "),
                table(&write.table)
            )
        }
    };
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for column in 0..write.columns.len() {
        let values: Vec<_> =
            (0..sent.len()).map(|row| sent.row(row)).map(|row: Row<'_>| row.text(column)).collect();
        query = query.bind(values.iter().map(|value| value.as_deref()).collect::<Vec<Option<&str>>>());
    }
    let found = query.fetch_one(connection).await?;
    for index in 0..found.len() {
        let rows: i64 = found.try_get(index)?;
        if rows > 0 {
            let column = index.checked_sub(1).map(|index| write.columns[index].name.clone());
            return Ok(Some(Difference { column, rows }));
        }
    }
    Ok(None)
}
