//! Reads the data files into checked rows: both targets can load them without looking anything up. References are resolved here, in memory, because each row's id stands in its file; so both
//! targets get the same ids, and a wrong code is found before a database is asked.

use std::collections::BTreeSet;

use super::SetupFiles;
use super::data_file::DataFile;
use super::files::{MANIFEST, data_file};
use super::manifest::{ColumnEntry, Manifest, TableEntry, line_at};
use super::mistakes::{Mistakes, did_you_mean};
use crate::Result;

/// One value of a data file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cell {
    /// An empty cell of an optional column.
    Null,
    /// Text, as it stands in the file without surrounding blanks. Postgres turns it into the column's type.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
}

impl Cell {
    /// The value as Postgres reads it; `None` is null.
    pub fn to_text(&self) -> Option<String> {
        match self {
            Cell::Null => None,
            Cell::Text(text) => Some(text.clone()),
            Cell::Integer(number) => Some(number.to_string()),
            Cell::Boolean(value) => Some(value.to_string()),
        }
    }
}

/// What a column of a data file may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellKind {
    /// Anything.
    Text,
    /// A whole number that fits 64 bits.
    Integer,
    /// `true` or `false`.
    Boolean,
}

/// A column of V2 and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceColumn {
    /// Column in Postgres, field in MongoDB.
    pub name: String,
    /// For a column that points at another table: the table (in Postgres's name); its cells hold ids.
    pub references: Option<String>,
}

/// A row of a data file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceRow {
    /// The line in the file, from 1.
    pub line: u64,
    /// In the order of [`ReferenceTable::columns`].
    pub cells: Vec<Cell>,
}

/// Where the rows of a table go that has no collection of its own in MongoDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedded {
    /// The column that points at the document, as a position in [`ReferenceTable::columns`].
    pub by: usize,
    /// The column whose values are the array's elements.
    pub take: usize,
    /// The array's field.
    pub field: String,
}

/// A table of reference data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceTable {
    /// The data file's name below the setup folder: `reference/roles.csv`.
    pub file: String,
    /// Table in Postgres.
    pub table: String,
    /// Collection in MongoDB; without meaning where the rows are [`Embedded`].
    pub collection: String,
    /// The columns that make a row unique, as positions in `columns`.
    pub key: Vec<usize>,
    /// The column that other tables point at, as a position in `columns`.
    pub id: Option<usize>,
    /// A timestamp column to set when a row is inserted or changed; it is not among `columns`.
    pub updated: Option<String>,
    /// MongoDB: a timestamp to set when a document is inserted. In Postgres the column's default does that.
    pub created: Option<String>,
    /// MongoDB: the rows are no documents, but elements of an array in another collection's documents.
    pub embedded: Option<Embedded>,
    /// All columns that the file fills.
    pub columns: Vec<ReferenceColumn>,
    /// In the order of the file.
    pub rows: Vec<ReferenceRow>,
}

/// All reference data, in loading order: a table comes after those it points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceData {
    /// The tables.
    pub tables: Vec<ReferenceTable>,
}

/// A manifest's column, checked.
pub(super) struct Reader {
    /// The CSV column.
    pub(super) from: String,
    pub(super) optional: bool,
    pub(super) kind: CellKind,
    /// Position of the table it points at.
    pub(super) target: Option<usize>,
    pub(super) list: bool,
}

/// The tables so far. One mistake is told once: what points at a broken table is not blamed for it.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) tables: Vec<ReferenceTable>,
    pub(super) broken: BTreeSet<String>,
}

impl SetupFiles {
    /// The reference data, read and checked.
    ///
    /// # Errors
    /// Every mistake in the manifest and the data files at once, each with file and line (exit 2).
    pub fn reference(&self) -> Result<ReferenceData> {
        let text = self.text(MANIFEST);
        let place = self.place(MANIFEST);
        let manifest = Manifest::parse(text, &place)?;
        let mut mistakes = Mistakes::default();
        let mut loaded = Loaded::default();
        for entry in &manifest.table {
            let at = |offset| format!("{place}:{}", line_at(text, offset));
            let before = mistakes.len();
            let Some((mut table, readers)) = check_entry(entry, &loaded, &manifest, at, &mut mistakes) else {
                loaded.broken.insert(entry.table.get_ref().clone());
                continue;
            };
            let mut complete = true;
            if self.has(&table.file) {
                let file = self.place(&table.file);
                let mut data =
                    DataFile { text: self.text(&table.file), place: &file, mistakes: &mut mistakes };
                complete = data.read(&mut table, &readers, &loaded);
            } else {
                mistakes.add(at(entry.file.span().start), format!("there is no file {}", table.file));
            }
            if !complete || mistakes.len() > before {
                loaded.broken.insert(table.table.clone());
            }
            loaded.tables.push(table);
        }
        mistakes.finish()?;
        Ok(ReferenceData { tables: loaded.tables })
    }
}

