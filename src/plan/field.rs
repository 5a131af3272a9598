//! Fields of a MongoDB V2: does the validator know each, does what fills it fit, is everything filled that it requires?

use std::collections::BTreeSet;

use super::check::{Checker, Rows};
use super::fill::Given;
use super::kind::{describe, fit};
use super::v2::Store;
use super::write::Writing;
use super::{AccountField, BsonColumn, BsonKind, Column, Fill, When, Write};
use crate::catalog::{Collection, Covers, Found, Shape};
use crate::definition::problem::{At, Problem};
use crate::definition::{ColumnDefinition, FillDefinition, RowsDefinition, WriteDefinition};

/// The documents that a part writes.
#[derive(Clone, Copy)]
struct Documents<'a, 'p> {
    writing: Writing<'a>,
    /// The collection's name; of embedded documents with the array's, `users.roles`.
    place: &'p str,
    shape: Option<&'a Shape>,
}

/// A field that is written, and whether some documents may lack it all the same.
struct Filled<'a> {
    path: &'a str,
    may_lack: bool,
}

impl<'a> Checker<'a> {
    /// Checks the fields of one part.
    pub(super) fn fields(
        &mut self,
        writing: Writing<'a>,
        name: &'a str,
        collection: &'a Collection,
    ) -> Vec<Column> {
        let write = writing.definition;
        let inside = write.inside.as_ref();
        let store = Store::Collection(name, collection);
        if let Some(field) = inside
            && self.has_column(store, field)
            && let Some(Found::Shape(shape)) = collection.rules().map(|shape| shape.field(&field.value))
            && !shape.allows("array")
        {
            let message = format!("V2's {name}.{} is {}, not an array", field.value, shape.type_names());
            self.problems.push(Problem::at(field.at, message, "cannot hold embedded documents"));
        }
        let place = inside.map_or_else(|| name.to_owned(), |field| format!("{name}.{}", field.value));
        let shape = root(collection, inside.map(|field| field.value.as_str()));
        let documents = Documents { writing, place: &place, shape };
        let mut columns = Vec::new();
        let mut filled: Vec<Filled<'_>> = Vec::new();
        for written in &write.columns {
            let path = written.name.value.as_str();
            let column = self.field(documents, written);
            // What is broken was reported; it must not be reported once more as missing.
            let may_lack = column.as_ref().is_some_and(|(_, nullable)| *nullable && written.null.is_none());
            filled.push(Filled { path, may_lack });
            columns.extend(column.map(|(column, _)| column));
        }
        if inside.is_none() {
            self.id_field(documents);
            for embedded in self.siblings(writing).filter(|other| other.table.value == write.table.value) {
                filled.extend(
                    embedded.inside.iter().map(|field| Filled { path: &field.value, may_lack: false }),
                );
            }
            self.indexes(documents, collection, &filled, &columns);
        }
        self.required(documents, &filled);
        columns
    }

    /// All parts of the definition that this one stands in.
    fn siblings(&self, writing: Writing<'a>) -> impl Iterator<Item = &'a WriteDefinition> + use<'a> {
        let definitions = self.inputs.definitions;
        let of_entity = writing.rows.map(|rows| rows.definition.writes.iter());
        let of_accounts = definitions.accounts.iter().flat_map(|accounts| &accounts.writes);
        let accounts = writing.rows.is_none().then_some(of_accounts);
        of_entity.into_iter().flatten().chain(accounts.into_iter().flatten())
    }

