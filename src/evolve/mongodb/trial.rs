//! `--dry-run`: what each step would find if it were done now. Nothing is written. A step that builds on an earlier one is
//! counted as things are, which the output says.

use futures_util::TryStreamExt;
use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};

use super::bookkeeping::Driver;
use super::work::explained;
use crate::error::Result;
use crate::evolve::steps::{Doomed, Step};
use crate::evolve::{Job, Work};

pub(super) async fn attempt(database: &Database, jobs: &[Job<'_>], place: &str) -> Result<Vec<Vec<String>>> {
    let mut told = Vec::new();
    for job in jobs {
        let Some(script) = job.script else {
            told.push(vec!["would only be noted as taken back".to_owned()]);
            continue;
        };
        let Work::Steps(steps) = &script.work else { continue };
        let mut lines = Vec::new();
        for (index, step) in steps.iter().enumerate().skip(job.done()) {
            let found = look(database, step).await.map_err(|error| explained(place, &error))?;
            lines.push(format!("step {}: {}: {found}", index + 1, step.title()));
        }
        told.push(lines);
    }
    Ok(told)
}

async fn look(database: &Database, step: &Step) -> Driver<String> {
    Ok(match step {
        Step::Command(command) => command.to_string(),
        Step::Update { collection, filter, pipeline, .. } => {
            let all = database.collection::<Document>(collection);
            let count = all.count_documents(filter.clone()).await?;
            // A pipeline that the server does not understand is found here and not after half of the work. The stages of an
            // update are stages of an aggregation, too.
            if let Some(first) = all.find_one(filter.clone()).await? {
                let mut stages = vec![doc! { "$match": { "_id": first.get("_id") } }];
                stages.extend(pipeline.iter().cloned());
                all.aggregate(stages).await?.try_collect::<Vec<Document>>().await?;
            }
            format!("{count} documents match now")
        }
        Step::Aggregate { collection, pipeline, .. } => {
            let mut stages = pipeline.clone();
            stages.pop();
            stages.push(doc! { "$count": "count" });
            let all = database.collection::<Document>(collection);
            let found: Vec<Document> =
                all.aggregate(stages).allow_disk_use(true).await?.try_collect().await?;
            let count = found.first().and_then(|found| found.get("count").cloned()).unwrap_or(Bson::Int32(0));
            format!("{count} documents would be written now")
        }
        Step::Delete { collection, which, .. } => {
            let count = match which {
                Doomed::Matching(filter) => {
                    database.collection::<Document>(collection).count_documents(filter.clone()).await?
                }
                Doomed::ListedIn(list) => {
                    database.collection::<Document>(list).count_documents(doc! {}).await?
                }
            };
            format!("{count} documents would go now")
        }
    })
}
