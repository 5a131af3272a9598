//! Everything a run looks up once, before the first row.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::{Estimate, Summary};
use crate::error::{Error, Result};
use crate::ids::{IdMaker, common_prefix};
use crate::ledger::literal;
use crate::migrator::{EntityIds, Lookups, MigratedKeys, References};
use crate::password::{self, HashPool};
use crate::plan::{Fill, KeyKind, Plan, Scope};
use crate::row::unescape;
use crate::settings::{PasswordMode, Settings, did_you_mean};
use crate::source::{Snapshot, quoted};
use crate::target::postgres::table;
use crate::target::postgres::trial::Trial;

/// How many records of each table a dry run shows.
const SAMPLES: u32 = 10;

/// The plan's entities that were asked for, in dependency order.
///
/// # Errors
/// Usage: there is no entity of that name. `flag` says where it was named.
pub fn select(plan: &Plan, wanted: Option<&[String]>, flag: &str) -> Result<Vec<usize>> {
    let Some(wanted) = wanted else { return Ok((0..plan.entities.len()).collect()) };
    let names: Vec<&str> = plan.entities.iter().map(|entity| &*entity.name).collect();
    for name in wanted {
        if !names.contains(&name.as_str()) {
            let close = did_you_mean(name, names.iter().copied());
            let hint = close.map(|close| format!("did you mean {close}? ")).unwrap_or_default();
            return Err(Error::usage(format!("{flag}: there is no entity {name:?}"))
                .help(format!("{hint}the definitions have {}", names.join(", "))));
        }
    }
    Ok((0..names.len()).filter(|&index| wanted.iter().any(|name| name == names[index])).collect())
}

/// A prefix that V2 does not know yet.
pub struct NewPrefix {
    entity: String,
    prefix: String,
    definition_hash: String,
}

/// How each entity's ids are made. The prefix is decided when an entity is first read and never changes after that.
pub async fn entity_ids(
    control: &mut PgConnection,
    snapshot: &mut Snapshot,
    plan: &Plan,
    place: &str,
) -> Result<(Vec<EntityIds>, Vec<NewPrefix>)> {
    let failed = |error: sqlx::Error| Error::database(place, &error);
    let mut ids = Vec::new();
    let mut new = Vec::new();
    for entity in &plan.entities {
        let row = sqlx::query("select key_prefix, definition_hash from v1v2.entities where entity = $1")
            .bind(&*entity.name)
            .fetch_optional(&mut *control)
            .await
            .map_err(failed)?;
        let prefix = match row {
            Some(row) => {
                let hash: Option<String> = row.try_get(1).map_err(failed)?;
                if hash.is_some_and(|hash| hash != entity.definition_hash) {
                    tracing::warn!(
                        "the definition of {} was edited since its rows were first migrated; rows that are in V2 \
                         already keep what the old definition gave them",
                        entity.name
                    );
                }
                row.try_get(0).map_err(failed)?
            }
            None => {
                let range = match entity.source.key_kind {
                    KeyKind::Integer => None,
                    KeyKind::Text | KeyKind::Uuid => snapshot.key_range(&entity.source).await?,
                };
                let prefix =
                    range.map(|(first, last)| common_prefix(&first, &last).to_owned()).unwrap_or_default();
                new.push(NewPrefix {
                    entity: entity.name.to_string(),
                    prefix: prefix.clone(),
                    definition_hash: entity.definition_hash.clone(),
                });
                prefix
            }
        };
        let maker = IdMaker::new(&entity.name, entity.source.key_kind, &prefix);
        ids.push(EntityIds { maker, kind: entity.ids });
    }
    Ok((ids, new))
}

/// Keeps new prefixes in V2, before the first id is made with them.
pub async fn keep_prefixes(
    control: &mut PgConnection,
    new: &[NewPrefix],
    run: i32,
    place: &str,
) -> Result<()> {
    for of in new {
        sqlx::query(
            "insert into v1v2.entities (entity, key_prefix, definition_hash, first_run) values ($1, $2, $3, $4) \
             on conflict (entity) do nothing",
        )
        .bind(&of.entity)
        .bind(&of.prefix)
        .bind(&of.definition_hash)
        .bind(run)
        .execute(&mut *control)
        .await
        .map_err(|error| Error::database(place, &error))?;
    }
    Ok(())
}

