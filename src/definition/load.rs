//! Which files count: the built-in ones, overlaid by a folder of the user's.
//!
//! A folder replaces the built-in files one by one, by name, so that changing the phone region takes a copy of
//! `accounts.toml` and nothing else. Somebody with a schema of their own says so once (`builtin = false` in that file),
//! because definitions that vanish when an unrelated file is added would surprise more.

use std::io::IsTerminal;
use std::path::Path;

use include_dir::{Dir, include_dir};
use toml::de::DeTable;

use super::problem::Problem;
use super::read::{Content, Reader};
use super::{Definitions, SourceFile};
use crate::error::{Error, Result};

const ACCOUNTS: &str = "accounts.toml";

/// The built-in files. The engine does not know their names: it is theirs that differ between applications.
static BUILT_IN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/migrators");

impl Definitions {
    /// The built-in definitions, overlaid file by file by those in `dir`.
    ///
    /// # Errors
    /// When `dir` or a file of it cannot be read. Mistakes inside the files are collected in
    /// [`Definitions::problems`] and reported by [`crate::plan::compile`] together with its own.
    pub fn load(dir: Option<&Path>) -> Result<Self> {
        let mut own = match dir {
            Some(dir) => folder(dir)?,
            None => Vec::new(),
        };
        let only_own = own.iter().any(|(name, file)| name == ACCOUNTS && built_in_is_off(&file.text));
        let mut files = Vec::new();
        for (name, text) in built_in() {
            if let Some(index) = own.iter().position(|(own, _)| *own == name) {
                files.push(own.remove(index));
            } else if !only_own {
                let file = SourceFile { label: format!("{name} (built in)"), text: text.to_owned() };
                files.push((name.to_owned(), file));
            }
        }
        files.extend(own);
        files.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Self::read(files, dir.unwrap_or(Path::new(""))))
    }

    /// Reads definitions from memory: file names and texts. For tests and for programs that make their own.
    pub fn from_texts(files: &[(&str, &str)]) -> Self {
        let file = |(name, text): &(&str, &str)| {
            ((*name).to_owned(), SourceFile { label: (*name).to_owned(), text: (*text).to_owned() })
        };
        let mut definitions = Self::read(files.iter().map(file).collect(), Path::new(""));
        definitions.color = false;
        definitions
    }

    fn read(named: Vec<(String, SourceFile)>, folder: &Path) -> Self {
        // Problems are printed on stderr; see https://no-color.org.
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let mut definitions = Self {
            files: Vec::new(),
            accounts: None,
            entities: Vec::new(),
            problems: Vec::new(),
            color: !no_color && std::io::stderr().is_terminal(),
        };
        for (index, (name, file)) in named.into_iter().enumerate() {
            let problems = &mut definitions.problems;
            let mut reader = Reader { file: index, folder, text: &file.text, problems };
            match reader.file(name == ACCOUNTS) {
                Content::Entity(entity) => definitions.entities.push(*entity),
                Content::Accounts(accounts) => definitions.accounts = Some(*accounts),
                Content::Nothing => {}
            }
            definitions.files.push(file);
        }
        definitions.drop_second_names();
        definitions.refuse_second_tables();
        if let Some(accounts) = &definitions.accounts {
            let place = |entity: &super::EntityDefinition| {
                accounts.order.iter().position(|name| *name == entity.name.value).unwrap_or(usize::MAX)
            };
            definitions.entities.sort_by_key(place);
        }
        definitions
    }

    /// Two files for one entity: the ledger could not tell their rows apart.
    fn drop_second_names(&mut self) {
        let mut kept: Vec<super::EntityDefinition> = Vec::new();
        for entity in std::mem::take(&mut self.entities) {
            match kept.iter().find(|other| other.name.value == entity.name.value) {
                Some(first) => {
                    let message = format!("there are two definitions of `{}`", entity.name.value);
                    let label = format!("the first is in {}", self.files[first.file].label);
                    self.problems.push(Problem::at(entity.name.at, message, label));
                }
                None => kept.push(entity),
            }
        }
        self.entities = kept;
    }
}

/// The built-in files: name and text.
fn built_in() -> impl Iterator<Item = (&'static str, &'static str)> {
    BUILT_IN.files().filter_map(|file| Some((file.path().to_str()?, file.contents_utf8()?)))
}

/// `builtin = false`; whatever is wrong with the file is said when it is read in earnest.
fn built_in_is_off(text: &str) -> bool {
    let (document, _) = DeTable::parse_recoverable(text);
    document.get_ref().get("builtin").and_then(|value| value.get_ref().as_bool()) == Some(false)
}

/// The definition files of a folder, by name.
fn folder(dir: &Path) -> Result<Vec<(String, SourceFile)>> {
    let unreadable = |path: &Path, error: std::io::Error| {
        Error::usage(format!("the definitions in {} cannot be read: {error}", path.display()))
            .help("give a folder with definition files (*.toml), or none to use the built-in ones")
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| unreadable(dir, error))? {
        let path = entry.map_err(|error| unreadable(dir, error))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        // Editors leave hidden copies (`.#schools.toml`) beside a file.
        if name.starts_with('.') || path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
        files.push((name.to_owned(), SourceFile { label: path.display().to_string(), text }));
    }
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(files)
}
