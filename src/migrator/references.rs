//! What a row may refer to: rows of other entities that are in V2, and V2's reference data.
//!
//! Both are known without asking V2 row by row: ids are derived from keys, so only *whether* a row was migrated has
//! to be remembered, in eight bytes each; reference data is small and is read once.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{PoisonError, RwLock};

use xxhash_rust::xxh3::xxh3_64;

/// The keys are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The keys of one entity's rows that are in V2.
#[derive(Default)]
pub struct MigratedKeys(RwLock<HashSet<u64, BuildHasherDefault<AsIs>>>);

impl MigratedKeys {
    /// Whether the row with this key is in V2.
    pub fn contains(&self, key: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&xxh3_64(key.as_bytes()))
    }

    /// Remembers rows that are in V2 now.
    pub fn extend<'k>(&self, keys: impl Iterator<Item = &'k str>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.extend(keys.map(|key| xxh3_64(key.as_bytes())));
    }
}

/// By index of the plan's entities; `None` where nothing refers to the entity.
pub struct References(pub Vec<Option<MigratedKeys>>);

impl References {
    /// Whether the row is in V2.
    pub fn exists(&self, entity: usize, key: &str) -> bool {
        self.0[entity].as_ref().is_none_or(|keys| keys.contains(key))
    }

    /// Remembers rows that are in V2 now.
    pub fn add<'k>(&self, entity: usize, keys: impl Iterator<Item = &'k str>) {
        if let Some(known) = &self.0[entity] {
            known.extend(keys);
        }
    }
}

/// V2's reference data, by index of the plan's look-ups: text key to text id.
pub struct Lookups(pub Vec<HashMap<String, String>>);

impl Lookups {
    /// The id of a row of reference data.
    pub fn find(&self, lookup: usize, key: &str) -> Option<&str> {
        self.0[lookup].get(key).map(String::as_str)
    }
}

/// An array as Postgres writes it. Everything is quoted, which is always right: an element may be a key as V1 has it.
pub(super) fn array_text<'e>(elements: impl Iterator<Item = Option<&'e str>>) -> String {
    let mut text = String::from("{");
    for (index, element) in elements.enumerate() {
        if index > 0 {
            text.push(',');
        }
        let Some(element) = element else {
            text.push_str("NULL");
            continue;
        };
        text.push('"');
        for char in element.chars() {
            if matches!(char, '"' | '\\') {
                text.push('\\');
            }
            text.push(char);
        }
        text.push('"');
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::row;

    #[test]
    fn arrays_as_postgres_writes_them() {
        assert_eq!(array_text([].into_iter()), "{}");
        assert_eq!(array_text([Some("a"), None, Some("NULL")].into_iter()), "{\"a\",NULL,\"NULL\"}");
    }

    proptest! {
        #[test]
        fn arrays_are_read_back(elements in any::<Vec<Option<String>>>()) {
            let text = array_text(elements.iter().map(Option::as_deref));
            prop_assert_eq!(row::elements(&text), elements);
        }
    }
}
