//! A writer's connection: opened when it is needed, never used again after a failure, never waited for without end.
//!
//! A connection that was lost on our side may live on at the server, with a transaction that holds locks and rows which
//! the chunk's next try would wait for. So the session is remembered by its process, and ended over the next connection.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::writer::Failure;
use crate::connect::{self, Side, answered};
use crate::error::{Error, Result};
use crate::settings::Settings;

/// A server's process, which with the time of its start stands for one session only.
pub type Session = (i32, String);

/// One connection at a time.
pub struct Link {
    settings: Arc<Settings>,
    place: String,
    patience: Duration,
    open: Option<(PgConnection, Session)>,
    /// Sessions that were lost, and may not know it yet.
    lost: Vec<Session>,
}

impl Link {
    /// Nothing is connected yet.
    pub fn new(settings: Arc<Settings>, place: String) -> Self {
        let patience = settings.patience();
        Self { settings, place, patience, open: None, lost: Vec::new() }
    }

    /// The connection, opened if there is none.
    pub async fn get(&mut self) -> Result<&mut PgConnection, Failure> {
        if self.open.is_none() {
            self.open = Some(self.connect().await.map_err(|error| {
                // A server that is restarting refuses connections for a while; a wrong password stays wrong.
                if error.is_lasting() { Failure::Fatal(error) } else { Failure::Transient(error, None) }
            })?);
        }
        match &mut self.open {
            Some((connection, _)) => Ok(connection),
            None => Err(Failure::Fatal(Error::failed("V2: no connection"))),
        }
    }

    async fn connect(&mut self) -> Result<(PgConnection, Session)> {
        let mut connection = connect::another(Side::V2, &self.settings).await?;
        let failed = |error: sqlx::Error| Error::database(&self.place, &error);
        let own = session(&mut connection, self.patience).await.map_err(failed)?;
        for lost in std::mem::take(&mut self.lost) {
            end(&mut connection, self.patience, &lost).await.map_err(failed)?;
        }
        Ok((connection, own))
    }

    /// Drops the connection: it may be out of step with its server. `lost`: its session may not have ended.
    pub async fn discard(&mut self, lost: bool) {
        let Some((connection, session)) = self.open.take() else { return };
        if lost {
            self.lost.push(session);
        }
        // The driver's own closing handshake would wait for replies that are out of step.
        if let Err(error) = answered(self.settings.connect_timeout, connection.close_hard()).await {
            tracing::debug!("dropping a connection of V2: {}", Error::database(&self.place, &error));
        }
    }

    /// Gives the connection back.
    pub async fn close(mut self) {
        if let Some((connection, _)) = self.open.take()
            && let Err(error) = answered(self.settings.connect_timeout, connection.close()).await
        {
            tracing::debug!("closing a connection of V2: {}", Error::database(&self.place, &error));
        }
    }
}

/// The session that a connection is.
pub async fn session(connection: &mut PgConnection, patience: Duration) -> sqlx::Result<Session> {
    let own = "select pid, backend_start::text from pg_stat_activity where pid = pg_backend_pid()";
    answered(patience, sqlx::query_as(own).fetch_one(connection)).await
}

/// Ends a session of ours, if it is still there. Everybody may end sessions of their own role.
pub async fn end(
    connection: &mut PgConnection,
    patience: Duration,
    (pid, started): &Session,
) -> sqlx::Result<()> {
    let sql =
        "select pg_terminate_backend(pid) from pg_stat_activity where pid = $1 and backend_start::text = $2";
    answered(patience, sqlx::query(sql).bind(pid).bind(started).execute(connection)).await.map(drop)
}
