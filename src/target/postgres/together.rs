//! Brings tables up to date that have several records for one row of V1 (`each`): nothing tells which of the old ones became
//! which of the new, so all of them go, and come anew.

use std::collections::BTreeSet;

use sqlx::AssertSqlSafe;

use super::replace::Session;
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
        let mut edited = BTreeSet::new();
        let mut changed = Vec::new();
        for (row, is_edited, differs) in self.compare_together(update, rows, write, lines, &of).await? {
            if is_edited {
                edited.insert(row);
            }
            let goes = if is_edited { update.on_edited == OnEdited::Overwrite } else { differs };
            if goes {
                changed.push(row);
            }
        }
        if changed.is_empty() {
            return Ok(edited);
        }
        let rows = changed;
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

    /// Of each row: whether somebody has edited its records, and whether they are not what they would be.
    async fn compare_together(
        &mut self,
        update: &Update,
        rows: &[u32],
        write: &Write,
        lines: &Lines,
        of: &str,
    ) -> sqlx::Result<Vec<(u32, bool, bool)>> {
        let sent = Sent::of(write, lines, rows);
        let columns = || {
            let columns = write.columns.iter().enumerate();
            columns.filter(|(_, column)| compared(self.entity, column) != Stays::Always)
        };
        let have = columns().map(|(_, column)| format!("record.{}", quoted(&column.name)));
        let want = columns().map(|(index, column)| format!("sent.c{index}::{}", column.type_name));
        let (have, want) = (have.collect::<Vec<_>>().join(", "), want.collect::<Vec<_>>().join(", "));
        let numbers: Vec<String> = rows.iter().map(u32::to_string).collect();
        let untouched = self.stage.untouched();
        // The same records, each as often as the other side has it, add up to nothing.
        let sql = format!(
            "select t.n, coalesce(bool_or(edited), false), t.all_anew or coalesce(bool_or(balance <> 0), false) \
             from changing t left join \
               (select n, line, bool_or(edited) as edited, sum(side) as balance from \
                 (select t.n, row({have})::text collate \"C\" as line, not {untouched} as edited, 1 as side \
                  from changing t join {} as record on {of} \
                  union all select n, row({want})::text, false, -1 from {}) as sides \
                group by n, line) as lines using (n) \
             where t.n = any ('{{{}}}'::int[]) group by t.n, t.all_anew order by t.n",
            table(&write.table),
            sent.from(write),
            numbers.join(","),
        );
        let query = sent.bind(update, sqlx::query_as(AssertSqlSafe(sql)));
        let found: Vec<(i32, bool, bool)> =
            answered(self.patience, query.fetch_all(&mut *self.connection)).await?;
        Ok(found.into_iter().map(|(row, edited, differs)| (row as u32, edited, differs)).collect())
    }
}
