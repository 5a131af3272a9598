//! The `[[source.file]]` parts: files that queries read as tables.

use std::path::Path;

use toml::de::DeTable;

use super::keys::{self, names};
use super::problem::Problem;
use super::read::Reader;
use super::{Definitions, Placed};
use crate::source::files::{ENCODINGS, FileTable, Format, format_of};

impl Reader<'_> {
    /// The files of a `[source]` part.
    pub(super) fn files(&mut self, source: &DeTable<'_>) -> Vec<Placed<FileTable>> {
        let parts = self.tables(source, "file", "source.file");
        parts.into_iter().filter_map(|part| self.one_file(part)).collect()
    }

    fn one_file(&mut self, part: &super::read::Value<'_>) -> Option<Placed<FileTable>> {
        let (span, part) = self.table(Some(part), "source.file")?;
        self.unknown_keys(part, &names(keys::FILE), "[[source.file]]");
        let table = self.required(part, span.clone(), "table", "[[source.file]]");
        let path = self.required(part, span, "path", "[[source.file]]");
        let types = self.types(part);
        let delimiter = part.get("delimiter").and_then(|value| self.string(value, "delimiter"));
        let encoding = part.get("encoding").and_then(|value| self.string(value, "encoding"));
        let (table, path) = (table?, path?);
        let Some(mut format) = format_of(Path::new(&path.value)) else {
            let message = format!("the name of `{}` does not say how it is written", path.value);
            let label = "needs .csv, .tsv, .json, .ndjson or .jsonl at its end";
            self.problems.push(Problem::at(path.at, message, label));
            return None;
        };
        if let Some(Placed { value, at }) = delimiter {
            match (format, value.as_bytes()) {
                (Format::Delimited(_), &[byte]) if byte.is_ascii() && !b"\"\r\n".contains(&byte) => {
                    format = Format::Delimited(byte);
                }
                (Format::Delimited(_), _) => {
                    let message = format!("`{value}` cannot stand between cells");
                    self.problems.push(Problem::at(at, message, "one ASCII character, as \";\""));
                }
                (Format::Json, _) => {
                    let message = "nothing stands between the cells of JSON".to_owned();
                    self.problems.push(Problem::at(at, message, "leave this out"));
                }
            }
        }
        if let Some(Placed { value, at }) = &encoding {
            let known = if format == Format::Json { &ENCODINGS[..1] } else { ENCODINGS };
            if !known.contains(&value.as_str()) {
                let message = format!("`{value}` is no encoding that such a file may have");
                let problem = Problem::at(*at, message, "unknown encoding");
                self.problems.push(problem.suggest(value, known.iter().copied()));
            }
        }
        let encoding = encoding.map_or_else(|| ENCODINGS[0].to_owned(), |encoding| encoding.value);
        let path = self.folder.join(path.value);
        Some(Placed { value: FileTable { table: table.value, path, format, encoding, types }, at: table.at })
    }

    /// `columns = { id = "bigint" }`
    fn types(&mut self, part: &DeTable<'_>) -> Vec<(String, String)> {
        let Some((_, columns)) = self.table(part.get("columns"), "columns") else { return Vec::new() };
        let columns = columns.iter().filter_map(|(name, value)| {
            Some((name.get_ref().to_string(), self.string(value, name.get_ref())?.value))
        });
        columns.collect()
    }
}

impl Definitions {
    /// Two files for one table: queries could not tell them apart.
    pub(super) fn refuse_second_tables(&mut self) {
        let sources = self.entities.iter().filter_map(|entity| entity.source.as_ref());
        let tables: Vec<(&str, super::At)> =
            sources.flat_map(|source| &source.files).map(|file| (&*file.value.table, file.at)).collect();
        for (index, (table, at)) in tables.iter().enumerate() {
            if tables[..index].iter().any(|(other, _)| other == table) {
                let message = format!("two files become the table `{table}`");
                let problem = Problem::at(*at, message, "another name, please");
                self.problems.push(problem.help("a table can be read by the queries of all entities"));
            }
        }
    }
}
