//! What refers to what. MongoDB has no foreign keys, but the plan knows which fields hold ids of which collection, so that
//! `validate` finds references that lead nowhere, and `rollback` makes none.

use std::collections::{HashMap, HashSet};
use std::sync::MutexGuard;

use mongodb::Database;
use mongodb::bson::{RawBsonRef, RawDocument, doc};

use super::foreseen::{Ahead, Foreseen, look};
use super::ledger::key_text;
use super::session::{LEDGER, at, id_text, raw, text_at};
use super::shape::shapes;
use super::stored::{By, by};
use crate::plan::{AccountField, Entity, Fill, Plan, Scope, When, Write};

/// A field that holds ids of documents of another collection.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    /// Dotted; through arrays too.
    pub path: String,
    /// Whose ids they are.
    pub collection: String,
}

/// The fields of a write that refer to documents of other collections.
pub fn references(plan: &Plan, entity: &Entity, write: &Write) -> Vec<Reference> {
    let accounts = plan.accounts.as_ref().map(|accounts| accounts.table.name.clone());
    write
        .columns
        .iter()
        .filter_map(|column| {
            let collection = match &column.fill {
                Fill::Reference { entity, .. } => own(plan.entities.get(*entity)?)?,
                Fill::Lookup { lookup, .. } if plan.lookups[*lookup].id == "_id" => {
                    plan.lookups[*lookup].table.name.clone()
                }
                Fill::Account(AccountField::Id) if column.name != "_id" => accounts.clone()?,
                Fill::Account(AccountField::Scope) => match entity.account.as_ref()?.scope.as_ref()? {
                    Scope::Own => own(entity)?,
                    Scope::Reference { entity, .. } => own(plan.entities.get(*entity)?)?,
                },
                _ => return None,
            };
            let path = match &write.inside {
                Some(array) => format!("{array}.{}", column.name),
                None => column.name.clone(),
            };
            Some(Reference { path, collection })
        })
        .collect()
}

/// The collection of an entity's own documents.
pub fn own(entity: &Entity) -> Option<String> {
    let owner = entity.writes.iter().find(|write| write.when == When::Row && write.inside.is_none())?;
    Some(owner.table.name.clone())
}

/// Rows that are about to go, as their ids by entity; and who is told what they refer to: the entity, the row's id, and the id of the
/// document.
pub type Going<'g> =
    (&'g HashMap<String, HashSet<String>>, &'g mut (dyn FnMut(&Entity, String, String) + Send + 'g));

/// The ids of a collection's documents to which documents of other entities refer at this moment, as text. Roles do not
/// count: they are part of an account, and go with it. With `going`, documents of the entity's own count too; but none of rows
/// that are about to go. With `foreseen` (a dry run), documents that would be other ones by now do not count.
pub async fn referred(
    database: &Database,
    plan: &Plan,
    entity: &Entity,
    collection: &str,
    mut going: Option<Going<'_>>,
    foreseen: Ahead<'_>,
) -> mongodb::error::Result<HashSet<String>> {
    let mut ids = HashSet::new();
    let itself = going.is_some();
    for other in plan.entities.iter().filter(|other| itself || other.name != entity.name) {
        let shapes = shapes(other);
        for write in other.writes.iter().filter(|write| matches!(write.when, When::Row | When::Each(_))) {
            let shape = shapes.iter().find(|shape| shape.collection == write.table.name);
            let by = shape.map(|shape| by(other, shape));
            let owner = match &by {
                Some(By::Field(field, _)) => *field,
                _ => "_id",
            };
            for Reference { path, .. } in
                references(plan, other, write).iter().filter(|of| of.collection == collection)
            {
                let documents = raw(database, &write.table.name);
                // The server refuses a field beside another one that lies within it.
                let fields = match path.starts_with(&format!("{owner}.")) {
                    true => doc! { owner: 1 },
                    false => doc! { owner: 1, path: 1 },
                };
                let mut cursor = documents.find(doc! {}).projection(fields).batch_size(10_000).await?;
                while cursor.advance().await? {
                    let document = cursor.current();
                    let is_other = |of: MutexGuard<'_, Foreseen>| {
                        let id = at(document, "_id").map(id_text).unwrap_or_default();
                        of.is_other(&write.table.name, &id)
                    };
                    if look(foreseen).is_some_and(is_other) {
                        continue;
                    }
                    let of = at(document, owner).map(id_text).unwrap_or_default();
                    match &mut going {
                        Some((going, tell))
                            if going.get(&*other.name).is_some_and(|ids| ids.contains(&of)) =>
                        {
                            each_at(document, path, &mut |id| tell(other, of.clone(), id_text(id)));
                        }
                        _ => each_at(document, path, &mut |id| ids.extend([id_text(id)])),
                    }
                }
            }
        }
    }
    Ok(ids)
}

/// Which of the accounts rows use that stay, when those with these keys go: one scan of the ledger.
pub async fn shared_with(
    database: &Database,
    accounts: &HashSet<String>,
    keys: &HashMap<String, HashSet<String>>,
    foreseen: Ahead<'_>,
) -> mongodb::error::Result<HashSet<String>> {
    let mut shared = HashSet::new();
    if accounts.is_empty() {
        return Ok(shared);
    }
    let mut cursor = raw(database, LEDGER)
        .find(doc! { "accountId": { "$exists": true } })
        .projection(doc! { "accountId": 1 })
        .batch_size(10_000)
        .await?;
    while cursor.advance().await? {
        let line = cursor.current();
        let Some(account) = at(line, "accountId").map(id_text).filter(|id| accounts.contains(id)) else {
            continue;
        };
        if look(foreseen).is_some_and(|of| of.has_removed(line)) {
            continue;
        }
        let of = text_at(line, "_id.e").and_then(|entity| keys.get(entity));
        if !of.is_some_and(|keys| key_text(line).is_some_and(|key| keys.contains(&key))) {
            shared.insert(account);
        }
    }
    if let Some(foreseen) = look(foreseen) {
        shared.extend(accounts.iter().filter(|id| foreseen.uses(id)).cloned());
    }
    Ok(shared)
}

/// Hands on the values at a dotted path, through arrays; null is no value.
pub fn each_at<'d>(document: &'d RawDocument, path: &str, each: &mut impl FnMut(RawBsonRef<'d>)) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    if let Ok(Some(value)) = document.get(first) {
        each_in(value, rest, each);
    }
}

fn each_in<'d>(value: RawBsonRef<'d>, rest: Option<&str>, each: &mut impl FnMut(RawBsonRef<'d>)) {
    match (value, rest) {
        (RawBsonRef::Array(array), _) => {
            array.into_iter().flatten().for_each(|item| each_in(item, rest, each))
        }
        (RawBsonRef::Document(document), Some(rest)) => each_at(document, rest, each),
        (RawBsonRef::Null, _) | (_, Some(_)) => {}
        (value, None) => each(value),
    }
}
