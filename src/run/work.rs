//! The writing half of a run: takes chunks in order, converts them, and commits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;

use super::read::Chunk;
use super::{Shared, Sink, broken};
use crate::census::{Census, Decision, Outcome as Decided};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::ledger::{Line, Outcome, Reject};
use crate::migrator::{Account, Context, Definition, Migrator, Note, Person, Records};
use crate::password::Job;
use crate::target::{Batch, Keeps, Trial, Update};

/// Chunks that are read ahead of the writers. With passwords on this is what keeps the hash pool busy while the
/// writers commit; it bounds memory, since a chunk is bounded in bytes.
const READ_AHEAD: usize = 2;

/// Which accounts are in V2: one bit each.
pub(super) struct AccountBits(Vec<AtomicU64>);

impl AccountBits {
    /// What the census found in V2.
    pub fn new(census: Option<&Census>) -> Self {
        let slots = census.map_or(0, Census::account_slots);
        let bits = Self((0..slots.div_ceil(64)).map(|_| AtomicU64::new(0)).collect());
        if let Some(census) = census {
            (0..slots as u32)
                .filter(|&number| census.exists_in_v2(number))
                .for_each(|number| bits.insert(number));
        }
        bits
    }

    pub fn contains(&self, account: u32) -> bool {
        let word = &self.0[account as usize / 64];
        word.load(Ordering::Acquire) & (1 << (account % 64)) != 0
    }

    pub fn insert(&self, account: u32) {
        self.0[account as usize / 64].fetch_or(1 << (account % 64), Ordering::AcqRel);
    }
}

/// The writers of a run.
pub(super) struct Workers(JoinSet<Result<Option<Box<dyn Trial>>>>);

impl Workers {
    /// Waits for all writers; returns the first error, or the dry run's tables.
    pub async fn finish(mut self) -> Result<Option<Box<dyn Trial>>> {
        let mut first = Ok(None);
        while let Some(ended) = self.0.join_next().await {
            // A panic is an error of the run, never "done".
            let ended = ended.unwrap_or_else(|_| Err(broken("a writer panicked")));
            match (&first, ended) {
                (Ok(_), Err(error)) => first = Err(error),
                (Ok(None), Ok(trial)) => first = Ok(trial),
                _ => {}
            }
        }
        first
    }
}

/// Starts one writer for each sink.
pub(super) fn start(shared: Arc<Shared>, sinks: Vec<Sink>) -> (Sender<Chunk>, Workers) {
    let (sender, receiver) = channel(READ_AHEAD);
    let receiver = Arc::new(Mutex::new(receiver));
    let mut workers = JoinSet::new();
    for sink in sinks {
        let shared = shared.clone();
        let receiver = receiver.clone();
        workers.spawn(async move {
            // However the writer ends, the others must not wait for its chunk.
            let worked = write(&shared, &receiver, sink).await;
            if worked.is_err() {
                shared.gate.fail();
                receiver.lock().await.close();
            }
            worked
        });
    }
    (sender, Workers(workers))
}

async fn write(
    shared: &Arc<Shared>,
    receiver: &Mutex<Receiver<Chunk>>,
    mut sink: Sink,
) -> Result<Option<Box<dyn Trial>>> {
    // Buffers of many megabytes are used again: made anew for each chunk, they would leave the heap full of holes.
    let mut spare = Records::default();
    loop {
        let next = receiver.lock().await.recv().await;
        let Some(mut chunk) = next else { break };
        let (phase, rows) = (chunk.phase, chunk.rows.len() as u64);
        let ready = async {
            let passwords = match chunk.passwords.take() {
                Some((rows, hashes)) => {
                    let hashes = hashes.await?;
                    rows.into_iter().zip(hashes.iter().map(|hash| hash.phc())).collect()
                }
                None => HashMap::new(),
            };
            // `None`: another writer has failed, and its error is the one to report.
            let entered = shared.gate.enter(phase).await
                && tokio::select! {
                    waited = shared.pace.wait(rows) => waited.map(|()| true)?,
                    () = shared.gate.failed() => false,
                };
            Ok::<_, Error>(entered.then_some(passwords))
        };
        // Hashing a chunk takes minutes; whoever asks to stop waits only for chunks that are being written.
        let ready = tokio::select! {
            ready = ready => ready?,
            () = shared.stop.wait() => None,
        };
        let Some(mut passwords) = ready.filter(|_| !shared.stop.asked()) else {
            shared.gate.fail();
            receiver.lock().await.close();
            break;
        };
        failpoint::reach("write.ready")?;
        hash_unforeseen(shared, &chunk, &mut passwords).await?;
        failpoint::reach("write.passwords")?;
        let decisions = std::mem::take(&mut chunk.decisions);
        let records = std::mem::take(&mut spare);
        // Some 50 ms of work in the open: a writer's task has its thread to itself.
        let mut batch = convert(shared, chunk, &decisions, &passwords, records);
        failpoint::reach("write.converted")?;
        match &mut sink {
            Sink::Real(writer) => writer.commit(&mut batch).await?,
            Sink::Trial(trial) => trial.commit(&mut batch).await?,
            Sink::Compare(comparer) => {
                let differences = comparer.compare(&mut batch).await?;
                shared.summary.differ(&batch, differences);
            }
        }
        failpoint::reach("write.acknowledged")?;
        remember(shared, &batch, &decisions);
        failpoint::reach("write.remembered")?;
        shared.gate.done(phase);
        stop_if_too_many_are_rejected(shared)?;
        spare = batch.records;
    }
    match sink {
        Sink::Real(writer) => {
            writer.close().await;
            Ok(None)
        }
        Sink::Trial(trial) => Ok(Some(trial)),
        Sink::Compare(_) => Ok(None),
    }
}

