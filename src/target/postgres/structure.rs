//! What V2's tables were like when an entity was first written, kept beside the ledger.
//!
//! Rows of two runs must mean the same. A column that was widened, narrowed or given another type, or a constraint that came
//! or went in between, is perhaps what somebody wanted and perhaps a mistake on the way to production; nobody but the user
//! can tell, so the next run stops and says what is different. What the application added for itself (columns that no
//! definition writes, indexes that only make it faster) does not count.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::table;
use crate::error::{Error, Result};
use crate::plan::{Entity, TableName};
use crate::target::structure::{KEY, Structure, compare};

/// In the order of the parameters: table, columns written. What a bulk load owes is there, as far as anybody is concerned.
const PARTS: &str = "
select 'column ' || attname, format_type(atttypid, atttypmod) || case when attnotnull then ' not null' else '' end
from pg_attribute where attrelid = $1::regclass and attname = any($2) and not attisdropped
union
select 'constraint ' || conname, regexp_replace(pg_get_constraintdef(oid), ' NOT VALID$', '')
from pg_constraint where conrelid = $1::regclass and contype in ('c', 'f', 'p', 'u', 'x')
union
select 'constraint ' || name, regexp_replace(definition, ' NOT VALID$', '')
from v1v2.dropped where kind <> 'index' and to_regclass(format('%I.%I', schema_name, table_name)) = $1::regclass
union
select 'unique index ' || c.relname, pg_get_indexdef(x.indexrelid)
from pg_index x join pg_class c on c.oid = x.indexrelid
where x.indrelid = $1::regclass and x.indisunique and not exists (select from pg_constraint k where k.conindid = x.indexrelid)
union
select 'unique index ' || name, definition
from v1v2.dropped where kind = 'index' and definition like 'CREATE UNIQUE %'
  and to_regclass(format('%I.%I', schema_name, table_name)) = $1::regclass";

/// The differences, in words.
pub async fn changes(
    connection: &mut PgConnection,
    place: &str,
    entities: &[&Entity],
) -> Result<Vec<String>> {
    let mut changes = BTreeSet::new();
    for entity in entities {
        let Some(then) = known(connection, place, entity).await? else { continue };
        let now = read(connection, place, entity).await?;
        changes.extend(compare(&then, &now));
    }
    Ok(changes.into_iter().collect())
}

/// Remembers the tables as they are.
pub async fn keep(
    connection: &mut PgConnection,
    place: &str,
    entities: &[&Entity],
    anew: bool,
) -> Result<()> {
    for entity in entities {
        let now = read(connection, place, entity).await?;
        let Ok(text) = serde_json::to_string(&now) else { continue };
        sqlx::query(
            // What a rollback that was killed at its very end has left does not count.
            "insert into v1v2.meta (key, value) values ($1, $2) on conflict (key) do update \
             set value = excluded.value where $3 or not exists (select from v1v2.ledger where entity = $4)",
        )
        .bind(key(entity))
        .bind(text)
        .bind(anew)
        .bind(&*entity.name)
        .execute(&mut *connection)
        .await
        .map_err(|error| Error::database(place, &error))?;
    }
    Ok(())
}

/// Forgets the tables of entities that have no ledger line left; definitions, and the rules of claims, with the last line of all, as the
/// entities.
pub async fn forget(connection: &mut PgConnection) -> sqlx::Result<()> {
    let sql = "delete from v1v2.meta m where (key like 'structure of %' and not exists \
                 (select from v1v2.ledger where entity = substr(m.key, length('structure of ') + 1))) \
               or ((key like 'definition of %' or key like 'definitions of %' or key = 'claims') and not exists (select from v1v2.ledger))";
    sqlx::query(sql).execute(connection).await.map(drop)
}

fn key(entity: &Entity) -> String {
    format!("{KEY}{}", entity.name)
}

async fn known(connection: &mut PgConnection, place: &str, entity: &Entity) -> Result<Option<Structure>> {
    let value: Option<String> = sqlx::query_scalar(
        "select value from v1v2.meta where key = $1 and exists (select from v1v2.ledger where entity = $2)",
    )
    .bind(key(entity))
    .bind(&*entity.name)
    .fetch_optional(connection)
    .await
    .map_err(|error| Error::database(place, &error))?;
    Ok(value.and_then(|value| serde_json::from_str(&value).ok()))
}

async fn read(connection: &mut PgConnection, place: &str, entity: &Entity) -> Result<Structure> {
    let mut columns: BTreeMap<&TableName, Vec<&str>> = BTreeMap::new();
    for write in &entity.writes {
        columns.entry(&write.table).or_default().extend(write.columns.iter().map(|of| of.name.as_str()));
    }
    let mut structure = Structure::new();
    for (name, columns) in columns {
        let parts: Vec<(String, String)> = sqlx::query_as(PARTS)
            .bind(table(name))
            .bind(columns)
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| Error::database(place, &error))?;
        structure.insert(format!("{}.{}", name.schema, name.name), parts.into_iter().collect());
    }
    Ok(structure)
}
