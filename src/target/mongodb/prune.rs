//! Removes what V2 has of rows that V1 no longer has. What is removed is kept first (`replaced.rs`), so that a rollback of the
//! run brings it back.
//!
//! MongoDB has no foreign keys that would refuse, so the plan's references stand in for them: a row stays, and is listed, if
//! documents that stay refer to one of its own, or if its account has a role that no row of V1 has given it. An account
//! that another row uses stays in any case, and loses only the role. Of rows that refer to each other in a circle those go that nobody
//! but themselves holds.
//!
//! V2 is whole after each transaction, should it be the last one: what refers to others goes before them, a circle at once
//! (`groups.rs`), and so do rows that share an account, which goes with the one that founded it.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use mongodb::Database;
use mongodb::bson::{Document, RawDocumentBuf, doc};

use super::foreseen::{Ahead, look};
use super::groups::groups;
use super::ledger::{key_text, line_id};
use super::references::{own, references, referred, shared_with};
use super::removal::{Removal, Removed, Together};
use super::session::{LEDGER, Shared, at, id_text, raw};
use super::shape::{Shape, shapes};
use super::step::Steps;
use crate::error::Result;
use crate::failpoint;
use crate::plan::{Entity, Plan};
use crate::settings::OnEdited;
use crate::target::Pruned;

/// Keys in one transaction, if that is up to us.
const CHUNK: usize = 1_000;

/// The most rows that go in one transaction because they refer to each other. A larger circle goes in parts: a server gives up transactions that take
/// longer than a minute, and keeps in memory what they have not committed.
const CIRCLE: usize = 20_000;

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
    let mut parts: Vec<Part<'_>> =
        gone.iter().map(|(entity, keys)| Part::new(&plan.entities[*entity], keys)).collect();
    // Whatever stays keeps what it refers to, by any number of steps; so before anything goes it is asked who stays.
    let relies = refer_to_each_other(plan, &parts);
    let mut pruned = vec![Pruned::default(); parts.len()];
    'look: loop {
        let found =
            Found::look(database, plan, &parts, foreseen).await.map_err(|error| shared.failed(&error))?;
        let transactions = found.transactions();
        if relies {
            let mut staying = Vec::new();
            for rows in &transactions {
                let step = Together { asks: true, ..found.step(&parts, rows, relies, on_edited) };
                staying.extend(steps.take(&step).await?.removed);
            }
            if learn(&mut parts, staying) {
                continue;
            }
        }
        for rows in &transactions {
            let done = steps.take(&found.step(&parts, rows, relies, on_edited)).await?;
            if !done.written {
                // Somebody has been edited in this very moment.
                learn(&mut parts, done.removed);
                continue 'look;
            }
            failpoint::reach("mongodb.pruned")?;
            for of in done.removed {
                let pruned = &mut pruned[of.part];
                pruned.removed += of.pruned.removed;
                pruned.edited += of.pruned.edited;
                pruned.refused += of.pruned.refused;
            }
            rows.iter().for_each(|(part, keys)| parts[*part].done.extend(keys.iter().copied()));
        }
        return Ok(pruned);
    }
}

