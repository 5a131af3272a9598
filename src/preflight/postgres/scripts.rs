//! What SQL scripts that are about to be executed need a right to. Pure: statements in, demands out.
//!
//! Whoever may not do the third statement of the fifth evolution learns it here, before the first one is applied. The
//! rule is that a demand is certain: the reading ends at the first statement that it does not understand, or that may
//! change who we are, what we may, or what a name means (`SET ROLE`, `GRANT`, `DO`, a rename, …), and a name that an
//! earlier statement made or removed is left alone. What is missed this way the server tells later, as ever.

use std::collections::HashSet;

use sqlparser::ast::{
    AlterTableOperation, FromTable, Ident, ObjectName, ObjectType, SchemaName, Statement, TableFactor,
    TableObject, TableWithJoins,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::evolve::{Pending, Work};

/// A relation as a script names it; without a schema it is looked for in the search path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub schema: Option<String>,
    pub name: String,
}

/// What one must be or have for a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// `ALTER TABLE`: the owner.
    Alter,
    /// `CREATE INDEX`: the owner, who may create in its schema too.
    Index,
    /// `DROP`: the owner, or that of its schema.
    Drop,
    /// The privilege on the table, or for some of its columns.
    Insert,
    /// As [`Right::Insert`].
    Update,
    /// The privilege.
    Delete,
    /// The privilege.
    Truncate,
}

/// One demand of one evolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// On a relation, if it is there.
    Relation { evolution: String, name: Name, right: Right },
    /// To create in a schema, if it is there; `None`: in the first one of the search path.
    CreateIn { evolution: String, schema: Option<String> },
    /// To create schemas in the database.
    CreateSchema { evolution: String },
    /// To own a schema that is dropped, if it is there.
    DropSchema { evolution: String, name: String },
    /// To own a type that is dropped, or its schema, if it is there.
    DropType { evolution: String, name: Name },
}

/// All that is certain, in the order of the scripts, each once.
pub fn demands(pending: &[Pending]) -> Vec<Demand> {
    let mut reader = Reader { found: Vec::new(), moved: HashSet::new() };
    for of in pending {
        let Work::Sql(statements) = &of.script.work else { continue };
        for range in statements.iter().skip(of.done) {
            if !reader.statement(&of.name, &of.script.file.text[range.clone()]) {
                return reader.found;
            }
        }
    }
    reader.found
}

struct Reader {
    found: Vec<Demand>,
    /// Names that may stand for something else by now.
    moved: HashSet<String>,
}

