//! One file: from the spanned TOML document to the definition, with a problem for whatever is not understood.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, names};
use super::problem::{At, Problem};
use super::{
    AccountDefinition, AccountsDefinition, EntityDefinition, NameDefinition, Placed, ScopeDefinition,
    SourceDefinition,
};
use crate::identity::phone;
use crate::plan::{Ids, Policies, Policy};

/// A value of the document.
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// What a file turned out to hold.
#[derive(Debug)]
pub(super) enum Content {
    Entity(Box<EntityDefinition>),
    Accounts(Box<AccountsDefinition>),
    /// Nothing that counts: empty, `disabled = true`, or broken.
    Nothing,
}

/// Reads one file and collects its problems.
#[derive(Debug)]
pub(super) struct Reader<'p> {
    pub(super) file: usize,
    /// Paths in the file begin here.
    pub(super) folder: &'p Path,
    pub(super) text: &'p str,
    pub(super) problems: &'p mut Vec<Problem>,
}

/// The default template; RFC 2606 reserves `.invalid`, so nothing sent there can reach anybody.
const PLACEHOLDER: &str = "{entity}.{key}@placeholder.invalid";

impl Reader<'_> {
    pub(super) fn at(&self, span: Range<usize>) -> At {
        At { file: self.file, start: span.start, end: span.end }
    }

    pub(super) fn problem(&mut self, span: Range<usize>, message: impl Into<String>, label: &str) {
        let at = self.at(span);
        self.problems.push(Problem::at(at, message, label));
    }

    /// Reads the whole file. `accounts`: it is `accounts.toml`.
    pub(super) fn file(&mut self, accounts: bool) -> Content {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        let broken = !errors.is_empty();
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            self.problem(span, format!("this is not TOML: {}", error.message()), "here");
        }
        // What stands after a syntax error is guesswork, and so would every further message be.
        let table = document.get_ref();
        if broken || table.is_empty() {
            return Content::Nothing;
        }
        if accounts { self.accounts(table) } else { self.entity(table) }
    }

    fn entity(&mut self, table: &DeTable<'_>) -> Content {
        self.unknown_keys(table, &names(keys::ENTITY), "a definition");
        if table.get("disabled").and_then(|value| self.boolean(value, "disabled")) == Some(true) {
            return Content::Nothing;
        }
        let Some(name) = self.required(table, 0..0, "entity", "a definition") else {
            return Content::Nothing;
        };
        // Names stand in settings, the ledger and generated addresses, so they stay plain.
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !name.value.starts_with(|c: char| c.is_ascii_lowercase()) || !name.value.chars().all(plain) {
            let message = format!("`{}` cannot be the name of an entity", name.value);
            self.problems.push(Problem::at(name.at, message, "lower-case letters, digits and _ only"));
        }
        let ids = self.ids(table, Ids::NAMES);
        let definition = EntityDefinition {
            file: self.file,
            after: table.get("after").map(|value| self.strings(value, "after")).unwrap_or_default(),
            ids: ids.unwrap_or(Placed { value: Ids::Uuid8, at: name.at }),
            source: self.source(table, name.at),
            account: table.get("account").and_then(|value| self.account(value)),
            writes: self.writes(table, false),
            documents: self.documents(table, false),
            name,
        };
        Content::Entity(Box::new(definition))
    }

    fn accounts(&mut self, table: &DeTable<'_>) -> Content {
        self.unknown_keys(table, &names(keys::ACCOUNTS), "accounts.toml");
        // Acted on while loading, before the files that it leaves out are read.
        if let Some(value) = table.get("builtin") {
            self.boolean(value, "builtin");
        }
        let mut definition = AccountsDefinition {
            file: self.file,
            phone_region: String::new(),
            placeholder: PLACEHOLDER.to_owned(),
            policies: Policies {
                same_person: Policy::Merge,
                other_person: Policy::Suffix,
                same_entity: Policy::Suffix,
                same_phone: Policy::KeepFirst,
            },
            order: Vec::new(),
            ids: Placed { value: Ids::Uuid8, at: self.at(0..0) },
            writes: self.writes(table, true),
            documents: self.documents(table, true),
        };
        if let Some(value) = table.get("order") {
            definition.order = self.strings(value, "order").into_iter().map(|name| name.value).collect();
        }
        if let Some((value, account)) = self.table(table.get("account"), "account") {
            self.unknown_keys(account, &names(keys::ACCOUNTS_ACCOUNT), "[account] of accounts.toml");
            if let Some(region) = self.required(account, value, "phone_region", "[account]") {
                if let Err(message) = phone::check_region(&region.value) {
                    self.problems.push(Problem::at(region.at, message, "unknown region"));
                }
                definition.phone_region = region.value;
            }
            if let Some(ids) = self.ids(account, Ids::OF_ACCOUNTS) {
                definition.ids = ids;
            }
            if let Some(template) = account.get("placeholder").and_then(|v| self.string(v, "placeholder")) {
                let (local, domain) = template.value.rsplit_once('@').unwrap_or_default();
                if !local.contains("{entity}") || !local.contains("{key}") || !domain.contains('.') {
                    let message = "the template of generated addresses must have {entity} and {key} before the @, and a domain after it, or two people could get the same address";
                    self.problems.push(Problem::at(
                        template.at,
                        message,
                        "for example {entity}.{key}@no-email.example.org",
                    ));
                }
                definition.placeholder = template.value;
            }
        } else if let Some(at) =
            definition.writes.iter().chain(&definition.documents).map(|write| write.at).next()
        {
            self.problems.push(
                Problem::at(at, "accounts.toml writes accounts but has no [account]", "needs it")
                    .help("add `[account]` with `phone_region = \"NG\"` (the country in which phones without a country code are read)"),
            );
        }
        if let Some((_, policies)) = self.table(table.get("policies"), "policies") {
            self.policies(policies, &mut definition.policies);
        }
        Content::Accounts(Box::new(definition))
    }

    fn ids(&mut self, table: &DeTable<'_>, choices: &[(&str, Ids)]) -> Option<Placed<Ids>> {
        let at = self.at(table.get("ids")?.span());
        Some(Placed { value: self.choice(table, "ids", choices)?, at })
    }

    fn policies(&mut self, table: &DeTable<'_>, policies: &mut Policies) {
        self.unknown_keys(table, &names(keys::POLICIES), "[policies]");
        let places = [
            ("same_person", &mut policies.same_person),
            ("other_person", &mut policies.other_person),
            ("same_entity", &mut policies.same_entity),
            ("same_phone", &mut policies.same_phone),
        ];
        for (key, place) in places {
            if let Some(policy) = self.choice(table, key, Policy::choices(key)) {
                *place = policy;
            }
        }
    }

    fn source(&mut self, table: &DeTable<'_>, name: At) -> Option<SourceDefinition> {
        let Some((span, source)) = self.table(table.get("source"), "source") else {
            if table.get("source").is_none() {
                let problem = Problem::at(name, "this entity has no [source]", "where are its rows read?");
                self.problems
                    .push(problem.help("add `[source]` with `key = \"id\"` and `query = '''select …'''`"));
            }
            return None;
        };
        self.unknown_keys(source, &names(keys::SOURCE), "[source]");
        let key = self.required(source, span.clone(), "key", "[source]");
        let query = self.required(source, span, "query", "[source]");
        let (key, mut query) = (key?, query?);
        // The place of the text inside its quotes, if it stands there as it is (no escapes, no CR).
        let trimmed = query.value.trim().trim_end_matches(';').trim_end().to_owned();
        if trimmed.is_empty() {
            self.problems.push(Problem::at(query.at, "the query is empty", "a select of V1 goes here"));
            return None;
        }
        if let Some(found) = self.text.get(query.at.start..query.at.end).and_then(|raw| raw.find(&trimmed)) {
            query.at.start += found;
            query.at.end = query.at.start + trimmed.len();
        }
        query.value = trimmed;
        let files = self.files(source);
        Some(SourceDefinition { query, key, files })
    }

    fn account(&mut self, value: &Value<'_>) -> Option<AccountDefinition> {
        let (span, table) = self.table(Some(value), "account")?;
        self.unknown_keys(table, &names(keys::ACCOUNT), "[account]");
        let account_type = self.required(table, span.clone(), "type", "[account]");
        let role = self.required(table, span.clone(), "role", "[account]");
        let name = self.name(table, span.clone());
        let scope = table.get("scope").and_then(|value| self.scope(value));
        let mut column = |key: &str| table.get(key).and_then(|value| self.string(value, key));
        let (email, phone, address) = (column("email"), column("phone"), column("address"));
        let (password, when) = (column("password"), column("when"));
        let (created_at, updated_at) = (column("created_at"), column("updated_at"));
        Some(AccountDefinition {
            at: self.at(span),
            account_type: account_type?,
            role: role?,
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

    fn name(&mut self, table: &DeTable<'_>, span: Range<usize>) -> Option<NameDefinition> {
        let mut column = |key: &str| table.get(key).and_then(|value| self.string(value, key));
        let (full, first, middle, last) =
            (column("name"), column("first_name"), column("middle_name"), column("last_name"));
        match (full, first, last) {
            (Some(full), None, None) if middle.is_none() => Some(NameDefinition::Full(full)),
            (None, Some(first), Some(last)) => Some(NameDefinition::Parts { first, middle, last }),
            _ => {
                self.problem(
                    span,
                    "[account] needs either `name`, or `first_name` and `last_name` (and perhaps `middle_name`)",
                    "which columns hold the person's name?",
                );
                None
            }
        }
    }

    fn scope(&mut self, value: &Value<'_>) -> Option<Placed<ScopeDefinition>> {
        let (span, table) = self.table(Some(value), "scope")?;
        let at = self.at(span.clone());
        if let Some(own) = table.get("id") {
            self.unknown_keys(table, &names(keys::OWN_SCOPE), "`scope = { id = true }`");
            self.truth(own, "id")?;
            return Some(Placed { value: ScopeDefinition::Own, at });
        }
        self.unknown_keys(table, &names(keys::OTHER_SCOPE), "a scope");
        let entity = self.required(table, span.clone(), "entity", "a scope");
        let key = self.required(table, span, "key", "a scope");
        Some(Placed { value: ScopeDefinition::Reference { entity: entity?, key: key? }, at })
    }
}
