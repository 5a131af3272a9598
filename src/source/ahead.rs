//! Lets V1 prepare what is read next while the rows before it are still being written.
//!
//! V1 sorts an entity's rows before it sends the first one, and everybody else would wait for that. A second connection
//! that shares the snapshot starts its query early; V1 sorts, fills the connection's buffers and waits.
//!
//! It is an offer, not a need: whatever goes wrong before its first row (no connection to spare, a lock that somebody
//! waits for) only means that the snapshot's own connection reads the entity after all.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{Order, SORT_MEMORY, Snapshot, copy_out};
use crate::connect::{self, Side, answered};
use crate::error::{Error, Result};
use crate::plan::Source;
use crate::settings::Settings;

/// Lines are handed over in portions of about so many bytes.
const PORTION: usize = 64 << 10;

/// Rows of an entity that are on their way: begun, but nobody has looked at one yet. An empty portion is the end, so that a
/// reader that vanished is never taken for one that has read everything.
pub struct Ahead(Receiver<Result<Vec<Bytes>>>);

impl Ahead {
    /// The first portion, if all went well so far.
    pub async fn first(&mut self) -> Option<Vec<Bytes>> {
        match self.next().await {
            Ok(lines) => Some(lines),
            Err(error) => {
                tracing::debug!("reading ahead: {}", error.message());
                None
            }
        }
    }

    /// The next portion; an empty one after the last.
    pub async fn next(&mut self) -> Result<Vec<Bytes>> {
        let gone = || Err(Error::failed("internal error: a reader of V1 has stopped without a word"));
        self.0.recv().await.unwrap_or_else(gone)
    }
}

impl Snapshot {
    /// Begins to read a whole source in key order, beside whatever this snapshot does meanwhile. [`Snapshot::read_begun`]
    /// takes the rows.
    pub async fn begin_ahead(
        &mut self,
        settings: &Arc<Settings>,
        source: &Source,
        columns: Option<&[&str]>,
        filter: Option<&str>,
    ) -> Option<Ahead> {
        if self.alone {
            return None;
        }
        let exported = sqlx::query_scalar("select pg_export_snapshot()").fetch_one(&mut self.connection);
        let snapshot: String = match answered(self.patience, exported).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                // Should the session be lost, the next question finds out.
                tracing::debug!("reading ahead: {}", Error::database(&self.place, &error).message());
                return None;
            }
        };
        let sql = copy_out(Order::Key, source, columns, filter);
        let (sender, receiver) = channel(1);
        let (settings, place, patience) = (settings.clone(), self.place.clone(), self.patience);
        tokio::spawn(async move {
            let read = async {
                let mut connection = connect::another(Side::V1, &settings).await?;
                let read = copy(&mut connection, &snapshot, &sql, patience, &sender).await;
                read.map_err(|error| Error::database(&place, &error))
            };
            if let Err(error) = read.await {
                // Nobody listens after the user asked to stop.
                drop(sender.send(Err(error)).await);
            }
        });
        Some(Ahead(receiver))
    }
}

async fn copy(
    connection: &mut PgConnection,
    snapshot: &str,
    sql: &str,
    patience: Duration,
    sender: &Sender<Result<Vec<Bytes>>>,
) -> sqlx::Result<()> {
    // Whoever waits for a table that we hold must not keep us waiting behind them: then nobody would ever go on.
    let begin = format!(
        "begin isolation level repeatable read, read only; set transaction snapshot '{snapshot}'; \
         set local work_mem = '{SORT_MEMORY}'; set local lock_timeout = '100ms'"
    );
    answered(patience, sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *connection)).await?;
    let mut lines = answered(patience, connection.copy_out_raw(sql)).await?;
    let (mut portion, mut bytes) = (Vec::new(), 0);
    // Until the first row V1 may be sorting.
    let mut limit = Duration::MAX;
    while let Some(line) = answered(limit, lines.try_next()).await? {
        limit = patience;
        bytes += line.len();
        portion.push(line);
        if bytes >= PORTION {
            if sender.send(Ok(std::mem::take(&mut portion))).await.is_err() {
                return Ok(());
            }
            bytes = 0;
        }
    }
    let end = Vec::new();
    for portion in [portion, end] {
        drop(sender.send(Ok(portion)).await);
    }
    Ok(())
}
