//! What a run is asked to do, and what it tells and listens to while it does it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What one invocation of `migrate` is asked to do.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Entities to migrate; all with `None`.
    pub entities: Option<Vec<String>>,
    /// SQL conditions on the columns of an entity's query, checked already.
    pub filters: BTreeMap<String, String>,
    /// Decide everything, write nothing.
    pub dry_run: bool,
    /// Try rows again that were rejected before.
    pub retry_rejected: bool,
    /// Remove what V1 no longer has.
    pub prune: bool,
    /// Go on although V2's tables are not what they were when their rows were first migrated.
    pub accept_changes: bool,
    /// The command's arguments for the run's record, without secrets.
    pub arguments: Vec<String>,
}

/// Is told how far a run is. Called from several threads.
pub trait Observer: Send + Sync {
    /// A step that has no rows to count: the census, bringing indexes back.
    fn step(&self, what: &str);
    /// An entity begins; so many rows of V1 will be looked at.
    fn entity(&self, name: &str, rows: u64);
    /// So many more rows of the entity are dealt with.
    fn advance(&self, name: &str, rows: u64);
    /// Passwords hashed so far in this run.
    fn hashed(&self, done: u64);
}

/// Asks a run to stop after the chunks that are under way. Cloned into signal handlers.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns once somebody has asked.
    pub(super) async fn wait(&self) {
        while !self.asked() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
