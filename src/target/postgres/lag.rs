//! Postgres's streaming replicas: `pg_stat_replication`, seen from the primary.
//!
//! Only physical replicas count. A subscriber of logical replication confirms what it likes when it likes, and an archive
//! (`pg_receivewal`) replays nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqlx::{Connection, PgConnection};

use crate::connect::{self, Side, answered};
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::target::{Look, Replica};

/// The sight of V2's replicas over a connection of its own.
pub struct Replicas {
    settings: Arc<Settings>,
    place: String,
    connection: Option<PgConnection>,
}

/// Asked before [`REPLICAS`], so that whoever has replayed up to here had everything of that moment.
const PRIMARY: &str = "select (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint";

/// A slot's name is what a replica is known by if it has one, since it survives a new connection.
const REPLICAS: &str = "
select coalesce(s.slot_name::text, r.application_name || coalesce(' at ' || host(r.client_addr), '')),
       (r.replay_lsn - '0/0'::pg_lsn)::bigint, coalesce(extract(epoch from r.replay_lag), 0)::float8
from pg_stat_replication r left join pg_replication_slots s on s.active_pid = r.pid
where r.state in ('streaming', 'catchup') and r.replay_lsn is not null
  and coalesce(s.slot_type, 'physical') = 'physical'";

/// A slot without a position was never used, or has lost what its replica would need.
const KEPT: &str = "
select slot_name::text from pg_replication_slots where slot_type = 'physical' and not temporary and restart_lsn is not null";

impl Replicas {
    /// Connects.
    ///
    /// # Errors
    /// Refused if the role may not see replicas.
    pub async fn open(settings: &Arc<Settings>, place: &str) -> Result<Self> {
        let mut connection = connect::postgres(Side::V2, settings).await?;
        let (may, role): (bool, String) =
            sqlx::query_as("select pg_has_role('pg_read_all_stats', 'usage'), quote_ident(current_user)")
                .fetch_one(&mut connection)
                .await
                .map_err(|error| Error::database(place, &error))?;
        if !may {
            // Without it the view has rows that say nothing, which would look like replicas that are not there.
            return Err(Error::refused(format!(
                "{place}: max_lag is set, but the role {role} may not see how far replicas are behind"
            ))
            .help(format!("GRANT pg_monitor TO {role};")));
        }
        Ok(Self { settings: settings.clone(), place: place.to_owned(), connection: Some(connection) })
    }
}

#[async_trait]
impl crate::target::Replicas for Replicas {
    async fn look(&mut self) -> Result<Look> {
        // Taken out, so that a call that fails or is cut short leaves no connection out of step behind.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect::another(Side::V2, &self.settings).await?,
        };
        let looked = answered(self.settings.patience(), look(&mut connection)).await;
        match looked {
            Ok(look) => {
                self.connection = Some(connection);
                Ok(look)
            }
            Err(error) => {
                drop(connection.close_hard().await);
                Err(Error::database(&self.place, &error))
            }
        }
    }
}

async fn look(connection: &mut PgConnection) -> sqlx::Result<Look> {
    let at = Instant::now();
    let primary: i64 = sqlx::query_scalar(PRIMARY).fetch_one(&mut *connection).await?;
    let replicas: Vec<(String, i64, f64)> = sqlx::query_as(REPLICAS).fetch_all(&mut *connection).await?;
    let kept = sqlx::query_scalar(KEPT).fetch_all(&mut *connection).await?;
    let replicas = replicas.into_iter().map(|(name, position, told)| Replica {
        name,
        position: position.unsigned_abs(),
        told: Duration::try_from_secs_f64(told).unwrap_or_default(),
        on_purpose: Duration::ZERO,
    });
    Ok(Look { at, primary: primary.unsigned_abs(), replicas: replicas.collect(), kept })
}
