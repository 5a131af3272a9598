//! Takes back exactly what setup made. The list of it is kept in V2 (`v1v2_meta`), so collections that were there before,
//! or that somebody else added, are never dropped.

use mongodb::bson::Document;

use super::super::{CleanPlan, CleanTable};
use super::collections::CollectionSpec;
use super::structure::{list, made};
use super::{META, failed};
use crate::connect::MongoDb;
use crate::setup::SetupFiles;
use crate::target::mongodb::session::LOCK;
use crate::{Error, Result};

/// What `setup --clean` would remove from this database. The counts are the server's own, kept for each collection: after
/// a crash they may be off until the next check of the collection.
///
/// # Errors
/// Only if the server cannot be asked.
pub async fn what_clean_removes(v2: &MongoDb) -> Result<CleanPlan> {
    let control = super::collections::control(&SetupFiles::embedded())?;
    let mut tables = Vec::new();
    for name in names(v2, &control).await? {
        let collection = v2.database.collection::<Document>(&name);
        let rows = collection.estimated_document_count().await.map_err(failed)?;
        tables.push(CleanTable { name, rows });
    }
    Ok(CleanPlan { database: v2.database.name().to_owned(), tables, others: Vec::new() })
}

/// Drops it all; returns how many collections.
pub(super) async fn remove(v2: &MongoDb, control: &[CollectionSpec]) -> Result<usize> {
    let names = names(v2, control).await?;
    refuse_views(v2, &names).await?;
    for name in &names {
        v2.database.collection::<Document>(name).drop().await.map_err(failed)?;
    }
    Ok(names.len())
}

/// Everything that setup made and that is still there, but for the lock, which is ours meanwhile. The list itself comes last,
/// so that a clean that was cut short can be done again.
async fn names(v2: &MongoDb, control: &[CollectionSpec]) -> Result<Vec<String>> {
    let live = list(v2).await?;
    let mut names: Vec<String> = made(v2).await?.into_keys().collect();
    names.extend(control.iter().map(|spec| spec.name.clone()).filter(|name| name != META));
    names.push(META.to_owned());
    names.retain(|name| live.contains_key(name) && name != LOCK);
    Ok(names)
}

/// A view of somebody else's would be left without its collection. (Postgres refuses by itself.)
async fn refuse_views(v2: &MongoDb, names: &[String]) -> Result<()> {
    let live = list(v2).await?;
    let depends = |on: &Option<String>| on.as_ref().is_some_and(|on| names.contains(on));
    let views: Vec<String> = live
        .values()
        .filter(|of| depends(&of.options.view_on) && !names.contains(&of.name))
        .map(|of| {
            format!("view {} depends on {}", of.name, of.options.view_on.as_deref().unwrap_or_default())
        })
        .collect();
    if views.is_empty() {
        return Ok(());
    }
    Err(Error::refused("V2: something that setup did not make depends on what --clean removes")
        .help("drop it yourself if you can do without it, then run `setup --clean` again")
        .details(views.join("\n")))
}
