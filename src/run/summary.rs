//! What a run did, counted while it does it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::ledger::Outcome;
use crate::migrator::{MISSING_REFERENCE, Note};
use crate::plan::Plan;
use crate::target::{Batch, Difference, EDITED, Pruned, REFUSED};

/// How many rejected rows are kept for the report; all of them are in the ledger.
const KEPT_REJECTS: usize = 20;

/// How many differences are kept for the report.
const KEPT_DIFFERENCES: usize = 1_000;

/// What happened to one entity.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EntitySummary {
    /// Its name.
    pub entity: String,
    /// Rows of V1, within the filter.
    pub rows: u64,
    /// Rows that had a ledger line already and were left alone.
    pub already: u64,
    /// Of these, rows that were rejected and still are.
    pub rejected_before: u64,
    /// Rows in V2 that V1 has changed since.
    pub changed: u64,
    /// Of these, rows whose change could not be taken over.
    pub changes_refused: u64,
    /// Rows without something that was to be filled in later (`later = true`): the reference leads nowhere, or V2
    /// refuses it.
    pub unfilled: u64,
    /// Rows without such a reference because it leads to a row of an entity that this run did not read, or not all of it.
    pub waiting: u64,
    /// Ledger lines whose rows V1 no longer has.
    pub gone: u64,
    /// Of these, rows that were removed from V2.
    pub pruned: u64,
    /// Of these, rows that were to be removed and stay: edited in V2, or needed by others.
    pub prunes_refused: u64,
    /// Rows migrated now.
    pub migrated: u64,
    /// Rows whose person had an account already.
    pub merged: u64,
    /// Rows left out on purpose.
    pub skipped: u64,
    /// Rows that could not be migrated.
    pub rejected: u64,
    /// Accounts created.
    pub accounts: u64,
}

/// A rejected row in a report.
#[derive(Debug, Clone, Serialize)]
pub struct RejectedRow {
    /// Its entity.
    pub entity: String,
    /// Its key.
    pub key: String,
    /// The stable code.
    pub code: String,
    /// The reason.
    pub reason: String,
}

/// How long a run is expected to take.
#[derive(Debug, Clone, Copy)]
pub struct Estimate {
    /// All of it.
    pub total: Duration,
    /// The hashing of passwords, which goes on beside everything else.
    pub hashing: Duration,
}

/// What one invocation did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// The run's id; `None` for a dry run.
    pub run: Option<String>,
    /// In the order they were migrated.
    pub entities: Vec<EntitySummary>,
    /// Conflicts by kind and decision, of the rows of this run.
    pub conflicts: BTreeMap<String, u64>,
    /// Rejects by entity and code, of the rows of this run.
    pub rejects: BTreeMap<String, u64>,
    /// The first rejected rows.
    pub first_rejects: Vec<RejectedRow>,
    /// Dry runs: what would be written, by table of V2, as lines of JSON.
    pub samples: Vec<(String, Vec<String>)>,
    /// Comparisons: how many rows of V1 are not in V2 what they would become, by entity, table and column.
    pub differences: BTreeMap<String, u64>,
    /// Comparisons: the first of them.
    pub first_differences: Vec<Difference>,
    /// Whether the user stopped it.
    pub interrupted: bool,
    /// Passwords to hash (dry runs) or hashed.
    pub passwords: u64,
    /// Dry runs: how long the run itself will take.
    #[serde(skip)]
    pub estimate: Option<Estimate>,
    /// Wall-clock time, in seconds when serialised.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

impl Summary {
    /// Rows that are rejected now, by this run or by an earlier one.
    pub fn rejected(&self) -> u64 {
        self.entities.iter().map(|entity| entity.rejected + entity.rejected_before).sum()
    }

    /// Rows whose change or removal V2 did not take.
    pub fn refused(&self) -> u64 {
        self.entities
            .iter()
            .map(|entity| entity.changes_refused + entity.prunes_refused + entity.unfilled)
            .sum()
    }

    /// The counts for the run's record in V2.
    pub fn counts(&self) -> serde_json::Value {
        serde_json::json!({ "entities": self.entities, "conflicts": self.conflicts, "rejects": self.rejects })
    }
}

/// What reading an entity beside its ledger found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Found {
    pub rows: u64,
    pub already: u64,
    pub rejected: u64,
    pub changed: u64,
    pub gone: u64,
}

/// Counts from several threads.
pub(super) struct Collector {
    summary: Mutex<Summary>,
    names: Vec<String>,
}

impl Collector {
    pub fn new(plan: &Plan) -> Self {
        let names = plan.entities.iter().map(|entity| entity.name.to_string()).collect();
        Self { summary: Mutex::default(), names }
    }

    /// An entity was read to its end.
    pub fn read(&self, entity: usize, found: Found) {
        self.with(entity, |_, of| {
            of.rows = found.rows;
            of.already = found.already;
            of.rejected_before = found.rejected;
            of.changed = found.changed;
            of.gone = found.gone;
        });
    }

