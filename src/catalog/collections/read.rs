//! The commands: `connectionStatus`, `listCollections`, and `listIndexes` for the collections that matter.

use std::collections::{BTreeSet, HashSet};

use futures_util::TryStreamExt;
use mongodb::Database;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::ErrorKind;

use super::{Collection, CollectionKind, Collections, Covers, Index, Privilege, Shape, User};
use crate::catalog::BsonKind;
use crate::error::{Error, Result};

/// The server's code for "not authorized".
const UNAUTHORIZED: i32 = 13;

impl Collections {
    /// Reads the structure of a database. Indexes are read of the collections in `written`, and those in `looked_up`,
    /// of which the first `_id` is read too.
    ///
    /// # Errors
    /// When the server does not answer. What the user may not read is no error: see [`Collections::listed`] and
    /// [`Collections::allows`].
    pub async fn read(
        database: &Database,
        written: &BTreeSet<&str>,
        looked_up: &BTreeSet<&str>,
    ) -> Result<Self> {
        let status = doc! { "connectionStatus": 1, "showPrivileges": true };
        let status = database
            .run_command(status)
            .await
            .map_err(|error| failed(database, "connectionStatus", &error))?;
        let mut this = Self {
            database: database.name().to_owned(),
            user: user(&status),
            listed: true,
            ..Self::default()
        };
        let Some(specifications) = listed(database, "listCollections", doc! { "listCollections": 1 }).await?
        else {
            this.listed = false;
            return Ok(this);
        };
        for specification in &specifications {
            let Ok(name) = specification.get_str("name") else { continue };
            if !name.starts_with("system.") {
                this.collections.insert(name.to_owned(), collection(specification));
            }
        }
        for (name, collection) in &mut this.collections {
            let asked = written.contains(name.as_str()) || looked_up.contains(name.as_str());
            if !asked || collection.kind == CollectionKind::View {
                continue;
            }
            let indexes = listed(database, "listIndexes", doc! { "listIndexes": name.as_str() })
                .await?
                .unwrap_or_default();
            collection.indexes = indexes.iter().map(index).collect();
            if looked_up.contains(name.as_str()) {
                let first = doc! { "find": name.as_str(), "projection": { "_id": 1 }, "limit": 1 };
                let first = listed(database, "find", first).await?.unwrap_or_default();
                collection.first_id = first.first().and_then(|first| kind_of(first.get("_id")?));
            }
        }
        Ok(this)
    }

    /// The texts that a field of a collection holds.
    ///
    /// # Errors
    /// When the server does not answer, or does not let us read.
    pub async fn texts(database: &Database, collection: &str, field: &str) -> Result<HashSet<String>> {
        let find = doc! { "find": collection, "projection": { field: 1 }, "filter": { field: { "$type": "string" } } };
        let documents = listed(database, "find", find).await?.unwrap_or_default();
        let text = |document: &Document| {
            let value = field.split('.').try_fold(Bson::Document(document.clone()), |value, name| {
                value.as_document().and_then(|document| document.get(name)).cloned()
            });
            value.as_ref().and_then(Bson::as_str).map(str::to_owned)
        };
        Ok(documents.iter().filter_map(text).collect())
    }
}

/// The documents of a command that answers with a cursor; `None`: the user may not.
async fn listed(database: &Database, what: &str, command: Document) -> Result<Option<Vec<Document>>> {
    let found = async { database.run_cursor_command(command).await?.try_collect().await }.await;
    match found {
        Ok(documents) => Ok(Some(documents)),
        Err(error) => match error.kind.as_ref() {
            ErrorKind::Command(refused) if refused.code == UNAUTHORIZED => Ok(None),
            _ => Err(failed(database, what, &error)),
        },
    }
}

/// These commands name no values of documents, so what the server says can be shown.
fn failed(database: &Database, what: &str, error: &mongodb::error::Error) -> Error {
    Error::failed(format!("V2 (database {}): {what} failed: {}", database.name(), error.kind))
}

