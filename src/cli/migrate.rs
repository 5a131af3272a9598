//! `v1v2 migrate`: the main job.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Context, MigrateArgs, Outcome, rollback, safe};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::preflight::Needs;
use crate::report::{self, Align, EntityProgress, Event, Output, Progress, Table};
use crate::run::{self, EntitySummary, Observer, Options, Summary};
use crate::source::filter;
use crate::target::{self, Logs, Target};
use crate::validate::Only;

pub(super) async fn run(context: &Context, args: &MigrateArgs) -> Result<Outcome> {
    let target = target::open(&context.settings)?;
    let plan = Arc::new(super::check::compile(context, &*target).await?);
    let options = options(&plan, args)?;
    if !args.dry_run {
        let needs = super::check::needs_of_a_run(context, &plan).await?;
        // With --safe, the backup that may be asked for is about to be made.
        let needs = Needs { backup: needs.backup.filter(|_| !args.safe), ..needs };
        super::check::look_ahead(context, &needs).await?;
    }
    if !args.dry_run && !args.force {
        report::confirm(&question(context, &plan, &options)?)?;
    }
    if !args.safe {
        return work(context, &*target, plan, options, args).await;
    }
    let before = rollback::latest(&*target).await?;
    let undo = async || rollback::since(context, &*target, &plan, before).await;
    safe::guard(context, async || work(context, &*target, plan.clone(), options, args).await, undo).await
}

async fn work(
    context: &Context,
    target: &dyn Target,
    plan: Arc<Plan>,
    options: Options,
    args: &MigrateArgs,
) -> Result<Outcome> {
    let entities = options.entities.clone();
    let filtered: Vec<String> = options.filters.keys().cloned().collect();
    let finishing = context.interrupt.finish_first();
    let observer = Arc::new(Bars::new(context.progress.clone()));
    let stop = run::Stop::default();
    let asked = tokio::spawn({
        let (interrupt, stop) = (context.interrupt.clone(), stop.clone());
        async move {
            interrupt.asked().await;
            stop.ask();
        }
    });
    let migrated =
        run::migrate(target, context.settings.clone(), plan.clone(), options, observer.clone(), stop).await;
    asked.abort();
    drop(finishing);
    observer.finish();
    let summary = migrated?;
    print(context, &summary, args.dry_run, target.logs());
    if summary.interrupted {
        return Err(Error::interrupted(
            "interrupted: the chunks that were under way are in V2, the rest is not",
        )
        .help(format!("{} goes on where this one stopped", context.command_line)));
    }
    if !args.dry_run && !args.skip_validation {
        let only = Only { entities: entities.as_deref(), partial: &filtered };
        super::validate::validate(context, target, &plan, &only, true).await?;
    }
    Ok(if summary.rejected() > 0 || summary.refused() > 0 { Outcome::Rejects } else { Outcome::Done })
}

fn options(plan: &Plan, args: &MigrateArgs) -> Result<Options> {
    let mut filters = BTreeMap::new();
    for wanted in &args.filter {
        // The same check, and the same "did you mean", as for --entities.
        run::select(plan, Some(std::slice::from_ref(&wanted.entity)), "--filter")?;
        let condition = filter::check(&wanted.entity, &wanted.condition)?;
        if filters.insert(wanted.entity.clone(), condition).is_some() {
            return Err(Error::usage(format!("--filter names {} twice", wanted.entity))
                .help("join both conditions with `and`"));
        }
    }
    let entities = (!args.entities.is_empty()).then(|| args.entities.clone());
    run::select(plan, entities.as_deref(), "--entities")?;
    Ok(Options {
        entities,
        filters,
        dry_run: args.dry_run,
        retry_rejected: args.retry_rejected,
        prune: args.prune,
        accept_changes: args.accept_changes,
        arguments: std::env::args().skip(2).collect(),
    })
}

fn question(context: &Context, plan: &Plan, options: &Options) -> Result<String> {
    use crate::connect::{Side, place};
    let names: Vec<&str> = match &options.entities {
        Some(wanted) => wanted.iter().map(String::as_str).collect(),
        None => plan.entities.iter().map(|entity| &*entity.name).collect(),
    };
    Ok(format!(
        "Migrate {} from {} into {}?",
        names.join(", "),
        place(Side::V1, &context.settings)?,
        place(Side::V2, &context.settings)?
    ))
}

/// Shows a run's progress on the terminal.
pub(super) struct Bars {
    progress: Progress,
    entities: Mutex<Vec<(String, EntityProgress)>>,
    hashing: Mutex<Option<(EntityProgress, u64)>>,
}

impl Bars {
    pub(super) fn new(progress: Progress) -> Self {
        Self { progress, entities: Mutex::default(), hashing: Mutex::default() }
    }

    fn with(&self, name: &str, act: impl FnOnce(&EntityProgress)) {
        let entities = self.entities.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, progress)) = entities.iter().find(|(of, _)| of == name) {
            act(progress);
        }
    }

    pub(super) fn finish(&self) {
        for (_, progress) in self.entities.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            progress.finish();
        }
        if let Some((progress, _)) = &*self.hashing.lock().unwrap_or_else(PoisonError::into_inner) {
            progress.finish();
        }
    }
}

impl Observer for Bars {
    fn step(&self, what: &str) {
        tracing::info!("{what}");
    }