/// Number of ledger lines of each entity.
pub async fn ledger_lines(control: &mut PgConnection, plan: &Plan, place: &str) -> Result<Vec<u64>> {
    let counts: Vec<(String, i64)> =
        sqlx::query_as("select entity, count(*) from v1v2.ledger group by entity")
            .fetch_all(control)
            .await
            .map_err(|error| Error::database(place, &error))?;
    let count = |name: &str| {
        counts.iter().find(|(entity, _)| entity == name).map_or(0, |(_, count)| count.unsigned_abs())
    };
    Ok(plan.entities.iter().map(|entity| count(&entity.name)).collect())
}

/// Entities that others depend on must be in V2 already or be part of this run.
pub async fn require_dependencies(
    snapshot: &mut Snapshot,
    plan: &Plan,
    selected: &[usize],
    ledger_lines: &[u64],
) -> Result<()> {
    for &index in selected {
        let entity = &plan.entities[index];
        let mut lacking = Vec::new();
        for (other, dependency) in plan.entities.iter().enumerate() {
            let needed = entity.after.contains(&dependency.name);
            if needed
                && !selected.contains(&other)
                && ledger_lines[other] == 0
                && snapshot.count(&dependency.source, None).await? > 0
            {
                lacking.push(&*dependency.name);
            }
        }
        if !lacking.is_empty() {
            let list = lacking.join(", ");
            return Err(Error::usage(format!(
                "{} depend on {list}, which V2 does not have yet",
                entity.name
            ))
            .help(format!(
                "migrate them first or together: --entities {},{}",
                lacking.join(","),
                entity.name
            )));
        }
    }
    Ok(())
}

/// V2's reference data.
pub async fn lookups(control: &mut PgConnection, plan: &Plan, place: &str) -> Result<Lookups> {
    let mut all = Vec::new();
    for lookup in &plan.lookups {
        let sql = format!(
            "select {by}::text, {id}::text from {table} where {by} is not null",
            by = quoted(&lookup.by),
            id = quoted(&lookup.id),
            table = table(&lookup.table)
        );
        let rows: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(sql))
            .fetch_all(&mut *control)
            .await
            .map_err(|error| Error::database(place, &error))?;
        if rows.is_empty() {
            return Err(Error::refused(format!(
                "{place}: the reference table {} is empty",
                lookup.table.name
            ))
            .help("run `v1v2 setup`, which fills it"));
        }
        all.push(rows.into_iter().collect::<HashMap<_, _>>());
    }
    Ok(Lookups(all))
}

/// The rows that others may refer to and that V2 has already.
pub async fn references(control: &mut PgConnection, plan: &Plan, place: &str) -> Result<References> {
    let mut needed = vec![false; plan.entities.len()];
    for entity in &plan.entities {
        for column in entity.writes.iter().flat_map(|write| &write.columns) {
            if let Fill::Reference { entity, .. } = &column.fill {
                needed[*entity] = true;
            }
        }
        if let Some(Scope::Reference { entity, .. }) =
            entity.account.as_ref().and_then(|spec| spec.scope.as_ref())
        {
            needed[*entity] = true;
        }
    }
    let mut references = Vec::new();
    for (entity, needed) in plan.entities.iter().zip(needed) {
        if !needed {
            references.push(None);
            continue;
        }
        let keys = MigratedKeys::default();
        let sql = format!(
            "copy (select key from v1v2.ledger where entity = {} and outcome in ('m', 'g')) to stdout",
            literal(&entity.name)
        );
        let failed = |error: sqlx::Error| Error::database(place, &error);
        let mut lines = control.copy_out_raw(&sql).await.map_err(failed)?;
        while let Some(line) = lines.try_next().await.map_err(failed)? {
            let key = unescape(line.strip_suffix(b"\n").unwrap_or(&line));
            keys.extend(std::iter::once(&*key));
        }
        references.push(Some(keys));
    }
    Ok(References(references))
}

