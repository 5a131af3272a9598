//! Definitions against what both databases say of themselves: the plan, or every problem.
//!
//! Pure, so that each rule can be tested with values. A part that is broken is left out and the rest goes on: the
//! first mistake must not hide the others, and one mistake must not be reported twice in other words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::compile::Codes;
use super::describe::{Described, Fault};
use super::v2::V2;
use super::{Entity, Ids, Lookup, Plan, TableName, When, Write, order};
use crate::catalog::{BsonKind, Catalog, Type};
use crate::definition::problem::Problem;
use crate::definition::{Definitions, EntityDefinition, FillDefinition, Placed, RowsDefinition};

/// What a check looks at.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The definitions.
    pub definitions: &'a Definitions,
    /// What V1 says about each entity's query; `None` where the definition has none.
    pub sources: &'a [Option<Result<Described, Fault>>],
    /// V1's user, for GRANT statements.
    pub v1_user: &'a str,
    /// V2's structure. It decides which parts of the definitions count.
    pub v2: V2<'a>,
    /// Codes that V2's reference data has; tables that are absent are not checked.
    pub codes: &'a Codes,
}

/// The state of a check.
#[derive(Debug)]
pub(super) struct Checker<'a> {
    pub(super) inputs: &'a Inputs<'a>,
    /// Definition index of each entity of the plan.
    pub(super) order: Vec<usize>,
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<String>,
    pub(super) lookups: Vec<Lookup>,
    /// V2 has none of the tables: that is one problem, not a hundred.
    pub(super) unprepared: bool,
    /// Privileges that V2's user lacks, by table.
    pub(super) lacking: BTreeMap<TableName, BTreeSet<&'static str>>,
    pub(super) noted: BTreeSet<TableName>,
}

/// The rows that a write or an account is made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) definition: &'a EntityDefinition,
    /// `None`: the query is broken, so its columns are not judged.
    pub(super) described: Option<&'a Described>,
}

/// Compiles definitions. All problems at once; notes are no problems and end up in the plan.
///
/// # Errors
/// Every problem, those of form first.
pub fn check(inputs: &Inputs<'_>) -> Result<Plan, Vec<Problem>> {
    match inputs.v2 {
        V2::Postgres(_) => judge(inputs),
        V2::MongoDb(_) => {
            let definitions = inputs.definitions.for_mongodb();
            judge(&Inputs { definitions: &definitions, ..*inputs })
        }
    }
}

/// As [`check`], of definitions whose `writes` are those that count.
fn judge(inputs: &Inputs<'_>) -> Result<Plan, Vec<Problem>> {
    let definitions = inputs.definitions;
    let mut problems = definitions.problems.clone();
    let order = order::entities(definitions, inputs.v2, &mut problems);
    let mut checker = Checker {
        inputs,
        order,
        problems,
        notes: Vec::new(),
        lookups: Vec::new(),
        unprepared: false,
        lacking: BTreeMap::new(),
        noted: BTreeSet::new(),
    };
    if definitions.entities.is_empty() && checker.problems.is_empty() {
        checker
            .problems
            .push(Problem::general("there is no definition of any entity, so there is nothing to migrate"));
    }
    checker.names();
    checker.ids();
    checker.prepared();
    checker.nothing_written();
    let (accounts, account_writes) = checker.accounts();
    let mut entities = Vec::new();
    for index in checker.order.clone() {
        entities.extend(checker.entity(index, &account_writes));
    }
    checker.foreign_order();
    checker.grants();
    if checker.problems.is_empty() {
        let files = definitions.tables_from_files();
        return Ok(Plan { accounts, entities, lookups: checker.lookups, files, notes: checker.notes });
    }
    Err(checker.problems)
}

impl<'a> Checker<'a> {
    /// `after` and references: do they exist, and does each reference stand in `after`?
    fn names(&mut self) {
        let definitions = self.inputs.definitions;
        let known = || definitions.entities.iter().map(|entity| entity.name.value.as_str());
        for entity in &definitions.entities {
            for name in entity.after.iter().chain(entity.references()) {
                if !known().any(|known| known == name.value) {
                    let message = format!("there is no entity `{}`", name.value);
                    self.problems
                        .push(Problem::at(name.at, message, "unknown entity").suggest(&name.value, known()));
                }
            }
            let before = earlier(definitions, entity);
            let mut told = BTreeSet::new();
            for name in entity.references_before() {
                let own = name.value == entity.name.value;
                if own || before.contains(name.value.as_str()) || !known().any(|known| known == name.value) {
                    continue;
                }
                // Of a circle something else is told, and `after` would not help.
                let other = definitions.entities.iter().find(|other| other.name.value == name.value);
                if other.is_some_and(|other| earlier(definitions, other).contains(entity.name.value.as_str()))
                {
                    continue;
                }
                if told.insert(&name.value) {
                    let message = format!(
                        "`{}` refers to `{}`, which is not in its `after`",
                        entity.name.value, name.value
                    );
                    let mut after: Vec<String> =
                        entity.after.iter().map(|name| format!("{:?}", name.value)).collect();
                    after.push(format!("{:?}", name.value));
                    let help = format!("write `after = [{}]`", after.join(", "));
                    self.problems.push(Problem::at(name.at, message, "must be migrated before").help(help));
                }
            }
        }
    }

