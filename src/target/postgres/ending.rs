//! The record of a run's end, which must not be lost with a connection: everything may have been written by then.

use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::link::{self, Session};
use super::writer::backoff;
use crate::connect::{self, Side, answered};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::settings::Settings;
use crate::target::State;

/// How often a new connection is tried for it: a server that restarts is back within some seconds.
const ATTEMPTS: u32 = 6;

/// How a run ended.
pub struct End<'e> {
    /// Its number.
    pub run: i32,
    /// How.
    pub state: State,
    /// Why.
    pub error: Option<&'e str>,
    /// A JSON object.
    pub counts: String,
}

impl End<'_> {
    /// Records it over the lock's own connection, or over a new one if that is lost, and frees the lock. `false` if
    /// somebody else has the lock by now.
    pub async fn record(
        &self,
        mut connection: PgConnection,
        settings: &Settings,
        place: &str,
        session: &Session,
    ) -> Result<bool> {
        let failed = |error: sqlx::Error| Error::database(place, &error);
        match self.try_over(&mut connection, settings.patience()).await {
            Ok(recorded) => {
                // A failed goodbye changes nothing: the server notices by itself.
                drop(answered(settings.connect_timeout, connection.close()).await);
                return Ok(recorded);
            }
            Err(error) => tracing::debug!("recording the run's end: {}", failed(error).message()),
        }
        drop(answered(settings.connect_timeout, connection.close_hard()).await);
        let mut attempt = 1;
        loop {
            let recorded = async {
                let mut connection = connect::another(Side::V2, settings).await?;
                // The server may still take the lost session for alive, and keep the lock for it.
                link::end(&mut connection, settings.patience(), session).await.map_err(failed)?;
                let recorded = self.try_over(&mut connection, settings.patience()).await.map_err(failed)?;
                drop(answered(settings.connect_timeout, connection.close()).await);
                Ok(recorded)
            };
            match recorded.await {
                Err(error) if attempt < ATTEMPTS && !Error::is_lasting(&error) => attempt += 1,
                other => return other,
            }
            tokio::time::sleep(backoff(attempt)).await;
        }
    }

    async fn try_over(&self, connection: &mut PgConnection, patience: Duration) -> sqlx::Result<bool> {
        failpoint::reach("postgres.end.before")?;
        // The second half of the answer: an earlier try may have done it, and its answer was lost.
        let recorded = sqlx::query_scalar(
            "with freed as (delete from v1v2.lock where run = $1 returning run), \
                  ended as (update v1v2.runs set finished_at = clock_timestamp(), state = $2, error = $3, \
                              counts = $4::text::jsonb from freed where no = freed.run returning no) \
             select exists (select from ended) or exists (select from v1v2.runs where no = $1 and state = $2)",
        )
        .bind(self.run)
        .bind(self.state.as_str())
        .bind(self.error)
        .bind(&self.counts);
        let recorded = answered(patience, recorded.fetch_one(connection)).await;
        failpoint::reach("postgres.end.after")?;
        recorded
    }
}
