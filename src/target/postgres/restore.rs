//! Brings back what a run changed and removed, as far as nobody has edited it since (`replace.rs` has kept it): a part of the
//! run's rollback.
//!
//! A change may have taken what another one gave up, such as an email, and goes back before that one; nobody has noted which
//! came first. Changes mostly go in the order of entities and keys, so they go back in the reverse. What cannot go back yet,
//! because somebody else has its unique value, waits until others have gone back.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::replace::{Found, How, OWN, UNTOUCHED, XIDS, found_by};
use super::rollback::{belongs_by, finish, refers_to_itself};
use super::table;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::plan::{Entity, Plan, When, Write};
use crate::source::quoted;
use crate::target::RolledBack;

/// Keys in one transaction.
const CHUNK: usize = 5_000;

/// Is told how many ledger lines are done.
type Advance<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// Brings back what the run changed and removed. Can be called again after it was cut short.
pub async fn restore(
    connection: &mut PgConnection,
    plan: &Plan,
    run: i32,
    place: &str,
    result: &mut RolledBack,
    advance: Advance<'_>,
) -> Result<()> {
    let failed = |error: sqlx::Error| Error::database(place, &error);
    // What was removed comes first: changed rows may have referred to it, and it was removed last.
    for entity in &plan.entities {
        let pass = Pass { entity, run, how: How::Removed };
        let passed = pass.restore(connection, plan, result, advance).await.map_err(failed)?;
        passed.stuck.map_or(Ok(()), |error| Err(failed(error)))?;
    }
    loop {
        let (mut done, mut stuck) = (0, None);
        for entity in plan.entities.iter().rev() {
            let pass = Pass { entity, run, how: How::Changed };
            let passed = pass.restore(connection, plan, result, advance).await;
            let passed = passed.map_err(failed)?;
            done += passed.done;
            stuck = passed.stuck.or(stuck);
        }
        match stuck {
            None => return Ok(()),
            Some(error) if done == 0 => {
                return Err(failed(error).help(
                    "a record that this run did not change has the unique value that is to go back: change it there, then run the same rollback again",
                ));
            }
            Some(_) => {}
        }
    }
}

/// One entity's rows that the run changed, or removed.
struct Pass<'p> {
    entity: &'p Entity,
    run: i32,
    how: How,
}

/// How far it came.
#[derive(Default)]
struct Passed {
    done: usize,
    /// Why some rows could not go back yet.
    stuck: Option<sqlx::Error>,
}

