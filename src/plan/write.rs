//! Writes against V2's tables: does each column exist, does what fills it fit, is everything filled that must be?

use super::check::{Checker, Rows, when};
use super::fill::Given;
use super::{AccountField, Column, Fill, Ids, Missing, Unique, When, Write};
use crate::catalog::{self, Assignment, Identity, Table, TableKind, Type, TypeKind};
use crate::definition::problem::{At, Problem};
use crate::definition::{
    ColumnDefinition, EntityDefinition, FillDefinition, Placed, RowsDefinition, WriteDefinition,
};
use crate::plan::TableName;

/// Where a fill goes.
#[derive(Clone, Copy)]
struct Goal<'a> {
    table: (&'a TableName, &'a Table),
    column: &'a catalog::Column,
    when: Option<When>,
    at: At,
}

impl<'a> Checker<'a> {
    /// Checks one `[[postgres]]` part. `rows` is `None` in `accounts.toml`.
    pub(super) fn write(&mut self, rows: Option<Rows<'a>>, write: &'a WriteDefinition) -> Option<Write> {
        let each = match (&write.rows, rows) {
            (RowsDefinition::Each(column), Some(rows)) => self.array(rows, column),
            _ => None,
        };
        let when = when(&write.rows, each);
        let v2 = self.inputs.v2;
        let Some((name, table)) = v2.resolve(&write.table.value) else {
            if !self.unprepared {
                let names: Vec<String> = v2.names().collect();
                let message = format!("V2 has no table `{}`", write.table.value);
                let problem = Problem::at(write.table.at, message, "unknown table");
                self.problems.push(problem.suggest(&write.table.value, names.iter().map(String::as_str)));
            }
            // Its fills can still be wrong on V1's side.
            for column in &write.columns {
                if let (Some(fill), Some(rows)) = (&column.fill, rows) {
                    self.given(Some(rows), fill, each);
                }
            }
            return None;
        };
        if table.kind == TableKind::View {
            let message = format!("`{}` is a view", write.table.value);
            self.problems.push(Problem::at(write.table.at, message, "only tables can be written"));
        }
        self.uses(name, true);
        let mut columns = Vec::new();
        for column in &write.columns {
            columns.extend(self.column(rows, (name, table), column, each, when));
        }
        let unfilled: Vec<&str> = table
            .columns
            .iter()
            .filter(|column| column.not_null && !column.has_default && !column.generated)
            .map(|column| column.name.as_str())
            .filter(|column| !write.columns.iter().any(|filled| filled.name.value == *column))
            .collect();
        if !unfilled.is_empty() {
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
        let uniques = uniques(table, &columns);
        for unique in &uniques {
            // Decided by V2 when it is written: V1 cannot say beforehand which values will be one.
            if let Some(column) =
                unique.columns.iter().map(|&at| &columns[at]).find(|column| is_normalised(&column.fill))
            {
                self.notes.push(format!(
                    "V2's {}.{} is unique ({}): where two rows are normalised to one value, only one of them is migrated",
                    name.name, column.name, unique.name
                ));
            }
        }
        Some(Write { table: name.clone(), inside: None, when: when?, columns, uniques })
    }

    fn column(
        &mut self,
        rows: Option<Rows<'a>>,
        table: (&'a TableName, &'a Table),
        written: &'a ColumnDefinition,
        each: Option<usize>,
        when: Option<When>,
    ) -> Option<Column> {
        let Some(column) = table.1.column(&written.name.value) else {
            let message = format!("V2's table {} has no column `{}`", table.0.name, written.name.value);
            let names = table.1.columns.iter().map(|column| column.name.as_str());
            let problem = Problem::at(written.name.at, message, "unknown column");
            self.problems.push(problem.suggest(&written.name.value, names));
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
        let goal = Goal { table, column, when, at: fill.at };
        if let Some(from) = &given.data_type {
            self.fits(&given.fill, from, goal, rows);
        }
        self.constant(&given.fill, goal);
        if column.not_null {
            self.null(&given, goal, rows, fill);
        }
        self.parent(rows, fill, &given.fill, goal);
        if column.identity.is_some()
            || self.inputs.v2.sequences.iter().any(|sequence| {
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
            bson: None,
        })
    }

    fn fits(&mut self, fill: &Fill, from: &Type, goal: Goal<'_>, rows: Option<Rows<'a>>) {
        let place = format!("{}.{}", goal.table.0.name, goal.column.name);
        let entity = rows.map_or("accounts", |rows| rows.definition.name.value.as_str());
        // A key that looks like a uuid only to us.
        let kept = rows.is_some_and(|rows| rows.definition.ids == Ids::Keep)
            && from.is_text()
            && goal.column.data_type.base().name == "uuid";
        if kept {
            self.notes.push(format!(
                "{entity}: a key that is no uuid does not fit {place} and its row will be rejected"
            ));
            return;
        }
        match from.assignment(&goal.column.data_type, &self.inputs.v2.casts) {
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

    /// Null on its way into a NOT NULL column.
    fn null(&mut self, given: &Given, goal: Goal<'_>, rows: Option<Rows<'a>>, fill: &Placed<FillDefinition>) {
        let place = format!("{}.{}", goal.table.0.name, goal.column.name);
        if let Fill::Reference { missing: Missing::Null, .. } | Fill::Lookup { missing: Missing::Null, .. } =
            given.fill
        {
            let message = format!("V2's {place} must not be null, so `missing = \"null\"` cannot work");
            let help = if matches!(goal.when, Some(When::Each(_))) {
                "use \"reject\" or \"skip\""
            } else {
                "use \"reject\""
            };
            self.problems.push(Problem::at(fill.at, message, "would be null").help(help));
        } else if given.nullable {
            let entity = rows.map_or("accounts", |rows| rows.definition.name.value.as_str());
            self.notes.push(format!(
                "{entity}: what fills {place} may be null, which V2 forbids; such rows will be rejected"
            ));
        }
    }

    /// A foreign key on the column: is what fills it the id that the key points at? If not, every row would fail.
    fn parent(
        &mut self,
        rows: Option<Rows<'a>>,
        definition: &Placed<FillDefinition>,
        fill: &Fill,
        goal: Goal<'_>,
    ) {
        let keys = &goal.table.1.foreign_keys;
        let Some(key) = keys.iter().find(|key| key.columns == [goal.column.name.as_str()]) else { return };
        let v2 = self.inputs.v2;
        let target = &key.references;
        let of_entity = |entity: &EntityDefinition| {
            entity.ids == Ids::Keep
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

    /// V2 must be able to tell an entity's rows apart.
    pub(super) fn own_id(&mut self, definition: &EntityDefinition) {
        let mut first = None;
        for write in definition.writes.iter().filter(|write| write.rows == RowsDefinition::Row) {
            let Some((name, table)) = self.inputs.v2.resolve(&write.table.value) else { return };
            for column in &write.columns {
                if column.fill.as_ref().is_some_and(|fill| fill.value == FillDefinition::Id) {
                    if table.is_unique(&column.name.value) || table.column(&column.name.value).is_none() {
                        return;
                    }
                    first.get_or_insert((column.name.at, format!("{}.{}", name.name, column.name.value)));
                }
            }
        }
        if let Some((at, place)) = first {
            let message = format!("V2's {place} holds this row's id but is not unique");
            let help = "add a primary key or a unique constraint: without one nothing stops a row from being there twice";
            self.problems.push(Problem::at(at, message, "needs a unique key").help(help));
        }
    }
}

/// Whether the engine makes the value from what a person wrote.
fn is_normalised(fill: &Fill) -> bool {
    matches!(fill, Fill::Email(_) | Fill::Phone { .. } | Fill::Part { .. })
}

/// The unique constraints of a table whose columns are all written.
fn uniques(table: &Table, written: &[Column]) -> Vec<Unique> {
    let at = |name: &String| written.iter().position(|column| column.name == *name);
    let whole = table.unique.iter().filter(|unique| !unique.partial && !unique.columns.is_empty());
    whole
        .filter_map(|unique| {
            let columns = unique.columns.iter().map(at).collect::<Option<Vec<_>>>()?;
            Some(Unique { name: unique.name.clone(), columns })
        })
        .collect()
}
