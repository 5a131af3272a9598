//! Proves what was written, from the databases alone: nothing that a run said about itself is believed.

mod counts;

pub use counts::{Only, compare_counts};

use serde::Serialize;

/// The accounting of one entity.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EntityCounts {
    /// Its name.
    pub entity: String,
    /// Rows that V1 has now, if it was asked.
    pub source_rows: Option<u64>,
    /// Ledger lines by outcome.
    pub migrated: u64,
    /// People who had an account already.
    pub merged: u64,
    /// Left out on purpose.
    pub skipped: u64,
    /// Could not be migrated.
    pub rejected: u64,
}

impl EntityCounts {
    /// Rows that the ledger accounts for.
    pub fn accounted(&self) -> u64 {
        self.migrated + self.merged + self.skipped + self.rejected
    }
}

/// One check and what it found.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was looked at: a table, a foreign key, a column.
    pub what: String,
    /// How many rows are not as they should be.
    pub found: u64,
    /// What "not as it should be" means here.
    pub meaning: String,
}

/// What a validation found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The accounting, entity by entity.
    pub entities: Vec<EntityCounts>,
    /// Rows of V2's tables: table, rows, of these from the ledger.
    pub tables: Vec<(String, u64)>,
    /// All checks, the good ones too.
    pub checks: Vec<Check>,
}

impl Report {
    /// The checks that found something.
    pub fn differences(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.found > 0)
    }
}
