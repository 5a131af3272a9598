//! Looking decisions up while rows are read again: they come in the same order, perhaps fewer of them, so a position
//! that only moves forward does without an index of keys.

use std::ops::Deref;

use super::decision::Decision;
use super::hash;
use super::result::Census;

/// A position among the rows of one entity. Holds the census by reference or by `Arc`.
#[derive(Debug, Clone)]
pub struct Cursor<C> {
    census: C,
    entity: usize,
    at: usize,
}

impl<C: Deref<Target = Census>> Cursor<C> {
    /// At the first row of an entity.
    pub fn new(census: C, entity: usize) -> Self {
        let at = census.rows.range(entity).start;
        Self { census, entity, at }
    }

    /// The decision about the row with this key. Keys come in the order of the survey; rows may be left out. `None`
    /// for a row that the survey did not see; the position then stays where it was.
    pub fn next(&mut self, key: &str) -> Option<Decision> {
        let wanted = hash(key);
        let end = self.census.rows.range(self.entity).end;
        let found = self.census.rows.keys[self.at..end].iter().position(|key| *key == wanted)?;
        let row = self.at + found;
        self.at = row + 1;
        Some(self.census.decision(self.entity, row as u32, key))
    }

    /// The census.
    pub fn census(&self) -> &Census {
        &self.census
    }
}
