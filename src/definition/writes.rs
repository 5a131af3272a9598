//! The parts that say what is written: tables of a Postgres V2, and documents of a MongoDB V2 with the arrays inside
//! them. Both have one shape (a place, how many rows, what fills each field), so that everything behind the reader
//! treats them alike.

use std::ops::Range;

use toml::de::DeTable;

use super::fill::Surroundings;
use super::keys::{self, names};
use super::problem::Problem;
use super::read::Reader;
use super::{ColumnDefinition, Placed, RowsDefinition, WriteDefinition};

impl Reader<'_> {
    /// The `[[postgres]]` parts.
    pub(super) fn writes(&mut self, document: &DeTable<'_>, accounts: bool) -> Vec<WriteDefinition> {
        let mut writes = Vec::new();
        for value in self.tables(document, "postgres", "postgres") {
            let Some((span, table)) = self.table(Some(value), "postgres") else { continue };
            let known = if accounts { keys::ACCOUNTS_WRITE } else { keys::WRITE };
            self.unknown_keys(table, &names(known), "[[postgres]]");
            let name = self.required(table, span.clone(), "table", "[[postgres]]");
            let rows = self.rows(table, span.clone(), accounts, "[[postgres]]");
            let in_each = matches!(rows, Some(RowsDefinition::Each(_)));
            let place = Surroundings { accounts, in_each, document: false };
            let columns = self.columns(table, span.clone(), "columns", place);
            if let (Some(name), Some(rows)) = (name, rows) {
                writes.push(WriteDefinition { at: self.at(span), table: name, inside: None, rows, columns });
            }
        }
        writes
    }

    /// The `[[mongodb]]` parts, each followed by its embedded arrays.
    pub(super) fn documents(&mut self, document: &DeTable<'_>, accounts: bool) -> Vec<WriteDefinition> {
        let mut writes = Vec::new();
        for value in self.tables(document, "mongodb", "mongodb") {
            let Some((span, table)) = self.table(Some(value), "mongodb") else { continue };
            let known = if accounts { keys::ACCOUNTS_COLLECTION } else { keys::COLLECTION };
            self.unknown_keys(table, &names(known), "[[mongodb]]");
            let collection = self.required(table, span.clone(), "collection", "[[mongodb]]");
            let rows = self.rows(table, span.clone(), accounts, "[[mongodb]]");
            let in_each = matches!(rows, Some(RowsDefinition::Each(_)));
            let fields = self.columns(
                table,
                span.clone(),
                "fields",
                Surroundings { accounts, in_each, document: true },
            );
            let several = matches!(rows, Some(RowsDefinition::Each(_) | RowsDefinition::Role));
            let mut paths: Vec<Placed<String>> = fields.iter().map(|field| field.name.clone()).collect();
            let at = self.at(span);
            let Some((collection, rows)) = collection.zip(rows) else {
                self.embedded(table, accounts, None);
                continue;
            };
            writes.push(WriteDefinition {
                at,
                table: collection.clone(),
                inside: None,
                rows,
                columns: fields,
            });
            for embedded in self.embedded(table, accounts, Some(&collection)) {
                if several {
                    let message = "only a document for each row or account can have embedded arrays";
                    let label = "this one stands for an element or a role";
                    self.problems.push(Problem::at(embedded.at, message, label));
                }
                paths.extend(embedded.inside.clone());
                writes.push(embedded);
            }
            self.paths(&paths);
        }
        self.ambiguous_arrays(&writes);
        writes
    }

    /// An array belongs to the documents of its collection, so only one part may make those.
    fn ambiguous_arrays(&mut self, writes: &[WriteDefinition]) {
        for embedded in writes {
            let Some(field) = &embedded.inside else { continue };
            let collection = &embedded.table.value;
            let makers =
                writes.iter().filter(|other| other.inside.is_none() && other.table.value == *collection);
            if makers.count() > 1 {
                let message = format!(
                    "several parts write `{collection}`, so it is open whose `{}` this is",
                    field.value
                );
                self.problems.push(Problem::at(field.at, message, "in which documents?"));
            }
        }
    }

    /// The `[[mongodb.embed]]` parts of a collection.
    fn embedded(
        &mut self,
        table: &DeTable<'_>,
        accounts: bool,
        collection: Option<&Placed<String>>,
    ) -> Vec<WriteDefinition> {
        const PART: &str = "[[mongodb.embed]]";
        let mut writes = Vec::new();
        for value in self.tables(table, "embed", "mongodb.embed") {
            let Some((span, table)) = self.table(Some(value), "embed") else { continue };
            let known = if accounts { keys::ACCOUNTS_EMBED } else { keys::EMBED };
            self.unknown_keys(table, &names(known), PART);
            let field = self.required(table, span.clone(), "field", PART);
            let rows = if accounts {
                self.required(table, span.clone(), "per", PART)
                    .and_then(|_| self.choice(table, "per", &[("role", RowsDefinition::Role)]))
            } else {
                self.required(table, span.clone(), "each", PART).map(RowsDefinition::Each)
            };
            let place = Surroundings { accounts, in_each: !accounts, document: true };
            let columns = self.columns(table, span.clone(), "fields", place);
            self.paths(&columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>());
            if let (Some(collection), Some(field), Some(rows)) = (collection, field, rows) {
                let (at, table) = (self.at(span), collection.clone());
                writes.push(WriteDefinition { at, table, inside: Some(field), rows, columns });
            }
        }
        writes
    }

    /// How many rows a part gives.
    fn rows(
        &mut self,
        table: &DeTable<'_>,
        span: Range<usize>,
        accounts: bool,
        part: &str,
    ) -> Option<RowsDefinition> {
        if !accounts {
            return match table.get("each") {
                Some(each) => self.string(each, "each").map(RowsDefinition::Each),
                None => Some(RowsDefinition::Row),
            };
        }
        if table.get("per").is_none() {
            let message = format!("{part} of accounts.toml has no `per`");
            self.problem(span, message, "per = \"account\" or \"role\"");
        }
        self.choice(table, "per", &[("account", RowsDefinition::Account), ("role", RowsDefinition::Role)])
    }

    fn columns(
        &mut self,
        write: &DeTable<'_>,
        span: Range<usize>,
        part: &str,
        place: Surroundings,
    ) -> Vec<ColumnDefinition> {
        let Some((_, columns)) = self.table(write.get(part), part) else {
            if write.get(part).is_none() {
                self.problem(span, format!("this part has no {part}"), "what does it write?");
            }
            return Vec::new();
        };
        // The document sorts by name; people wrote an order, and messages and COPY follow it.
        let mut entries: Vec<_> = columns.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let mut definitions = Vec::new();
        for (name, value) in entries {
            let fill = self.fill(value, place);
            let null = if place.document { self.null(value) } else { None };
            let later = self.later(value, place);
            let name = Placed { value: name.get_ref().to_string(), at: self.at(name.span()) };
            definitions.push(ColumnDefinition { name, fill, null, later });
        }
        definitions
    }

    /// Dotted names of one document: each a name that MongoDB takes, and none the beginning of another.
    fn paths(&mut self, paths: &[Placed<String>]) {
        for (index, path) in paths.iter().enumerate() {
            // "$" is an operator's, and a field whose own name has a dot could not be queried.
            if path
                .value
                .split('.')
                .any(|name| name.is_empty() || name.starts_with('$') || name.contains('\0'))
            {
                let message = format!("`{}` cannot be the name of a field", path.value);
                self.problems.push(Problem::at(path.at, message, "names between dots, without $"));
            }
            let holds = |outer: &str, inner: &str| {
                inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            let other = paths[..index]
                .iter()
                .find(|other| holds(&other.value, &path.value) || holds(&path.value, &other.value));
            if let Some(other) = other {
                let message = format!("`{}` and `{}` cannot both be written", other.value, path.value);
                self.problems.push(Problem::at(path.at, message, "one holds the other"));
            }
        }
    }
}
