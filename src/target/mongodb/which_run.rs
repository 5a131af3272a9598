//! Which run a rollback takes back: the one that was named, or the newest one and no other, for the same reasons as in
//! Postgres (`../postgres/which_run.rs`).

use futures_util::TryStreamExt;
use mongodb::Database;
use mongodb::bson::{Document, doc};
use uuid::Uuid;

use super::replaced;
use super::session::{LEDGER, REPLACED, RUNS, Shared, raw};
use crate::error::{Error, Result};
use crate::target::{Nothing, RunName, ToTakeBack};

/// What there is to take back: the run with this id, or the newest one.
pub async fn find_run(shared: &Shared, database: &Database, id: Option<&str>) -> Result<ToTakeBack> {
    let failed = |error: mongodb::error::Error| shared.failed(&error);
    let uuid = match id {
        Some(id) => Some(Uuid::parse_str(id).map_err(|_| {
            Error::usage(format!("--run {id:?} is not a run's id"))
                .help("`v1v2 status` lists the runs with their ids")
        })?),
        None => None,
    };
    let runs = database.collection::<Document>(RUNS);
    let runs: Vec<Document> = runs
        .find(doc! { "command": "migrate" })
        .sort(doc! { "no": -1 })
        .await
        .map_err(failed)?
        .try_collect()
        .await
        .map_err(failed)?;
    let mut runs = runs.iter().map(|run| (name(run), run.get_str("state").ok() == Some("rolled_back")));
    let Some((run, rolled_back)) = runs.find(|(run, _)| uuid.is_none_or(|uuid| uuid == run.id)) else {
        return Err(match id {
            Some(id) => Error::usage(format!("{} knows no migration run {id}", shared.place))
                .help("`v1v2 status` lists the runs with their ids"),
            None => Error::refused(format!("{} has no run that could be rolled back", shared.place)),
        });
    };
    let why = if rolled_back {
        Nothing::RolledBack
    // Whoever names a run may also clear the log of one that changed nothing.
    } else if uuid.is_none() && !has_written(database, run.number).await.map_err(failed)? {
        Nothing::ChangedNothing
    } else {
        replaced::require_latest(shared, database, run).await?;
        return Ok(ToTakeBack::Run(run));
    };
    let mut before = None;
    // What was read from the list lies after the newest one: those before it.
    for (earlier, _) in runs.filter(|(_, rolled_back)| uuid.is_none() && !rolled_back) {
        if has_written(database, earlier.number).await.map_err(failed)? {
            before = Some(earlier);
            break;
        }
    }
    Ok(ToTakeBack::Nothing { run, why, before })
}

fn name(run: &Document) -> RunName {
    let id = run.get("_id").map(super::overview::uuid_text).and_then(|id| id.parse().ok());
    RunName { number: run.get_i32("no").unwrap_or(0), id: id.unwrap_or_default() }
}

/// Whether a run has brought rows, or changed or removed some.
async fn has_written(database: &Database, run: i32) -> mongodb::error::Result<bool> {
    let line = raw(database, LEDGER).find_one(doc! { "run": run }).await?;
    Ok(line.is_some() || raw(database, REPLACED).find_one(replaced::of_run(run)).await?.is_some())
}