impl Pass<'_> {
    async fn restore(
        &self,
        connection: &mut PgConnection,
        plan: &Plan,
        result: &mut RolledBack,
        advance: Advance<'_>,
    ) -> sqlx::Result<Passed> {
        let mut passed = Passed::default();
        let (mut skip, mut singly): (Vec<String>, usize) = (Vec::new(), 0);
        let most = if refers_to_itself(plan, self.entity) { usize::MAX } else { CHUNK };
        loop {
            let keys = self.next(connection, &skip, if singly > 0 { 1 } else { most }).await?;
            if keys.is_empty() {
                return Ok(passed);
            }
            let mut with_these = result.clone();
            match self.bring(connection, &keys, &mut with_these).await {
                Ok(()) => {
                    *result = with_these;
                    passed.done += keys.len();
                    // What a removed row refers to may still be missing: such rows come without, and are then brought up to
                    // date like rows that had changed.
                    if !(self.how == How::Removed && self.entity.is_completed_later()) {
                        result.lines += keys.len() as u64;
                        advance(keys.len() as u64);
                    }
                }
                Err(error) if is_taken(&error) && keys.len() > 1 => {
                    singly = keys.len();
                    continue;
                }
                Err(error) if is_taken(&error) => {
                    skip.extend(keys);
                    passed.stuck = Some(error);
                }
                Err(error) => return Err(error),
            }
            singly = singly.saturating_sub(1);
        }
    }

    /// The keys of the next rows.
    async fn next(
        &self,
        connection: &mut PgConnection,
        skip: &[String],
        most: usize,
    ) -> sqlx::Result<Vec<String>> {
        let order = if self.how == How::Changed { "desc" } else { "asc" };
        sqlx::query_scalar(AssertSqlSafe(format!(
            "select distinct key from v1v2.replaced where run = $1 and how = $2::text::\"char\" and entity = $3 and key <> all ($4) \
             order by key {order} limit $5"
        )))
        .bind(self.run)
        .bind(self.how.letter())
        .bind(&*self.entity.name)
        .bind(skip)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await
    }

    /// Brings rows back, in a transaction of their own.
    async fn bring(
        &self,
        connection: &mut PgConnection,
        keys: &[String],
        result: &mut RolledBack,
    ) -> sqlx::Result<()> {
        let mut transaction = connection.begin().await?;
        if let Err(error) = self.bring_within(&mut transaction, keys, result).await {
            // A connection that is gone has rolled back by itself.
            drop(transaction.rollback().await);
            return Err(error);
        }
        transaction.commit().await?;
        Ok(failpoint::reach("postgres.restored")?)
    }

    async fn bring_within(
        &self,
        transaction: &mut PgConnection,
        keys: &[String],
        result: &mut RolledBack,
    ) -> sqlx::Result<()> {
        let Self { entity, run, how } = *self;
        sqlx::query(AssertSqlSafe(format!(
            "create temporary table restoring on commit drop as \
             select keys.key collate \"C\" as key, {XIDS} as xids, txid || earlier as numbers, account_id, target_id \
             from unnest($1) as keys(key) left join v1v2.ledger l on l.key = keys.key and l.entity = $2",
        )))
        .bind(keys)
        .bind(&*entity.name)
        .execute(&mut *transaction)
        .await?;
        sqlx::raw_sql("analyze restoring").execute(&mut *transaction).await?;
        for write in &entity.writes {
            records(transaction, entity, write, run, how, result).await?;
        }
        bookkeeping(transaction, entity, run, how).await?;
        // A run that only changed and removed has no other last chunk.
        finish(transaction, run).await?;
        Ok(failpoint::reach("postgres.restore.rows")?)
    }
}

/// Somebody else has a value that must be unique.
fn is_taken(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| matches!(&*code, "23505" | "23P01"))
}

