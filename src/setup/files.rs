//! The files that describe V2: embedded in the program, so that it works alone, and replaceable one by one, so that
//! nobody has to fork it to change a role. A file that nothing reads is an error: a misspelt name would otherwise mean
//! that the user's change is silently not made.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

use super::manifest::Manifest;
use super::mistakes::{Mistakes, did_you_mean};
use crate::{Error, Result};

pub(super) const STRUCTURE: &str = "postgres/schema.sql";
pub(super) const CONTROL: &str = "postgres/control.sql";
pub(super) const EVOLUTIONS: &str = "postgres/evolutions.sql";
pub(super) const MANIFEST: &str = "reference/manifest.toml";
pub(super) const MONGODB_CONTROL: &str = "mongodb/control.json";
/// One file for each collection of MongoDB, named after it.
pub(super) const COLLECTIONS: &str = "mongodb/collections/";

/// The layout of a setup folder.
const FOLDERS: [&str; 4] = ["postgres", "reference", "mongodb", "sample"];
/// The other folder has a reader of its own.
const FOLDERS_READ_HERE: [&str; 3] = ["postgres", "reference", "mongodb"];

macro_rules! embed {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../setup/", $name)))),*]
    };
}

const EMBEDDED: &[(&str, &str)] = embed![
    "postgres/schema.sql",
    "postgres/control.sql",
    "postgres/evolutions.sql",
    "mongodb/control.json",
    "reference/manifest.toml",
    "reference/user_types.csv",
    "reference/permission_modules.csv",
    "reference/permissions.csv",
    "reference/roles.csv",
    "reference/role_permissions.csv",
    "reference/grade_systems.csv",
    "reference/grade_levels.csv",
    "reference/curriculums.csv",
    "reference/class_levels.csv",
    "reference/subject_categories.csv",
    "reference/subjects.csv",
];

/// A folder and no list, as their names are the example's and not the engine's.
static EMBEDDED_COLLECTIONS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/setup/mongodb/collections");

#[derive(Debug, Clone)]
struct File {
    text: Cow<'static, str>,
    /// As messages name it: the path that the user can open.
    place: String,
}

/// All files of `setup/`, the user's in place of the embedded ones.
#[derive(Debug, Clone)]
pub struct SetupFiles {
    files: BTreeMap<String, File>,
}

impl SetupFiles {
    /// The defaults that are part of the program.
    pub fn embedded() -> Self {
        let collections = EMBEDDED_COLLECTIONS.files().filter_map(|file| {
            let name = format!("{COLLECTIONS}{}", file.path().display());
            Some((name, file.contents_utf8()?))
        });
        let files = EMBEDDED
            .iter()
            .map(|(name, text)| ((*name).to_owned(), *text))
            .chain(collections)
            .map(|(name, text)| {
                let place = format!("setup/{name}");
                (name, File { text: Cow::Borrowed(text), place })
            })
            .collect();
        Self { files }
    }

    /// The defaults, overlaid file by file by a folder of the same layout: `postgres/schema.sql`,
    /// `mongodb/collections/NAME.json`, `reference/manifest.toml` and the data files that the manifest names. An empty
    /// file takes a built-in collection away.
    ///
    /// # Errors
    /// The folder or a file cannot be read, or the folder holds a file that nothing would read (all are named).
    pub fn load(dir: Option<&Path>) -> Result<Self> {
        let mut this = Self::embedded();
        let Some(dir) = dir else { return Ok(this) };
        if !dir.is_dir() {
            return Err(Error::usage(format!("the setup folder {} does not exist", dir.display()))
                .help("create it, or correct the setting `setup_dir`"));
        }
        let mut mistakes = Mistakes::default();
        let mut own = BTreeMap::new();
        for path in listing(dir)? {
            let name = file_name(&path);
            if !FOLDERS.contains(&name.as_str()) {
                let hint = did_you_mean(&name, FOLDERS);
                mistakes.add(path.display(), format!("nothing reads this{hint}"));
            } else if FOLDERS_READ_HERE.contains(&name.as_str()) {
                read_folder(&path, &name, &mut own)?;
            }
        }
        if let Some(manifest) = own.remove(MANIFEST) {
            this.files.insert(MANIFEST.to_owned(), manifest);
        }
        let known = this.known_names()?;
        for (name, file) in own {
            if [CONTROL, EVOLUTIONS, MONGODB_CONTROL].contains(&name.as_str()) {
                mistakes.add(
                    &file.place,
                    "what v1v2 itself remembers belongs to the program and cannot be replaced; remove this file",
                );
            } else if known.contains(&name) || collection_of(&name).is_some() {
                this.files.insert(name, file);
            } else {
                let hint = did_you_mean(&name, known.iter().map(String::as_str));
                let why = if name.starts_with("reference/") {
                    "the manifest names no such file"
                } else {
                    "nothing reads this file"
                };
                mistakes.add(&file.place, format!("{why}{hint}"));
            }
        }
        mistakes.finish()?;
        Ok(this)
    }

    /// What a user's folder may hold.
    fn known_names(&self) -> Result<Vec<String>> {
        let manifest = Manifest::parse(self.text(MANIFEST), &self.place(MANIFEST))?;
        let mut known = vec![STRUCTURE.to_owned(), MANIFEST.to_owned()];
        known.extend(manifest.table.iter().map(|table| data_file(table.file.get_ref())));
        Ok(known)
    }

    /// The collections that files describe, with the files' names.
    pub(super) fn collections(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.keys().filter_map(|name| Some((collection_of(name)?, name.as_str())))
    }

    /// A file's text; empty if there is no such file.
    pub(super) fn text(&self, name: &str) -> &str {
        self.files.get(name).map_or("", |file| &file.text)
    }

    /// Whether there is such a file.
    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// How messages name a file.
    pub(super) fn place(&self, name: &str) -> String {
        self.files.get(name).map_or_else(|| name.to_owned(), |file| file.place.clone())
    }
}

/// A data file's name below the setup folder.
pub(super) fn data_file(name: &str) -> String {
    format!("reference/{name}")
}

/// The collection that a file describes.
fn collection_of(file: &str) -> Option<&str> {
    file.strip_prefix(COLLECTIONS)?.strip_suffix(".json").filter(|name| !name.is_empty())
}

fn read_folder(dir: &Path, folder: &str, into: &mut BTreeMap<String, File>) -> Result<()> {
    for path in listing(dir)? {
        if path.is_dir() {
            let inner = format!("{folder}/{}", file_name(&path));
            if COLLECTIONS.strip_suffix('/') == Some(&inner) {
                read_folder(&path, &inner, into)?;
            }
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        // Spreadsheets put a byte order mark in front.
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        let name = format!("{folder}/{}", file_name(&path));
        into.insert(name, File { text: Cow::Owned(text), place: path.display().to_string() });
    }
    Ok(())
}

/// What a folder holds, sorted, without editors' and systems' hidden files and notes for people: none of these is
/// somebody's misspelt data file.
fn listing(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(|error| unreadable(dir, &error))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(|error| unreadable(dir, &error)))
        .collect::<Result<Vec<_>>>()?;
    paths.retain(|path| {
        let name = file_name(path);
        !(name.starts_with('.') || name.ends_with(".md") || name.ends_with('~'))
    });
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::usage(format!("{} cannot be read: {error}", path.display()))
}