    /// V2 was compared with a chunk. Rows that could not be migrated any more are different as well.
    pub fn differ(&self, batch: &Batch, mut differences: Vec<Difference>) {
        let refused = batch.lines.iter().filter_map(|line| Some((line, line.reject.as_ref()?)));
        differences.extend(refused.map(|(line, reject)| Difference {
            entity: batch.name.to_string(),
            key: line.key.clone(),
            table: reject.code.clone(),
            column: Some("V1's row cannot be migrated any more".to_owned()),
        }));
        self.with(batch.entity, |summary, _| {
            for difference in differences {
                let column = difference.column.as_deref().unwrap_or("the record is missing");
                let what = format!("{} {}: {column}", difference.entity, difference.table);
                *summary.differences.entry(what).or_default() += 1;
                if summary.first_differences.len() < KEPT_DIFFERENCES {
                    summary.first_differences.push(difference);
                }
            }
        });
    }

    /// Rows go on waiting for what this run could not bring.
    pub fn waiting(&self, entity: usize, rows: u64) {
        self.with(entity, |_, of| of.waiting += rows);
    }

    /// Rows were removed because V1 no longer has them.
    pub fn pruned(&self, entity: usize, pruned: Pruned) {
        self.with(entity, |summary, of| {
            of.pruned += pruned.removed;
            of.prunes_refused += pruned.edited + pruned.refused;
            for (conflict, rows) in [(EDITED, pruned.edited), (REFUSED, pruned.refused)] {
                if rows > 0 {
                    *summary.conflicts.entry(format!("{conflict}: kept")).or_default() += rows;
                }
            }
        });
    }

    /// A chunk is in V2.
    pub fn written(&self, batch: &Batch, accounts: u64) {
        self.with(batch.entity, |summary, of| {
            of.accounts += accounts;
            let changes = batch.update.is_some();
            let completes = |row: usize| {
                batch.update.as_ref().is_some_and(|update| update.completes.get(row) == Some(&true))
            };
            for (row, line) in batch.lines.iter().enumerate().filter(|_| changes) {
                match (line.outcome, completes(row)) {
                    (Outcome::Rejected, true) => of.unfilled += 1,
                    (Outcome::Rejected, false) => of.changes_refused += 1,
                    _ => of.waiting += u64::from(line.incomplete),
                }
            }
            for line in batch.lines.iter().filter(|_| !changes) {
                match line.outcome {
                    Outcome::Migrated => of.migrated += 1,
                    Outcome::Merged => of.merged += 1,
                    Outcome::Skipped => of.skipped += 1,
                    Outcome::Rejected => of.rejected += 1,
                }
                if let Some(reject) = &line.reject {
                    *summary.rejects.entry(format!("{} {}", batch.name, reject.code)).or_default() += 1;
                    if summary.first_rejects.len() < KEPT_REJECTS {
                        summary.first_rejects.push(RejectedRow {
                            entity: batch.name.to_string(),
                            key: line.key.clone(),
                            code: reject.code.clone(),
                            reason: reject.reason.clone(),
                        });
                    }
                }
            }
            // Of a row that is only completed, what it could have told before was counted when it was written.
            let repeated = |note: &&Note| {
                completes(note.row as usize) && note.kind != MISSING_REFERENCE && note.kind != EDITED
            };
            for note in batch.records.notes.iter().filter(|note| !repeated(note)) {
                *summary.conflicts.entry(format!("{}: {}", note.kind, note.decision)).or_default() += 1;
            }
            summary.passwords += accounts;
        });
    }

    /// Rows rejected by this run, and rows it looked at: those with an earlier ledger line are none of its own.
    pub fn rejected(&self) -> (u64, u64) {
        let summary = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |of: &EntitySummary| (of.rejected, of.migrated + of.merged + of.skipped + of.rejected);
        summary.entities.iter().map(of).fold((0, 0), |(a, b), (rejected, rows)| (a + rejected, b + rows))
    }

    pub fn finish(&self) -> Summary {
        std::mem::take(&mut *self.summary.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with(&self, entity: usize, act: impl FnOnce(&mut Summary, &mut EntitySummary)) {
        let mut summary = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
        let name = &self.names[entity];
        let mut of = match summary.entities.iter().position(|of| of.entity == *name) {
            Some(at) => std::mem::take(&mut summary.entities[at]),
            None => {
                summary.entities.push(EntitySummary::default());
                EntitySummary { entity: name.clone(), ..EntitySummary::default() }
            }
        };
        act(&mut summary, &mut of);
        match summary.entities.iter().position(|of| of.entity == *name || of.entity.is_empty()) {
            Some(at) => summary.entities[at] = of,
            None => summary.entities.push(of),
        }
    }
}
