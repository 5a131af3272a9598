//! Parts of a definition against what they write: rules that hold for tables and collections alike. What a column
//! must be stands in `column.rs`, what a field must be in `field.rs`.

use super::check::{Checker, Rows, when};
use super::fill::{Each, Given};
use super::v2::{Store, V2};
use super::{AccountField, Column, Fill, KeyFrom, Missing, When, Write};
use crate::definition::problem::{At, Problem};
use crate::definition::{EntityDefinition, FillDefinition, RowsDefinition, WriteDefinition};

/// A part that is being checked.
#[derive(Clone, Copy)]
pub(super) struct Writing<'a> {
    /// `None` in `accounts.toml`.
    pub(super) rows: Option<Rows<'a>>,
    pub(super) definition: &'a WriteDefinition,
    pub(super) each: Each,
    pub(super) when: Option<When>,
}

impl<'a> Checker<'a> {
    /// Checks one part. `rows` is `None` in `accounts.toml`.
    pub(super) fn write(&mut self, rows: Option<Rows<'a>>, write: &'a WriteDefinition) -> Option<Write> {
        let each = match (&write.rows, rows) {
            (RowsDefinition::Each(column), Some(rows)) => {
                Each { present: true, column: self.array(rows, column) }
            }
            (of, _) => Each { present: matches!(of, RowsDefinition::Each(_)), column: None },
        };
        let when = when(&write.rows, each.column);
        let Some(store) = self.store(&write.table) else {
            // Its fills can still be wrong on V1's side.
            for column in &write.columns {
                if let (Some(fill), Some(rows)) = (&column.fill, rows) {
                    self.given(Some(rows), fill, each);
                }
            }
            return None;
        };
        if let Some((what, label)) = store.unwritable() {
            let message = format!("`{}` is {what}", write.table.value);
            self.problems.push(Problem::at(write.table.at, message, label));
        }
        self.uses(store, true);
        let writing = Writing { rows, definition: write, each, when };
        let columns = match store {
            Store::Table(name, table) => {
                let columns = write.columns.iter();
                let columns =
                    columns.filter_map(|column| self.column(writing, (name, table), column)).collect();
                self.unfilled(name, table, write);
                columns
            }
            Store::Collection(name, collection) => self.fields(writing, name, collection),
        };
        // An index over fields of embedded documents compares whole arrays with one another, not their elements.
        let uniques = if write.inside.is_some() { Vec::new() } else { store.uniques(&columns) };
        for unique in &uniques {
            // Decided by V2 when it is written: V1 cannot say beforehand which values will be one.
            if let Some(column) =
                unique.columns.iter().map(|&at| &columns[at]).find(|column| is_normalised(&column.fill))
            {
                self.notes.push(format!(
                    "V2's {}.{} is unique ({}): where two rows are normalised to one value, only one of them is migrated",
                    store.name(), column.name, unique.name
                ));
            }
        }
        self.found_again(write, &columns, when);
        let inside = write.inside.as_ref().map(|field| field.value.clone());
        Some(Write { table: store.table_name(), inside, when: when?, columns, uniques })
    }

    /// Null on its way to where V2 forbids it.
    pub(super) fn null(
        &mut self,
        given: &Given,
        place: &str,
        when: Option<When>,
        rows: Option<Rows<'a>>,
        at: At,
    ) {
        let becomes_null = match given.fill {
            Fill::Reference { missing, key, .. } | Fill::Lookup { missing, key, .. } => {
                missing == Missing::Null && !matches!(key, KeyFrom::Elements(_))
            }
            _ => false,
        };
        if becomes_null {
            let message = format!("V2's {place} must not be null, so `missing = \"null\"` cannot work");
            let help = if matches!(when, Some(When::Each(_))) {
                "use \"reject\" or \"skip\""
            } else {
                "use \"reject\""
            };
            self.problems.push(Problem::at(at, message, "would be null").help(help));
        } else if given.nullable {
            let entity = rows.map_or("accounts", |rows| rows.definition.name.value.as_str());
            self.notes.push(format!(
                "{entity}: what fills {place} may be null, which V2 forbids; such rows will be rejected"
            ));
        }
    }

    /// What is filled in later must be found again.
    fn found_again(&mut self, write: &WriteDefinition, columns: &[Column], when: Option<When>) {
        let Some(at) = write.columns.iter().find_map(|column| column.later) else { return };
        let each = matches!(when, Some(When::Each(_)));
        let tells = |column: &Column| match column.fill {
            Fill::Id | Fill::Account(AccountField::Id) => true,
            Fill::DerivedId(_) => !each,
            _ => false,
        };
        if write.inside.is_none() && !columns.iter().any(|column| !column.later && tells(column)) {
            let message = format!("nothing in {} says which row of V1 its rows belong to", write.table.value);
            let problem = Problem::at(at, message, "could not be found again to be filled in");
            self.problems.push(problem.help("write this row's id into a column: `{ id = true }`"));
        }
    }

    /// V2 must be able to tell an entity's rows apart.
    pub(super) fn own_id(&mut self, definition: &EntityDefinition) {
        let mut first = None;
        for write in definition.writes.iter().filter(|write| write.rows == RowsDefinition::Row) {
            let Some(store) = self.inputs.v2.resolve(&write.table.value) else { return };
            for column in &write.columns {
                let is_id = column.fill.as_ref().is_some_and(|fill| fill.value == FillDefinition::Id);
                if is_id && column.later.is_none() {
                    if store.is_unique(&column.name.value) || store.column(&column.name.value).is_err() {
                        return;
                    }
                    first.get_or_insert((column.name.at, format!("{}.{}", store.name(), column.name.value)));
                }
            }
        }
        if let Some((at, place)) = first {
            let message = format!("V2's {place} holds this row's id but is not unique");
            let help = match self.inputs.v2 {
                V2::Postgres(_) => {
                    "add a primary key or a unique constraint: without one nothing stops a row from being there twice"
                }
                V2::MongoDb(_) => {
                    "make it `_id`, or add a unique index: without one nothing stops a document from being there twice"
                }
            };
            self.problems.push(Problem::at(at, message, "needs a unique key").help(help));
        }
    }
}

/// Whether the engine makes the value from what a person wrote.
pub(super) fn is_normalised(fill: &Fill) -> bool {
    matches!(fill, Fill::Email(_) | Fill::Phone { .. } | Fill::Part { .. })
}
