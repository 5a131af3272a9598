//! The live structure of a MongoDB database: collections, their validators and indexes, and what the user may do.
//!
//! MongoDB has no catalog of columns. What a collection accepts stands in its validator, what is unique in its
//! indexes; both are read once and are then a plain value, as the catalog of Postgres is.

mod read;
mod shape;

use std::collections::{BTreeMap, BTreeSet};

pub use shape::{Found, Shape};

use super::BsonKind;

/// One database's structure, as the connection's user sees it.
#[derive(Debug, Clone, Default)]
pub struct Collections {
    /// The database.
    pub database: String,
    /// Who is logged in; `None` when the server asks nobody to.
    pub user: Option<User>,
    /// Whether the user may list collections; if not, there are none here.
    pub listed: bool,
    /// By name, without those of the system.
    pub collections: BTreeMap<String, Collection>,
}

/// The user of a connection.
#[derive(Debug, Clone, Default)]
pub struct User {
    /// Name.
    pub name: String,
    /// The database that knows the user (`authSource`).
    pub database: String,
    /// What the user may do.
    pub privileges: Vec<Privilege>,
}

/// Actions on a resource.
#[derive(Debug, Clone, Default)]
pub struct Privilege {
    /// The database; empty: every one.
    pub database: String,
    /// The collection; empty: every one.
    pub collection: String,
    /// `find`, `insert`, …
    pub actions: BTreeSet<String>,
}

/// A collection or something that looks like one.
#[derive(Debug, Clone, Default)]
pub struct Collection {
    /// What it is.
    pub kind: CollectionKind,
    /// Its `$jsonSchema`.
    pub validator: Option<Shape>,
    /// Whether the server refuses what the validator does not accept (`validationAction` "error", and a
    /// `validationLevel` other than "off").
    pub enforced: bool,
    /// Whether the validator has rules beside those of [`Shape`].
    pub more_rules: bool,
    /// Its indexes, `_id`'s among them.
    pub indexes: Vec<Index>,
    /// What the `_id` of its first document is; only asked for reference data.
    pub first_id: Option<BsonKind>,
}

/// What kind of thing a [`Collection`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CollectionKind {
    /// An ordinary collection.
    #[default]
    Plain,
    /// A view.
    View,
    /// A time series: its documents cannot be written in a transaction.
    TimeSeries,
    /// A capped collection: it cannot be written in a transaction, and drops its oldest documents.
    Capped,
}

/// An index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// The fields, dotted, in order.
    pub keys: Vec<String>,
    /// Whether it is unique.
    pub unique: bool,
    /// Which documents it holds.
    pub covers: Covers,
    /// Whether its collation takes letters that differ in case for one.
    pub ignores_case: bool,
}

/// Which documents an index holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Covers {
    /// All of them; a field that is absent counts as null.
    #[default]
    All,
    /// Those that have all of these fields (`sparse`, or a partial filter of `$exists` and `$type`).
    Having(Vec<String>),
    /// Those that another filter accepts.
    Some,
}

impl Collections {
    /// Names for "did you mean".
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.collections.keys().map(String::as_str)
    }

    /// Whether the user may do this with a collection of this database.
    pub fn allows(&self, collection: &str, action: &str) -> bool {
        self.user.as_ref().is_none_or(|user| user.may(&self.database, collection, action))
    }
}

impl User {
    /// Whether the user may do this with a collection; with an empty name: with the database as a whole.
    pub fn may(&self, database: &str, collection: &str, action: &str) -> bool {
        let holds = |of: &str, name: &str| of.is_empty() || of == name;
        self.privileges.iter().any(|privilege| {
            holds(&privilege.database, database)
                && holds(&privilege.collection, collection)
                && privilege.actions.contains(action)
        })
    }
}

impl Collection {
    /// The validator, if the server enforces it.
    pub fn rules(&self) -> Option<&Shape> {
        self.validator.as_ref().filter(|_| self.enforced)
    }

    /// Whether no two documents can have the same value in this one field.
    pub fn is_unique(&self, field: &str) -> bool {
        // `_id` has an index of its own in every collection that can be written.
        field == "_id"
            || self.indexes.iter().any(|index| {
                let whole = match &index.covers {
                    Covers::All => true,
                    Covers::Having(fields) => fields.iter().all(|having| having == field),
                    Covers::Some => false,
                };
                index.unique && whole && index.keys == [field]
            })
    }

    /// The type of `_id`: what the validator says, if that is one type, else what the first document has.
    pub fn id_kind(&self) -> Option<BsonKind> {
        let types = self.validator.as_ref().and_then(|shape| shape.properties.get("_id")?.types.as_ref());
        let only = types.filter(|types| types.len() == 1).and_then(|types| types.first());
        let said = only.and_then(|name| {
            Some(match name.as_str() {
                "binData" => BsonKind::Uuid,
                "objectId" => BsonKind::ObjectId,
                "int" => BsonKind::Int,
                "long" => BsonKind::Long,
                "string" => BsonKind::Text,
                _ => return None,
            })
        });
        said.or_else(|| self.first_id.clone())
    }
}
