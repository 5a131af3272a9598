//! The digest of a stored document: tells `rollback` and `validate` whether anybody changed it since.

use mongodb::bson::RawDocument;
use xxhash_rust::xxh3::Xxh3;

/// The digest of a document: xxh3-64 (seed 0) of the bytes of its fields, one after the other in the order in which
/// they are stored, each as BSON has it: type, name, NUL, value. The document's own length and its closing NUL are not
/// part of it, so a field that is left out leaves no trace.
///
/// `without` names fields, dotted, that are left out: arrays to which later chunks add elements, each of which has a
/// digest of its own (that of the element, as a document, without its place in the array). A document that such a name
/// leads through counts with type, name, its fields by the same rule, and a NUL; every other value counts whole.
///
/// MongoDB stores a document's bytes as they were sent (`_id` stands first in ours already), so what it returns has
/// the digest that was computed before it was sent.
pub fn digest(document: &RawDocument, without: &[&str]) -> u64 {
    let bytes = document.as_bytes();
    if without.is_empty() {
        return xxhash_rust::xxh3::xxh3_64(&bytes[4..bytes.len() - 1]);
    }
    let mut hash = Xxh3::new();
    add(&mut hash, document, without);
    hash.digest()
}

fn add(hash: &mut Xxh3, document: &RawDocument, without: &[&str]) {
    let bytes = document.as_bytes();
    let mut start = 4;
    for element in document.iter_elements() {
        // Nothing that a server returns is malformed; if it were, the rest would count as it is.
        let Ok(element) = element else { break };
        let name = element.key().as_str();
        let named = 1 + name.len() + 1;
        let end = start + named + element.size();
        if end >= bytes.len() {
            break;
        }
        let below = |path: &&str| path.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')).is_some();
        if without.iter().any(below)
            && let Ok(inner) = RawDocument::from_bytes(&bytes[start + named..end])
            && bytes[start] == 0x03
        {
            hash.update(&bytes[start..start + named]);
            let prefix = name.len() + 1;
            let below: Vec<&str> =
                without.iter().filter(|path| below(path)).map(|path| &path[prefix..]).collect();
            add(hash, inner, &below);
            hash.update(&[0]);
        } else if !without.contains(&name) {
            hash.update(&bytes[start..end]);
        }
        start = end;
    }
    hash.update(&bytes[start..bytes.len() - 1]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::{RawDocumentBuf, doc, rawdoc};

    #[test]
    fn leaves_fields_out() {
        let whole =
            rawdoc! { "_id": 1, "roles": [{ "a": 1 }], "name": { "first": "x", "all": [1, 2] }, "d": 2.5 };
        let without = rawdoc! { "_id": 1, "name": { "first": "x", "all": [1, 2] }, "d": 2.5 };
        assert_eq!(digest(&whole, &["roles"]), digest(&without, &[]));
        assert_eq!(digest(&whole, &["roles"]), digest(&without, &["roles", "absent", "absent.too", "d.e"]));
        assert_ne!(digest(&whole, &[]), digest(&without, &[]));
        let longer = rawdoc! { "_id": 1, "roles": [], "name": { "first": "x", "all": [3] }, "d": 2.5 };
        assert_eq!(digest(&whole, &["roles", "name.all"]), digest(&longer, &["roles", "name.all"]));
        assert_ne!(digest(&whole, &["name.all"]), digest(&longer, &["name.all"]));
    }

    #[test]
    fn is_the_hash_that_the_rule_says() {
        let fields = b"\x10_id\0\x01\0\0\0\x02a\0\x02\0\0\0b\0";
        assert_eq!(digest(&rawdoc! { "_id": 1, "a": "b" }, &[]), xxhash_rust::xxh3::xxh3_64(fields));
        let nested = b"\x03n\0\x10x\0\x05\0\0\0\0";
        let document = rawdoc! { "n": { "x": 5, "y": [7] } };
        assert_eq!(digest(&document, &["n.y"]), xxhash_rust::xxh3::xxh3_64(nested));
        let empty = RawDocumentBuf::try_from(doc! {}).unwrap();
        assert_eq!(digest(&empty, &[]), digest(&empty, &["a"]));
    }
}