/// A run that goes wrong on a large scale is better stopped while little is done. A dry run exists to find all of it.
fn stop_if_too_many_are_rejected(shared: &Shared) -> Result<()> {
    let (rejected, rows) = shared.summary.rejected();
    match shared.settings.max_rejects {
        Some(most) if !shared.dry_run && most.is_exceeded(rejected, rows) => Err(Error::failed(format!(
            "{rejected} of {rows} rows were rejected, which is more than max_rejects = {most} allows: the run stopped"
        ))
        .help(
            "`v1v2 status` tells what was rejected and why; what was committed stays, and the same command goes on \
             after it, with a higher --max-rejects if need be",
        )),
        _ => Ok(()),
    }
}

/// Whether this row, if it is migrated now, creates its account.
fn creates(shared: &Shared, decision: Option<&Decision>) -> Option<uuid::Uuid> {
    match decision?.outcome {
        Decided::Account(account) if !shared.exists.contains(account.number) => Some(account.id),
        _ => None,
    }
}

/// Passwords of accounts whose founder was rejected: the person's next row creates them, which nobody foresaw.
async fn hash_unforeseen(shared: &Shared, chunk: &Chunk, passwords: &mut HashMap<u32, String>) -> Result<()> {
    let Some(pool) = &shared.passwords else { return Ok(()) };
    let unforeseen: Vec<(u32, uuid::Uuid)> = (0_u32..)
        .zip(&chunk.decisions)
        .filter_map(|(row, decision)| Some((row, creates(shared, decision.as_ref())?)))
        .filter(|(row, _)| !passwords.contains_key(row))
        .collect();
    if unforeseen.is_empty() || !chunk.known.is_empty() {
        return Ok(());
    }
    let jobs = unforeseen.iter().map(|(_, id)| Job { account_id: shared.plan.account_id(*id) }).collect();
    let hashes = pool.submit(jobs).await?;
    passwords.extend(unforeseen.iter().map(|(row, _)| *row).zip(hashes.iter().map(|hash| hash.phc())));
    Ok(())
}

