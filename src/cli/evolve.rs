//! `v1v2 evolve`: V2's own versioned changes.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Context, Outcome, safe};
use crate::connect::{self, Side};
use crate::error::{Error, INSUFFICIENT_PRIVILEGE, Kind, Result};
use crate::evolve::{Direction, Evolution, Record, Session, State, Watch, order, template};
use crate::preflight::Needs;
use crate::report::{self, Align, Event, Table, printable};
use crate::target;
use crate::validate::Only;

/// `v1v2 evolve`
#[derive(Debug, Clone, Subcommand)]
pub enum EvolveCommand {
    /// Make the folder of a new evolution, with scripts to fill in
    New(EvolveNewArgs),
    /// Apply what is pending
    Up(EvolveArgs),
    /// Take back the one that was applied last, or all above a number
    Down(EvolveArgs),
    /// List all evolutions with their state
    Status,
}

/// `v1v2 evolve new`
#[derive(Debug, Clone, Args)]
pub struct EvolveNewArgs {
    /// What it does, in a word or two: add_status
    pub name: String,
}

/// `v1v2 evolve up` and `v1v2 evolve down`
#[derive(Debug, Clone, Args)]
pub struct EvolveArgs {
    /// Up: up to this number. Down: down to it, so that it is the last one that stays; 0 takes all back
    #[arg(long, value_name = "N")]
    pub to: Option<u32>,
    /// Show what would be done; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Up: take a backup first; if an evolution or what is validated afterwards fails, take back what was applied, and if that
    /// fails, restore the backup
    #[arg(long, conflicts_with = "dry_run")]
    pub safe: bool,
    /// Refuse without a verified backup that is not older than this
    #[arg(long, value_name = "AGE", num_args = 0..=1, default_missing_value = "24h")]
    pub require_backup: Option<String>,
    /// Do not ask; with down: also what is irreversible or half applied
    #[arg(long)]
    pub force: bool,
}

impl EvolveCommand {
    /// Whether it changes the database.
    pub(super) fn changes(&self) -> bool {
        match self {
            Self::Up(args) | Self::Down(args) => !args.dry_run,
            Self::New(_) | Self::Status => false,
        }
    }
}

pub(super) async fn run(context: &Context, command: &EvolveCommand) -> Result<Outcome> {
    match command {
        EvolveCommand::New(args) => new(context, args),
        EvolveCommand::Up(args) if args.safe => go_safely(context, args).await,
        EvolveCommand::Up(args) => go(context, Direction::Up, args).await,
        EvolveCommand::Down(args) if args.safe => Err(Error::usage("--safe is for `evolve up`")
            .help("take a backup by `v1v2 backup create` before `evolve down`")),
        EvolveCommand::Down(args) => go(context, Direction::Down, args).await,
        EvolveCommand::Status => status(context).await,
    }
}

fn new(context: &Context, args: &EvolveNewArgs) -> Result<Outcome> {
    let settings = &context.settings;
    let path = template::create(&settings.evolutions, &args.name, connect::scheme(Side::V2, settings)?)?;
    result(context, json!({ "command": "new", "folder": path.display().to_string() }));
    context.output.line(printable(&format!("{} is there to be filled in", path.display())));
    Ok(Outcome::Done)
}

async fn go(context: &Context, direction: Direction, args: &EvolveArgs) -> Result<Outcome> {
    let mut session = open(context).await?;
    if args.dry_run {
        return rehearse(context, &mut session, direction, args).await;
    }
    // What is refused by what is known already needs no lock.
    if session.plan(direction, args.to, args.force)?.is_empty() {
        return Ok(nothing(context, &session, direction));
    }
    if !args.safe {
        look_ahead(context, &session, direction, args, context.settings.require_backup).await?;
    }
    session.lock(arguments(direction, args)).await?;
    let mut done = Vec::new();
    let ended = work(context, &mut session, direction, args, &mut done).await;
    let (place, error) = (session.place().to_owned(), ended.as_ref().err());
    let list: Vec<_> = done
        .iter()
        .map(|(name, took): &(String, Duration)| json!({ "name": name, "seconds": took.as_secs_f64() }))
        .collect();
    result(context, json!({ "command": direction.as_str(), "done": list, "failed": error.is_some() }));
    session.release(error).await;
    ended?;
    let word = if direction == Direction::Up { "applied" } else { "taken back" };
    context.output.line(format!("{place}: {} {word}", count(done.len())));
    Ok(Outcome::Done)
}

