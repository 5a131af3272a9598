//! Columns of a Postgres V2: does each exist, does what fills it fit, does its foreign key point where the id comes from?

use super::check::{Checker, Rows};
use super::v2::Store;
use super::write::{Writing, is_normalised};
use super::{AccountField, Column, Fill, Ids, TableName, When};
use crate::catalog::{self, Assignment, Catalog, Identity, Table, Type, TypeKind};
use crate::definition::problem::{At, Problem};
use crate::definition::{
    ColumnDefinition, EntityDefinition, FillDefinition, Placed, RowsDefinition, WriteDefinition,
};

/// Where a fill goes.
#[derive(Clone, Copy)]
struct Goal<'a> {
    table: (&'a TableName, &'a Table),
    column: &'a catalog::Column,
    at: At,
}

impl<'a> Checker<'a> {
    /// Checks one column of a part.
    pub(super) fn column(
        &mut self,
        writing: Writing<'a>,
        table: (&'a TableName, &'a Table),
        written: &'a ColumnDefinition,
    ) -> Option<Column> {
        let Writing { rows, each, when, .. } = writing;
        let catalog = self.inputs.v2.catalog()?;
        let known = self.has_column(Store::Table(table.0, table.1), &written.name);
        let Some(column) = table.1.column(&written.name.value).filter(|_| known) else {
            if let Some(fill) = &written.fill {
                self.given(rows, fill, each);
            }
            return None;
        };
        if column.generated || column.identity == Some(Identity::Always) {
            let what = if column.generated { "computed" } else { "numbered" };
            let message =
                format!("V2's column {}.{} is {what} by Postgres itself", table.0.name, column.name);
            self.problems
                .push(Problem::at(written.name.at, message, "cannot be written").help("leave this line out"));
        }
        let fill = written.fill.as_ref()?;
        let given = self.given(rows, fill, each)?;
        let goal = Goal { table, column, at: fill.at };
        if let Some(from) = &given.data_type {
            self.fits(catalog, &given.fill, from, goal, rows);
        }
        self.constant(&given.fill, goal);
        if let Some(at) = written.later
            && column.not_null
            && !matches!(when, Some(When::Each(_)))
        {
            let message = format!(
                "V2's {}.{} must not be null, so `later` cannot leave it out at first",
                table.0.name, column.name
            );
            let problem = Problem::at(at, message, "would be null at first");
            self.problems
                .push(problem.help("let V2's column be null, or mark another reference of the circle"));
        }
        if column.not_null {
            let place = format!("{}.{}", table.0.name, column.name);
            self.null(&given, &place, when, rows, fill.at);
        }
        self.parent(catalog, rows, fill, &given.fill, goal);
        if column.identity.is_some()
            || catalog.sequences.iter().any(|sequence| {
                sequence.owner.as_ref().is_some_and(|(owner, name)| owner == table.0 && *name == column.name)
            })
        {
            self.notes.push(format!("V2's {}.{} has a sequence, which does not move when it is written: set it afterwards (setval)", table.0.name, column.name));
        }
        Some(Column {
            name: column.name.clone(),
            type_name: column.data_type.name.clone(),
            not_null: column.not_null,
            fill: given.fill,
            later: written.later.is_some(),
            bson: None,
        })
    }

    fn fits(&mut self, catalog: &Catalog, fill: &Fill, from: &Type, goal: Goal<'_>, rows: Option<Rows<'a>>) {
        let place = format!("{}.{}", goal.table.0.name, goal.column.name);
        let entity = rows.map_or("accounts", |rows| rows.definition.name.value.as_str());
        // A key that looks like a uuid only to us.
        let kept = rows.is_some_and(|rows| rows.definition.ids.value == Ids::Keep)
            && from.is_text()
            && goal.column.data_type.base().name == "uuid";
        if kept {
            self.notes.push(format!(
                "{entity}: a key that is no uuid does not fit {place} and its row will be rejected"
            ));
            return;
        }
        match from.assignment(&goal.column.data_type, &catalog.casts) {
            Assignment::Fits => {}
            Assignment::Checked(why) => {
                self.notes.push(format!("{entity}: {why} ({place}); such rows will be rejected"))
            }
            Assignment::Impossible(why) => {
                let message = format!("{why} (V2's {place} is {})", goal.column.full_type);
                let help = if is_normalised(fill) {
                    "what the engine normalises is text: write it to a text column".to_owned()
                } else if from.labels().is_some() && goal.column.data_type.labels().is_some() {
                    "translate these labels in the query (case … end), or add them to V2's enum".to_owned()
                } else {
                    format!("cast it in the query: `…::{}`", goal.column.data_type.base().name)
                };
                self.problems.push(Problem::at(goal.at, message, "does not fit").help(help));
            }
        }
    }

