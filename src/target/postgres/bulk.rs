//! Bulk load: an empty V2 is filled without the foreign keys and indexes that only cost during the load.
//!
//! Checking a foreign key costs a look-up per row, and every further index a write per row; both are several times
//! cheaper to make once the rows are there. What is taken away is recorded in `v1v2.dropped`, with its exact
//! definition, in the transaction that takes it away, so that a killed run leaves a V2 that knows what it lacks:
//! running again, `rollback` and `repair` bring it back.
//!
//! Taken away are the foreign keys of the tables written, their indexes that are not unique, and unique ones over
//! columns whose values are unique by our own making: ids that are derived, and what the census gave to accounts. A
//! unique index over V1's values stays. Should somebody else write an email of ours during the load, its index cannot
//! come back: that is reported, and nothing is dropped. The ledger's own keys come back at the end too.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row as _};

use super::table;
use crate::connect::{self, Side};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::plan::{AccountField, Fill, KeyFrom, Plan, Policy, TableName, When};
use crate::settings::Settings;
use crate::source::quoted;
use crate::target::Told;

/// Something that was taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    no: i32,
    kind: String,
    /// Its table.
    pub table: TableName,
    /// Its name.
    pub name: String,
    definition: String,
}

/// Whether all tables that the plan writes are empty, and the ledger too.
pub async fn is_empty(connection: &mut PgConnection, plan: &Plan, place: &str) -> Result<bool> {
    let tables: BTreeSet<_> =
        plan.entities.iter().flat_map(|entity| &entity.writes).map(|write| &write.table).collect();
    if tables.is_empty() {
        return Ok(false);
    }
    let mut any: Vec<_> = tables.iter().map(|name| format!("exists (select from {})", table(name))).collect();
    any.push("exists (select from v1v2.ledger)".to_owned());
    let any: bool = sqlx::query_scalar(AssertSqlSafe(format!("select {}", any.join(" or "))))
        .fetch_one(connection)
        .await
        .map_err(|error| Error::database(place, &error))?;
    Ok(!any)
}

/// Takes away what only costs during the load; returns how many objects.
pub async fn begin(connection: &mut PgConnection, plan: &Plan, place: &str, run: i32) -> Result<usize> {
    let control = ["ledger", "conflicts"].map(|name| TableName { schema: "v1v2".into(), name: name.into() });
    let mut tables = unique_by_making(plan);
    for name in &control {
        tables.entry(name).or_default();
    }
    let mut transaction = connection.begin().await.map_err(|error| Error::database(place, &error))?;
    let mut count = 0;
    for (name, unique) in tables {
        let found = sqlx::query(DROPPABLE)
            .bind(&name.schema)
            .bind(&name.name)
            .bind(unique.alone.iter().copied().collect::<Vec<_>>())
            .bind(unique.together.iter().copied().collect::<Vec<_>>())
            .fetch_all(&mut *transaction)
            .await
            .map_err(|error| Error::database(place, &error))?;
        for row in found {
            let text = |index: usize| {
                row.try_get::<String, _>(index).map_err(|error| Error::database(place, &error))
            };
            let (kind, object, definition) = (text(0)?, text(1)?, text(2)?);
            sqlx::query(
                "insert into v1v2.dropped (kind, schema_name, table_name, name, definition, run) \
                 values ($1, $2, $3, $4, $5, $6)",
            )
            .bind(&kind)
            .bind(&name.schema)
            .bind(&name.name)
            .bind(&object)
            .bind(&definition)
            .bind(run)
            .execute(&mut *transaction)
            .await
            .map_err(|error| Error::database(place, &error))?;
            failpoint::reach("postgres.bulk.drop")?;
            let sql = match kind.as_str() {
                "index" => format!("drop index {}.{}", quoted(&name.schema), quoted(&object)),
                _ => format!("alter table {} drop constraint {}", table(name), quoted(&object)),
            };
            let dropped = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await;
            dropped.map_err(|error| {
                Error::database(place, &error)
                    .help("`--no-bulk` loads with all indexes and foreign keys in place")
            })?;
            count += 1;
        }
    }
    failpoint::reach("postgres.bulk.commit")?;
    transaction.commit().await.map_err(|error| Error::database(place, &error))?;
    failpoint::reach("postgres.bulk.dropped")?;
    Ok(count)
}

