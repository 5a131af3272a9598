//! What rows of V2 were before a run changed or removed them: kept in `v1v2.replaced`, in the transaction of the change,
//! and brought back by a rollback of that run (`restore.rs`).
//!
//! A row is kept in Postgres's own text form (`record::text`), which every type survives to the letter. Of a table where a row of V1
//! had nothing, and got something, a null says so. What the run left as it was is not kept.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};

use super::rollback::belongs_by;
use super::stage::Stage;
use crate::connect::answered;
use crate::error::{Error, Result};
use crate::plan::{AccountField, Entity, Fill, TableName, When, Write};
use crate::target::RunName;

/// Of a line of the ledger: the transactions that wrote the row's records, as `xmin` tells them, by the lower half of their
/// numbers.
pub const XIDS: &str = "case when earlier is null then array[txid & 4294967295] \
     else array(select number & 4294967295 from unnest(txid || earlier) as number) end";

/// A record that nobody has touched since v1v2 wrote it, with the ledger's line in a table `t` that has its [`XIDS`].
pub const UNTOUCHED: &str = "record.xmin::text::bigint = any (t.xids)";

/// What happened to a row that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// V1's row had changed.
    Changed,
    /// V1's row was gone.
    Removed,
    /// V1's row had been rejected, and was tried again: only its line and its conflicts were there.
    Retried,
    /// It stayed as it was, and the conflict log's entry that says so replaced an older one.
    Stayed,
}

impl How {
    /// As it stands in `v1v2.replaced`.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Changed => "u",
            Self::Removed => "p",
            Self::Retried => "r",
            Self::Stayed => "s",
        }
    }
}

/// How a write's rows in V2 are found.
pub enum Found<'w> {
    /// One by one: this column of the write holds an id that is derived from the row of V1.
    ById(usize),
    /// All that belong to a row of V1: a column of the table, its type, and the ledger's column that it equals.
    Together(&'w str, &'w str, &'static str),
}

/// How a write's rows in V2 are found; `None` if nothing says which row of V1 they belong to.
pub fn found_by<'w>(entity: &Entity, write: &'w Write) -> Option<Found<'w>> {
    let id = |fill: &Fill| matches!(fill, Fill::Id | Fill::DerivedId(_));
    let account = |fill: &Fill| *fill == Fill::Account(AccountField::Id);
    let position = |fills: &dyn Fn(&Fill) -> bool| {
        write.columns.iter().position(|column| !column.later && fills(&column.fill))
    };
    let single = position(&id);
    let single = match write.when {
        When::Each(_) => None,
        When::Account => single.or_else(|| position(&account)),
        When::Row | When::Role => single,
    };
    if let Some(column) = single {
        return Some(Found::ById(column));
    }
    belongs_by(entity, write).map(|(column, type_name, ledger)| Found::Together(column, type_name, ledger))
}

/// What a transaction that changes or removes rows works with: one connection, one run.
pub struct Session<'c> {
    pub connection: &'c mut PgConnection,
    pub patience: Duration,
    pub run: i32,
    pub entity: &'c Entity,
    pub how: How,
    pub stage: Stage,
}

impl Session<'_> {
    /// Runs statements that return nothing.
    pub async fn execute(&mut self, sql: &str) -> sqlx::Result<()> {
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *self.connection);
        answered(self.patience, done).await.map(drop)
    }

    /// Keeps rows as they are now. `from` names the row `record`, and its key.
    pub async fn keep(&mut self, table: &TableName, key: &str, from: &str) -> sqlx::Result<()> {
        if !self.stage.is_real() {
            return Ok(());
        }
        let name = super::table(table);
        let sql = format!(
            "insert into v1v2.replaced (run, how, entity, key, table_name, record) \
             select $1, $2::text::\"char\", $3, {key}, $4, record::text from {from}"
        );
        let kept = sqlx::query(AssertSqlSafe(sql))
            .bind(self.run)
            .bind(self.how.letter())
            .bind(&*self.entity.name)
            .bind(name)
            .execute(&mut *self.connection);
        answered(self.patience, kept).await.map(drop)
    }

    /// Keeps the lines of ledger and conflict log of the keys in a table `of`.
    pub async fn keep_ledger(&mut self, of: &str) -> sqlx::Result<()> {
        let entity = crate::ledger::literal(&self.entity.name);
        for name in OWN {
            let from = format!("v1v2.{name} as record join {of} using (key) where record.entity = {entity}");
            let table = TableName { schema: "v1v2".to_owned(), name: name.to_owned() };
            self.keep(&table, "record.key", &from).await?;
        }
        Ok(())
    }
}