    /// ObjectIds are MongoDB's.
    fn ids(&mut self) {
        let definitions = self.inputs.definitions;
        let accounts = definitions.accounts.iter().map(|accounts| &accounts.ids);
        for ids in definitions.entities.iter().map(|entity| &entity.ids).chain(accounts) {
            if ids.value == Ids::ObjectId && self.inputs.v2.catalog().is_some() {
                let problem =
                    Problem::at(ids.at, "only MongoDB has ObjectIds, and V2 is Postgres", "not here");
                self.problems.push(problem.help("write `ids = \"uuid8\"`, or leave this line out"));
            }
        }
    }

    /// An entity whose parts all stand for the other kind of V2: its rows would count as migrated and be nowhere.
    fn nothing_written(&mut self) {
        for entity in &self.inputs.definitions.entities {
            if entity.writes.is_empty() && !entity.documents.is_empty() {
                let part = self.inputs.v2.part();
                let message = format!("`{}` does not say what its rows become in this V2", entity.name.value);
                let problem = Problem::at(entity.name.at, message, format!("has no {part}"));
                self.problems.push(problem.help(format!("add a {part} part")));
            }
        }
    }

    /// One problem instead of many when V2 is empty.
    fn prepared(&mut self) {
        if let V2::MongoDb(collections) = self.inputs.v2
            && !collections.listed
        {
            // What cannot be seen cannot be judged; the missing role is the one problem.
            self.unprepared = true;
            return;
        }
        let definitions = self.inputs.definitions;
        let accounts = definitions.accounts.iter().flat_map(|accounts| &accounts.writes);
        let mut tables =
            definitions.entities.iter().flat_map(|entity| &entity.writes).chain(accounts).peekable();
        let any = tables.peek().is_some();
        if any && tables.all(|write| self.inputs.v2.resolve(&write.table.value).is_none()) {
            self.unprepared = true;
            self.problems.push(
                Problem::general(format!(
                    "V2 has none of the {}s that the definitions write",
                    self.inputs.v2.store_word()
                ))
                .help(match self.inputs.v2 {
                    V2::Postgres(_) => "run `v1v2 setup` first; if you did, V2's URL points at another database or its user's search_path at another schema",
                    V2::MongoDb(_) => "run `v1v2 setup` first; if you did, V2's URL points at another database",
                }),
            );
        }
    }

    fn entity(&mut self, index: usize, account_writes: &[Write]) -> Option<Entity> {
        let definition = &self.inputs.definitions.entities[index];
        let source = self.source(definition, self.inputs.sources.get(index).and_then(Option::as_ref));
        let described = match self.inputs.sources.get(index) {
            Some(Some(Ok(described))) => Some(described),
            _ => None,
        };
        let rows = Rows { definition, described };
        let account =
            definition.account.as_ref().and_then(|account| self.account(rows, account, account_writes));
        let mut writes: Vec<Write> =
            definition.writes.iter().filter_map(|write| self.write(Some(rows), write)).collect();
        if definition.account.is_some() {
            let start = writes.len();
            writes.extend(account_writes.iter().cloned());
            self.scope_fields(rows, &mut writes[start..]);
        }
        self.own_id(definition);
        let mut entity = Entity {
            name: Arc::from(definition.name.value.as_str()),
            after: definition.after.iter().map(|name| Arc::from(name.value.as_str())).collect(),
            source: source?,
            ids: definition.ids.value,
            account,
            writes,
            definition_hash: self.hash(definition),
            custom: None,
        };
        match self.inputs.v2 {
            V2::Postgres(catalog) => {
                order::writes(&mut entity, definition.name.at, catalog, &mut self.problems);
            }
            V2::MongoDb(_) => order::documents(&mut entity),
        }
        Some(entity)
    }

