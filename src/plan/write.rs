//! Writes against V2's tables: does each column exist, does what fills it fit, is everything filled that must be?

use super::check::{Checker, Rows, id_type, key_kind, when};
use super::{AccountField, Column, Fill, Ids, KeyFrom, Lookup, Missing, Unique, When, Write};
use crate::catalog::{self, Assignment, Catalog, Identity, Table, TableKind, Type, TypeKind};
use crate::definition::problem::{At, Problem};
use crate::definition::{
    ColumnDefinition, EntityDefinition, FillDefinition, KeyDefinition, Placed, RowsDefinition,
    WriteDefinition,
};
use crate::plan::TableName;

/// What a fill gives.
struct Given {
    fill: Fill,
    /// Its type; `None` when it is not known or any will do.
    data_type: Option<Type>,
    /// Whether it can be null as far as anybody can tell.
    nullable: bool,
}

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
                    self.given(Some(rows), fill, each, when);
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
        Some(Write { table: name.clone(), when: when?, columns, uniques })
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
                self.given(rows, fill, each, when);
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
        let given = self.given(rows, fill, each, when)?;
        let goal = Goal { table, column, when, at: fill.at };
        if let Some(from) = &given.data_type {
            self.fits(from, goal, rows);
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
        })
    }

    /// What a fill gives, and on V1's side what is wrong with it.
    fn given(
        &mut self,
        rows: Option<Rows<'a>>,
        fill: &Placed<FillDefinition>,
        each: Option<usize>,
        when: Option<When>,
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
                let _ = when;
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

    /// The rows of an entity by its definition index.
    pub(super) fn rows_of(&self, definition: usize) -> Rows<'a> {
        let described = self.inputs.sources.get(definition).and_then(Option::as_ref);
        Rows {
            definition: &self.inputs.definitions.entities[definition],
            described: described.and_then(|result| result.as_ref().ok()),
        }
    }

    /// Index of a source column that must be an array.
    fn array(&mut self, rows: Rows<'a>, name: &Placed<String>) -> Option<usize> {
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

    fn fits(&mut self, from: &Type, goal: Goal<'_>, rows: Option<Rows<'a>>) {
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
                let help = if from.labels().is_some() && goal.column.data_type.labels().is_some() {
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

/// The type of what an account holds.
fn field_type(field: AccountField) -> Type {
    use AccountField as F;
    match field {
        F::Id | F::Scope => Catalog::built_in("uuid", 'U'),
        F::EmailIsPlaceholder | F::MustChangePassword | F::Locked => Catalog::built_in("boolean", 'B'),
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
            | F::Username
            | F::MustChangePassword
            | F::Locked
            | F::Status
            | F::FirstName
            | F::LastName
            | F::CreatedAt
            | F::UpdatedAt
    )
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