/// Reads folder and records. Whoever may not read them learns all that is to be granted.
async fn open(context: &Context) -> Result<Session> {
    let error = match Session::open(&context.settings).await {
        Err(error) if error.sqlstate() == Some(INSUFFICIENT_PRIVILEGE) => error,
        opened => return opened,
    };
    let needs = Needs { evolutions: Some(Vec::new()), ..Needs::default() };
    super::check::look_ahead(context, &needs).await?;
    Err(error)
}

/// What would stop it in its middle, before anything is written.
async fn look_ahead(
    context: &Context,
    session: &Session,
    direction: Direction,
    args: &EvolveArgs,
    backup: Option<Duration>,
) -> Result<()> {
    let list = session.plan(direction, args.to, args.force)?;
    let needs = Needs { backup, evolutions: Some(session.pending(direction, &list)), ..Needs::default() };
    super::check::look_ahead(context, &needs).await.map(drop)
}

/// Asks first, as what follows takes its time; then everything under a backup.
async fn go_safely(context: &Context, args: &EvolveArgs) -> Result<Outcome> {
    let session = open(context).await?;
    let list = session.plan(Direction::Up, args.to, args.force)?;
    if list.is_empty() {
        return Ok(nothing(context, &session, Direction::Up));
    }
    // The backup that may be asked for is about to be made.
    look_ahead(context, &session, Direction::Up, args, None).await?;
    if !args.force {
        let names: Vec<&str> = list.iter().map(|evolution| evolution.name.as_str()).collect();
        report::confirm(&format!("Apply {} in {} after a backup?", names.join(", "), session.place()))?;
    }
    drop(session);
    let asked = EvolveArgs { force: true, ..args.clone() };
    let names: Vec<u32> = list.iter().map(|evolution| evolution.number).collect();
    let work = async || {
        let outcome = go(context, Direction::Up, &asked).await?;
        validate(context, &names).await?;
        Ok(outcome)
    };
    safe::guard(context, work, async || undo(context, &names).await).await
}

/// All of them are recorded as applied; and where a migration keeps its ledger, its records are still there.
async fn validate(context: &Context, numbers: &[u32]) -> Result<()> {
    let session = Session::open(&context.settings).await?;
    let applied = |number: &u32| session.records.iter().any(|of| of.number == *number && of.is_applied());
    if let Some(lacking) = numbers.iter().find(|number| !applied(number)) {
        return Err(Error::differences(format!("evolution {lacking} is not applied")));
    }
    let target = target::open(&context.settings)?;
    let mut control = match target.control().await {
        Ok(control) => control,
        // No migration ever prepared it.
        Err(error) if error.kind() == Kind::Refused => return Ok(()),
        Err(error) => return Err(error),
    };
    if control.ledger_lines().await?.is_empty() {
        return Ok(());
    }
    match super::check::compile(context, &*target).await {
        Ok(plan) => super::validate::validate(context, &*target, &plan, &Only::default(), false).await,
        Err(error) => {
            tracing::warn!(
                "the definitions of the migration do not fit V2 any more, so only the evolutions were validated: {}",
                error.message()
            );
            Ok(())
        }
    }
}

/// Takes back those of these evolutions that were applied.
async fn undo(context: &Context, numbers: &[u32]) -> Result<bool> {
    let mut changed = false;
    loop {
        let mut session = Session::open(&context.settings).await?;
        if let Some(half) = session.records.iter().find(|of| of.is_partial() && numbers.contains(&of.number))
        {
            return Err(Error::refused(format!("{} is half applied", half.name)));
        }
        let last = session.records.iter().filter(|of| of.is_applied()).max_by_key(|of| of.serial);
        if !last.is_some_and(|last| numbers.contains(&last.number)) {
            return Ok(changed);
        }
        session.lock(vec!["down".to_owned(), "after a failure".to_owned()]).await?;
        let watch = Watch { progress: context.progress.clone(), stop: context.interrupt.receiver() };
        let taken = async {
            let list = session.plan(Direction::Down, None, false)?;
            for evolution in &list {
                session.run(evolution, Direction::Down, &watch).await?;
            }
            Ok(())
        };
        let taken: Result<()> = taken.await;
        session.release(taken.as_ref().err()).await;
        taken?;
        changed = true;
    }
}

