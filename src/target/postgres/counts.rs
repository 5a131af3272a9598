//! Counts of a Postgres V2: every ledger line's records are there, no orphans, no duplicates.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::table;
use crate::error::{Error, Result};
use crate::ledger::literal;
use crate::plan::{AccountField, Accounts, Entity, Fill, Plan, When, Write};
use crate::source::quoted;
use crate::validate::Check;

/// Whether each ledger line's own record, account and role are there.
pub async fn records(v2: &mut PgConnection, place: &str, entity: &Entity) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    Counter { v2, place }.records(entity, &mut checks).await?;
    Ok(checks)
}

/// Rows of each table that the plan writes, and what is wrong with them.
pub async fn tables(
    v2: &mut PgConnection,
    place: &str,
    plan: &Plan,
) -> Result<(Vec<(String, u64)>, Vec<Check>)> {
    let mut counter = Counter { v2, place };
    let (mut counts, mut checks) = (Vec::new(), Vec::new());
    let names: BTreeSet<_> =
        plan.entities.iter().flat_map(|entity| &entity.writes).map(|write| &write.table).collect();
    for name in names {
        let rows = counter.count(&format!("select count(*) from {}", table(name))).await?;
        counts.push((name.name.clone(), rows));
        counter.orphans(&table(name), &name.name, &mut checks).await?;
    }
    if let Some(accounts) = &plan.accounts {
        counter.duplicates(accounts, &mut checks).await?;
    }
    Ok((counts, checks))
}

struct Counter<'c> {
    v2: &'c mut PgConnection,
    place: &'c str,
}

impl Counter<'_> {
    async fn count(&mut self, sql: &str) -> Result<u64> {
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut *self.v2)
            .await
            .map_err(|error| Error::database(self.place, &error))?;
        Ok(count.unsigned_abs())
    }

    async fn records(&mut self, entity: &Entity, checks: &mut Vec<Check>) -> Result<()> {
        for write in &entity.writes {
            let (column, ledger_id, outcomes, what) = match write.when {
                When::Row => (column_of(write, |fill| *fill == Fill::Id), "target_id", "'m', 'g'", "records"),
                When::Account => (account_column(write), "account_id", "'m', 'g'", "accounts"),
                When::Role => (account_column(write), "account_id", "'m', 'g'", "roles"),
                When::Each(_) => continue,
            };
            let Some((name, type_name)) = column else { continue };
            let found = self
                .count(&format!(
                    "select count(*) from v1v2.ledger as line where entity = {} and outcome in ({outcomes}) \
                     and {ledger_id} is not null and not exists (select from {} as record \
                     where record.{} = line.{ledger_id}::{type_name})",
                    literal(&entity.name),
                    table(&write.table),
                    quoted(name),
                ))
                .await?;
            checks.push(Check {
                what: format!("{what} of {} in {}", entity.name, write.table.name),
                found,
                meaning: format!("ledger lines whose {what} V2 does not have"),
            });
        }
        Ok(())
    }

    /// Rows that refer to a row that is not there, for every foreign key, also one that is not back yet.
    async fn orphans(&mut self, qualified: &str, name: &str, checks: &mut Vec<Check>) -> Result<()> {
        let keys = sqlx::query(
            "select c.conname::text, c.confrelid::regclass::text, \
                    array_agg(quote_ident(a.attname) order by k.n), array_agg(quote_ident(f.attname) order by k.n) \
             from pg_constraint c cross join unnest(c.conkey, c.confkey) with ordinality as k(own, other, n) \
             join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.own \
             join pg_attribute f on f.attrelid = c.confrelid and f.attnum = k.other \
             where c.contype = 'f' and c.conrelid = $1::regclass group by c.oid, c.conname, c.confrelid order by 1",
        )
        .bind(qualified)
        .fetch_all(&mut *self.v2)
        .await
        .map_err(|error| Error::database(self.place, &error))?;
        for row in keys {
            let failed = |error: sqlx::Error| Error::database(self.place, &error);
            let constraint: String = row.try_get(0).map_err(failed)?;
            let other: String = row.try_get(1).map_err(failed)?;
            let own: Vec<String> = row.try_get(2).map_err(failed)?;
            let theirs: Vec<String> = row.try_get(3).map_err(failed)?;
            let filled: Vec<_> = own.iter().map(|column| format!("own.{column} is not null")).collect();
            let same: Vec<_> = own.iter().zip(&theirs).map(|(a, b)| format!("other.{b} = own.{a}")).collect();
            let found = self
                .count(&format!(
                    "select count(*) from {qualified} as own where {} and not exists (select from {other} as other where {})",
                    filled.join(" and "),
                    same.join(" and ")
                ))
                .await?;
            checks.push(Check {
                what: format!("{name}: {constraint}"),
                found,
                meaning: format!("orphans: rows that refer to a row that {other} does not have"),
            });
        }
        Ok(())
    }

    async fn duplicates(&mut self, accounts: &Accounts, checks: &mut Vec<Check>) -> Result<()> {
        let columns = [&accounts.email_column, &accounts.phone_column, &accounts.username_column];
        for column in columns.into_iter().flatten() {
            let found = self
                .count(&format!(
                    "select count(*) from (select from {} where {column} is not null group by lower({column}::text) \
                     having count(*) > 1) as duplicate",
                    table(&accounts.table),
                    column = quoted(column)
                ))
                .await?;
            checks.push(Check {
                what: format!("{}.{column}", accounts.table.name),
                found,
                meaning: "values that several accounts share (upper and lower case count as the same)".into(),
            });
        }
        Ok(())
    }
}

fn column_of(write: &Write, wanted: impl Fn(&Fill) -> bool) -> Option<(&str, &str)> {
    let column = write.columns.iter().find(|column| !column.later && wanted(&column.fill))?;
    Some((&column.name, &column.type_name))
}

fn account_column(write: &Write) -> Option<(&str, &str)> {
    column_of(write, |fill| *fill == Fill::Account(AccountField::Id))
}
