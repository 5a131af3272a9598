//! Counts on both sides: every row of V1 in the ledger once, every ledger line's records in V2, no orphans, no
//! duplicates.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::{Check, EntityCounts, Report};
use crate::error::{Error, Result};
use crate::ledger::{Beside, literal};
use crate::plan::{AccountField, Accounts, Entity, Fill, Plan, When, Write};
use crate::row::unescape;
use crate::source::{Snapshot, quoted};
use crate::target::postgres::bulk;
use crate::target::postgres::lock::require_control_schema;
use crate::target::postgres::table;

/// Counts and compares. Without a snapshot of V1, V2 is compared with its own ledger only.
pub async fn compare_counts(
    plan: &Plan,
    mut snapshot: Option<&mut Snapshot>,
    v2: &mut PgConnection,
    place: &str,
    only: &Only<'_>,
) -> Result<Report> {
    require_control_schema(v2, place).await?;
    let mut report = Report::default();
    let mut counter = Counter { v2, place };
    for entity in plan.entities.iter().filter(|entity| only.wants(&entity.name)) {
        let mut counts = counter.accounting(&entity.name).await?;
        if let Some(snapshot) = snapshot.as_deref_mut() {
            let found = counter.beside(entity, snapshot).await?;
            counts.source_rows = Some(found.rows);
            if !only.is_partial(&entity.name) {
                report.checks.push(Check {
                    what: format!("{} in V1", entity.name),
                    found: found.missing,
                    meaning: "rows of V1 that the ledger does not account for".into(),
                });
            }
            report.checks.push(Check {
                what: format!("{} in the ledger", entity.name),
                found: found.gone,
                meaning: "lines of rows that V1 no longer has".into(),
            });
        }
        report.entities.push(counts);
        counter.records(entity, &mut report.checks).await?;
    }
    let tables: BTreeSet<_> =
        plan.entities.iter().flat_map(|entity| &entity.writes).map(|write| &write.table).collect();
    for name in tables {
        let rows = counter.count(&format!("select count(*) from {}", table(name))).await?;
        report.tables.push((name.name.clone(), rows));
        counter.orphans(&table(name), &name.name, &mut report.checks).await?;
    }
    if let Some(accounts) = &plan.accounts {
        counter.duplicates(accounts, &mut report.checks).await?;
    }
    report.checks.push(Check {
        what: "foreign keys and indexes".into(),
        found: bulk::missing(counter.v2, place).await?.len() as u64,
        meaning: "taken away by a bulk load and not back yet: run `v1v2 repair`".into(),
    });
    Ok(report)
}

/// Which part of the job is to be complete.
#[derive(Debug, Clone, Copy, Default)]
pub struct Only<'o> {
    /// These entities; all with `None`.
    pub entities: Option<&'o [String]>,
    /// Of these entities only a part was migrated, so V1 may have more rows than the ledger.
    pub partial: &'o [String],
}

impl Only<'_> {
    fn wants(&self, entity: &str) -> bool {
        self.entities.is_none_or(|names| names.iter().any(|name| name == entity))
    }

    fn is_partial(&self, entity: &str) -> bool {
        self.partial.iter().any(|name| name == entity)
    }
}

/// V1 beside the ledger.
#[derive(Default)]
struct Sides {
    rows: u64,
    missing: u64,
    gone: u64,
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

    /// Reads V1's keys side by side with the ledger's: equal numbers alone would not show that one row is missing and
    /// another one gone.
    async fn beside(&mut self, entity: &Entity, snapshot: &mut Snapshot) -> Result<Sides> {
        let source = &entity.source;
        let mut found = Sides::default();
        let mut ledger = Beside::open(self.v2, self.place, &entity.name, source.key_kind).await?;
        snapshot
            .read(source, Some(&[&source.key]), None, async |line| {
                let key = unescape(line.strip_suffix(b"\n").unwrap_or(line));
                found.rows += 1;
                found.missing += u64::from(ledger.find(&key, &mut found.gone).await?.is_none());
                Ok(true)
            })
            .await?;
        ledger.finish(&mut found.gone).await?;
        Ok(found)
    }

    async fn accounting(&mut self, entity: &str) -> Result<EntityCounts> {
        let mut counts = EntityCounts { entity: entity.to_owned(), ..EntityCounts::default() };
        let row =
            sqlx::query("select migrated, merged, skipped, rejected from v1v2.accounting where entity = $1")
                .bind(entity)
                .fetch_optional(&mut *self.v2)
                .await
                .map_err(|error| Error::database(self.place, &error))?;
        if let Some(row) = row {
            let count = |index: usize| row.try_get::<i64, _>(index).map(i64::unsigned_abs);
            let all = [count(0), count(1), count(2), count(3)];
            let [migrated, merged, skipped, rejected] = all.map(|count| count.unwrap_or_default());
            (counts.migrated, counts.merged, counts.skipped, counts.rejected) =
                (migrated, merged, skipped, rejected);
        }
        Ok(counts)
    }

    /// Whether each line's own record, account and role are there.
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
    let column = write.columns.iter().find(|column| wanted(&column.fill))?;
    Some((&column.name, &column.type_name))
}

fn account_column(write: &Write) -> Option<(&str, &str)> {
    column_of(write, |fill| *fill == Fill::Account(AccountField::Id))
}