/// Whether rows of one of them may refer to others that are about to go.
fn refer_to_each_other(plan: &Plan, parts: &[Part<'_>]) -> bool {
    let owns: Vec<String> = parts.iter().filter_map(|part| own(part.entity)).collect();
    let mut writes =
        parts.iter().flat_map(|part| part.entity.writes.iter().map(|write| (part.entity, write)));
    writes
        .any(|(entity, write)| references(plan, entity, write).iter().any(|of| owns.contains(&of.collection)))
}

/// Adds to each part those of its rows that have to stay; `false` if nobody knew less before.
fn learn(parts: &mut [Part<'_>], removed: Vec<Removed>) -> bool {
    let mut more = false;
    for of in removed {
        let staying = &mut parts[of.part].staying;
        for key in of.staying {
            more |= staying.insert(key);
        }
    }
    more
}

/// One entity's rows that V1 no longer has.
struct Part<'p> {
    entity: &'p Entity,
    keys: &'p [String],
    shapes: Vec<Shape<'p>>,
    /// The keys of those that are known to stay.
    staying: HashSet<String>,
    /// The keys of those about which all is done.
    done: HashSet<&'p str>,
}

impl<'p> Part<'p> {
    fn new(entity: &'p Entity, keys: &'p [String]) -> Self {
        Self { entity, keys, shapes: shapes(entity), staying: HashSet::new(), done: HashSet::new() }
    }

    async fn lines(
        &self,
        database: &Database,
        keys: &[String],
    ) -> mongodb::error::Result<Vec<RawDocumentBuf>> {
        let (name, kind) = (&self.entity.name, self.entity.source.key_kind);
        let ids: Vec<Document> = keys.iter().map(|of| line_id(name, kind, of)).collect();
        raw(database, LEDGER).find(doc! { "_id": { "$in": ids } }).await?.try_collect().await
    }
}

/// What is about to go, by entity.
#[derive(Default)]
struct Going {
    keys: HashMap<String, HashSet<String>>,
    ids: HashMap<String, HashSet<String>>,
    accounts: HashSet<String>,
}

/// What V2 says about the rows before the first of them goes.
struct Found<'p> {
    /// The part and the key of each row, in the order in which they would go if nothing referred to anything.
    rows: Vec<(usize, &'p str)>,
    /// Who of those that are about to go refers to whom; those that share an account to each other.
    refers: Vec<(usize, usize)>,
    /// For each part, by collection: the ids of documents to which others refer that stay.
    needed: Vec<HashMap<&'p str, HashSet<String>>>,
    /// Accounts that rows use that stay.
    shared: HashSet<String>,
    /// A dry run's: what it has aborted before.
    foreseen: Ahead<'p>,
}

impl<'p> Found<'p> {
    async fn look(
        database: &Database,
        plan: &Plan,
        parts: &[Part<'p>],
        foreseen: Ahead<'p>,
    ) -> mongodb::error::Result<Self> {
        // Roles are brought back in the reverse of this order.
        let open = |(number, part): (usize, &Part<'p>)| {
            let open = part.keys.iter().filter(|key| !part.done.contains(key.as_str()));
            open.map(move |key| (number, key.as_str())).collect::<Vec<_>>()
        };
        let rows: Vec<(usize, &str)> = parts.iter().enumerate().rev().flat_map(open).collect();
        let numbers: HashMap<(usize, &str), usize> =
            rows.iter().enumerate().map(|(row, of)| (*of, row)).collect();
        let (mut going, mut refers) = (Going::default(), Vec::new());
        let mut by_id: HashMap<(&str, String), usize> = HashMap::new();
        let mut by_account: HashMap<String, usize> = HashMap::new();
        for (number, part) in parts.iter().enumerate() {
            let name = &*part.entity.name;
            let keys = going.keys.entry(name.to_owned()).or_default();
            let goes = |key: &&String| !part.staying.contains(*key) && !part.done.contains(key.as_str());
            keys.extend(part.keys.iter().filter(goes).cloned());
            let ids = going.ids.entry(name.to_owned()).or_default();
            for some in part.keys.chunks(10 * CHUNK) {
                for line in part.lines(database, some).await? {
                    let Some(key) = key_text(&line).filter(|key| keys.contains(key)) else { continue };
                    let Some(&row) = numbers.get(&(number, key.as_str())) else { continue };
                    if let Some(id) = at(&line, "targetId").map(id_text) {
                        by_id.insert((name, id.clone()), row);
                        ids.insert(id);
                    }
                    if let Some(id) = at(&line, "accountId").map(id_text) {
                        let first = *by_account.entry(id.clone()).or_insert(row);
                        if first != row {
                            refers.extend([(first, row), (row, first)]);
                        }
                        going.accounts.insert(id);
                    }
                }
            }
        }
        let shared = shared_with(database, &going.accounts, &going.keys, foreseen).await?;
        let mut needed = Vec::new();
        for part in parts {
            let name = &*part.entity.name;
            let mut of = HashMap::new();
            for Shape { collection, .. } in &part.shapes {
                let mut refer = |other: &Entity, owner: String, id: String| {
                    let from = by_id.get(&(&*other.name, owner));
                    refers.extend(from.copied().zip(by_id.get(&(name, id)).copied()));
                };
                let of_going = Some((&going.ids, &mut refer as _));
                let ids = referred(database, plan, part.entity, collection, of_going, foreseen);
                let mut ids = ids.await?;
                if let Some(foreseen) = look(foreseen) {
                    let own = going.ids.values().flatten().chain(&going.accounts);
                    ids.extend(own.filter(|id| foreseen.is_referred_to(collection, id)).cloned());
                }
                of.insert(*collection, ids);
            }
            needed.push(of);
        }
        Ok(Self { rows, refers, needed, shared, foreseen })
    }

    /// Which rows go together, as keys by part, in the order in which they go.
    fn transactions(&self) -> Vec<Vec<(usize, Vec<&'p str>)>> {
        let mut all: Vec<Vec<usize>> = vec![Vec::new()];
        for group in groups(self.rows.len(), self.refers.clone()) {
            if group.len() > CIRCLE {
                all.extend(group.chunks(CHUNK).map(<[usize]>::to_vec));
                all.push(Vec::new());
                continue;
            }
            match all.last_mut().filter(|last| last.len() + group.len() <= CHUNK) {
                Some(last) => last.extend(group),
                None => all.push(group),
            }
        }
        let by_part = |mut rows: Vec<usize>| {
            rows.sort_unstable();
            let mut parts: Vec<(usize, Vec<&'p str>)> = Vec::new();
            for (part, key) in rows.into_iter().map(|row| self.rows[row]) {
                match parts.last_mut().filter(|last| last.0 == part) {
                    Some((_, keys)) => keys.push(key),
                    None => parts.push((part, vec![key])),
                }
            }
            parts
        };
        all.into_iter().filter(|rows| !rows.is_empty()).map(by_part).collect()
    }

    /// The transaction in which some rows go.
    fn step<'s>(
        &'s self,
        parts: &'s [Part<'p>],
        rows: &'s [(usize, Vec<&'p str>)],
        relies: bool,
        on_edited: OnEdited,
    ) -> Together<'s> {
        let removal = |(number, keys): &'s (usize, Vec<&'p str>)| {
            let part = &parts[*number];
            Removal {
                part: *number,
                entity: part.entity,
                shapes: &part.shapes,
                keys,
                staying: &part.staying,
                needed: &self.needed[*number],
                shared: &self.shared,
                on_edited,
            }
        };
        let removals = rows.iter().map(removal).collect();
        Together { removals, asks: false, relies, foreseen: self.foreseen }
    }
}
