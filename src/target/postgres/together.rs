//! Brings tables up to date that have several records for one row of V1 (`each`): nothing tells which of the old ones became
//! which of the new, so all of them go, and come anew.

use std::collections::BTreeSet;

use sqlx::AssertSqlSafe;

use super::replace::{Session, UNTOUCHED};
use super::sent::Sent;
use super::table;
use crate::connect::answered;
use crate::plan::Write;
use crate::row::Lines;
use crate::settings::OnEdited;
use crate::source::quoted;
use crate::target::Update;
use crate::target::stays::{Stays, compared};

impl Session<'_> {
    /// Tables with several records for a row of V1: unless they are what they would be, they go, and come anew.
    pub(super) async fn replace_together(
        &mut self,
        update: &Update,
        rows: &[u32],
        write: &Write,
        lines: &Lines,
        (column, type_name, ledger): (&str, &str, &str),
    ) -> sqlx::Result<BTreeSet<u32>> {
        let name = table(&write.table);
        let of = format!("record.{} = t.{ledger}::{type_name}", quoted(column));
        let numbers: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
        let sql = format!(
            "select distinct t.n from changing t join {name} as record on {of} \
             where t.n = any($1) and not {UNTOUCHED}"
        );
        let edited = sqlx::query_scalar(AssertSqlSafe(sql)).bind(&numbers);
        let edited: Vec<i32> = answered(self.patience, edited.fetch_all(&mut *self.connection)).await?;
        let edited: BTreeSet<u32> = edited.into_iter().map(|row| row as u32).collect();
        let rows: Vec<u32> = match update.on_edited {
            OnEdited::Keep => rows.iter().copied().filter(|row| !edited.contains(row)).collect(),
            OnEdited::Overwrite => rows.to_vec(),
        };
        let unchanged: BTreeSet<u32> = self
            .unchanged_together(update, &rows, write, lines, &of)
            .await?
            .difference(&edited)
            .copied()
            .collect();
        let rows: Vec<u32> = rows.into_iter().filter(|row| !unchanged.contains(row)).collect();
        if rows.is_empty() {
            return Ok(edited);
        }
        let numbers: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
        let list =
            format!("'{{{}}}'::int[]", numbers.iter().map(i32::to_string).collect::<Vec<_>>().join(","));
        let from = format!("changing t left join {name} as record on {of} where t.n = any({list})");
        self.keep(&write.table, "t.key", &from).await?;
        let sql = format!("delete from {name} as record using changing t where {of} and t.n = any($1)");
        let deleted = sqlx::query(AssertSqlSafe(sql)).bind(&numbers);
        answered(self.patience, deleted.execute(&mut *self.connection)).await?;
        let sent = Sent::of(write, lines, &rows);
        if !sent.is_empty() {
            self.insert(write, &sent).await?;
        }
        Ok(edited)
    }

    /// The rows whose records are what they would be.
    async fn unchanged_together(
        &mut self,
        update: &Update,
        rows: &[u32],
        write: &Write,
        lines: &Lines,
        of: &str,
    ) -> sqlx::Result<BTreeSet<u32>> {
        let sent = Sent::of(write, lines, rows);
        let columns = || {
            let columns = write.columns.iter().enumerate();
            columns.filter(|(_, column)| compared(self.entity, column) != Stays::Always)
        };
        let have = columns().map(|(_, column)| format!("record.{}", quoted(&column.name)));
        let want = columns().map(|(index, column)| format!("sent.c{index}::{}", column.type_name));
        let (have, want) = (have.collect::<Vec<_>>().join(", "), want.collect::<Vec<_>>().join(", "));
        let numbers: Vec<String> = rows.iter().map(u32::to_string).collect();
        let set = |row: &str, from: &str| {
            format!(
                "(select n, array_agg(line order by line) as lines \
                  from (select n, row({row})::text collate \"C\" as line from {from}) as single group by n)"
            )
        };
        let sql = format!(
            "select t.n from changing t left join {} as have using (n) left join {} as want using (n) \
             where t.n = any ('{{{}}}'::int[]) and not t.all_anew and have.lines is not distinct from want.lines",
            set(&have, &format!("changing t join {} as record on {of}", table(&write.table))),
            set(&want, &sent.from(write)),
            numbers.join(","),
        );
        let query = sent.bind(update, sqlx::query_as(AssertSqlSafe(sql)));
        let same: Vec<(i32,)> = answered(self.patience, query.fetch_all(&mut *self.connection)).await?;
        Ok(same.into_iter().map(|(row,)| row as u32).collect())
    }
}
