//! Reads a folder of evolutions. Everything that is wrong in any of them is reported at once and before a database is
//! asked for anything: a mistake in the seventh must not show when six have been applied.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::ops::Range;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::manifest::{self, Manifest};
use super::{Evolution, Evolutions, Script, Work, kind, order, statements, steps};
use crate::connect::Scheme;
use crate::definition::SourceFile;
use crate::definition::problem::{At, Problem, did_you_mean, render};
use crate::error::{Error, Result};

/// What a folder may hold beside hidden files and a README.
const FILES: [&str; 5] = ["evolution.toml", "up.sql", "down.sql", "up.json", "down.json"];

/// Collects mistakes and the files that they point into.
#[derive(Default)]
pub(super) struct Problems {
    pub(super) files: Vec<SourceFile>,
    pub(super) list: Vec<Problem>,
}

impl Problems {
    /// Remembers a file so that problems can point into it; its index.
    pub(super) fn file(&mut self, file: SourceFile) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    /// A problem at a place of a file.
    pub(super) fn at(&mut self, file: usize, range: Range<usize>, message: impl Into<String>, label: &str) {
        self.push(Problem::at(At { file, start: range.start, end: range.end }, message, label));
    }

    /// Any problem.
    pub(super) fn push(&mut self, problem: Problem) {
        self.list.push(problem);
    }
}

/// The evolutions in a folder, for this kind of database. A folder that has scripts for the other kind only is left out.
///
/// # Errors
/// Usage: the folder cannot be read, or something in it is wrong; the details list every mistake with its place.
pub fn load(folder: &Path, scheme: Scheme) -> Result<Evolutions> {
    let mut problems = Problems::default();
    let mut found: Vec<(Evolution, Vec<manifest::Required>)> = Vec::new();
    // Numbers of all folders, those for the other kind of database included.
    let mut numbers: BTreeMap<u32, String> = BTreeMap::new();
    for path in listing(folder).map_err(|error| unreadable(folder, &error))? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        if !path.is_dir() {
            if FILES.contains(&name.as_str()) || name.ends_with(".sql") || name.ends_with(".json") {
                problems.push(
                    Problem::general(format!("{}: nothing reads a script that stands here", path.display()))
                        .help("put it into a folder of its own: 0001_name/up.sql"),
                );
            }
            continue;
        }
        let files = read_files(&path)?;
        let Some(number) = number_of(&name) else {
            // A folder of other folders is none of our business; one that looks like an evolution was meant as one.
            if files.keys().any(|file| FILES.contains(&file.as_str())) {
                problems.push(
                    Problem::general(format!("{}: the name does not say its place", path.display()))
                        .help("name it NNNN_name, such as 0007_add_status"),
                );
            }
            continue;
        };
        if let Some(other) = numbers.insert(number, name.clone()) {
            problems.push(
                Problem::general(format!("{other} and {name} have the same number"))
                    .help("renumber the one that was not applied anywhere yet"),
            );
        }
        if let Some(evolution) = read(&path, number, name, files, scheme, &mut problems) {
            found.push(evolution);
        }
    }
    let list = order::sorted(found, &numbers, &mut problems);
    if problems.list.is_empty() {
        return Ok(Evolutions { folder: folder.to_path_buf(), scheme, list });
    }
    let what = match problems.list.len() {
        1 => "there is a mistake".to_owned(),
        count => format!("there are {count} mistakes"),
    };
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let color = !no_color && std::io::stderr().is_terminal();
    Err(Error::usage(format!("{what} in the evolutions in {}; nothing was changed", folder.display()))
        .details(render(&problems.list, &problems.files, color)))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    let unread = Error::usage(format!("{} cannot be read: {error}", path.display()));
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            unread.help("give the user who runs v1v2 the right to read it: all evolutions are read before one is applied")
        }
        _ => unread.help(
            "`v1v2 evolve new NAME` makes the first evolution; the setting `evolutions` (--evolutions DIR) says where they are",
        ),
    }
}

