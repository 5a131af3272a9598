//! Brings rows of V2 up to date whose rows of V1 have changed since they were migrated.
//!
//! Each record stays the record it was: it is found by its derived id and updated, so that what refers to it goes on doing
//! so. Rows of tables that have several for one row of V1 (`each`) are removed and written anew. Records that would stay what
//! they are are not written at all: most changes touch one record of several, and whatever listens to V2 (triggers,
//! replication) hears of nothing else. A record that somebody has edited since is left alone, unless told otherwise; the
//! others of the same row are updated all the same. What a record was is kept first (`replace.rs`).
//!
//! The password of an account, and what says whether it may be used, is never touched; nor is what a definition fills with
//! the time of the migration.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use sqlx::AssertSqlSafe;

use super::careful::{SPEAK_UP, refused};
use super::replace::{Found, How, Session, XIDS, found_by};
use super::sent::Sent;
use super::stage::Stage;
use super::table;
use super::writer::{Failure, Writer, insert_sql};
use crate::connect::answered;
use crate::error::{Class, classify};
use crate::failpoint;
use crate::ledger::{Outcome, Reject};
use crate::migrator::Note;
use crate::plan::{Column, Entity, When, Write};
use crate::row::Lines;
use crate::settings::OnEdited;
use crate::source::quoted;
use crate::target::stays::{Stays, compared, stays};
use crate::target::{ACCOUNT_CHANGED, Batch, EDITED, REFUSED, Update};

/// Transactions that the ledger remembers of a row. With more of them all of its records are written, and one is left.
const MOST_EARLIER: u32 = 8;

/// What was found of records that somebody has edited or deleted: tables by row of the chunk.
type Edited = BTreeMap<u32, BTreeSet<String>>;

impl Writer {
    /// Brings a part of a chunk up to date. `one_by_one`: some row is refused, and is to be found.
    pub(super) async fn update(
        &mut self,
        batch: &mut Batch,
        rows: &Range<u32>,
        one_by_one: bool,
    ) -> Result<(), Failure> {
        let txid = self.begin().await?;
        let plan = self.plan.clone();
        let entity = &plan.entities[batch.entity];
        let (run, patience) = (self.run, self.patience);
        let connection = self.link.get().await?;
        let (how, stage) = (How::Changed, Stage::Real);
        let mut session = Session { connection, patience, run, entity, how, stage };
        session.update(batch, rows, one_by_one).await.map_err(|error| match classify(&error) {
            Class::Row if !one_by_one => Failure::Row(None),
            _ => self.failure(&error, None),
        })?;
        let connection = self.link.get().await?;
        let mut session = Session { connection, patience, run, entity, how, stage };
        let written = session.bookkeeping(batch, rows, txid).await;
        let written = written.and_then(|()| Ok(failpoint::reach("postgres.update.ledger")?));
        written.map_err(|error| self.failure(&error, None))?;
        self.commit_transaction(txid).await
    }
}

/// What an update writes into records with an id of their own.
struct Changes {
    /// After `set`.
    set: String,
    /// Whether a record would become another one.
    differ: String,
}

impl Changes {
    fn of(entity: &Entity, write: &Write, id: &Column) -> Self {
        let (mut set, mut have, mut want) = (Vec::new(), Vec::new(), Vec::new());
        for (index, column) in write.columns.iter().enumerate() {
            let value = format!("sent.c{index}::{}", column.type_name);
            let name = quoted(&column.name);
            let unless = |flag: &str| format!("case when sent.{flag} then record.{name} else {value} end");
            let value = match stays(entity, &column.fill) {
                // An id that the row did not get at first.
                _ if column.later => value,
                Stays::Always => continue,
                Stays::WithEmail => unless("email"),
                Stays::WithPhone => unless("phone"),
                Stays::Never => value,
            };
            set.push(format!("{name} = {value}"));
            // The time of the update is no reason for one.
            if compared(entity, column) != Stays::Always {
                have.push(format!("record.{name}"));
                want.push(value);
            }
        }
        if set.is_empty() {
            let name = quoted(&id.name);
            set.push(format!("{name} = record.{name}"));
        }
        // Bit by bit, which every type can be compared by; "is distinct from" would need an operator of each.
        let differ = match have.is_empty() {
            true => "false".to_owned(),
            false => format!("row({})::record *<> row({})::record", have.join(", "), want.join(", ")),
        };
        Self { set: set.join(", "), differ }
    }
}

