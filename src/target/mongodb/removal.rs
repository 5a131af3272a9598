//! One transaction of a removal (`prune.rs`): which of its rows can go, and what goes with each of them.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};

use super::conflicts::Log;
use super::document::digest;
use super::foreseen::{Ahead, look};
use super::ledger::{bson_at, digests, is_written, key_text, line_id};
use super::replaced::{How, Kept, Owner, Slot};
use super::session::{LEDGER, REPLACED, at, id_text, text_at};
use super::shape::Shape;
use super::splice::{array, with_array};
use super::step::Step;
use super::stored::{By, Place, Stored, by};
use super::transaction::{Failure, Transaction};
use crate::error::Error;
use crate::failpoint;
use crate::ledger::{Outcome, Reject};
use crate::plan::Entity;
use crate::settings::OnEdited;
use crate::target::{EDITED, Pruned, REFUSED};

/// Why a row stays.
const EDITED_HERE: &str = "somebody has edited it in V2, and V1 no longer has it";
const REFERRED_TO: &str = "other documents of V2 refer to it, and V1 no longer has it";
const OTHER_ROLES: &str = "its account has other roles in V2, and V1 no longer has it";

/// Rows of one entity that are to go.
pub struct Removal<'r> {
    /// Which of the removal's entities it is.
    pub part: usize,
    pub entity: &'r Entity,
    pub shapes: &'r [Shape<'r>],
    pub keys: &'r [&'r str],
    /// Those that are known to stay.
    pub staying: &'r HashSet<String>,
    /// The ids of documents that others refer to, by collection.
    pub needed: &'r HashMap<&'r str, HashSet<String>>,
    /// Accounts that other rows use.
    pub shared: &'r HashSet<String>,
    pub on_edited: OnEdited,
}

/// What goes in one transaction.
pub struct Together<'t> {
    /// In the order in which they go.
    pub removals: Vec<Removal<'t>>,
    /// Whether it only finds out who has to stay.
    pub asks: bool,
    /// Whether nothing goes if somebody has to stay of whom nobody knew: others may have relied on their going.
    pub relies: bool,
    /// A dry run's: what it has aborted before.
    pub foreseen: Ahead<'t>,
}

/// What became of the rows of one entity.
#[derive(Debug, Default)]
pub struct Removed {
    /// See [`Removal::part`].
    pub part: usize,
    /// Empty if nothing went.
    pub pruned: Pruned,
    /// The keys of rows that stay.
    pub staying: Vec<String>,
}

/// The result of one transaction.
#[derive(Debug, Default)]
pub struct Done {
    /// Whether anything was written.
    pub written: bool,
    pub removed: Vec<Removed>,
}

/// Why a row stays.
enum Stays {
    Edited,
    Refused(String),
}

impl From<Reject> for Stays {
    fn from(reject: Reject) -> Self {
        Self::Refused(format!("{}: {}", reject.code, reject.reason))
    }
}

