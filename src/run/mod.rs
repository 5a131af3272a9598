//! The loop that carries entities from V1 to V2.
//!
//! One task reads V1 and the ledger side by side and cuts what is new into chunks; each chunk's passwords go to the
//! hash pool at once, long before the chunk is written. Writers take chunks in order, wait until everything the chunk
//! may depend on is in V2, convert, and commit. Nothing is remembered between runs but what stands in V2's ledger.

mod contact;
mod duplicates;
mod gate;
mod gone;
mod identify;
mod lag;
mod later;
mod levels;
mod options;
mod pace;
mod prepare;
mod read;
mod since;
mod summary;
mod survey;
mod work;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

pub use options::{Observer, Options, Stop};
pub use prepare::{password_facts, select};
pub use summary::{EntitySummary, Estimate, RejectedRow, Summary};

use crate::census::Census;
use crate::connect::{self, Side};
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::migrator::{EntityIds, Lookups, Phones, References};
use crate::password::HashPool;
use crate::plan::{Entity, Plan};
use crate::settings::{PasswordMode, Settings};
use crate::source::Snapshot;
use crate::target::definition::Applied;
use crate::target::{
    Comparer, Control, NewEntity, RunLock, RunRecord, State, Target, Trial, Writer, release,
};

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
    /// By entity: its definition is not the one by which its rows came into V2.
    edited_definitions: Vec<bool>,
    /// What is filled in once all rows are in V2.
    later: later::Later,
    /// By entity, whether a row of it that is not in V2 by then will not come any more.
    settled: Vec<bool>,
    /// With `prune`, by entity: the keys of rows that V1 no longer has.
    gone: Mutex<Vec<Vec<String>>>,
    /// Which accounts are in V2, by the census's account number.
    exists: work::AccountBits,
    passwords: Option<HashPool>,
    now: String,
    gate: gate::Gate,
    summary: summary::Collector,
    observer: Arc<dyn Observer>,
    stop: Stop,
    dry_run: bool,
    pace: pace::Pace,
}

/// Where the chunks of a run go.
enum Sink {
    Real(Box<dyn Writer>),
    Trial(Box<dyn Trial>),
    Compare(Box<dyn Comparer>),
}

/// One invocation: what it is asked to do, and with what.
struct Job<'t> {
    settings: Arc<Settings>,
    plan: Arc<Plan>,
    options: Options,
    observer: Arc<dyn Observer>,
    stop: Stop,
    target: &'t dyn Target,
    /// The entities to migrate, by index of the plan.
    selected: Vec<usize>,
    /// Convert what is in V2 already, to compare it: see [`compare`].
    compares: bool,
}

/// Migrates.
///
/// # Errors
/// The first error that stops the run. What was committed before it stays, and the same call goes on from there.
pub async fn migrate(
    target: &dyn Target,
    settings: Arc<Settings>,
    plan: Arc<Plan>,
    options: Options,
    observer: Arc<dyn Observer>,
    stop: Stop,
) -> Result<Summary> {
    let began = Instant::now();
    let selected = select(&plan, options.entities.as_deref(), "--entities")?;
    let v1 = connect::postgres(Side::V1, &settings).await?;
    let mut snapshot = Snapshot::of_locked_tables(v1, &settings, &plan).await?;
    failpoint::reach("v1.snapshot")?;
    let job = Job { settings, plan, options, observer, stop, target, selected, compares: false };
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

/// Reads all of V1, converts what the ledger says is in V2, and tells where V2 holds something else. Writes nothing.
///
/// # Errors
/// As [`migrate`].
pub async fn compare(
    target: &dyn Target,
    settings: Arc<Settings>,
    plan: Arc<Plan>,
    observer: Arc<dyn Observer>,
    stop: Stop,
) -> Result<Summary> {
    let began = Instant::now();
    let selected = select(&plan, None, "--entities")?;
    let v1 = connect::postgres(Side::V1, &settings).await?;
    let mut snapshot = Snapshot::of_locked_tables(v1, &settings, &plan).await?;
    let options = Options { dry_run: true, accept_changes: true, ..Options::default() };
    let job = Job { settings, plan, options, observer, stop, target, selected, compares: true };
    let prepared = Prepared::new(&job, &mut snapshot).await?;
    let (mut summary, _) = carry(&job, &mut snapshot, prepared, Goal::Compare).await?;
    summary.duration = began.elapsed();
    Ok(summary)
}

async fn dry_run(job: &Job<'_>, snapshot: &mut Snapshot) -> Result<Summary> {
    let prepared = Prepared::new(job, snapshot).await?;
    let (mut summary, trial) = carry(job, snapshot, prepared, Goal::Trial).await?;
    if let Some(mut trial) = trial {
        summary.samples = trial.samples(&job.selected).await?;
        trial.end().await?;
    }
    Ok(summary)
}

async fn run(job: &Job<'_>, snapshot: &mut Snapshot) -> Result<Summary> {
    let (source_system, source_database) = snapshot.identity().await?;
    let record = RunRecord {
        command: "migrate",
        arguments: job.options.arguments.clone(),
        source_system,
        source_database: Some(source_database),
    };
    let mut held = job.target.hold().await?;
    let prepared = match held.require_same_source(&record).await {
        Ok(()) => Prepared::new(job, snapshot).await,
        Err(error) => Err(error),
    };
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            held.give_up().await;
            return Err(error);
        }
    };
    failpoint::reach("run.prepared")?;
    let mut lock = held.begin(&record).await?;
    let id = lock.run().id.to_string();
    match carry(job, snapshot, prepared, Goal::Real(&mut *lock)).await {
        Ok((mut summary, _)) => {
            let state = if summary.interrupted { State::Interrupted } else { State::Done };
            release(lock, state, None, &summary.counts()).await;
            summary.run = Some(id);
            Ok(summary)
        }
        Err(error) => {
            let state = if error.kind() == Kind::Interrupted { State::Interrupted } else { State::Failed };
            release(lock, state, Some(error.message()), &serde_json::json!({})).await;
            Err(error)
        }
    }
}

