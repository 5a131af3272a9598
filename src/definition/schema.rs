//! The JSON Schema of definition files, so that an editor completes keys and underlines mistakes while one writes.
//!
//! It is made from the lists that the reader itself uses and kept as `config/definitions.schema.json`; a test
//! compares the two. Only form can be told here: what the databases decide is told by `v1v2 check`. It is in draft 7,
//! which editors' TOML extensions understand.

use serde_json::{Map, Value, json};

use super::keys::{self, Keys};
use super::{FILLS, LATER, NULL, can_be_null};
use crate::plan::{AccountField, AddressPart, Ids, Missing, NamePart, Policy};
use crate::source::files::ENCODINGS;

/// The schema of both kinds of files: a definition of an entity, and `accounts.toml`.
pub fn schema() -> Value {
    let ended = |keys: Keys, required: &[&str], constant: &str| {
        let mut schema = object(keys, required, entity_key);
        schema["properties"][constant]["const"] = json!(true);
        schema
    };
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "v1v2 definition",
        "description": "What an entity is read from in V1 and what it becomes in V2, or (accounts.toml) what an account is. See docs/definitions.md.",
        "anyOf": [{ "$ref": "#/definitions/entity" }, { "$ref": "#/definitions/disabled" }, { "$ref": "#/definitions/accounts" }],
        "definitions": {
            "entity": object(keys::ENTITY, &["entity", "source"], entity_key),
            "disabled": ended(keys::ENTITY, &["disabled"], "disabled"),
            "accounts": object(keys::ACCOUNTS, &[], accounts_key),
            "fill": { "anyOf": fills(false, false) },
            "accountsFill": { "anyOf": fills(true, false) },
            "fieldFill": { "anyOf": fills(false, true) },
            "accountsFieldFill": { "anyOf": fills(true, true) },
            "column": { "type": "string", "minLength": 1 },
        },
    })
}

/// A table with these keys and no others.
fn object(keys: Keys, required: &[&str], of: impl Fn(&str) -> Value) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|(key, what)| ((*key).to_owned(), described(of(key), what))).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// Beside `$ref` draft 7 ignores everything else, so such a schema is wrapped.
fn described(schema: Value, what: &str) -> Value {
    let mut schema = if schema.get("$ref").is_some() { json!({ "allOf": [schema] }) } else { schema };
    schema["description"] = json!(what);
    schema
}

fn column() -> Value {
    json!({ "$ref": "#/definitions/column" })
}

fn text() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

/// One of these names, each with what it stands for.
fn choice<'n>(names: impl IntoIterator<Item = (&'n str, &'n str)>) -> Value {
    let choices: Vec<Value> = names
        .into_iter()
        .map(|(name, what)| match what {
            "" => json!({ "const": name }),
            what => json!({ "const": name, "description": what }),
        })
        .collect();
    json!({ "anyOf": choices })
}