impl Session<'_> {
    /// Keeps entries of the conflict log that other runs made of rows that stay, and that new ones are to replace. `which` is
    /// a join or a condition that picks them.
    pub async fn keep_entries(&mut self, kind: &str, which: &str) -> sqlx::Result<()> {
        let from = format!(
            "v1v2.conflicts as record {which} and record.entity = {} and record.kind = {} and record.run <> {}",
            crate::ledger::literal(&self.entity.name),
            crate::ledger::literal(kind),
            self.run
        );
        let log = TableName { schema: "v1v2".to_owned(), name: "conflicts".to_owned() };
        let how = std::mem::replace(&mut self.how, How::Stayed);
        let kept = self.keep(&log, "record.key", &from).await;
        self.how = how;
        kept
    }
}

/// What v1v2 itself says about a row.
pub const OWN: [&str; 2] = ["ledger", "conflicts"];

/// Removes what ledger and conflict log say of rows that had been rejected and are tried again, and keeps it.
pub async fn forget(
    connection: &mut PgConnection,
    patience: Duration,
    run: i32,
    entity: &str,
    keys: &[&str],
) -> sqlx::Result<()> {
    for name in OWN {
        let sql = format!(
            "with gone as (delete from v1v2.{name} where entity = $1 and key = any ($2) returning *) \
             insert into v1v2.replaced (run, how, entity, key, table_name, record) \
             select $3, '{}', $1, key, '\"v1v2\".\"{name}\"', gone::text from gone",
            How::Retried.letter()
        );
        let gone = sqlx::query(AssertSqlSafe(sql)).bind(entity).bind(keys).bind(run);
        answered(patience, gone.execute(&mut *connection)).await?;
    }
    Ok(())
}

/// Makes rows of the table `taken` rejected again that the run had tried again, in the transaction in which their lines of
/// that run went.
pub async fn retried(connection: &mut PgConnection, entity: &str, run: i32) -> sqlx::Result<()> {
    let of = format!(
        "p.run = {run} and p.how = '{}' and p.entity = {} and p.key = t.key",
        How::Retried.letter(),
        crate::ledger::literal(entity)
    );
    let insert = |name: &str| {
        format!(
            "insert into v1v2.{name} select (p.record::v1v2.{name}).* from v1v2.replaced p join taken t on {of} \
             where p.table_name = '\"v1v2\".\"{name}\"'; "
        )
    };
    let sql = OWN.map(insert).concat() + &format!("delete from v1v2.replaced p using taken t where {of}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

/// Once nothing else is left of a run: what it told about rows that stayed becomes what others had told, and what later runs
/// keep of rows that it had rejected goes, which is of no use any more.
pub async fn end(connection: &mut PgConnection, run: i32) -> sqlx::Result<()> {
    let stayed = format!("run = {run} and how = '{}'", How::Stayed.letter());
    let sql = format!(
        "delete from v1v2.conflicts where run = {run}; \
         insert into v1v2.conflicts select (record::v1v2.conflicts).* from v1v2.replaced where {stayed} \
           on conflict do nothing; \
         delete from v1v2.replaced where {stayed}"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await?;
    for name in OWN {
        // What is kept of another table cannot be read as this one's: the condition goes before the cast.
        let sql = format!(
            "delete from v1v2.replaced where case when how in ('{}', '{}') and table_name = '\"v1v2\".\"{name}\"' \
             then (record::v1v2.{name}).run = $1 else false end",
            How::Retried.letter(),
            How::Stayed.letter()
        );
        sqlx::query(AssertSqlSafe(sql)).bind(run).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Refuses to take back a run of which a later one has changed or removed rows: that one goes first.
pub async fn require_latest(connection: &mut PgConnection, run: RunName, place: &str) -> Result<()> {
    let later: Option<String> = sqlx::query_scalar(
        "select r.id::text from v1v2.replaced p join v1v2.runs r on r.no = p.run \
         where p.table_name = '\"v1v2\".\"ledger\"' and r.state <> 'rolled_back' and p.run <> $1 and p.how <> 'r' \
           and (p.record::v1v2.ledger).run = $1 order by p.run desc limit 1",
    )
    // A row that this run had rejected has nothing that a later one could need.
    .bind(run.number)
    .fetch_optional(connection)
    .await
    .map_err(|error| Error::database(place, &error))?;
    match later {
        Some(later) => Err(Error::refused(format!(
            "{place}: a later run has changed or removed rows that this run made"
        ))
        .help(format!("take that one back first: `v1v2 rollback --run {later}`"))),
        None => Ok(()),
    }
}