impl Reader {
    /// Reads one statement; false if nothing is certain after it.
    fn statement(&mut self, evolution: &str, text: &str) -> bool {
        let Ok(parsed) = Parser::parse_sql(&PostgreSqlDialect {}, text) else { return false };
        let [statement] = parsed.as_slice() else { return false };
        match statement {
            Statement::AlterTable(alter) => {
                self.relation(evolution, &alter.name, Right::Alter);
                use AlterTableOperation::{
                    AddColumn, AddConstraint, AlterColumn, DropColumn, DropConstraint, RenameColumn,
                };
                alter.operations.iter().all(|operation| {
                    matches!(
                        operation,
                        AddColumn { .. }
                            | AddConstraint { .. }
                            | AlterColumn { .. }
                            | DropColumn { .. }
                            | DropConstraint { .. }
                            | RenameColumn { .. }
                    )
                })
            }
            Statement::CreateIndex(index) => {
                self.relation(evolution, &index.table_name, Right::Index);
                self.moves(index.name.as_ref());
                true
            }
            Statement::Drop { object_type, names, cascade, temporary, .. } => {
                use ObjectType::{Index, MaterializedView, Schema, Sequence, Table, Type, View};
                for name in names.iter().filter(|_| !temporary) {
                    match object_type {
                        Table | View | MaterializedView | Index | Sequence => {
                            self.relation(evolution, name, Right::Drop);
                        }
                        Schema | Type => self.other_dropped(evolution, name, *object_type == Schema),
                        _ => {}
                    }
                }
                names.iter().for_each(|name| self.moves(Some(name)));
                // What else goes with it has names, too.
                matches!(object_type, Table | View | MaterializedView | Index | Sequence | Schema | Type)
                    && !cascade
            }
            Statement::CreateTable(table) => {
                // What is `LIKE` or `AS` something else needs more, which is left to the server.
                self.made(evolution, &table.name, table.temporary);
                true
            }
            Statement::CreateSequence { temporary, name, .. } => {
                self.made(evolution, name, *temporary);
                true
            }
            Statement::CreateType { name, .. } => {
                self.made(evolution, name, false);
                true
            }
            Statement::CreateView(view) => {
                self.moves(Some(&view.name));
                true
            }
            Statement::CreateSchema { schema_name, .. } => {
                if let SchemaName::Simple(name) = schema_name {
                    self.push(Demand::CreateSchema { evolution: evolution.to_owned() });
                    self.moves(Some(name));
                }
                true
            }
            Statement::Insert(insert) => {
                if let TableObject::TableName(name) = &insert.table {
                    self.relation(evolution, name, Right::Insert);
                }
                true
            }
            Statement::Update(update) => {
                self.table(evolution, &update.table, Right::Update);
                true
            }
            Statement::Delete(delete) => {
                let FromTable::WithFromKeyword(tables) = &delete.from else { return true };
                if let [table] = tables.as_slice() {
                    self.table(evolution, table, Right::Delete);
                }
                true
            }
            Statement::Truncate(truncate) => {
                for target in &truncate.table_names {
                    self.relation(evolution, &target.name, Right::Truncate);
                }
                true
            }
            Statement::Analyze(_) | Statement::Comment { .. } => true,
            _ => false,
        }
    }

    fn table(&mut self, evolution: &str, table: &TableWithJoins, right: Right) {
        if let TableFactor::Table { name, args: None, .. } = &table.relation {
            self.relation(evolution, name, right);
        }
    }

    fn relation(&mut self, evolution: &str, name: &ObjectName, right: Right) {
        let Some(name) = plain(name) else { return };
        if !self.may_be_new(&name) {
            self.push(Demand::Relation { evolution: evolution.to_owned(), name, right });
        }
    }

    fn made(&mut self, evolution: &str, name: &ObjectName, temporary: bool) {
        if let (false, Some(name)) = (temporary, plain(name)) {
            self.push(Demand::CreateIn { evolution: evolution.to_owned(), schema: name.schema });
        }
        self.moves(Some(name));
    }

    fn other_dropped(&mut self, evolution: &str, name: &ObjectName, is_schema: bool) {
        let Some(name) = plain(name).filter(|name| !self.may_be_new(name)) else { return };
        let evolution = evolution.to_owned();
        self.push(match is_schema {
            true => Demand::DropSchema { evolution, name: name.name },
            false => Demand::DropType { evolution, name },
        });
    }

    fn may_be_new(&self, name: &Name) -> bool {
        let moved = |part: &String| self.moved.contains(part);
        moved(&name.name) || name.schema.as_ref().is_some_and(moved)
    }

    fn moves(&mut self, name: Option<&ObjectName>) {
        if let Some(name) = name.and_then(plain) {
            self.moved.insert(name.name);
        }
    }

    fn push(&mut self, demand: Demand) {
        if !self.found.contains(&demand) {
            self.found.push(demand);
        }
    }
}

