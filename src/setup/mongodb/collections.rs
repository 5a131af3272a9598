//! What V2's collections have to look like, as the files say: a validator and indexes for each. The files are JSON in the
//! server's own words, so that what stands there can be pasted into mongosh and back.

use std::collections::BTreeMap;

use mongodb::bson::{Bson, Document, doc};
use serde::Deserialize;

use super::super::SetupFiles;
use super::super::files::MONGODB_CONTROL;
use super::super::mistakes::Mistakes;
use super::super::reference::ReferenceData;
use super::same::same;
use crate::Result;

/// A collection that V2 must have.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectionSpec {
    /// Its name.
    pub name: String,
    /// The validator, in force for every write (level strict, action error); empty: none.
    pub validator: Document,
    /// The indexes beside the one on `_id`.
    pub indexes: Vec<IndexSpec>,
}

/// An index, in the words of `createIndexes`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IndexSpec {
    /// Its name, one in the collection.
    pub name: String,
    /// Fields and directions.
    pub key: Document,
    /// Whether two documents may not share a value.
    #[serde(default)]
    pub unique: bool,
    /// Whether documents without the field are left out.
    #[serde(default)]
    pub sparse: bool,
    /// How strings are compared; `None`: byte by byte.
    pub collation: Option<Document>,
    /// Which documents are in it; `None`: all.
    pub partial_filter_expression: Option<Document>,
    /// After how many seconds documents are deleted.
    pub expire_after_seconds: Option<i64>,
}

/// One collection's file, or one entry of the control file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// For readers of the file only.
    #[serde(default, rename = "description")]
    _description: String,
    #[serde(default)]
    validator: Document,
    #[serde(default)]
    indexes: Vec<IndexSpec>,
}

impl Written {
    fn named(self, name: &str) -> CollectionSpec {
        CollectionSpec { name: name.to_owned(), validator: self.validator, indexes: self.indexes }
    }
}

impl IndexSpec {
    /// As `createIndexes` takes it, and as `v1v2_dropped` keeps it.
    pub fn command(&self) -> Document {
        let mut command = doc! { "name": &self.name, "key": &self.key };
        for (option, set) in [("unique", self.unique), ("sparse", self.sparse)] {
            if set {
                command.insert(option, true);
            }
        }
        for (option, value) in
            [("collation", &self.collation), ("partialFilterExpression", &self.partial_filter_expression)]
        {
            if let Some(value) = value {
                command.insert(option, value.clone());
            }
        }
        if let Some(seconds) = self.expire_after_seconds {
            command.insert("expireAfterSeconds", seconds);
        }
        command
    }

    /// Whether an index, as `listIndexes` describes it, demands the same, whatever it is called. More is said there than
    /// was asked for: a collation comes back with all its defaults.
    pub fn is_like(&self, live: &Document) -> bool {
        let flag = |name: &str| live.get_bool(name).unwrap_or(false);
        let document = |name: &str| live.get_document(name).ok();
        let collation = match (&self.collation, document("collation")) {
            (None, live) => live.is_none(),
            (Some(_), None) => false,
            (Some(wanted), Some(live)) => {
                wanted.iter().all(|(key, value)| live.get(key).is_some_and(|live| same(value, live)))
            }
        };
        let partial = match (&self.partial_filter_expression, document("partialFilterExpression")) {
            (None, None) => true,
            (Some(wanted), Some(live)) => same_document(wanted, live),
            _ => false,
        };
        let expires = match (self.expire_after_seconds, live.get("expireAfterSeconds")) {
            (None, None) => true,
            (Some(wanted), Some(live)) => same(&Bson::Int64(wanted), live),
            _ => false,
        };
        document("key").is_some_and(|live| same_document(&self.key, live))
            && self.unique == flag("unique")
            && self.sparse == flag("sparse")
            && collation
            && partial
            && expires
    }
}

fn same_document(one: &Document, other: &Document) -> bool {
    same(&Bson::Document(one.clone()), &Bson::Document(other.clone()))
}

/// What v1v2 keeps for itself, in the order in which it is made.
pub(super) fn control(files: &SetupFiles) -> Result<Vec<CollectionSpec>> {
    let mut mistakes = Mistakes::default();
    let written: Option<BTreeMap<String, Written>> = read(files, MONGODB_CONTROL, &mut mistakes);
    mistakes.finish()?;
    Ok(written.unwrap_or_default().into_iter().map(|(name, written)| written.named(&name)).collect())
}

