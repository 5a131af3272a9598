//! Removes what V2 has of rows that V1 no longer has. What is removed is kept first (`replaced.rs`), so that a rollback of the
//! run brings it back.
//!
//! MongoDB has no foreign keys that would refuse, so the plan's references stand in for them: a row stays, and is listed, if
//! documents that stay refer to one of its own, or if its account has a role that no row of V1 has given it. An account
//! that another row uses stays in any case, and loses only the role. Of rows that refer to each other in a circle those go that nobody
//! but themselves holds.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::Database;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};

use super::conflicts::Log;
use super::document::digest;
use super::foreseen::{Ahead, look};
use super::ledger::{bson_at, digests, is_written, key_text, line_id};
use super::references::{referred, shared_with};
use super::replaced::{How, Kept, Owner, Slot};
use super::session::{LEDGER, REPLACED, Shared, at, id_text, raw, text_at};
use super::shape::{Shape, shapes};
use super::splice::{array, with_array};
use super::step::{Step, Steps};
use super::stored::{By, Place, Stored, by};
use super::transaction::{Failure, Transaction};
use crate::error::Result;
use crate::failpoint;
use crate::ledger::{Outcome, Reject};
use crate::plan::{Entity, KeyKind, Plan};
use crate::settings::OnEdited;
use crate::target::{EDITED, Pruned, REFUSED};

/// Keys in one transaction.
const CHUNK: usize = 1_000;

/// Why a row stays.
const EDITED_HERE: &str = "somebody has edited it in V2, and V1 no longer has it";
const REFERRED_TO: &str = "other documents of V2 refer to it, and V1 no longer has it";
const OTHER_ROLES: &str = "its account has other roles in V2, and V1 no longer has it";

/// Removes what these keys became; of entities that stand in a circle, what only they themselves hold goes together.
pub async fn prune(
    steps: &mut Steps<'_>,
    shared: &Shared,
    plan: &Plan,
    gone: &[(usize, &[String])],
    on_edited: OnEdited,
    foreseen: Ahead<'_>,
) -> Result<Vec<Pruned>> {
    let database = &shared.connection().await?.database;
    let failed = |error: mongodb::error::Error| shared.failed(&error);
    let mut parts: Vec<Part<'_>> =
        gone.iter().map(|(entity, keys)| Part::new(&plan.entities[*entity], keys, foreseen)).collect();
    loop {
        let mut going = Going::default();
        for part in &parts {
            part.list(database, &mut going).await.map_err(failed)?;
        }
        let shared_accounts = shared_with(database, &going.accounts, &going.keys, foreseen);
        let shared_accounts = shared_accounts.await.map_err(failed)?;
        let mut needed = Vec::new();
        for part in &parts {
            let mut of = HashMap::new();
            for Shape { collection, .. } in &part.shapes {
                let ids = referred(database, plan, part.entity, collection, Some(&going.ids), foreseen);
                let mut ids = ids.await.map_err(failed)?;
                if let Some(foreseen) = look(foreseen) {
                    let own = going.ids.values().flatten().chain(&going.accounts);
                    ids.extend(own.filter(|id| foreseen.is_referred_to(collection, id)).cloned());
                }
                of.insert(*collection, ids);
            }
            needed.push(of);
        }
        // Whatever stays keeps what it refers to, by any number of steps; so before anything goes it is asked who stays.
        let ask = parts.len() > 1 || parts.iter().any(|part| part.entity.is_completed_later());
        if ask && find_who_stays(steps, &mut parts, &needed, &shared_accounts, on_edited).await? {
            continue;
        }
        let mut pruned = vec![Pruned::default(); parts.len()];
        for ((part, needed), pruned) in parts.iter().zip(&needed).zip(&mut pruned).rev() {
            for keys in part.keys.chunks(CHUNK) {
                let step = part.removal(keys, needed, &shared_accounts, on_edited);
                let done = steps.take(&step).await?;
                failpoint::reach("mongodb.pruned")?;
                pruned.removed += done.removed;
                pruned.edited += done.edited;
                pruned.refused += done.refused;
            }
        }
        return Ok(pruned);
    }
}

