//! The order of rows that refer to rows of their own entity: a part and its whole, a manager, an earlier version.
//!
//! Inside a phase of a run chunks are independent, so a row must not be in the same phase as one that it refers to: whether
//! that one could be migrated would not be known yet, and V2's foreign key may want it to be there. So the entity is read in
//! several passes: first the rows that refer to none of its rows, then those that refer only to these, and so on. Each
//! row is written once, with its reference, so that nothing has to be filled in later: neither a row whose column must not be null nor
//! a run that was killed needs any care. The price is that V1 is read once for each level.
//!
//! Rows that refer to each other in a circle have no order. None of them is there when it is converted, so the definition
//! decides: they are rejected, or `missing = "null"` leaves the reference out. A row that refers to itself is no circle.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_128;

use super::broken;
use crate::error::Result;
use crate::plan::{Entity, Fill, KeyFrom, Scope};
use crate::row::Rows;
use crate::source::Snapshot;

/// Which pass takes which row of V1, by the row's number in key order.
pub(super) struct Levels {
    /// Empty if there is only one.
    of: Vec<u32>,
    count: usize,
}

impl Levels {
    /// Finds the levels of an entity's rows within the filter.
    pub async fn find(
        snapshot: &mut Snapshot,
        entity: &Entity,
        index: usize,
        filter: Option<&str>,
    ) -> Result<Self> {
        let own = own_references(entity, index);
        if own.is_empty() {
            return Ok(Self { of: Vec::new(), count: 1 });
        }
        let source = &entity.source;
        let columns = std::iter::once(source.key_index).chain(own.iter().map(|(column, _)| *column));
        let names: Vec<&str> = columns.map(|column| &*source.columns[column].name).collect();
        let mut numbers: HashMap<u128, u32> = HashMap::new();
        let mut wanted: Vec<(u32, u128)> = Vec::new();
        let mut rows = 0_u32;
        snapshot
            .read(source, Some(&names), filter, async |line| {
                let mut buffer = Rows::new(names.len());
                if !buffer.push(line) {
                    return Err(broken("V1 sent a row with another number of columns"));
                }
                let row = buffer.row(0);
                // Rows that cannot be used at all are told about by whoever reads them whole.
                let key = row.text(0).map(|key| xxh3_128(key.as_bytes()));
                numbers.extend(key.map(|key| (key, rows)));
                for (column, (_, array)) in (1..).zip(&own) {
                    let mut refers = |to: &str| {
                        let to = xxh3_128(to.as_bytes());
                        if Some(to) != key {
                            wanted.push((rows, to));
                        }
                    };
                    if *array {
                        row.elements(column).iter().flatten().for_each(|to| refers(to));
                    } else if let Some(to) = row.text(column) {
                        refers(&to);
                    }
                }
                rows += 1;
                Ok(true)
            })
            .await?;
        let edges = wanted.into_iter().filter_map(|(row, to)| Some((*numbers.get(&to)?, row)));
        let (of, count) = sort(rows, edges.collect());
        Ok(Self { of, count: count as usize })
    }

    /// Whether rows of the entity refer to others of it, so that there may be more than one level.
    pub fn are_needed(entity: &Entity, index: usize) -> bool {
        !own_references(entity, index).is_empty()
    }

    /// How many passes there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether this pass takes this row.
    pub fn takes(&self, pass: usize, row: usize) -> bool {
        self.of.get(row).is_none_or(|of| *of as usize == pass)
    }
}

