//! Takes a run back: exactly what it made, in reverse order, and nothing that somebody has edited since.
//!
//! A ledger line holds digests of what its row wrote: eight bytes for each collection in which the entity has documents of
//! its own, in the order of its writes, then eight for each element that it added to an account's array of roles. A document
//! whose digest is still the same (the array left out) has not been touched, and goes; another one stays and is listed.
//! An account's document goes with the row that created it, once no role is left in it but that row's own; a role goes
//! from the array wherever it is found unchanged, so accounts of earlier runs lose what this run gave them and stay.
//!
//! MongoDB has no foreign keys that would refuse, so what stays keeps what it needs: a row whose document stays keeps its account,
//! and a document that others still refer to, be they the application's own, stays and is listed, too.
//!
//! Documents that the run changed or removed, because V1 had changed or lost theirs, become what they were first (`restore.rs`).
//!
//! An entity is taken back in chunks, last entity first, each chunk's documents and ledger lines in one transaction, so
//! that a rollback that was killed goes on when it is run again.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};
use mongodb::{ClientSession, Database};

use super::document::digest;
use super::hierarchy::needed_within;
use super::ledger::{bson_at, conflicts_of, digests, is_written};
use super::references::{own as collection_of, referred};
use super::replaced::How;
use super::session::{CONFLICTS, ENTITIES, LEDGER, REPLACED, RUNS, Shared, at, id_text, raw, text_at};
use super::shape::{Shape, shapes};
use super::step::{Step, Steps};
use super::stored::{By, by};
use super::transaction::{Failure, Transaction};
use super::{definition, replaced, restore, structure};
use crate::connect::MongoDb;
use crate::error::Result;
use crate::failpoint;
use crate::ledger::Outcome;
use crate::plan::{Entity, Plan};
use crate::target::{RolledBack, RunName};

/// Ledger lines in one transaction.
const CHUNK: i64 = 1_000;

/// Takes the run back. `own` is the number of the rollback's own run, which holds the lock.
pub async fn rollback(
    shared: &Shared,
    connection: &MongoDb,
    plan: &Plan,
    (own, run): (i32, RunName),
    advance: &(dyn Fn(u64) + Send + Sync),
) -> Result<RolledBack> {
    let failed = |error: mongodb::error::Error| shared.failed(&error);
    let mut result = RolledBack::of(run);
    let again = "run the same rollback again: it goes on where this one stopped";
    let mut steps = Steps::of(shared, connection, own, again).await?;
    steps.take(&Begin(run)).await?;
    // What was removed comes first: changed documents may have referred to it.
    for how in [How::Removed, How::Changed] {
        restore::restore(&mut steps, shared, plan, (run.number, how), &mut result, advance).await?;
    }
    for entity in plan.entities.iter().rev() {
        let shapes = shapes(entity);
        let mut needed = HashMap::new();
        for Shape { collection, .. } in &shapes {
            // Whatever could refer to them and is of this run has gone already.
            let ids =
                referred(&connection.database, plan, entity, collection, None, None).await.map_err(failed)?;
            needed.insert(*collection, ids);
        }
        let within = needed_within(&connection.database, plan, entity, &shapes, run.number);
        let within = within.await.map_err(failed)?;
        if let Some(ids) = collection_of(entity).and_then(|own| needed.get_mut(&*own)) {
            ids.extend(within);
        }
        let chunk = Chunk { database: &connection.database, entity, shapes, needed, run };
        // Chunks go from the last key to the first; what stays behind is not looked at twice.
        let mut below = Bson::MaxKey;
        loop {
            let lines = chunk.lines(&below).await.map_err(failed)?;
            let Some(last) = lines.last() else { break };
            below = bson_at(last, "_id.k").unwrap_or(Bson::MinKey);
            let taken = steps.take(&Lines(&chunk, &lines)).await?;
            failpoint::reach("mongodb.rollback.committed")?;
            taken.removed.iter().for_each(|(collection, count)| result.removed(collection, *count));
            result.kept.extend(taken.kept);
            result.lines += lines.len() as u64;
            advance(lines.len() as u64);
        }
    }
    // A run without lines has no last chunk.
    steps.take(&Finish(run)).await?;
    failpoint::reach("mongodb.rollback.done")?;
    Ok(result)
}