/// Checks one table of the manifest against itself and the tables before it.
fn check_entry(
    entry: &TableEntry,
    loaded: &Loaded,
    manifest: &Manifest,
    at: impl Fn(usize) -> String,
    mistakes: &mut Mistakes,
) -> Option<(ReferenceTable, Vec<Reader>)> {
    let name = entry.table.get_ref();
    if loaded.tables.iter().any(|table| table.table == *name) {
        mistakes.add(at(entry.table.span().start), format!("table \"{name}\" is there already"));
        return None;
    }
    let mut columns = Vec::new();
    let mut readers = Vec::new();
    for (column, spec) in &entry.columns {
        match check_column(column.get_ref(), spec, loaded, manifest) {
            Ok(reader) => {
                columns.push(ReferenceColumn {
                    name: column.get_ref().clone(),
                    references: reader.target.map(|target| loaded.tables[target].table.clone()),
                });
                readers.push(reader);
            }
            Err(None) => {}
            Err(Some(sentence)) => {
                mistakes.add(at(column.span().start), format!("column \"{}\": {sentence}", column.get_ref()));
            }
        }
    }
    if columns.len() < entry.columns.len() {
        return None;
    }
    let mut position = |wanted: &toml::Spanned<String>, what: &str| {
        let found = columns.iter().position(|column| column.name == *wanted.get_ref());
        if found.is_none() {
            let hint = did_you_mean(wanted.get_ref(), columns.iter().map(|column| column.name.as_str()));
            let sentence = format!("{what} \"{}\" is not among the columns{hint}", wanted.get_ref());
            mistakes.add(at(wanted.span().start), sentence);
        }
        found
    };
    let key: Vec<usize> = entry.key.iter().filter_map(|column| position(column, "key")).collect();
    let id = entry.id.as_ref().and_then(|column| position(column, "id"));
    if key.is_empty() || key.len() < entry.key.len() || id.is_some() != entry.id.is_some() {
        if entry.key.is_empty() {
            mistakes.add(at(entry.table.span().start), format!("table \"{name}\" needs a key"));
        }
        return None;
    }
    let embedded = match &entry.embed {
        None => None,
        Some(embed) => match check_embed(embed.by.get_ref(), &embed.field, entry, &columns) {
            Ok(embedded) => Some(embedded),
            Err(sentence) => {
                mistakes.add(at(embed.by.span().start), format!("table \"{name}\": {sentence}"));
                return None;
            }
        },
    };
    let table = ReferenceTable {
        file: data_file(entry.file.get_ref()),
        table: name.clone(),
        collection: entry.collection.clone().unwrap_or_else(|| name.clone()),
        key,
        id,
        updated: entry.updated.clone(),
        created: entry.created.clone(),
        embedded,
        columns,
        rows: Vec::new(),
    };
    Some((table, readers))
}

/// Checks where a table's rows go in MongoDB. The error is the rest of a sentence.
fn check_embed(
    by: &str,
    field: &str,
    entry: &TableEntry,
    columns: &[ReferenceColumn],
) -> Result<Embedded, String> {
    if entry.collection.is_some() || entry.id.is_some() {
        return Err("what is embedded has neither `collection` nor `id`".to_owned());
    }
    let found = columns.iter().position(|column| column.name == by && column.references.is_some());
    match (found, columns.len()) {
        (None, _) => Err(format!("`by` must name a column that references another table, not \"{by}\"")),
        (Some(by), 2) => Ok(Embedded { by, take: 1 - by, field: field.to_owned() }),
        (Some(_), _) => Err("what is embedded has one other column, whose values it lists".to_owned()),
    }
}

/// Checks one column of the manifest. The error is the rest of a sentence, or nothing if its cause has been told.
fn check_column(
    name: &str,
    spec: &ColumnEntry,
    loaded: &Loaded,
    manifest: &Manifest,
) -> Result<Reader, Option<String>> {
    let from = spec.from.clone().unwrap_or_else(|| name.to_owned());
    let reader = |kind, target| Reader { from, optional: spec.optional, kind, target, list: spec.list };
    match (spec.kind.as_deref(), spec.references.as_deref()) {
        (Some(_), None) if spec.list => Err(Some("`list` goes with `references` only".to_owned())),
        (Some("text"), None) => Ok(reader(CellKind::Text, None)),
        (Some("integer"), None) => Ok(reader(CellKind::Integer, None)),
        (Some("boolean"), None) => Ok(reader(CellKind::Boolean, None)),
        (Some(other), None) => {
            let hint = did_you_mean(other, ["text", "integer", "boolean"]);
            Err(Some(format!("\"{other}\" is no type; there are text, integer and boolean{hint}")))
        }
        (None, Some(table)) => Ok(reader(CellKind::Text, Some(target_of(table, loaded, manifest)?))),
        _ => Err(Some("say either `type` or `references`".to_owned())),
    }
}

/// The position of a table that a column points at; errors as [`check_column`].
fn target_of(table: &str, loaded: &Loaded, manifest: &Manifest) -> Result<usize, Option<String>> {
    let Some(target) = loaded.tables.iter().position(|other| other.table == table) else {
        return Err(if loaded.broken.contains(table) {
            None
        } else if manifest.table.iter().any(|other| other.table.get_ref() == table) {
            Some(format!("table \"{table}\" must stand above, to be loaded first"))
        } else {
            let hint = did_you_mean(table, loaded.tables.iter().map(|other| other.table.as_str()));
            Some(format!("there is no table \"{table}\" in this manifest{hint}"))
        });
    };
    if loaded.tables[target].id.is_none() {
        return Err(Some(format!("table \"{table}\" has no id, so nothing can refer to it")));
    }
    if loaded.tables[target].key.len() != 1 {
        return Err(Some(format!(
            "table \"{table}\" has a key of several columns, so no cell can refer to it"
        )));
    }
    Ok(target)
}