    fn entity(&self, name: &str, rows: u64) {
        let progress = self.progress.entity(name, Some(rows));
        self.entities.lock().unwrap_or_else(PoisonError::into_inner).push((name.to_owned(), progress));
    }

    fn advance(&self, name: &str, rows: u64) {
        self.with(name, |progress| progress.advance(rows));
    }

    fn hashed(&self, done: u64) {
        let mut hashing = self.hashing.lock().unwrap_or_else(PoisonError::into_inner);
        let (progress, shown) = hashing.get_or_insert_with(|| (self.progress.hashing(None), 0));
        progress.advance(done.saturating_sub(*shown));
        *shown = done;
    }
}

fn print(context: &Context, summary: &Summary, dry_run: bool, logs: Logs) {
    for of in &summary.entities {
        context.events.emit(&Event::EntityFinished {
            entity: of.entity.clone(),
            migrated: of.migrated,
            merged: of.merged,
            skipped: of.skipped,
            rejected: of.rejected,
        });
    }
    if let Ok(value) = serde_json::to_value(summary) {
        context.events.emit(&Event::Result { command: "migrate".to_owned(), value });
    }
    let output = &context.output;
    let columns = ["rows in V1", "done before", "migrated", "merged", "skipped", "rejected", "new accounts"];
    let columns = columns.map(|name| (name, Align::Right));
    let mut table = Table::new(std::iter::once(("entity", Align::Left)).chain(columns));
    for of in &summary.entities {
        let counts = [of.rows, of.already, of.migrated, of.merged, of.skipped, of.rejected, of.accounts];
        table.row(std::iter::once(of.entity.clone()).chain(counts.map(|count| count.to_string())));
    }
    output.table(&table);
    for of in &summary.entities {
        if of.rejected_before > 0 {
            output.line(format!(
                "{}: {} rows were rejected before and still are; `--retry-rejected` tries them again",
                of.entity, of.rejected_before
            ));
        }
        changes(output, of, dry_run);
    }
    if !summary.conflicts.is_empty() {
        output.line("");
        output.line(format!("conflicts, and what was decided ({} has each one):", logs.conflicts));
        let mut table = Table::new([("  kind: decision", Align::Left), ("rows", Align::Right)]);
        for (kind, count) in &summary.conflicts {
            table.row([format!("  {kind}"), count.to_string()]);
        }
        output.table(&table);
    }
    if !summary.rejects.is_empty() {
        output.line("");
        output.line(format!("rejected ({} has each one, with its source row):", logs.rejects));
        let mut table = Table::new([("  entity and code", Align::Left), ("rows", Align::Right)]);
        for (code, count) in &summary.rejects {
            table.row([format!("  {code}"), count.to_string()]);
        }
        output.table(&table);
        for reject in &summary.first_rejects {
            let line = format!("  {} {}: {}", reject.entity, reject.key, reject.reason);
            output.line(report::printable(&line));
        }
    }
    output.line("");
    let seconds = summary.duration.as_secs_f64();
    if dry_run {
        print_samples(context, summary);
        output.line(format!("dry run, {seconds:.1} s: nothing was written to V2"));
        if let Some(estimate) = summary.estimate {
            output.line(format!(
                "the run itself will take about {}, of which {} are for {} passwords",
                time(estimate.total),
                time(estimate.hashing),
                summary.passwords
            ));
        }
    } else {
        let run = summary.run.as_deref().unwrap_or_default();
        output.line(format!("run {run}: done in {seconds:.1} s"));
    }
}

/// What has happened to rows that were in V2 before this run.
fn changes(output: &Output, of: &EntitySummary, dry_run: bool) {
    let name = &of.entity;
    if of.changed > 0 {
        let done = match (dry_run, of.changes_refused) {
            (true, 0) => "the run will bring V2 up to date".to_owned(),
            (true, refused) => format!("the run will bring V2 up to date, but for {refused} (see conflicts)"),
            (false, 0) => "V2 is up to date".to_owned(),
            (false, refused) => format!("V2 is up to date, but for {refused} (see conflicts)"),
        };
        output
            .line(format!("{name}: {} rows have changed in V1 since they were migrated; {done}", of.changed));
    }
    if of.unfilled > 0 {
        output.line(format!(
            "{name}: {} rows lack what was to be filled in later; the next run tries again (see conflicts)",
            of.unfilled
        ));
    }
    if of.waiting > 0 {
        output.line(format!(
            "{name}: {} rows wait for rows that were no part of this run; one of all entities fills in what they lack",
            of.waiting
        ));
    }
    if of.gone > 0 {
        let gone = format!("{name}: {} migrated rows are no longer in V1", of.gone);
        let kept = of.prunes_refused;
        let (were, stay) = if dry_run { ("would be", "would stay") } else { ("were", "stay") };
        output.line(match of.pruned {
            0 if kept == 0 => format!("{gone}; `--prune` removes them from V2"),
            pruned if kept == 0 => format!("{gone}; {pruned} {were} removed from V2"),
            pruned => format!("{gone}; {pruned} {were} removed from V2, {kept} {stay} (see conflicts)"),
        });
    }
}

fn print_samples(context: &Context, summary: &Summary) {
    for (table, records) in &summary.samples {
        context.output.line(format!("{table}: the first {} records", records.len()));
        for record in records {
            context.output.line(format!("  {}", report::printable_json(record)));
        }
    }
    context.output.line("");
}

fn time(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..=119 => format!("{:.1} s", duration.as_secs_f64()),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}