/// Before anything is taken back.
struct Begin(RunName);

#[async_trait]
impl Step for Begin {
    type Done = ();

    async fn take(&self, transaction: &mut Transaction<'_>) -> Result<(), Failure> {
        let begun =
            definition::begin_rollback(transaction.database, transaction.session, self.0.number).await;
        begun.map_err(|error| transaction.failed(&error))
    }
}

/// What remains to be done once the run's last line is gone; nothing before.
struct Finish(RunName);

#[async_trait]
impl Step for Finish {
    type Done = ();

    async fn take(&self, transaction: &mut Transaction<'_>) -> Result<(), Failure> {
        finish(transaction, self.0.number).await
    }
}

/// In the transaction of the last chunk: without any line of it, nobody would find the run again to end its rollback.
pub async fn finish(transaction: &mut Transaction<'_>, run: i32) -> Result<(), Failure> {
    let (database, session) = (transaction.database, &mut *transaction.session);
    let finished = finish_within(database, session, run).await;
    finished.map_err(|error| transaction.failed(&error))
}

async fn finish_within(database: &Database, session: &mut ClientSession, run: i32) -> Driver<()> {
    let ledger = raw(database, LEDGER);
    if ledger.find_one(doc! { "run": run }).session(&mut *session).await?.is_some() {
        return Ok(());
    }
    if raw(database, REPLACED).find_one(replaced::of_run(run)).session(&mut *session).await?.is_some() {
        return Ok(());
    }
    // What it told about rows that it left as they were.
    let conflicts = database.collection::<Document>(CONFLICTS);
    conflicts.delete_many(doc! { "run": run }).session(&mut *session).await?;
    let kept = database.collection::<Document>(REPLACED);
    kept.delete_many(replaced::rejected_by(run)).session(&mut *session).await?;
    definition::end_rollback(database, session, run).await?;
    database
        .collection::<Document>(RUNS)
        .update_one(doc! { "no": run }, doc! { "$set": { "state": "rolled_back" } })
        .session(&mut *session)
        .await?;
    // What decides about future ids is forgotten with the last line, so that V2 is as it was.
    if ledger.find_one(doc! {}).session(&mut *session).await?.is_none() {
        database.collection::<Document>(ENTITIES).delete_many(doc! {}).session(&mut *session).await?;
    }
    structure::forget(database, session).await
}

/// What one transaction took back.
#[derive(Default)]
struct Taken {
    removed: Vec<(String, u64)>,
    kept: Vec<(String, String)>,
    /// The accounts of rows whose own documents stay.
    accounts: HashSet<String>,
}

struct Chunk<'c> {
    database: &'c Database,
    entity: &'c Entity,
    shapes: Vec<Shape<'c>>,
    /// The ids of documents that other entities' documents refer to, by collection.
    needed: HashMap<&'c str, HashSet<String>>,
    run: RunName,
}

/// Ledger lines of a chunk, to be taken back with all that they made.
struct Lines<'l>(&'l Chunk<'l>, &'l [RawDocumentBuf]);

#[async_trait]
impl Step for Lines<'_> {
    type Done = Taken;

    async fn take(&self, transaction: &mut Transaction<'_>) -> Result<Taken, Failure> {
        let Self(chunk, lines) = self;
        failpoint::reach("mongodb.rollback.begun")?;
        let taken = chunk.take_back(transaction.session, lines).await;
        let taken = taken.map_err(|error| transaction.failed(&error))?;
        restore::retried(transaction, &chunk.entity.name, chunk.run.number, lines).await?;
        finish(transaction, chunk.run.number).await?;
        failpoint::reach("mongodb.rollback.commit")?;
        Ok(taken)
    }
}

type Driver<T> = mongodb::error::Result<T>;

