//! The conflict log of some rows: what is there, what goes and what comes, in the transaction of what it is about.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use mongodb::Database;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};

use super::ledger::{bson_at, conflicts_of, key_text, lines_of};
use super::replaced::{Kept, Owner};
use super::session::{CONFLICTS, at, raw, text_at};
use super::transaction::{Failure, Transaction};
use crate::target::REFUSED;

/// The keys of an entity's rows whose change V2 did not take. The index of `_id` answers alone.
pub async fn refused(database: &Database, entity: &str) -> mongodb::error::Result<HashSet<String>> {
    let mut filter = lines_of(entity);
    filter.insert("_id.kind", REFUSED);
    let found =
        raw(database, CONFLICTS).find(filter).projection(doc! { "_id": 1 }).batch_size(10_000).await?;
    let keys = found.try_filter_map(|entry| std::future::ready(Ok(key_text(&entry))));
    keys.try_collect().await
}

/// The entries of some rows.
#[derive(Debug, Default)]
pub struct Log {
    known: HashMap<String, Vec<RawDocumentBuf>>,
    gone: Vec<Bson>,
    new: Vec<(u32, Document)>,
}

impl Log {
    /// What is there about the rows of these ledger lines.
    pub async fn read(
        transaction: &mut Transaction<'_>,
        entity: &str,
        lines: impl Iterator<Item = &RawDocumentBuf>,
    ) -> Result<Self, Failure> {
        let keys: Vec<Bson> = lines.filter_map(|line| bson_at(line, "_id.k")).collect();
        let mut this = Self::default();
        if keys.is_empty() {
            return Ok(this);
        }
        for entry in transaction.find(CONFLICTS, conflicts_of(entity, &keys)).await? {
            this.known.entry(key_text(&entry).unwrap_or_default()).or_default().push(entry);
        }
        Ok(this)
    }

    fn of(&self, key: &Bson) -> &[RawDocumentBuf] {
        let key = match key {
            Bson::String(key) => self.known.get(key),
            key => self.known.get(&key.to_string()),
        };
        key.map(Vec::as_slice).unwrap_or_default()
    }

    /// What is there about a row, as a rollback will need it.
    pub fn kept(&self, key: &Bson) -> impl Iterator<Item = Kept> {
        self.of(key).iter().map(|entry| Kept::own(CONFLICTS, entry))
    }

    /// Everything about a row goes.
    pub fn forget(&mut self, key: &Bson) {
        let ids: Vec<Bson> = self.of(key).iter().filter_map(|entry| bson_at(entry, "_id")).collect();
        self.gone.extend(ids);
    }

    /// A new entry, about the row with this number.
    pub fn add(&mut self, row: u32, entry: Document) {
        self.new.push((row, entry));
    }

    /// A row stays as it is, and why; returns what a rollback must bring back.
    pub fn stays(&mut self, row: u32, owner: Owner<'_>, kind: &str, detail: &str) -> Vec<RawDocumentBuf> {
        let before = self.of(owner.key).iter().find(|entry| text_at(entry, "_id.kind") == Some(kind));
        let gone = before.and_then(|entry| bson_at(entry, "_id"));
        // One of this very run is what a transaction left of which nobody knew that it was committed.
        let before = before.filter(|entry| at(entry, "run").and_then(|run| run.as_i32()) != Some(owner.run));
        let before: Vec<Kept> = before.map(|entry| Kept::own(CONFLICTS, entry)).into_iter().collect();
        self.gone.extend(gone);
        let id = doc! { "e": owner.entity, "k": owner.key.clone(), "kind": kind };
        self.add(row, doc! { "_id": id, "run": owner.run, "decision": "kept", "detail": detail });
        // An entry of the log is far from being too large.
        owner.records(0, &before).unwrap_or_default()
    }

    /// Sends it.
    pub async fn write(self, transaction: &mut Transaction<'_>) -> Result<(), Failure> {
        if !self.gone.is_empty() {
            transaction.delete(CONFLICTS, doc! { "_id": { "$in": self.gone } }).await?;
        }
        transaction.conflicts(&self.new).await
    }
}
