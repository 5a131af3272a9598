//! Removes what V2 has of rows that V1 no longer has. What is removed is kept first (`replace.rs`), so that a rollback of the
//! run brings it back.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::replace::{How, Session, UNTOUCHED, XIDS};
use super::rollback::{belongs_by, refers_to_itself};
use super::table;
use crate::connect::answered;
use crate::error::{Class, Error, Result, classify};
use crate::failpoint;
use crate::ledger::literal;
use crate::plan::{Entity, Plan, When, Write};
use crate::settings::OnEdited;
use crate::source::quoted;
use crate::target::{EDITED, Pruned, REFUSED};

/// Keys in one transaction.
const CHUNK: usize = 5_000;

/// Where and for which run rows are removed.
pub struct Place<'p> {
    pub connection: &'p mut PgConnection,
    pub name: &'p str,
    pub patience: Duration,
    pub run: i32,
}

/// Removes what these keys became.
pub async fn prune(
    place: Place<'_>,
    plan: &Plan,
    entity: &Entity,
    keys: &[String],
    on_edited: OnEdited,
) -> Result<Pruned> {
    let Place { connection, name, patience, run } = place;
    let failed = |error: sqlx::Error| Error::database(name, &error);
    let mut pruned = Pruned::default();
    // Rows that refer to each other go together: V2 looks at its foreign keys at the end of a statement.
    let together = if refers_to_itself(plan, entity) { keys.len().max(1) } else { CHUNK };
    for keys in keys.chunks(together) {
        let mut transaction = connection.begin().await.map_err(failed)?;
        // As for every chunk: whoever has lost the lock cannot commit any more.
        let ours = sqlx::query_scalar("select run from v1v2.lock where run = $1 for share").bind(run);
        let ours: Option<i32> = ours.fetch_optional(&mut *transaction).await.map_err(failed)?;
        if ours.is_none() {
            return Err(Error::failed(format!(
                "{name}: this run has lost its lock to another run, and stops"
            ))
            .help("see `v1v2 status` for the run that goes on"));
        }
        let mut session = Session { connection: &mut transaction, patience, run, entity, how: How::Removed };
        let done = session.prune(keys, on_edited).await.map_err(failed)?;
        failpoint::reach("postgres.prune.commit")?;
        transaction.commit().await.map_err(failed)?;
        failpoint::reach("postgres.pruned")?;
        pruned.removed += done.removed;
        pruned.edited += done.edited;
        pruned.refused += done.refused;
    }
    Ok(pruned)
}

