//! `v1v2 rollback`: takes back what a run made.

use super::{Context, Outcome, RollbackArgs};
use crate::error::{Kind, Result};
use crate::plan::Plan;
use crate::report::{self, Align, Event, Table};
use crate::target::{self, Held, RolledBack, RunName, RunRecord, State, Target};

/// Rows listed on the terminal; with `--json` all of them are.
const SHOWN: usize = 20;

pub(super) async fn run(context: &Context, args: &RollbackArgs) -> Result<Outcome> {
    let target = target::open(&context.settings)?;
    let plan = super::check::compile(context, &*target).await?;
    let mut held = target.hold().await?;
    let id = args.run.map(|id| id.to_string());
    let wanted = match held.find_run(id.as_deref()).await {
        Ok(run) if args.force => Ok(run),
        Ok(run) => {
            report::confirm(&format!("Roll back the run {} in {}?", run.id, target.place())).map(|()| run)
        }
        Err(error) => Err(error),
    };
    let run = match wanted {
        Ok(run) => run,
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

/// The run that would be taken back now: the last one that wrote something and was not taken back.
pub(super) async fn latest(target: &dyn Target) -> Result<Option<RunName>> {
    let mut held = target.hold().await?;
    let found = held.find_run(None).await;
    held.give_up().await;
    match found {
        Ok(run) => Ok(Some(run)),
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
        Ok(run) => Some(run).filter(|run| Some(*run) != before),
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
