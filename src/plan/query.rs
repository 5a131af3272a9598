//! A definition's query and its key, against what V1 says of them.

use super::check::Checker;
use super::describe::{Described, DescribedColumn, Fault, Shape};
use super::{KeyKind, Source, SourceColumn};
use crate::catalog::{Type, quote, quote_table};
use crate::definition::problem::{At, Problem};
use crate::definition::{EntityDefinition, Placed, SourceDefinition};

impl Checker<'_> {
    /// Checks the `[source]` part.
    pub(super) fn source(
        &mut self,
        definition: &EntityDefinition,
        result: Option<&Result<Described, Fault>>,
    ) -> Option<Source> {
        let source = definition.source.as_ref()?;
        let described = match result? {
            Ok(described) => described,
            Err(fault) => {
                self.fault(source, fault);
                return None;
            }
        };
        for table in &described.forbidden {
            let message = format!("V1's user {} may not read {}", self.inputs.v1_user, table.name);
            let grant = format!("GRANT SELECT ON {} TO {};", quote_table(table), quote(self.inputs.v1_user));
            self.problems.push(Problem::at(source.query.at, message, "this query reads it").help(grant));
        }
        let columns = &described.columns;
        for (index, column) in columns.iter().enumerate() {
            let twice = |other: &&DescribedColumn| other.name == column.name;
            if columns.iter().filter(twice).count() > 1
                && columns.iter().position(|c| c.name == column.name) == Some(index)
            {
                let message = format!("the query has more than one column named `{}`", column.name);
                let problem =
                    Problem::at(within(&source.query, &column.name), message, "give each its own name");
                self.problems.push(problem.help("write `… as another_name`"));
            }
        }
        let key_index = self.column_index(described, &source.key)?;
        let key_kind = self.key(definition, described, &columns[key_index], &source.key)?;
        Some(Source {
            query: source.query.value.clone(),
            key: source.key.value.clone(),
            key_index,
            key_kind,
            columns: columns
                .iter()
                .map(|column| SourceColumn {
                    name: column.name.clone(),
                    type_name: column.data_type.name.clone(),
                    element_type: column.data_type.element().map(|element| element.name.clone()),
                    unique: columns[key_index].origin.zip(column.origin).is_some_and(|(key, origin)| {
                        key.unique && origin.unique && key.table == origin.table
                    }),
                })
                .collect(),
        })
    }

    fn fault(&mut self, source: &SourceDefinition, fault: &Fault) {
        let query = &source.query;
        let start = fault.position.and_then(|position| query.value.char_indices().nth(position));
        let at = match start {
            Some((offset, _)) if query.at.end - query.at.start == query.value.len() => {
                let rest = &query.value[offset..];
                let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '"' | '.');
                let length = rest.find(|c| !word(c)).filter(|length| *length > 0);
                let length = length.unwrap_or_else(|| rest.chars().next().map_or(0, char::len_utf8));
                let start = query.at.start + offset;
                At { start, end: start + if rest.starts_with(word) { length.max(1) } else { 1 }, ..query.at }
            }
            _ => query.at,
        };
        let problem =
            Problem::at(at, format!("V1 does not understand this query: {}", fault.message), "here");
        self.problems.push(match &fault.hint {
            Some(hint) => problem.help(hint.clone()),
            None => problem,
        });
    }

    fn key(
        &mut self,
        definition: &EntityDefinition,
        described: &Described,
        column: &DescribedColumn,
        key: &Placed<String>,
    ) -> Option<KeyKind> {
        let kind = key_kind(&column.data_type);
        if kind.is_none() {
            let message =
                format!("a key of type {} is not ordered the same way everywhere", column.data_type.name);
            let help = format!("cast it in the query: `{}::text as {}`", key.value, key.value);
            self.problems
                .push(Problem::at(key.at, message, "text, uuid or a whole number is needed").help(help));
        }
        let (name, entity) = (&key.value, &definition.name.value);
        let unproven = match (column.origin, described.shape) {
            (Some(origin), Shape::Whole | Shape::Filtered) if !origin.unique => {
                let message =
                    format!("the key `{name}` is not unique: no unique index of V1 covers it alone");
                let help =
                    "choose another column, or make the index: two rows with one key could not be told apart";
                self.problems.push(Problem::at(key.at, message, "not unique").help(help));
                None
            }
            (Some(origin), Shape::Whole) if !origin.not_null => {
                let message = format!("the key `{name}` may be null");
                let help = format!("choose another column, or add `where {name} is not null`");
                self.problems.push(Problem::at(key.at, message, "must not be null").help(help));
                None
            }
            (Some(origin), Shape::Whole | Shape::Filtered) if origin.unique => None,
            // A join along a reference keeps keys unique; the parser cannot know which joins do.
            (Some(origin), Shape::Other) if origin.unique && origin.not_null => None,
            _ => Some(format!(
                "{entity}: nothing proves that the key `{name}` is unique; the run stops with an error if it repeats"
            )),
        };
        self.notes.extend(unproven);
        kind
    }
}

/// The key's order, for types that have one that is the same in V1, in V2 and here.
pub(super) fn key_kind(data_type: &Type) -> Option<KeyKind> {
    match data_type.base().name.as_str() {
        "text" | "character varying" | "character" => Some(KeyKind::Text),
        "smallint" | "integer" | "bigint" => Some(KeyKind::Integer),
        "uuid" => Some(KeyKind::Uuid),
        _ => None,
    }
}

/// The last place of a name in a query: an alias stands behind what it names.
fn within(query: &Placed<String>, name: &str) -> At {
    let exact = query.at.end - query.at.start == query.value.len();
    match query.value.rfind(name).filter(|_| exact) {
        Some(found) => {
            let start = query.at.start + found;
            At { start, end: start + name.len(), ..query.at }
        }
        None => query.at,
    }
}
