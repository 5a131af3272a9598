//! MongoDB's secondaries: `replSetGetStatus`, as the primary sees them.
//!
//! Positions are optimes: seconds and a counter, which only grow. Their seconds are not used as a clock, because they stand
//! still while nothing is written.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mongodb::bson::{Bson, Document, doc};

use super::session::Shared;
use crate::error::mongodb::{UNAUTHORIZED, mongodb_code};
use crate::error::{Error, Result};
use crate::target::{Look, Replica};

/// States of members that hold data and follow the primary: SECONDARY, and RECOVERING, which cannot be read but catches
/// up. One that copies everything first (STARTUP2) is nobody's replica yet.
const FOLLOWING: [i32; 2] = [2, 3];
/// The state of the primary itself.
const PRIMARY: i32 = 1;
/// An arbiter holds no data.
const ARBITER: i32 = 7;

/// The sight of V2's secondaries.
pub struct Replicas {
    shared: Arc<Shared>,
}

impl Replicas {
    /// Asks once.
    ///
    /// # Errors
    /// Refused if the user may not see the set's state, or V2 is no single replica set.
    pub async fn open(shared: &Arc<Shared>) -> Result<Self> {
        let this = Self { shared: shared.clone() };
        let connection = shared.connection().await?;
        if connection.replica_set.is_none() {
            return Err(Error::refused(format!(
                "{}: max_lag is set, but a sharded cluster does not tell how far its members are behind",
                shared.place
            ))
            .help("leave max_lag out, and use max_rows_per_second"));
        }
        match this.ask(doc! { "replSetGetStatus": 1 }).await {
            Err(error) if mongodb_code(&error) == Some(UNAUTHORIZED) => Err(Error::refused(format!(
                "{}: max_lag is set, but this user may not see how far secondaries are behind",
                shared.place
            ))
            .help("in the user's database: db.grantRolesToUser(\"the user\", [{ role: \"clusterMonitor\", db: \"admin\" }])")),
            Err(error) => Err(shared.failed(&error)),
            Ok(_) => Ok(this),
        }
    }

    async fn ask(&self, command: Document) -> mongodb::error::Result<Document> {
        let connection = self
            .shared
            .connection()
            .await
            .map_err(|error| mongodb::error::Error::custom(error.to_string()))?;
        connection.client.database("admin").run_command(command).await
    }
}

#[async_trait]
impl crate::target::Replicas for Replicas {
    async fn look(&mut self) -> Result<Look> {
        let failed = |error: mongodb::error::Error| self.shared.failed(&error);
        let at = Instant::now();
        let status = self.ask(doc! { "replSetGetStatus": 1 }).await.map_err(failed)?;
        let config = self.ask(doc! { "replSetGetConfig": 1 }).await.map_err(failed)?;
        read(at, &status, &delays(&config)).ok_or_else(|| {
            Error::failed(format!("{}: the set has no primary at the moment", self.shared.place))
                .help("wait until one is elected")
        })
    }
}

/// How far behind members are meant to be (before 5.0 it was called `slaveDelay`).
fn delays(config: &Document) -> HashMap<String, Duration> {
    let members = config.get_document("config").and_then(|config| config.get_array("members"));
    let members = members.into_iter().flatten().filter_map(Bson::as_document);
    members
        .filter_map(|member| {
            let delay = member.get("secondaryDelaySecs").or_else(|| member.get("slaveDelay"))?;
            Some((member.get_str("host").ok()?.to_owned(), Duration::from_secs(whole(delay)?)))
        })
        .collect()
}

fn read(at: Instant, status: &Document, delays: &HashMap<String, Duration>) -> Option<Look> {
    let (mut primary, mut replicas, mut kept) = (None, Vec::new(), Vec::new());
    for member in status.get_array("members").into_iter().flatten().filter_map(Bson::as_document) {
        let state = member.get("state").and_then(whole).and_then(|state| i32::try_from(state).ok());
        let (Some(state), Ok(name)) = (state, member.get_str("name")) else { continue };
        let optime = member.get_document("optime").and_then(|optime| optime.get_timestamp("ts")).ok();
        let position = optime.map(|ts| u64::from(ts.time) << 32 | u64::from(ts.increment));
        match position {
            Some(position) if state == PRIMARY => primary = Some(position),
            Some(position) if FOLLOWING.contains(&state) => replicas.push(Replica {
                name: name.to_owned(),
                position,
                told: Duration::ZERO,
                on_purpose: delays.get(name).copied().unwrap_or_default(),
            }),
            _ => {}
        }
        if state != PRIMARY && state != ARBITER {
            kept.push(name.to_owned());
        }
    }
    let primary = primary?;
    for replica in &mut replicas {
        replica.told = Duration::from_secs((primary >> 32).saturating_sub(replica.position >> 32));
    }
    Some(Look { at, primary, replicas, kept })
}

/// A whole number, however the server sent it.
fn whole(value: &Bson) -> Option<u64> {
    match value {
        Bson::Int32(number) => u64::try_from(*number).ok(),
        Bson::Int64(number) => u64::try_from(*number).ok(),
        Bson::Double(number) if *number >= 0.0 => Some(*number as u64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::Timestamp;

    #[test]
    fn members_that_follow_are_told_from_those_that_do_not() {
        let member = |name: &str, state: i32, time: u32| {
            doc! { "name": name, "state": state, "optime": { "ts": Timestamp { time, increment: 1 }, "t": 1_i64 } }
        };
        let status = doc! { "members": [
            member("a:1", 2, 90), member("b:1", 1, 100), member("c:1", 8, 0), member("d:1", 5, 50),
            doc! { "name": "e:1", "state": 7 }, member("f:1", 3, 40),
        ] };
        let config = doc! { "config": { "members": [{ "host": "a:1", "secondaryDelaySecs": 5_i64 }] } };
        let look = read(Instant::now(), &status, &delays(&config)).unwrap();
        assert_eq!(look.primary, 100 << 32 | 1);
        let found: Vec<_> =
            look.replicas.iter().map(|of| (&*of.name, of.told.as_secs(), of.on_purpose.as_secs())).collect();
        assert_eq!(found, [("a:1", 10, 5), ("f:1", 60, 0)]);
        assert_eq!(look.kept, ["a:1", "c:1", "d:1", "f:1"]);
        assert!(read(Instant::now(), &doc! { "members": [member("a:1", 2, 90)] }, &HashMap::new()).is_none());
    }
}
