//! What each fill gives: its type, whether it can be null, and on V1's side what is wrong with it.

use std::sync::Arc;

use super::check::{Checker, Rows, id_type};
use super::query::key_kind;
use super::{AccountField, Fill, KeyFrom, Lookup, Missing, Part};
use crate::catalog::{Catalog, Type, TypeKind};
use crate::definition::problem::Problem;
use crate::definition::{FillDefinition, KeyDefinition, Placed};

/// What a fill gives.
pub(super) struct Given {
    pub(super) fill: Fill,
    /// Its type; `None` when it is not known or any will do.
    pub(super) data_type: Option<Type>,
    /// Whether it can be null as far as anybody can tell.
    pub(super) nullable: bool,
}

impl Given {
    /// Normalised text: rows in which people wrote nothing, or nothing usable, give null.
    fn contact(fill: Fill) -> Self {
        Self { fill, data_type: Some(Catalog::built_in("text", 'S')), nullable: true }
    }
}

impl<'a> Checker<'a> {
    /// What a fill gives, and on V1's side what is wrong with it.
    pub(super) fn given(
        &mut self,
        rows: Option<Rows<'a>>,
        fill: &Placed<FillDefinition>,
        each: Option<usize>,
    ) -> Option<Given> {
        let uuid = || Some(Catalog::built_in("uuid", 'U'));
        let described = rows.and_then(|rows| rows.described);
        Some(match &fill.value {
            FillDefinition::Id => {
                let data_type = rows.and_then(|rows| id_type(rows.definition.ids, rows));
                Given { fill: Fill::Id, data_type, nullable: false }
            }
            FillDefinition::DerivedId(label) => {
                Given { fill: Fill::DerivedId(label.clone()), data_type: uuid(), nullable: false }
            }
            FillDefinition::Account(field) => {
                if rows.is_some_and(|rows| rows.definition.account.is_none()) {
                    let message = "rows of this entity have no account";
                    self.problems.push(Problem::at(fill.at, message, "there is no [account] in this file"));
                    return None;
                }
                let partly = rows
                    .and_then(|rows| rows.definition.account.as_ref())
                    .is_some_and(|account| account.when.is_some());
                Given {
                    fill: Fill::Account(*field),
                    data_type: Some(field_type(*field)),
                    nullable: partly || may_be_null(*field),
                }
            }
            FillDefinition::Column(name) => {
                let placed = Placed { value: name.clone(), at: fill.at };
                let described = described?;
                let index = self.column_index(described, &placed)?;
                let column = &described.columns[index];
                let nullable = column.origin.is_some_and(|origin| !origin.not_null);
                Given { fill: Fill::Column(index), data_type: Some(column.data_type.clone()), nullable }
            }
            FillDefinition::Each(other) => {
                let index = match other {
                    Some(name) => self.array(rows?, &Placed { value: name.clone(), at: fill.at })?,
                    None => each?,
                };
                let element = described?.columns[index].data_type.element().cloned();
                Given { fill: Fill::Each(index), data_type: element, nullable: false }
            }
            FillDefinition::Email(column) => Given::contact(Fill::Email(self.contact(rows?, column)?)),
            FillDefinition::Phone(column) => {
                let region = self.phone_region(fill);
                let column = self.contact(rows?, column)?;
                Given::contact(Fill::Phone { column, region: region? })
            }
            FillDefinition::Address { column, part, prefer } => {
                self.part(rows?, column, Part::Address(*part), prefer.as_ref())?
            }
            FillDefinition::Name { column, part, prefer } => {
                self.part(rows?, column, Part::Name(*part), prefer.as_ref())?
            }
            FillDefinition::Reference { entity, key, missing } => {
                let (key_type, from) = self.key_from(rows, key, each)?;
                let definitions = self.inputs.definitions;
                let definition =
                    definitions.entities.iter().position(|other| other.name.value == entity.value)?;
                let plan_index = self.order.iter().position(|index| *index == definition)?;
                let theirs = self.rows_of(definition);
                self.same_key(key, key_type, theirs);
                let data_type = id_type(theirs.definition.ids, theirs);
                let nullable = *missing == Missing::Null || self.key_may_be_null(rows, from);
                Given {
                    fill: Fill::Reference { entity: plan_index, key: from, missing: *missing },
                    data_type,
                    nullable,
                }
            }
            FillDefinition::Lookup { table, by, key, missing } => {
                let from = self.key_from(rows, key, each).map(|(_, from)| from);
                let (lookup, data_type) = self.lookup(table, by)?;
                let from = from?;
                if let KeyFrom::Account(field) = from {
                    self.codes(&lookup, field);
                }
                let nullable = *missing == Missing::Null || self.key_may_be_null(rows, from);
                let index = self.lookups.iter().position(|known| *known == lookup).unwrap_or_else(|| {
                    self.lookups.push(lookup);
                    self.lookups.len() - 1
                });
                Given {
                    fill: Fill::Lookup { lookup: index, key: from, missing: *missing },
                    data_type,
                    nullable,
                }
            }
            FillDefinition::Constant(text) => {
                Given { fill: Fill::Constant(text.clone()), data_type: None, nullable: false }
            }
            FillDefinition::Now => {
                let data_type = Some(Catalog::built_in("timestamp with time zone", 'D'));
                Given { fill: Fill::Now, data_type, nullable: false }
            }
        })
    }

