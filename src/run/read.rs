//! The reading half of a run: V1 and the ledger side by side, cut into chunks.

use tokio::sync::mpsc::Sender;
use xxhash_rust::xxh3::xxh3_128;

use super::summary::Found;
use super::{Job, Shared, broken};
use crate::census::{self, Census, Founder, Outcome as Decided};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::ledger::{Beside, Outcome};
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
    /// The hashes of the accounts that these rows were expected to create, with the rows' numbers.
    pub passwords: Option<(Vec<u32>, Passwords)>,
}

impl Chunk {
    fn new(entity: usize, phase: usize, width: usize) -> Self {
        Self {
            entity,
            phase,
            rows: Rows::new(width),
            keys: Vec::new(),
            hashes: Vec::new(),
            decisions: Vec::new(),
            again: false,
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
    ledger_lines: &[u64],
    row_counts: &[Option<u64>],
    sender: Sender<Chunk>,
) -> Result<()> {
    for (position, &entity) in job.selected.iter().enumerate() {
        let definition = &shared.plan.entities[entity];
        let filter = job.options.filters.get(&*definition.name).map(String::as_str);
        let rows = match (filter, row_counts[entity]) {
            (None, Some(rows)) => rows,
            _ => snapshot.count(&definition.source, filter).await?,
        };
        shared.observer.entity(&definition.name, rows);
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
            chunk: Chunk::new(entity, 2 * position, definition.source.columns.len()),
            deferred: Chunk::new(entity, 2 * position + 1, definition.source.columns.len()),
            last_key: None,
            cursor: shared.census.as_ref().map(|census| census.cursor(entity)),
            beside,
            found: Found::default(),
        };
        snapshot.read(&definition.source, None, filter, async |line| reader.take(line).await).await?;
        // What a filter leaves out is not gone.
        reader.finish(filter.is_none()).await?;
        if shared.stop.asked() {
            break;
        }
    }
    Ok(())
}

/// Reads one entity.
struct Reader<'r> {
    shared: &'r Shared,
    sender: &'r Sender<Chunk>,
    entity: usize,
    retry_rejected: bool,
    chunk: Chunk,
    /// Rows whose person is founded by another row of this entity: they come after all others.
    deferred: Chunk,
    last_key: Option<String>,
    cursor: Option<census::Cursor<&'r Census>>,
    beside: Option<Beside<'r>>,
    found: Found,
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
        self.found.rows += 1;
        let known = match &mut self.beside {
            Some(beside) => beside.find(&key, &mut self.found.gone).await?,
            None => None,
        };
        failpoint::reach("read.beside")?;
        if let Some(known) = known {
            if !(self.retry_rejected && known.outcome == Outcome::Rejected) {
                self.found.already += 1;
                self.found.rejected += u64::from(known.outcome == Outcome::Rejected);
                self.found.changed += u64::from(known.source_hash != hash);
                self.chunk.rows.pop();
                self.last_key = Some(key);
                if self.found.already.is_multiple_of(1_000) {
                    self.shared.observer.advance(&entity.name, 1_000);
                }
                return Ok(true);
            }
            self.chunk.again = true;
        }
        let decision = match entity.account {
            Some(_) => match self.cursor.as_mut().and_then(|cursor| cursor.next(&key)) {
                Some(decision) => Some(decision),
                None => return Err(broken("a row of V1 is unknown to the census")),
            },
            None => None,
        };
        self.last_key = Some(key.clone());
        if self.waits_for_its_own_entity(decision) {
            self.deferred.rows.push(line);
            self.deferred.again |= known.is_some();
            self.chunk.rows.pop();
            add(&mut self.deferred, key, hash, decision);
            return Ok(true);
        }
        add(&mut self.chunk, key, hash, decision);
        let settings = &self.shared.settings;
        if self.chunk.rows.len() >= settings.batch_size || self.chunk.rows.size() >= settings.batch_bytes {
            let next = Chunk::new(self.entity, self.chunk.phase, entity.source.columns.len());
            let full = std::mem::replace(&mut self.chunk, next);
            self.send(full).await?;
            return Ok(!self.shared.stop.asked());
        }
        Ok(true)
    }

    fn waits_for_its_own_entity(&self, decision: Option<census::Decision>) -> bool {
        match decision.map(|decision| decision.outcome) {
            Some(Decided::Account(account)) => {
                matches!(account.founder, Founder::Row { entity, .. } if entity == self.entity)
            }
            _ => false,
        }
    }

    async fn finish(mut self, count_gone: bool) -> Result<()> {
        let (entity, phase) = (self.entity, self.chunk.phase);
        let stopped = self.shared.stop.asked();
        let width = self.shared.plan.entities[entity].source.columns.len();
        if !stopped {
            let last = std::mem::replace(&mut self.chunk, Chunk::new(entity, phase, width));
            self.send(last).await?;
        }
        self.shared.gate.close(phase);
        if !stopped {
            let deferred = std::mem::replace(&mut self.deferred, Chunk::new(entity, phase + 1, width));
            self.send(deferred).await?;
        }
        self.shared.gate.close(phase + 1);
        if let Some(beside) = self.beside.take() {
            beside.finish(&mut self.found.gone).await?;
        }
        if !count_gone || stopped {
            self.found.gone = 0;
        }
        failpoint::reach("read.entity")?;
        self.shared.summary.read(entity, self.found);
        let name = &self.shared.plan.entities[entity].name;
        self.shared.observer.advance(name, self.found.already % 1_000);
        Ok(())
    }

    async fn send(&self, mut chunk: Chunk) -> Result<()> {
        if chunk.rows.is_empty() {
            return Ok(());
        }
        if let Some(pool) = &self.shared.passwords {
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

fn add(chunk: &mut Chunk, key: String, hash: u128, decision: Option<census::Decision>) {
    chunk.keys.push(key);
    chunk.hashes.push(hash);
    chunk.decisions.push(decision);
}
