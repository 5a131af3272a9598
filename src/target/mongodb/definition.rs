//! Keeps by which definition an entity's rows are in V2 (`target/definition.rs`).

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use mongodb::{ClientSession, Database};

use super::session::{ENTITIES, META};
use crate::target::definition::{Applied, HISTORY, History, SEVERAL, fact};

type Driver<T> = mongodb::error::Result<T>;

/// From now on the entity's rows are in V2 by this definition. The run that applied it remembers which one was before, and
/// does so first: a program that is killed in between is to say the same again.
pub async fn keep(database: &Database, run: i32, entity: &str, now: &Applied) -> Driver<()> {
    let (entities, meta) = (database.collection::<Document>(ENTITIES), database.collection::<Document>(META));
    let known = entities.find_one(doc! { "_id": entity }).await?;
    let hash = known.as_ref().and_then(|known| known.get_str("definitionHash").ok());
    if let Some(hash) = hash
        && hash != now.hash
    {
        let parts = value(meta.find_one(doc! { "_id": fact(entity) }).await?);
        let key = doc! { "_id": format!("{HISTORY}{entity}") };
        let mut history = History::parse(value(meta.find_one(key.clone()).await?).as_deref());
        history.replace(run, Applied { hash: hash.to_owned(), parts });
        meta.update_one(key, doc! { "$set": { "value": history.text() } }).upsert(true).await?;
    }
    let parts = doc! { "$set": { "value": &now.parts } };
    meta.update_one(doc! { "_id": fact(entity) }, parts).upsert(true).await?;
    let hash = doc! { "$set": { "definitionHash": &now.hash } };
    entities.update_one(doc! { "_id": entity }, hash).await.map(drop)
}

/// A rollback begins: rows that the run wrote by its definition, and rows as they were before, stand side by side.
pub async fn begin_rollback(database: &Database, session: &mut ClientSession, run: i32) -> Driver<()> {
    for (entity, _) in of_run(database, session, run).await? {
        set(database, session, &entity, SEVERAL).await?;
    }
    Ok(())
}

/// The run is taken back.
pub async fn end_rollback(database: &Database, session: &mut ClientSession, run: i32) -> Driver<()> {
    for (entity, mut history) in of_run(database, session, run).await? {
        let Some(now) = history.take_back(run) else { continue };
        let key = format!("{HISTORY}{entity}");
        set_fact(database, session, &key, history.text()).await?;
        set_fact(database, session, &fact(&entity), now.parts).await?;
        set(database, session, &entity, &now.hash).await?;
    }
    Ok(())
}

/// The entities whose definition the run has replaced.
async fn of_run(
    database: &Database,
    session: &mut ClientSession,
    run: i32,
) -> Driver<Vec<(String, History)>> {
    let all = doc! { "_id": { "$regex": format!("^{HISTORY}") } };
    let mut all = database.collection::<Document>(META).find(all).session(&mut *session).await?;
    let all: Vec<Document> = all.stream(session).try_collect().await?;
    let of = |fact: Document| {
        let entity = fact.get_str("_id").ok()?.strip_prefix(HISTORY)?.to_owned();
        Some((entity, History::parse(value(Some(fact)).as_deref())))
    };
    Ok(all.into_iter().filter_map(of).filter(|(_, history)| history.holds(run)).collect())
}

async fn set(database: &Database, session: &mut ClientSession, entity: &str, hash: &str) -> Driver<()> {
    let hash = doc! { "$set": { "definitionHash": hash } };
    let entities = database.collection::<Document>(ENTITIES);
    entities.update_one(doc! { "_id": entity }, hash).session(session).await.map(drop)
}

async fn set_fact(
    database: &Database,
    session: &mut ClientSession,
    key: &str,
    value: Option<String>,
) -> Driver<()> {
    let (meta, key) = (database.collection::<Document>(META), doc! { "_id": key });
    match value {
        Some(value) => {
            let value = doc! { "$set": { "value": value } };
            meta.update_one(key, value).upsert(true).session(session).await.map(drop)
        }
        None => meta.delete_one(key).session(session).await.map(drop),
    }
}

fn value(fact: Option<Document>) -> Option<String> {
    fact?.get_str("value").ok().map(str::to_owned)
}
