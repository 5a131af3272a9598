//! The files that describe V2: embedded in the program, so that it works alone, and replaceable one by one, so that
//! nobody has to fork it to change a role. A file that nothing reads is an error: a misspelt name would otherwise mean
//! that the user's change is silently not made.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::manifest::Manifest;
use super::mistakes::{Mistakes, did_you_mean};
use crate::{Error, Result};

pub(super) const STRUCTURE: &str = "postgres/schema.sql";
pub(super) const CONTROL: &str = "postgres/control.sql";
pub(super) const MANIFEST: &str = "reference/manifest.toml";

/// The layout of a setup folder.
const FOLDERS: [&str; 4] = ["postgres", "reference", "mongodb", "sample"];
/// The other folders have readers of their own.
const FOLDERS_READ_HERE: [&str; 2] = ["postgres", "reference"];

macro_rules! embed {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../setup/", $name)))),*]
    };
}

const EMBEDDED: &[(&str, &str)] = embed![
    "postgres/schema.sql",
    "postgres/control.sql",
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
        let files = EMBEDDED
            .iter()
            .map(|(name, text)| {
                let file = File { text: Cow::Borrowed(*text), place: format!("setup/{name}") };
                ((*name).to_owned(), file)
            })
            .collect();
        Self { files }
    }

    /// The defaults, overlaid file by file by a folder of the same layout: `postgres/schema.sql`,
    /// `reference/manifest.toml` and the data files that the manifest names.
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
            if name == CONTROL {
                mistakes.add(
                    &file.place,
                    "the control schema belongs to the program and cannot be replaced; remove this file",
                );
            } else if known.contains(&name) {
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

fn read_folder(dir: &Path, folder: &str, into: &mut BTreeMap<String, File>) -> Result<()> {
    for path in listing(dir)? {
        if path.is_dir() {
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
