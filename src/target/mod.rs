//! Where records go. Whatever the database, a chunk commits whole or not at all, and its ledger lines with it.

pub mod mongodb;
pub mod postgres;

use std::sync::Arc;

use crate::ledger::{Line, Outcome, Reject};
use crate::migrator::Records;
use crate::row::Rows;

/// A converted chunk: everything that one transaction writes.
pub struct Batch {
    /// The entity's index in the plan.
    pub entity: usize,
    /// Its name.
    pub name: Arc<str>,
    /// The source rows.
    pub rows: Rows,
    /// One ledger line for each source row.
    pub lines: Vec<Line>,
    /// Whether some of the rows have a ledger line already (rejects that are tried again).
    pub again: bool,
    /// What the rows became.
    pub records: Records,
}

impl Batch {
    /// Rejects a row after all: the database refused it.
    pub fn reject(&mut self, row: u32, reject: Reject) {
        let line = &mut self.lines[row as usize];
        line.outcome = Outcome::Rejected;
        line.account_id = None;
        line.target_id = None;
        line.reject = Some(reject);
        self.records.notes.retain(|note| note.row != row);
    }

    /// Whether a row is rejected.
    pub fn is_rejected(&self, row: u32) -> bool {
        self.lines[row as usize].outcome == Outcome::Rejected
    }
}
