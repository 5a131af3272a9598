//! Removes what V2 has of rows that V1 no longer has. What is removed is kept first (`replace.rs`), so that a rollback of the
//! run brings it back.
//!
//! Rows that refer to each other in a circle cannot go one after the other. They go in one transaction, in which what was filled
//! in later is taken away from them first; should one of them have to stay, it is tried again without taking anything from
//! that one, so that what stays is whole.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::careful::SPEAK_UP;
use super::replace::{How, Session, XIDS};
use super::rollback::{belongs_by, refers_to_itself};
use super::stage::Stage;
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
    pub stage: Stage,
}

/// Removes what these keys became; of entities that stand in a circle, together.
pub async fn prune(
    place: Place<'_>,
    plan: &Plan,
    gone: &[(usize, &[String])],
    on_edited: OnEdited,
) -> Result<Vec<Pruned>> {
    let Place { connection, name, patience, run, stage } = place;
    let failed = |error: sqlx::Error| Error::database(name, &error);
    let mut pruned = vec![Pruned::default(); gone.len()];
    for part in parts(plan, gone) {
        let mut transaction = connection.begin().await.map_err(failed)?;
        // As for every chunk: whoever has lost the lock cannot commit any more.
        let ours = sqlx::query_scalar("select run from v1v2.lock where run = $1 for share").bind(run);
        let ours: Option<i32> = ours.fetch_optional(&mut *transaction).await.map_err(failed)?;
        if ours.is_none() && stage.is_real() {
            return Err(Error::failed(format!(
                "{name}: this run has lost its lock to another run, and stops"
            ))
            .help("see `v1v2 status` for the run that goes on"));
        }
        let Some((first, _)) = part.first() else { continue };
        let how = How::Removed;
        let session = Session { connection: &mut transaction, patience, run, entity: first, how, stage };
        let done = Removal { session, going: Vec::new() }.prune(&part, on_edited).await.map_err(failed)?;
        failpoint::reach("postgres.prune.commit")?;
        transaction.commit().await.map_err(failed)?;
        failpoint::reach("postgres.pruned")?;
        for (pruned, done) in pruned.iter_mut().zip(done) {
            pruned.removed += done.removed;
            pruned.edited += done.edited;
            pruned.refused += done.refused;
        }
    }
    Ok(pruned)
}

/// What goes in one transaction each: chunks of an entity, but whatever may refer to each other together, as V2 looks at its
/// foreign keys at the end of a statement.
fn parts<'p>(plan: &'p Plan, gone: &[(usize, &'p [String])]) -> Vec<Vec<(&'p Entity, &'p [String])>> {
    let of = |entity: usize| &plan.entities[entity];
    match gone {
        [(entity, keys)] if !refers_to_itself(plan, of(*entity)) && !of(*entity).is_completed_later() => {
            keys.chunks(CHUNK).map(|keys| vec![(of(*entity), keys)]).collect()
        }
        _ => vec![gone.iter().map(|(entity, keys)| (of(*entity), *keys)).collect()],
    }
}

/// Rows of one entity that are to go.
struct Going<'p> {
    entity: &'p Entity,
    /// The temporary table that lists them.
    table: String,
    /// How many there were.
    all: u64,
    edited: u64,
    /// Those that keep what was filled in later, because they have to stay.
    unopened: HashSet<String>,
}

/// One transaction.
struct Removal<'s> {
    session: Session<'s>,
    going: Vec<Going<'s>>,
}