/// Adds to each part those of its rows that have to stay; `false` if nobody knew less before.
async fn find_who_stays(
    steps: &mut Steps<'_>,
    parts: &mut [Part<'_>],
    needed: &[HashMap<&str, HashSet<String>>],
    shared: &HashSet<String>,
    on_edited: OnEdited,
) -> Result<bool> {
    let mut more = false;
    for (part, needed) in parts.iter_mut().zip(needed) {
        let mut staying = Vec::new();
        for keys in part.keys.chunks(CHUNK) {
            staying.extend(steps.take(&Asking(part.removal(keys, needed, shared, on_edited))).await?);
        }
        let before = part.staying.len();
        part.staying.extend(staying);
        more |= part.staying.len() > before;
    }
    Ok(more)
}

/// One entity's rows that V1 no longer has.
struct Part<'p> {
    entity: &'p Entity,
    keys: &'p [String],
    shapes: Vec<Shape<'p>>,
    /// The keys of those that are known to stay.
    staying: HashSet<String>,
    foreseen: Ahead<'p>,
}

/// What is about to go, by entity.
#[derive(Default)]
struct Going {
    keys: HashMap<String, HashSet<String>>,
    ids: HashMap<String, HashSet<String>>,
    accounts: HashSet<String>,
}

impl<'p> Part<'p> {
    fn new(entity: &'p Entity, keys: &'p [String], foreseen: Ahead<'p>) -> Self {
        Self { entity, keys, shapes: shapes(entity), staying: HashSet::new(), foreseen }
    }

    async fn list(&self, database: &Database, going: &mut Going) -> mongodb::error::Result<()> {
        let (name, kind) = (self.entity.name.to_string(), self.entity.source.key_kind);
        let keys = going.keys.entry(name.clone()).or_default();
        keys.extend(self.keys.iter().filter(|key| !self.staying.contains(*key)).cloned());
        let ids = going.ids.entry(name).or_default();
        for some in self.keys.chunks(10 * CHUNK) {
            for line in lines(database, self.entity, kind, some).await? {
                if key_text(&line).is_some_and(|key| keys.contains(&key)) {
                    ids.extend(at(&line, "targetId").map(id_text));
                    going.accounts.extend(at(&line, "accountId").map(id_text));
                }
            }
        }
        Ok(())
    }

    fn removal<'r>(
        &'r self,
        keys: &'r [String],
        needed: &'r HashMap<&'r str, HashSet<String>>,
        shared: &'r HashSet<String>,
        on_edited: OnEdited,
    ) -> Removal<'r> {
        let Self { entity, shapes, foreseen, .. } = self;
        Removal { entity, shapes, keys, needed, shared, on_edited, foreseen: *foreseen }
    }
}

async fn lines(
    database: &Database,
    entity: &Entity,
    kind: KeyKind,
    keys: &[String],
) -> mongodb::error::Result<Vec<RawDocumentBuf>> {
    let ids: Vec<Document> = keys.iter().map(|of| line_id(&entity.name, kind, of)).collect();
    raw(database, LEDGER).find(doc! { "_id": { "$in": ids } }).await?.try_collect().await
}

/// Some keys, in one transaction.
struct Removal<'r> {
    entity: &'r Entity,
    shapes: &'r [Shape<'r>],
    keys: &'r [String],
    /// The ids of documents that others refer to, by collection.
    needed: &'r HashMap<&'r str, HashSet<String>>,
    /// Accounts that other rows use.
    shared: &'r HashSet<String>,
    on_edited: OnEdited,
    /// A dry run's: what it has aborted before.
    foreseen: Ahead<'r>,
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

/// Asks which of the rows would stay, and why nobody else may rely on their going. Writes nothing.
struct Asking<'r>(Removal<'r>);