    fn constant(&mut self, fill: &Fill, goal: Goal<'_>) {
        let Fill::Constant(text) = fill else { return };
        let wanted = goal.column.data_type.base();
        let fits = match (&wanted.kind, wanted.name.as_str()) {
            (TypeKind::Enum(labels), _) => labels.contains(text),
            (_, "boolean") => matches!(text.as_str(), "true" | "false" | "t" | "f"),
            (_, "smallint" | "integer" | "bigint") => text.parse::<i64>().is_ok(),
            (_, "uuid") => uuid::Uuid::parse_str(text).is_ok(),
            _ => true,
        };
        if !fits {
            let message =
                format!("`{text}` is no {} (V2's {}.{})", wanted.name, goal.table.0.name, goal.column.name);
            let labels = wanted.labels().unwrap_or_default().iter().map(String::as_str);
            self.problems.push(Problem::at(goal.at, message, "does not fit").suggest(text, labels));
        }
    }

    /// A foreign key on the column: is what fills it the id that the key points at? If not, every row would fail.
    fn parent(
        &mut self,
        v2: &Catalog,
        rows: Option<Rows<'a>>,
        definition: &Placed<FillDefinition>,
        fill: &Fill,
        goal: Goal<'_>,
    ) {
        let keys = &goal.table.1.foreign_keys;
        let Some(key) = keys.iter().find(|key| key.columns == [goal.column.name.as_str()]) else { return };
        let target = &key.references;
        let of_entity = |entity: &EntityDefinition| {
            entity.ids.value == Ids::Keep
                || entity.writes.iter().any(|write| {
                    write.rows == RowsDefinition::Row
                        && v2.resolve(&write.table.value).is_some_and(|(name, _)| name == target)
                        && write.columns.iter().any(|column| {
                            key.referenced_columns == [column.name.value.as_str()]
                                && column.fill.as_ref().is_none_or(|fill| fill.value == FillDefinition::Id)
                        })
                })
        };
        let wrong = match (fill, &definition.value) {
            (Fill::Reference { entity, .. }, _) => {
                let entity = &self.inputs.definitions.entities[self.order[*entity]];
                (!of_entity(entity)).then(|| format!("`{}` does not write its ids there", entity.name.value))
            }
            (Fill::Id, _) => {
                let own = rows.map(|rows| rows.definition).filter(|entity| !of_entity(entity));
                own.map(|entity| format!("`{}` does not write its ids there", entity.name.value))
            }
            (Fill::Lookup { lookup, .. }, _) => {
                let table = &self.lookups[*lookup].table;
                (table != target).then(|| format!("the look-up takes ids of {}", table.name))
            }
            (Fill::Account(AccountField::Id), _) => {
                let accounts = self.inputs.definitions.accounts.iter().flat_map(|accounts| &accounts.writes);
                let mut writes = accounts.filter(|write| write.rows == RowsDefinition::Account);
                let there = writes
                    .any(|write| v2.resolve(&write.table.value).is_some_and(|(name, _)| name == target));
                (!there).then(|| "accounts are written elsewhere".to_owned())
            }
            _ => None,
        };
        if let Some(why) = wrong {
            let message =
                format!("{}.{} points at {}, but {why}", goal.table.0.name, goal.column.name, target.name);
            self.problems.push(Problem::at(goal.at, message, "no row of V2 has this id"));
        }
    }

    /// Columns that must not be null and that nothing fills.
    pub(super) fn unfilled(&mut self, name: &TableName, table: &Table, write: &WriteDefinition) {
        let unfilled: Vec<&str> = table
            .columns
            .iter()
            .filter(|column| column.not_null && !column.has_default && !column.generated)
            .map(|column| column.name.as_str())
            .filter(|column| !write.columns.iter().any(|filled| filled.name.value == *column))
            .collect();
        if unfilled.is_empty() {
            return;
        }
        let (one, list) = (unfilled.len() == 1, unfilled.join(", "));
        let message = format!(
            "nothing fills {list} of {}, which must not be null and {} no default",
            name.name,
            if one { "has" } else { "have" }
        );
        let label = if one { "needs this column" } else { "needs these columns" };
        self.problems.push(
            Problem::at(write.table.at, message, label)
                .help(format!("add a line such as `{} = \"source_column\"`", unfilled[0])),
        );
    }
}