/// The source columns that hold keys of the entity's own rows, and whether they are arrays.
fn own_references(entity: &Entity, index: usize) -> Vec<(usize, bool)> {
    let fills =
        entity.writes.iter().flat_map(|write| &write.columns).filter_map(|column| match &column.fill {
            // What is filled in later needs no order.
            _ if column.later => None,
            Fill::Reference { entity, key, .. } if *entity == index => match key {
                KeyFrom::Column(column) => Some((*column, false)),
                KeyFrom::Each(column) | KeyFrom::Elements(column) => Some((*column, true)),
                KeyFrom::Account(_) => None,
            },
            _ => None,
        });
    let scope = entity.account.as_ref().and_then(|account| match account.scope.as_ref()? {
        Scope::Reference { entity, column } if *entity == index => Some((*column, false)),
        _ => None,
    });
    let mut columns: Vec<_> = fills.chain(scope).collect();
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// Each row's level, and how many levels there are. An edge leads from the row that must come first to the one that
/// refers to it.
fn sort(rows: u32, mut edges: Vec<(u32, u32)>) -> (Vec<u32>, u32) {
    const NONE: u32 = u32::MAX;
    edges.sort_unstable();
    edges.dedup();
    let mut level = vec![NONE; rows as usize];
    // How many of the rows that it refers to have no level yet.
    let mut waits = vec![0_u32; rows as usize];
    edges.iter().for_each(|(_, to)| waits[*to as usize] += 1);
    let mut ready: Vec<u32> = (0..rows).filter(|row| waits[*row as usize] == 0).collect();
    let mut count = 0;
    loop {
        while !ready.is_empty() {
            ready.iter().for_each(|row| level[*row as usize] = count);
            count += 1;
            let mut next = Vec::new();
            for row in ready {
                for (_, to) in from(&edges, row) {
                    waits[*to as usize] -= 1;
                    // A row on a circle has its level already.
                    if waits[*to as usize] == 0 && level[*to as usize] == NONE {
                        next.push(*to);
                    }
                }
            }
            ready = next;
        }
        ready = on_circles(&edges, &level, NONE);
        if ready.is_empty() {
            return (level, count.max(1));
        }
    }
}

fn from(edges: &[(u32, u32)], row: u32) -> &[(u32, u32)] {
    let start = edges.partition_point(|(first, _)| *first < row);
    let length = edges[start..].partition_point(|(first, _)| *first == row);
    &edges[start..start + length]
}

/// Of the rows without a level, those on circles or between two of them: all but those that no other such row needs.
fn on_circles(edges: &[(u32, u32)], level: &[u32], none: u32) -> Vec<u32> {
    let open = |row: u32| level[row as usize] == none;
    let mut backwards: Vec<(u32, u32)> = edges
        .iter()
        .filter(|(first, to)| open(*first) && open(*to))
        .map(|(first, to)| (*to, *first))
        .collect();
    backwards.sort_unstable();
    let mut needed = vec![0_u32; level.len()];
    backwards.iter().for_each(|(_, first)| needed[*first as usize] += 1);
    let mut circle: Vec<bool> = (0..level.len() as u32).map(open).collect();
    let mut last: Vec<u32> =
        (0..level.len() as u32).filter(|row| open(*row) && needed[*row as usize] == 0).collect();
    while let Some(row) = last.pop() {
        circle[row as usize] = false;
        for (_, first) in from(&backwards, row) {
            needed[*first as usize] -= 1;
            if needed[*first as usize] == 0 {
                last.push(*first);
            }
        }
    }
    (0..level.len() as u32).filter(|row| circle[*row as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_come_after_those_they_refer_to() {
        assert_eq!(sort(0, Vec::new()), (Vec::new(), 1));
        assert_eq!(sort(3, Vec::new()), (vec![0, 0, 0], 1));
        // 3 is the root, 0 below 1 below 3, 2 below 3 and 0.
        assert_eq!(sort(4, vec![(3, 1), (1, 0), (3, 2), (0, 2)]), (vec![2, 1, 3, 0], 4));
    }

    #[test]
    fn circles_come_before_what_hangs_on_them() {
        // 0 and 1 refer to each other, 2 to 1, 3 to 2; 4 to nobody.
        assert_eq!(sort(5, vec![(0, 1), (1, 0), (1, 2), (2, 3)]), (vec![1, 1, 2, 3, 0], 4));
    }

    proptest! {
        #[test]
        fn only_rows_of_a_circle_share_a_level_with_what_they_refer_to(
            rows in 1_u32..30, pairs in proptest::collection::vec((0_u32..30, 0_u32..30), 0..60)
        ) {
            let edges: Vec<(u32, u32)> =
                pairs.into_iter().map(|(a, b)| (a % rows, b % rows)).filter(|(a, b)| a != b).collect();
            let (level, count) = sort(rows, edges.clone());
            prop_assert!(level.iter().all(|level| *level < count));
            prop_assert!((0..count).all(|pass| level.contains(&pass)));
            // Whether one row can be reached from another.
            let mut reach = vec![vec![false; rows as usize]; rows as usize];
            edges.iter().for_each(|(a, b)| reach[*a as usize][*b as usize] = true);
            for middle in 0..rows as usize {
                for a in 0..rows as usize {
                    for b in 0..rows as usize {
                        reach[a][b] |= reach[a][middle] && reach[middle][b];
                    }
                }
            }
            let circular = |row: u32| reach[row as usize][row as usize];
            for (first, to) in edges {
                if !circular(to) && !(0..rows).any(|row| circular(row) && reach[to as usize][row as usize]) {
                    prop_assert!(level[first as usize] < level[to as usize]);
                }
            }
        }
    }
}