/// The collections that the files describe, and those that the reference data needs besides: these get a unique index on
/// their key.
///
/// # Errors
/// Every mistake in the files at once, each with file and line (exit 2).
pub fn collections(files: &SetupFiles, reference: &ReferenceData) -> Result<Vec<CollectionSpec>> {
    let mut mistakes = Mistakes::default();
    let mut specs = Vec::new();
    for (name, file) in files.collections() {
        // How a user's folder takes a built-in collection away.
        if files.text(file).trim().is_empty() {
            continue;
        }
        if name.starts_with("v1v2_") || name.starts_with("system.") || name.contains('$') {
            mistakes.add(files.place(file), format!("a collection cannot be called \"{name}\" here"));
            continue;
        }
        let Some(written) = read::<Written>(files, file, &mut mistakes) else { continue };
        let spec = written.named(name);
        let mut names: Vec<&str> = spec.indexes.iter().map(|index| index.name.as_str()).collect();
        names.sort_unstable();
        for pair in names.windows(2).filter(|pair| pair[0] == pair[1]) {
            mistakes.add(files.place(file), format!("index \"{}\" is there twice", pair[0]));
        }
        specs.push(spec);
    }
    mistakes.finish()?;
    for table in reference.tables.iter().filter(|table| table.embedded.is_none()) {
        if specs.iter().any(|spec| spec.name == table.collection) {
            continue;
        }
        let fields: Vec<&str> = table.key.iter().map(|column| table.columns[*column].name.as_str()).collect();
        specs.push(CollectionSpec {
            name: table.collection.clone(),
            validator: Document::new(),
            indexes: vec![IndexSpec {
                name: format!("{}_{}_key", table.collection, fields.join("_")),
                key: fields.iter().map(|field| ((*field).to_owned(), Bson::Int32(1))).collect(),
                unique: true,
                sparse: false,
                collation: None,
                partial_filter_expression: None,
                expire_after_seconds: None,
            }],
        });
    }
    Ok(specs)
}

/// Parses a file, or notes where it is wrong.
fn read<T: for<'de> Deserialize<'de>>(files: &SetupFiles, file: &str, mistakes: &mut Mistakes) -> Option<T> {
    match serde_json::from_str(files.text(file)) {
        Ok(value) => Some(value),
        Err(error) => {
            // The parser's text ends with its own way of naming the line.
            let text = error.to_string();
            let what = text.split(" at line ").next().unwrap_or_default();
            mistakes.add(format!("{}:{}", files.place(file), error.line()), what);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_files_are_read() {
        let files = SetupFiles::embedded();
        let specs = collections(&files, &files.reference().unwrap()).unwrap();
        assert_eq!(specs.len(), 15);
        assert!(specs.iter().all(|spec| !spec.validator.is_empty() && !spec.indexes.is_empty()));
        let users = specs.iter().find(|spec| spec.name == "users").unwrap();
        assert_eq!(
            users.indexes[0].command(),
            doc! { "name": "users_email_key", "key": { "email": 1 }, "unique": true,
            "collation": { "locale": "en", "strength": 2 } }
        );
        assert_eq!(control(&files).unwrap().len(), 9);
    }

    #[test]
    fn an_index_is_known_by_what_it_demands() {
        let index = |text: &str| serde_json::from_str::<IndexSpec>(text).unwrap();
        let email =
            index(r#"{"name":"e","key":{"email":1},"unique":true,"collation":{"locale":"en","strength":2}}"#);
        let live = doc! { "v": 2, "name": "other", "key": { "email": 1.0 }, "unique": true,
        "collation": { "locale": "en", "caseLevel": false, "strength": 2, "version": "57.1" } };
        assert!(email.is_like(&live));
        let mut weaker = live.clone();
        weaker.remove("unique");
        assert!(!email.is_like(&weaker));
        let mut plain = live.clone();
        plain.remove("collation");
        assert!(!email.is_like(&plain));
        let turned = index(r#"{"name":"n","key":{"b":1,"a":1}}"#);
        assert!(!turned.is_like(&doc! { "name": "n", "key": { "a": 1, "b": 1 } }));
        assert!(turned.is_like(&doc! { "name": "n", "key": { "b": 1_i64, "a": 1 } }));
    }
}
