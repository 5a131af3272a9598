//! What a Postgres V2 knows: the control schema `v1v2`, reference data, accounts.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::try_unfold;
use futures_util::{StreamExt, TryStreamExt};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use xxhash_rust::xxh3::xxh3_64;

use super::lock::require_control_schema;
use super::{accounts, bulk, counts, definition, overview, structure, table};
use crate::census::evenly::Evenly;
use crate::census::{Claims, ExistingAccount};
use crate::connect::{self, Side, answered};
use crate::error::{Error, Result};
use crate::ids;
use crate::ledger::{Known, Outcome, literal};
use crate::plan::{Accounts, Entity, KeyKind, Lookup, Plan};
use crate::row::{Rows, unescape};
use crate::settings::Settings;
use crate::source::quoted;
use crate::target::definition::Applied;
use crate::target::{
    CLAIMS_FACT, Control, EachAccount, EachJoined, EachKey, FreshAccount, KnownEntity, LedgerLines, Login,
    NewEntity, Overview, REFUSED,
};
use crate::validate::{Check, EntityCounts};

/// One connection that reads.
pub struct Session {
    connection: PgConnection,
    place: String,
    patience: Duration,
}

impl Session {
    /// Connects; refuses a V2 that `setup` has not prepared.
    pub async fn open(settings: &Settings, place: &str) -> Result<Self> {
        let mut connection = connect::postgres(Side::V2, settings).await?;
        require_control_schema(&mut connection, place).await?;
        Ok(Self { connection, place: place.to_owned(), patience: settings.patience() })
    }

    fn failed(&self, error: &sqlx::Error) -> Error {
        Error::database(&self.place, error)
    }
}

#[async_trait]
impl Control for Session {
    async fn entity(&mut self, name: &str) -> Result<Option<KnownEntity>> {
        let row: Option<(String, Option<String>)> =
            sqlx::query_as("select key_prefix, definition_hash from v1v2.entities where entity = $1")
                .bind(name)
                .fetch_optional(&mut self.connection)
                .await
                .map_err(|error| self.failed(&error))?;
        Ok(row.map(|(key_prefix, definition_hash)| KnownEntity { key_prefix, definition_hash }))
    }

    async fn keep_entities(&mut self, new: &[NewEntity], run: i32) -> Result<()> {
        for of in new {
            sqlx::query(
                "insert into v1v2.entities (entity, key_prefix, definition_hash, first_run) values ($1, $2, $3, $4) \
                 on conflict (entity) do nothing",
            )
            .bind(&of.name)
            .bind(&of.key_prefix)
            .bind(&of.definition_hash)
            .bind(run)
            .execute(&mut self.connection)
            .await
            .map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    async fn fact(&mut self, key: &str) -> Result<Option<String>> {
        sqlx::query_scalar("select value from v1v2.meta where key = $1")
            .bind(key)
            .fetch_optional(&mut self.connection)
            .await
            .map_err(|error| self.failed(&error))
    }

    async fn remember(&mut self, key: &str, value: &str) -> Result<()> {
        sqlx::query("insert into v1v2.meta (key, value) values ($1, $2) on conflict (key) do nothing")
            .bind(key)
            .bind(value)
            .execute(&mut self.connection)
            .await
            .map(drop)
            .map_err(|error| self.failed(&error))
    }

    async fn structure_changes(&mut self, entities: &[&Entity]) -> Result<Vec<String>> {
        structure::changes(&mut self.connection, &self.place, entities).await
    }

    async fn keep_structure(&mut self, entities: &[&Entity], anew: bool) -> Result<()> {
        structure::keep(&mut self.connection, &self.place, entities, anew).await
    }

    async fn ledger_lines(&mut self) -> Result<HashMap<String, u64>> {
        let counts: Vec<(String, i64)> =
            sqlx::query_as("select entity, count(*) from v1v2.ledger group by entity")
                .fetch_all(&mut self.connection)
                .await
                .map_err(|error| self.failed(&error))?;
        Ok(counts.into_iter().map(|(entity, count)| (entity, count.unsigned_abs())).collect())
    }

    async fn ledger<'c>(&'c mut self, entity: &str, kind: KeyKind) -> Result<LedgerLines<'c>> {
        let order = match kind {
            KeyKind::Integer => "key::numeric",
            KeyKind::Text | KeyKind::Uuid => "key",
        };
        let sql = format!(
            "copy (select key, outcome, source_hash, claims, case outcome when 'g' then account_id end, \
               key in (select key from v1v2.conflicts where entity = {of} and kind = {}) \
             from v1v2.ledger where entity = {of} order by {order}) to stdout",
            literal(REFUSED),
            of = literal(entity)
        );
        let Self { connection, place, patience } = self;
        let (place, patience) = (&*place, *patience);
        let lines = connection.copy_out_raw(&sql).await.map_err(|error| Error::database(place, &error))?;
        // The first line may have to wait for a sort, the others come without a pause.
        let lines = try_unfold((lines, Duration::MAX), move |(mut lines, wait)| async move {
            let line =
                answered(wait, lines.try_next()).await.map_err(|error| Error::database(place, &error))?;
            let Some(line) = line else { return Ok(None) };
            let known = parse(&line).ok_or_else(|| {
                Error::failed(format!(
                    "{place}: v1v2.ledger has a line that this version does not understand"
                ))
                .help("use the version of v1v2 that wrote it (see v1v2.runs.tool_version)")
            })?;
            Ok(Some((known, (lines, patience))))
        });
        Ok(lines.boxed())
    }