    /// One field, and whether it may be null.
    fn field(
        &mut self,
        documents: Documents<'a, '_>,
        written: &'a ColumnDefinition,
    ) -> Option<(Column, bool)> {
        let Writing { rows, each, when, .. } = documents.writing;
        let path = written.name.value.as_str();
        let place = format!("{}.{path}", documents.place);
        let found = documents.shape.map_or(Found::Anything, |shape| shape.field(path));
        if let Found::Forbidden(names) = &found {
            let message = format!(
                "the validator of V2's {} knows no field `{path}` and allows no others",
                documents.place
            );
            let problem = Problem::at(written.name.at, message, "unknown field");
            self.problems.push(problem.suggest(path, names.iter().map(String::as_str)));
        }
        let fill = written.fill.as_ref()?;
        let given = self.given(rows, fill, each)?;
        let shape = match found {
            Found::Shape(shape) => Some(shape),
            Found::Anything => None,
            Found::Forbidden(_) => return None,
        };
        let kind = self.kind(&given, shape, &place, rows, fill.at)?;
        self.values(&given, shape, &place, fill.at);
        let required = documents.shape.is_some_and(|shape| is_required(shape, path));
        if let Some(at) = written.later {
            self.later_field(&given, required && !matches!(when, Some(When::Each(_))), &place, at);
        }
        match (written.null, shape) {
            (Some(at), Some(shape)) if !shape.allows("null") => {
                let message =
                    format!("V2's validator does not accept null in {place}: {}", shape.type_names());
                let problem = Problem::at(at, message, "would be refused");
                self.problems.push(problem.help("leave `null = true` out: the field is then absent"));
            }
            (None, _) if required => self.null(&given, &place, when, rows, fill.at),
            _ => {}
        }
        let column = Column {
            name: path.to_owned(),
            type_name: kind.bson_type().unwrap_or_default().to_owned(),
            not_null: required,
            fill: constant_text(given.fill, &kind),
            later: written.later.is_some(),
            bson: Some(BsonColumn { kind, null: written.null.is_some() }),
        };
        Some((column, given.nullable || written.later.is_some()))
    }

    /// What is left out at first: is there a reason to, and does the validator let it be?
    fn later_field(&mut self, given: &Given, required: bool, place: &str, at: At) {
        if !matches!(given.fill, Fill::Reference { .. }) {
            let message =
                "an id is known from the beginning, and MongoDB has no foreign keys that could refuse it";
            self.problems.push(Problem::at(at, message, "not here").help("leave `later` out"));
        } else if required {
            let message = format!("V2's validator requires {place}, so `later` cannot leave it out at first");
            let problem = Problem::at(at, message, "would be absent at first");
            self.problems.push(
                problem.help("let the validator do without it, or mark another reference of the circle"),
            );
        }
    }

    /// A document's `_id` must be known before it is written: it is what the ledger remembers, what references point at
    /// and what keeps a document from being there twice.
    fn id_field(&mut self, documents: Documents<'_, '_>) {
        let write = documents.writing.definition;
        let id = write.columns.iter().find(|column| column.name.value == "_id");
        let fill = id.and_then(|column| column.fill.as_ref());
        if id.is_some() && fill.is_none() {
            return;
        }
        let account = FillDefinition::Account(AccountField::Id);
        let (fits, help) = match (&write.rows, fill.map(|fill| &fill.value)) {
            (RowsDefinition::Row, fill) => (
                matches!(fill, Some(FillDefinition::Id | FillDefinition::DerivedId(_)))
                    || fill == Some(&account),
                "write `_id = { id = true }`",
            ),
            (RowsDefinition::Account, fill) => (fill == Some(&account), "write `_id = { account = \"id\" }`"),
            (RowsDefinition::Each(_) | RowsDefinition::Role, fill) => (
                matches!(fill, Some(FillDefinition::DerivedId(_))),
                "write `_id = { id = \"a label\" }`, which differs from element to element",
            ),
        };
        if fits {
            return;
        }
        let problem = match fill {
            Some(fill) => {
                let message = "`_id` is an id that the engine makes, so that it is the same in every run";
                Problem::at(fill.at, message, "cannot be `_id`")
            }
            None => {
                let message = format!("nothing fills `_id` of {}", documents.place);
                Problem::at(write.table.at, message, "needs this field")
            }
        };
        self.problems.push(problem.help(help));
    }

