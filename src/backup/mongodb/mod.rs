//! Backups of MongoDB, through the driver: what the user's connection can read is what is needed, and no other program.

mod archive;
mod copy;
mod documents;
pub(crate) mod marker;
mod structure;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use mongodb::bson::{Bson, Document, doc};
use tokio::sync::mpsc;
use uuid::Uuid;

pub use self::copy::{Copied, copy};
use self::documents::{AHEAD, Inserter, Moment};
use self::structure::Part;
use super::folder::{self, Draft};
use super::manifest::{Content, FORMAT, Kind, Manifest};
use super::{MARKER, Observer, Occupied, checksum, differing};
use crate::connect::{self, MongoDb, Side};
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::target::Held as _;
use crate::target::mongodb::lock;
use crate::target::mongodb::session::{LOCK, Shared};

/// Collections, options and indexes, exactly.
const STRUCTURE: &str = "structure.bson";

/// What tells this database from all others.
pub(super) async fn identity(db: &MongoDb) -> Result<String> {
    let admin = db.client.database("admin");
    let name = db.database.name();
    // Made when the set was initiated, and not every user may read it.
    let config = admin.run_command(doc! { "replSetGetConfig": 1 }).await.ok();
    let id = config.as_ref().and_then(|answer| {
        answer.get_document("config").ok()?.get_document("settings").ok()?.get_object_id("replicaSetId").ok()
    });
    if let Some(id) = id {
        return Ok(format!("replica set {id}/{name}"));
    }
    let hello = admin
        .run_command(doc! { "hello": 1 })
        .await
        .map_err(|error| Error::mongodb(&db.place.to_string(), &error))?;
    let mut hosts: Vec<&str> = hello
        .get_array("hosts")
        .map(|hosts| hosts.iter().filter_map(Bson::as_str).collect())
        .unwrap_or_default();
    hosts.sort_unstable();
    let set = db.replica_set.clone().unwrap_or_else(|| format!("cluster at {}", db.place.host));
    Ok(format!("replica set {set} of {}/{name}", hosts.join(",")))
}

pub(super) async fn create(settings: &Settings, root: &Path, observer: &dyn Observer) -> Result<PathBuf> {
    let db = connect::mongodb(settings).await?;
    let place = db.place.to_string();
    let parts = structure::read(&place, &db.database).await?;
    structure::require_whole(&place, &parts)?;
    let started = Timestamp::now();
    let mut moment = Moment::now(&db).await?;
    let mut draft = Draft::begin(root, db.database.name(), started)?;
    let work = async {
        let mut contents = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            contents.push(save(&db, &mut moment, part, number + 1, &mut draft, observer).await?);
        }
        // Options and indexes have no snapshot: that they were the same before and after is the next best.
        let changed = structure::differences(&parts, &structure::read(&place, &db.database).await?);
        if !changed.is_empty() {
            return Err(Error::failed(format!("{place}: the structure changed during the backup"))
                .help("take it again when nobody changes collections or indexes")
                .details(changed.join("\n")));
        }
        draft.write(STRUCTURE, &structure::to_bytes(&parts)?)?;
        let mut manifest = Manifest {
            format: FORMAT,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            kind: Kind::MongoDb,
            server: db.version.clone(),
            dumped_by: None,
            database: db.database.name().to_owned(),
            place: place.clone(),
            identity: identity(&db).await?,
            started: started.to_string(),
            finished: Timestamp::now().to_string(),
            consistency: consistency(&parts),
            rows: contents.iter().map(|content| content.rows).sum(),
            bytes: contents.iter().map(|content| content.bytes).sum(),
            files: Vec::new(),
            contents,
            roles: Vec::new(),
        };
        draft.describe(&mut manifest)?;
        observer.step("reading the backup back");
        let problems = verify(draft.path(), &manifest, &super::Unobserved).await?;
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Error::failed("the backup cannot be read back as it was written; check the disk")
                .details(problems.join("\n")))
        }
    };
    if let Err(error) = work.await {
        draft.discard();
        return Err(error);
    }
    draft.finish()
}

fn consistency(parts: &[Part]) -> String {
    let alone: Vec<&str> = parts.iter().filter(|part| part.capped()).map(|part| part.name.as_str()).collect();
    if alone.is_empty() {
        "one snapshot".to_owned()
    } else {
        format!("one snapshot, but for capped collections, each read by itself: {}", alone.join(", "))
    }
}

