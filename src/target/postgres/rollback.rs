//! Takes a run back: exactly what it made, in reverse order, and nothing that somebody has edited since.
//!
//! A ledger line holds the transactions that wrote the row's records, and every row of Postgres holds the transaction
//! that wrote it last (`xmin`). Where the two agree, nobody has touched the record since, and it goes; where they do
//! not, the record stays and is listed. This costs nothing while loading. A dump and restore of V2 gives every row a
//! new `xmin`: then everything counts as edited, which keeps too much rather than too little.
//!
//! Rows that the run changed or removed, because V1 had changed or lost theirs, become what they were first
//! (`replace.rs`).
//!
//! An entity is rolled back in chunks, last entity first, each chunk's records and ledger lines in one transaction,
//! so a rollback that was killed goes on when it is run again.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::replace::{self, UNTOUCHED, XIDS};
use super::{definition, restore, structure, table};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::plan::{AccountField, Entity, Fill, KeyFrom, Plan, When, Write};
use crate::source::quoted;
use crate::target::{RolledBack, RunName};

/// Ledger lines in one transaction.
const CHUNK: i64 = 5_000;

/// Takes the run back. `advance` is told how many ledger lines are done.
pub async fn rollback(
    connection: &mut PgConnection,
    plan: &Plan,
    run: RunName,
    place: &str,
    advance: &(dyn Fn(u64) + Send + Sync),
) -> Result<RolledBack> {
    let mut result = RolledBack::of(run);
    let failed = |error: sqlx::Error| Error::database(place, &error);
    definition::begin_rollback(connection, run.number).await.map_err(failed)?;
    restore::restore(connection, plan, run.number, place, &mut result, advance).await?;
    for entity in plan.entities.iter().rev() {
        loop {
            let mut transaction = connection.begin().await.map_err(failed)?;
            // Last key first: what refers to an earlier row goes before it. Rows that refer to each other go in one
            // statement, at whose end foreign keys are checked.
            let taken = sqlx::query(AssertSqlSafe(format!(
                "create temporary table taken on commit drop as \
                 select key, outcome::text as outcome, {XIDS} as xids, account_id, target_id from v1v2.ledger \
                 where run = $1 and entity = $2 order by key desc limit $3",
            )))
            .bind(result.run)
            .bind(&*entity.name)
            .bind(if refers_to_itself(plan, entity) { i64::MAX } else { CHUNK })
            .execute(&mut *transaction)
            .await
            .map_err(failed)?
            .rows_affected();
            if taken == 0 {
                transaction.rollback().await.map_err(failed)?;
                break;
            }
            failpoint::reach("postgres.rollback.begun")?;
            sqlx::raw_sql("analyze taken").execute(&mut *transaction).await.map_err(failed)?;
            for write in entity.writes.iter().rev() {
                take_back(&mut transaction, entity, write, &mut result, place).await?;
                failpoint::reach("postgres.rollback.table")?;
            }
            sqlx::query(
                "with gone as (delete from v1v2.conflicts c using taken t where c.entity = $1 and c.key = t.key) \
                 delete from v1v2.ledger l using taken t where l.entity = $1 and l.key = t.key",
            )
            .bind(&*entity.name)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
            failpoint::reach("postgres.rollback.lines")?;
            replace::retried(&mut transaction, &entity.name, result.run).await.map_err(failed)?;
            // With the last chunk: without any line of it, nobody would find the run again to end its rollback.
            finish(&mut transaction, result.run).await.map_err(failed)?;
            failpoint::reach("postgres.rollback.commit")?;
            transaction.commit().await.map_err(failed)?;
            failpoint::reach("postgres.rollback.committed")?;
            result.lines += taken;
            advance(taken);
        }
    }
    // A run without lines has no last chunk.
    let mut transaction = connection.begin().await.map_err(failed)?;
    finish(&mut transaction, result.run).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    failpoint::reach("postgres.rollback.done")?;
    Ok(result)
}

