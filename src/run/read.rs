//! The reading half of a run: V1 and the ledger side by side, cut into chunks.

use std::sync::PoisonError;

use tokio::sync::mpsc::Sender;

use super::identify::{Ask, Fate, Identified, Identify};
use super::later;
use super::levels::Levels;
use super::since::{Changes, Seen};
use super::summary::Found;
use super::{Job, Shared, broken};
use crate::census::{self, Census, Founder, Outcome as Decided};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::ledger::{Beside, Gone, Outcome};
use crate::password::{self, Batch as Passwords};
use crate::row::Rows;
use crate::source::Snapshot;
use crate::target::Control;

/// Rows that were read and are not converted yet.
pub(super) struct Chunk {
    pub entity: usize,
    pub phase: usize,
    pub rows: Rows,
    pub keys: Vec<String>,
    pub hashes: Vec<u128>,
    pub decisions: Vec<Option<census::Decision>>,
    /// Whether some rows have a ledger line already.
    pub again: bool,
    /// Of rows that are in V2 already and have changed: what the ledger says of each.
    pub known: Vec<Outcome>,
    /// Of the same rows: V1 has not changed it, and only what was left out at first is filled in.
    pub completes: Vec<bool>,
    /// The hashes of the accounts that these rows were expected to create, with the rows' numbers.
    pub passwords: Option<(Vec<u32>, Passwords)>,
}

impl Chunk {
    pub fn new(entity: usize, phase: usize, width: usize) -> Self {
        Self {
            entity,
            phase,
            rows: Rows::new(width),
            keys: Vec::new(),
            hashes: Vec::new(),
            decisions: Vec::new(),
            again: false,
            known: Vec::new(),
            completes: Vec::new(),
            passwords: None,
        }
    }
}

/// What is known of each entity before it is read.
pub(super) struct Known<'k> {
    /// Number of lines in the ledger, by entity.
    pub ledger_lines: &'k [u64],
    /// Number of rows, by entity, where it was counted on the way.
    pub row_counts: &'k [Option<u64>],
    /// Of the selected entities, in their order.
    pub levels: &'k [Levels],
    /// By entity, where all of it was read already.
    pub seen: Vec<Option<Seen>>,
}

/// Reads all selected entities, one after the other.
pub(super) async fn all(
    shared: &Shared,
    job: &Job<'_>,
    snapshot: &mut Snapshot,
    control: &mut dyn Control,
    mut known: Known<'_>,
    sender: Sender<Chunk>,
) -> Result<()> {
    let passes = job.selected.iter().zip(known.levels);
    let passes =
        passes.flat_map(|(&entity, levels)| (0..levels.count()).map(move |pass| (entity, levels, pass)));
    let passes: Vec<_> = passes.collect();
    let mut found = Found::default();
    let mut begun = None;
    for (position, (entity, levels, pass)) in passes.iter().copied().enumerate() {
        let definition = &shared.plan.entities[entity];
        let source = &definition.source;
        let filter = job.filter(definition);
        if pass == 0 {
            let rows = match (filter, known.row_counts[entity]) {
                (None, Some(rows)) => rows,
                _ => snapshot.count(source, filter).await?,
            };
            shared.observer.entity(&definition.name, rows);
            found = Found::default();
        }
        let mut reader = Reader {
            shared,
            sender: &sender,
            entity,
            ask: Ask {
                retry_rejected: job.options.retry_rejected,
                compare: job.compares,
                edited: shared.edited_definitions[entity],
                later: definition.is_completed_later(),
            },
            pass: (levels, pass),
            read: 0,
            chunk: Chunk::new(entity, 2 * position, source.columns.len()),
            deferred: Chunk::new(entity, 2 * position + 1, source.columns.len()),
            changed: Chunk::new(entity, 2 * position, source.columns.len()),
            cursor: shared.census.as_ref().map(|census| census.cursor(entity)),
            // Each pass sees all lines of the ledger.
            found: Found { gone: 0, ..found },
        };
        let this = begun.take();
        let was_seen = |of: &Option<Seen>| of.as_ref().is_some_and(|seen| seen.changes.is_some());
        // A run that hashes passwords takes hours, and V1's moment of sorting is nothing to it.
        if let (None, Some(&(next, ..))) = (&shared.passwords, passes.get(position + 1))
            && !was_seen(&known.seen[next])
        {
            let next = &shared.plan.entities[next];
            begun = snapshot.begin_ahead(&shared.settings, &next.source, None, job.filter(next)).await;
        }
        let gone = match known.seen[entity].take().filter(|_| pass == 0) {
            Some(Seen { found, gone, changes: Some(changes), .. }) => {
                reader.take_changes(found, &changes).await?;
                gone
            }
            _ => {
                let beside = match known.ledger_lines[entity] {
                    0 => None,
                    _ => {
                        let lines = control.ledger(&definition.name, source.key_kind).await?;
                        failpoint::reach("read.ledger")?;
                        Some(Beside::open(lines, source.key_kind).await?)
                    }
                };
                let mut identify = Identify::new(definition, beside, job.options.prune);
                let take = async |line: &[u8]| reader.take(line, &mut identify).await;
                snapshot.read_begun(this, source, None, filter, take).await?;
                reader.send_rest().await?;
                identify.finish().await?
            }
        };
        // What a filter leaves out is not gone.
        found = reader.finish(gone, filter.is_none())?;
        if shared.stop.asked() {
            break;
        }
    }
    later::all(shared, job, snapshot, control, 2 * passes.len(), &sender).await
}