impl<'s> Removal<'s> {
    async fn prune(
        mut self,
        part: &[(&'s Entity, &[String])],
        on_edited: OnEdited,
    ) -> sqlx::Result<Vec<Pruned>> {
        for (entity, keys) in part {
            self.list(entity, keys, on_edited).await?;
        }
        let refused = loop {
            self.session.execute("savepoint circle").await?;
            if let Some(refused) = self.attempt().await? {
                break refused;
            }
            // Somebody has to stay of whom something was taken away already. Next time it keeps that, and with it whatever
            // that needs. Each time there are fewer of whom anything is taken, so this ends.
            self.session.execute("rollback to savepoint circle").await?;
        };
        let counts = self.going.iter().zip(refused).map(|(going, refused)| {
            let (edited, refused) = (going.edited, refused as u64);
            Pruned { removed: going.all - edited - refused, edited, refused }
        });
        Ok(counts.collect())
    }

    /// Lists rows that are to go; those of which somebody has edited a record are not, unless told otherwise.
    async fn list(&mut self, entity: &'s Entity, keys: &[String], on_edited: OnEdited) -> sqlx::Result<()> {
        let session = &mut self.session;
        session.entity = entity;
        let table = format!("going_{}", self.going.len());
        let sql = format!(
            "create temporary table {table} on commit drop as \
             select key, outcome::text as outcome, {XIDS} as xids, account_id, target_id, false as shared, {} as opened \
             from {} where entity = $1 and key = any ($2)",
            entity.is_completed_later(),
            session.stage.ledger()
        );
        let listed = sqlx::query(AssertSqlSafe(sql)).bind(&*entity.name).bind(keys);
        let listed = listed.execute(&mut *session.connection);
        let all = answered(session.patience, listed).await?.rows_affected();
        session.execute(&format!("analyze {table}")).await?;
        let edited = match on_edited {
            OnEdited::Keep => session.leave_edited(&table).await?,
            OnEdited::Overwrite => 0,
        };
        self.going.push(Going { entity, table, all, edited, unopened: HashSet::new() });
        Ok(())
    }

    /// Removes what goes, and returns how many stay of each entity; `None` if something was taken away from a row that has to
    /// stay.
    async fn attempt(&mut self) -> sqlx::Result<Option<Vec<usize>>> {
        let Self { session, going } = self;
        for going in going.iter_mut().filter(|going| going.entity.is_completed_later()) {
            session.entity = going.entity;
            match session.open(&going.table, &going.unopened).await {
                Ok(()) => {}
                // V2 wants it to be there. Then it does without.
                Err(error) if classify(&error) == Class::Row => {
                    session.execute("rollback to savepoint circle").await?;
                    let keys = sqlx::query_scalar(AssertSqlSafe(format!("select key from {}", going.table)));
                    let keys: Vec<String> =
                        answered(session.patience, keys.fetch_all(&mut *session.connection)).await?;
                    going.unopened.extend(keys);
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        let mut stay = vec![0; going.len()];
        for (going, stay) in going.iter_mut().zip(&mut stay).rev() {
            session.entity = going.entity;
            let refused = session.prune(&going.table).await?;
            *stay = refused.len();
            let known = going.unopened.len();
            if going.entity.is_completed_later() {
                going.unopened.extend(refused);
                if going.unopened.len() > known {
                    return Ok(None);
                }
            }
        }
        Ok(Some(stay))
    }
}

impl Session<'_> {
    /// Takes away what was filled in later, so that rows that refer to each other in a circle can go one after the other, and
    /// keeps the records as they were.
    async fn open(&mut self, going: &str, unopened: &HashSet<String>) -> sqlx::Result<()> {
        let keys: Vec<&str> = unopened.iter().map(String::as_str).collect();
        let sql = format!("update {going} set opened = false where key = any ($1)");
        let kept = sqlx::query(AssertSqlSafe(sql)).bind(keys).execute(&mut *self.connection);
        answered(self.patience, kept).await?;
        for write in self.entity.writes.iter().filter(|write| has_later(write)) {
            let Some(of) = belongs(self.entity, write) else { continue };
            let name = table(&write.table);
            self.keep(
                &write.table,
                "t.key",
                &format!("{going} t join {name} as record on {of} where t.opened"),
            )
            .await?;
            let later = write.columns.iter().filter(|column| column.later);
            let nothing: Vec<String> =
                later.map(|column| format!("{} = null", quoted(&column.name))).collect();
            // Of several rows those are not there at first that have such a reference.
            self.execute(&match write.when {
                When::Each(_) => {
                    format!("delete from {name} as record using {going} t where {of} and t.opened")
                }
                _ => format!(
                    "update {name} as record set {} from {going} t where {of} and t.opened",
                    nothing.join(", ")
                ),
            })
            .await?;
        }
        Ok(())
    }

    /// Removes what is listed and goes, with its lines; returns the keys of what others refer to.
    async fn prune(&mut self, going: &str) -> sqlx::Result<Vec<String>> {
        let entity = literal(&self.entity.name);
        // An account that another row uses is not this row's to take away.
        self.execute(&format!(
            "update {going} t set shared = true where exists (select from {} l \
               where l.account_id = t.account_id and not (l.entity = {entity} and exists (select from {going} g where g.key = l.key)))",
            self.stage.ledger()
        ))
        .await?;
        self.execute("savepoint all_together").await?;
        let refused = match self.remove(going, "true").await {
            Ok(()) => Vec::new(),
            Err(error) if classify(&error) == Class::Row => {
                self.execute("rollback to savepoint all_together").await?;
                self.remove_what_goes(going).await?
            }
            Err(error) => return Err(error),
        };
        if !self.stage.is_real() {
            self.execute(&format!("insert into pg_temp.v1v2_gone select {entity}, key from {going}")).await?;
            return Ok(refused);
        }
        self.keep_ledger(going).await?;
        self.execute(&format!(
            "delete from v1v2.conflicts c using {going} t where c.entity = {entity} and c.key = t.key; \
             delete from v1v2.ledger l using {going} t where l.entity = {entity} and l.key = t.key"
        ))
        .await?;
        Ok(refused)
    }

    /// Leaves rows alone of which somebody has edited a record; returns how many.
    async fn leave_edited(&mut self, going: &str) -> sqlx::Result<u64> {
        let mut edited = Vec::new();
        for write in &self.entity.writes {
            // Other roles of the account are written by other transactions.
            let Some(of) = belongs(self.entity, write).filter(|_| write.when != When::Role) else { continue };
            let name = table(&write.table);
            edited.push(format!(
                "select t.key from {going} t join {name} as record on {of} where not {}",
                self.stage.untouched()
            ));
        }
        if edited.is_empty() {
            return Ok(0);
        }
        let staying = format!("{going}_staying");
        self.execute(&format!(
            "create temporary table {staying} on commit drop as select key from ({}) as edited group by key",
            edited.join(" union all ")
        ))
        .await?;
        self.note(&staying, EDITED, "somebody has edited it in V2, and V1 no longer has it").await?;
        let sql = format!("delete from {going} t using {staying} s where s.key = t.key");
        let left = sqlx::query(AssertSqlSafe(sql)).execute(&mut *self.connection);
        answered(self.patience, left).await.map(|left| left.rows_affected())
    }

    /// Removes rows one by one; those that others refer to stay, and are returned.
    async fn remove_what_goes(&mut self, going: &str) -> sqlx::Result<Vec<String>> {
        let sql = format!("select key from {going} order by key collate \"C\" desc");
        let keys = sqlx::query_scalar(AssertSqlSafe(sql));
        let keys: Vec<String> = answered(self.patience, keys.fetch_all(&mut *self.connection)).await?;
        let mut refused = keys;
        loop {
            // A row that another of them refers to goes after that one.
            let before = refused.len();
            for key in std::mem::take(&mut refused) {
                self.execute("savepoint one").await?;
                match self.remove(going, &format!("t.key = {}", literal(&key))).await {
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
        let staying = format!("{going}_refused");
        let sql = format!("create temporary table {staying} (key text collate \"C\") on commit drop");
        self.execute(&sql).await?;
        let sql = format!("insert into {staying} select unnest($1::text[])");
        let listed = sqlx::query(AssertSqlSafe(sql)).bind(&refused);
        answered(self.patience, listed.execute(&mut *self.connection)).await?;
        self.note(&staying, REFUSED, "other rows of V2 refer to it, and V1 no longer has it").await?;
        self.execute(&format!("delete from {going} t using {staying} r where r.key = t.key")).await?;
        Ok(refused)
    }

    /// An entry of the conflict log for each key of a table.
    async fn note(&mut self, of: &str, kind: &str, detail: &str) -> sqlx::Result<()> {
        if !self.stage.is_real() {
            return Ok(());
        }
        self.keep_entries(kind, &format!("join {of} using (key) where true")).await?;
        self.execute(&format!(
            "insert into v1v2.conflicts (entity, key, kind, run, decision, detail) \
             select {}, key, {}, {}, 'kept', {} from {of} \
             on conflict (entity, key, kind) do update set run = excluded.run, decision = excluded.decision, detail = excluded.detail",
            literal(&self.entity.name),
            literal(kind),
            self.run,
            literal(detail)
        ))
        .await
    }

    /// Keeps the records of some keys, and removes them, the last written first.
    async fn remove(&mut self, going: &str, which: &str) -> sqlx::Result<()> {
        for write in self.entity.writes.iter().rev() {
            let Some(of) = belongs(self.entity, write) else { continue };
            let name = table(&write.table);
            let untouched = match write.when {
                When::Role => format!(" and {}", self.stage.untouched()),
                _ => String::new(),
            };
            // What was opened is kept as it was before.
            let whole = if has_later(write) { " and not t.opened" } else { "" };
            let from = format!("{going} t join {name} as record on {of} where {which}{untouched}{whole}");
            self.keep(&write.table, "t.key", &from).await?;
            self.execute(&format!(
                "delete from {name} as record using {going} t where {of} and {which}{untouched}"
            ))
            .await?;
        }
        self.execute(SPEAK_UP).await
    }
}

/// Whether something of a write's rows is filled in later.
fn has_later(write: &Write) -> bool {
    write.columns.iter().any(|column| column.later)
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
