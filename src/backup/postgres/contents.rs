//! What a Postgres database holds: tables with their rows for the manifest, and everything that would be in a restore's
//! way. Objects that belong to an extension come and go with it and are left out.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use crate::backup::manifest::Content;
use crate::backup::{MARKER, checksum};
use crate::error::{Error, Result};

/// Schemas of the server.
const NOT_OURS: &str = "n.nspname !~ '^pg_' and n.nspname <> 'information_schema'";

/// An object is part of an extension. `{}` is the catalog and the column of the oid.
fn of_extension(catalog: &str, oid: &str) -> String {
    format!(
        "exists (select from pg_depend d where d.classid = '{catalog}'::regclass and d.objid = {oid} and d.deptype = 'e')"
    )
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// All tables with data of their own, counted in the connection's transaction.
///
/// # Errors
/// Failed: the server does not answer, or a table may not be read.
pub(super) async fn tables(
    place: &str,
    connection: &mut PgConnection,
    mut each: impl FnMut(&str),
) -> Result<Vec<Content>> {
    let failed = |error: sqlx::Error| Error::database(place, &error);
    let sql = format!(
        "select n.nspname::text, c.relname::text, pg_table_size(c.oid), \
                coalesce((select array_agg(pg_get_indexdef(i.indexrelid) order by i.indexrelid::regclass::text) \
                          from pg_index i where i.indrelid = c.oid), '{{}}') \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.relkind = 'r' and c.relpersistence <> 't' and {NOT_OURS} and not {} \
         order by n.nspname::text collate \"C\", c.relname::text collate \"C\"",
        of_extension("pg_class", "c.oid")
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.map_err(failed)?;
    let mut contents = Vec::with_capacity(rows.len());
    for row in rows {
        let (schema, name): (String, String) = (row.get(0), row.get(1));
        let (bytes, indexes): (i64, Vec<String>) = (row.get(2), row.get(3));
        let count = count(place, connection, &schema, &name).await?;
        each(&format!("{schema}.{name}"));
        contents.push(Content {
            schema: Some(schema),
            name,
            kind: "table".to_owned(),
            file: None,
            rows: count,
            bytes: u64::try_from(bytes).unwrap_or_default(),
            // Known when the archive has been read back.
            sha256: checksum::of(b""),
            digest: None,
            options: String::new(),
            indexes,
        });
    }
    Ok(contents)
}

/// Number of rows of one table, without those of tables that inherit from it.
///
/// # Errors
/// Failed: the server does not answer.
pub(super) async fn count(
    place: &str,
    connection: &mut PgConnection,
    schema: &str,
    name: &str,
) -> Result<u64> {
    let sql = format!("select count(*) from only {}.{}", quoted(schema), quoted(name));
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(connection)
        .await
        .map_err(|error| Error::database(place, &error))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Roles that own something here or were granted something. The one that `initdb` made is not listed: every cluster has
/// one.
///
/// # Errors
/// Failed: the server does not answer.
pub(super) async fn roles(place: &str, connection: &mut PgConnection) -> Result<Vec<String>> {
    let sql = "select distinct r.rolname::text from pg_shdepend d join pg_roles r on r.oid = d.refobjid \
               where d.refclassid = 'pg_authid'::regclass and d.classid <> 'pg_database'::regclass \
                 and d.dbid = (select oid from pg_database where datname = current_database()) order by 1";
    sqlx::query_scalar(sql).fetch_all(connection).await.map_err(|error| Error::database(place, &error))
}

/// Everything that a restore would meet: (kind and name, rows as the server estimates them).
///
/// # Errors
/// Failed: the server does not answer.
pub(super) async fn in_the_way(place: &str, connection: &mut PgConnection) -> Result<Vec<(String, u64)>> {
    let sql = format!(
        "select case c.relkind when 'v' then 'view ' when 'm' then 'materialized view ' when 'S' then 'sequence ' \
                  when 'f' then 'foreign table ' else 'table ' end || n.nspname || '.' || c.relname, \
                greatest(c.reltuples, 0)::int8 \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and c.relpersistence <> 't' and {NOT_OURS} \
           and n.nspname <> '{MARKER}' and not {} \
         union all \
         select 'schema ' || n.nspname, 0 from pg_namespace n \
         where {NOT_OURS} and n.nspname not in ('public', '{MARKER}') and not {} \
         union all \
         select 'function ' || n.nspname || '.' || p.proname, 0 from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
         where {NOT_OURS} and not {} \
         union all \
         select 'type ' || n.nspname || '.' || t.typname, 0 from pg_type t join pg_namespace n on n.oid = t.typnamespace \
         where {NOT_OURS} and t.typtype in ('d', 'e', 'r') and not {} \
         union all \
         select 'extension ' || e.extname, 0 from pg_extension e where e.extname <> 'plpgsql' \
         union all \
         select 'publication ' || pubname, 0 from pg_publication \
         union all \
         select 'event trigger ' || evtname, 0 from pg_event_trigger \
         union all \
         select 'foreign data wrapper ' || fdwname, 0 from pg_foreign_data_wrapper f where not {} \
         union all \
         select 'large objects', count(*) from pg_largeobject_metadata having count(*) > 0 \
         order by 1",
        of_extension("pg_class", "c.oid"),
        of_extension("pg_namespace", "n.oid"),
        of_extension("pg_proc", "p.oid"),
        of_extension("pg_type", "t.oid"),
        of_extension("pg_foreign_data_wrapper", "f.oid"),
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(connection).await;
    let rows = rows.map_err(|error| Error::database(place, &error))?;
    Ok(rows.iter().map(|row| (row.get(0), u64::try_from(row.get::<i64, _>(1)).unwrap_or_default())).collect())
}

/// Removes everything, but for the marker. In the caller's transaction.
///
/// # Errors
/// Failed: the user may not.
pub(super) async fn remove_all(place: &str, connection: &mut PgConnection, version: u32) -> Result<()> {
    let failed = |error: sqlx::Error| Error::database(place, &error);
    let sql = "select format('drop publication %I', pubname) from pg_publication \
         union all select format('drop event trigger %I', evtname) from pg_event_trigger \
         union all select format('drop extension %I cascade', extname) from pg_extension where extname <> 'plpgsql'";
    let mut statements: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.map_err(failed)?;
    for statement in statements.drain(..) {
        run(connection, &statement).await.map_err(failed)?;
    }
    // An extension may have been the owner of schemas, so these come after it.
    let sql = format!(
        "select format('drop foreign data wrapper %I cascade', fdwname) from pg_foreign_data_wrapper \
         union all select format('drop schema %I cascade', n.nspname) from pg_namespace n \
         where {NOT_OURS} and n.nspname <> '{MARKER}'"
    );
    statements = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.map_err(failed)?;
    for statement in statements {
        run(connection, &statement).await.map_err(failed)?;
    }
    run(connection, "select lo_unlink(oid) from pg_largeobject_metadata").await.map_err(failed)?;
    // As `createdb` makes it: since 15 it belongs to the database's owner, and only they create in it.
    let public = if version >= 15 {
        "create schema public authorization pg_database_owner; grant usage on schema public to public; \
         comment on schema public is 'standard public schema'"
    } else {
        "create schema public; grant usage, create on schema public to public; \
         comment on schema public is 'standard public schema'"
    };
    run(connection, public).await.map_err(failed)
}

pub(super) async fn run(connection: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.map(drop)
}