/// Reads one entity.
struct Reader<'r> {
    shared: &'r Shared,
    sender: &'r Sender<Chunk>,
    entity: usize,
    ask: Ask,
    /// Which of the rows are taken now.
    pass: (&'r Levels, usize),
    /// Rows of V1 so far, taken or not.
    read: usize,
    chunk: Chunk,
    /// Rows whose person is founded by another row of this entity: they come after all others.
    deferred: Chunk,
    /// Rows that are in V2 and that V1 has changed since.
    changed: Chunk,
    cursor: Option<census::Cursor<&'r Census>>,
    found: Found,
}

impl Reader<'_> {
    /// Takes one line of COPY text; `false` when the user asked to stop.
    async fn take(&mut self, line: &[u8], identify: &mut Identify<'_>) -> Result<bool> {
        if !self.chunk.rows.push(line) {
            return Err(broken("V1 sent a row with another number of columns"));
        }
        let row = identify.next(&self.chunk.rows.row(self.chunk.rows.len() - 1)).await?;
        let (levels, pass) = self.pass;
        self.read += 1;
        if !levels.takes(pass, self.read - 1) {
            self.chunk.rows.pop();
            return Ok(true);
        }
        let fate = Fate::of(&row, self.ask);
        fate.count(&mut self.found);
        if let Fate::Later { .. } = fate {
            self.shared.later.open(self.entity);
        }
        if let Fate::Done { .. } | Fate::Later { .. } | Fate::Ignored = fate {
            self.chunk.rows.pop();
            if matches!(fate, Fate::Done { .. } | Fate::Later { completes: true })
                && self.found.already.is_multiple_of(1_000)
            {
                self.shared.observer.advance(&self.shared.plan.entities[self.entity].name, 1_000);
            }
            return Ok(true);
        }
        let Identified { key, hash, .. } = row;
        self.place(line, key, hash, fate).await
    }

    /// Takes what was found when the entity was read for the census.
    async fn take_changes(&mut self, found: Found, changes: &Changes) -> Result<()> {
        self.found = found;
        let name = &self.shared.plan.entities[self.entity].name;
        self.shared.observer.advance(name, found.already - found.already % 1_000);
        for (line, key, hash, fate) in changes.iter() {
            if !self.chunk.rows.push(line) {
                return Err(broken("a row that was kept has another number of columns"));
            }
            if !self.place(line, key.to_owned(), hash, fate).await? {
                break;
            }
        }
        self.send_rest().await
    }

    /// Puts the row, which is the last one of `chunk`, where it belongs, and sends what is full.
    async fn place(&mut self, line: &[u8], key: String, hash: u128, fate: Fate) -> Result<bool> {
        let entity = &self.shared.plan.entities[self.entity];
        let decision = match entity.account {
            Some(_) => match self.cursor.as_mut().and_then(|cursor| cursor.next(&key)) {
                Some(decision) => Some(decision),
                None => return Err(broken("a row of V1 is unknown to the census")),
            },
            None => None,
        };
        let again = fate == Fate::Again;
        if let Fate::Changed(outcome) = fate {
            self.changed.rows.push(line);
            self.changed.known.push(outcome);
            self.changed.completes.push(false);
            self.chunk.rows.pop();
            add(&mut self.changed, key, hash, decision);
            if self.is_full(&self.changed) {
                let next = Chunk::new(self.entity, self.changed.phase, entity.source.columns.len());
                let full = std::mem::replace(&mut self.changed, next);
                self.send(full).await?;
                return Ok(!self.shared.stop.asked());
            }
            return Ok(true);
        }
        if self.waits_for_its_own_entity(decision) {
            self.deferred.rows.push(line);
            self.deferred.again |= again;
            self.chunk.rows.pop();
            add(&mut self.deferred, key, hash, decision);
            return Ok(true);
        }
        self.chunk.again |= again;
        add(&mut self.chunk, key, hash, decision);
        if self.is_full(&self.chunk) {
            let next = Chunk::new(self.entity, self.chunk.phase, entity.source.columns.len());
            let full = std::mem::replace(&mut self.chunk, next);
            self.send(full).await?;
            return Ok(!self.shared.stop.asked());
        }
        Ok(true)
    }

    fn is_full(&self, chunk: &Chunk) -> bool {
        let settings = &self.shared.settings;
        chunk.rows.len() >= self.shared.pace.rows_in_chunk(settings.batch_size)
            || chunk.rows.size() >= settings.batch_bytes
    }

    fn waits_for_its_own_entity(&self, decision: Option<census::Decision>) -> bool {
        match decision.map(|decision| decision.outcome) {
            Some(Decided::Account(account)) => {
                matches!(account.founder, Founder::Row { entity, .. } if entity == self.entity)
            }
            _ => false,
        }
    }

    /// Sends what is left, and closes the phases of this pass.
    async fn send_rest(&mut self) -> Result<()> {
        let (entity, phase) = (self.entity, self.chunk.phase);
        let stopped = self.shared.stop.asked();
        let width = self.shared.plan.entities[entity].source.columns.len();
        if !stopped {
            let last = std::mem::replace(&mut self.chunk, Chunk::new(entity, phase, width));
            self.send(last).await?;
            let last = std::mem::replace(&mut self.changed, Chunk::new(entity, phase, width));
            self.send(last).await?;
        }
        self.shared.gate.close(phase);
        if !stopped {
            let deferred = std::mem::replace(&mut self.deferred, Chunk::new(entity, phase + 1, width));
            self.send(deferred).await?;
        }
        self.shared.gate.close(phase + 1);
        Ok(())
    }

    fn finish(mut self, gone: Gone, count_gone: bool) -> Result<Found> {
        let entity = self.entity;
        if count_gone && !self.shared.stop.asked() {
            self.found.gone = gone.count;
            let keys = gone.keys.unwrap_or_default();
            self.shared.gone.lock().unwrap_or_else(PoisonError::into_inner)[entity] = keys;
        }
        failpoint::reach("read.entity")?;
        self.shared.summary.read(entity, self.found);
        let (levels, pass) = self.pass;
        if pass + 1 == levels.count() {
            let name = &self.shared.plan.entities[entity].name;
            self.shared.observer.advance(name, self.found.already % 1_000);
        }
        Ok(self.found)
    }

    async fn send(&self, mut chunk: Chunk) -> Result<()> {
        if chunk.rows.is_empty() {
            return Ok(());
        }
        if let Some(pool) = &self.shared.passwords
            && chunk.known.is_empty()
        {
            let mut rows = Vec::new();
            let mut jobs = Vec::new();
            for (row, decision) in (0_u32..).zip(&chunk.decisions) {
                if let Some(Decided::Account(account)) = decision.map(|decision| decision.outcome)
                    && !account.is_merged()
                    && !self.shared.exists.contains(account.number)
                {
                    rows.push(row);
                    jobs.push(password::Job { account_id: self.shared.plan.account_id(account.id) });
                }
            }
            chunk.passwords = Some((rows, pool.submit(jobs)));
        }
        self.shared.gate.sent(chunk.phase);
        failpoint::reach("read.chunk")?;
        match self.sender.send(chunk).await {
            // The writers are gone after a failure, which they report, or because the user asked to stop.
            Err(_) if !self.shared.stop.asked() => Err(Error::failed("the writers have stopped")),
            _ => Ok(()),
        }
    }
}

pub(super) fn add(chunk: &mut Chunk, key: String, hash: u128, decision: Option<census::Decision>) {
    chunk.keys.push(key);
    chunk.hashes.push(hash);
    chunk.decisions.push(decision);
}
