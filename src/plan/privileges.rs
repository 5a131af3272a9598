//! What V2's user may do with the tables or collections of a plan, and what else is worth knowing about them.

use std::collections::BTreeSet;

use super::TableName;
use super::check::Checker;
use super::v2::{Store, V2};
use crate::catalog::{Catalog, Collections, Table, quote, quote_table};
use crate::definition::problem::Problem;

/// The schema of `setup/postgres/control.sql`.
const CONTROL_SCHEMA: &str = "v1v2";

/// What runs, rollbacks and reports do with its tables.
const CONTROL: &[(&str, &[&str])] = &[
    ("accounting", &["SELECT"]),
    ("conflicts", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("dropped", &["SELECT", "INSERT", "DELETE"]),
    ("entities", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("ledger", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("lock", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("meta", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("replaced", &["SELECT", "INSERT", "DELETE"]),
    ("runs", &["SELECT", "INSERT", "UPDATE"]),
];

impl Checker<'_> {
    /// Remembers that a table or collection is read, and perhaps written; says what may surprise about it.
    pub(super) fn uses(&mut self, store: Store<'_>, written: bool) {
        match (self.inputs.v2, store) {
            (V2::Postgres(catalog), Store::Table(name, table)) => {
                self.uses_table(catalog, name, table, written)
            }
            (V2::MongoDb(collections), Store::Collection(name, collection)) => {
                // `grants` looks at all of them.
                let actions: &[&'static str] =
                    if written { &["find", "insert", "update", "remove"] } else { &["find"] };
                for action in actions.iter().filter(|action| !collections.allows(name, action)) {
                    self.lacking.entry(store.table_name()).or_default().insert(action);
                }
                if written && self.noted.insert(store.table_name()) {
                    if collection.validator.is_some() && !collection.enforced {
                        self.notes.push(format!(
                            "V2's collection {name} does not enforce its validator, so nothing was checked against it"
                        ));
                    } else if collection.more_rules {
                        self.notes.push(format!(
                            "the validator of V2's collection {name} has rules that only the server judges; what it refuses will be rejected"
                        ));
                    }
                }
            }
            _ => {}
        }
    }

    fn uses_table(&mut self, catalog: &Catalog, name: &TableName, table: &Table, written: bool) {
        let has = table.privileges;
        let needed = [
            ("SELECT", has.select, true),
            ("INSERT", has.insert, written),
            ("UPDATE", has.update, written),
            ("DELETE", has.delete, written),
        ];
        for (privilege, held, needed) in needed {
            if needed && !held {
                self.lacking.entry(name.clone()).or_default().insert(privilege);
            }
        }
        if catalog.closed_schemas.contains(&name.schema) {
            self.lacking.entry(name.clone()).or_default();
        }
        if written && self.noted.insert(name.clone()) {
            if !table.triggers.is_empty() {
                self.notes.push(format!(
                    "V2's table {} has triggers ({}), which may change what is written",
                    name.name,
                    table.triggers.join(", ")
                ));
            }
            if table.row_security {
                self.notes.push(format!(
                    "row security applies to V2's table {}: rows may be refused or hidden",
                    name.name
                ));
            }
        }
    }

    /// What v1v2 itself reads and writes in V2. A V2 without it was not set up, which is told elsewhere.
    fn uses_control_schema(&mut self, catalog: &Catalog) {
        for (name, privileges) in CONTROL {
            let name = TableName { schema: CONTROL_SCHEMA.to_owned(), name: (*name).to_owned() };
            let Some(table) = catalog.tables.get(&name) else { continue };
            let has = table.privileges;
            for privilege in *privileges {
                let held = match *privilege {
                    "SELECT" => has.select,
                    "INSERT" => has.insert,
                    "UPDATE" => has.update,
                    _ => has.delete,
                };
                if !held {
                    self.lacking.entry(name.clone()).or_default().insert(privilege);
                }
            }
            if catalog.closed_schemas.contains(CONTROL_SCHEMA) {
                self.lacking.entry(name).or_default();
            }
        }
    }

    /// All missing privileges, with what to run.
    pub(super) fn grants(&mut self) {
        match self.inputs.v2 {
            V2::Postgres(catalog) => self.statements(catalog),
            V2::MongoDb(collections) => self.roles(collections),
        }
    }

    /// Roles are given for a whole database: one statement mends whatever is missing.
    fn roles(&mut self, collections: &Collections) {
        let Some(user) = &collections.user else {
            if !collections.listed {
                let message = format!("V2 does not show the collections of {} to us", collections.database);
                let help = "give a user and a password in V2's URL: the server asks for them";
                self.problems.push(Problem::general(message).help(help));
            }
            return;
        };
        // Bookkeeping makes its own collections, and a bulk load takes indexes away and makes them again.
        const MAKES: [&str; 3] = ["createCollection", "createIndex", "dropIndex"];
        let makes = MAKES.iter().all(|action| collections.allows("v1v2_ledger", action));
        if collections.listed && makes && self.lacking.is_empty() {
            return;
        }
        let mut lacks: Vec<String> = self
            .lacking
            .iter()
            .map(|(table, actions)| {
                let actions: Vec<&str> = actions.iter().copied().collect();
                format!("{} on {}", actions.join(", "), table.name)
            })
            .collect();
        if !collections.listed {
            lacks.push("listCollections".to_owned());
        } else if !makes {
            lacks.push(format!("{} in {}", MAKES.join(", "), collections.database));
        }
        let message = format!("V2's user {} lacks privileges: {}", user.name, lacks.join("; "));
        let help = format!(
            "run as an administrator:\nuse {:?}\ndb.grantRolesToUser({:?}, [{{ role: \"readWrite\", db: {:?} }}])",
            user.database, user.name, collections.database
        );
        self.problems.push(Problem::general(message).help(help));
    }

    fn statements(&mut self, catalog: &Catalog) {
        self.uses_control_schema(catalog);
        if self.lacking.is_empty() {
            return;
        }
        let user = quote(&catalog.user);
        let schemas: BTreeSet<&String> = self
            .lacking
            .keys()
            .map(|table| &table.schema)
            .filter(|schema| catalog.closed_schemas.contains(*schema))
            .collect();
        let mut statements: Vec<String> = schemas
            .iter()
            .map(|schema| format!("GRANT USAGE ON SCHEMA {} TO {user};", quote(schema)))
            .collect();
        for (table, privileges) in &self.lacking {
            if !privileges.is_empty() {
                let order = ["SELECT", "INSERT", "UPDATE", "DELETE"];
                let list: Vec<&str> =
                    order.into_iter().filter(|privilege| privileges.contains(privilege)).collect();
                statements.push(format!("GRANT {} ON {} TO {user};", list.join(", "), quote_table(table)));
            }
        }
        let message = format!("V2's user {} lacks privileges", catalog.user);
        self.problems.push(
            Problem::general(message).help(format!("run as the tables' owner:\n{}", statements.join("\n"))),
        );
    }
}