#[async_trait]
impl Step for Together<'_> {
    type Done = Done;

    async fn take(&self, transaction: &mut Transaction<'_>) -> Result<Done, Failure> {
        let mut done = Done::default();
        let mut stored = Stored::default();
        let (mut records, mut gone, mut logs, mut all) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut left = Vec::new();
        // All are read before any goes: an account may be that of rows of several entities.
        let mut lines = Vec::new();
        for removal in &self.removals {
            lines.push(removal.load(transaction, &mut stored).await?);
        }
        if let Some(foreseen) = look(self.foreseen) {
            stored.assume(foreseen.without());
        }
        let mut rows = 0..;
        let mut surprise = false;
        for (removal, lines) in self.removals.iter().zip(&lines) {
            let entity = removal.entity;
            let mut log = Log::read(transaction, &entity.name, lines.iter()).await?;
            let mut of = Removed { part: removal.part, ..Removed::default() };
            for (line, row) in lines.iter().zip(&mut rows) {
                let key = bson_at(line, "_id.k").unwrap_or(Bson::Null);
                let owner =
                    Owner { run: transaction.run, how: How::Removed, entity: &entity.name, key: &key };
                let savepoint = stored.savepoint();
                let mut kept = Vec::new();
                let removed = removal.remove(row, line, &mut stored, &mut kept).and_then(|()| {
                    kept.push(Kept::own(LEDGER, line));
                    kept.extend(log.kept(&key));
                    // Whether it can be kept.
                    Ok(owner.records(0, &kept).map(drop)?)
                });
                match removed {
                    Ok(()) => {
                        gone.extend(bson_at(line, "_id"));
                        left.push(line);
                        log.forget(&key);
                        of.pruned.removed += 1;
                        all.push((&*entity.name, key, kept));
                    }
                    Err(stays) => {
                        stored.undo(savepoint);
                        let (kind, why) = match &stays {
                            Stays::Edited => (EDITED, EDITED_HERE),
                            Stays::Refused(why) => (REFUSED, why.as_str()),
                        };
                        records.extend(log.stays(row, owner, kind, why));
                        of.pruned.edited += u64::from(kind == EDITED);
                        of.pruned.refused += u64::from(kind == REFUSED);
                        let key = key_text(line).unwrap_or_default();
                        surprise |= !removal.staying.contains(&key);
                        of.staying.push(key);
                    }
                }
            }
            done.removed.push(of);
            logs.push(log);
        }
        if self.asks || (self.relies && surprise) {
            return Ok(done);
        }
        with_their_accounts(&mut all);
        for (entity, key, kept) in &all {
            let owner = Owner { run: transaction.run, how: How::Removed, entity, key };
            let of = owner.records(0, kept);
            records.extend(of.map_err(|reject| Failure::Fatal(Error::failed(reject.reason)))?);
        }
        let records: Vec<_> = records.iter().map(|record| (0, &**record)).collect();
        transaction.insert(REPLACED, &records).await?;
        failpoint::reach("mongodb.prune.kept")?;
        stored.flush(transaction).await?;
        failpoint::reach("mongodb.prune.documents")?;
        transaction.delete(LEDGER, doc! { "_id": { "$in": gone } }).await?;
        for log in logs {
            log.write(transaction).await?;
        }
        failpoint::reach("mongodb.prune.commit")?;
        if let Some(mut foreseen) = look(self.foreseen) {
            foreseen.removed(&stored, left.into_iter());
        }
        done.written = true;
        Ok(done)
    }
}

/// Hands the roles that went from an account which went itself in the end to the row that took it: a rollback brings back all that is kept
/// for a row at once, and cannot bring back a role before its account.
fn with_their_accounts(all: &mut [(&str, Bson, Vec<Kept>)]) {
    if all.iter().flat_map(|(.., kept)| kept).all(|kept| kept.slot.is_none()) {
        return;
    }
    let name = |kept: &Kept| (kept.collection.clone(), kept.id.to_string());
    let whole = all.iter().enumerate().flat_map(|(row, (.., kept))| kept.iter().map(move |kept| (row, kept)));
    let whole = whole.filter(|(_, kept)| kept.slot.is_none());
    let takes: HashMap<_, usize> = whole.map(|(row, kept)| (name(kept), row)).collect();
    for row in 0..all.len() {
        let taken = |kept: &mut Kept| kept.slot.is_some() && takes.contains_key(&name(kept));
        let roles: Vec<Kept> = all[row].2.extract_if(.., taken).collect();
        for role in roles {
            // In the order in which they went.
            if let Some(&founder) = takes.get(&name(&role)) {
                all[founder].2.push(role);
            }
        }
    }
}

