//! Prepares a V2 of MongoDB: collections with validators and indexes, reference data, and the collections `v1v2_*`.
//!
//! Structure comes first, and each step of it can be repeated; reference data follows in one transaction. So a setup that
//! dies leaves either a V2 without new data or a ready one, and running it again finishes it. All of it happens under the lock
//! of a run, whose collection the server makes by itself when the first lock is put into it.

mod clean;
mod collections;
mod load;
mod reference;
mod same;
mod structure;
mod transaction;

use std::sync::Arc;

use mongodb::Collection;
use mongodb::bson::{Document, doc};
use mongodb::error::Error as DriverError;

pub use clean::what_clean_removes;
pub use collections::{CollectionSpec, IndexSpec, collections};

use super::{CONTROL_VERSION, ReferenceData, SetupFiles, SetupSummary};
use crate::connect::MongoDb;
use crate::settings::Settings;
use crate::target::Held as _;
use crate::target::mongodb::lock::Held;
use crate::target::mongodb::session::Shared;
use crate::{Error, Result};

/// Facts about this V2.
const META: &str = "v1v2_meta";

/// Brings V2 to the state that `files` describe. With `clean`, removes first what an earlier setup created, data
/// included: the caller has asked the user. While it lasts it holds the lock of a run.
///
/// # Errors
/// Exit 2: mistakes in the files. Exit 5: V2 has collections of the same names that look different, or somebody else
/// holds the lock (another setup, a migration, a restore, …), or something that is not ours depends on what `clean` would remove. After an error the reference data is as
/// it was.
pub async fn apply(settings: &Arc<Settings>, files: &SetupFiles, clean: bool) -> Result<SetupSummary> {
    // Mistakes in files are found before the database is asked for anything.
    let data = files.reference()?;
    let wanted = collections(files, &data)?;
    let control = collections::control(files)?;

    let shared = Arc::new(Shared::new(settings.clone(), "V2".to_owned()));
    let v2 = shared.connection().await?;
    refuse_newer(v2).await?;
    let held = Held::take_whole(&shared, Some("setup")).await?;
    let done = bring(v2, files, (&data, &wanted, &control), clean).await;
    Box::new(held).give_up().await;
    done
}

async fn bring(
    v2: &MongoDb,
    files: &SetupFiles,
    (data, wanted, control): (&ReferenceData, &[CollectionSpec], &[CollectionSpec]),
    clean: bool,
) -> Result<SetupSummary> {
    let removed = if clean { clean::remove(v2, control).await? } else { 0 };
    let structure = structure::ensure(v2, control, wanted).await?;
    let tables = transaction::run(v2, async |session| {
        let tables = load::reference(session, v2, data, files).await?;
        load::remember(session, v2, "control_version", &CONTROL_VERSION.to_string()).await?;
        load::remember(session, v2, "tool_version", env!("CARGO_PKG_VERSION")).await?;
        Ok(tables)
    })
    .await?;
    let structure::Structure { created, altered } = structure;
    let database = v2.database.name().to_owned();
    Ok(SetupSummary { database, schema: String::new(), removed, created, altered, tables })
}

/// Refuses if a newer program has been here.
async fn refuse_newer(v2: &MongoDb) -> Result<()> {
    let found = meta(v2).find_one(doc! { "_id": "control_version" }).await.map_err(failed)?;
    let version = found.as_ref().and_then(|found| found.get_str("value").ok()?.parse::<u32>().ok());
    match version.filter(|version| *version > CONTROL_VERSION) {
        None => Ok(()),
        Some(newer) => Err(Error::refused(format!(
            "V2: its control collections have version {newer}, and this program knows versions up to {CONTROL_VERSION}"
        ))
        .help("use the newer v1v2 that set this database up")),
    }
}

fn meta(v2: &MongoDb) -> Collection<Document> {
    v2.database.collection(META)
}

/// An error of V2.
fn failed(error: DriverError) -> Error {
    Error::mongodb("V2", &error)
}
