//! What a backup says about itself. The manifest is written last and never changed; what a later verification found
//! stands in a file of its own, so that the manifest's checksum holds for as long as the backup does.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of the backup's format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// What kind of database a backup is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Postgres: one archive of `pg_dump`.
    Postgres,
    /// MongoDB: one file for each collection.
    MongoDb,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Postgres => "Postgres",
            Self::MongoDb => "MongoDB",
        })
    }
}

/// A backup's table of contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format; see [`FORMAT`].
    pub format: u32,
    /// Version of v1v2 that made the backup.
    pub tool: String,
    /// What kind of database it is of.
    pub kind: Kind,
    /// Version of the server: `15.14`.
    pub server: String,
    /// Version of `pg_dump`, for Postgres.
    pub dumped_by: Option<String>,
    /// The database's name.
    pub database: String,
    /// Where it was: host, port and name.
    pub place: String,
    /// What tells this database from all others: the cluster's or the replica set's own identifier, and the name.
    pub identity: String,
    /// When the backup began, RFC 3339 in UTC.
    pub started: String,
    /// When it was complete, RFC 3339 in UTC.
    pub finished: String,
    /// Which moment the contents belong to, in words.
    pub consistency: String,
    /// Rows or documents.
    pub rows: u64,
    /// Bytes of the contents as the server holds them (Postgres: tables with TOAST; MongoDB: documents).
    pub bytes: u64,
    /// The files, but for the manifest.
    pub files: Vec<FileEntry>,
    /// The tables or collections.
    pub contents: Vec<Content>,
    /// Roles that own something or were granted something (Postgres).
    pub roles: Vec<String>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name in the backup's folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// One table, collection or view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The schema, in Postgres.
    pub schema: Option<String>,
    /// The name.
    pub name: String,
    /// `table`, `collection`, `capped collection` or `view`.
    pub kind: String,
    /// The file with its documents (MongoDB).
    pub file: Option<String>,
    /// Rows or documents.
    pub rows: u64,
    /// Bytes as the server holds them.
    pub bytes: u64,
    /// SHA-256 of the contents: lines of COPY text, or BSON documents, in the order of the backup.
    pub sha256: String,
    /// Sum of the documents' hashes, which does not depend on their order (MongoDB).
    pub digest: Option<String>,
    /// Options, for people (MongoDB; the exact ones are in `structure.bson`).
    pub options: String,
    /// Indexes, for people.
    pub indexes: Vec<String>,
}

impl Content {
    /// `schema.table`, or the collection's name.
    pub fn full_name(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}", self.name),
            None => self.name.clone(),
        }
    }
}

impl Manifest {
    /// When the backup began: the moment that its contents are of.
    pub fn taken(&self) -> Option<Timestamp> {
        self.started.parse().ok()
    }
}

/// What the last reading back of a backup found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// Checksum of the backup's list of checksums, so that a finding about other files counts for nothing.
    pub of: String,
    /// What is damaged; empty if nothing is.
    pub problems: Vec<String>,
}
