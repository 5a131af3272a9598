//! Rows of V1 that V2's unique constraints cannot all take: decided up front, so that it does not depend on which
//! writer came first.
//!
//! V2 often wants something unique that V1 did not (an employee number within an organisation). Of the rows that
//! share it the first in key order is migrated and the others are rejected. V1 finds them itself, one query per
//! constraint. Constraints on what the engine derives need no such look, and those of accounts are the census's task.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::Result;
use crate::ledger::Reject;
use crate::plan::{Entity, Fill, KeyFrom, Plan, Unique, When, Write};
use crate::source::Snapshot;

/// The rows to reject, by entity of the plan and hash of their key.
pub(super) struct Duplicates(Vec<HashMap<u64, Reject>>);

impl Duplicates {
    /// Asks V1.
    pub async fn find(snapshot: &mut Snapshot, plan: &Plan, selected: &[usize]) -> Result<Self> {
        let mut all = vec![HashMap::new(); plan.entities.len()];
        for &index in selected {
            let entity = &plan.entities[index];
            for write in entity.writes.iter().filter(|write| write.when == When::Row) {
                for unique in &write.uniques {
                    let Some(columns) = source_columns(entity, write, unique) else { continue };
                    let names: Vec<_> =
                        unique.columns.iter().map(|&at| write.columns[at].name.as_str()).collect();
                    let reason = format!(
                        "{}: a row with a smaller key has the same {} (unique {})",
                        write.table.name,
                        names.join(", "),
                        unique.name
                    );
                    for key in snapshot.repeated(&entity.source, &columns).await? {
                        let reject = Reject::new("duplicate-value", reason.clone());
                        all[index].entry(xxh3_64(key.as_bytes())).or_insert(reject);
                    }
                }
            }
        }
        Ok(Self(all))
    }

    /// Why this row cannot be migrated beside the others.
    pub fn reject(&self, entity: usize, key: &str) -> Option<&Reject> {
        let of = &self.0[entity];
        if of.is_empty() { None } else { of.get(&xxh3_64(key.as_bytes())) }
    }
}

/// The source columns that decide a unique constraint's value; `None` if something else does, or if one of them is
/// unique in V1 already.
fn source_columns<'e>(entity: &'e Entity, write: &Write, unique: &Unique) -> Option<Vec<&'e str>> {
    let mut columns = Vec::new();
    for &at in &unique.columns {
        match &write.columns[at].fill {
            Fill::Constant(_) => {}
            Fill::Column(column)
            | Fill::Reference { key: KeyFrom::Column(column), .. }
            | Fill::Lookup { key: KeyFrom::Column(column), .. }
                if *column != entity.source.key_index && !entity.source.columns[*column].unique =>
            {
                columns.push(entity.source.columns[*column].name.as_str());
            }
            _ => return None,
        }
    }
    (!columns.is_empty()).then_some(columns)
}