/// Columns of one table whose values are unique by our own making, so that a unique index over them (and whatever else)
/// cannot be violated by rows of ours.
#[derive(Default)]
struct UniqueByMaking<'p> {
    /// Each of these by itself.
    alone: BTreeSet<&'p str>,
    /// These taken together; nothing if empty.
    together: BTreeSet<&'p str>,
}

/// Derived ids differ from row to row. The census gives each account an email, a phone and a user name of its own,
/// and takes at most one row of each entity into an account, which therefore gets a role once, unless two entities
/// give the same one.
fn unique_by_making(plan: &Plan) -> BTreeMap<&TableName, UniqueByMaking<'_>> {
    let roles: Vec<_> =
        plan.entities.iter().filter_map(|entity| Some(&entity.account.as_ref()?.role)).collect();
    let distinct_roles = roles.iter().collect::<BTreeSet<_>>().len() == roles.len();
    let merges_inside = plan.accounts.as_ref().is_some_and(|of| of.policies.same_entity == Policy::Merge);
    let mut tables: BTreeMap<&TableName, UniqueByMaking<'_>> = BTreeMap::new();
    for write in plan.entities.iter().flat_map(|entity| &entity.writes) {
        let writers = plan
            .entities
            .iter()
            .filter(|entity| entity.writes.iter().any(|of| of.table == write.table))
            .count();
        let unique = tables.entry(&write.table).or_default();
        for column in &write.columns {
            let alone = match (&column.fill, write.when) {
                (Fill::Id, When::Row) | (Fill::DerivedId(_), _) => true,
                (Fill::Account(AccountField::Id), When::Row) => writers == 1 && !merges_inside,
                (
                    Fill::Account(
                        AccountField::Id | AccountField::Email | AccountField::Phone | AccountField::Username,
                    ),
                    When::Account,
                ) => true,
                _ => false,
            };
            let of_a_role = write.when == When::Role && distinct_roles && !merges_inside;
            let together = of_a_role
                && matches!(
                    &column.fill,
                    Fill::Account(AccountField::Id | AccountField::Role)
                        | Fill::Lookup { key: KeyFrom::Account(AccountField::Role), .. }
                );
            if alone {
                unique.alone.insert(&column.name);
            }
            if together {
                unique.together.insert(&column.name);
            }
        }
    }
    // An account alone says nothing about its roles.
    for unique in tables.values_mut().filter(|unique| unique.together.len() < 2) {
        unique.together.clear();
    }
    tables
}

/// Foreign keys first: a unique index cannot go while one depends on it. Indexes that a foreign key of a table that
/// is not written uses, replica identities and invalid indexes are left alone.
const DROPPABLE: &str = "
with target as (select format('%I.%I', $1::text, $2::text)::regclass as relation)
select kind, name, definition from (
  select 1 as rank, 'foreign key' as kind, conname::text as name, pg_get_constraintdef(c.oid) as definition
  from pg_constraint c, target where conrelid = relation and contype = 'f' and conparentid = 0
  union all
  select 2, 'index', i.relname::text, pg_get_indexdef(x.indexrelid)
  from pg_index x join pg_class i on i.oid = x.indexrelid, target
  where x.indrelid = relation and x.indisvalid and not x.indisprimary and not x.indisreplident and $1 <> 'v1v2'
    and not exists (select from pg_constraint c where c.conindid = x.indexrelid)
    and not exists (select from pg_inherits where inhrelid = x.indexrelid)
    and (not x.indisunique or exists (
      select from (select array_agg(a.attname::text) as names from unnest(x.indkey[0:x.indnkeyatts - 1]) as key(attnum)
                   join pg_attribute a on a.attrelid = relation and a.attnum = key.attnum) as columns
      where names && $3::text[] or (cardinality($4::text[]) > 0 and names @> $4::text[])))
  union all
  -- The ledger's primary keys are ours alone; its index of rejects costs nothing while there are none.
  select 2, 'constraint', conname::text, pg_get_constraintdef(c.oid)
  from pg_constraint c, target where conrelid = relation and contype = 'p' and $1 = 'v1v2'
) as found order by rank, name";