/// A name of one or two parts, as the server reads it: in lower case unless it is quoted. `ONLY`, which the parser takes for
/// a name in `DELETE FROM ONLY t`, is none.
fn plain(name: &ObjectName) -> Option<Name> {
    let fold = |ident: &Ident| match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    };
    let parts: Option<Vec<String>> = name.0.iter().map(|part| part.as_ident().map(fold)).collect();
    match parts?.as_slice() {
        [name] if name == "only" => None,
        [name] => Some(Name { schema: None, name: name.clone() }),
        [schema, name] => Some(Name { schema: Some(schema.clone()), name: name.clone() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::SourceFile;
    use crate::evolve::{Script, statements};

    fn pending(name: &str, text: &str, done: usize) -> Pending {
        let file = SourceFile { label: format!("{name}/up.sql"), text: text.to_owned() };
        let work = Work::Sql(statements::split(text));
        Pending { name: name.to_owned(), script: Script { file, work }, done }
    }

    /// In short: `Alter users`.
    fn found(text: &str) -> Vec<String> {
        let short = |demand: Demand| match demand {
            Demand::Relation { name: Name { schema: Some(schema), name }, right, .. } => {
                format!("{right:?} {schema}.{name}")
            }
            Demand::Relation { name, right, .. } => format!("{right:?} {}", name.name),
            Demand::CreateIn { schema, .. } => format!("create in {}", schema.unwrap_or_default()),
            Demand::CreateSchema { .. } => "create schema".to_owned(),
            Demand::DropSchema { name, .. } => format!("drop schema {name}"),
            Demand::DropType { name, .. } => format!("drop type {}", name.name),
        };
        demands(&[pending("0001_a", text, 0)]).into_iter().map(short).collect()
    }

    #[test]
    fn what_is_altered_indexed_dropped_and_written() {
        assert_eq!(
            found(
                "alter table Users add column status text not null default 'x', drop column old; \
                 create unique index concurrently if not exists i on app.\"Odd Name\" (lower(email)) where email is not null; \
                 drop index if exists j; update users set status = upper(status) where id in (select id from t); \
                 insert into log (a) select 1 from users on conflict do nothing; delete from log where a = 2; \
                 delete from only what where a = 2; update only what set a = 1; truncate a, b"
            ),
            [
                "Alter users",
                "Index app.Odd Name",
                "Drop j",
                "Update users",
                "Insert log",
                "Delete log",
                "Truncate a",
                "Truncate b"
            ]
        );
    }

    #[test]
    fn what_the_scripts_make_themselves_is_theirs() {
        assert_eq!(
            found(
                "create table t (id int); alter table t add x int; create index i on t (id); drop index i; drop table t"
            ),
            ["create in "]
        );
        assert_eq!(found("create temp table users as select 1; update users set a = 1"), [""; 0]);
        assert_eq!(
            found("drop table users; create table users (id int); alter table users add a int").len(),
            2
        );
        assert_eq!(
            found("create schema s; create table s.t (id int); alter table s.u add a int"),
            ["create schema", "create in s"]
        );
        assert_eq!(
            found(
                "drop type mood; create type mood as enum ('a'); drop type mood; drop sequence n; create sequence n; drop sequence n; \
                 drop schema extra; create schema extra; drop schema extra; alter table users add a int"
            ),
            ["drop type mood", "create in ", "Drop n", "drop schema extra", "create schema", "Alter users"]
        );
    }

    #[test]
    fn nothing_is_certain_after_what_changes_names_and_rights() {
        for text in [
            "set role owner",
            "set search_path to other",
            "grant owner to current_user",
            "do $$ begin execute 'set role owner'; end $$",
            "select set_config('role', 'owner', false)",
            "select 1 from nonsense (((",
            "reset role",
        ] {
            assert_eq!(found(&format!("{text}; alter table users add a int")), [""; 0], "{text}");
        }
        for text in ["rename to b", "owner to somebody"] {
            let all = found(&format!("alter table a {text}; alter table users add a int"));
            assert_eq!(all, ["Alter a"], "{text}");
        }
        assert_eq!(found("drop schema s cascade; alter table users add a int"), ["drop schema s"]);
    }

    #[test]
    fn what_is_done_already_needs_nothing() {
        let done = pending("0001_a", "alter table a add x int; alter table b add x int", 1);
        let next = pending("0002_b", "alter table b add y int", 0);
        let names: Vec<String> = demands(&[done, next])
            .into_iter()
            .map(|demand| match demand {
                Demand::Relation { evolution, name, .. } => format!("{evolution} {}", name.name),
                _ => String::new(),
            })
            .collect();
        assert_eq!(names, ["0001_a b", "0002_b b"]);
    }
}
