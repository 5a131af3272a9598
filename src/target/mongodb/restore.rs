//! The part of a rollback that brings back what the run had changed or removed, as far as nobody has edited it since, in the
//! reverse of the order in which it went, so that every role comes back to its place in its account's array.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use mongodb::bson::{Bson, RawDocument, RawDocumentBuf, doc};

use super::document::digest;
use super::ledger::{bson_at, conflicts_of};
use super::replaced::{How, Kept, next};
use super::rollback::finish;
use super::session::{CONFLICTS, LEDGER, REPLACED, Shared, at, id_text};
use super::shape::shapes;
use super::splice::{Value, array, with_array};
use super::step::{Step, Steps};
use super::stored::{Place, Stored};
use super::transaction::{Failure, Transaction};
use crate::error::Result;
use crate::failpoint;
use crate::plan::Plan;
use crate::target::RolledBack;

/// Brings back what went in one way. Can be called again after it was cut short.
pub async fn restore(
    steps: &mut Steps<'_>,
    shared: &Shared,
    plan: &Plan,
    (run, how): (i32, How),
    result: &mut RolledBack,
    advance: &(dyn Fn(u64) + Send + Sync),
) -> Result<()> {
    let database = &shared.connection().await?.database;
    let mut growing: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for shape in plan.entities.iter().flat_map(shapes) {
        let known = growing.entry(shape.collection.to_owned()).or_default();
        known.extend(shape.growing.iter().map(|&path| path.to_owned()));
    }
    // Removals went from the last entity to the first, changes from the first to the last.
    let mut entities: Vec<_> = plan.entities.iter().collect();
    if how != How::Removed {
        entities.reverse();
    }
    for entity in entities {
        loop {
            let found = next(database, run, how, &entity.name).await;
            let records = found.map_err(|error| shared.failed(&error))?;
            if records.is_empty() {
                break;
            }
            let step = Return { run, records: &records, entity: &entity.name, growing: &growing };
            let back = steps.take(&step).await?;
            failpoint::reach("mongodb.restored")?;
            back.restored.iter().for_each(|(collection, count)| result.restored(collection, *count));
            result.kept.extend(back.kept);
            result.lines += back.lines;
            advance(back.lines);
        }
    }
    Ok(())
}

/// Makes rows rejected again that the run had tried again, in the transaction in which their lines of that run went.
pub async fn retried(
    transaction: &mut Transaction<'_>,
    entity: &str,
    run: i32,
    lines: &[RawDocumentBuf],
) -> std::result::Result<(), Failure> {
    // They come with the last key first.
    let keys: Vec<Bson> = lines.iter().filter_map(|line| bson_at(line, "_id.k")).collect();
    let (Some(last), Some(first)) = (keys.first(), keys.last()) else { return Ok(()) };
    let of = |key: &Bson| doc! { "r": run, "h": How::Retried.letter(), "e": entity, "k": key.clone() };
    let mut end = of(last);
    end.insert("n", Bson::MaxKey);
    let filter = doc! { "_id": { "$gte": of(first), "$lte": end }, "_id.k": { "$in": keys.clone() } };
    let records = transaction.find(REPLACED, filter.clone()).await?;
    for collection in [LEDGER, CONFLICTS] {
        let kept: Vec<Kept> = records.iter().filter_map(|record| Kept::read(record)).collect();
        let of: Vec<_> = kept
            .iter()
            .filter(|kept| kept.collection == collection)
            .filter_map(|kept| Some((0, kept.id.clone(), &**kept.document.as_ref()?)))
            .collect();
        let written = transaction.replace(collection, &of).await;
        written.map_err(|failure| transaction.ours(failure))?;
    }
    transaction.delete(REPLACED, filter).await.map(drop)
}

/// What one transaction brought back.
#[derive(Debug, Default)]
struct Back {
    restored: BTreeMap<String, u64>,
    kept: Vec<(String, String)>,
    lines: u64,
}

/// Some of what is kept, last first.
struct Return<'r> {
    run: i32,
    records: &'r [RawDocumentBuf],
    entity: &'r str,
    /// By collection: the arrays that are no part of a document's digest.
    growing: &'r BTreeMap<String, BTreeSet<String>>,
}