/// Saves one collection.
async fn save(
    db: &MongoDb,
    moment: &mut Moment,
    part: &Part,
    number: usize,
    draft: &mut Draft,
    observer: &dyn Observer,
) -> Result<Content> {
    let mut content = Content {
        schema: None,
        name: part.name.clone(),
        kind: part.kind().to_owned(),
        file: None,
        rows: 0,
        bytes: 0,
        sha256: checksum::of(b""),
        digest: None,
        options: part.options.to_string(),
        indexes: part.indexes.iter().map(Document::to_string).collect(),
    };
    if part.view {
        return Ok(content);
    }
    let estimated = db.database.collection::<Document>(&part.name).estimated_document_count().await.ok();
    observer.begin(&part.name, estimated);
    let name = format!("{number:04}-{}.bson.zst", folder::plain(&part.name, 60));
    let (file, path) = (draft.file(&name)?, draft.path().join(&name));
    let (to, mut from) = mpsc::channel(AHEAD);
    let (pass, passed) = mpsc::channel(AHEAD);
    let writer = tokio::task::spawn_blocking(move || archive::write(file, &path, passed));
    let counting = async {
        // Moved in, so that it ends when the reader does and tells the writer.
        let pass = pass;
        while let Some(batch) = from.recv().await {
            let batch: documents::Batch = batch;
            observer.advance(batch.documents);
            if pass.send(batch).await.is_err() {
                break;
            }
        }
        drop(from);
    };
    let (read, ()) = tokio::join!(moment.read(part, to), counting);
    let written = writer.await.map_err(|_| Error::failed("writing the backup panicked"))?;
    read?;
    let written = written?;
    draft.add(&name, written.bytes, written.sha256);
    content.rows = written.tally.rows;
    content.bytes = written.tally.bytes;
    content.sha256 = written.tally.sha256();
    content.digest = Some(written.tally.digest());
    content.file = Some(name);
    Ok(content)
}

/// What is damaged.
pub(super) async fn verify(path: &Path, manifest: &Manifest, observer: &dyn Observer) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for file in &manifest.files {
        let (name, path) = (file.name.clone(), path.join(&file.name));
        let content = manifest.contents.iter().find(|content| content.file.as_ref() == Some(&name));
        if let Some(content) = content {
            observer.begin(&content.name, Some(content.rows));
        }
        let has_documents = content.is_some();
        let reading = tokio::task::spawn_blocking(move || -> Result<(String, Option<archive::Found>)> {
            if has_documents {
                let found = archive::read(&path, |_| true)?;
                return Ok((found.sha256.clone(), Some(found)));
            }
            Ok((checksum::of_file(&path)?.1, None))
        });
        let (sha256, found) = reading.await.map_err(|_| Error::failed("reading the backup panicked"))??;
        if sha256 != file.sha256 {
            problems.push(format!("{name} has changed: its SHA-256 is another one"));
        }
        if let (Some(content), Some(found)) = (content, found) {
            observer.advance(found.tally.rows);
            problems.extend(found.problem.map(|problem| format!("{name}: {problem}")));
            problems.extend(differing(content, found.tally.rows, &found.tally.sha256()));
        }
    }
    let names: Vec<&str> = manifest.contents.iter().map(|content| content.name.as_str()).collect();
    match fs::read(path.join(STRUCTURE)).ok().and_then(|bytes| structure::from_bytes(&bytes)) {
        Some(parts) if parts.iter().map(|part| part.name.as_str()).eq(names) => {}
        _ => problems.push(format!("{STRUCTURE} is damaged")),
    }
    Ok(problems)
}

pub(super) async fn what_is_there(db: &MongoDb) -> Result<Occupied> {
    let place = db.place.to_string();
    let failed = |error: mongodb::error::Error| Error::mongodb(&place, &error);
    let interrupted = marker::read(db).await?;
    let mut names = db.database.list_collection_names().await.map_err(failed)?;
    names.retain(|name| name != MARKER && (!name.starts_with("system.") || name == "system.js"));
    names.sort();
    let prepared = names.iter().any(|name| name == "v1v2_meta");
    let mut contents = Vec::new();
    for name in names {
        let rows = db.database.collection::<Document>(&name).estimated_document_count().await.unwrap_or(0);
        contents.push((name, rows));
    }
    Ok(Occupied { database: db.database.name().to_owned(), place, contents, interrupted, prepared })
}