    fn part(
        &mut self,
        rows: Rows<'a>,
        column: &Placed<String>,
        part: Part,
        prefer: Option<&Placed<String>>,
    ) -> Option<Given> {
        let column = self.contact(rows, column);
        let preferred = prefer.map(|prefer| self.contact(rows, prefer));
        let prefer = match preferred {
            Some(index) => Some(index?),
            None => None,
        };
        Some(Given::contact(Fill::Part { column: column?, part, prefer }))
    }

    /// The region in which phones are read: without one the same digits could be two people's phones.
    fn phone_region(&mut self, fill: &Placed<FillDefinition>) -> Option<Arc<str>> {
        let accounts = self.inputs.definitions.accounts.as_ref();
        let region =
            accounts.map(|accounts| accounts.phone_region.as_str()).filter(|region| !region.is_empty());
        if region.is_none() && !self.accounts_are_broken() {
            let message =
                "accounts.toml has no `phone_region`, so a phone without a country code cannot be read";
            let problem = Problem::at(fill.at, message, "of which country?");
            self.problems.push(problem.help("add `[account]` with `phone_region = \"NG\"` to accounts.toml"));
        }
        region.map(Arc::from)
    }

    /// The rows of an entity by its definition index.
    pub(super) fn rows_of(&self, definition: usize) -> Rows<'a> {
        let described = self.inputs.sources.get(definition).and_then(Option::as_ref);
        Rows {
            definition: &self.inputs.definitions.entities[definition],
            described: described.and_then(|result| result.as_ref().ok()),
        }
    }

    /// Index of a source column that must be an array.
    pub(super) fn array(&mut self, rows: Rows<'a>, name: &Placed<String>) -> Option<usize> {
        let described = rows.described?;
        let index = self.column_index(described, name)?;
        let column = &described.columns[index];
        if column.data_type.element().is_none() {
            let message = format!("`{}` is {}, not an array", name.value, column.data_type.name);
            let problem = Problem::at(name.at, message, "an array is needed");
            self.problems.push(problem.help("gather the values in the query: array(select … )"));
            return None;
        }
        Some(index)
    }

    /// Where a key stands, and its type.
    fn key_from(
        &mut self,
        rows: Option<Rows<'a>>,
        key: &Placed<KeyDefinition>,
        each: Option<usize>,
    ) -> Option<(Option<Type>, KeyFrom)> {
        match &key.value {
            KeyDefinition::Account(field) => Some((None, KeyFrom::Account(*field))),
            KeyDefinition::Column(name) => {
                let described = rows?.described?;
                let index = self.column_index(described, &Placed { value: name.clone(), at: key.at })?;
                Some((Some(described.columns[index].data_type.clone()), KeyFrom::Column(index)))
            }
            KeyDefinition::Each(other) => {
                let index = match other {
                    Some(name) => self.array(rows?, &Placed { value: name.clone(), at: key.at })?,
                    None => each?,
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

    fn key_may_be_null(&self, rows: Option<Rows<'a>>, key: KeyFrom) -> bool {
        let column = match (key, rows.and_then(|rows| rows.described)) {
            (KeyFrom::Column(index), Some(described)) => described.columns.get(index),
            _ => None,
        };
        column.and_then(|column| column.origin).is_some_and(|origin| !origin.not_null)
    }

    fn lookup(&mut self, table: &Placed<String>, by: &Placed<String>) -> Option<(Lookup, Option<Type>)> {
        let v2 = self.inputs.v2;
        let Some((name, found)) = v2.resolve(&table.value) else {
            if !self.unprepared {
                let names: Vec<String> = v2.names().collect();
                let problem =
                    Problem::at(table.at, format!("V2 has no table `{}`", table.value), "unknown table");
                self.problems.push(problem.suggest(&table.value, names.iter().map(String::as_str)));
            }
            return None;
        };
        self.uses(name, false);
        if found.column(&by.value).is_none() {
            let message = format!("V2's table {} has no column `{}`", name.name, by.value);
            let names = found.columns.iter().map(|column| column.name.as_str());
            self.problems.push(Problem::at(by.at, message, "unknown column").suggest(&by.value, names));
            return None;
        }
        if !found.is_unique(&by.value) {
            let message =
                format!("{}.{} is not unique, so a look-up could find several rows", name.name, by.value);
            let help = "look up a column with a unique constraint of its own";
            self.problems.push(Problem::at(by.at, message, "not unique").help(help));
        }
        let Some([id]) = found.primary_key.as_deref() else {
            let message = format!("{} has no primary key of one column to take", name.name);
            self.problems.push(Problem::at(table.at, message, "cannot be looked up"));
            return None;
        };
        let data_type = found.column(id).map(|column| column.data_type.clone());
        Some((Lookup { table: name.clone(), by: by.value.clone(), id: id.clone() }, data_type))
    }

    /// Type and role codes are known beforehand: one that V2 lacks would reject every row.
    fn codes(&mut self, lookup: &Lookup, field: AccountField) {
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
                    problem.help("the table is empty: run `v1v2 setup` first")
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

/// The type of what an account holds.
fn field_type(field: AccountField) -> Type {
    use AccountField as F;
    match field {
        F::Id | F::Scope => Catalog::built_in("uuid", 'U'),
        F::EmailIsPlaceholder | F::PhoneIsValid | F::PhoneNeedsReview | F::MustChangePassword | F::Locked => {
            Catalog::built_in("boolean", 'B')
        }
        F::CreatedAt | F::UpdatedAt => Catalog::built_in("timestamp with time zone", 'D'),
        // So that an enum in V2 is compared label by label.
        F::Status => Type {
            name: "status".to_owned(),
            category: 'S',
            kind: TypeKind::Enum(vec!["ACTIVE".to_owned(), "LOCKED".to_owned()]),
        },
        _ => Catalog::built_in("text", 'S'),
    }
}

fn may_be_null(field: AccountField) -> bool {
    use AccountField as F;
    !matches!(
        field,
        F::Id
            | F::Type
            | F::Role
            | F::Email
            | F::EmailIsPlaceholder
            | F::PhoneNeedsReview
            | F::Username
            | F::MustChangePassword
            | F::Locked
            | F::Status
            | F::FirstName
            | F::CreatedAt
            | F::UpdatedAt
    )
}
