//! `v1v2 repair`: brings back what a bulk load that was killed took away.

use super::{Context, Outcome};
use crate::error::Result;
use crate::report::Event;
use crate::target::{self, RunRecord, State};

pub(super) async fn run(context: &Context) -> Result<Outcome> {
    let target = target::open(&context.settings)?;
    let record = RunRecord { command: "repair", ..RunRecord::default() };
    let lock = target.hold().await?.begin(&record).await?;
    let restored = target.restore(&|name| tracing::info!("bringing back {name}")).await;
    let (state, error) = match &restored {
        Ok(_) => (State::Done, None),
        Err(error) => (State::Failed, Some(error.message().to_owned())),
    };
    target::release(lock, state, error.as_deref(), &serde_json::json!({})).await;
    let restored = restored?;
    context.events.emit(&Event::Result {
        command: "repair".to_owned(),
        value: serde_json::json!({ "restored": restored }),
    });
    context.output.line(match restored {
        0 => "nothing was missing".to_owned(),
        count => format!("{count} foreign keys and indexes are back"),
    });
    Ok(Outcome::Done)
}
