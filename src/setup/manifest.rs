//! The manifest of the reference data: which file fills which table, and what its columns mean. It exists so that the
//! program knows no table by name, and so that every target database loads the same files.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use toml::Spanned;

use crate::{Error, Result};

/// `reference/manifest.toml`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    #[serde(default)]
    pub(super) table: Vec<TableEntry>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableEntry {
    pub(super) file: Spanned<String>,
    pub(super) table: Spanned<String>,
    /// Defaults to the table's name.
    pub(super) collection: Option<String>,
    pub(super) key: Vec<Spanned<String>>,
    pub(super) id: Option<Spanned<String>>,
    pub(super) updated: Option<String>,
    pub(super) created: Option<String>,
    pub(super) embed: Option<EmbedEntry>,
    pub(super) columns: BTreeMap<Spanned<String>, ColumnEntry>,
}

/// Rows that are no documents of their own in MongoDB.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EmbedEntry {
    /// The column that points at the document they are put into.
    pub(super) by: Spanned<String>,
    /// The array there.
    #[serde(rename = "as")]
    pub(super) field: String,
}

/// What a column holds, as it is written.
#[derive(Debug, Default)]
pub(super) struct ColumnEntry {
    pub(super) kind: Option<String>,
    pub(super) from: Option<String>,
    pub(super) optional: bool,
    pub(super) references: Option<String>,
    pub(super) list: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnFields {
    #[serde(rename = "type")]
    kind: Option<String>,
    from: Option<String>,
    #[serde(default)]
    optional: bool,
    references: Option<String>,
    #[serde(default)]
    list: bool,
}

// By hand, because serde's untagged enums answer every mistake with "did not match any variant".
impl<'de> Deserialize<'de> for ColumnEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entry;
        impl<'de> Visitor<'de> for Entry {
            type Value = ColumnEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a type (\"text\", \"integer\", \"boolean\") or a table { … }")
            }

            fn visit_str<E: de::Error>(self, kind: &str) -> Result<ColumnEntry, E> {
                Ok(ColumnEntry { kind: Some(kind.to_owned()), ..ColumnEntry::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ColumnEntry, A::Error> {
                let ColumnFields { kind, from, optional, references, list } =
                    ColumnFields::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(ColumnEntry { kind, from, optional, references, list })
            }
        }
        deserializer.deserialize_any(Entry)
    }
}

impl Manifest {
    /// Parses the text; `place` is how messages name the file.
    pub(super) fn parse(text: &str, place: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| format!(":{}", line_at(text, span.start))).unwrap_or_default();
            Error::usage(format!("{place}{line}: {}", error.message().replace('\n', "; ")))
        })
    }
}

/// The line, from 1, of a byte offset.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
