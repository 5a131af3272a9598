//! Prepares V2: its structure, its reference data, and what v1v2 itself remembers there.
//!
//! Everything is compared before it is written: a second `setup` changes not a single row, so it is safe in a deployment
//! script, and a V2 that looks different from what the definitions expect is refused instead of being bent. Structure and
//! data come from files (see [`SetupFiles`]); nothing here knows their names.

mod clean;
mod data_file;
mod files;
mod manifest;
mod mistakes;
pub mod mongodb;
mod postgres;
mod reference;

pub use clean::{CleanPlan, CleanTable};
pub use files::SetupFiles;
pub use postgres::{apply, database_name, what_clean_removes};
pub use reference::{Cell, CellKind, Embedded, ReferenceColumn, ReferenceData, ReferenceRow, ReferenceTable};

use crate::{Error, Result};

/// Version of `setup/postgres/control.sql` and `setup/mongodb/control.json`. Raise it when a released version of one of
/// these files changes.
pub const CONTROL_VERSION: u32 = 1;

/// Refuses a V2 whose bookkeeping another version of the program made: it would be misread, or written as that one does
/// not expect it. `found` is its `control_version`.
///
/// # Errors
/// Refused: with what to do, in one sentence.
pub fn require_control_version(place: &str, found: Option<u32>) -> Result<()> {
    let known = CONTROL_VERSION;
    match found {
        Some(CONTROL_VERSION) => Ok(()),
        Some(newer) if newer > CONTROL_VERSION => Err(Error::refused(format!(
            "{place}: its ledger has version {newer}, and this program knows versions up to {known}"
        ))
        .help("use the newer v1v2 that set this database up")),
        older => {
            let older = older.map_or_else(|| "no version".to_owned(), |older| format!("version {older}"));
            Err(Error::refused(format!("{place}: its ledger has {older}, and this program needs {known}"))
                .help("run `v1v2 setup`, which brings it up to date"))
        }
    }
}

/// What became of one table of reference data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSummary {
    /// Table or collection in V2.
    pub table: String,
    /// The data file, by its name below the setup folder: `reference/roles.csv`.
    pub file: String,
    /// Rows that were not there.
    pub inserted: u64,
    /// Rows that were there and looked different.
    pub updated: u64,
    /// Rows that were there as the file has them.
    pub unchanged: u64,
    /// Rows of V2 that the file does not have: the application's own, left alone.
    pub others: u64,
}

/// What [`apply`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupSummary {
    /// V2's database.
    pub database: String,
    /// The schema that holds V2's tables; empty in MongoDB.
    pub schema: String,
    /// Tables, types, collections and so on that were removed first (`--clean`).
    pub removed: usize,
    /// Tables or collections that were created; empty if the structure was there already.
    pub created: Vec<String>,
    /// What else of the structure was brought up to date, in words: `validator of users` (MongoDB).
    pub altered: Vec<String>,
    /// Reference data, in the order of loading.
    pub tables: Vec<TableSummary>,
}

impl SetupSummary {
    /// Whether anything in V2 is different from before.
    pub fn changed(&self) -> bool {
        self.removed > 0
            || !self.created.is_empty()
            || !self.altered.is_empty()
            || self.tables.iter().any(|table| table.inserted + table.updated > 0)
    }
}
