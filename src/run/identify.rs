//! Tells which row of V1 is before us: its key, the hash of its text, and what the ledger says of it.

use xxhash_rust::xxh3::xxh3_128;

use super::summary::Found;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::ledger::{Beside, Gone, Known, Outcome};
use crate::plan::Entity;
use crate::row::Row;
use crate::source::compare_keys;

/// Looks at an entity's rows in key order, with the ledger's lines beside them.
pub(super) struct Identify<'p> {
    entity: &'p Entity,
    beside: Option<Beside<'p>>,
    last_key: Option<String>,
    gone: Gone,
}

/// A row of V1.
pub(super) struct Identified {
    pub key: String,
    /// xxh3-128 of its COPY text.
    pub hash: u128,
    /// The ledger's line.
    pub known: Option<Known>,
}

impl<'p> Identify<'p> {
    /// At the first row. `beside` is `None` if the ledger has no lines; the keys of rows that are gone are kept if
    /// somebody wants them.
    pub fn new(entity: &'p Entity, beside: Option<Beside<'p>>, keep_gone: bool) -> Self {
        let gone = Gone { count: 0, keys: keep_gone.then(Vec::new) };
        Self { entity, beside, last_key: None, gone }
    }

    /// The next row, with all columns of the source.
    pub async fn next(&mut self, row: &Row<'_>) -> Result<Identified> {
        failpoint::reach("read.row")?;
        let (name, source) = (&self.entity.name, &self.entity.source);
        let unusable = |what: &str, help: &str| {
            Err(Error::failed(format!("{name}: a row of V1 has {what}")).help(help.to_owned()))
        };
        let Some(key) = row.text(source.key_index) else {
            return unusable(
                &format!("no key ({} is null)", source.key),
                "choose a key column that is unique and not null, or leave such rows out in the query",
            );
        };
        if !row.is_text(source.key_index) {
            return unusable(
                &format!("a key ({}) with bytes that are not valid UTF-8", source.key),
                "repair such keys in V1, or leave such rows out in the query",
            );
        }
        // Without this check a key that is not unique would silently lose rows.
        if let Some(last) = &self.last_key
            && compare_keys(source.key_kind, last, &key).is_ge()
        {
            return Err(Error::failed(format!(
                "{name}: the key {} is not unique: {key:?} came twice, or out of order",
                source.key
            ))
            .help(
                "choose a key column that is unique and not null, or make the query return each row once",
            ));
        }
        let known = match &mut self.beside {
            Some(beside) => beside.find(&key, &mut self.gone).await?,
            None => None,
        };
        failpoint::reach("read.beside")?;
        let last = self.last_key.get_or_insert_default();
        last.clear();
        last.push_str(&key);
        Ok(Identified { key: key.into_owned(), hash: xxh3_128(row.line()), known })
    }

    /// After the last row: what V1 does not have any more.
    pub async fn finish(mut self) -> Result<Gone> {
        if let Some(beside) = self.beside.take() {
            beside.finish(&mut self.gone).await?;
        }
        Ok(self.gone)
    }
}

/// What is to be done with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// V2 does not have it.
    New,
    /// It was rejected, and is tried again.
    Again,
    /// It is in V2, and V1 has changed it since.
    Changed(Outcome),
    /// It is in V2, and is brought up to date once all others are there, too.
    Later {
        /// V1 has not changed it: only what was left out at first is filled in.
        completes: bool,
    },
    /// Nothing: it is done with.
    Done {
        /// It was rejected, and stays so.
        rejected: bool,
    },
    /// Nothing: it is not to be looked at.
    Ignored,
}

/// What decides about fates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    /// Rejected rows are tried again even if they are what they were.
    pub retry_rejected: bool,
    /// What is in V2 is to be compared, nothing is written.
    pub compare: bool,
    /// The entity's definition is not what it was.
    pub edited: bool,
    /// Some of what its rows refer to is filled in once all others are there.
    pub later: bool,
}

impl Fate {
    /// Decides.
    pub fn of(row: &Identified, ask: Ask) -> Self {
        let Some(known) = row.known else {
            // Whether every row has its line is the business of the counts.
            return if ask.compare { Self::Ignored } else { Self::New };
        };
        // What V2 refused is tried again by every run, also if it was another definition that V2 refused.
        let changed = ask.compare || known.source_hash != row.hash || ask.edited || known.refused;
        match known.outcome {
            Outcome::Migrated | Outcome::Merged if changed && ask.later && !ask.compare => {
                Self::Later { completes: known.is_incomplete(row.hash) && !ask.edited }
            }
            outcome @ (Outcome::Migrated | Outcome::Merged) if changed => Self::Changed(outcome),
            // A rejected row that was repaired in V1 is tried again without being asked to.
            Outcome::Rejected if !ask.compare && (changed || ask.retry_rejected) => Self::Again,
            outcome => Self::Done { rejected: outcome == Outcome::Rejected },
        }
    }

    /// Counts the row.
    pub fn count(self, found: &mut Found) {
        found.rows += 1;
        match self {
            Self::Changed(_) | Self::Later { completes: false } => found.changed += 1,
            Self::Later { completes: true } => found.already += 1,
            Self::Done { rejected } => {
                found.already += 1;
                found.rejected += u64::from(rejected);
            }
            Self::New | Self::Again | Self::Ignored => {}
        }
    }
}