fn user(status: &Document) -> Option<User> {
    let of = status.get_document("authInfo").ok()?;
    let user = of.get_array("authenticatedUsers").ok()?.first()?.as_document()?;
    let text = |document: &Document, key: &str| document.get_str(key).unwrap_or_default().to_owned();
    let mut privileges = Vec::new();
    for privilege in of.get_array("authenticatedUserPrivileges").into_iter().flatten() {
        let Some(privilege) = privilege.as_document() else { continue };
        let Ok(resource) = privilege.get_document("resource") else { continue };
        // What concerns the cluster has neither; `anyResource` is everything.
        if !resource.contains_key("db") && !resource.contains_key("anyResource") {
            continue;
        }
        let actions = privilege.get_array("actions").into_iter().flatten().filter_map(Bson::as_str);
        privileges.push(Privilege {
            database: text(resource, "db"),
            collection: text(resource, "collection"),
            actions: actions.map(str::to_owned).collect(),
        });
    }
    Some(User { name: text(user, "user"), database: text(user, "db"), privileges })
}

fn collection(specification: &Document) -> Collection {
    let empty = Document::new();
    let options = specification.get_document("options").unwrap_or(&empty);
    let kind = match specification.get_str("type") {
        Ok("view") => CollectionKind::View,
        Ok("timeseries") => CollectionKind::TimeSeries,
        _ if options.get_bool("capped").unwrap_or(false) => CollectionKind::Capped,
        _ => CollectionKind::Plain,
    };
    let rules = options.get_document("validator").ok().filter(|rules| !rules.is_empty());
    let schema = rules.and_then(|rules| rules.get_document("$jsonSchema").ok()).map(Shape::of);
    let beside = rules.is_some_and(|rules| rules.keys().any(|key| key != "$jsonSchema"));
    Collection {
        kind,
        enforced: options.get_str("validationAction").unwrap_or("error") != "warn"
            && options.get_str("validationLevel").unwrap_or("strict") != "off",
        more_rules: beside || schema.as_ref().is_some_and(|(_, more)| *more),
        validator: schema.map(|(shape, _)| shape),
        ..Collection::default()
    }
}

fn index(specification: &Document) -> Index {
    let keys: Vec<String> =
        specification.get_document("key").map(|keys| keys.keys().cloned().collect()).unwrap_or_default();
    let sparse = specification.get_bool("sparse").unwrap_or(false);
    let covers = match specification.get_document("partialFilterExpression") {
        Ok(filter) => having(filter).map_or(Covers::Some, Covers::Having),
        // A sparse index over several fields holds documents that have any one of them.
        Err(_) if sparse && keys.len() == 1 => Covers::Having(keys.clone()),
        Err(_) if sparse => Covers::Some,
        Err(_) => Covers::All,
    };
    let strength = specification.get_document("collation").ok().and_then(|collation| {
        let strength = collation.get("strength")?;
        strength.as_i32().map(i64::from).or(strength.as_i64())
    });
    Index {
        name: specification.get_str("name").unwrap_or_default().to_owned(),
        // The index of `_id` is unique without saying so.
        unique: specification.get_bool("unique").unwrap_or(false) || keys == ["_id"],
        keys,
        covers,
        ignores_case: strength.is_some_and(|strength| strength <= 2),
    }
}

/// The fields whose presence a filter asks for, if it asks for nothing else.
fn having(filter: &Document) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    for (field, condition) in filter {
        let condition = condition.as_document().filter(|_| !field.starts_with('$'))?;
        let presence = |(operator, value): (&String, &Bson)| match operator.as_str() {
            "$exists" => value == &Bson::Boolean(true),
            // A field of one kind is always or never of this type.
            "$type" => true,
            // Smaller than every text but "" itself: the usual way to say "a text".
            "$gt" => value == &Bson::String(String::new()),
            _ => false,
        };
        if condition.is_empty() || !condition.iter().all(presence) {
            return None;
        }
        fields.push(field.clone());
    }
    Some(fields)
}

