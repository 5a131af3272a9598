//! V2 of either kind, as far as both can answer the same question: is there such a table or collection, has it such
//! a column or field, is that unique? Rules that need no more than this stand once, for both.

use super::check::Checker;
use super::field::is_required;
use super::{Column, TableName, Unique};
use crate::catalog::{Catalog, Collection, CollectionKind, Collections, Covers, Found, Table, TableKind};
use crate::definition::Placed;
use crate::definition::problem::Problem;

/// V2's structure.
#[derive(Debug, Clone, Copy)]
pub enum V2<'a> {
    /// A Postgres database: the `[[postgres]]` parts are written.
    Postgres(&'a Catalog),
    /// A MongoDB database: the `[[mongodb]]` parts are written.
    MongoDb(&'a Collections),
}

/// What holds rows or documents.
#[derive(Debug, Clone, Copy)]
pub(super) enum Store<'a> {
    Table(&'a TableName, &'a Table),
    Collection(&'a str, &'a Collection),
}

impl<'a> V2<'a> {
    /// The table or collection that a definition names.
    pub(super) fn resolve(self, written: &str) -> Option<Store<'a>> {
        match self {
            Self::Postgres(catalog) => {
                catalog.resolve(written).map(|(name, table)| Store::Table(name, table))
            }
            Self::MongoDb(collections) => collections
                .collections
                .get_key_value(written)
                .map(|(name, collection)| Store::Collection(name, collection)),
        }
    }

    fn names(self) -> Vec<String> {
        match self {
            Self::Postgres(catalog) => catalog.names().collect(),
            Self::MongoDb(collections) => collections.names().map(str::to_owned).collect(),
        }
    }

    /// What holds rows is called.
    pub(super) fn store_word(self) -> &'static str {
        match self {
            Self::Postgres(_) => "table",
            Self::MongoDb(_) => "collection",
        }
    }

    /// How the parts of a definition are written that count for this V2.
    pub(super) fn part(self) -> &'static str {
        match self {
            Self::Postgres(_) => "[[postgres]]",
            Self::MongoDb(_) => "[[mongodb]]",
        }
    }

    /// The catalog of a Postgres V2.
    pub(super) fn catalog(self) -> Option<&'a Catalog> {
        match self {
            Self::Postgres(catalog) => Some(catalog),
            Self::MongoDb(_) => None,
        }
    }
}

impl<'a> Store<'a> {
    /// Its full name; a collection has no schema.
    pub(super) fn table_name(self) -> TableName {
        match self {
            Self::Table(name, _) => name.clone(),
            Self::Collection(name, _) => TableName { schema: String::new(), name: name.to_owned() },
        }
    }

    pub(super) fn name(self) -> &'a str {
        match self {
            Self::Table(name, _) => &name.name,
            Self::Collection(name, _) => name,
        }
    }

    /// Why it cannot be written, if so.
    pub(super) fn unwritable(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Table(_, table) if table.kind == TableKind::View => {
                Some(("a view", "only tables can be written"))
            }
            Self::Table(..) => None,
            Self::Collection(_, collection) => match collection.kind {
                CollectionKind::Plain => None,
                CollectionKind::View => Some(("a view", "only collections can be written")),
                CollectionKind::TimeSeries => Some(("a time series", "cannot be written in a transaction")),
                CollectionKind::Capped => Some(("a capped collection", "cannot be written in a transaction")),
            },
        }
    }

    /// Whether it has the column; `Err`: it has not, but these. Fields of a collection may be anything that its
    /// validator does not exclude.
    pub(super) fn column(self, name: &str) -> Result<(), Vec<String>> {
        match self {
            Self::Table(_, table) if table.column(name).is_some() => Ok(()),
            Self::Table(_, table) => Err(table.columns.iter().map(|column| column.name.clone()).collect()),
            Self::Collection(_, collection) => match collection.rules().map(|shape| shape.field(name)) {
                Some(Found::Forbidden(names)) => Err(names),
                _ => Ok(()),
            },
        }
    }

    pub(super) fn is_unique(self, column: &str) -> bool {
        match self {
            Self::Table(_, table) => table.is_unique(column),
            Self::Collection(_, collection) => collection.is_unique(column),
        }
    }

    /// Whether a row cannot be written without this column, or a document without this field.
    pub(super) fn requires(self, column: &str) -> bool {
        match self {
            Self::Table(_, table) => table.column(column).is_some_and(|column| column.not_null),
            Self::Collection(_, collection) => {
                collection.rules().is_some_and(|shape| is_required(shape, column))
            }
        }
    }

    /// The one column that is the primary key.
    pub(super) fn key(self) -> Option<&'a str> {
        match self {
            Self::Table(_, table) => match table.primary_key.as_deref() {
                Some([id]) => Some(id),
                _ => None,
            },
            Self::Collection(..) => Some("_id"),
        }
    }

    /// The unique constraints and indexes that hold for every row that has a value in each of their columns, and whose
    /// columns are all written.
    pub(super) fn uniques(self, written: &[Column]) -> Vec<Unique> {
        let at = |name: &String| written.iter().position(|column| column.name == *name);
        let unique = |name: &String, columns: &[String]| {
            let columns = columns.iter().map(at).collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())?;
            Some(Unique { name: name.clone(), columns })
        };
        match self {
            Self::Table(_, table) => table
                .unique
                .iter()
                .filter(|index| !index.partial)
                .filter_map(|index| unique(&index.name, &index.columns))
                .collect(),
            Self::Collection(_, collection) => collection
                .indexes
                .iter()
                .filter(|index| {
                    index.unique
                        && match &index.covers {
                            Covers::All => true,
                            // "Has the field" is SQL's "is not null", as fields without a value are left out.
                            Covers::Having(fields) => fields.iter().all(|field| index.keys.contains(field)),
                            Covers::Some => false,
                        }
                })
                .filter_map(|index| unique(&index.name, &index.keys))
                .collect(),
        }
    }
}

impl<'a> Checker<'a> {
    /// The table or collection that a definition names, or a problem.
    pub(super) fn store(&mut self, written: &Placed<String>) -> Option<Store<'a>> {
        let v2 = self.inputs.v2;
        let found = v2.resolve(&written.value);
        if found.is_none() && !self.unprepared {
            let word = v2.store_word();
            let message = format!("V2 has no {word} `{}`", written.value);
            let problem = Problem::at(written.at, message, format!("unknown {word}"));
            let names = v2.names();
            self.problems.push(problem.suggest(&written.value, names.iter().map(String::as_str)));
        }
        found
    }

    /// Whether there is such a column or field, or a problem.
    pub(super) fn has_column(&mut self, store: Store<'a>, written: &Placed<String>) -> bool {
        let Err(names) = store.column(&written.value) else { return true };
        let (message, label) = match store {
            Store::Table(..) => {
                (format!("V2's table {} has no column `{}`", store.name(), written.value), "unknown column")
            }
            Store::Collection(..) => (
                format!(
                    "the validator of V2's {} knows no field `{}` and allows no others",
                    store.name(),
                    written.value
                ),
                "unknown field",
            ),
        };
        let problem = Problem::at(written.at, message, label);
        self.problems.push(problem.suggest(&written.value, names.iter().map(String::as_str)));
        false
    }
}