    /// Index of a source column, or a problem.
    pub(super) fn column_index(&mut self, described: &Described, name: &Placed<String>) -> Option<usize> {
        let found = described.columns.iter().position(|column| column.name == name.value);
        if found.is_none() {
            let names = described.columns.iter().map(|column| column.name.as_str());
            let message = format!("the query has no column `{}`", name.value);
            self.problems
                .push(Problem::at(name.at, message, "unknown source column").suggest(&name.value, names));
        }
        found
    }

    /// Tables that only another entity fills, and that this one's rows point at, must be filled before.
    fn foreign_order(&mut self) {
        let Some(catalog) = self.inputs.v2.catalog() else { return };
        let definitions = self.inputs.definitions;
        for entity in &definitions.entities {
            let earlier = earlier(definitions, entity);
            for write in &entity.writes {
                let Some((_, table)) = catalog.resolve(&write.table.value) else { continue };
                for key in &table.foreign_keys {
                    let [column] = key.columns.as_slice() else { continue };
                    let filled = write.columns.iter().find(|filled| filled.name.value == *column);
                    let Some(Placed { value: FillDefinition::Column(_) | FillDefinition::Each(_), at }) =
                        filled.and_then(|filled| filled.fill.as_ref())
                    else {
                        continue;
                    };
                    let writers: Vec<&str> = definitions
                        .entities
                        .iter()
                        .filter(|other| {
                            other.writes.iter().any(|write| {
                                catalog
                                    .resolve(&write.table.value)
                                    .is_some_and(|(name, _)| *name == key.references)
                            })
                        })
                        .map(|other| other.name.value.as_str())
                        .collect();
                    let own = entity.name.value.as_str();
                    let first = writers
                        .first()
                        .filter(|_| !writers.iter().any(|writer| *writer == own || earlier.contains(writer)));
                    if let Some(first) = first {
                        let message = format!(
                            "`{column}` points at {}, which `{first}` fills, but `{first}` is not in `after`",
                            key.references.name
                        );
                        self.problems.push(
                            Problem::at(*at, message, "its rows are not there yet")
                                .help(format!("add {first:?} to `after`")),
                        );
                    }
                }
            }
        }
    }

    fn hash(&self, definition: &EntityDefinition) -> String {
        let files = &self.inputs.definitions.files;
        // Phones are read in the region that accounts.toml names.
        let reads_it = definition.account.is_some() || definition.reads_phones();
        let accounts = self.inputs.definitions.accounts.as_ref().filter(|_| reads_it);
        let mut hash = Xxh3::new();
        for file in std::iter::once(definition.file).chain(accounts.map(|accounts| accounts.file)) {
            hash.update(files[file].text.as_bytes());
            // Keeps text from moving between files unnoticed.
            hash.update(&[0]);
        }
        format!("{:032x}", hash.digest128())
    }
}

/// Everything that `after` puts before an entity, through any number of steps.
fn earlier<'d>(definitions: &'d Definitions, entity: &'d EntityDefinition) -> BTreeSet<&'d str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&EntityDefinition> = vec![entity];
    while let Some(entity) = open.pop() {
        for name in &entity.after {
            if found.insert(name.value.as_str()) {
                open.extend(definitions.entities.iter().find(|other| other.name.value == name.value));
            }
        }
    }
    found
}

/// When a write of a definition writes, once its array column is known.
pub(super) fn when(rows: &RowsDefinition, each: Option<usize>) -> Option<When> {
    Some(match rows {
        RowsDefinition::Row => When::Row,
        RowsDefinition::Each(_) => When::Each(each?),
        RowsDefinition::Account => When::Account,
        RowsDefinition::Role => When::Role,
    })
}

/// The type of the ids of an entity, if its key is known and Postgres has that type.
pub(super) fn id_type(rows: Rows<'_>) -> Option<Type> {
    match rows.definition.ids.value {
        Ids::Uuid8 => Some(Catalog::built_in("uuid", 'U')),
        Ids::ObjectId => None,
        Ids::Keep => {
            let key = &rows.definition.source.as_ref()?.key.value;
            let column = rows.described?.columns.iter().find(|column| column.name == *key)?;
            Some(column.data_type.clone())
        }
    }
}

/// The same as a type of BSON.
pub(super) fn id_kind(rows: Rows<'_>) -> Option<BsonKind> {
    match rows.definition.ids.value {
        Ids::ObjectId => Some(BsonKind::ObjectId),
        Ids::Uuid8 | Ids::Keep => id_type(rows).as_ref().map(BsonKind::of),
    }
}
