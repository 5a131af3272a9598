//! The loop that carries entities from V1 to V2.
//!
//! One task reads V1 and the ledger side by side and cuts what is new into chunks; each chunk's passwords go to the
//! hash pool at once, long before the chunk is written. Writers take chunks in order, wait until everything the chunk
//! may depend on is in V2, convert, and commit. Nothing is remembered between runs but what stands in V2's ledger.

mod duplicates;
mod gate;
mod prepare;
mod read;
mod summary;
mod survey;
mod work;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use prepare::{password_facts, select};
pub use summary::{EntitySummary, Estimate, RejectedRow, Summary};

use sqlx::PgConnection;

use crate::census::Census;
use crate::connect::{self, Side};
use crate::error::{Error, Kind, Result};
use crate::migrator::{EntityIds, Lookups, Phones, References};
use crate::password::HashPool;
use crate::plan::Plan;
use crate::settings::{PasswordMode, Settings};
use crate::source::Snapshot;
use crate::target::postgres::lock::{Held, RunLock, RunRecord, State, require_control_schema};
use crate::target::postgres::trial::Trial;
use crate::target::postgres::{Writer, bulk};

/// What one invocation of `migrate` is asked to do.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Entities to migrate; all with `None`.
    pub entities: Option<Vec<String>>,
    /// SQL conditions on the columns of an entity's query, checked already.
    pub filters: BTreeMap<String, String>,
    /// Decide everything, write nothing.
    pub dry_run: bool,
    /// Try rows again that were rejected before.
    pub retry_rejected: bool,
    /// The command's arguments for the run's record, without secrets.
    pub arguments: Vec<String>,
}

/// Is told how far a run is. Called from several threads.
pub trait Observer: Send + Sync {
    /// A step that has no rows to count: the census, bringing indexes back.
    fn step(&self, what: &str);
    /// An entity begins; so many rows of V1 will be looked at.
    fn entity(&self, name: &str, rows: u64);
    /// So many more rows of the entity are dealt with.
    fn advance(&self, name: &str, rows: u64);
    /// Passwords hashed so far in this run.
    fn hashed(&self, done: u64);
}