impl Removal<'_> {
    /// The ledger's lines, in the order in which they go; and all that they made.
    async fn load(
        &self,
        transaction: &mut Transaction<'_>,
        stored: &mut Stored,
    ) -> Result<Vec<RawDocumentBuf>, Failure> {
        let (entity, kind) = (self.entity, self.entity.source.key_kind);
        let ids: Vec<Document> = self.keys.iter().map(|of| line_id(&entity.name, kind, of)).collect();
        let mut lines = transaction.find(LEDGER, doc! { "_id": { "$in": ids } }).await?;
        // In the order of the keys, but a row with which its account goes after those that joined it.
        let number: HashMap<&str, usize> =
            self.keys.iter().enumerate().map(|(number, key)| (*key, number)).collect();
        lines.sort_by_key(|line| {
            let last = self.takes_account(line).is_some();
            (last, key_text(line).and_then(|key| number.get(key.as_str()).copied()))
        });
        for shape in self.shapes {
            stored.load(transaction, entity, shape, lines.iter()).await?;
        }
        Ok(lines)
    }

    /// The account that goes with a row: it created it, and no row that stays uses it.
    fn takes_account(&self, line: &RawDocumentBuf) -> Option<String> {
        let created = text_at(line, "outcome") == Some(Outcome::Migrated.letter());
        at(line, "accountId").map(id_text).filter(|id| created && !self.shared.contains(id))
    }

    /// Removes what a row has, or says why it stays.
    fn remove(
        &self,
        row: u32,
        line: &RawDocumentBuf,
        stored: &mut Stored,
        kept: &mut Vec<Kept>,
    ) -> Result<(), Stays> {
        if !is_written(line) {
            return Ok(());
        }
        let (known, roles) = digests(line);
        // The account comes last: it was written first.
        for shape in self.shapes.iter().rev() {
            match by(self.entity, shape) {
                By::Id("accountId") => self.account((row, line), shape, (&known, &roles), stored, kept)?,
                By::Id(field) => {
                    let Some(id) = at(line, field).map(id_text) else { continue };
                    let place = Place { collection: shape.collection.to_owned(), id };
                    let edited = |now: &RawDocumentBuf| !known.contains(&digest(now, &[]));
                    self.document(row, shape, place, edited, stored, kept)?;
                }
                By::Field(..) => {
                    let owner = at(line, "targetId").map(id_text).unwrap_or_default();
                    let places = stored.several(shape.collection, &owner).to_vec();
                    let all = places.iter().filter_map(|place| stored.now(place));
                    let sum = all.fold(0_u64, |sum, document| sum.wrapping_add(digest(document, &[])));
                    let edited = !known.contains(&sum);
                    for place in places {
                        self.document(row, shape, place, |_| edited, stored, kept)?;
                    }
                }
                By::Among(..) => {
                    // As a role in an account: one that was edited cannot be told from those of others, and stays.
                    let owner = at(line, "accountId").map(id_text).unwrap_or_default();
                    for place in stored.several(shape.collection, &owner).to_vec() {
                        if stored.now(&place).is_some_and(|now| known.contains(&digest(now, &[]))) {
                            self.document(row, shape, place, |_| false, stored, kept)?;
                        }
                    }
                }
                By::Nothing => {}
            }
        }
        Ok(())
    }

    /// A document that is the row's own.
    fn document(
        &self,
        row: u32,
        shape: &Shape<'_>,
        place: Place,
        edited: impl Fn(&RawDocumentBuf) -> bool,
        stored: &mut Stored,
        kept: &mut Vec<Kept>,
    ) -> Result<(), Stays> {
        let Some(now) = stored.now(&place) else { return Ok(()) };
        if self.on_edited == OnEdited::Keep && edited(now) {
            return Err(Stays::Edited);
        }
        if self.needed.get(shape.collection).is_some_and(|ids| ids.contains(&place.id)) {
            return Err(Stays::Refused(REFERRED_TO.to_owned()));
        }
        kept.push(Kept::own(shape.collection, now));
        stored.remove(place, row);
        Ok(())
    }

    /// The row's roles in its account, and the account itself if the row created it and no other uses it.
    fn account(
        &self,
        (row, line): (u32, &RawDocumentBuf),
        shape: &Shape<'_>,
        (known, roles): (&[u64], &[u64]),
        stored: &mut Stored,
        kept: &mut Vec<Kept>,
    ) -> Result<(), Stays> {
        let Some(id) = at(line, "accountId").map(id_text) else { return Ok(()) };
        let place = Place { collection: shape.collection.to_owned(), id };
        let Some(whole) = stored.now(&place).cloned() else { return Ok(()) };
        let goes = self.takes_account(line).is_some();
        let mut without = whole.clone();
        let mut open: Vec<u64> = roles.to_vec();
        let mut others = 0;
        for path in &shape.growing {
            let mut items = array(&whole, path);
            let mut position = 0;
            while position < items.len() {
                let of = items[position].document().map(|of| digest(of, &[]));
                let ours = of.and_then(|of| open.iter().position(|known| *known == of));
                let Some(ours) = ours else {
                    position += 1;
                    continue;
                };
                open.swap_remove(ours);
                let document = items.remove(position).document().map(ToOwned::to_owned);
                if !goes {
                    let slot = Some(Slot { field: (*path).to_owned(), position });
                    let id = bson_at(line, "accountId").unwrap_or(Bson::Null);
                    kept.push(Kept {
                        collection: place.collection.clone(),
                        id,
                        slot,
                        document,
                        written: None,
                    });
                }
            }
            others += items.len();
            without = with_array(&without, path, &items);
        }
        if !goes {
            if without != whole {
                stored.put(place, without, row);
            }
            return Ok(());
        }
        // As many roles as we miss are ours, and were edited.
        if others > open.len() {
            return Err(Stays::Refused(OTHER_ROLES.to_owned()));
        }
        let edited = others > 0 || !known.contains(&digest(&whole, &shape.growing));
        self.document(row, shape, place, |_| edited, stored, kept)
    }
}