fn names<T>(choices: &[(&'static str, T)]) -> Value {
    json!({ "enum": choices.iter().map(|(name, _)| *name).collect::<Vec<_>>() })
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn entity_key(key: &str) -> Value {
    match key {
        "entity" => json!({ "type": "string", "pattern": "^[a-z][a-z0-9_]*$" }),
        "after" => list(text()),
        "ids" => names(Ids::NAMES),
        "disabled" => json!({ "type": "boolean" }),
        "source" => object(keys::SOURCE, &["key", "query"], |key| match key {
            "file" => list(object(keys::FILE, &["table", "path"], |key| match key {
                "columns" => json!({ "type": "object", "additionalProperties": text() }),
                "encoding" => json!({ "enum": ENCODINGS }),
                _ => text(),
            })),
            _ => text(),
        }),
        "account" => {
            let mut account = object(keys::ACCOUNT, &["type", "role"], |key| match key {
                "type" | "role" => text(),
                "scope" => json!({ "anyOf": [
                    object(keys::OWN_SCOPE, &["id"], |_| json!({ "const": true })),
                    object(keys::OTHER_SCOPE, &["entity", "key"], |_| text()),
                ] }),
                _ => column(),
            });
            account["anyOf"] = json!([{ "required": ["name"] }, { "required": ["first_name", "last_name"] }]);
            account
        }
        "postgres" => list(object(keys::WRITE, &["table", "columns"], |key| write_key(key, "fill"))),
        "mongodb" => list(object(keys::COLLECTION, &["collection", "fields"], |key| match key {
            "embed" => {
                list(object(keys::EMBED, &["field", "each", "fields"], |key| write_key(key, "fieldFill")))
            }
            _ => write_key(key, "fieldFill"),
        })),
        _ => json!({}),
    }
}

fn accounts_key(key: &str) -> Value {
    match key {
        "builtin" => json!({ "type": "boolean" }),
        "order" => list(text()),
        "account" => object(keys::ACCOUNTS_ACCOUNT, &["phone_region"], |key| match key {
            "phone_region" => json!({ "type": "string", "pattern": "^[A-Z]{2}$" }),
            "ids" => names(Ids::OF_ACCOUNTS),
            _ => text(),
        }),
        "policies" => object(keys::POLICIES, &[], |key| names(Policy::choices(key))),
        "postgres" => list(object(keys::ACCOUNTS_WRITE, &["table", "per", "columns"], |key| {
            write_key(key, "accountsFill")
        })),
        "mongodb" => {
            list(object(keys::ACCOUNTS_COLLECTION, &["collection", "per", "fields"], |key| match key {
                "embed" => list(object(keys::ACCOUNTS_EMBED, &["field", "per", "fields"], |key| match key {
                    "per" => json!({ "const": "role" }),
                    _ => write_key(key, "accountsFieldFill"),
                })),
                _ => write_key(key, "accountsFieldFill"),
            }))
        }
        _ => json!({}),
    }
}

fn write_key(key: &str, fill: &str) -> Value {
    match key {
        "per" => json!({ "enum": ["account", "role"] }),
        "columns" | "fields" => {
            json!({ "type": "object", "additionalProperties": { "$ref": format!("#/definitions/{fill}") } })
        }
        _ => text(),
    }
}

/// What can fill a column. `accounts`: in `accounts.toml`, which knows no rows of V1. `document`: it is a field.
fn fills(accounts: bool, document: bool) -> Vec<Value> {
    let mut fills = Vec::new();
    if !accounts {
        fills.push(described(column(), "a source column, unchanged"));
    }
    let of_a_row =
        |kind: &str| matches!(kind, "entity" | "each" | "email" | "phone" | "address" | "name" | "column");
    for (kind, keys) in FILLS.iter().filter(|(kind, _)| !(accounts && of_a_row(kind))) {
        let keys =
            keys.iter().filter(|key| !(accounts && (*kind == "lookup" && **key == "key" || **key == LATER)));
        let mut properties: Map<String, Value> =
            keys.map(|key| ((*key).to_owned(), fill_key(kind, key, accounts))).collect();
        if document && can_be_null(kind) {
            let what = "true: where there is no value, null is written instead of leaving the field out";
            properties.insert(NULL.to_owned(), json!({ "type": "boolean", "description": what }));
        }
        let (required, what): (&[&str], _) = match *kind {
            "lookup" => (&["by"], "the primary key of a row of V2's reference data"),
            "entity" => (&["key"], "V2 id of the row of that entity with this key"),
            "id" => (&[], "this row's V2 id, or a further one derived from a label"),
            "account" => (&[], "something of the account"),
            "each" => (&[], "an array's element"),
            "email" => (&[], "a source column as a normalised email; null when there is none"),
            "phone" => (&[], "a source column as E.164, or its text when it is no possible number"),
            "address" => (&["part"], "a part of a source column with a whole address"),
            "name" => (&["part"], "a part of a source column with a whole name"),
            "value" => (&[], "the same for every row"),
            "column" => (&[], "a source column, unchanged"),
            _ => (&[], "the time at which the run began (UTC)"),
        };
        let required: Vec<&str> = std::iter::once(*kind).chain(required.iter().copied()).collect();
        let mut fill = json!({
            "type": "object", "description": what, "properties": properties, "required": required,
            "additionalProperties": false,
        });
        if *kind == "lookup" {
            fill["oneOf"] = json!([{ "required": ["key"] }, { "required": ["account"] }]);
        }
        fills.push(fill);
    }
    fills
}

fn fill_key(kind: &str, key: &str, accounts: bool) -> Value {
    match (kind, key) {
        (_, LATER) => json!({
            "type": "boolean",
            "description": "true: it is filled in once all rows are in V2, which opens a circle of references",
        }),
        ("id", _) if accounts => text(),
        ("id" | "each", _) => json!({ "anyOf": [{ "const": true }, text()] }),
        ("now", _) => json!({ "const": true }),
        ("value", _) => json!({ "type": ["string", "boolean", "number"] }),
        (_, "account") => choice(AccountField::NAMES.iter().map(|(name, _, what)| (*name, *what))),
        ("address", "part") => choice(AddressPart::NAMES.iter().map(|(name, _, what)| (*name, *what))),
        ("name", "part") => choice(NamePart::NAMES.iter().map(|(name, _, what)| (*name, *what))),
        (_, "missing") => names(Missing::NAMES),
        (_, "key") => json!({ "anyOf": [
            column(),
            {
                "type": "object",
                "properties": { "each": { "anyOf": [{ "const": true }, text()] } },
                "required": ["each"],
                "additionalProperties": false,
            },
        ] }),
        _ => text(),
    }
}