    /// Fields that the validator requires.
    fn required(&mut self, documents: Documents<'_, '_>, filled: &[Filled<'_>]) {
        let Some(shape) = documents.shape else { return };
        let write = documents.writing.definition;
        let (mut unfilled, mut absent) = (Vec::new(), Vec::new());
        missing(shape, "", filled, &mut unfilled, &mut absent);
        // Said already, in other words.
        unfilled.retain(|path| path != "_id" || write.inside.is_some());
        if !unfilled.is_empty() {
            let (one, list) = (unfilled.len() == 1, unfilled.join(", "));
            let message =
                format!("nothing fills {list} of {}, which its validator requires", documents.place);
            let label = if one { "needs this field" } else { "needs these fields" };
            let at = write.inside.as_ref().map_or(write.table.at, |field| field.at);
            let name =
                if unfilled[0].contains('.') { format!("{:?}", unfilled[0]) } else { unfilled[0].clone() };
            let with =
                if documents.writing.rows.is_some() { "\"source_column\"" } else { "{ account = \"…\" }" };
            let help = format!("add a line such as `{name} = {with}`");
            self.problems.push(Problem::at(at, message, label).help(help));
        }
        let entity = documents.writing.rows.map_or("accounts", |rows| rows.definition.name.value.as_str());
        for path in absent {
            self.notes.push(format!(
                "{entity}: nothing inside {}.{path} may be there, which V2 requires; such rows will be rejected",
                documents.place
            ));
        }
    }

    /// Unique indexes that take a field which is not there for a value like any other.
    fn indexes(
        &mut self,
        documents: Documents<'_, '_>,
        collection: &Collection,
        filled: &[Filled<'_>],
        columns: &[Column],
    ) {
        let at = documents.writing.definition.table.at;
        for index in collection.indexes.iter().filter(|index| index.unique && index.keys != ["_id"]) {
            let name = &index.name;
            let place = documents.place;
            let of = |key: &String| filled.iter().find(|filled| touches(filled.path, key));
            if index.covers == Covers::All {
                let later = |key: &String| columns.iter().any(|column| column.later && column.name == *key);
                if index.keys.iter().all(|key| of(key).is_none() || later(key))
                    && index.keys.iter().any(later)
                {
                    let list = index.keys.join(", ");
                    let message = format!(
                        "{list} of {place} is unique ({name}), also among documents without it, which `later` makes at first"
                    );
                    let help = format!(
                        "make the index anew with `partialFilterExpression: {{ {:?}: {{ $exists: true }} }}`",
                        index.keys[0]
                    );
                    let problem = Problem::at(at, message, "a second document without it would be refused");
                    self.problems.push(problem.help(help));
                } else if index.keys.iter().all(|key| of(key).is_none()) {
                    let list = index.keys.join(", ");
                    let message = format!("nothing fills {list} of {place}, which is unique ({name})");
                    let help = format!(
                        "fill it, or make the index anew with `partialFilterExpression: {{ {:?}: {{ $exists: true }} }}`",
                        index.keys[0]
                    );
                    let problem = Problem::at(at, message, "a second document without it would be refused");
                    self.problems.push(problem.help(help));
                } else if let Some(key) = index.keys.iter().find(|key| of(key).is_some_and(|of| of.may_lack))
                {
                    self.notes.push(format!(
                        "{place}.{key} may be absent, and its unique index {name} takes all documents without it for equal: of those that also agree in its other fields only one is migrated; a partial filter ($exists) would let them pass"
                    ));
                }
            }
            let compared = |column: &&Column| {
                index.keys.contains(&column.name)
                    && matches!(column.fill, Fill::Column(_))
                    && column.bson.as_ref().is_some_and(|bson| bson.kind == BsonKind::Text)
            };
            if let Some(column) = columns.iter().find(compared).filter(|_| index.ignores_case) {
                self.notes.push(format!(
                    "{place}.{} is unique whatever its case ({name}): of rows that differ in case alone only one is migrated",
                    column.name
                ));
            }
        }
    }

    /// What an account's scope is in this entity's documents; `accounts.toml` is checked once for all of them.
    pub(super) fn scope_fields(&mut self, rows: Rows<'a>, writes: &mut [Write]) {
        let scope = rows.definition.account.as_ref().and_then(|account| account.scope.as_ref());
        let (Some(scope), Some(natural)) = (scope, self.scope_kind(rows)) else { return };
        for write in writes {
            let Some(Store::Collection(name, collection)) = self.inputs.v2.resolve(&write.table.name) else {
                continue;
            };
            let shape = root(collection, write.inside.as_deref());
            for column in &mut write.columns {
                let Some(bson) =
                    column.bson.as_mut().filter(|_| column.fill == Fill::Account(AccountField::Scope))
                else {
                    continue;
                };
                let shape = match shape.map(|shape| shape.field(&column.name)) {
                    Some(Found::Shape(shape)) => Some(shape),
                    _ => None,
                };
                if let Some(kind) = fit(&natural, None, false, shape) {
                    bson.kind = kind;
                } else if let Some(shape) = shape {
                    let inside = write.inside.iter().map(|inside| format!(".{inside}")).collect::<String>();
                    let message = format!(
                        "the scope's id does not fit V2's {name}{inside}.{}, which is {}",
                        column.name,
                        describe(shape)
                    );
                    self.problems.push(Problem::at(scope.at, message, "does not fit"));
                }
            }
        }
    }
}

/// The rules for a collection's documents, or for the elements of one of their arrays.
fn root<'c>(collection: &'c Collection, inside: Option<&str>) -> Option<&'c Shape> {
    let shape = collection.rules()?;
    match inside.map(|field| shape.field(field)) {
        None => Some(shape),
        Some(Found::Shape(array)) => array.items.as_deref(),
        Some(_) => None,
    }
}