fn kind_of(id: &Bson) -> Option<BsonKind> {
    Some(match id {
        Bson::Binary(binary) if binary.subtype == BinarySubtype::Uuid => BsonKind::Uuid,
        Bson::ObjectId(_) => BsonKind::ObjectId,
        Bson::Int32(_) => BsonKind::Int,
        Bson::Int64(_) => BsonKind::Long,
        Bson::String(_) => BsonKind::Text,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_and_what_they_hold() {
        let read = |options: Document| {
            let mut specification = doc! { "name": "i", "key": { "a.b": 1 }, "unique": true };
            specification.extend(options);
            index(&specification)
        };
        let having =
            |fields: &[&str]| Covers::Having(fields.iter().map(|field| (*field).to_owned()).collect());
        assert_eq!(read(doc! {}).covers, Covers::All);
        assert_eq!(read(doc! { "sparse": true }).covers, having(&["a.b"]));
        assert_eq!(read(doc! { "sparse": true, "key": { "a": 1, "b": 1 } }).covers, Covers::Some);
        let partial = |filter: Document| read(doc! { "partialFilterExpression": filter }).covers;
        assert_eq!(partial(doc! { "x": { "$exists": true } }), having(&["x"]));
        assert_eq!(partial(doc! { "x": { "$type": "string" }, "y": { "$gt": "" } }), having(&["x", "y"]));
        assert_eq!(partial(doc! { "x": { "$exists": false } }), Covers::Some);
        assert_eq!(partial(doc! { "active": true }), Covers::Some);
        assert!(read(doc! { "collation": { "locale": "en", "strength": 2 } }).ignores_case);
        assert!(!read(doc! { "collation": { "locale": "en", "strength": 3 } }).ignores_case);
        assert!(index(&doc! { "name": "_id_", "key": { "_id": 1 } }).unique);
    }

    #[test]
    fn what_a_user_may_do() {
        let status = doc! { "authInfo": {
            "authenticatedUsers": [{ "user": "app", "db": "admin" }],
            "authenticatedUserPrivileges": [
                { "resource": { "db": "school", "collection": "" }, "actions": ["find"] },
                { "resource": { "db": "school", "collection": "users" }, "actions": ["insert"] },
                { "resource": { "db": "other", "collection": "" }, "actions": ["update"] },
                { "resource": { "cluster": true }, "actions": ["remove"] },
            ],
        } };
        let collections =
            Collections { database: "school".to_owned(), user: user(&status), ..Collections::default() };
        assert!(collections.allows("users", "find") && collections.allows("users", "insert"));
        for (collection, action) in [("roles", "insert"), ("users", "update"), ("users", "remove")] {
            assert!(!collections.allows(collection, action), "{action} on {collection}");
        }
        let nobody = doc! { "authInfo": { "authenticatedUsers": [], "authenticatedUserPrivileges": [] } };
        let collections = Collections { user: user(&nobody), ..collections };
        assert!(collections.allows("users", "remove"), "the server asks nobody to log in");
    }

    #[test]
    fn validators_that_only_warn() {
        let read =
            |options: Document| collection(&doc! { "name": "c", "type": "collection", "options": options });
        let schema = doc! { "$jsonSchema": { "required": ["a"] } };
        let plain = read(doc! { "validator": schema.clone() });
        assert!(plain.rules().unwrap().required.contains("a") && !plain.more_rules);
        assert!(read(doc! { "validator": schema.clone(), "validationAction": "warn" }).rules().is_none());
        assert!(read(doc! { "validator": schema, "validationLevel": "off" }).rules().is_none());
        assert!(read(doc! { "validator": { "a": { "$gt": 1 } } }).more_rules);
        assert_eq!(read(doc! { "capped": true }).kind, CollectionKind::Capped);
    }
}
