//! V2's replicas, as far as a run has to know them: where each of them stands.
//!
//! A bulk write can be faster than a replica replays it, and readers of that replica then see yesterday's data. What databases
//! say about it themselves is of little use here: a delay in seconds is frozen while a replica is stuck, absent while
//! nothing happens, and jumps when the first write after a pause arrives. So a [`Look`] holds positions in the primary's
//! log, and `run/lag.rs` turns positions into time by remembering when the primary was where.

use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::error::Result;

/// Looks at V2's replicas.
#[async_trait]
pub trait Replicas: Send {
    /// Where the primary and its replicas are now. A call that is cut short leaves nothing behind; a lost connection is
    /// made anew by the next one.
    ///
    /// # Errors
    /// V2 does not answer, or does not let us see it (refused).
    async fn look(&mut self) -> Result<Look>;
}

/// Where everybody was at one moment. Positions grow with each write; those of different kinds of V2 cannot be compared.
#[derive(Debug, Clone)]
pub struct Look {
    /// Not later than the moment at which the primary was at its position.
    pub at: Instant,
    /// The primary's position.
    pub primary: u64,
    /// Replicas that are connected and replay.
    pub replicas: Vec<Replica>,
    /// Names of replicas that V2 keeps a place for (a replication slot, a member of the set), connected or not.
    pub kept: Vec<String>,
}

/// One replica.
#[derive(Debug, Clone)]
pub struct Replica {
    /// For messages, and to know it again: no password.
    pub name: String,
    /// Everything up to here can be read from it.
    pub position: u64,
    /// How far behind V2 itself thinks it is. Counts only until our own memory reaches back far enough.
    pub told: Duration,
    /// How far behind it is meant to be.
    pub on_purpose: Duration,
}