impl Session<'_> {
    async fn prune(&mut self, keys: &[String], on_edited: OnEdited) -> sqlx::Result<Pruned> {
        let entity = literal(&self.entity.name);
        let listed = sqlx::query(AssertSqlSafe(format!(
            "create temporary table going on commit drop as \
             select key, outcome::text as outcome, {XIDS} as xids, account_id, target_id from v1v2.ledger \
             where entity = $1 and key = any ($2)",
        )))
        .bind(&*self.entity.name)
        .bind(keys)
        .execute(&mut *self.connection);
        let all = answered(self.patience, listed).await?.rows_affected();
        // An account that another row uses is not this row's to take away.
        self.execute(
            "analyze going; alter table going add shared boolean not null default false; \
             update going t set shared = true where exists (select from v1v2.ledger l \
               where l.account_id = t.account_id and not exists (select from going g where g.key = l.key))",
        )
        .await?;
        let mut pruned = Pruned::default();
        if on_edited == OnEdited::Keep {
            pruned.edited = self.leave_edited(&entity).await?;
        }
        self.execute("savepoint all_together").await?;
        pruned.refused = match self.remove("true").await {
            Ok(()) => 0,
            Err(error) if classify(&error) == Class::Row => {
                self.execute("rollback to savepoint all_together").await?;
                self.remove_what_goes(&entity).await?
            }
            Err(error) => return Err(error),
        };
        pruned.removed = all - pruned.edited - pruned.refused;
        self.keep_ledger("going").await?;
        self.execute(&format!(
            "delete from v1v2.conflicts c using going t where c.entity = {entity} and c.key = t.key; \
             delete from v1v2.ledger l using going t where l.entity = {entity} and l.key = t.key"
        ))
        .await?;
        Ok(pruned)
    }

    /// Leaves rows alone of which somebody has edited a record; returns how many.
    async fn leave_edited(&mut self, entity: &str) -> sqlx::Result<u64> {
        let mut edited = Vec::new();
        for write in &self.entity.writes {
            // Other roles of the account are written by other transactions.
            let Some(of) = belongs(self.entity, write).filter(|_| write.when != When::Role) else { continue };
            let name = table(&write.table);
            edited.push(format!(
                "select t.key from going t join {name} as record on {of} where not {UNTOUCHED}"
            ));
        }
        if edited.is_empty() {
            return Ok(0);
        }
        self.execute(&format!(
            "create temporary table staying on commit drop as select key from ({}) as edited group by key",
            edited.join(" union all ")
        ))
        .await?;
        self.note("staying", entity, EDITED, "somebody has edited it in V2, and V1 no longer has it").await?;
        let left = sqlx::query("delete from going t using staying s where s.key = t.key");
        answered(self.patience, left.execute(&mut *self.connection)).await.map(|left| left.rows_affected())
    }

    /// Removes rows one by one; those that others refer to stay. Returns how many stay.
    async fn remove_what_goes(&mut self, entity: &str) -> sqlx::Result<u64> {
        let keys = sqlx::query_scalar("select key from going order by key collate \"C\" desc");
        let keys: Vec<String> = answered(self.patience, keys.fetch_all(&mut *self.connection)).await?;
        self.execute("create temporary table refused (key text collate \"C\") on commit drop").await?;
        let mut refused = keys;
        loop {
            // A row that another of them refers to goes after that one.
            let before = refused.len();
            for key in std::mem::take(&mut refused) {
                self.execute("savepoint one").await?;
                match self.remove(&format!("t.key = {}", literal(&key))).await {
                    Ok(()) => self.execute("release savepoint one").await?,
                    Err(error) if classify(&error) == Class::Row => {
                        self.execute("rollback to savepoint one; release savepoint one").await?;
                        refused.push(key);
                    }
                    Err(error) => return Err(error),
                }
            }
            if refused.is_empty() || refused.len() == before {
                break;
            }
        }
        let listed = sqlx::query("insert into refused select unnest($1::text[])").bind(&refused);
        answered(self.patience, listed.execute(&mut *self.connection)).await?;
        self.note("refused", entity, REFUSED, "other rows of V2 refer to it, and V1 no longer has it")
            .await?;
        self.execute("delete from going t using refused r where r.key = t.key").await?;
        Ok(refused.len() as u64)
    }

    /// An entry of the conflict log for each key of a table.
    async fn note(&mut self, of: &str, entity: &str, kind: &str, detail: &str) -> sqlx::Result<()> {
        self.keep_entries(kind, &format!("join {of} using (key) where true")).await?;
        self.execute(&format!(
            "insert into v1v2.conflicts (entity, key, kind, run, decision, detail) \
             select {entity}, key, {}, {}, 'kept', {} from {of} \
             on conflict (entity, key, kind) do update set run = excluded.run, decision = excluded.decision, detail = excluded.detail",
            literal(kind),
            self.run,
            literal(detail)
        ))
        .await
    }

    /// Keeps the records of some keys, and removes them, the last written first.
    async fn remove(&mut self, which: &str) -> sqlx::Result<()> {
        for write in self.entity.writes.iter().rev() {
            let Some(of) = belongs(self.entity, write) else { continue };
            let name = table(&write.table);
            let untouched =
                if write.when == When::Role { format!(" and {UNTOUCHED}") } else { String::new() };
            let from = format!("going t join {name} as record on {of} where {which}{untouched}");
            self.keep(&write.table, "t.key", &from).await?;
            self.execute(&format!(
                "delete from {name} as record using going t where {of} and {which}{untouched}"
            ))
            .await?;
        }
        Ok(())
    }
}

/// The condition by which a write's records (`record`) belong to a ledger line (`t`).
fn belongs(entity: &Entity, write: &Write) -> Option<String> {
    let (column, type_name, ledger) = belongs_by(entity, write)?;
    let which = match write.when {
        When::Account => "t.outcome = 'm' and not t.shared",
        _ => "t.outcome in ('m', 'g')",
    };
    Some(format!("record.{} = t.{ledger}::{type_name} and {which}", quoted(column)))
}