/// What remains to be done once the run's last line is gone; nothing before.
pub(super) async fn finish(connection: &mut PgConnection, run: i32) -> sqlx::Result<()> {
    let marked = sqlx::query(
        "update v1v2.runs set state = 'rolled_back' where no = $1 \
         and not exists (select from v1v2.ledger where run = $1) and not exists (select from v1v2.replaced where run = $1 and how <> 's')",
    )
    .bind(run)
    .execute(&mut *connection)
    .await?;
    failpoint::reach("postgres.rollback.marked")?;
    if marked.rows_affected() > 0 {
        replace::end(connection, run).await?;
        definition::end_rollback(connection, run).await?;
    }
    // What decides about future ids is forgotten with the last line, so that V2 is as it was.
    sqlx::query("delete from v1v2.entities where not exists (select from v1v2.ledger)")
        .execute(&mut *connection)
        .await?;
    failpoint::reach("postgres.rollback.forgetting")?;
    structure::forget(connection).await
}

/// Whether rows of the entity refer to rows of the same one.
pub(super) fn refers_to_itself(plan: &Plan, entity: &Entity) -> bool {
    let itself = |index: usize| plan.entities.get(index).is_some_and(|other| other.name == entity.name);
    let mut fills = entity.writes.iter().flat_map(|write| &write.columns).map(|column| &column.fill);
    fills.any(|fill| matches!(fill, Fill::Reference { entity, .. } if itself(*entity)))
}

/// Removes one write's rows of the chunk that nobody has touched, and lists the others.
async fn take_back(
    connection: &mut PgConnection,
    entity: &Entity,
    write: &Write,
    result: &mut RolledBack,
    place: &str,
) -> Result<()> {
    let failed = |error: sqlx::Error| Error::database(place, &error);
    let Some((column, type_name, ledger_id)) = belongs_by(entity, write) else {
        return Err(Error::failed(format!(
            "{}: nothing in {} says which row of V1 its rows belong to, so they cannot be rolled back",
            entity.name, write.table.name
        ))
        .help("write this row's id or its account's id into a column of that table"));
    };
    // An account goes only with the row that created it.
    let outcome = if write.when == When::Account { "'m'" } else { "'m', 'g'" };
    let of = format!("record.{} = t.{ledger_id}::{type_name} and t.outcome in ({outcome})", quoted(column));
    let name = table(&write.table);
    let removed = sqlx::raw_sql(AssertSqlSafe(format!(
        "delete from {name} as record using taken t where {of} and {UNTOUCHED}"
    )))
    .execute(&mut *connection)
    .await
    .map_err(|error| {
        Error::database(place, &error).help(
            "rows outside the migration refer to rows of this run; remove those first, then run the same rollback again",
        )
    })?
    .rows_affected();
    result.removed(&write.table.name, removed);
    let same_transaction_only =
        if write.when == When::Role { format!(" and {UNTOUCHED}") } else { String::new() };
    let kept: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
        "select record.{}::text from {name} as record join taken t on {of}{same_transaction_only} order by 1",
        quoted(column)
    )))
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    result.kept.extend(kept.into_iter().map(|id| (write.table.name.clone(), id)));
    Ok(())
}

/// The column by which a write's rows belong to a ledger line: (column, type, the ledger's column).
pub(super) fn belongs_by<'w>(entity: &Entity, write: &'w Write) -> Option<(&'w str, &'w str, &'static str)> {
    // What is filled in later is null at first.
    let at_once = || write.columns.iter().filter(|column| !column.later);
    let by = |fill: &Fill| at_once().find(|column| column.fill == *fill);
    if let Some(column) = by(&Fill::Id) {
        return Some((&column.name, &column.type_name, "target_id"));
    }
    if let Some(column) = by(&Fill::Account(AccountField::Id)) {
        return Some((&column.name, &column.type_name, "account_id"));
    }
    // A table that only refers to this row by its key.
    let key = entity.source.key_index;
    let column = at_once().find(|column| match &column.fill {
        Fill::Column(index) => *index == key,
        Fill::Reference { key: KeyFrom::Column(index), .. } => *index == key,
        _ => false,
    })?;
    Some((&column.name, &column.type_name, "key"))
}
