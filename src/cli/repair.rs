//! `v1v2 repair`: brings back what a bulk load that was killed took away, and accepts evolutions that were edited after they
//! had been applied.

use super::{Context, Outcome};
use crate::error::Result;
use crate::evolve;
use crate::report::{Event, printable};
use crate::target::{self, RunRecord, State};

pub(super) async fn run(context: &Context) -> Result<Outcome> {
    // A mistake in the folder of evolutions must not keep indexes away: it is told at the end.
    let accepted = evolve::accept(&context.settings).await;
    let only_evolves = accepted.as_ref().is_ok_and(|accepted| accepted.only_evolves);
    // A database that only evolves was never loaded into, so nothing can be missing.
    let restored = if only_evolves { 0 } else { restore(context).await? };
    tell(context, restored, &accepted?.names);
    Ok(Outcome::Done)
}

async fn restore(context: &Context) -> Result<usize> {
    let target = target::open(&context.settings)?;
    let record = RunRecord { command: "repair", ..RunRecord::default() };
    let lock = target.hold().await?.begin(&record).await?;
    let restored = target.restore(&|name| tracing::info!("bringing back {name}")).await;
    let (state, error) = match &restored {
        Ok(_) => (State::Done, None),
        Err(error) => (State::Failed, Some(error.message().to_owned())),
    };
    target::release(lock, state, error.as_deref(), &serde_json::json!({})).await;
    restored
}

fn tell(context: &Context, restored: usize, accepted: &[String]) {
    context.events.emit(&Event::Result {
        command: "repair".to_owned(),
        value: serde_json::json!({ "restored": restored, "accepted": accepted }),
    });
    for name in accepted {
        context.output.line(printable(&format!("accepted as it is now: {name}")));
    }
    match (restored, accepted.len()) {
        (0, 0) => context.output.line("nothing was missing"),
        (0, _) => {}
        (count, _) => context.output.line(format!("{count} foreign keys and indexes are back")),
    }
}
