//! What each fill gives: its type, whether it can be null, and on V1's side what is wrong with it.

use std::sync::Arc;

use super::check::{Checker, Rows, id_kind, id_type};
use super::{AccountField, Fill, Ids, KeyFrom, Part};
use crate::catalog::{BsonKind, Catalog, Type, TypeKind};
use crate::definition::problem::Problem;
use crate::definition::{ConstantKind, FillDefinition, Placed};

/// What a fill gives.
pub(super) struct Given {
    pub(super) fill: Fill,
    /// Its type; `None` when it is not known or any will do.
    pub(super) data_type: Option<Type>,
    /// What it is in a document, where its type does not say.
    pub(super) kind: Option<BsonKind>,
    /// Whether it can be null as far as anybody can tell.
    pub(super) nullable: bool,
}

impl Given {
    fn new(fill: Fill, data_type: Option<Type>, nullable: bool) -> Self {
        Self { fill, data_type, kind: None, nullable }
    }

    /// Normalised text: rows in which people wrote nothing, or nothing usable, give null.
    fn contact(fill: Fill) -> Self {
        Self::new(fill, Some(Catalog::built_in("text", 'S')), true)
    }

    /// The result of a reference or look-up: an id, or an array of ids if the key is one of keys.
    fn found(fill: Fill, id: Option<Type>, kind: Option<BsonKind>, array: bool, nullable: bool) -> Self {
        if !array {
            return Self { fill, data_type: id, kind, nullable };
        }
        let array_of = |element: Type| Type {
            name: format!("{}[]", element.name),
            category: 'A',
            kind: TypeKind::Array(Box::new(element)),
        };
        let kind = kind.map(|element| BsonKind::Array(Box::new(element)));
        Self { fill, data_type: id.map(array_of), kind, nullable }
    }
}

/// The array of a part with `each`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Each {
    /// Whether the part has one.
    pub(super) present: bool,
    /// Index of the source column; `None` also if it is wrong, which is a problem of its own.
    pub(super) column: Option<usize>,
}

impl<'a> Checker<'a> {
    /// What a fill gives, and on V1's side what is wrong with it.
    pub(super) fn given(
        &mut self,
        rows: Option<Rows<'a>>,
        fill: &Placed<FillDefinition>,
        each: Each,
    ) -> Option<Given> {
        let uuid = || Some(Catalog::built_in("uuid", 'U'));
        let described = rows.and_then(|rows| rows.described);
        Some(match &fill.value {
            FillDefinition::Id => {
                let kind = rows.and_then(id_kind);
                Given { kind, ..Given::new(Fill::Id, rows.and_then(id_type), false) }
            }
            FillDefinition::DerivedId(label) => Given::new(Fill::DerivedId(label.clone()), uuid(), false),
            FillDefinition::Account(field) => {
                if rows.is_some_and(|rows| rows.definition.account.is_none()) {
                    let message = "rows of this entity have no account";
                    self.problems.push(Problem::at(fill.at, message, "there is no [account] in this file"));
                    return None;
                }
                let partly = rows
                    .and_then(|rows| rows.definition.account.as_ref())
                    .is_some_and(|account| account.when.is_some());
                let nullable = partly || may_be_null(*field);
                let kind = match field {
                    AccountField::Id => self.account_kind(),
                    AccountField::Scope => rows.and_then(|rows| self.scope_kind(rows)),
                    _ => None,
                };
                Given { kind, ..Given::new(Fill::Account(*field), Some(field_type(*field)), nullable) }
            }
            FillDefinition::Column(name) => {
                let placed = Placed { value: name.clone(), at: fill.at };
                let described = described?;
                let index = self.column_index(described, &placed)?;
                let column = &described.columns[index];
                let nullable = column.origin.is_some_and(|origin| !origin.not_null);
                Given::new(Fill::Column(index), Some(column.data_type.clone()), nullable)
            }
            FillDefinition::Each(other) => {
                let index = match other {
                    Some(name) => self.array(rows?, &Placed { value: name.clone(), at: fill.at })?,
                    None => each.column?,
                };
                let element = described?.columns[index].data_type.element().cloned();
                Given::new(Fill::Each(index), element, false)
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
                let array = self.elementwise(from, missing, each);
                let nullable = self.key_may_be_null(rows, from, missing.value);
                let fill = Fill::Reference { entity: plan_index, key: from, missing: missing.value };
                Given::found(fill, id_type(theirs), id_kind(theirs), array, nullable)
            }
            FillDefinition::Lookup { table, by, key, missing } => {
                let from = self.key_from(rows, key, each).map(|(_, from)| from);
                let (lookup, data_type, kind) = self.lookup(table, by)?;
                let from = from?;
                if let KeyFrom::Account(field) = from {
                    self.codes(&lookup, field);
                }
                let array = self.elementwise(from, missing, each);
                let nullable = self.key_may_be_null(rows, from, missing.value);
                let index = self.lookups.iter().position(|known| *known == lookup).unwrap_or_else(|| {
                    self.lookups.push(lookup);
                    self.lookups.len() - 1
                });
                let fill = Fill::Lookup { lookup: index, key: from, missing: missing.value };
                Given::found(fill, data_type, kind, array, nullable)
            }
            FillDefinition::Constant(text, kind) => {
                let kind = Some(constant_kind(text, *kind));
                Given { kind, ..Given::new(Fill::Constant(text.clone()), None, false) }
            }
            FillDefinition::Now => {
                Given::new(Fill::Now, Some(Catalog::built_in("timestamp with time zone", 'D')), false)
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

    /// What the ids of accounts are in a document.
    fn account_kind(&self) -> Option<BsonKind> {
        let ids = self.inputs.definitions.accounts.as_ref()?.ids.value;
        Some(if ids == Ids::ObjectId { BsonKind::ObjectId } else { BsonKind::Uuid })
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

/// What a constant is in a document, unless the validator wants something else of it.
fn constant_kind(text: &str, written: ConstantKind) -> BsonKind {
    match written {
        ConstantKind::Boolean => BsonKind::Bool,
        ConstantKind::Integer if text.parse::<i32>().is_ok() => BsonKind::Int,
        ConstantKind::Integer => BsonKind::Long,
        ConstantKind::Float => BsonKind::Double,
        // A time of day alone has no date that it could belong to.
        ConstantKind::Time if text.contains('-') => BsonKind::Date,
        ConstantKind::Time | ConstantKind::Text => BsonKind::Text,
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
