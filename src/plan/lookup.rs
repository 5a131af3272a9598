//! The keys of references and look-ups: where they stand, whether both sides write them the same way, and whether V2's
//! reference data can be looked up by them.

use super::check::{Checker, Rows};
use super::fill::Each;
use super::query::key_kind;
use super::v2::Store;
use super::{AccountField, KeyFrom, Lookup, Missing};
use crate::catalog::{BsonKind, Type};
use crate::definition::problem::Problem;
use crate::definition::{KeyDefinition, Placed};

impl<'a> Checker<'a> {
    /// Where a key stands, and its type.
    pub(super) fn key_from(
        &mut self,
        rows: Option<Rows<'a>>,
        key: &Placed<KeyDefinition>,
        each: Each,
    ) -> Option<(Option<Type>, KeyFrom)> {
        match &key.value {
            KeyDefinition::Account(field) => Some((None, KeyFrom::Account(*field))),
            KeyDefinition::Column(name) => {
                let described = rows?.described?;
                let index = self.column_index(described, &Placed { value: name.clone(), at: key.at })?;
                let data_type = &described.columns[index].data_type;
                Some(match data_type.element() {
                    Some(element) => (Some(element.clone()), KeyFrom::Elements(index)),
                    None => (Some(data_type.clone()), KeyFrom::Column(index)),
                })
            }
            KeyDefinition::Each(other) => {
                let index = match other {
                    Some(name) => self.array(rows?, &Placed { value: name.clone(), at: key.at })?,
                    None => each.column?,
                };
                Some((rows?.described?.columns[index].data_type.element().cloned(), KeyFrom::Each(index)))
            }
        }
    }

    /// Keys are compared as text, so both sides must write them the same way.
    pub(super) fn same_key(&mut self, key: &Placed<KeyDefinition>, ours: Option<Type>, theirs: Rows<'a>) {
        let theirs_key = theirs.definition.source.as_ref().map(|source| source.key.value.as_str());
        let column = theirs.described.and_then(|described| {
            described.columns.iter().find(|column| Some(column.name.as_str()) == theirs_key)
        });
        let (Some(ours), Some(column)) = (ours, column) else { return };
        let Some(wanted) = key_kind(&column.data_type) else { return };
        if key_kind(&ours) != Some(wanted) {
            let message = format!(
                "this is {}, but the key of `{}` is {}",
                ours.name, theirs.definition.name.value, column.data_type.name
            );
            let help = format!("cast it in the query: `…::{}`", column.data_type.name);
            self.problems.push(Problem::at(key.at, message, "another type than the key").help(help));
        }
    }

    pub(super) fn key_may_be_null(&self, rows: Option<Rows<'a>>, key: KeyFrom, missing: Missing) -> bool {
        let (column, array) = match key {
            KeyFrom::Column(index) => (Some(index), false),
            KeyFrom::Elements(index) => (Some(index), true),
            KeyFrom::Each(_) | KeyFrom::Account(_) => (None, false),
        };
        let described = rows.and_then(|rows| rows.described);
        let column = column.and_then(|index| described?.columns.get(index));
        // A missing element leaves its array as it is.
        (missing == Missing::Null && !array)
            || column.and_then(|column| column.origin).is_some_and(|origin| !origin.not_null)
    }

    /// Whether the result is an array. `missing = "skip"` needs something to leave out: an element or a row of several.
    pub(super) fn elementwise(&mut self, key: KeyFrom, missing: &Placed<Missing>, each: Each) -> bool {
        let array = matches!(key, KeyFrom::Elements(_));
        if missing.value == Missing::Skip && !array && !each.present {
            let message = "`missing = \"skip\"` leaves out one of several, but this part has no `each` and the key is no array";
            self.problems
                .push(Problem::at(missing.at, message, "not here").help("use \"reject\" or \"null\""));
        }
        array
    }

    /// What is looked up, and the type of its ids.
    pub(super) fn lookup(
        &mut self,
        table: &Placed<String>,
        by: &Placed<String>,
    ) -> Option<(Lookup, Option<Type>, Option<BsonKind>)> {
        let store = self.store(table)?;
        self.uses(store, false);
        if !self.has_column(store, by) {
            return None;
        }
        if !store.is_unique(&by.value) {
            let message =
                format!("{}.{} is not unique, so a look-up could find several rows", store.name(), by.value);
            let help = match store {
                Store::Table(..) => "look up a column with a unique constraint of its own",
                Store::Collection(..) => "look up a field with a unique index of its own",
            };
            self.problems.push(Problem::at(by.at, message, "not unique").help(help));
        }
        let Some(id) = store.key() else {
            let message = format!("{} has no primary key of one column to take", store.name());
            self.problems.push(Problem::at(table.at, message, "cannot be looked up"));
            return None;
        };
        let lookup = Lookup { table: store.table_name(), by: by.value.clone(), id: id.to_owned() };
        Some(match store {
            Store::Table(_, table) => (lookup, table.column(id).map(|column| column.data_type.clone()), None),
            Store::Collection(_, collection) => (lookup, None, collection.id_kind()),
        })
    }

    /// Type and role codes are known beforehand: one that V2 lacks would reject every row.
    pub(super) fn codes(&mut self, lookup: &Lookup, field: AccountField) {
        let Some(codes) = self.inputs.codes.get(lookup) else { return };
        for entity in &self.inputs.definitions.entities {
            let Some(account) = &entity.account else { continue };
            let code = match field {
                AccountField::Type => &account.account_type,
                AccountField::Role => &account.role,
                _ => return,
            };
            if !codes.contains(&code.value) {
                let message =
                    format!("V2's {} has no row whose {} is `{}`", lookup.table.name, lookup.by, code.value);
                let mut names: Vec<&str> = codes.iter().map(String::as_str).collect();
                names.sort_unstable();
                let problem = Problem::at(code.at, message, "unknown code");
                let problem = if names.is_empty() {
                    problem
                        .help(format!("the {} is empty: run `v1v2 setup` first", self.inputs.v2.store_word()))
                } else {
                    problem.suggest(&code.value, names)
                };
                // The same look-up can stand in several writes.
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
            }
        }
    }
}
