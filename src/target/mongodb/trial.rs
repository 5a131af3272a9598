//! A dry run's V2: each chunk is written in a transaction that is then aborted. The server checks it against all its
//! validators and indexes, and nothing of it is ever seen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use mongodb::bson::{Bson, Document};

use super::document::assemble;
use super::foreseen::Foreseen;
use super::plain::Plain;
use super::prune;
use super::session::Shared;
use super::step::Steps;
use super::writer::{Ending, Writer};
use crate::error::Result;
use crate::plan::Plan;
use crate::settings::OnEdited;
use crate::target::{self, Batch, Pruned, SAMPLES, Writer as _};

/// Writes chunks that are taken back at once.
pub struct Trial {
    shared: Arc<Shared>,
    writer: Writer,
    plan: Arc<Plan>,
    /// The first documents of each collection.
    samples: BTreeMap<String, Vec<String>>,
}

impl Trial {
    /// A dry run.
    pub fn new(shared: Arc<Shared>, plan: Arc<Plan>, with_rows: bool) -> Self {
        let mut writer = Writer::new(shared.clone(), plan.clone(), 0, Ending::Abort);
        // Where nothing is there, nothing can go.
        writer.foreseen = with_rows.then(Foreseen::default);
        Self { shared, writer, plan, samples: BTreeMap::new() }
    }

    /// Keeps the first documents, with passwords masked.
    fn keep_samples(&mut self, batch: &mut Batch) {
        let plan = self.plan.clone();
        let entity = &plan.entities[batch.entity];
        let password = plan.accounts.as_ref().and_then(|accounts| accounts.password_column.as_deref());
        let enough = |samples: Option<&Vec<String>>| samples.is_some_and(|of| of.len() >= SAMPLES as usize);
        if entity.writes.iter().all(|write| enough(self.samples.get(&write.table.name))) {
            return;
        }
        let mut left = 4 * SAMPLES;
        let documents = assemble(batch, entity, |_| {
            left = left.saturating_sub(1);
            left > 0
        });
        for inserts in documents.inserts {
            let samples = self.samples.entry(inserts.collection.clone()).or_default();
            for insert in inserts.iter() {
                if samples.len() >= SAMPLES as usize {
                    break;
                }
                let Ok(mut document) = Document::try_from(insert.document) else { continue };
                if let Some(password) = password {
                    mask(&mut document, password);
                }
                samples.extend(serde_json::to_string(&Plain(&Bson::Document(document))).ok());
            }
        }
    }
}

fn mask(document: &mut Document, path: &str) {
    match path.split_once('.') {
        Some((first, rest)) => {
            if let Ok(inner) = document.get_document_mut(first) {
                mask(inner, rest);
            }
        }
        None => {
            if let Some(value) = document.get_mut(path) {
                *value = Bson::String("***".to_owned());
            }
        }
    }
}

#[async_trait]
impl target::Trial for Trial {
    async fn commit(&mut self, batch: &mut Batch) -> Result<()> {
        self.writer.commit(batch).await?;
        if batch.update.is_none() {
            self.keep_samples(batch);
        }
        Ok(())
    }

    async fn prune(&mut self, gone: &[(usize, &[String])], on_edited: OnEdited) -> Result<Vec<Pruned>> {
        let foreseen = Mutex::new(self.writer.foreseen.take().unwrap_or_default());
        let connection = self.shared.connection().await?;
        let mut steps = Steps::reading(&self.shared, connection).await?;
        let plan = &self.plan;
        let pruned = prune::prune(&mut steps, &self.shared, plan, gone, on_edited, Some(&foreseen)).await;
        self.writer.foreseen = Some(foreseen.into_inner().unwrap_or_else(PoisonError::into_inner));
        pruned
    }

    async fn samples(&mut self, entities: &[usize]) -> Result<Vec<(String, Vec<String>)>> {
        let mut found = Vec::new();
        for write in entities.iter().flat_map(|&index| &self.plan.entities[index].writes) {
            if let Some(samples) = self.samples.remove(&write.table.name) {
                found.push((write.table.name.clone(), samples));
            }
        }
        Ok(found)
    }

    async fn end(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
