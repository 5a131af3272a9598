//! Takes back exactly what setup made. The list of it is kept in V2 (`v1v2.setup_objects`), so tables that were there
//! before, or that somebody else added, are never dropped; and nothing is dropped with CASCADE, so Postgres itself
//! names whatever of the user's depends on ours.

use sqlx::{AssertSqlSafe, PgConnection};

use super::super::{CleanPlan, CleanTable};
use super::{database_name, exists, quoted, v2};
use crate::{Error, Result};

/// The order in which kinds of things are dropped: users before what they use.
const ORDER: [&str; 6] = ["view", "materialized view", "table", "sequence", "routine", "type"];

/// What `setup --clean` would remove from this database. Counts rows, which takes seconds on millions.
///
/// # Errors
/// Only if the server cannot be asked.
pub async fn what_clean_removes(conn: &mut PgConnection) -> Result<CleanPlan> {
    let mut plan = CleanPlan { database: database_name(conn).await?, tables: Vec::new(), others: Vec::new() };
    for (kind, name) in objects(conn).await? {
        if kind == "table" {
            let count = format!("select count(*) from {name}");
            let rows: i64 =
                sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut *conn).await.map_err(v2)?;
            plan.tables.push(CleanTable { name, rows: u64::try_from(rows).unwrap_or(0) });
        } else {
            plan.others.push(format!("{kind} {name}"));
        }
    }
    Ok(plan)
}

/// Drops it all; returns how many things.
pub(super) async fn remove(conn: &mut PgConnection) -> Result<usize> {
    refuse_while_running(conn).await?;
    let objects = objects(conn).await?;
    for kind in ORDER {
        let names: Vec<&str> =
            objects.iter().filter(|(other, _)| other == kind).map(|(_, name)| name.as_str()).collect();
        if !names.is_empty() {
            // One statement per kind: tables that point at each other go together.
            drop_things(conn, format!("drop {kind} {} restrict", names.join(", "))).await?;
        }
    }
    if !objects.is_empty() {
        drop_things(conn, "drop schema v1v2 restrict".to_owned()).await?;
    }
    Ok(objects.len())
}

/// Everything that setup made and that is still there: (kind, name with schema), control schema included.
async fn objects(conn: &mut PgConnection) -> Result<Vec<(String, String)>> {
    if !exists(conn, "v1v2.setup_objects").await? {
        return Ok(Vec::new());
    }
    let recorded: Vec<(String, String, String)> = sqlx::query_as(
        "select kind, schema_name, name from v1v2.setup_objects order by kind, schema_name, name",
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(v2)?;
    let mut objects = Vec::new();
    for (kind, schema, name) in recorded {
        let name = format!("{}.{name}", quoted(&schema));
        // The user may have dropped it since.
        let there: bool = sqlx::query_scalar(match kind.as_str() {
            "type" => "select to_regtype($1) is not null",
            "routine" => "select to_regprocedure($1) is not null",
            _ => "select to_regclass($1) is not null",
        })
        .bind(&name)
        .fetch_one(&mut *conn)
        .await
        .map_err(v2)?;
        if there {
            objects.push((kind, name));
        }
    }
    let control: Vec<(String, String)> = sqlx::query_as(
        "select case c.relkind when 'v' then 'view' else 'table' end, 'v1v2.' || quote_ident(c.relname)
         from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'v1v2' and c.relkind in ('r', 'v') order by 1, 2",
    )
    .fetch_all(conn)
    .await
    .map_err(v2)?;
    objects.extend(control);
    Ok(objects)
}

/// A migration at work would lose the ground under its feet.
async fn refuse_while_running(conn: &mut PgConnection) -> Result<()> {
    if !exists(conn, "v1v2.lock").await? {
        return Ok(());
    }
    // A holder whose backend is gone has died; its line is just a leftover.
    let holder: Option<String> = sqlx::query_scalar(
        "select l.holder from v1v2.lock l join pg_stat_activity a on a.pid = l.pid and a.datname = current_database()",
    )
    .fetch_optional(conn)
    .await
    .map_err(v2)?;
    match holder {
        None => Ok(()),
        Some(holder) => Err(Error::refused(format!("V2: a migration is running ({holder})"))
            .help("wait until it has finished, or stop it, then run `setup --clean` again")),
    }
}

/// Runs a DROP … RESTRICT. If something else hangs on it, says what.
async fn drop_things(conn: &mut PgConnection, sql: String) -> Result<()> {
    let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *conn).await else { return Ok(()) };
    let dependents = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>())
        // dependent_objects_still_exist; its DETAIL holds names of things, no data.
        .filter(|error| error.code() == "2BP01")
        .map(|error| error.detail().unwrap_or_default().to_owned());
    match dependents {
        None => Err(v2(error)),
        Some(detail) => {
            Err(Error::refused("V2: something that setup did not make depends on what --clean removes")
                .help("drop it yourself if you can do without it, then run `setup --clean` again")
                .details(detail))
        }
    }
}
