//! The pass that fills in what was left out when rows were written: references that the definition marks `later = true`,
//! because they go round in a circle with others.
//!
//! It is the way in which rows that V1 has changed are brought up to date, and no other: the ledger's line of a row that is
//! not complete holds the complement of the row's hash ([`crate::ledger::Line::hash`]), so the row counts as changed until it
//! is. That is written in the transaction of the row itself. Whoever was killed before this pass, or in the middle of it,
//! therefore needs no further state, and a rollback first takes the references back, then the rows.
//!
//! All rows of such an entity that V1 has changed wait for this pass, too, so that no row is changed twice by one run, and
//! all that they may refer to is in V2 or will not come.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::Sender;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::read::{Chunk, add};
use super::{Job, Shared, broken};
use crate::error::{Error, Result};
use crate::ledger::{Beside, Gone, Known, Outcome};
use crate::plan::{Entity, Fill, KeyFrom};
use crate::row::Row;
use crate::source::Snapshot;
use crate::target::{Batch, Control};

/// What this pass has to do.
pub(super) struct Later {
    /// By entity: some of its rows are to be looked at.
    open: Vec<AtomicBool>,
    /// A dry run has no ledger to tell of the rows that it would have written: theirs, by entity and hash of the key.
    pretended: Vec<Mutex<HashMap<u64, Outcome>>>,
}

impl Later {
    /// Nothing.
    pub fn new(entities: usize) -> Self {
        Self {
            open: (0..entities).map(|_| AtomicBool::new(false)).collect(),
            pretended: (0..entities).map(|_| Mutex::default()).collect(),
        }
    }

    /// A row of V2 waits.
    pub fn open(&self, entity: usize) {
        self.open[entity].store(true, Ordering::Release);
    }

    /// A chunk of new rows is in V2, or would be.
    pub fn written(&self, batch: &Batch, dry_run: bool) {
        let mut waiting =
            batch.lines.iter().filter(|line| line.incomplete && line.reject.is_none()).peekable();
        if waiting.peek().is_none() {
            return;
        }
        self.open(batch.entity);
        if dry_run {
            let mut pretended = self.pretended[batch.entity].lock().unwrap_or_else(PoisonError::into_inner);
            pretended.extend(waiting.map(|line| (xxh3_64(line.key.as_bytes()), line.outcome)));
        }
    }

    fn pretended(&self, entity: usize, key: &str, hash: u128) -> Option<Known> {
        let pretended = self.pretended[entity].lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = *pretended.get(&xxh3_64(key.as_bytes()))?;
        Some(Known { outcome, source_hash: !hash, claims: None, joined: None, refused: false })
    }
}

/// The entities that this pass may look at, in their order: one phase each.
fn entities(job: &Job<'_>) -> impl Iterator<Item = usize> {
    // What is compared is in V2 already.
    let selected = job.selected.iter().copied().filter(|_| !job.compares);
    selected.filter(|&index| job.plan.entities[index].is_completed_later())
}

/// How many phases it takes.
pub(super) fn phases(job: &Job<'_>) -> usize {
    entities(job).count()
}

/// By entity, whether a row of it that is not in V2 by now will not come any more.
pub(super) fn settled(job: &Job<'_>) -> Vec<bool> {
    let whole = |(index, entity)| job.selected.contains(&index) && job.filter(entity).is_none();
    job.plan.entities.iter().enumerate().map(|of| job.compares || whole(of)).collect()
}

/// Fills in what waits. `first` is the first of its phases.
pub(super) async fn all(
    shared: &Shared,
    job: &Job<'_>,
    snapshot: &mut Snapshot,
    control: &mut dyn Control,
    first: usize,
    sender: &Sender<Chunk>,
) -> Result<()> {
    let mut restored = false;
    for (phase, entity) in (first..).zip(entities(job)) {
        // Only then does the ledger tell of all that was written. `false`: a writer has failed, and says why.
        if shared.stop.asked() || !shared.gate.enter(phase).await {
            return Ok(());
        }
        if shared.later.open[entity].load(Ordering::Acquire) {
            if !shared.dry_run && !std::mem::replace(&mut restored, true) {
                // Rows are found by their ids, which a bulk load has no index of.
                job.target.restore(&|name| job.observer.step(&format!("bringing back {name}"))).await?;
            }
            let name = &shared.plan.entities[entity].name;
            job.observer.step(&format!("filling in what was left out of {name}"));
            let waiting = Pass::new(shared, entity, phase).run(job, snapshot, control, sender).await?;
            if waiting > 0 {
                shared.summary.waiting(entity, waiting);
            }
        }
        shared.gate.close(phase);
    }
    Ok(())
}

