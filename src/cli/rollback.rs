//! `v1v2 rollback`: takes back what a run made.

use super::{Context, Outcome, RollbackArgs};
use crate::connect::{self, Side};
use crate::error::Result;
use crate::report::{self, Align, Event, Table};
use crate::target::postgres::bulk;
use crate::target::postgres::lock::{Held, RunRecord, State};
use crate::target::postgres::rollback::{self, RolledBack};

/// Rows listed on the terminal; with `--json` all of them are.
const SHOWN: usize = 20;

pub(super) async fn run(context: &Context, args: &RollbackArgs) -> Result<Outcome> {
    let settings = &context.settings;
    let place = connect::place(Side::V2, settings)?.to_string();
    let plan = super::check::compile(context).await?;
    let record = RunRecord { command: "rollback", ..RunRecord::default() };
    let mut held = Held::take(settings, &place).await?;
    let id = args.run.map(|id| id.to_string());
    let run = rollback::find_run(held.connection(), id.as_deref(), &place).await?;
    if !args.force {
        report::confirm(&format!("Roll back the run {} in {place}?", run.1))?;
    }
    let mut lock = held.begin(&record).await?;
    let work = async {
        bulk::restore(settings, &place, |name| tracing::info!("bringing back {name}")).await?;
        let progress = context.progress.entity("rollback", None);
        let done =
            rollback::rollback(lock.connection(), &plan, run, &place, |_, lines| progress.advance(lines))
                .await;
        progress.finish();
        done
    };
    let done = work.await;
    let (state, error) = match &done {
        Ok(_) => (State::Done, None),
        Err(error) => (State::Failed, Some(error.message().to_owned())),
    };
    lock.release(state, error.as_deref(), &serde_json::json!({})).await?;
    print(context, &done?);
    Ok(Outcome::Done)
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
    if !done.kept.is_empty() {
        context.output.line(format!("{} rows were edited since and stay:", done.kept.len()));
        for (name, id) in done.kept.iter().take(SHOWN) {
            context.output.line(format!("  {name} {id}"));
        }
    }
    context.output.line(format!("run {}: {} rows of V1 taken back", done.id, done.lines));
}