#[async_trait]
impl Step for Return<'_> {
    type Done = Back;

    async fn take(&self, transaction: &mut Transaction<'_>) -> Result<Back, Failure> {
        let ids: Vec<Bson> = self.records.iter().filter_map(|record| bson_at(record, "_id")).collect();
        if transaction.delete(REPLACED, doc! { "_id": { "$in": ids } }).await? == 0 {
            // Taken already: the answer to its commit was lost.
            return Ok(Back::default());
        }
        let mut wanted: BTreeMap<String, Vec<Bson>> = BTreeMap::new();
        let (mut lines, mut entries, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        let mut others = Vec::new();
        for record in self.records {
            let Some(kept) = Kept::read(record) else { continue };
            match kept.collection.as_str() {
                LEDGER => {
                    keys.extend(bson_at(record, "_id.k"));
                    lines.push(kept);
                }
                CONFLICTS => entries.push(kept),
                _ => {
                    wanted.entry(kept.collection.clone()).or_default().push(kept.id.clone());
                    others.push(kept);
                }
            }
        }
        let mut stored = Stored::default();
        for (collection, ids) in wanted {
            stored.load_ids(transaction, &collection, ids).await?;
        }
        let mut back = Back { lines: lines.len() as u64, ..Back::default() };
        // Roles need their account's document: they come after those that return, and before those that go.
        others.sort_by_key(|kept| match (&kept.slot, &kept.document) {
            (None, Some(_)) => 0,
            (Some(_), _) => 1,
            (None, None) => 2,
        });
        for kept in others {
            self.bring(kept, &mut stored, &mut back);
        }
        stored.flush(transaction).await?;
        failpoint::reach("mongodb.restore.documents")?;
        if !keys.is_empty() {
            // A row whose line comes back has the conflicts that it had; others only get back the entry that was replaced.
            transaction.delete(CONFLICTS, conflicts_of(self.entity, &keys)).await?;
        }
        for (collection, of) in [(LEDGER, lines), (CONFLICTS, entries)] {
            let of: Vec<_> =
                of.iter().filter_map(|kept| Some((0, kept.id.clone(), &**kept.document.as_ref()?))).collect();
            let written = transaction.replace(collection, &of).await;
            written.map_err(|failure| transaction.ours(failure))?;
        }
        // A run that only changed and removed has no other last chunk.
        finish(transaction, self.run).await?;
        failpoint::reach("mongodb.restore.commit")?;
        Ok(back)
    }
}

impl Return<'_> {
    /// Brings one thing back, unless somebody has edited it since.
    fn bring(&self, kept: Kept, stored: &mut Stored, back: &mut Back) {
        let id = doc! { "_id": kept.id.clone() };
        let id = RawDocumentBuf::try_from(&id).ok().and_then(|id| at(&id, "_id").map(id_text));
        let place = Place { collection: kept.collection.clone(), id: id.unwrap_or_default() };
        let now = stored.now(&place).cloned();
        let (name, done) = match &kept.slot {
            None => (place.collection.clone(), self.document(&kept, &place, now.as_deref(), stored)),
            Some(slot) => {
                let name = format!("{}.{}", place.collection, slot.field);
                (name, element(&kept, &slot.field, slot.position, &place, now.as_deref(), stored))
            }
        };
        match done {
            Done::Restored => *back.restored.entry(name).or_default() += 1,
            Done::Edited => back.kept.push((name, place.id)),
            Done::Nothing => {}
        }
    }

    fn document(&self, kept: &Kept, place: &Place, now: Option<&RawDocument>, stored: &mut Stored) -> Done {
        let growing: Vec<&str> = self
            .growing
            .get(&place.collection)
            .map(|paths| paths.iter().map(String::as_str).collect())
            .unwrap_or_default();
        match (now, kept.written, &kept.document) {
            (Some(now), Some(written), before) if digest(now, &growing) == written => match before {
                Some(before) => {
                    // Roles that others have got since are not this document's to lose.
                    let before = growing
                        .iter()
                        .fold(before.clone(), |before, path| with_array(&before, path, &array(now, path)));
                    stored.put(place.clone(), before, 0);
                    Done::Restored
                }
                None if growing.iter().all(|path| array(now, path).is_empty()) => {
                    stored.remove(place.clone(), 0);
                    Done::Restored
                }
                None => Done::Edited,
            },
            (Some(_), ..) => Done::Edited,
            (None, None, Some(before)) => {
                stored.put(place.clone(), before.clone(), 0);
                Done::Restored
            }
            // Somebody has deleted it since, which is an edit, too; there is nothing to list.
            (None, ..) => Done::Nothing,
        }
    }
}

/// What became of something that was kept.
enum Done {
    Restored,
    Edited,
    Nothing,
}

fn element(
    kept: &Kept,
    path: &str,
    position: usize,
    place: &Place,
    now: Option<&RawDocument>,
    stored: &mut Stored,
) -> Done {
    let Some(now) = now else { return Done::Nothing };
    let mut items = array(now, path);
    match kept.written {
        Some(written) => {
            let is_ours = |item: &Value<'_>| item.document().is_some_and(|of| digest(of, &[]) == written);
            // Where it stood, or else wherever it stands now.
            let found = items.get(position).filter(|item| is_ours(item)).map(|_| position);
            let Some(found) = found.or_else(|| items.iter().position(is_ours)) else { return Done::Edited };
            match &kept.document {
                Some(before) => items[found] = Value::of(before),
                None => drop(items.remove(found)),
            }
        }
        None => {
            let Some(before) = &kept.document else { return Done::Nothing };
            items.insert(position.min(items.len()), Value::of(before));
        }
    }
    let changed = with_array(now, path, &items);
    stored.put(place.clone(), changed, 0);
    Done::Restored
}