/// What was taken away and is not back yet, the largest tables first: they take longest to index.
pub async fn missing(connection: &mut PgConnection, place: &str) -> Result<Vec<Dropped>> {
    let rows = sqlx::query(
        "select no, kind, schema_name, table_name, name, definition from v1v2.dropped \
         order by pg_relation_size(to_regclass(format('%I.%I', schema_name, table_name))) desc nulls last, no",
    )
    .fetch_all(connection)
    .await
    .map_err(|error| Error::database(place, &error))?;
    let read = |row: &sqlx::postgres::PgRow| -> sqlx::Result<Dropped> {
        Ok(Dropped {
            no: row.try_get(0)?,
            kind: row.try_get(1)?,
            table: TableName { schema: row.try_get(2)?, name: row.try_get(3)? },
            name: row.try_get(4)?,
            definition: row.try_get(5)?,
        })
    };
    rows.iter().map(read).collect::<sqlx::Result<_>>().map_err(|error| Error::database(place, &error))
}

/// Brings everything back: indexes side by side, then foreign keys, first unvalidated (which is instant), then
/// validated side by side. `each` is told what is being made.
pub async fn restore(settings: &Settings, place: &str, each: &Told<'_>) -> Result<usize> {
    let mut connection = connect::another(Side::V2, settings).await?;
    let missing = missing(&mut connection, place).await?;
    let count = missing.len();
    let (foreign_keys, indexes): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|of| of.kind == "foreign key");
    // Each build ends by waiting for the disk; twice as many of them keep the processors busy meanwhile.
    let connections = 2 * settings.writers.max(1);
    side_by_side(settings, place, connections, indexes, each, |object| match object.kind.as_str() {
        "constraint" => {
            format!(
                "alter table {} add constraint {} {}",
                table(&object.table),
                quoted(&object.name),
                object.definition
            )
        }
        _ => object.definition.clone(),
    })
    .await?;
    for object in &foreign_keys {
        failpoint::reach("postgres.restore.foreign_key")?;
        let not_valid = if object.definition.ends_with("NOT VALID") { "" } else { " not valid" };
        let sql = format!(
            "do $restore$ begin if not exists (select from pg_constraint where conname = {name} \
             and conrelid = {relation}::regclass) then \
             alter table {table} add constraint {quoted} {definition}{not_valid}; end if; end $restore$",
            name = crate::ledger::literal(&object.name),
            relation = crate::ledger::literal(&table(&object.table)),
            table = table(&object.table),
            quoted = quoted(&object.name),
            definition = object.definition,
        );
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .map_err(|error| Error::database(place, &error))?;
    }
    connection.close().await.map_err(|error| Error::database(place, &error))?;
    side_by_side(settings, place, connections, foreign_keys, each, |object| {
        if object.definition.ends_with("NOT VALID") {
            return "select".to_owned();
        }
        format!("alter table {} validate constraint {}", table(&object.table), quoted(&object.name))
    })
    .await?;
    Ok(count)
}

/// Makes objects over several connections, each together with taking its line out of `v1v2.dropped`.
async fn side_by_side(
    settings: &Settings,
    place: &str,
    connections: usize,
    objects: Vec<Dropped>,
    each: &Told<'_>,
    sql_of: impl Fn(&Dropped) -> String,
) -> Result<()> {
    if objects.is_empty() {
        return Ok(());
    }
    let queue = std::sync::Mutex::new(objects.into_iter());
    let next = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    let worker = async || -> Result<()> {
        let mut connection = connect::another(Side::V2, settings).await?;
        while let Some(object) = next() {
            each(&object.name);
            failpoint::reach("postgres.restore.before")?;
            let sql = format!(
                "begin; set local maintenance_work_mem = '128MB'; {}; delete from v1v2.dropped where no = {}; commit",
                sql_of(&object),
                object.no
            );
            let made = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await;
            made.map_err(|error| {
                let what = format!("{place}: {} {:?} could not be brought back", object.kind, object.name);
                let reason = Error::database("", &error).message().trim_start_matches(": ").to_owned();
                Error::failed(format!("{what}: {reason}"))
                    .help("repair the rows, then run `v1v2 repair`; `v1v2 status` lists what is missing")
            })?;
            failpoint::reach("postgres.restore.after")?;
        }
        connection.close().await.map_err(|error| Error::database(place, &error))
    };
    let workers = (0..connections).map(|_| worker());
    futures_util::future::try_join_all(workers).await.map(drop)
}