fn arguments(direction: Direction, args: &EvolveArgs) -> Vec<String> {
    let to = args.to.map(|to| format!("--to {to}"));
    std::iter::once(direction.as_str().to_owned()).chain(to).collect()
}

async fn work(
    context: &Context,
    session: &mut Session,
    direction: Direction,
    args: &EvolveArgs,
    done: &mut Vec<(String, Duration)>,
) -> Result<()> {
    warn_of_strangers(session);
    let list = session.plan(direction, args.to, args.force)?;
    if list.is_empty() {
        return Ok(());
    }
    if !args.force {
        let names: Vec<&str> = list.iter().map(|evolution| evolution.name.as_str()).collect();
        let what = if direction == Direction::Up { "Apply" } else { "Take back" };
        report::confirm(&format!("{what} {} in {}?", names.join(", "), session.place()))?;
    }
    // What goes in batches ends with a whole one; what is one transaction is seen through.
    let _finishing = context.interrupt.finish_first();
    let watch = Watch { progress: context.progress.clone(), stop: context.interrupt.receiver() };
    for evolution in &list {
        tracing::info!("{} {}", direction.as_str(), evolution.name);
        let took = session.run(evolution, direction, &watch).await?;
        context.output.line(printable(&format!(
            "{} {} ({:.1} s)",
            direction.as_str(),
            evolution.name,
            took.as_secs_f64()
        )));
        done.push((evolution.name.clone(), took));
    }
    Ok(())
}

async fn rehearse(
    context: &Context,
    session: &mut Session,
    direction: Direction,
    args: &EvolveArgs,
) -> Result<Outcome> {
    warn_of_strangers(session);
    let list = session.plan(direction, args.to, args.force)?;
    if list.is_empty() {
        return Ok(nothing(context, session, direction));
    }
    // Nothing is written, so nothing has to be saved before.
    look_ahead(context, session, direction, args, None).await?;
    let found = session.attempt(direction, &list).await?;
    let entry =
        |(evolution, lines): (&Evolution, &Vec<String>)| json!({ "name": evolution.name, "would": lines });
    let would: Vec<_> = list.iter().zip(&found).map(entry).collect();
    result(context, json!({ "command": direction.as_str(), "dry_run": true, "evolutions": would }));
    for (evolution, lines) in list.iter().zip(&found) {
        context.output.line(printable(&format!("{} {}", direction.as_str(), evolution.name)));
        for line in lines {
            context.output.line(printable(&format!("  {line}")));
        }
    }
    context.output.line(format!("dry run: {} would be done; nothing was changed", count(list.len())));
    Ok(Outcome::Done)
}

fn count(number: usize) -> String {
    if number == 1 { "1 evolution".to_owned() } else { format!("{number} evolutions") }
}

fn nothing(context: &Context, session: &Session, direction: Direction) -> Outcome {
    result(context, json!({ "command": direction.as_str(), "done": [], "failed": false }));
    let what = if direction == Direction::Up { "to apply" } else { "to take back" };
    context.output.line(format!("{}: there is nothing {what}", session.place()));
    Outcome::Done
}

fn warn_of_strangers(session: &Session) {
    for record in session.strangers() {
        tracing::warn!(
            "{} was applied, and {} does not have it",
            record.name,
            session.evolutions.folder.display()
        );
    }
}