/// The lock of a run, also of a V2 that carries the mark of an earlier restore.
pub(super) async fn alone(settings: &Settings) -> Result<Box<lock::Held>> {
    let place = connect::place(Side::V2, settings)?.to_string();
    let shared = Arc::new(Shared::new(Arc::new(settings.clone()), place));
    Ok(Box::new(lock::Held::take_as(&shared, Some("backup restore")).await?))
}

/// Restores into V2, whose contents go: the caller has asked. Nobody else can take the lock meanwhile: first it is ours, and
/// when its own collection is replaced, as the last of all, the mark stands for it.
pub(super) async fn restore(
    settings: &Settings,
    path: &Path,
    manifest: &Manifest,
    observer: &dyn Observer,
) -> Result<()> {
    let bytes = fs::read(path.join(STRUCTURE)).map_err(|error| folder::failed("read", path, &error))?;
    let parts = structure::from_bytes(&bytes)
        .ok_or_else(|| Error::differences("the backup's structure is damaged"))?;
    let held = alone(settings).await?;
    let restored = replace(settings, path, (manifest, &parts), held.id(), observer).await;
    held.give_up().await;
    restored
}

async fn replace(
    settings: &Settings,
    path: &Path,
    (manifest, parts): (&Manifest, &[Part]),
    by: Uuid,
    observer: &dyn Observer,
) -> Result<()> {
    let db = connect::mongodb(settings).await?;
    let place = db.place.to_string();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    marker::set(&db, "restore", &name, by).await?;
    empty(&db, &[MARKER, LOCK]).await?;
    let mut problems = Vec::new();
    let (lock, others): (Vec<&Part>, Vec<&Part>) = parts.iter().partition(|part| part.name == LOCK);
    for part in others {
        marker::require_ours(&db, by).await?;
        problems.extend(bring(&db, path, manifest, part, observer).await?);
    }
    marker::require_ours(&db, by).await?;
    structure::remove(&place, &db.database, LOCK).await?;
    for part in lock {
        problems.extend(bring(&db, path, manifest, part, observer).await?);
    }
    let found = structure::read(&place, &db.database).await?;
    let found: Vec<Part> = found.into_iter().filter(|part| part.name != MARKER).collect();
    problems.extend(structure::differences(parts, &found));
    if !problems.is_empty() {
        return Err(different(&place, &problems));
    }
    marker::require_ours(&db, by).await?;
    marker::remove(&db).await
}

/// Restores one collection or view; what differs from the backup, if anything does.
async fn bring(
    db: &MongoDb,
    path: &Path,
    manifest: &Manifest,
    part: &Part,
    observer: &dyn Observer,
) -> Result<Option<String>> {
    let place = db.place.to_string();
    structure::create(&place, &db.database, part).await?;
    let content = manifest.contents.iter().find(|content| content.name == part.name);
    let Some((content, file)) = content.and_then(|content| Some((content, content.file.as_ref()?))) else {
        return Ok(None);
    };
    observer.begin(&part.name, Some(content.rows));
    let (to, from) = mpsc::channel(AHEAD);
    let file = path.join(file);
    let reader = tokio::task::spawn_blocking(move || archive::send(&file, &to));
    let inserter = Inserter { place: &place, database: &db.database, observer };
    let written = inserter.write(&part.name, from).await;
    let read = reader.await.map_err(|_| Error::failed("reading the backup panicked"))?;
    written?;
    read?;
    observer.step(&format!("indexes of {}", part.name));
    structure::create_indexes(&place, &db.database, part).await?;
    let found = documents::tally(&place, &db.database, part).await?;
    let differs = || format!("{}: its documents differ from the backup's", part.name);
    Ok((Some(found.digest()) != content.digest).then(differs))
}

/// What was written is not what was to be written.
fn different(place: &str, problems: &[String]) -> Error {
    Error::differences(format!("{place} does not hold what it should"))
        .help(
            "see that nobody else writes there and that both servers have one version, then start again with --clean \
             (an expired document that a TTL index removed is a difference too)",
        )
        .details(problems.join("\n"))
}

/// Removes everything but some collections. Views go too; users and roles are not a database's contents.
async fn empty(db: &MongoDb, but: &[&str]) -> Result<()> {
    let place = db.place.to_string();
    let failed = |error: mongodb::error::Error| Error::mongodb(&place, &error);
    let names = db.database.list_collection_names().await.map_err(failed)?;
    let goes = |name: &&String| {
        !but.contains(&name.as_str()) && (!name.starts_with("system.") || *name == "system.js")
    };
    for name in names.iter().filter(goes) {
        structure::remove(&place, &db.database, name).await?;
    }
    Ok(())
}