    async fn keep_definition(&mut self, run: i32, entity: &str, now: &Applied) -> Result<()> {
        let kept = definition::keep(&mut self.connection, run, entity, now).await;
        kept.map_err(|error| self.failed(&error))
    }

    async fn forget_claims(&mut self, rules: &str) -> Result<()> {
        // Also of lines that a rollback would bring back.
        let sql = "with forgotten as (update v1v2.ledger set claims = null where claims is not null), \
                     kept as (update v1v2.replaced \
                       set record = jsonb_populate_record(record::v1v2.ledger, '{\"claims\": null}')::text \
                       where table_name = '\"v1v2\".\"ledger\"' and record is not null) \
                   insert into v1v2.meta (key, value) values ($1, $2) \
                   on conflict (key) do update set value = excluded.value";
        sqlx::query(sql)
            .bind(CLAIMS_FACT)
            .bind(rules)
            .execute(&mut self.connection)
            .await
            .map(drop)
            .map_err(|error| self.failed(&error))
    }

    async fn joined_accounts(&mut self, entity: &str, each: &mut EachJoined<'_>) -> Result<()> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "select key, account_id from v1v2.ledger \
             where entity = $1 and outcome = 'g' and account_id is not null",
        )
        .bind(entity)
        .fetch_all(&mut self.connection)
        .await
        .map_err(|error| self.failed(&error))?;
        rows.iter().for_each(|(key, account)| each(key, account));
        Ok(())
    }

    async fn migrated_keys(&mut self, entity: &str, each: &mut EachKey<'_>) -> Result<()> {
        let sql = format!(
            "copy (select key from v1v2.ledger where entity = {} and outcome in ('m', 'g')) to stdout",
            literal(entity)
        );
        let Self { connection, place, .. } = self;
        let failed = |error: sqlx::Error| Error::database(place, &error);
        let mut lines = connection.copy_out_raw(&sql).await.map_err(failed)?;
        while let Some(line) = lines.try_next().await.map_err(failed)? {
            each(&unescape(line.strip_suffix(b"\n").unwrap_or(&line)));
        }
        Ok(())
    }

    async fn lookup(&mut self, lookup: &Lookup) -> Result<HashMap<String, String>> {
        let sql = format!(
            "select {by}::text, {id}::text from {table} where {by} is not null",
            by = quoted(&lookup.by),
            id = quoted(&lookup.id),
            table = table(&lookup.table)
        );
        let rows: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(sql))
            .fetch_all(&mut self.connection)
            .await
            .map_err(|error| self.failed(&error))?;
        Ok(rows.into_iter().collect())
    }

    async fn accounts(&mut self, accounts: &Accounts, each: &mut EachAccount<'_>) -> Result<()> {
        let column = |name: &Option<String>| {
            name.as_deref()
                .map_or_else(|| "null".to_owned(), |name| format!("account.{}::text", quoted(name)))
        };
        // Eight bytes for each, because a V2 may have as many accounts as V1 has rows. A join would have Postgres sort both
        // sides by their texts.
        let mut ours: Vec<u64> = Vec::new();
        let named = "copy (select account_id from v1v2.ledger where account_id is not null) to stdout";
        let sql = format!(
            "copy (select account.{id}::text, {}, {}, {} from {table} as account) to stdout",
            column(&accounts.email_column),
            column(&accounts.phone_column),
            // A user name that is the email says nothing more, and is a third of what there is to send.
            match accounts.email_column {
                Some(_) => format!(
                    "nullif({}, {})",
                    column(&accounts.username_column),
                    column(&accounts.email_column)
                ),
                None => column(&accounts.username_column),
            },
            id = quoted(&accounts.id_column),
            table = table(&accounts.table),
        );
        let Self { connection, place, .. } = self;
        let failed = |error: sqlx::Error| Error::database(place, &error);
        let mut lines = connection.copy_out_raw(named).await.map_err(failed)?;
        while let Some(line) = lines.try_next().await.map_err(failed)? {
            ours.push(xxh3_64(line.strip_suffix(b"\n").unwrap_or(&line)));
        }
        drop(lines);
        ours.sort_unstable();
        ours.dedup();
        let evenly = Evenly::over(ours.len(), |at| ours[at]);
        let mut lines = connection.copy_out_raw(&sql).await.map_err(failed)?;
        while let Some(line) = lines.try_next().await.map_err(failed)? {
            let mut rows = Rows::new(4);
            if !rows.push(&line) {
                return Err(Error::failed(format!(
                    "{place}: V2 sent an account with another number of columns"
                )));
            }
            let row = rows.row(0);
            let id = row.text(0).unwrap_or_default();
            each(&ExistingAccount {
                id: &id,
                email: row.text(1).as_deref(),
                phone: row.text(2).as_deref(),
                username: row.text(3).as_deref(),
                ours: evenly.position(xxh3_64(id.as_bytes()), |at| ours[at]).is_some(),
            });
        }
        Ok(())
    }

    async fn missing(&mut self) -> Result<Vec<(String, String)>> {
        let missing = bulk::missing(&mut self.connection, &self.place).await?;
        Ok(missing.into_iter().map(|object| (object.table.name, object.name)).collect())
    }

    async fn overview(&mut self) -> Result<Overview> {
        overview::read(&mut self.connection).await.map_err(|error| self.failed(&error))
    }

    async fn accounting(&mut self, entity: &str) -> Result<EntityCounts> {
        let mut counts = EntityCounts { entity: entity.to_owned(), ..EntityCounts::default() };
        let row =
            sqlx::query("select migrated, merged, skipped, rejected from v1v2.accounting where entity = $1")
                .bind(entity)
                .fetch_optional(&mut self.connection)
                .await
                .map_err(|error| self.failed(&error))?;
        if let Some(row) = row {
            let count = |index: usize| row.try_get::<i64, _>(index).map(i64::unsigned_abs);
            let all = [count(0), count(1), count(2), count(3)];
            let [migrated, merged, skipped, rejected] = all.map(|count| count.unwrap_or_default());
            counts = EntityCounts { migrated, merged, skipped, rejected, ..counts };
        }
        Ok(counts)
    }

    async fn check_records(&mut self, entity: &Entity) -> Result<Vec<Check>> {
        counts::records(&mut self.connection, &self.place, entity).await
    }

    async fn check_tables(&mut self, plan: &Plan) -> Result<(Vec<(String, u64)>, Vec<Check>)> {
        counts::tables(&mut self.connection, &self.place, plan).await
    }

    async fn fresh_accounts(
        &mut self,
        plan: &Plan,
        each: &mut (dyn FnMut(FreshAccount) -> Result<()> + Send),
    ) -> Result<()> {
        accounts::fresh(&mut self.connection, plan, &self.place, each).await
    }

    async fn login(&mut self, plan: &Plan, email: &str) -> Result<Option<Login>> {
        accounts::login(&mut self.connection, plan, &self.place, email).await
    }
}

fn parse(line: &[u8]) -> Option<(String, Known)> {
    let mut rows = Rows::new(6);
    if !rows.push(line) {
        return None;
    }
    let row = rows.row(0);
    let outcome = Outcome::from_letter(&row.text(1)?)?;
    let source_hash = uuid::Uuid::parse_str(&row.text(2)?).ok()?.as_u128();
    let claims = row.text(3).and_then(|claims| uuid::Uuid::parse_str(&claims).ok());
    let claims = claims.map(|claims| Claims::from_u128(claims.as_u128()));
    let joined = row.text(4).and_then(|account| ids::parse(&account));
    let refused = row.text(5)? == "t";
    Some((row.text(0)?.into_owned(), Known { outcome, source_hash, claims, joined, refused }))
}
