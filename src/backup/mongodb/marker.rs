//! The mark of a restore or a copy that is under way: it is there before anything is removed or written, and goes last. A
//! target that carries it holds neither what it held before nor what it is to hold.

use mongodb::Collection;
use mongodb::bson::{DateTime, Document, doc};
use uuid::Uuid;

use crate::backup::{MARKER, half_restored};
use crate::connect::MongoDb;
use crate::error::{Error, Result};

fn collection(db: &MongoDb) -> Collection<Document> {
    db.database.collection(MARKER)
}

fn failed(db: &MongoDb) -> impl Fn(mongodb::error::Error) -> Error {
    let place = db.place.to_string();
    move |error| Error::mongodb(&place, &error)
}

/// Sets it; `what` is `restore` or `copy`, `by` tells this one from all others.
pub(super) async fn set(db: &MongoDb, what: &str, of: &str, by: Uuid) -> Result<()> {
    let document = doc! {
        "what": what, "of": of, "by": by.to_string(), "started": DateTime::now(), "tool": env!("CARGO_PKG_VERSION"),
    };
    collection(db)
        .replace_one(doc! { "_id": what }, document)
        .upsert(true)
        .await
        .map(drop)
        .map_err(failed(db))
}

/// Stops whoever was taken for dead and woke up: another one has begun since.
pub(super) async fn require_ours(db: &MongoDb, by: Uuid) -> Result<()> {
    let ours = collection(db).find_one(doc! { "by": by.to_string() }).await.map_err(failed(db))?;
    if ours.is_some() {
        return Ok(());
    }
    Err(Error::failed(format!("{}: another restore or copy into it has begun meanwhile", db.place))
        .help("let that one end"))
}

/// What it says, if it is there: `restore of NAME, begun at TIME`.
pub(super) async fn read(db: &MongoDb) -> Result<Option<String>> {
    let found = collection(db).find_one(doc! {}).await.map_err(failed(db))?;
    Ok(found.map(|found| {
        let text = |field: &str| found.get_str(field).unwrap_or("unknown").to_owned();
        let started = found.get_datetime("started").ok().and_then(|at| at.try_to_rfc3339_string().ok());
        format!("{} of {}, begun at {}", text("what"), text("of"), started.unwrap_or_default())
    }))
}

/// Refuses a database that carries it. Only who finds it needs the right to read it.
pub(crate) async fn require_none(db: &MongoDb) -> Result<()> {
    let listed = db.database.list_collection_names().filter(doc! { "name": MARKER }).await;
    if listed.map_err(failed(db))?.is_empty() {
        return Ok(());
    }
    match read(db).await? {
        None => Ok(()),
        Some(what) => Err(half_restored(&db.place.to_string(), &what)),
    }
}

/// Takes it away: the work is complete.
pub(super) async fn remove(db: &MongoDb) -> Result<()> {
    super::structure::remove(&db.place.to_string(), &db.database, MARKER).await
}