/// What is known before the first row is written. Making it writes nothing, so whatever is refused here leaves V2 as
/// it was.
struct Prepared {
    control: Box<dyn Control>,
    ids: Vec<EntityIds>,
    new_entities: Vec<NewEntity>,
    edited_definitions: Vec<bool>,
    ledger_lines: Vec<u64>,
    lookups: Lookups,
    references: References,
    surveyed: survey::Surveyed,
    duplicates: duplicates::Duplicates,
    pace: pace::Pace,
    /// Of the selected entities, in their order.
    levels: Vec<levels::Levels>,
}

impl Prepared {
    async fn new(job: &Job<'_>, snapshot: &mut Snapshot) -> Result<Self> {
        let Job { settings, plan, target, selected, .. } = job;
        let mut session = target.control().await?;
        let control = &mut *session;
        if job.makes_passwords() {
            prepare::require_same_passwords(settings, control).await?;
        }
        let prepare::Entities { ids, new: new_entities, edited: edited_definitions } =
            prepare::entities(control, snapshot, plan).await?;
        let ledger_lines = prepare::ledger_lines(control, plan).await?;
        prepare::require_dependencies(snapshot, plan, selected, &ledger_lines).await?;
        if !job.options.accept_changes {
            prepare::require_same_structure(control, &job.selected(), target.place()).await?;
        }
        let pace = pace::Pace::open(settings, *target, job.options.dry_run).await?;
        job.observer.step("taking the census: who is who");
        let in_v2 = survey::InV2 { ids: &ids, ledger_lines: &ledger_lines, edited: &edited_definitions };
        let ways = survey::Ways::open(job, snapshot, control, in_v2).await?;
        let lookups = prepare::lookups(control, plan, target.place()).await?;
        let references = prepare::references(control, plan).await?;
        let surveyed = survey::take(snapshot, control, ways).await?;
        let duplicates = duplicates::Duplicates::find(snapshot, plan, selected).await?;
        let mut levels = Vec::new();
        for &index in selected {
            let entity = &plan.entities[index];
            let filter = job.filter(entity);
            levels.push(levels::Levels::find(snapshot, entity, index, filter).await?);
        }
        let control = session;
        Ok(Self {
            control,
            ids,
            new_entities,
            edited_definitions,
            ledger_lines,
            lookups,
            references,
            surveyed,
            duplicates,
            pace,
            levels,
        })
    }
}

impl Job<'_> {
    fn selected(&self) -> Vec<&Entity> {
        self.selected.iter().map(|&index| &self.plan.entities[index]).collect()
    }

    fn filter(&self, entity: &Entity) -> Option<&str> {
        self.options.filters.get(&*entity.name).map(String::as_str)
    }

    fn makes_passwords(&self) -> bool {
        self.settings.passwords == PasswordMode::Generate
            && self.plan.accounts.is_some()
            && !self.options.dry_run
    }
}

/// Where a run writes.
enum Goal<'l> {
    /// Into V2.
    Real(&'l mut dyn RunLock),
    /// Nowhere that stays.
    Trial,
    /// Nowhere: V2 is read.
    Compare,
}

