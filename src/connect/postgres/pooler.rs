//! Finds a pooler that hands one server session to several clients (PgBouncer's transaction and statement modes).
//! Behind one, pinned settings, temporary tables, the exported snapshot and advisory locks land in other people's
//! sessions, and a run would be wrong without an error. A pooler in session mode is harmless and passes.

use sqlx::Row;
use sqlx::postgres::PgConnection;
use sqlx::raw_sql;

use super::Place;
use crate::error::{Error, Result};

/// How often the two connections take turns. One turn finds an idle pooler; the others are for a busy one, where
/// the freed session may go to somebody else first.
const TURNS: usize = 3;

/// Refuses if two connections that are open at the same time are ever served by one backend, or if one connection
/// is served by two: neither can happen without a pooler that shares sessions.
pub(super) async fn refuse(place: &Place, one: &mut PgConnection, other: &mut PgConnection) -> Result<()> {
    let failed = |error: sqlx::Error| Error::database(&place.to_string(), &error);
    let first = backend(one).await.map_err(failed)?;
    for _ in 0..TURNS {
        // Inside a transaction the session cannot be taken away, so the first connection must get another.
        if raw_sql("begin").execute(&mut *other).await.is_err() {
            return Err(shared(place));
        }
        let second = backend(other).await.map_err(failed)?;
        if second == first {
            return Err(shared(place));
        }
        let again = backend(one).await.map_err(failed)?;
        raw_sql("rollback").execute(&mut *other).await.map_err(failed)?;
        if again != first {
            return Err(shared(place));
        }
    }
    Ok(())
}

/// The process that serves the connection now. By the simple protocol, as a shared session knows no statement that
/// another prepared.
async fn backend(connection: &mut PgConnection) -> sqlx::Result<i32> {
    raw_sql("select pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

fn shared(place: &Place) -> Error {
    Error::refused(format!(
        "{place} is a connection pooler that shares sessions (PgBouncer in transaction mode)"
    ))
    .help(format!("point {}_DATABASE_URL at the server itself, or at a pool in session mode", place.label))
}
