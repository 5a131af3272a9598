//! What `status` shows, in V2's own words.

use futures_util::TryStreamExt;
use mongodb::Database;
use mongodb::bson::{Bson, DateTime, Document, RawDocumentBuf, doc};

use super::session::{CONFLICTS, LEDGER, LOCK, RUNS, count_at, raw, text_at};
use crate::ledger::Outcome;
use crate::target::Overview;
use crate::validate::EntityCounts;

/// Reads it.
pub async fn read(database: &Database) -> mongodb::error::Result<Overview> {
    let counts = accounting(database, doc! {}).await?;
    let group = |id: Document| doc! { "$group": { "_id": id, "count": { "$sum": 1 } } };
    let rejected = aggregate(
        database,
        LEDGER,
        vec![
            doc! { "$match": { "outcome": Outcome::Rejected.letter() } },
            group(doc! { "entity": "$_id.e", "code": "$code" }),
            doc! { "$sort": { "_id": 1 } },
        ],
    )
    .await?;
    let conflicts = aggregate(
        database,
        CONFLICTS,
        vec![
            group(doc! { "entity": "$_id.e", "kind": "$_id.kind", "decision": "$decision" }),
            doc! { "$sort": { "_id": 1 } },
        ],
    )
    .await?;
    let text = |of: &RawDocumentBuf, path: &str| text_at(of, path).unwrap_or_default().to_owned();
    let count = |of: &RawDocumentBuf| count_at(of, "count").to_string();
    let runs = database.collection::<Document>(RUNS).find(doc! {}).sort(doc! { "no": -1 }).limit(10).await?;
    let runs: Vec<Document> = runs.try_collect().await?;
    let lock = database.collection::<Document>(LOCK).find_one(doc! { "_id": "run" }).await?;
    Ok(Overview {
        accounting: counts
            .iter()
            .map(|of| {
                let numbers = [of.migrated, of.merged, of.skipped, of.rejected, of.accounted()];
                let [migrated, merged, skipped, rejected, total] = numbers.map(|count| count.to_string());
                [of.entity.clone(), migrated, merged, skipped, rejected, total]
            })
            .collect(),
        rejected: rejected
            .iter()
            .map(|of| [text(of, "_id.entity"), text(of, "_id.code"), count(of)])
            .collect(),
        conflicts: conflicts
            .iter()
            .map(|of| [text(of, "_id.entity"), text(of, "_id.kind"), text(of, "_id.decision"), count(of)])
            .collect(),
        runs: runs.iter().map(run).collect(),
        holder: lock.as_ref().map(|lock| {
            let since = lock.get_datetime("since").map(time_text).unwrap_or_default();
            format!("{}, since {since}", lock.get_str("holder").unwrap_or("somebody"))
        }),
    })
}

/// The ledger's outcomes by entity, in the order in which the entities were migrated.
pub async fn accounting(database: &Database, lines: Document) -> mongodb::error::Result<Vec<EntityCounts>> {
    let found = aggregate(
        database,
        LEDGER,
        vec![
            doc! { "$match": lines },
            doc! { "$group": {
                "_id": { "entity": "$_id.e", "outcome": "$outcome" },
                "count": { "$sum": 1 }, "first": { "$min": "$run" },
            } },
            doc! { "$sort": { "first": 1, "_id.entity": 1 } },
        ],
    )
    .await?;
    let mut all: Vec<EntityCounts> = Vec::new();
    for group in &found {
        let entity = text_at(group, "_id.entity").unwrap_or_default();
        let at = all.iter().position(|of| of.entity == entity).unwrap_or_else(|| {
            all.push(EntityCounts { entity: entity.to_owned(), ..EntityCounts::default() });
            all.len() - 1
        });
        let count = count_at(group, "count");
        match text_at(group, "_id.outcome").and_then(Outcome::from_letter) {
            Some(Outcome::Migrated) => all[at].migrated = count,
            Some(Outcome::Merged) => all[at].merged = count,
            Some(Outcome::Skipped) => all[at].skipped = count,
            Some(Outcome::Rejected) => all[at].rejected = count,
            None => {}
        }
    }
    Ok(all)
}

async fn aggregate(
    database: &Database,
    collection: &str,
    stages: Vec<Document>,
) -> mongodb::error::Result<Vec<RawDocumentBuf>> {
    let cursor = raw(database, collection).aggregate(stages).allow_disk_use(true).await?;
    cursor.with_type::<RawDocumentBuf>().try_collect().await
}

fn run(run: &Document) -> [String; 6] {
    let text = |field: &str| run.get_str(field).unwrap_or_default().to_owned();
    let started = run.get_datetime("startedAt").ok();
    let seconds = started.zip(run.get_datetime("finishedAt").ok()).map(|(started, finished)| {
        let milliseconds = finished.timestamp_millis() - started.timestamp_millis();
        format!("{:.1}", milliseconds as f64 / 1_000.0)
    });
    [
        run.get("_id").map(uuid_text).unwrap_or_default(),
        text("command"),
        text("state"),
        started.map(|time| time_text(time).trim_end_matches(" UTC").to_owned()).unwrap_or_default(),
        seconds.unwrap_or_default(),
        text("error"),
    ]
}

/// A uuid as text.
pub fn uuid_text(id: &Bson) -> String {
    match id {
        Bson::Binary(binary) => {
            uuid::Uuid::from_slice(&binary.bytes).map(|id| id.to_string()).unwrap_or_default()
        }
        _ => String::new(),
    }
}

/// A time for people, in UTC.
pub fn time_text(time: &DateTime) -> String {
    jiff::Timestamp::from_millisecond(time.timestamp_millis())
        .map(|time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
        .unwrap_or_default()
}
