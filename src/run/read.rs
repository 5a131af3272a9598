//! The reading half of a run: V1 and the ledger side by side, cut into chunks.

use std::sync::PoisonError;

use tokio::sync::mpsc::Sender;
use xxhash_rust::xxh3::xxh3_128;

use super::later;
use super::levels::Levels;
use super::summary::Found;
use super::{Job, Shared, broken};
use crate::census::{self, Census, Founder, Outcome as Decided};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::ledger::{Beside, Gone, Outcome};
use crate::password::{self, Batch as Passwords};
use crate::row::Rows;
use crate::source::{Snapshot, compare_keys};
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

/// Reads all selected entities, one after the other.
pub(super) async fn all(
    shared: &Shared,
    job: &Job<'_>,
    snapshot: &mut Snapshot,
    control: &mut dyn Control,
    (ledger_lines, row_counts, levels): (&[u64], &[Option<u64>], &[Levels]),
    sender: Sender<Chunk>,
) -> Result<()> {
    let passes = job.selected.iter().zip(levels);
    let passes =
        passes.flat_map(|(&entity, levels)| (0..levels.count()).map(move |pass| (entity, levels, pass)));
    let passes: Vec<_> = passes.collect();
    let mut found = Found::default();
    let mut begun = None;
    for (position, (entity, levels, pass)) in passes.iter().copied().enumerate() {
        let definition = &shared.plan.entities[entity];
        let filter = job.filter(definition);
        if pass == 0 {
            let rows = match (filter, row_counts[entity]) {
                (None, Some(rows)) => rows,
                _ => snapshot.count(&definition.source, filter).await?,
            };
            shared.observer.entity(&definition.name, rows);
            found = Found::default();
        }
        let beside = match ledger_lines[entity] {
            0 => None,
            _ => {
                let source = &definition.source;
                let lines = control.ledger(&definition.name, source.key_kind).await?;
                failpoint::reach("read.ledger")?;
                Some(Beside::open(lines, source.key_kind).await?)
            }
        };
        let mut reader = Reader {
            shared,
            sender: &sender,
            entity,
            retry_rejected: job.options.retry_rejected,
            compare: job.compares,
            pass: (levels, pass),
            read: 0,
            chunk: Chunk::new(entity, 2 * position, definition.source.columns.len()),
            deferred: Chunk::new(entity, 2 * position + 1, definition.source.columns.len()),
            changed: Chunk::new(entity, 2 * position, definition.source.columns.len()),
            last_key: None,
            cursor: shared.census.as_ref().map(|census| census.cursor(entity)),
            beside,
            // Each pass sees all lines of the ledger.
            found: Found { gone: 0, ..found },
            gone: Gone { count: 0, keys: job.options.prune.then(Vec::new) },
        };
        let this = begun.take();
        // A run that hashes passwords takes hours, and V1's moment of sorting is nothing to it.
        if let (None, Some(&(next, ..))) = (&shared.passwords, passes.get(position + 1)) {
            let next = &shared.plan.entities[next];
            begun = snapshot.begin_ahead(&shared.settings, &next.source, None, job.filter(next)).await;
        }
        let take = async |line: &[u8]| reader.take(line).await;
        snapshot.read_begun(this, &definition.source, None, filter, take).await?;
        // What a filter leaves out is not gone.
        found = reader.finish(filter.is_none()).await?;
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
    retry_rejected: bool,
    /// Nothing is written: what is in V2 is to be compared with what V1's rows become.
    compare: bool,
    /// Which of the rows are taken now.
    pass: (&'r Levels, usize),
    /// Rows of V1 so far, taken or not.
    read: usize,
    chunk: Chunk,
    /// Rows whose person is founded by another row of this entity: they come after all others.
    deferred: Chunk,
    /// Rows that are in V2 and that V1 has changed since.
    changed: Chunk,
    last_key: Option<String>,
    cursor: Option<census::Cursor<&'r Census>>,
    beside: Option<Beside<'r>>,
    found: Found,
    gone: Gone,
}

impl Reader<'_> {
    /// Takes one line of COPY text; `false` when the user asked to stop.
    async fn take(&mut self, line: &[u8]) -> Result<bool> {
        failpoint::reach("read.row")?;
        let entity = &self.shared.plan.entities[self.entity];
        if !self.chunk.rows.push(line) {
            return Err(broken("V1 sent a row with another number of columns"));
        }
        let number = self.chunk.rows.len() - 1;
        let row = self.chunk.rows.row(number);
        let Some(key) = row.text(entity.source.key_index) else {
            return Err(Error::failed(format!(
                "{}: a row of V1 has no key ({} is null)",
                entity.name, entity.source.key
            ))
            .help("choose a key column that is unique and not null, or leave such rows out in the query"));
        };
        if !row.is_text(entity.source.key_index) {
            return Err(Error::failed(format!(
                "{}: a row of V1 has a key ({}) with bytes that are not valid UTF-8",
                entity.name, entity.source.key
            ))
            .help("repair such keys in V1, or leave such rows out in the query"));
        }
        let key = key.into_owned();
        let hash = xxh3_128(row.line());
        // Without this check a key that is not unique would silently lose rows.
        if let Some(last) = &self.last_key
            && compare_keys(entity.source.key_kind, last, &key).is_ge()
        {
            return Err(Error::failed(format!(
                "{}: the key {} is not unique: {key:?} came twice, or out of order",
                entity.name, entity.source.key
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
        let (levels, pass) = self.pass;
        self.read += 1;
        if !levels.takes(pass, self.read - 1) {
            self.chunk.rows.pop();
            self.last_key = Some(key);
            return Ok(true);
        }
        self.found.rows += 1;
        let mut update = None;
        if let Some(known) = known {
            let changed =
                self.compare || known.source_hash != hash || self.shared.edited_definitions[self.entity];
            // A rejected row that was repaired in V1 is tried again without being asked to.
            let again =
                !self.compare && known.outcome == Outcome::Rejected && (changed || self.retry_rejected);
            let changed = changed && matches!(known.outcome, Outcome::Migrated | Outcome::Merged);
            // Such rows wait until all others are in V2.
            let later = changed && !self.compare && entity.is_completed_later();
            if later {
                self.shared.later.open(self.entity);
            }
            let completes =
                later && known.is_incomplete(hash) && !self.shared.edited_definitions[self.entity];
            if changed && !completes {
                self.found.changed += 1;
            }
            if later && !completes {
                self.chunk.rows.pop();
                self.last_key = Some(key);
                return Ok(true);
            }
            if changed && !completes {
                update = Some(known.outcome);
            } else if !again {
                self.found.already += 1;
                self.found.rejected += u64::from(known.outcome == Outcome::Rejected);
                self.chunk.rows.pop();
                self.last_key = Some(key);
                if self.found.already.is_multiple_of(1_000) {
                    self.shared.observer.advance(&entity.name, 1_000);
                }
                return Ok(true);
            }
            self.chunk.again |= again;
        } else if self.compare {
            // Whether every row has its line is the business of the counts.
            self.chunk.rows.pop();
            self.last_key = Some(key);
            return Ok(true);
        }
        let decision = match entity.account {
            Some(_) => match self.cursor.as_mut().and_then(|cursor| cursor.next(&key)) {
                Some(decision) => Some(decision),
                None => return Err(broken("a row of V1 is unknown to the census")),
            },
            None => None,
        };
        self.last_key = Some(key.clone());
        if let Some(outcome) = update {
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
            self.deferred.again |= known.is_some();
            self.chunk.rows.pop();
            add(&mut self.deferred, key, hash, decision);
            return Ok(true);
        }
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

    async fn finish(mut self, count_gone: bool) -> Result<Found> {
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
        if let Some(beside) = self.beside.take() {
            beside.finish(&mut self.gone).await?;
        }
        if count_gone && !stopped {
            self.found.gone = self.gone.count;
            let keys = self.gone.keys.take().unwrap_or_default();
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