/// One entity.
struct Pass<'s> {
    shared: &'s Shared,
    entity: usize,
    phase: usize,
    chunk: Chunk,
    /// References to entities of which this run does not see all rows.
    open: Vec<(usize, KeyFrom)>,
    /// Rows that go on waiting for such a reference.
    waiting: u64,
}

impl<'s> Pass<'s> {
    fn new(shared: &'s Shared, entity: usize, phase: usize) -> Self {
        let definition = &shared.plan.entities[entity];
        let chunk = Chunk::new(entity, phase, definition.source.columns.len());
        let columns = definition.writes.iter().flat_map(|write| &write.columns).filter(|column| column.later);
        let open = columns.filter_map(|column| match column.fill {
            Fill::Reference { entity, key, .. } if !shared.settled[entity] => Some((entity, key)),
            _ => None,
        });
        Self { shared, entity, phase, chunk, open: open.collect(), waiting: 0 }
    }

    fn definition(&self) -> &'s Entity {
        &self.shared.plan.entities[self.entity]
    }

    async fn run(
        mut self,
        job: &Job<'_>,
        snapshot: &mut Snapshot,
        control: &mut dyn Control,
        sender: &Sender<Chunk>,
    ) -> Result<u64> {
        let Shared { census, edited_definitions, .. } = self.shared;
        let definition = self.definition();
        let source = &definition.source;
        let lines = control.ledger(&definition.name, source.key_kind).await?;
        let mut beside = Beside::open(lines, source.key_kind).await?;
        let mut gone = Gone::default();
        let mut cursor = census.as_ref().map(|census| census.cursor(self.entity));
        let edited = edited_definitions[self.entity];
        let filter = job.filter(definition);
        snapshot
            .read(source, None, filter, async |line| {
                if !self.chunk.rows.push(line) {
                    return Err(broken("V1 sent a row with another number of columns"));
                }
                let row = self.chunk.rows.row(self.chunk.rows.len() - 1);
                // The first pass has looked at all keys.
                let key = row.text(source.key_index).unwrap_or_default().into_owned();
                let hash = xxh3_128(row.line());
                let known = beside.find(&key, &mut gone).await?;
                let known = known.or_else(|| self.shared.later.pretended(self.entity, &key, hash));
                let known = known.filter(|known| {
                    matches!(known.outcome, Outcome::Migrated | Outcome::Merged)
                        && (edited || known.refused || known.source_hash != hash)
                });
                let completes = known.is_some_and(|known| known.is_incomplete(hash)) && !edited;
                let waits = completes && self.waits(&row, &key);
                self.waiting += u64::from(waits);
                let Some(known) = known.filter(|_| !waits) else {
                    self.chunk.rows.pop();
                    return Ok(true);
                };
                let decision = match (&definition.account, &mut cursor) {
                    (Some(_), Some(cursor)) => match cursor.next(&key) {
                        Some(decision) => Some(decision),
                        None => return Err(broken("a row of V1 is unknown to the census")),
                    },
                    _ => None,
                };
                self.chunk.known.push(known.outcome);
                self.chunk.completes.push(completes);
                add(&mut self.chunk, key, hash, decision);
                let settings = &self.shared.settings;
                if self.chunk.rows.len() >= self.shared.pace.rows_in_chunk(settings.batch_size)
                    || self.chunk.rows.size() >= settings.batch_bytes
                {
                    self.send(sender).await?;
                }
                Ok(!self.shared.stop.asked())
            })
            .await?;
        if !self.shared.stop.asked() {
            self.send(sender).await?;
        }
        Ok(self.waiting)
    }

    /// Whether the row refers to one that is not in V2, and that this run could not have brought.
    fn waits(&self, row: &Row<'_>, key: &str) -> bool {
        let lacks = |entity: usize, to: &str| {
            let itself = entity == self.entity && to == key;
            !itself && !self.shared.references.exists(entity, to)
        };
        self.open.iter().any(|&(entity, from)| match from {
            KeyFrom::Column(column) => row.text(column).is_some_and(|to| lacks(entity, &to)),
            KeyFrom::Each(column) | KeyFrom::Elements(column) => {
                row.elements(column).iter().flatten().any(|to| lacks(entity, to))
            }
            KeyFrom::Account(_) => false,
        })
    }

    async fn send(&mut self, sender: &Sender<Chunk>) -> Result<()> {
        if self.chunk.rows.is_empty() {
            return Ok(());
        }
        let next = Chunk::new(self.entity, self.phase, self.definition().source.columns.len());
        self.shared.gate.sent(self.phase);
        match sender.send(std::mem::replace(&mut self.chunk, next)).await {
            // The writers are gone after a failure, which they report, or because the user asked to stop.
            Err(_) if !self.shared.stop.asked() => Err(Error::failed("the writers have stopped")),
            _ => Ok(()),
        }
    }
}
