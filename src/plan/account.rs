//! What an account is: `accounts.toml` against V2, and the `[account]` part of each entity against its query.

use super::check::{Checker, Rows, id_kind, id_type};
use super::{AccountField, AccountSpec, Accounts, Fill, NameColumns, Scope, When, Write};
use crate::catalog::{Assignment, BsonKind};
use crate::definition::problem::Problem;
use crate::definition::{AccountDefinition, KeyDefinition, NameDefinition, Placed, ScopeDefinition};

impl<'a> Checker<'a> {
    /// Checks `accounts.toml` once; its writes hold for every entity with accounts.
    pub(super) fn accounts(&mut self) -> (Option<Accounts>, Vec<Write>) {
        let definitions = self.inputs.definitions;
        let with_account = || definitions.entities.iter().filter_map(|entity| entity.account.as_ref());
        let Some(accounts) = definitions.accounts.as_ref().filter(|accounts| !accounts.writes.is_empty())
        else {
            let broken = definitions.accounts.is_none() && self.accounts_are_broken();
            if let Some(first) = with_account().next().filter(|_| !broken) {
                self.problems.push(
                    Problem::at(
                        first.at,
                        "rows have accounts, but accounts.toml does not say how V2 stores one",
                        "what is an account?",
                    )
                    .help(format!(
                        "add accounts.toml with a {} part for each {} of accounts and roles",
                        self.inputs.v2.part(),
                        self.inputs.v2.store_word()
                    )),
                );
            }
            return (None, Vec::new());
        };
        if with_account().next().is_none() {
            return (None, Vec::new());
        }
        let writes: Vec<Write> = accounts.writes.iter().filter_map(|write| self.write(None, write)).collect();
        let column = |write: &Write, field: AccountField| {
            let found = write.columns.iter().find(|column| column.fill == Fill::Account(field));
            found.map(|column| column.name.clone())
        };
        let main = writes
            .iter()
            .filter(|write| write.when == When::Account && write.inside.is_none())
            .filter_map(|write| Some((write, column(write, AccountField::Id)?)))
            .max_by_key(|(write, _)| column(write, AccountField::Email).is_some());
        let Some((main, id_column)) = main else {
            // Only worth saying if the reason is not one that was reported for a write that fell out.
            if writes.len() == accounts.writes.len() && self.problems.is_empty() {
                let (part, word) = (self.inputs.v2.part(), self.inputs.v2.store_word());
                let message = format!("no {part} with per = \"account\" writes the account's id");
                let label = format!("which {word} holds the accounts?");
                let problem = Problem::at(accounts.writes[0].at, message, label);
                self.problems.push(problem.help("give one of them a column with { account = \"id\" }"));
            }
            return (None, writes);
        };
        let catalog = self.inputs.v2.catalog();
        let table = catalog.and_then(|catalog| catalog.tables.get(&main.table));
        if table.is_some_and(|table| !table.is_unique(&id_column)) {
            let written = accounts.writes.iter().flat_map(|write| &write.columns);
            let at =
                written.filter(|column| column.name.value == id_column).map(|column| column.name.at).next();
            let message =
                format!("V2's {}.{id_column} holds the account's id but is not unique", main.table.name);
            let at = at.unwrap_or(accounts.writes[0].at);
            self.problems.push(
                Problem::at(at, message, "needs a unique key")
                    .help("add a primary key or a unique constraint"),
            );
        }
        let plan = Accounts {
            policies: accounts.policies,
            placeholder: accounts.placeholder.clone(),
            ids: accounts.ids.value,
            phone_region: accounts.phone_region.clone(),
            table: main.table.clone(),
            email_column: column(main, AccountField::Email),
            phone_column: column(main, AccountField::Phone),
            username_column: column(main, AccountField::Username),
            password_column: column(main, AccountField::PasswordHash),
            id_column,
        };
        (Some(plan), writes)
    }

    /// Whether accounts.toml is there but broken, which has been reported.
    pub(super) fn accounts_are_broken(&self) -> bool {
        let definitions = self.inputs.definitions;
        definitions.problems.iter().any(|problem| {
            problem.at.is_some_and(|at| definitions.files[at.file].label.contains("accounts.toml"))
        })
    }

