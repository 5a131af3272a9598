//! Counts for reports.

use std::sync::Arc;

use super::decision::{ConflictKind, RejectCode};
use super::result::Census;
use super::survey::flag;

/// What the census found, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How many accounts the rows of V1 have in V2 at the end, unless rows are rejected later.
    pub accounts: u64,
    /// One for each entity, in order.
    pub entities: Vec<EntitySummary>,
}

/// What the census found about one entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntitySummary {
    /// Its name.
    pub name: Arc<str>,
    /// Rows surveyed.
    pub rows: u64,
    /// Rows that belong to an account.
    pub with_account: u64,
    /// Of these, rows that join an account which another row founded.
    pub merged: u64,
    /// Rows without an account.
    pub without_account: u64,
    /// Rows that a policy rejects.
    pub rejected: u64,
    /// Conflicts by kind; kinds that did not occur are left out.
    pub conflicts: Vec<(ConflictKind, u64)>,
}

impl Census {
    /// Counts everything.
    pub fn summary(&self) -> Summary {
        let mut accounts = std::collections::HashSet::new();
        let mut founded = 0;
        let mut entities = Vec::with_capacity(self.rows.people.len());
        for (entity, people) in self.rows.people.iter().enumerate() {
            let range = self.rows.range(entity);
            let (start, end) = (range.start as u32, range.end as u32);
            let mut counts = [0u64; ConflictKind::ALL.len()];
            let [mut with_account, mut merged, mut rejected] = [0; 3];
            let specials = &self.specials[self.specials.partition_point(|special| special.row < start)..];
            let mut specials = specials.iter().peekable();
            for row in start..end {
                for conflict in self.simple_conflicts(row) {
                    counts[conflict.kind as usize] += 1;
                }
                let special = specials.next_if(|special| special.row == row);
                let code = special.and_then(|special| special.reject);
                let code =
                    code.or(self.rows.has(row, flag::PHONE_REJECTED).then_some(RejectCode::SharedPhone));
                match (self.rows.has(row, flag::ACCOUNT), code, special) {
                    (false, ..) => {}
                    (true, Some(_), _) => rejected += 1,
                    (true, None, None) => {
                        with_account += 1;
                        founded += 1;
                    }
                    (true, None, Some(special)) => {
                        with_account += 1;
                        merged += u64::from(special.number != row);
                        accounts.insert(special.number);
                    }
                }
            }
            let lines = &self.conflicts[self.conflicts.partition_point(|line| line.row < start)..];
            for line in lines.iter().take_while(|line| line.row < end) {
                counts[line.kind as usize] += 1;
            }
            let rows = u64::from(end - start);
            entities.push(EntitySummary {
                name: Arc::clone(&people.name),
                rows,
                with_account,
                merged,
                without_account: rows - with_account - rejected,
                rejected,
                conflicts: ConflictKind::ALL
                    .into_iter()
                    .zip(counts)
                    .filter(|(_, count)| *count > 0)
                    .collect(),
            });
        }
        Summary { accounts: founded + accounts.len() as u64, entities }
    }
}