#[async_trait]
impl Step for Asking<'_> {
    type Done = Vec<String>;

    async fn take(&self, transaction: &mut Transaction<'_>) -> Result<Vec<String>, Failure> {
        let Self(removal) = self;
        let (lines, mut stored) = removal.load(transaction).await?;
        let mut staying = Vec::new();
        for (row, line) in (0..).zip(&lines) {
            let savepoint = stored.savepoint();
            if removal.remove(row, line, &mut stored, &mut Vec::new()).is_err() {
                stored.undo(savepoint);
                staying.extend(key_text(line));
            }
        }
        Ok(staying)
    }
}

#[async_trait]
impl Step for Removal<'_> {
    type Done = Pruned;

    async fn take(&self, transaction: &mut Transaction<'_>) -> Result<Pruned, Failure> {
        let entity = self.entity;
        let (lines, mut stored) = self.load(transaction).await?;
        let mut log = Log::read(transaction, &entity.name, lines.iter()).await?;
        let (mut pruned, mut records, mut gone) = (Pruned::default(), Vec::new(), Vec::new());
        let mut left = Vec::new();
        for (row, line) in (0..).zip(&lines) {
            let key = bson_at(line, "_id.k").unwrap_or(Bson::Null);
            let owner = Owner { run: transaction.run, how: How::Removed, entity: &entity.name, key: &key };
            let savepoint = stored.savepoint();
            let mut kept = Vec::new();
            let removed = self.remove(row, line, &mut stored, &mut kept).and_then(|()| {
                kept.push(Kept::own(LEDGER, line));
                kept.extend(log.kept(&key));
                Ok(owner.records(0, &kept)?)
            });
            match removed {
                Ok(of) => {
                    records.extend(of);
                    gone.extend(bson_at(line, "_id"));
                    left.push(line);
                    log.forget(&key);
                    pruned.removed += 1;
                }
                Err(stays) => {
                    stored.undo(savepoint);
                    let (kind, why) = match &stays {
                        Stays::Edited => (EDITED, EDITED_HERE),
                        Stays::Refused(why) => (REFUSED, why.as_str()),
                    };
                    records.extend(log.stays(row, owner, kind, why));
                    pruned.edited += u64::from(kind == EDITED);
                    pruned.refused += u64::from(kind == REFUSED);
                }
            }
        }
        let records: Vec<_> = records.iter().map(|record| (0, &**record)).collect();
        transaction.insert(REPLACED, &records).await?;
        failpoint::reach("mongodb.prune.kept")?;
        stored.flush(transaction).await?;
        failpoint::reach("mongodb.prune.documents")?;
        transaction.delete(LEDGER, doc! { "_id": { "$in": gone } }).await?;
        log.write(transaction).await?;
        failpoint::reach("mongodb.prune.commit")?;
        if let Some(mut foreseen) = look(self.foreseen) {
            foreseen.removed(&stored, left.into_iter());
        }
        Ok(pruned)
    }
}

impl Removal<'_> {
    /// The ledger's lines, and all that they made.
    async fn load(
        &self,
        transaction: &mut Transaction<'_>,
    ) -> Result<(Vec<RawDocumentBuf>, Stored), Failure> {
        let (entity, kind) = (self.entity, self.entity.source.key_kind);
        let ids: Vec<Document> = self.keys.iter().map(|of| line_id(&entity.name, kind, of)).collect();
        let mut lines = transaction.find(LEDGER, doc! { "_id": { "$in": ids } }).await?;
        // In the order of the keys, but a row with which its account goes after those that joined it.
        let number: HashMap<&str, usize> =
            self.keys.iter().enumerate().map(|(number, key)| (key.as_str(), number)).collect();
        lines.sort_by_key(|line| {
            let last = self.takes_account(line).is_some();
            (last, key_text(line).and_then(|key| number.get(key.as_str()).copied()))
        });
        let mut stored = Stored::default();
        for shape in self.shapes {
            stored.load(transaction, entity, shape, lines.iter()).await?;
        }
        if let Some(foreseen) = look(self.foreseen) {
            stored.assume(foreseen.without());
        }
        Ok((lines, stored))
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