/// Everything between recording the run and its end.
async fn carry(
    job: &Job<'_>,
    snapshot: &mut Snapshot,
    prepared: Prepared,
    goal: Goal<'_>,
) -> Result<(Summary, Option<Box<dyn Trial>>)> {
    let Job { settings, plan, target, .. } = job;
    let Prepared {
        mut control,
        ids,
        new_entities,
        edited_definitions,
        ledger_lines,
        lookups,
        references,
        surveyed,
        duplicates,
        pace,
        levels,
    } = prepared;
    let survey::Surveyed { census, row_counts, seen, joining_passwords, phones } = surveyed;
    let mut passwords = None;
    let mut goal = goal;
    let sinks = match &mut goal {
        Goal::Real(lock) => {
            let run = lock.run();
            failpoint::reach("run.begun")?;
            control.keep_entities(&new_entities, run.number).await?;
            for of in plan.entities.iter().filter(|of| new_entities.iter().any(|new| new.name == *of.name)) {
                keep_definition(&mut *control, run.number, of).await?;
            }
            prepare::forget_old_claims(&mut *control, plan).await?;
            failpoint::reach("run.entities")?;
            control.keep_structure(&job.selected(), job.options.accept_changes).await?;
            if job.makes_passwords() {
                passwords = Some(prepare::hash_pool(settings, &mut *control).await?);
            }
            if settings.bulk {
                lock.begin_bulk(plan).await?;
            }
            failpoint::reach("run.ready")?;
            (0..settings.writers.max(1)).map(|number| Sink::Real(target.writer(plan, run, number))).collect()
        }
        Goal::Trial => {
            let with_rows = ledger_lines.iter().any(|&lines| lines > 0) || settings.into_existing;
            vec![Sink::Trial(target.trial(plan, with_rows).await?)]
        }
        Goal::Compare => vec![Sink::Compare(target.comparer(plan).await?)],
    };
    let shared = Arc::new(Shared {
        settings: settings.clone(),
        plan: plan.clone(),
        ids,
        references,
        lookups,
        edited_definitions,
        later: later::Later::new(plan.entities.len()),
        settled: later::settled(job),
        gone: Mutex::new(vec![Vec::new(); plan.entities.len()]),
        exists: work::AccountBits::new(census.as_ref()),
        census,
        joining_passwords,
        phones,
        duplicates,
        passwords,
        now: prepare::now(),
        gate: gate::Gate::new(
            2 * levels.iter().map(levels::Levels::count).sum::<usize>() + later::phases(job),
        ),
        summary: summary::Collector::new(plan),
        observer: job.observer.clone(),
        stop: job.stop.clone(),
        dry_run: job.options.dry_run,
        pace,
    });

    let (sender, workers) = work::start(shared.clone(), sinks);
    let known = read::Known { ledger_lines: &ledger_lines, row_counts: &row_counts, levels: &levels, seen };
    let read = read::all(&shared, job, snapshot, &mut *control, known, sender).await;
    if read.is_err() {
        shared.gate.fail();
    }
    let worked = workers.finish().await;
    // A writer's error explains why the reader could not go on, not the other way round.
    let mut trial = match (worked, read) {
        (Err(error), _) | (Ok(_), Err(error)) => return Err(error),
        (Ok(trial), Ok(())) => trial,
    };

    failpoint::reach("run.carried")?;
    if let Some(trial) = &mut trial
        && !job.stop.asked()
    {
        gone::prune(&shared, gone::Remover::Trial(&mut **trial)).await?;
    }
    if let Goal::Real(lock) = &mut goal
        && !job.stop.asked()
    {
        gone::prune(&shared, gone::Remover::Real(&mut **lock)).await?;
        for &entity in &job.selected {
            let of = &plan.entities[entity];
            if shared.edited_definitions[entity] && !job.options.filters.contains_key(&*of.name) {
                keep_definition(&mut *control, lock.run().number, of).await?;
            }
        }
        let restored = target.restore(&|name| job.observer.step(&format!("bringing back {name}"))).await?;
        if restored > 0 {
            tracing::info!(restored, "foreign keys and indexes are back");
        }
    }
    failpoint::reach("run.ending")?;
    let mut summary = shared.summary.finish();
    summary.interrupted = job.stop.asked();
    Ok((summary, trial))
}

/// Remembers by which definition the entity's rows are in V2.
async fn keep_definition(control: &mut dyn Control, run: i32, of: &Entity) -> Result<()> {
    let now = Applied { hash: of.definition_hash.clone(), parts: serde_json::to_string(&of.parts()).ok() };
    control.keep_definition(run, &of.name, &now).await
}

/// The error for a bug in the engine's own bookkeeping: better a failed run than a wrong ledger.
fn broken(what: &str) -> Error {
    Error::failed(format!("internal error: {what}"))
        .help("please report this; nothing that was committed is lost")
}
