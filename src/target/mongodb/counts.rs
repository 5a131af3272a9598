//! Counts of a MongoDB V2: every ledger line's documents and roles are there, no reference without its document, no
//! duplicates.
//!
//! MongoDB joins poorly and sorts in little memory, so ids and values are compared here, as hashes of eight bytes: two
//! scans instead of one look-up for each document.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mongodb::Database;
use mongodb::bson::{Document, RawBsonRef, RawDocument, doc};
use xxhash_rust::xxh3::xxh3_64;

use super::ledger::lines_of;
use super::references::{Reference, each_at, references};
use super::session::{LEDGER, at, id_text, raw, text_at};
use crate::ledger::Outcome;
use crate::plan::{AccountField, Entity, Fill, Plan, When};
use crate::validate::Check;

type Driver<T> = mongodb::error::Result<T>;

/// Hashes of ids.
type Ids = HashSet<u64>;

fn hash(id: RawBsonRef<'_>) -> u64 {
    xxh3_64(id_text(id).as_bytes())
}

/// Hands on a projection of all documents.
async fn scan(
    database: &Database,
    collection: &str,
    filter: Document,
    fields: impl IntoIterator<Item = &str>,
    mut each: impl FnMut(&RawDocument),
) -> Driver<()> {
    let mut projection = doc! { "_id": 1 };
    // A projection must not name a field and another one inside it.
    for field in fields {
        let covered =
            projection.keys().any(|known| field.starts_with(&format!("{known}.")) || field == known);
        if !covered {
            projection = projection
                .into_iter()
                .filter(|(known, _)| !known.starts_with(&format!("{field}.")))
                .collect();
            projection.insert(field, 1);
        }
    }
    let mut cursor = raw(database, collection).find(filter).projection(projection).batch_size(10_000).await?;
    while cursor.advance().await? {
        each(cursor.current());
    }
    Ok(())
}

async fn ids(database: &Database, collection: &str) -> Driver<Ids> {
    let mut ids = Ids::new();
    scan(database, collection, doc! {}, [], |document| {
        ids.extend(at(document, "_id").map(hash));
    })
    .await?;
    Ok(ids)
}

/// Whether each ledger line's own document, account and role are there.
pub async fn records(database: &Database, entity: &Entity) -> Driver<Vec<Check>> {
    let mut checks = Vec::new();
    for write in &entity.writes {
        let (ledger_id, what) = match (write.when, &write.inside) {
            (When::Row, None) => ("targetId", "records"),
            (When::Account, None) => ("accountId", "accounts"),
            (When::Role, _) => ("accountId", "roles"),
            _ => continue,
        };
        let collection = &write.table.name;
        let account = write.columns.iter().find(|of| of.fill == Fill::Account(AccountField::Id));
        let there = match &write.inside {
            // Roles in a collection of their own: whose they are stands in a field.
            None if write.when == When::Role => {
                let Some(account) = account else { continue };
                let mut there = Ids::new();
                scan(database, collection, doc! {}, [account.name.as_str()], |document| {
                    there.extend(at(document, &account.name).map(hash));
                })
                .await?;
                there
            }
            None => ids(database, collection).await?,
            Some(array) => {
                // Where the role's code is written, it must be this entity's; else any role will do.
                let code = write.columns.iter().find(|of| of.fill == Fill::Account(AccountField::Role));
                let filter = match code.zip(entity.account.as_ref()) {
                    Some((column, account)) => doc! { format!("{array}.{}", column.name): &account.role },
                    None => doc! { format!("{array}.0"): { "$exists": true } },
                };
                let mut there = Ids::new();
                scan(database, collection, filter, [], |document| {
                    there.extend(at(document, "_id").map(hash));
                })
                .await?;
                there
            }
        };
        let mut lines = lines_of(&entity.name);
        lines.insert("outcome", doc! { "$in": [Outcome::Migrated.letter(), Outcome::Merged.letter()] });
        lines.insert(ledger_id, doc! { "$exists": true });
        let mut found = 0;
        scan(database, LEDGER, lines, [ledger_id], |line| {
            found += u64::from(at(line, ledger_id).is_some_and(|id| !there.contains(&hash(id))));
        })
        .await?;
        checks.push(Check {
            what: format!("{what} of {} in {collection}", entity.name),
            found,
            meaning: format!("ledger lines whose {what} V2 does not have"),
        });
    }
    Ok(checks)
}

/// Documents of each collection that the plan writes, and what is wrong with them.
pub async fn collections(database: &Database, plan: &Plan) -> Driver<(Vec<(String, u64)>, Vec<Check>)> {
    let mut by_collection: BTreeMap<&str, Vec<Reference>> = BTreeMap::new();
    for entity in &plan.entities {
        for write in &entity.writes {
            let known = by_collection.entry(&write.table.name).or_default();
            for reference in references(plan, entity, write) {
                if known.iter().all(|of| of.path != reference.path) {
                    known.push(reference);
                }
            }
        }
    }
    let mut there: BTreeMap<String, Ids> = BTreeMap::new();
    let wanted: BTreeSet<&String> =
        by_collection.values().flatten().map(|reference| &reference.collection).collect();
    for collection in wanted {
        there.insert(collection.clone(), ids(database, collection).await?);
    }
    let accounts = plan.accounts.as_ref();
    let (mut counts, mut checks) = (Vec::new(), Vec::new());
    for (collection, references) in by_collection {
        let unique: Vec<&String> = accounts
            .filter(|accounts| accounts.table.name == collection)
            .map(|of| [&of.email_column, &of.phone_column, &of.username_column])
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        let mut values: Vec<Vec<u64>> = vec![Vec::new(); unique.len()];
        let mut orphans = vec![0_u64; references.len()];
        let mut count = 0;
        let fields =
            references.iter().map(|of| of.path.as_str()).chain(unique.iter().map(|path| path.as_str()));
        scan(database, collection, doc! {}, fields, |document| {
            count += 1;
            for (reference, orphans) in references.iter().zip(&mut orphans) {
                let ids = there.get(&reference.collection);
                each_at(document, &reference.path, &mut |id| {
                    *orphans += u64::from(ids.is_some_and(|ids| !ids.contains(&hash(id))));
                });
            }
            for (path, values) in unique.iter().zip(&mut values) {
                values.extend(text_at(document, path).map(|text| xxh3_64(text.to_lowercase().as_bytes())));
            }
        })
        .await?;
        counts.push((collection.to_owned(), count));
        for (reference, found) in references.iter().zip(orphans) {
            checks.push(Check {
                what: format!("{collection}: {}", reference.path),
                found,
                meaning: format!(
                    "orphans: references to a document that {} does not have",
                    reference.collection
                ),
            });
        }
        for (path, mut values) in unique.into_iter().zip(values) {
            values.sort_unstable();
            let found = values.chunk_by(|a, b| a == b).filter(|same| same.len() > 1).count() as u64;
            checks.push(Check {
                what: format!("{collection}.{path}"),
                found,
                meaning: "values that several accounts share (upper and lower case count as the same)".into(),
            });
        }
    }
    Ok((counts, checks))
}
