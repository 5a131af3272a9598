//! Brings rows of V2 up to date whose rows of V1 have changed since they were migrated, in one transaction for each part of a
//! chunk, like new rows.
//!
//! Each document stays the document it was: it is found by its `_id` and gets the fields that a new one would have, in their
//! order; a role is found in its account's array by its digest, or else by its id, and stays where it stands. What somebody
//! has edited since is left alone, unless told otherwise; the row's other documents are updated all the same. What was
//! there is kept first (`replaced.rs`).
//!
//! Everything is worked out in memory from what the transaction read, row by row, and sent at the end: a row that does not
//! fit leaves nothing of itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};

use super::change::{Change, Fresh};
use super::conflicts::Log;
use super::document::{Documents, assemble};
use super::ledger::{LineShape, bson_at, encode, key_text, line_id, shape};
use super::replaced::{How, Kept, Owner};
use super::session::{LEDGER, REPLACED, at, id_text};
use super::shape::shapes;
use super::stored::Stored;
use super::transaction::{Failure, Transaction};
use crate::error::Error;
use crate::failpoint;
use crate::ledger::Reject;
use crate::migrator::Note;
use crate::plan::Plan;
use crate::settings::OnEdited;
use crate::target::{ACCOUNT_CHANGED, Batch, EDITED, REFUSED};

impl Transaction<'_> {
    /// Brings a part of a chunk up to date; commit is not its own. Rows that cannot be are rejected in the batch. Returns what
    /// became of the documents, and in a dry run those of rows that it would have brought before.
    pub async fn update(
        &mut self,
        plan: &Plan,
        batch: &mut Batch,
        part: &Range<u32>,
    ) -> Result<(Stored, Option<Documents>), Failure> {
        let entity = &plan.entities[batch.entity];
        let update = batch.update.clone().unwrap_or_default();
        let line_shape = shape(plan, entity);
        let lines = self.lines(batch, part, &line_shape).await?;
        for (&row, line) in lines.iter().filter(|(row, _)| !batch.is_rejected(**row)).collect::<Vec<_>>() {
            if batch.lines[row as usize].account_id != at(line, "accountId").map(id_text) {
                batch.reject(row, Reject::new("account-changed", ACCOUNT_CHANGED));
            }
        }
        let documents = assemble(batch, entity, |row| lines.contains_key(&row));
        let shapes = shapes(entity);
        let fresh = Fresh::of(&documents, &shapes);
        let mut stored = Stored::default();
        for shape in &shapes {
            let open = lines.iter().filter(|(row, _)| !batch.is_rejected(**row)).map(|(_, line)| line);
            stored.load(self, entity, shape, open).await?;
        }
        failpoint::reach("mongodb.update.read")?;
        let mut log = Log::read(self, &batch.name, lines.values()).await?;
        // The chunk may be tried more than once.
        batch.records.notes.retain(|note| !lines.contains_key(&note.row) || note.kind != EDITED);
        let (mut kept, mut new_lines) = (Vec::new(), Vec::new());
        for (&row, line) in &lines {
            let key = bson_at(line, "_id.k").unwrap_or(Bson::Null);
            let owner = Owner { run: self.run, how: How::Changed, entity: &entity.name, key: &key };
            if !batch.is_rejected(row) {
                let keeps = update.keeps.get(row as usize).copied().unwrap_or_default();
                let mut change = Change::new(row, line, entity, &shapes, &update, keeps);
                let savepoint = stored.savepoint();
                let changed = change.apply(&fresh, &mut stored).and_then(|()| {
                    change.kept.push(Kept::own(LEDGER, line));
                    change.kept.extend(log.kept(&key));
                    owner.records(0, &change.kept)
                });
                match changed {
                    Ok(records) => {
                        kept.extend(records.into_iter().map(|record| (row, record)));
                        let digests = encode(&change.digests, &change.elements);
                        let new = line_shape.document(self.run, &batch.lines[row as usize], &digests, None);
                        let new =
                            new.map_err(|_| Failure::Fatal(Error::failed("a ledger line is no BSON")))?;
                        new_lines.push((row, bson_at(line, "_id").unwrap_or(Bson::Null), new));
                        log.forget(&key);
                        note(batch, row, &change.edited, update.on_edited);
                        continue;
                    }
                    Err(reject) => {
                        stored.undo(savepoint);
                        batch.reject(row, reject);
                    }
                }
            }
            let detail = batch.lines[row as usize].reject.as_ref();
            let detail = detail.map(|reject| format!("{}: {}", reject.code, reject.reason));
            let records = log.stays(row, owner, REFUSED, &detail.unwrap_or_default());
            kept.extend(records.into_iter().map(|record| (row, record)));
        }
        for note in batch.records.notes.iter().filter(|note| lines.contains_key(&note.row)) {
            log.add(note.row, line_shape.conflict(self.run, &batch.lines[note.row as usize].key, note));
        }
        let kept: Vec<_> = kept.iter().map(|(row, record)| (*row, &**record)).collect();
        self.insert(REPLACED, &kept).await?;
        failpoint::reach("mongodb.update.kept")?;
        stored.flush(self).await?;
        // They have no lines, so they come whole.
        let pretended = (!self.real)
            .then(|| assemble(batch, entity, |row| part.contains(&row) && !lines.contains_key(&row)));
        if let Some(pretended) = &pretended {
            self.records(pretended).await?;
        }
        failpoint::reach("mongodb.update.documents")?;
        let new_lines: Vec<_> = new_lines.iter().map(|(row, id, line)| (*row, id.clone(), &**line)).collect();
        let written = self.replace(LEDGER, &new_lines).await;
        written.map_err(|failure| self.ours(failure))?;
        failpoint::reach("mongodb.update.ledger")?;
        log.write(self).await?;
        Ok((stored, pretended))
    }

    /// The ledger's lines of a part of a chunk, by row.
    pub async fn lines(
        &mut self,
        batch: &Batch,
        part: &Range<u32>,
        shape: &LineShape,
    ) -> Result<BTreeMap<u32, RawDocumentBuf>, Failure> {
        let keys = part.clone().map(|row| (batch.lines[row as usize].key.as_str(), row));
        let rows: HashMap<&str, u32> = keys.collect();
        let ids: Vec<Document> = rows.keys().map(|of| line_id(&batch.name, shape.key, of)).collect();
        let found = self.find(LEDGER, doc! { "_id": { "$in": ids } }).await?;
        let row = |line: RawDocumentBuf| Some((*rows.get(&*key_text(&line)?)?, line));
        Ok(found.into_iter().filter_map(row).collect())
    }
}

/// Tells what was found about edited documents.
fn note(batch: &mut Batch, row: u32, edited: &BTreeSet<String>, on_edited: OnEdited) {
    if edited.is_empty() {
        return;
    }
    let decision = if on_edited == OnEdited::Overwrite { "overwritten" } else { "kept" };
    let detail = edited.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    batch.records.notes.push(Note {
        row,
        kind: EDITED.to_owned(),
        decision: decision.to_owned(),
        other: None,
        detail: Some(detail),
    });
}
