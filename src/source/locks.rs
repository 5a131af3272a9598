//! Locks of V1 that somebody else holds: waits for them, tells who it is, and tries again.
//!
//! Reading needs the weakest lock there is (ACCESS SHARE), and yet a migration of the application, a REINDEX or a VACUUM
//! FULL keeps it away. All tables are locked before the snapshot is taken: TRUNCATE, and ALTER TABLE that rewrites a
//! table, make it look empty to snapshots that are older, so a snapshot that waited for them would lose rows without a word.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::connect::{self, Side};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::settings::Settings;

/// How often a lock is asked for. Each time the server waits for `lock_timeout`.
const ATTEMPTS: u32 = 8;

/// lock_not_available: `lock_timeout` is over.
const NOT_AVAILABLE: &str = "55P03";

/// Does something on V1, and again when it could not get a lock in time. Whoever is in the way is told as a warning while
/// it waits, and in the error.
///
/// # Errors
/// That of the work; for a lock, with the one who holds it.
pub async fn despite_locks<T>(
    settings: &Settings,
    v1: &mut PgConnection,
    mut work: impl AsyncFnMut(&mut PgConnection) -> Result<T>,
) -> Result<T> {
    let place = connect::place(Side::V1, settings)?.to_string();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut *v1)
        .await
        .map_err(|error| Error::database(&place, &error))?;
    let blocker = Mutex::new(None);
    let mut attempt = 1;
    loop {
        let worked = tokio::select! {
            worked = work(&mut *v1) => worked,
            () = watch(settings, &place, pid, &blocker) => continue,
        };
        match worked {
            Err(error) if error.sqlstate() == Some(NOT_AVAILABLE) => {
                let blocker = blocker.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let who = blocker.unwrap_or_else(|| "another session".to_owned());
                if attempt >= ATTEMPTS {
                    let what = format!(
                        "{place}: a table that is read stays locked by {who} [SQLSTATE {NOT_AVAILABLE}]"
                    );
                    return Err(Error::failed(what).help(format!(
                        "end that session, or run this when it is done; it was tried {ATTEMPTS} times, for lock_timeout each"
                    )));
                }
                tracing::warn!(attempt, "{place}: a table that is read is locked by {who}; trying again");
                attempt += 1;
            }
            other => return other,
        }
    }
}

/// Never returns, but to begin anew: remembers who blocks a session.
async fn watch(settings: &Settings, place: &str, pid: i32, blocker: &Mutex<Option<String>>) {
    let half = settings.lock_timeout / 2;
    let between = if half.is_zero() { Duration::from_secs(5) } else { half.min(Duration::from_secs(5)) };
    // Work that ends soon costs no connection.
    tokio::time::sleep(between.min(Duration::from_secs(1))).await;
    let mut connection = match connect::another(Side::V1, settings).await {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!("asking who holds locks: {}", error.message());
            return std::future::pending().await;
        }
    };
    loop {
        let found: sqlx::Result<Option<String>> = sqlx::query_scalar(
            "select string_agg(format('%s (user %s, process %s%s)', coalesce(nullif(application_name, ''), 'a session'), \
                    usename, pid, ', in a transaction since ' || to_char(xact_start, 'YYYY-MM-DD HH24:MI:SS') || ' UTC'), ', ') \
             from pg_stat_activity where pid = any (pg_blocking_pids($1))",
        )
        .bind(pid)
        .fetch_one(&mut connection)
        .await;
        match found {
            Ok(Some(who)) => {
                let mut known = blocker.lock().unwrap_or_else(PoisonError::into_inner);
                if known.as_ref() != Some(&who) {
                    tracing::warn!("{place}: waiting for a lock that is held by {who}");
                    *known = Some(who);
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!("asking who holds locks: {}", Error::database(place, &error).message());
                return std::future::pending().await;
            }
        }
        tokio::time::sleep(between).await;
    }
}

/// The tables that the plan's queries read, as Postgres sees it: views and partitions are looked into.
pub(super) async fn tables(v1: &mut PgConnection, plan: &Plan, place: &str) -> Result<Vec<String>> {
    let found = explain(v1, plan).await;
    let ended = sqlx::raw_sql("rollback").execute(v1).await;
    let found = found.map_err(|error| Error::database(place, &error))?;
    ended.map(|_| found).map_err(|error| Error::database(place, &error))
}

/// In a transaction of its own, since locks stay until its end.
async fn explain(v1: &mut PgConnection, plan: &Plan) -> sqlx::Result<Vec<String>> {
    sqlx::raw_sql("begin read only").execute(&mut *v1).await?;
    for entity in &plan.entities {
        let sql = format!("explain select from {}", super::relation(&entity.source, None));
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *v1).await?;
    }
    // Tables behind a view that the user may not read directly cannot be locked.
    sqlx::query_scalar(
        "select distinct format('%I.%I', n.nspname, c.relname) \
         from pg_locks l join pg_class c on c.oid = l.relation join pg_namespace n on n.oid = c.relnamespace \
         where l.pid = pg_backend_pid() and l.locktype = 'relation' and c.relkind in ('r', 'p') \
           and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and has_table_privilege(c.oid, 'select') \
         order by 1",
    )
    .fetch_all(v1)
    .await
}
