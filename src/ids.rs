//! Derived ids: the same row always gets the same id, so a reference needs no look-up and a killed run finishes
//! with the ids it began with.
//!
//! They are *ordered*: the first 48 bits follow the key's byte order, so rows that are read in key order are
//! inserted at the right edge of every index. Keys such as cuids share a long prefix that says nothing about their
//! order; it is taken off first, and is stored with the entity so that it never changes between runs.

use uuid::Uuid;

use crate::plan::KeyKind;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Makes the ids of one entity.
#[derive(Debug, Clone)]
pub struct IdMaker {
    kind: KeyKind,
    prefix: Vec<u8>,
    seed: u64,
}

impl IdMaker {
    /// `prefix` is what all keys of the entity began with when it was first read (see [`common_prefix`]).
    pub fn new(entity: &str, kind: KeyKind, prefix: &str) -> Self {
        Self { kind, prefix: prefix.as_bytes().to_vec(), seed: xxhash_rust::xxh3::xxh3_64(entity.as_bytes()) }
    }

    /// The id of a row (UUID version 8, RFC 9562 section 5.8): 48 ordered bits, then 74 bits of a hash.
    pub fn id(&self, key: &str) -> Uuid {
        self.make(key, xxh3_128_with_seed(key.as_bytes(), self.seed))
    }

    /// A further id of the same row: a label, and the position for rows that come from an array.
    pub fn labelled(&self, key: &str, label: &str, position: usize) -> Uuid {
        let seed =
            xxhash_rust::xxh3::xxh3_64_with_seed(label.as_bytes(), self.seed).wrapping_add(position as u64);
        self.make(key, xxh3_128_with_seed(key.as_bytes(), seed))
    }

    fn make(&self, key: &str, hash: u128) -> Uuid {
        let mut bytes = hash.to_be_bytes();
        bytes[..6].copy_from_slice(&self.order_bits(key.as_bytes()));
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// The first six bytes of the key after the prefix, or the number itself. A key that came later and does not share the prefix is
    /// clamped to the end it sorts towards: that costs locality, never uniqueness.
    fn order_bits(&self, key: &[u8]) -> [u8; 6] {
        if self.kind == KeyKind::Integer {
            let number = std::str::from_utf8(key).ok().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
            let bytes = number.clamp(0, 0xffff_ffff_ffff).to_be_bytes();
            return [bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]];
        }
        match key.strip_prefix(self.prefix.as_slice()) {
            Some(rest) => {
                let mut bits = [0; 6];
                let taken = rest.len().min(6);
                bits[..taken].copy_from_slice(&rest[..taken]);
                bits
            }
            None if key < self.prefix.as_slice() => [0; 6],
            None => [0xff; 6],
        }
    }
}

/// A derived id as an ObjectId, in 24 hex digits: the 48 ordered bits and the last 48 bits of the hash, the longest
/// run of bytes that neither the version nor the variant of the uuid takes part in.
pub fn object_id(id: Uuid) -> String {
    let bytes = id.into_bytes();
    bytes[..6].iter().chain(&bytes[10..]).map(|byte| format!("{byte:02x}")).collect()
}

/// The id of an account as V2 writes it: a uuid, or an ObjectId, of which the middle of the uuid that it was made from is
/// unknown (and no part of it).
pub fn parse(text: &str) -> Option<Uuid> {
    let digits = text.as_bytes();
    if digits.len() != 24 {
        return Uuid::try_parse(text).ok();
    }
    let mut bytes = [0; 16];
    for (at, pair) in digits.chunks_exact(2).enumerate() {
        let byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        bytes[if at < 6 { at } else { at + 4 }] = byte;
    }
    Some(Uuid::from_bytes(bytes))
}

/// What the first and the last key of an entity have in common, hence all keys between them.
pub fn common_prefix<'a>(first: &'a str, last: &str) -> &'a str {
    let mut end = 0;
    for ((at, a), b) in first.char_indices().zip(last.chars()) {
        if a != b {
            break;
        }
        end = at + a.len_utf8();
    }
    &first[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn is_the_same_for_ever() {
        let ids = IdMaker::new("people", KeyKind::Text, "ck");
        assert_eq!(ids.id("ck0001").to_string(), "30303031-0000-8916-9037-604d6251a6b2");
        assert_ne!(ids.id("ck0001"), IdMaker::new("others", KeyKind::Text, "ck").id("ck0001"));
        assert_eq!(object_id(ids.id("ck0001")), "303030310000604d6251a6b2");
        assert_eq!(parse(&object_id(ids.id("ck0001"))).map(object_id), Some(object_id(ids.id("ck0001"))));
        assert_eq!(parse(&ids.id("ck0001").to_string()), Some(ids.id("ck0001")));
        assert_eq!((parse("no id"), parse("zz3030310000604d6251a6b2")), (None, None));
        assert_ne!(ids.labelled("ck0001", "role", 0), ids.labelled("ck0001", "role", 1));
    }

    #[test]
    fn prefix_of_two() {
        assert_eq!(common_prefix("clx1a", "clx9z"), "clx");
        assert_eq!(common_prefix("é1", "é2"), "é");
        assert_eq!(common_prefix("", "a"), "");
    }

    proptest! {
        #[test]
        fn follows_the_order_of_keys(mut keys in proptest::collection::vec("[a-z0-9]{1,12}", 2..40)) {
            keys.sort();
            keys.dedup();
            let ids = IdMaker::new("e", KeyKind::Text, common_prefix(&keys[0], &keys[keys.len() - 1]));
            let made: Vec<_> = keys.iter().map(|key| ids.id(key).as_bytes()[..6].to_vec()).collect();
            prop_assert!(made.is_sorted());
            let distinct: std::collections::HashSet<_> = keys.iter().map(|key| ids.id(key)).collect();
            prop_assert_eq!(distinct.len(), keys.len());
        }
    }
}