/// Brings one write's rows back.
async fn records(
    connection: &mut PgConnection,
    entity: &Entity,
    write: &Write,
    run: i32,
    how: How,
    result: &mut RolledBack,
) -> sqlx::Result<()> {
    let name = table(&write.table);
    // Accounts and roles are written by several entities, and by no more than one write of each.
    let of_write = format!(
        "from v1v2.replaced p join restoring using (key) \
         where p.run = {run} and p.how = '{}' and p.entity = {} and p.table_name = {}",
        how.letter(),
        crate::ledger::literal(&entity.name),
        crate::ledger::literal(&name)
    );
    let kept = format!("(select p.key, (p.record::{name}).* {of_write} and p.record is not null)");
    let columns: Vec<String> = sqlx::query_scalar(
        "select attname::text from pg_attribute where attrelid = $1::text::regclass and attnum > 0 \
         and not attisdropped and attgenerated = '' order by attnum",
    )
    .bind(&name)
    .fetch_all(&mut *connection)
    .await?;
    let list = columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ");
    let from_kept =
        columns.iter().map(|column| format!("kept.{}", quoted(column))).collect::<Vec<_>>().join(", ");
    let insert = |values: &str| {
        format!("insert into {name} ({list}) overriding system value select {values} from {kept} as kept")
    };
    if how == How::Removed {
        // What is filled in later comes back as a change (see `bookkeeping`), which counts the record then.
        let waits = entity.is_completed_later();
        let later = |name: &String| waits && write.columns.iter().any(|of| of.later && of.name == *name);
        if matches!(write.when, When::Each(_)) && columns.iter().any(later) {
            return Ok(());
        }
        let value = |name: &String| match later(name) {
            true => "null".to_owned(),
            false => format!("kept.{}", quoted(name)),
        };
        let values = columns.iter().map(value).collect::<Vec<_>>().join(", ");
        let brought = sqlx::raw_sql(AssertSqlSafe(insert(&values))).execute(connection).await?;
        if !waits {
            result.restored(&write.table.name, brought.rows_affected());
        }
        return Ok(());
    }
    match found_by(entity, write) {
        Some(Found::ById(column)) => {
            let id = quoted(&write.columns[column].name);
            let edited: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
                "select record.{id}::text from {name} as record join {kept} as kept on kept.{id} = record.{id} \
                 join restoring t on t.key = kept.key where not {UNTOUCHED} order by 1"
            )))
            .fetch_all(&mut *connection)
            .await?;
            result.kept.extend(edited.into_iter().map(|id| (write.table.name.clone(), id)));
            let update = format!(
                "update {name} as record set ({list}) = row({from_kept}) from {kept} as kept \
                 join restoring t on t.key = kept.key where kept.{id} = record.{id} and {UNTOUCHED}"
            );
            let brought =
                sqlx::raw_sql(AssertSqlSafe(update)).execute(&mut *connection).await?.rows_affected();
            result.restored(&write.table.name, brought);
            // What the run itself added goes.
            let Some((column, type_name, ledger)) = belongs_by(entity, write) else { return Ok(()) };
            if write.when == When::Row {
                let delete = format!(
                    "delete from {name} as record using restoring t where record.{} = t.{ledger}::{type_name} \
                     and {UNTOUCHED} and t.key in (select p.key {of_write} and p.record is null)",
                    quoted(column)
                );
                sqlx::raw_sql(AssertSqlSafe(delete)).execute(connection).await?;
            }
        }
        Some(Found::Together(column, type_name, ledger)) => {
            let of = format!("record.{} = t.{ledger}::{type_name}", quoted(column));
            // Where the run left what belongs to a row as it was, nothing is kept, and nothing is to be brought back.
            let written = format!("t.key in (select p.key {of_write})");
            let edited: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(format!(
                "select distinct t.key, record.{}::text from {name} as record join restoring t on {of} \
                 where not {UNTOUCHED} and {written} order by 1",
                quoted(column)
            )))
            .fetch_all(&mut *connection)
            .await?;
            let keys: Vec<&str> = edited.iter().map(|(key, _)| key.as_str()).collect();
            let delete = format!(
                "delete from {name} as record using restoring t where {of} and {written} and t.key <> all ($1)"
            );
            sqlx::query(AssertSqlSafe(delete)).bind(&keys).execute(&mut *connection).await?;
            let insert = insert(&from_kept) + " where kept.key <> all ($1)";
            let brought =
                sqlx::query(AssertSqlSafe(insert)).bind(&keys).execute(connection).await?.rows_affected();
            result.restored(&write.table.name, brought);
            result.kept.extend(edited.into_iter().map(|(_, id)| (write.table.name.clone(), id)));
        }
        None => {}
    }
    Ok(())
}

/// Ledger and conflict log become what they were; but for the number of the transaction that wrote records last, which is
/// this one.
async fn bookkeeping(connection: &mut PgConnection, entity: &Entity, run: i32, how: How) -> sqlx::Result<()> {
    let (of, how) = (crate::ledger::literal(&entity.name), how.letter());
    let mut sql = String::new();
    for name in OWN {
        sql.push_str(&format!(
            "delete from v1v2.{name} l using restoring t where l.entity = {of} and l.key = t.key; \
             insert into v1v2.{name} select (p.record::v1v2.{name}).* from v1v2.replaced p join restoring using (key) \
             where p.run = {run} and p.how = '{how}' and p.entity = {of} and p.table_name = '\"v1v2\".\"{name}\"'; "
        ));
    }
    let these = format!("p.run = {run} and p.how = '{how}' and p.entity = {of} and p.key = t.key");
    let done = if how == How::Removed.letter() && entity.is_completed_later() {
        // The records lack what is filled in later.
        format!("update v1v2.replaced p set how = '{}' from restoring t where {these}", How::Changed.letter())
    } else {
        format!("delete from v1v2.replaced p using restoring t where {these}")
    };
    // Records that this run left alone may have been written by the rollback of a later one.
    sql.push_str(&format!(
        "update v1v2.ledger l set txid = txid_current(), \
           earlier = array(select distinct unnest(t.numbers || l.txid || l.earlier)) \
         from restoring t where l.entity = {of} and l.key = t.key; {done}"
    ));
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}