/// Converts a chunk. Pure but for reading what earlier chunks have left in `shared`.
fn convert(
    shared: &Shared,
    chunk: Chunk,
    decisions: &[Option<Decision>],
    passwords: &HashMap<u32, String>,
    mut records: Records,
) -> Batch {
    let entity = &shared.plan.entities[chunk.entity];
    let migrator: Box<dyn Migrator> =
        match (&entity.custom, Definition::new(shared.plan.clone(), chunk.entity)) {
            (Some(custom), definition) => custom.before(definition),
            (None, definition) => Box::new(definition),
        };
    records.reset(entity);
    let mut lines = Vec::with_capacity(chunk.rows.len());
    let mut update = (!chunk.known.is_empty()).then(|| Update {
        on_edited: shared.settings.on_edited,
        definition_edited: shared.edited_definitions[chunk.entity],
        keeps: vec![Keeps::default(); chunk.rows.len()],
        completes: chunk.completes,
    });
    let settled = update.is_some().then_some(&*shared.settled);
    let keys = chunk.keys.into_iter().zip(chunk.hashes).zip(decisions);
    for (number, ((key, source_hash), decision)) in (0_u32..).zip(keys) {
        let row = chunk.rows.row(number as usize);
        let (mut account_id, mut claims) = (None, None);
        // A row that is in V2 already stays what it was: the one that created its account, or not.
        let known = chunk.known.get(number as usize).copied();
        let mut merged = known == Some(Outcome::Merged);
        let converted = (|| {
            if let Some(reject) = shared.duplicates.reject(chunk.entity, &key) {
                return Err(reject.clone());
            }
            if let Some(column) = row.no_text() {
                let column = &entity.source.columns[column].name;
                let reason = format!("V1's column {column} has bytes that are not valid UTF-8");
                return Err(Reject::new("database-22021", reason));
            }
            let mut context = Context {
                plan: &shared.plan,
                ids: &shared.ids,
                references: &shared.references,
                lookups: &shared.lookups,
                entity: chunk.entity,
                number,
                key: &key,
                person: None,
                settled,
                now: &shared.now,
            };
            let person = match (decision, &entity.account) {
                (Some(decision), Some(spec)) => match decision.outcome {
                    Decided::WithoutAccount => None,
                    Decided::Rejected(code) => return Err(Reject::new(code.as_str(), code.reason())),
                    Decided::Account(account) => {
                        let Some(census) = &shared.census else { return Ok(()) };
                        let account = Account {
                            of: account,
                            creates: match known {
                                Some(known) => known == Outcome::Migrated,
                                None => !shared.exists.contains(account.number),
                            },
                            updates: known.is_some(),
                            phone: shared.phones.get(decision.row),
                            mode: shared.settings.passwords,
                            password_hash: passwords.get(&number).map(String::as_str),
                            joining_password: shared
                                .joining_passwords
                                .get(&account.number)
                                .map(String::as_str),
                            pretend: shared.dry_run,
                            census,
                        };
                        merged = !account.creates;
                        account_id = Some(shared.plan.account_id(account.of.id));
                        let person = Person::of(&row, spec, &account, &context, &mut records.notes)?;
                        claims = person.claims();
                        if let Some(update) = &mut update {
                            update.keeps[number as usize] = person.keeps();
                        }
                        Some(person)
                    }
                },
                _ => None,
            };
            context.person = person.as_ref();
            migrator.convert(&row, &context, &mut records)
        })();
        match converted {
            Ok(()) => {
                if let Some(decision) = decision {
                    add_conflicts(shared, *decision, number, &mut records);
                }
                let outcome = if merged { Outcome::Merged } else { Outcome::Migrated };
                let target_id = Some(shared.ids[chunk.entity].id(&key));
                let incomplete = records.incomplete.last() == Some(&number);
                lines.push(Line {
                    key,
                    outcome,
                    source_hash,
                    incomplete,
                    claims,
                    account_id,
                    target_id,
                    reject: None,
                });
            }
            Err(reject) => {
                records.take_back(number);
                lines.push(Line::rejected(key, source_hash, reject));
            }
        }
    }
    let (rows, again) = (chunk.rows, chunk.again);
    Batch { entity: chunk.entity, name: entity.name.clone(), rows, lines, again, records, update }
}

/// What the census has to tell about the row.
fn add_conflicts(shared: &Shared, decision: Decision, row: u32, records: &mut Records) {
    let conflicts = shared.census.iter().flat_map(|census| census.conflicts(decision.row));
    for conflict in conflicts {
        let other = conflict.other.map(|other| {
            let name = shared.plan.entities[other.entity].name.clone();
            (name, other.key.unwrap_or_default().to_owned())
        });
        let kind = conflict.kind.as_str();
        let decision = conflict.settlement.as_str().to_owned();
        // The log has one entry for each row and kind. What became of the account matters more than what became of
        // another column, which the detail still names.
        let mut of_row = records.notes.iter_mut().rev().take_while(|note| note.row == row);
        match of_row.find(|note| note.kind == kind) {
            Some(note) => (note.decision, note.other) = (decision, other),
            None => records.notes.push(Note { row, kind: kind.to_owned(), decision, other, detail: None }),
        }
    }
}

/// The chunk is in V2: what it brought can be referred to from now on.
fn remember(shared: &Shared, batch: &Batch, decisions: &[Option<Decision>]) {
    let written =
        batch.lines.iter().filter(|line| matches!(line.outcome, Outcome::Migrated | Outcome::Merged));
    shared.references.add(batch.entity, written.map(|line| line.key.as_str()));
    let mut accounts = 0;
    // Rows that were in V2 before have created nothing now.
    let decisions = if batch.update.is_some() { &[] } else { decisions };
    for (line, decision) in batch.lines.iter().zip(decisions) {
        if let (Outcome::Migrated, Some(Decided::Account(account))) =
            (line.outcome, decision.map(|decision| decision.outcome))
        {
            shared.exists.insert(account.number);
            accounts += 1;
        }
    }
    shared.summary.written(batch, accounts);
    // Rows that are only completed were counted when they were written.
    let completed = batch.update.iter().flat_map(|update| &update.completes).filter(|completes| **completes);
    shared.observer.advance(&batch.name, (batch.lines.len() - completed.count()) as u64);
    if batch.update.is_none() {
        shared.later.written(batch, shared.dry_run);
    }
    if let Some(pool) = &shared.passwords {
        shared.observer.hashed(pool.hashed());
    }
}