/// Asks a run to stop after the chunks that are under way. Cloned into signal handlers.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns once somebody has asked.
    async fn wait(&self) {
        while !self.asked() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What all parts of a run share.
struct Shared {
    settings: Arc<Settings>,
    plan: Arc<Plan>,
    ids: Vec<EntityIds>,
    references: References,
    lookups: Lookups,
    /// `None` when no entity has accounts.
    census: Option<Census>,
    /// By account number: see [`survey::Surveyed`].
    joining_passwords: HashMap<u32, String>,
    phones: Phones,
    duplicates: duplicates::Duplicates,
    /// Which accounts are in V2, by the census's account number.
    exists: work::AccountBits,
    passwords: Option<HashPool>,
    now: String,
    gate: gate::Gate,
    summary: summary::Collector,
    observer: Arc<dyn Observer>,
    stop: Stop,
    dry_run: bool,
}

/// Where the chunks of a run go.
enum Sink {
    Real(Writer),
    Trial(Box<Trial>),
}

/// One invocation: what it is asked to do, and with what.
struct Job {
    settings: Arc<Settings>,
    plan: Arc<Plan>,
    options: Options,
    observer: Arc<dyn Observer>,
    stop: Stop,
    /// V2, for messages.
    place: String,
    /// The entities to migrate, by index of the plan.
    selected: Vec<usize>,
}

/// Migrates.
///
/// # Errors
/// The first error that stops the run. What was committed before it stays, and the same call goes on from there.
pub async fn migrate(
    settings: Arc<Settings>,
    plan: Arc<Plan>,
    options: Options,
    observer: Arc<dyn Observer>,
    stop: Stop,
) -> Result<Summary> {
    let began = Instant::now();
    let place = connect::place(Side::V2, &settings)?.to_string();
    let source_place = connect::place(Side::V1, &settings)?.to_string();
    let selected = select(&plan, options.entities.as_deref(), "--entities")?;
    let mut snapshot = Snapshot::take(connect::postgres(Side::V1, &settings).await?, source_place).await?;
    let job = Job { settings, plan, options, observer, stop, place, selected };
    let mut summary = if job.options.dry_run {
        dry_run(&job, &mut snapshot).await?
    } else {
        run(&job, &mut snapshot).await?
    };
    summary.duration = began.elapsed();
    if job.options.dry_run {
        summary.estimate = Some(prepare::estimate(&job.settings, &summary)?);
    }
    Ok(summary)
}

async fn dry_run(job: &Job, snapshot: &mut Snapshot) -> Result<Summary> {
    let prepared = Prepared::new(job, snapshot).await?;
    let (mut summary, trial) = carry(job, snapshot, prepared, Target::Trial).await?;
    if let Some(mut trial) = trial {
        summary.samples = prepare::samples(&mut trial, &job.plan, &job.selected, &job.place).await?;
        trial.end().await?;
    }
    Ok(summary)
}

async fn run(job: &Job, snapshot: &mut Snapshot) -> Result<Summary> {
    let (source_system, source_database) = snapshot.identity().await?;
    let record = RunRecord {
        command: "migrate",
        arguments: job.options.arguments.clone(),
        source_system,
        source_database: Some(source_database),
    };
    let mut held = Held::take(&job.settings, &job.place).await?;
    held.require_same_source(&record).await?;
    let prepared = Prepared::new(job, snapshot).await?;
    let mut lock = held.begin(&record).await?;
    let id = lock.id.to_string();
    match carry(job, snapshot, prepared, Target::Real(&mut lock)).await {
        Ok((mut summary, _)) => {
            let state = if summary.interrupted { State::Interrupted } else { State::Done };
            lock.release(state, None, &summary.counts()).await?;
            summary.run = Some(id);
            Ok(summary)
        }
        Err(error) => {
            let state = if error.kind() == Kind::Interrupted { State::Interrupted } else { State::Failed };
            if let Err(also) = lock.release(state, Some(error.message()), &serde_json::json!({})).await {
                tracing::warn!("the run's end could not be recorded: {}", also.message());
            }
            Err(error)
        }
    }
}

/// What is known before the first row is written. Making it writes nothing, so whatever is refused here leaves V2 as
/// it was.
struct Prepared {
    control: PgConnection,
    ids: Vec<EntityIds>,
    prefixes: Vec<prepare::NewPrefix>,
    ledger_lines: Vec<u64>,
    lookups: Lookups,
    references: References,
    surveyed: survey::Surveyed,
    duplicates: duplicates::Duplicates,
}

impl Prepared {
    async fn new(job: &Job, snapshot: &mut Snapshot) -> Result<Self> {
        let Job { settings, plan, place, selected, .. } = job;
        let mut control = connect::another(Side::V2, settings).await?;
        require_control_schema(&mut control, place).await?;
        if job.makes_passwords() {
            prepare::require_same_passwords(settings, &mut control, place).await?;
        }
        let (ids, prefixes) = prepare::entity_ids(&mut control, snapshot, plan, place).await?;
        let ledger_lines = prepare::ledger_lines(&mut control, plan, place).await?;
        prepare::require_dependencies(snapshot, plan, selected, &ledger_lines).await?;
        let lookups = prepare::lookups(&mut control, plan, place).await?;
        let references = prepare::references(&mut control, plan, place).await?;
        job.observer.step("taking the census: who is who");
        let surveyed = survey::take(snapshot, &mut control, plan, &ids, settings, place).await?;
        let duplicates = duplicates::Duplicates::find(snapshot, plan, selected).await?;
        Ok(Self { control, ids, prefixes, ledger_lines, lookups, references, surveyed, duplicates })
    }
}

impl Job {
    fn makes_passwords(&self) -> bool {
        self.settings.passwords == PasswordMode::Generate
            && self.plan.accounts.is_some()
            && !self.options.dry_run
    }
}

/// Where a run writes.
enum Target<'l> {
    /// Into V2.
    Real(&'l mut RunLock),
    /// Into temporary tables.
    Trial,
}

/// Everything between recording the run and its end.
async fn carry(
    job: &Job,
    snapshot: &mut Snapshot,
    prepared: Prepared,
    target: Target<'_>,
) -> Result<(Summary, Option<Trial>)> {
    let Job { settings, plan, place, .. } = job;
    let Prepared { mut control, ids, prefixes, ledger_lines, lookups, references, surveyed, duplicates } =
        prepared;
    let survey::Surveyed { census, row_counts, joining_passwords, phones } = surveyed;
    let mut passwords = None;
    let real = matches!(target, Target::Real(_));
    let sinks = match target {
        Target::Real(lock) => {
            prepare::keep_prefixes(&mut control, &prefixes, lock.number, place).await?;
            if job.makes_passwords() {
                passwords = Some(prepare::hash_pool(settings, &mut control, place).await?);
            }
            let missing = bulk::missing(lock.connection(), place).await?;
            if settings.bulk && missing.is_empty() && bulk::is_empty(lock.connection(), plan, place).await? {
                let number = lock.number;
                bulk::begin(lock.connection(), plan, place, number).await?;
            }
            (0..settings.writers.max(1))
                .map(|_| {
                    Sink::Real(Writer::new(settings.clone(), plan.clone(), place.to_owned(), lock.number))
                })
                .collect()
        }
        Target::Trial => {
            let with_rows = ledger_lines.iter().any(|&lines| lines > 0) || settings.into_existing;
            vec![Sink::Trial(Box::new(Trial::begin(settings, plan, place, with_rows).await?))]
        }
    };
    let shared = Arc::new(Shared {
        settings: settings.clone(),
        plan: plan.clone(),
        ids,
        references,
        lookups,
        exists: work::AccountBits::new(census.as_ref()),
        census,
        joining_passwords,
        phones,
        duplicates,
        passwords,
        now: prepare::now(),
        gate: gate::Gate::new(2 * job.selected.len()),
        summary: summary::Collector::new(plan),
        observer: job.observer.clone(),
        stop: job.stop.clone(),
        dry_run: job.options.dry_run,
    });

    let (sender, workers) = work::start(shared.clone(), sinks);
    let read = read::all(&shared, job, snapshot, &mut control, &ledger_lines, &row_counts, sender).await;
    if read.is_err() {
        shared.gate.fail();
    }
    let worked = workers.finish().await;
    // A writer's error explains why the reader could not go on, not the other way round.
    let trial = match (worked, read) {
        (Err(error), _) | (Ok(_), Err(error)) => return Err(error),
        (Ok(trial), Ok(())) => trial,
    };

    if real && !job.stop.asked() {
        let restored =
            bulk::restore(settings, place, |name| job.observer.step(&format!("bringing back {name}")))
                .await?;
        if restored > 0 {
            tracing::info!(restored, "foreign keys and indexes are back");
        }
    }
    let mut summary = shared.summary.finish();
    summary.interrupted = job.stop.asked();
    Ok((summary, trial))
}

/// The error for a bug in the engine's own bookkeeping: better a failed run than a wrong ledger.
fn broken(what: &str) -> Error {
    Error::failed(format!("internal error: {what}"))
        .help("please report this; nothing that was committed is lost")
}