fn listing(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// `0007_add_status` → 7. Nothing comes before the first one, so there is no number 0: `--to 0` means "none".
pub(super) fn number_of(name: &str) -> Option<u32> {
    let (digits, rest) = name.split_once('_')?;
    let number = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
    (number > 0 && number <= i32::MAX as u32 && !rest.is_empty()).then_some(number)
}

/// All files of a folder by name, hidden ones left out.
fn read_files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for path in listing(folder).map_err(|error| unreadable(folder, &error))? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !name.starts_with('.') && path.is_file() {
            files.insert(name, std::fs::read(&path).map_err(|error| unreadable(&path, &error))?);
        }
    }
    Ok(files)
}

/// One folder. `None`: it is broken, which `problems` tell, or has scripts for the other kind of database only.
fn read(
    path: &Path,
    number: u32,
    name: String,
    files: BTreeMap<String, Vec<u8>>,
    scheme: Scheme,
    problems: &mut Problems,
) -> Option<(Evolution, Vec<manifest::Required>)> {
    for file in files.keys() {
        if !FILES.contains(&file.as_str()) && !file.to_uppercase().starts_with("README") {
            let mut problem = Problem::general(format!("{}: nothing reads this", path.join(file).display()));
            if let Some(meant) = did_you_mean(file, FILES) {
                problem = problem.help(format!("did you mean `{meant}`?"));
            }
            problems.push(problem);
        }
    }
    let text = |file: &str, problems: &mut Problems| -> Option<SourceFile> {
        let label = path.join(file).display().to_string();
        match std::str::from_utf8(files.get(file)?) {
            Ok(text) => {
                Some(SourceFile { label, text: text.strip_prefix('\u{feff}').unwrap_or(text).to_owned() })
            }
            Err(_) => {
                problems.push(Problem::general(format!("{label} is not UTF-8")));
                None
            }
        }
    };
    let manifest = match text("evolution.toml", problems) {
        Some(file) => manifest::read(file, problems),
        None => Manifest::default(),
    };
    let (kind, ending) = kind(scheme);
    let other = if ending == "sql" { "json" } else { "sql" };
    let has = |way: &str, ending: &str| files.contains_key(&format!("{way}.{ending}"));
    if !has("up", ending) {
        if has("down", ending) || !has("up", other) {
            problems.push(Problem::general(format!("{}: there is no up.{ending}", path.display())).help(
                format!(
                    "V2 is {kind}: write the change into up.{ending}, and the way back into down.{ending}"
                ),
            ));
        }
        return None;
    }
    if !has("down", ending) && manifest.irreversible.is_none() {
        problems.push(Problem::general(format!("{}: there is no down.{ending}", path.display())).help(
            "write the way back into it; if there is none, say so in evolution.toml: irreversible = true, reason = \"…\"",
        ));
    }
    let script = |way: &str, problems: &mut Problems| {
        let file = text(&format!("{way}.{ending}"), problems)?;
        let index = problems.file(file.clone());
        let work = match scheme {
            Scheme::Postgres => {
                Work::Sql(statements::checked(&file.text, manifest.transaction, index, problems))
            }
            Scheme::MongoDb => Work::Steps(steps::read(&file.text, index, problems)),
        };
        Some(Script { file, work })
    };
    let (up, down) = (script("up", problems)?, script("down", problems));
    let checksum = checksum(&files);
    let Manifest { description, requires, irreversible, transaction } = manifest;
    let evolution = Evolution {
        number,
        name,
        description,
        requires: Vec::new(),
        irreversible,
        transaction,
        up,
        down,
        checksum,
    };
    Some((evolution, requires))
}

/// Over all files, names included. Line ends are counted as one kind: a checkout on Windows is no edit.
fn checksum(files: &BTreeMap<String, Vec<u8>>) -> String {
    let parts = files.iter().flat_map(|(name, bytes)| {
        let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n").into_bytes();
        [name.clone().into_bytes(), text]
    });
    hex_digest(parts)
}

/// SHA-256 of parts that cannot run into each other, as lower-case hex.
pub(super) fn hex_digest(parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
