//! `v1v2 evolve`: V2's own versioned changes.

mod status;

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Context, Outcome, safe};
use crate::connect::{self, Side};
use crate::error::{Error, INSUFFICIENT_PRIVILEGE, Kind, Result};
use crate::evolve::{Direction, Evolution, Session, Watch, order, template};
use crate::preflight::Needs;
use crate::report::{self, Event, printable};
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
        EvolveCommand::Status => status::run(context).await,
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
    let list = session.plan(direction, args.to, args.force)?;
    warn(session, direction, &list);
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
    let list = session.plan(direction, args.to, args.force)?;
    warn(session, direction, &list);
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

/// What is odd about the folder beside what is applied, and forbids nothing.
fn warn(session: &Session, direction: Direction, list: &[Evolution]) {
    if direction == Direction::Up {
        for (evolution, last) in order::late(&session.evolutions, &session.records, list) {
            tracing::warn!(
                "{} comes late: {}, which is applied already, has a higher number",
                evolution.name,
                last.name
            );
        }
    }
    for record in session.strangers() {
        tracing::warn!(
            "{} was applied, and {} does not have it",
            record.name,
            session.evolutions.folder.display()
        );
    }
}

fn result(context: &Context, value: serde_json::Value) {
    context.events.emit(&Event::Result { command: "evolve".to_owned(), value });
}
