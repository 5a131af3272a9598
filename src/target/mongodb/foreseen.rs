//! What a dry run remembers of what it has aborted, because what comes later depends on it: which documents would be other ones
//! by then, or gone, and what they would refer to; who uses an account; which lines the ledger would have no more.
//!
//! Mostly hashes, some bytes for each row that is new, has changed, or is gone.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mongodb::bson::{RawDocument, RawDocumentBuf};
use xxhash_rust::xxh3::Xxh3;

use super::document::Documents;
use super::ledger::key_text;
use super::references::{each_at, references};
use super::session::{id_text, text_at};
use super::stored::{Place, Stored};
use crate::plan::{Entity, Plan, When};

/// What a removal knows of what comes before it; a run needs nothing of the kind.
pub type Ahead<'f> = Option<&'f Mutex<Foreseen>>;

/// Looks at it.
pub fn look(ahead: Ahead<'_>) -> Option<MutexGuard<'_, Foreseen>> {
    ahead.map(|of| of.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What would be there.
#[derive(Debug, Default)]
pub struct Foreseen {
    /// Documents that would not be what they are.
    others: HashSet<u64>,
    /// Documents that these would refer to.
    referred: HashSet<u64>,
    /// Accounts of new rows.
    accounts: HashSet<String>,
    /// The ledger's lines that would be gone.
    lines: HashSet<u64>,
    /// Accounts without the roles that would be gone.
    without: BTreeMap<Place, RawDocumentBuf>,
}

fn hash(of: &str, id: &str) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(of.as_bytes());
    hasher.update(&[0]);
    hasher.update(id.as_bytes());
    hasher.digest()
}

impl Foreseen {
    /// New rows, with the ids of their accounts.
    pub fn new_rows<'a>(
        &mut self,
        plan: &Plan,
        entity: &Entity,
        documents: &Documents,
        accounts: impl Iterator<Item = &'a str>,
    ) {
        for inserts in &documents.inserts {
            for insert in inserts.iter() {
                self.refers(plan, entity, &inserts.collection, insert.document);
            }
        }
        self.accounts.extend(accounts.map(str::to_owned));
    }

    /// Documents that were changed.
    pub fn changed(&mut self, plan: &Plan, entity: &Entity, stored: &Stored) {
        for (place, now) in stored.changed() {
            self.others.insert(hash(&place.collection, &place.id));
            if let Some(now) = now {
                self.refers(plan, entity, &place.collection, now);
            }
        }
    }

    /// Documents and lines of rows that were removed. What is left of an account is one without their roles.
    pub fn removed<'l>(&mut self, stored: &Stored, lines: impl Iterator<Item = &'l RawDocumentBuf>) {
        for (place, now) in stored.changed() {
            match now {
                Some(now) => drop(self.without.insert(place.clone(), now.clone())),
                None => drop(self.others.insert(hash(&place.collection, &place.id))),
            }
        }
        for line in lines {
            self.lines.extend(line_hash(line));
        }
    }

    fn refers(&mut self, plan: &Plan, entity: &Entity, collection: &str, document: &RawDocument) {
        let own = |when: When| matches!(when, When::Row | When::Each(_));
        for write in entity.writes.iter().filter(|write| own(write.when) && write.table.name == collection) {
            for reference in references(plan, entity, write) {
                each_at(document, &reference.path, &mut |id| {
                    self.referred.insert(hash(&reference.collection, &id_text(id)));
                });
            }
        }
    }

    /// Whether what V2 has of a document counts no more.
    pub fn is_other(&self, collection: &str, id: &str) -> bool {
        self.others.contains(&hash(collection, id))
    }

    /// Whether a document would refer to this one that does not yet.
    pub fn is_referred_to(&self, collection: &str, id: &str) -> bool {
        self.referred.contains(&hash(collection, id))
    }

    /// Whether a new row would use an account.
    pub fn uses(&self, account: &str) -> bool {
        self.accounts.contains(account)
    }

    /// Whether a line of the ledger would be gone.
    pub fn has_removed(&self, line: &RawDocument) -> bool {
        !self.lines.is_empty() && line_hash(line).is_some_and(|hash| self.lines.contains(&hash))
    }

    /// What is left of an account.
    pub fn without(&self) -> &BTreeMap<Place, RawDocumentBuf> {
        &self.without
    }
}

fn line_hash(line: &RawDocument) -> Option<u64> {
    Some(hash(text_at(line, "_id.e")?, &key_text(line)?))
}
