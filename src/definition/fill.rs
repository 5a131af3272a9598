//! What fills a column, and the small readers of strings, choices and tables that every part of a file needs.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::problem::{At, Problem};
use super::read::{Reader, Value};
use super::{ConstantKind, FILLS, FillDefinition, KeyDefinition, LATER, NULL, Placed, can_be_null};
use crate::plan::{AccountField, AddressPart, Missing, NamePart};

/// Where a fill stands, which decides what it may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings {
    /// In `accounts.toml`, which knows no source columns.
    pub accounts: bool,
    /// The write has an array.
    pub in_each: bool,
    /// It fills a field of a document, not a column of a table.
    pub document: bool,
}

impl Reader<'_> {
    /// What fills a column or field.
    pub(super) fn fill(&mut self, value: &Value<'_>, place: Surroundings) -> Option<Placed<FillDefinition>> {
        let span = value.span();
        let fill = match value.get_ref() {
            DeValue::String(column) => FillDefinition::Column(column.to_string()),
            DeValue::Table(table) => self.table_fill(table, span.clone(), place)?,
            other => {
                let message = format!(
                    "a column is filled by a source column's name or by {{ … }}, not by {}",
                    article(other)
                );
                self.problem(span, message, "for a constant write { value = … }");
                return None;
            }
        };
        let of_a_row = match &fill {
            FillDefinition::Lookup { key, .. } => !matches!(key.value, KeyDefinition::Account(_)),
            FillDefinition::DerivedId(_) | FillDefinition::Account(_) => false,
            FillDefinition::Constant(..) | FillDefinition::Now => false,
            _ => true,
        };
        if place.accounts && of_a_row {
            let at = self.at(span);
            let message = "accounts.toml holds for every entity, so it cannot use a row's columns or id";
            self.problems.push(
                Problem::at(at, message, "not here")
                    .help("use { account = \"…\" }; the account's own id is { account = \"id\" }"),
            );
            return None;
        }
        Some(Placed { value: fill, at: self.at(span) })
    }

    fn table_fill(
        &mut self,
        table: &DeTable<'_>,
        span: Range<usize>,
        place: Surroundings,
    ) -> Option<FillDefinition> {
        let in_each = place.in_each;
        // `contact.phone = "phone"` is a table for TOML: without this it would be taken for the fill { phone = … }.
        if place.document && !self.text[span.start..].starts_with('{') {
            let problem =
                Problem::at(self.at(span), "a field's dotted name stands in quotes", "not in quotes");
            self.problems.push(problem.help("write `\"contact.phone\" = …`"));
            return None;
        }
        let Some((kind, keys)) = FILLS.iter().find(|(kind, _)| table.get(*kind).is_some()) else {
            let first = table.keys().next().map(|key| key.get_ref().to_string()).unwrap_or_default();
            let problem =
                Problem::at(self.at(span), "this says nothing that could fill a column", "what fills it?");
            self.problems.push(problem.suggest(&first, FILLS.iter().map(|(kind, _)| *kind)));
            return None;
        };
        let nullable = place.document && can_be_null(kind);
        let known: Vec<&str> = keys.iter().copied().chain(nullable.then_some(NULL)).collect();
        self.unknown_keys(table, &known, &format!("{{ {kind} = … }}"));
        let value = table.get(*kind)?;
        Some(match *kind {
            "id" => match value.get_ref() {
                DeValue::String(label) if !label.trim().is_empty() => {
                    FillDefinition::DerivedId(label.to_string())
                }
                _ => {
                    self.truth(value, "id")?;
                    FillDefinition::Id
                }
            },
            "account" => FillDefinition::Account(self.account_field(value)?),
            "each" => FillDefinition::Each(self.each(value, in_each)?),
            "now" => {
                self.truth(value, "now")?;
                FillDefinition::Now
            }
            "email" => FillDefinition::Email(self.string(value, "email")?),
            "phone" => FillDefinition::Phone(self.string(value, "phone")?),
            "address" => {
                let part = self.part(table, span, "{ address = … }", AddressPart::NAMES);
                let prefer = table.get("prefer").and_then(|prefer| self.string(prefer, "prefer"));
                FillDefinition::Address { column: self.string(value, "address")?, part: part?, prefer }
            }
            "name" => {
                let part = self.part(table, span, "{ name = … }", NamePart::NAMES);
                let prefer = table.get("prefer").and_then(|prefer| self.string(prefer, "prefer"));
                FillDefinition::Name { column: self.string(value, "name")?, part: part?, prefer }
            }
            "value" => {
                let (text, kind) = self.constant(value)?;
                FillDefinition::Constant(text, kind)
            }
            "column" => FillDefinition::Column(self.string(value, "column")?.value),
            "entity" => {
                let key = self.key(table, span.clone(), in_each);
                let missing = self.missing(table, span);
                FillDefinition::Reference {
                    entity: self.string(value, "entity")?,
                    key: key?,
                    missing: missing?,
                }
            }
            _ => {
                let by = self.required(table, span.clone(), "by", "{ lookup = … }");
                let key = self.key(table, span.clone(), in_each);
                let missing = self.missing(table, span);
                let lookup = self.string(value, "lookup")?;
                FillDefinition::Lookup { table: lookup, by: by?, key: key?, missing: missing? }
            }
        })
    }

    fn part<T: Copy>(
        &mut self,
        table: &DeTable<'_>,
        span: Range<usize>,
        what: &str,
        parts: &[(&str, T, &str)],
    ) -> Option<T> {
        self.required(table, span, "part", what)?;
        let choices: Vec<(&str, T)> = parts.iter().map(|(name, part, _)| (*name, *part)).collect();
        self.choice(table, "part", &choices)
    }

    fn key(
        &mut self,
        table: &DeTable<'_>,
        span: Range<usize>,
        in_each: bool,
    ) -> Option<Placed<KeyDefinition>> {
        match (table.get("key"), table.get("account")) {
            (Some(value), None) => {
                let at = self.at(value.span());
                let key = match value.get_ref() {
                    DeValue::String(name) if name == "each" => {
                        KeyDefinition::Each(self.each_of_write(value, in_each)?)
                    }
                    DeValue::Table(inner) if inner.get("each").is_some() => {
                        self.unknown_keys(inner, &["each"], "key = { each = … }");
                        KeyDefinition::Each(self.each(inner.get("each")?, in_each)?)
                    }
                    _ => KeyDefinition::Column(self.string(value, "key")?.value),
                };
                Some(Placed { value: key, at })
            }
            (None, Some(value)) => {
                let at = self.at(value.span());
                Some(Placed { value: KeyDefinition::Account(self.account_field(value)?), at })
            }
            _ => {
                self.problem(
                    span,
                    "a look-up or reference needs one `key` (or, for a look-up, `account`)",
                    "by which value is the row found?",
                );
                None
            }
        }
    }

    fn each(&mut self, value: &Value<'_>, in_each: bool) -> Option<Option<String>> {
        if let DeValue::String(column) = value.get_ref() {
            self.each_of_write(value, in_each)?;
            return Some(Some(column.to_string()));
        }
        self.truth(value, "each")?;
        self.each_of_write(value, in_each)
    }

    fn each_of_write(&mut self, value: &Value<'_>, in_each: bool) -> Option<Option<String>> {
        if in_each {
            return Some(None);
        }
        let at = self.at(value.span());
        let problem =
            Problem::at(at, "there is no element here: this write has no `each`", "element of which array?");
        self.problems.push(problem.help("add `each = \"array_column\"` below `table = …`"));
        None
    }

    fn missing(&mut self, table: &DeTable<'_>, span: Range<usize>) -> Option<Placed<Missing>> {
        let Some(value) = table.get("missing") else {
            return Some(Placed { value: Missing::Reject, at: self.at(span) });
        };
        let missing = self.choice(table, "missing", Missing::NAMES)?;
        Some(Placed { value: missing, at: self.at(value.span()) })
    }

    /// Where a fill says `null = true`.
    pub(super) fn null(&mut self, value: &Value<'_>) -> Option<At> {
        let DeValue::Table(table) = value.get_ref() else { return None };
        let null = table.get(NULL)?;
        self.boolean(null, NULL)?.then(|| self.at(null.span()))
    }

    /// Where a fill says `later = true`.
    pub(super) fn later(&mut self, value: &Value<'_>, place: Surroundings) -> Option<At> {
        let DeValue::Table(table) = value.get_ref() else { return None };
        let (_, keys) = FILLS.iter().find(|(kind, _)| table.get(*kind).is_some())?;
        // For the others it is an unknown key, which was told.
        let later = table.get(LATER).filter(|_| keys.contains(&LATER))?;
        if !self.boolean(later, LATER)? {
            return None;
        }
        let at = self.at(later.span());
        if place.accounts {
            let message = "an account is written whole, when its first row is";
            self.problems.push(Problem::at(at, message, "not here"));
            return None;
        }
        Some(at)
    }

    fn account_field(&mut self, value: &Value<'_>) -> Option<AccountField> {
        let name = self.string(value, "account")?;
        let found = AccountField::NAMES.iter().find(|(known, ..)| *known == name.value);
        if found.is_none() {
            let problem =
                Problem::at(name.at, format!("an account has no field `{}`", name.value), "unknown field");
            self.problems
                .push(problem.suggest(&name.value, AccountField::NAMES.iter().map(|(known, ..)| *known)));
        }
        found.map(|(_, field, _)| *field)
    }

    fn constant(&mut self, value: &Value<'_>) -> Option<(String, ConstantKind)> {
        Some(match value.get_ref() {
            DeValue::String(text) => (text.to_string(), ConstantKind::Text),
            DeValue::Boolean(truth) => (truth.to_string(), ConstantKind::Boolean),
            DeValue::Integer(number) if number.radix() == 10 => {
                (number.as_str().replace('_', ""), ConstantKind::Integer)
            }
            DeValue::Float(number) => (number.as_str().replace('_', ""), ConstantKind::Float),
            DeValue::Datetime(time) => (time.to_string(), ConstantKind::Time),
            other => {
                self.problem(
                    value.span(),
                    format!("a constant cannot be {}", article(other)),
                    "write it as a string",
                );
                return None;
            }
        })
    }

    /// Complains about every key that is not `known`.
    pub(super) fn unknown_keys(&mut self, table: &DeTable<'_>, known: &[&str], what: &str) {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            let problem =
                Problem::at(self.at(key.span()), format!("{what} has no key `{name}`"), "unknown key");
            self.problems.push(problem.suggest(name, known.iter().copied()));
        }
    }

    pub(super) fn required(
        &mut self,
        table: &DeTable<'_>,
        span: Range<usize>,
        key: &str,
        what: &str,
    ) -> Option<Placed<String>> {
        match table.get(key) {
            Some(value) => self.string(value, key),
            None => {
                self.problem(span, format!("{what} has no `{key}`"), &format!("needs `{key} = \"…\"`"));
                None
            }
        }
    }

    pub(super) fn string(&mut self, value: &Value<'_>, what: &str) -> Option<Placed<String>> {
        match value.get_ref() {
            DeValue::String(text) if !text.is_empty() => {
                Some(Placed { value: text.to_string(), at: self.at(value.span()) })
            }
            DeValue::String(_) => {
                self.problem(value.span(), format!("`{what}` is empty"), "a name goes here");
                None
            }
            other => {
                self.problem(
                    value.span(),
                    format!("`{what}` is a string, not {}", article(other)),
                    "needs \"…\"",
                );
                None
            }
        }
    }

    pub(super) fn strings(&mut self, value: &Value<'_>, what: &str) -> Vec<Placed<String>> {
        match value.get_ref() {
            DeValue::Array(array) => array.iter().filter_map(|item| self.string(item, what)).collect(),
            other => {
                self.problem(
                    value.span(),
                    format!("`{what}` is a list, not {}", article(other)),
                    "needs [\"…\"]",
                );
                Vec::new()
            }
        }
    }

    pub(super) fn boolean(&mut self, value: &Value<'_>, what: &str) -> Option<bool> {
        if let DeValue::Boolean(truth) = value.get_ref() {
            return Some(*truth);
        }
        let message = format!("`{what}` is true or false, not {}", article(value.get_ref()));
        self.problem(value.span(), message, "needs true or false");
        None
    }

    /// `id = true`, `now = true`: the key says it all, the value only has to be there.
    pub(super) fn truth(&mut self, value: &Value<'_>, what: &str) -> Option<()> {
        if let DeValue::Boolean(true) = value.get_ref() {
            return Some(());
        }
        self.problem(value.span(), format!("`{what}` must be true here"), &format!("needs {what} = true"));
        None
    }

    pub(super) fn choice<T: Clone>(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let value = self.string(table.get(key)?, key)?;
        let found = choices.iter().find(|(name, _)| *name == value.value);
        if found.is_none() {
            let problem =
                Problem::at(value.at, format!("`{key}` cannot be `{}`", value.value), "unknown choice");
            self.problems.push(problem.suggest(&value.value, choices.iter().map(|(name, _)| *name)));
        }
        found.map(|(_, choice)| choice.clone())
    }

    /// A table and its place; a problem if it is there and is something else.
    pub(super) fn table<'t, 'i>(
        &mut self,
        value: Option<&'t Value<'i>>,
        what: &str,
    ) -> Option<(Range<usize>, &'t DeTable<'i>)> {
        let value = value?;
        match value.get_ref() {
            DeValue::Table(table) => Some((value.span(), table)),
            other => {
                self.problem(
                    value.span(),
                    format!("`{what}` is a table, not {}", article(other)),
                    "needs a table",
                );
                None
            }
        }
    }

    /// The parts `[[what]]`; `key` is its last word.
    pub(super) fn tables<'t, 'i>(
        &mut self,
        document: &'t DeTable<'i>,
        key: &str,
        what: &str,
    ) -> Vec<&'t Value<'i>> {
        let Some(value) = document.get(key) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(array) => array.iter().collect(),
            other => {
                let message = format!(
                    "`{key}` is written [[{what}]], once for each of them, not as {}",
                    article(other)
                );
                self.problem(value.span(), message, "needs [[…]]");
                Vec::new()
            }
        }
    }
}

/// The TOML type with its article: "a string", "an array".
fn article(value: &DeValue<'_>) -> String {
    let kind = value.type_str();
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}
