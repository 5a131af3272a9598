//! What V2's user may do with the tables of a plan, and what else is worth knowing about them.

use std::collections::BTreeSet;

use super::TableName;
use super::check::Checker;
use crate::catalog::{quote, quote_table};
use crate::definition::problem::Problem;

impl Checker<'_> {
    /// Remembers that a table is read, and perhaps written; says what may surprise about it.
    pub(super) fn uses(&mut self, name: &TableName, written: bool) {
        let Some(table) = self.inputs.v2.tables.get(name) else { return };
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
        if self.inputs.v2.closed_schemas.contains(&name.schema) {
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

    /// All missing privileges as statements to run.
    pub(super) fn grants(&mut self) {
        if self.lacking.is_empty() {
            return;
        }
        let user = quote(&self.inputs.v2.user);
        let schemas: BTreeSet<&String> = self
            .lacking
            .keys()
            .map(|table| &table.schema)
            .filter(|schema| self.inputs.v2.closed_schemas.contains(*schema))
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
        let message = format!("V2's user {} lacks privileges", self.inputs.v2.user);
        self.problems.push(
            Problem::general(message).help(format!("run as the tables' owner:\n{}", statements.join("\n"))),
        );
    }
}