impl Chunk<'_> {
    /// The next lines below a key, last key first.
    async fn lines(&self, below: &Bson) -> Driver<Vec<RawDocumentBuf>> {
        let entity = &*self.entity.name;
        let range = doc! {
            "_id": { "$gt": { "e": entity, "k": Bson::MinKey }, "$lt": { "e": entity, "k": below.clone() } },
            "run": self.run.number,
        };
        raw(self.database, LEDGER)
            .find(range)
            .sort(doc! { "_id": -1 })
            .limit(CHUNK)
            .await?
            .try_collect()
            .await
    }

    async fn take_back(&self, session: &mut ClientSession, lines: &[RawDocumentBuf]) -> Driver<Taken> {
        let mut taken = Taken::default();
        for (number, shape) in self.shapes.iter().enumerate().rev() {
            if shape.growing.is_empty() {
                self.take_documents(session, lines, (number, shape), &mut taken).await?;
                failpoint::reach("mongodb.rollback.documents")?;
            }
        }
        for (number, shape) in self.shapes.iter().enumerate().rev() {
            if !shape.growing.is_empty() {
                self.take_accounts(session, lines, (number, shape), &mut taken).await?;
                failpoint::reach("mongodb.rollback.accounts")?;
            }
        }
        let ids: Vec<Bson> = lines.iter().filter_map(|line| bson_at(line, "_id")).collect();
        self.delete(session, LEDGER, doc! { "_id": { "$in": ids } }).await?;
        let keys: Vec<Bson> = lines.iter().filter_map(|line| bson_at(line, "_id.k")).collect();
        self.delete(session, CONFLICTS, conflicts_of(&self.entity.name, &keys)).await?;
        Ok(taken)
    }

    /// The rows' own documents that nobody has touched.
    async fn take_documents(
        &self,
        session: &mut ClientSession,
        lines: &[RawDocumentBuf],
        (number, shape): (usize, &Shape<'_>),
        taken: &mut Taken,
    ) -> Driver<()> {
        let by = by(self.entity, shape);
        let (Some(of_line), Some(filter)) = (by.of_line(), by.filter(lines.iter())) else { return Ok(()) };
        let among = matches!(by, By::Among(..));
        // Of an account's documents it is the digest that tells which are whose.
        let owner = |id: String, digest: u64| if among { format!("{id} {digest}") } else { id };
        let expected: HashMap<String, (u64, &RawDocumentBuf)> = lines
            .iter()
            .filter(|line| is_written(line))
            .filter_map(|line| {
                Some((id_text(at(line, of_line)?), (digests(line).0.get(number).copied()?, line)))
            })
            .filter(|(_, (digest, _))| *digest != 0)
            .map(|(id, (digest, line))| (owner(id, digest), (digest, line)))
            .collect();
        let mut found: HashMap<String, Vec<RawDocumentBuf>> = HashMap::new();
        for document in self.find(session, shape.collection, filter).await? {
            let owner = owner(by.owner(&document), digest(&document, &[]));
            found.entry(owner).or_default().push(document);
        }
        let mut gone = Vec::new();
        for (owner, documents) in &found {
            let Some((expected, line)) = expected.get(owner) else { continue };
            // Of several the ledger has the sum: they go together, or stay.
            let sum = documents.iter().fold(0_u64, |sum, document| sum.wrapping_add(digest(document, &[])));
            let ids: Vec<String> =
                documents.iter().filter_map(|document| at(document, "_id").map(id_text)).collect();
            let is_needed =
                ids.iter().any(|id| self.needs(shape.collection, id) || taken.accounts.contains(id));
            if *expected == sum && !is_needed {
                gone.extend(documents.iter().filter_map(|document| bson_at(document, "_id")));
            } else {
                taken.kept.extend(ids.into_iter().map(|id| (shape.collection.to_owned(), id)));
                taken.accounts.extend(at(line, "accountId").map(id_text));
            }
        }
        let removed = self.delete(session, shape.collection, doc! { "_id": { "$in": gone } }).await?;
        taken.removed.push((shape.collection.to_owned(), removed));
        Ok(())
    }

    /// Accounts that these rows created, and the roles that they gave.
    async fn take_accounts(
        &self,
        session: &mut ClientSession,
        lines: &[RawDocumentBuf],
        (number, shape): (usize, &Shape<'_>),
        taken: &mut Taken,
    ) -> Driver<()> {
        let growing = &shape.growing;
        let mut by_account: HashMap<String, Vec<&RawDocumentBuf>> = HashMap::new();
        for line in lines.iter().filter(|line| is_written(line)) {
            if let Some(account) = at(line, "accountId") {
                by_account.entry(id_text(account)).or_default().push(line);
            }
        }
        let mut gone = Vec::new();
        let mut roles = 0;
        let filter = doc! { "_id": { "$in": values(lines, "accountId") } };
        for document in self.find(session, shape.collection, filter).await? {
            let Some(id) = at(&document, "_id") else { continue };
            let text = id_text(id);
            let Some(lines) = by_account.get(&text) else { continue };
            if taken.accounts.contains(&text) {
                taken.kept.push((shape.collection.to_owned(), text));
                continue;
            }
            let founder =
                lines.iter().find(|line| text_at(line, "outcome") == Some(Outcome::Migrated.letter()));
            let mut given: Vec<u64> = lines.iter().flat_map(|line| digests(line).1).collect();
            // Elements that are found unchanged are ours to take; others stay.
            let mut pulls = Document::new();
            let mut others = false;
            for path in growing {
                let mut ours = Vec::new();
                for element in elements(&document, path) {
                    match given.iter().position(|known| *known == digest(element, &[])) {
                        Some(at) => {
                            given.swap_remove(at);
                            ours.push(Bson::Document(Document::try_from(element)?));
                        }
                        None => others = true,
                    }
                }
                if !ours.is_empty() {
                    roles += ours.len() as u64;
                    pulls.insert(*path, ours);
                }
            }
            let untouched = founder
                .is_some_and(|line| digests(line).0.get(number).copied() == Some(digest(&document, growing)));
            if untouched && !others && given.is_empty() && !self.needs(shape.collection, &text) {
                gone.extend(bson_at(&document, "_id"));
                continue;
            }
            if founder.is_some() || !given.is_empty() {
                taken.kept.push((shape.collection.to_owned(), text));
            }
            if !pulls.is_empty() {
                self.database
                    .collection::<Document>(shape.collection)
                    .update_one(doc! { "_id": bson_at(&document, "_id") }, doc! { "$pullAll": pulls })
                    .session(&mut *session)
                    .await?;
            }
        }
        let removed = self.delete(session, shape.collection, doc! { "_id": { "$in": gone } }).await?;
        taken.removed.push((shape.collection.to_owned(), removed));
        let path = growing.first().map_or_else(String::new, |path| format!("{}.{path}", shape.collection));
        taken.removed.push((path, roles));
        Ok(())
    }

    /// Whether documents of other entities refer to this one.
    fn needs(&self, collection: &str, id: &str) -> bool {
        self.needed.get(collection).is_some_and(|ids| ids.contains(id))
    }

    async fn find(
        &self,
        session: &mut ClientSession,
        collection: &str,
        filter: Document,
    ) -> Driver<Vec<RawDocumentBuf>> {
        let collection = raw(self.database, collection);
        let mut cursor = collection.find(filter).session(&mut *session).await?;
        cursor.stream(session).try_collect().await
    }

    async fn delete(&self, session: &mut ClientSession, collection: &str, filter: Document) -> Driver<u64> {
        let collection = self.database.collection::<Document>(collection);
        Ok(collection.delete_many(filter).session(session).await?.deleted_count)
    }
}

/// A field of all lines that have it.
fn values(lines: &[RawDocumentBuf], field: &str) -> Vec<Bson> {
    lines.iter().filter_map(|line| bson_at(line, field)).collect()
}

fn elements<'d>(document: &'d RawDocument, path: &str) -> Vec<&'d RawDocument> {
    let Some(array) = at(document, path).and_then(|value| value.as_array()) else { return Vec::new() };
    array.into_iter().flatten().filter_map(|element| element.as_document()).collect()
}