/// Refuses a key or a length that is not the one of earlier runs: the hand-out list is made from one of each.
pub async fn require_same_passwords(
    settings: &Settings,
    control: &mut PgConnection,
    place: &str,
) -> Result<()> {
    password::check_length(settings.password_length)?;
    let key = password::load_or_create(&settings.key_file)?;
    let Some((fingerprint, length)) = password_facts(control, place).await? else { return Ok(()) };
    if fingerprint != key.fingerprint() {
        return Err(Error::refused(format!(
            "the key file {} is not the one that the passwords in V2 were derived from (its fingerprint is {}, V2 \
             says {fingerprint})",
            settings.key_file.display(),
            key.fingerprint(),
        ))
        .help("use the same key file for all runs into one V2 (`key_file`, V1V2_KEY_FILE)"));
    }
    if length != settings.password_length {
        return Err(Error::refused(format!(
            "the passwords in V2 were made with a length of {length} characters"
        ))
        .help(format!("set password_length to {length}")));
    }
    Ok(())
}

/// Starts the workers that hash passwords.
pub async fn hash_pool(
    settings: &Arc<Settings>,
    control: &mut PgConnection,
    place: &str,
) -> Result<HashPool> {
    let length = password::check_length(settings.password_length)?;
    let key = password::load(&settings.key_file)?;
    remember(control, "password_key", &key.fingerprint(), place).await?;
    remember(control, "password_length", &settings.password_length.to_string(), place).await?;
    HashPool::new(settings.hash_threads, settings.hash_cost, key, length)
}

/// Keeps a fact about V2 if there is none yet.
async fn remember(control: &mut PgConnection, key: &str, value: &str, place: &str) -> Result<()> {
    sqlx::query("insert into v1v2.meta (key, value) values ($1, $2) on conflict (key) do nothing")
        .bind(key)
        .bind(value)
        .execute(control)
        .await
        .map(drop)
        .map_err(|error| Error::database(place, &error))
}

/// How long the run itself will take, from what the dry run took and the time of one hash on this machine.
pub fn estimate(settings: &Settings, summary: &Summary) -> Result<Estimate> {
    let mut hashing = Duration::ZERO;
    if settings.passwords == PasswordMode::Generate && summary.passwords > 0 {
        let threads = match settings.hash_threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        let one = password::measure(settings.hash_cost)?;
        hashing = one.mul_f64(summary.passwords as f64 / threads as f64);
    }
    // Hashing goes on while rows are written, so the longer of the two counts.
    Ok(Estimate { total: summary.duration.max(hashing), hashing })
}

/// The time of the run as Postgres writes a timestamp, in UTC, to the millisecond.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// The first records of each table that a dry run would write, as JSON, with passwords masked.
pub async fn samples(
    trial: &mut Trial,
    plan: &Plan,
    selected: &[usize],
    place: &str,
) -> Result<Vec<(String, Vec<String>)>> {
    let mut samples = Vec::new();
    let password = plan.accounts.as_ref().and_then(|accounts| accounts.password_column.as_deref());
    for entity in selected.iter().map(|&index| &plan.entities[index]) {
        for write in &entity.writes {
            if samples.iter().any(|(table, _)| *table == write.table.name) {
                continue;
            }
            let columns = write.columns.iter().map(|column| {
                let name = quoted(&column.name);
                match password {
                    Some(password) if password == column.name => format!("'***' as {name}"),
                    _ => name,
                }
            });
            let sql = format!(
                "select row_to_json(sample)::text from (select {} from {} limit {SAMPLES}) as sample",
                columns.collect::<Vec<_>>().join(", "),
                table(&Trial::table_for(&write.table)),
            );
            let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
                .fetch_all(trial.connection())
                .await
                .map_err(|error| Error::database(place, &error))?;
            samples.push((write.table.name.clone(), rows));
        }
    }
    Ok(samples)
}

/// The fingerprint of the key and the length that V2's generated passwords were made with; `None` if there are none.
pub async fn password_facts(control: &mut PgConnection, place: &str) -> Result<Option<(String, usize)>> {
    let facts: Vec<(String, String)> =
        sqlx::query_as("select key, value from v1v2.meta where key in ('password_key', 'password_length')")
            .fetch_all(control)
            .await
            .map_err(|error| Error::database(place, &error))?;
    let fact = |name: &str| facts.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    Ok(fact("password_key").zip(fact("password_length").and_then(|length| length.parse().ok())))
}