/// Tells what was found about edited records.
fn note(batch: &mut Batch, edited: &Edited) {
    let overwritten = batch.update.as_ref().is_some_and(|update| update.on_edited == OnEdited::Overwrite);
    let decision = if overwritten { "overwritten" } else { "kept" };
    for (&row, tables) in edited {
        let detail = tables.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        // The chunk may be tried more than once.
        batch.records.notes.retain(|note| note.row != row || note.kind != EDITED);
        batch.records.notes.push(Note {
            row,
            kind: EDITED.to_owned(),
            decision: decision.to_owned(),
            other: None,
            detail: Some(detail),
        });
    }
}

impl Session<'_> {
    /// Brings records up to date, and notes what was found edited. `one_by_one`: rows that V2 refuses are rejected in the batch.
    pub(super) async fn update(
        &mut self,
        batch: &mut Batch,
        rows: &Range<u32>,
        one_by_one: bool,
    ) -> sqlx::Result<()> {
        self.list(batch, rows).await?;
        let edited = match one_by_one {
            true => self.update_what_fits(batch, rows).await?,
            false => self.update_all(batch, &rows.clone().collect::<Vec<_>>()).await?,
        };
        note(batch, &edited);
        Ok(())
    }

    /// Lists the ledger's lines of the rows beside their numbers in the chunk, and rejects rows whose person is
    /// another one now.
    async fn list(&mut self, batch: &mut Batch, rows: &Range<u32>) -> sqlx::Result<()> {
        let numbers: Vec<i32> = rows.clone().map(|row| row as i32).collect();
        let keys: Vec<&str> = batch.lines[rows.start as usize..rows.end as usize]
            .iter()
            .map(|line| line.key.as_str())
            .collect();
        let listed = sqlx::query(AssertSqlSafe(format!(
            "create temporary table changing on commit drop as \
             select n, key, account_id, target_id, {XIDS} as xids, \
               coalesce(cardinality(earlier), 0) >= {MOST_EARLIER} as all_anew \
             from unnest($1::int[], $2::text[]) as sent(n, key) join {} using (key) where entity = $3",
            self.stage.ledger_of("$2")
        )))
        .bind(&numbers)
        .bind(&keys)
        .bind(&*batch.name)
        .execute(&mut *self.connection);
        answered(self.patience, listed).await?;
        self.execute("analyze changing").await?;
        let known = sqlx::query_as("select n, account_id from changing");
        let known: Vec<(i32, Option<String>)> =
            answered(self.patience, known.fetch_all(&mut *self.connection)).await?;
        for (row, account) in known {
            let row = row as u32;
            if !batch.is_rejected(row) && batch.lines[row as usize].account_id != account {
                batch.reject(row, Reject::new("account-changed", ACCOUNT_CHANGED));
            }
        }
        Ok(())
    }

    /// Updates rows one by one, and rejects those that the database refuses.
    async fn update_what_fits(&mut self, batch: &mut Batch, rows: &Range<u32>) -> sqlx::Result<Edited> {
        self.execute("savepoint part").await?;
        for row in rows.clone() {
            self.execute("savepoint one").await?;
            let updated = match self.update_all(batch, &[row]).await {
                Ok(_) => self.execute(SPEAK_UP).await,
                Err(error) => Err(error),
            };
            match updated {
                Ok(()) => self.execute("release savepoint one").await?,
                Err(error) if classify(&error) == Class::Row => {
                    self.execute("rollback to savepoint one; release savepoint one").await?;
                    batch.reject(row, refused(&error));
                }
                Err(error) => return Err(error),
            }
        }
        // Once more without savepoints, now that it is known who is refused: a record's `xmin` would be that of its
        // savepoint, and it would count as edited from then on. One by one again: of rows that hand a unique value on, a
        // statement for all of them may take the receiver first.
        self.execute("rollback to savepoint part; release savepoint part").await?;
        let mut edited = Edited::new();
        for row in rows.clone() {
            edited.extend(self.update_all(batch, &[row]).await?);
        }
        Ok(edited)
    }

    /// Updates rows together.
    async fn update_all(&mut self, batch: &Batch, rows: &[u32]) -> sqlx::Result<Edited> {
        let Some(update) = &batch.update else { return Ok(Edited::new()) };
        let entity = self.entity;
        let mut edited = Edited::new();
        let mut deleted = BTreeSet::new();
        let rows: Vec<u32> = rows.iter().copied().filter(|&row| !batch.is_rejected(row)).collect();
        for (write, lines) in entity.writes.iter().zip(&batch.records.writes) {
            let found = match found_by(entity, write) {
                Some(Found::ById(id)) => {
                    let (edited, absent) = self.update_by_id(update, &rows, write, lines, id).await?;
                    if write.when == When::Row {
                        deleted.extend(absent);
                    }
                    edited
                }
                Some(Found::Together(column, type_name, ledger)) => {
                    // What belongs to a record that somebody has deleted stays away with it.
                    let rows: Vec<u32> = rows.iter().copied().filter(|row| !deleted.contains(row)).collect();
                    self.replace_together(update, &rows, write, lines, (column, type_name, ledger)).await?
                }
                None => continue,
            };
            failpoint::reach("postgres.update.table")?;
            for row in found {
                edited.entry(row).or_default().insert(write.table.name.clone());
            }
        }
        Ok(edited)
    }

    /// Records with an id of their own. Returns the rows of which a record was edited or deleted, and those of which it
    /// is deleted still.
    async fn update_by_id(
        &mut self,
        update: &Update,
        rows: &[u32],
        write: &Write,
        lines: &Lines,
        id: usize,
    ) -> sqlx::Result<(BTreeSet<u32>, BTreeSet<u32>)> {
        let name = table(&write.table);
        let mut sent = Sent::of(write, lines, rows);
        if sent.is_empty() {
            return Ok((BTreeSet::new(), BTreeSet::new()));
        }
        let (from, of) = (sent.from(write), &write.columns[id]);
        let same = format!("record.{} = sent.c{id}::{}", quoted(&of.name), of.type_name);
        let changes = Changes::of(self.entity, write, of);
        let sql = format!(
            "select n, what from (select t.n, case when record.tableoid is null then 'missing' \
               when not {} then 'edited' when t.all_anew or {} then 'other' else 'same' end as what \
             from {from} join changing t using (n) left join {name} as record on {same}) as found where what <> 'other'",
            self.stage.untouched(),
            changes.differ
        );
        let query = sent.bind(update, sqlx::query_as(AssertSqlSafe(sql)));
        let found: Vec<(i32, String)> =
            answered(self.patience, query.fetch_all(&mut *self.connection)).await?;
        let rows = |what: &str| -> BTreeSet<u32> {
            found.iter().filter(|of| of.1 == what).map(|of| of.0 as u32).collect()
        };
        let (missing, edited) = (rows("missing"), rows("edited"));
        let overwrite = update.on_edited == OnEdited::Overwrite;
        let insert = if overwrite || update.definition_edited { missing.clone() } else { BTreeSet::new() };
        let stay: BTreeSet<u32> =
            if overwrite { missing.clone() } else { edited.union(&missing).copied().collect() };
        let mut touched = edited;
        if !update.definition_edited {
            touched.extend(&missing);
        }
        let absent = missing.difference(&insert).copied().collect();
        if !insert.is_empty() {
            let rows: Vec<u32> = insert.into_iter().collect();
            self.keep_that_nothing_was_there(write, &rows).await?;
            self.insert(write, &Sent::of(write, lines, &rows)).await?;
        }
        sent.leave_out(&stay);
        sent.leave_out(&rows("same"));
        if sent.is_empty() {
            return Ok((touched, absent));
        }
        self.keep_sent(
            update,
            &sent,
            write,
            &format!("{from} join changing t using (n) join {name} as record on {same}"),
        )
        .await?;
        let sql = format!(
            "update {name} as record set {}{} from {from} where {same}",
            changes.set,
            self.stage.marks()
        );
        let query = sent.bind_query(update, sqlx::query(AssertSqlSafe(sql)));
        answered(self.patience, query.execute(&mut *self.connection)).await?;
        Ok((touched, absent))
    }

    pub(super) async fn insert(&mut self, write: &Write, sent: &Sent) -> sqlx::Result<()> {
        let mut query = sqlx::query(AssertSqlSafe(insert_sql(write)));
        for values in sent.columns() {
            query = query.bind(values);
        }
        answered(self.patience, query.execute(&mut *self.connection)).await.map(drop)
    }

    async fn keep_that_nothing_was_there(&mut self, write: &Write, rows: &[u32]) -> sqlx::Result<()> {
        if !self.stage.is_real() {
            return Ok(());
        }
        let sql = "insert into v1v2.replaced (run, how, entity, key, table_name, record) \
                   select $1, $2::text::\"char\", $3, key, $4, null from changing where n = any ($5)";
        let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
        let kept = sqlx::query(sql).bind(self.run).bind(self.how.letter()).bind(&*self.entity.name);
        let kept = kept.bind(table(&write.table)).bind(rows).execute(&mut *self.connection);
        answered(self.patience, kept).await.map(drop)
    }

    /// As [`Session::keep`], of records that the rows sent are to change.
    async fn keep_sent(
        &mut self,
        update: &Update,
        sent: &Sent,
        write: &Write,
        from: &str,
    ) -> sqlx::Result<()> {
        if !self.stage.is_real() {
            return Ok(());
        }
        let sql = format!(
            "insert into v1v2.replaced (run, how, entity, key, table_name, record) \
             select {}, '{}', {}, t.key, {}, record::text from {from}",
            self.run,
            self.how.letter(),
            crate::ledger::literal(&self.entity.name),
            crate::ledger::literal(&table(&write.table))
        );
        let query = sent.bind_query(update, sqlx::query(AssertSqlSafe(sql)));
        answered(self.patience, query.execute(&mut *self.connection)).await.map(drop)
    }

    /// The ledger's lines and the conflict log. A row whose change was refused keeps its line, and so will be tried again.
    async fn bookkeeping(&mut self, batch: &Batch, rows: &Range<u32>, txid: i64) -> sqlx::Result<()> {
        let (mut keys, mut hashes, mut claims) = (Vec::new(), Vec::new(), Vec::new());
        let (mut refused, mut reasons) = (Vec::new(), Vec::new());
        for row in rows.clone() {
            let line = &batch.lines[row as usize];
            match &line.reject {
                Some(reject) => {
                    refused.push(line.key.as_str());
                    reasons.push(format!("{}: {}", reject.code, reject.reason));
                }
                None => {
                    debug_assert!(line.outcome != Outcome::Rejected);
                    keys.push(line.key.as_str());
                    hashes.push(uuid::Uuid::from_u128(line.hash()));
                    claims.push(line.claims.map(|claims| uuid::Uuid::from_u128(claims.to_u128())));
                }
            }
        }
        let done = sqlx::query(
            "create temporary table done on commit drop as \
             select key, hash, claims from unnest($1::text[], $2::uuid[], $3::uuid[]) as sent(key, hash, claims)",
        )
        .bind(&keys)
        .bind(&hashes)
        .bind(&claims);
        answered(self.patience, done.execute(&mut *self.connection)).await?;
        self.execute("analyze done").await?;
        self.keep_ledger("done").await?;
        let entity = crate::ledger::literal(&batch.name);
        self.execute(&format!(
            "update v1v2.ledger l set txid = {txid}, run = {}, source_hash = done.hash, claims = done.claims, \
               earlier = case when t.all_anew then null else l.txid || l.earlier end \
             from done join changing t using (key) where l.entity = {entity} and l.key = done.key; \
             delete from v1v2.conflicts c using done where c.entity = {entity} and c.key = done.key",
            self.run
        ))
        .await?;
        if !refused.is_empty() {
            let keys: Vec<_> = refused.iter().map(|key| crate::ledger::literal(key)).collect();
            self.keep_entries(REFUSED, &format!("where record.key in ({})", keys.join(", "))).await?;
        }
        let (mut of, mut kinds, mut decisions, mut details) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut entities, mut others) = (Vec::new(), Vec::new());
        for note in batch.records.notes.iter().filter(|note| rows.contains(&note.row)) {
            of.push(batch.lines[note.row as usize].key.as_str());
            kinds.push(note.kind.as_str());
            decisions.push(note.decision.as_str());
            entities.push(note.other.as_ref().map(|(entity, _)| &**entity));
            others.push(note.other.as_ref().map(|(_, key)| key.as_str()));
            details.push(note.detail.as_deref());
        }
        for (key, reason) in refused.iter().zip(&reasons) {
            of.push(key);
            kinds.push(REFUSED);
            decisions.push("kept");
            entities.push(None);
            others.push(None);
            details.push(Some(reason));
        }
        let noted = sqlx::query(
            "insert into v1v2.conflicts (entity, key, kind, run, decision, other_entity, other_key, detail) \
             select $1, key, kind, $2, decision, other_entity, other_key, detail \
             from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[]) \
               as sent(key, kind, decision, other_entity, other_key, detail) \
             on conflict (entity, key, kind) do update set run = excluded.run, decision = excluded.decision, \
               other_entity = excluded.other_entity, other_key = excluded.other_key, detail = excluded.detail",
        )
        .bind(&*batch.name)
        .bind(self.run)
        .bind(&of)
        .bind(&kinds)
        .bind(&decisions)
        .bind(&entities)
        .bind(&others)
        .bind(&details);
        answered(self.patience, noted.execute(&mut *self.connection)).await.map(drop)
    }
}