    /// Checks an `[account]` part.
    pub(super) fn account(
        &mut self,
        rows: Rows<'a>,
        account: &'a AccountDefinition,
        writes: &[Write],
    ) -> Option<AccountSpec> {
        let name = match &account.name {
            NameDefinition::Full(name) => self.contact(rows, name).map(NameColumns::Full),
            NameDefinition::Parts { first, middle, last } => {
                let first = self.contact(rows, first);
                let middle = middle.as_ref().and_then(|middle| self.contact(rows, middle));
                let last = self.contact(rows, last);
                first.zip(last).map(|(first, last)| NameColumns::Parts { first, middle, last })
            }
        };
        let mut contact =
            |column: &Option<Placed<String>>| column.as_ref().and_then(|column| self.contact(rows, column));
        let (email, phone, address) =
            (contact(&account.email), contact(&account.phone), contact(&account.address));
        let (password, when) = (contact(&account.password), account.when.as_ref());
        let when =
            when.and_then(|when| rows.described.and_then(|described| self.column_index(described, when)));
        let created_at = account.created_at.as_ref().and_then(|column| self.time(rows, column));
        let updated_at = account.updated_at.as_ref().and_then(|column| self.time(rows, column));
        let scope = account.scope.as_ref().and_then(|scope| self.scope(rows, scope, writes));
        Some(AccountSpec {
            account_type: account.account_type.value.clone(),
            role: account.role.value.clone(),
            name: name?,
            email,
            phone,
            address,
            password,
            created_at,
            updated_at,
            scope,
            when,
        })
    }

    /// A column that a person wrote text into.
    pub(super) fn contact(&mut self, rows: Rows<'a>, name: &Placed<String>) -> Option<usize> {
        let described = rows.described?;
        let index = self.column_index(described, name)?;
        let data_type = &described.columns[index].data_type;
        if !data_type.is_text() && data_type.base().category != 'N' && data_type.base().name != "citext" {
            let message = format!("`{}` is {}, but text is needed here", name.value, data_type.name);
            let problem = Problem::at(name.at, message, "not text");
            self.problems.push(problem.help(format!("cast it in the query: `…::text as {}`", name.value)));
        }
        Some(index)
    }

    fn time(&mut self, rows: Rows<'a>, name: &Placed<String>) -> Option<usize> {
        let described = rows.described?;
        let index = self.column_index(described, name)?;
        let data_type = &described.columns[index].data_type;
        // Every type that a document's date is made from can be assigned to any of Postgres's times, and no other.
        if BsonKind::of(data_type) != BsonKind::Date {
            let message = format!("`{}` is {}, but a time is needed here", name.value, data_type.name);
            let problem = Problem::at(name.at, message, "not a time");
            self.problems
                .push(problem.help(format!("cast it in the query: `…::timestamptz as {}`", name.value)));
        }
        Some(index)
    }

    fn scope(&mut self, rows: Rows<'a>, scope: &Placed<ScopeDefinition>, writes: &[Write]) -> Option<Scope> {
        let (found, theirs) = match &scope.value {
            ScopeDefinition::Own => (Scope::Own, rows),
            ScopeDefinition::Reference { entity, key } => {
                let column = rows.described.and_then(|described| self.column_index(described, key));
                let entities = &self.inputs.definitions.entities;
                let definition = entities.iter().position(|other| other.name.value == entity.value)?;
                let index = self.order.iter().position(|index| *index == definition)?;
                let theirs = self.rows_of(definition);
                let ours = column.and_then(|column| Some(rows.described?.columns[column].data_type.clone()));
                let key = Placed { value: KeyDefinition::Column(key.value.clone()), at: key.at };
                self.same_key(&key, ours, theirs);
                (Scope::Reference { entity: index, column: column? }, theirs)
            }
        };
        // accounts.toml is checked with a uuid in mind; an entity that keeps V1's keys may have another type.
        let written = writes.iter().flat_map(|write| write.columns.iter().map(move |column| (write, column)));
        for (write, column) in written.filter(|(_, column)| column.fill == Fill::Account(AccountField::Scope))
        {
            let Some(catalog) = self.inputs.v2.catalog() else { continue };
            let table = catalog.tables.get(&write.table);
            let wanted = table.and_then(|table| table.column(&column.name));
            let (Some(given), Some(wanted)) = (id_type(theirs), wanted) else {
                continue;
            };
            if let Assignment::Impossible(why) = given.assignment(&wanted.data_type, &catalog.casts) {
                let message = format!("{why} (V2's {}.{})", write.table.name, column.name);
                self.problems.push(Problem::at(scope.at, message, "does not fit"));
            }
        }
        Some(found)
    }

    /// What the scope of an entity's accounts is in a document.
    pub(super) fn scope_kind(&self, rows: Rows<'a>) -> Option<BsonKind> {
        match &rows.definition.account.as_ref()?.scope.as_ref()?.value {
            ScopeDefinition::Own => id_kind(rows),
            ScopeDefinition::Reference { entity, .. } => {
                let entities = &self.inputs.definitions.entities;
                id_kind(self.rows_of(entities.iter().position(|other| other.name.value == entity.value)?))
            }
        }
    }
}
