//! `evolution.toml`: what a script cannot say about itself. Most evolutions do without one.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::folder::Problems;
use crate::definition::SourceFile;
use crate::definition::problem::{At, Problem};

const KEYS: [&str; 5] = ["description", "requires", "irreversible", "reason", "transaction"];

/// What the file says.
pub(super) struct Manifest {
    pub(super) description: Option<String>,
    pub(super) requires: Vec<Required>,
    /// The reason.
    pub(super) irreversible: Option<String>,
    pub(super) transaction: bool,
}

impl Default for Manifest {
    fn default() -> Self {
        Self { description: None, requires: Vec::new(), irreversible: None, transaction: true }
    }
}

/// Another evolution, as it was written: its folder's name or its number.
pub(super) struct Required {
    pub(super) text: String,
    pub(super) at: At,
}

/// Reads it; what is wrong is told in `problems`.
pub(super) fn read(file: SourceFile, problems: &mut Problems) -> Manifest {
    let text = file.text.clone();
    let file = problems.file(file);
    let (document, errors) = DeTable::parse_recoverable(&text);
    if !errors.is_empty() {
        for error in errors {
            let message = format!("this is not TOML: {}", error.message());
            problems.at(file, error.span().unwrap_or(0..0), message, "here");
        }
        // So that nothing is said about a missing `down` that the unreadable file may have explained.
        return Manifest { irreversible: Some(String::new()), ..Manifest::default() };
    }
    let table = document.get_ref();
    for (key, _) in table.iter() {
        let name: &str = key.get_ref();
        if !KEYS.contains(&name) {
            let at = At { file, start: key.span().start, end: key.span().end };
            problems.push(
                Problem::at(at, format!("there is no key `{name}` here"), "unknown").suggest(name, KEYS),
            );
        }
    }
    let mut reader = Reader { table, file, problems };
    let (description, reason) = (reader.text("description"), reader.text("reason"));
    let irreversible = reader.truth("irreversible").unwrap_or(false);
    let transaction = reader.truth("transaction").unwrap_or(true);
    let requires = reader.requires();
    if irreversible && reason.as_ref().is_none_or(|(reason, _)| reason.trim().is_empty()) {
        let span = reader.span("irreversible");
        problems.at(file, span, "why it cannot be taken back is not said", "add `reason = \"…\"`");
    }
    if let Some((_, span)) = reason.as_ref().filter(|_| !irreversible) {
        problems.at(file, span.clone(), "a reason for nothing: `irreversible = true` is missing", "");
    }
    Manifest {
        description: description.map(|(text, _)| text),
        requires,
        irreversible: irreversible.then(|| reason.map(|(text, _)| text).unwrap_or_default()),
        transaction,
    }
}

struct Reader<'r> {
    table: &'r DeTable<'r>,
    file: usize,
    problems: &'r mut Problems,
}

impl Reader<'_> {
    fn span(&self, key: &str) -> Range<usize> {
        self.table.get(key).map_or(0..0, |value| value.span())
    }

    fn text(&mut self, key: &str) -> Option<(String, Range<usize>)> {
        let value = self.table.get(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.problems.at(self.file, value.span(), format!("`{key}` must be a text"), "");
            return None;
        };
        Some((text.to_owned(), value.span()))
    }

    fn truth(&mut self, key: &str) -> Option<bool> {
        let value = self.table.get(key)?;
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            self.problems.at(self.file, value.span(), format!("`{key}` must be true or false"), "");
        }
        truth
    }

    fn requires(&mut self) -> Vec<Required> {
        let Some(value) = self.table.get("requires") else { return Vec::new() };
        let wanted = "`requires` must be a list of folder names, such as [\"0001_add_status\"]";
        let DeValue::Array(items) = value.get_ref() else {
            self.problems.at(self.file, value.span(), wanted, "");
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in items.iter() {
            let span = item.span();
            match item.get_ref().as_str() {
                Some(text) => {
                    let at = At { file: self.file, start: span.start, end: span.end };
                    found.push(Required { text: text.to_owned(), at });
                }
                None => self.problems.at(self.file, span, wanted, "no text"),
            }
        }
        found
    }
}