async fn status(context: &Context) -> Result<Outcome> {
    let session = Session::open(&context.settings).await?;
    let edited: Vec<u32> =
        order::edited(&session.evolutions, &session.records).iter().map(|record| record.number).collect();
    let mut rows: Vec<Row<'_>> = session
        .evolutions
        .list
        .iter()
        .map(|evolution| {
            let record = session.records.iter().find(|record| record.number == evolution.number);
            Row { evolution: Some(evolution), record, edited: edited.contains(&evolution.number) }
        })
        .collect();
    let strangers = session.strangers();
    rows.extend(strangers.into_iter().map(|record| Row {
        evolution: None,
        record: Some(record),
        edited: false,
    }));
    let columns = ["evolution", "state", "when (UTC)", "who"].map(|name| (name, Align::Left));
    let mut table =
        Table::new(columns.into_iter().chain([("seconds", Align::Right), ("description", Align::Left)]));
    let mut list = Vec::new();
    for row in &rows {
        let seconds = row.shown().and_then(|record| record.duration_ms).map(|ms| ms as f64 / 1_000.0);
        let text = |of: fn(&Record) -> &String| row.shown().map(of).cloned().unwrap_or_default();
        let description =
            row.evolution.and_then(|evolution| evolution.description.clone()).unwrap_or_default();
        list.push(json!({
            "name": row.name(), "state": row.state(), "edited": row.edited, "started": text(|of| &of.started), "by": text(|of| &of.by),
            "seconds": seconds, "description": description, "error": row.record.and_then(|record| record.error.clone()),
        }));
        let state =
            if row.edited { format!("{}, edited since", row.state()) } else { row.state().to_owned() };
        let seconds = seconds.map(|seconds| format!("{seconds:.1}")).unwrap_or_default();
        let cells =
            [row.name().to_owned(), state, text(|of| &of.started), text(|of| &of.by), seconds, description];
        table.row(cells.iter().map(|cell| printable(cell)));
    }
    result(context, json!({ "command": "status", "evolutions": list }));
    if rows.is_empty() {
        context.output.line(format!("there are no evolutions in {}", session.evolutions.folder.display()));
    } else {
        context.output.table(&table);
    }
    for row in &rows {
        if let Some(advice) = row.advice() {
            for line in advice {
                context.output.line(printable(&line));
            }
        }
    }
    Ok(Outcome::Done)
}

/// One line of `status`.
struct Row<'r> {
    evolution: Option<&'r Evolution>,
    record: Option<&'r Record>,
    edited: bool,
}

impl Row<'_> {
    fn name(&self) -> &str {
        match (self.evolution, self.record) {
            (Some(evolution), _) => &evolution.name,
            (None, Some(record)) => &record.name,
            (None, None) => "",
        }
    }

    /// What was taken back is pending again.
    fn shown(&self) -> Option<&Record> {
        self.record.filter(|record| record.state != State::Reverted)
    }

    fn state(&self) -> &'static str {
        match self.shown().map(|record| record.state) {
            None => "pending",
            Some(_) if self.evolution.is_none() => "applied, not in the folder",
            Some(state) => state.as_str(),
        }
    }

    /// What to do next about one that is not done.
    fn advice(&self) -> Option<Vec<String>> {
        let record = self.shown()?;
        let name = self.name();
        let (state, way) = (record.state, record.direction.as_str());
        if state == State::Applied {
            return record
                .error
                .as_ref()
                .map(|error| vec![format!("{name}: it is applied; taking it back failed: {error}")]);
        }
        let who = if state == State::Running {
            "it is being worked on now, or the program ended without a word (killed, or its machine went down)".to_owned()
        } else {
            record.trouble()
        };
        let documents = match record.documents {
            0 => String::new(),
            documents => format!(", {documents} documents of the next one"),
        };
        let next = if record.is_applied() {
            format!("it is still applied as a whole; run `v1v2 evolve {way}` again")
        } else if record.is_partial() {
            let parts = record.done;
            format!(
                "{parts} of its parts are done{documents}; run `v1v2 evolve {way}` again: it goes on where it stopped"
            )
        } else {
            format!("nothing of it is in V2; run `v1v2 evolve {way}` again")
        };
        Some(vec![format!("{name}: {who}"), format!("  next: {next}")])
    }
}

fn result(context: &Context, value: serde_json::Value) {
    context.events.emit(&Event::Result { command: "evolve".to_owned(), value });
}
