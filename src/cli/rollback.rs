//! `v1v2 rollback`: takes back what a run made.

use super::{Context, Outcome, RollbackArgs};
use crate::error::{Kind, Result};
use crate::plan::Plan;
use crate::report::{self, Align, Event, Table};
use crate::target::{self, Held, Nothing, RolledBack, RunName, RunRecord, State, Target, ToTakeBack};

/// Rows listed on the terminal; with `--json` all of them are.
const SHOWN: usize = 20;

pub(super) async fn run(context: &Context, args: &RollbackArgs) -> Result<Outcome> {
    let target = target::open(&context.settings)?;
    let plan = super::check::compile(context, &*target).await?;
    let mut held = target.hold().await?;
    let id = args.run.map(|id| id.to_string());
    let wanted = match held.find_run(id.as_deref()).await {
        Ok(ToTakeBack::Run(run)) if !args.force => {
            let question = format!("Roll back the run {} in {}?", run.id, target.place());
            report::confirm(&question).map(|()| ToTakeBack::Run(run))
        }
        found => found,
    };
    let run = match wanted {
        Ok(ToTakeBack::Run(run)) => run,
        Ok(ToTakeBack::Nothing { run, why, before }) => {
            held.give_up().await;
            print_nothing(context, run, why, before);
            return Ok(Outcome::Done);
        }
        Err(error) => {
            held.give_up().await;
            return Err(error);
        }
    };
    let done = take_back(context, &*target, &plan, held, run).await?;
    print(context, &done);
    Ok(Outcome::Done)
}

/// Takes a run back. `held` is the lock.
async fn take_back(
    context: &Context,
    target: &dyn Target,
    plan: &Plan,
    held: Box<dyn Held>,
    run: RunName,
) -> Result<RolledBack> {
    let mut lock = held.begin(&RunRecord { command: "rollback", ..RunRecord::default() }).await?;
    let work = async {
        target.restore(&|name| tracing::info!("bringing back {name}")).await?;
        let progress = context.progress.entity("rollback", None);
        let done = lock.rollback(plan, run, &|lines| progress.advance(lines)).await;
        progress.finish();
        done
    };
    let done = work.await;
    let (state, error) = match &done {
        Ok(_) => (State::Done, None),
        Err(error) => (State::Failed, Some(error.message().to_owned())),
    };
    target::release(lock, state, error.as_deref(), &serde_json::json!({})).await;
    done
}

/// The run that would be taken back now: the newest one, if it wrote something and was not taken back.
pub(super) async fn latest(target: &dyn Target) -> Result<Option<RunName>> {
    let mut held = target.hold().await?;
    let found = held.find_run(None).await;
    held.give_up().await;
    match found {
        Ok(ToTakeBack::Run(run)) => Ok(Some(run)),
        Ok(ToTakeBack::Nothing { .. }) => Ok(None),
        Err(error) if error.kind() == Kind::Refused => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes back what was done since `before` was the latest run; `false` if nothing was.
pub(super) async fn since(
    context: &Context,
    target: &dyn Target,
    plan: &Plan,
    before: Option<RunName>,
) -> Result<bool> {
    let mut held = target.hold().await?;
    let found = match held.find_run(None).await {
        Ok(ToTakeBack::Run(run)) => Some(run).filter(|run| Some(*run) != before),
        Ok(ToTakeBack::Nothing { .. }) => None,
        Err(error) if error.kind() == Kind::Refused => None,
        Err(error) => {
            held.give_up().await;
            return Err(error);
        }
    };
    if let Some(run) = found {
        return take_back(context, target, plan, held, run).await.map(|_| true);
    }
    // A bulk load may have begun, and no more.
    let restored = target.restore(&|name| tracing::info!("bringing back {name}")).await;
    held.give_up().await;
    restored.map(|_| false)
}

/// Says why nothing was changed, and how to take back the run before, should that be what is wanted.
fn print_nothing(context: &Context, run: RunName, why: Nothing, before: Option<RunName>) {
    if let Ok(mut value) = serde_json::to_value(RolledBack::of(run)) {
        value["nothing_to_do"] = serde_json::json!(why);
        value["before"] = serde_json::json!(before.map(|run| run.id.to_string()));
        context.events.emit(&Event::Result { command: "rollback".to_owned(), value });
    }
    let why = match why {
        Nothing::RolledBack => "was rolled back already",
        Nothing::ChangedNothing => "has changed nothing in V2",
    };
    context
        .output
        .line(format!("run {} {why}: there is nothing to take back, and nothing was changed", run.id));
    if let Some(before) = before {
        context.output.line(format!("to take back the run before it: v1v2 rollback --run {}", before.id));
    }
}

fn print(context: &Context, done: &RolledBack) {
    if let Ok(value) = serde_json::to_value(done) {
        context.events.emit(&Event::Result { command: "rollback".to_owned(), value });
    }
    let mut table = Table::new([("table in V2", Align::Left), ("rows removed", Align::Right)]);
    for (name, rows) in &done.removed {
        table.row([name.clone(), rows.to_string()]);
    }
    context.output.table(&table);
    if !done.restored.is_empty() {
        let mut table = Table::new([("table in V2", Align::Left), ("rows as they were", Align::Right)]);
        for (name, rows) in &done.restored {
            table.row([name.clone(), rows.to_string()]);
        }
        context.output.table(&table);
    }
    if !done.kept.is_empty() {
        context.output.line(format!("{} rows were edited since and stay:", done.kept.len()));
        for (name, id) in done.kept.iter().take(SHOWN) {
            context.output.line(report::printable(&format!("  {name} {id}")));
        }
    }
    context.output.line(format!("run {}: {} rows of V1 taken back", done.id, done.lines));
}