/// Whether the object that the field stands in must have it.
pub(super) fn is_required(shape: &Shape, path: &str) -> bool {
    let (parent, name) = match path.rsplit_once('.') {
        None => (Some(shape), path),
        Some((parent, name)) => match shape.field(parent) {
            Found::Shape(parent) => (Some(parent), name),
            _ => (None, name),
        },
    };
    parent.is_some_and(|parent| parent.required.contains(name))
}

/// Whether one path is the other, or stands inside it.
fn touches(path: &str, other: &str) -> bool {
    let (short, long) = if path.len() < other.len() { (path, other) } else { (other, path) };
    long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Required paths that nothing fills, and required objects that may turn out empty, which are then left out.
fn missing(
    shape: &Shape,
    before: &str,
    filled: &[Filled<'_>],
    unfilled: &mut Vec<String>,
    absent: &mut Vec<String>,
) {
    let mut names: BTreeSet<&String> = shape.required.iter().collect();
    names.extend(shape.properties.keys());
    for name in names {
        let path = format!("{before}{name}");
        let inner = format!("{path}.");
        let required = shape.required.contains(name);
        let is_whole = filled.iter().any(|filled| filled.path == path);
        let mut parts = filled.iter().filter(|filled| filled.path.starts_with(&inner)).peekable();
        let has_parts = parts.peek().is_some();
        if required && !is_whole && !has_parts {
            unfilled.push(path);
            continue;
        }
        if required && has_parts && parts.all(|part| part.may_lack) {
            absent.push(path);
        }
        if let Some(object) = shape.properties.get(name).filter(|_| has_parts) {
            missing(object, &inner, filled, unfilled, absent);
        }
    }
}

/// Times in Postgres's form, which is what the target reads.
fn constant_text(fill: Fill, kind: &BsonKind) -> Fill {
    match fill {
        Fill::Constant(text) if *kind == BsonKind::Date => {
            Fill::Constant(text.replacen(['T', 't'], " ", 1).replace(['Z', 'z'], "+00"))
        }
        fill => fill,
    }
}
