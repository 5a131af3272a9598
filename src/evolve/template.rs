//! `v1v2 evolve new`: a folder with the next number and scripts that explain themselves.

use std::path::{Path, PathBuf};

use super::folder::number_of;
use super::kind;
use crate::connect::Scheme;
use crate::error::{Error, Result};

/// Digits of a number: folders then stand in order wherever they are listed.
const DIGITS: usize = 4;

const MANIFEST: &str = "\
# All of these are optional.

# What it does, in a sentence, for `v1v2 evolve status`.
description = \"\"

# What must have been applied before: names of other folders.
# requires = [\"0001_name\"]

# It cannot be taken back: `down` then refuses (unless --force), giving the reason.
# irreversible = true
# reason = \"\"

# Postgres: not in one transaction, for what cannot be in one, such as CREATE INDEX CONCURRENTLY. Each statement then
# commits by itself; after a failure the next `up` goes on with the one that failed.
# transaction = false
";

const UP_SQL: &str = "\
-- The change, as plain SQL. It runs in one transaction, together with the note that it was applied: no BEGIN or COMMIT here.
-- `v1v2 evolve up --dry-run` executes it and rolls it back.
";

const DOWN_SQL: &str = "\
-- The way back: V2 as it was before up.sql. If there is nothing to do, say so here instead of this line.
";

const UP_JSON: &str = r#"[
  {
    "comment": "A database command, in the server's own words. Collections are those of V2's database.",
    "command": { "createIndexes": "COLLECTION", "indexes": [ { "key": { "FIELD": 1 }, "name": "NAME" } ] }
  },
  {
    "comment": "Changes documents inside the server, batch by batch in the order of _id; goes on after a kill. Without filter: all.",
    "update": "COLLECTION",
    "filter": { "FIELD": { "$exists": false } },
    "pipeline": [ { "$set": { "FIELD": "VALUE" } } ],
    "batch": 1000,
    "throttle": "0ms"
  }
]
"#;

const DOWN_JSON: &str = r#"[
  {
    "comment": "The way back, in the opposite order.",
    "update": "COLLECTION",
    "pipeline": [ { "$unset": "FIELD" } ]
  },
  { "command": { "dropIndexes": "COLLECTION", "index": "NAME" } }
]
"#;

/// Whether a script is still what `evolve new` has written.
pub(super) fn is_untouched(text: &str) -> bool {
    let plain = |text: &str| text.replace("\r\n", "\n").trim().to_owned();
    [UP_SQL, DOWN_SQL, UP_JSON, DOWN_JSON].into_iter().any(|template| plain(template) == plain(text))
}

/// Makes the folder of a new evolution; its path.
///
/// # Errors
/// Usage: the name is no name for a folder. Failed: the folder cannot be written.
pub fn create(folder: &Path, name: &str, scheme: Scheme) -> Result<PathBuf> {
    let name = name.trim().to_lowercase().replace([' ', '-'], "_");
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || !name.chars().all(plain) || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(Error::usage(
            "the name must consist of letters, digits and underscores, and begin with a letter",
        )
        .help("such as add_status; the number is put before it"));
    }
    let failed = |path: &Path, error: std::io::Error| {
        Error::failed(format!("{} cannot be written: {error}", path.display()))
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let mut last = 0;
    for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, error))? {
        let entry = entry.map_err(|error| failed(folder, error))?;
        last = last.max(entry.file_name().to_str().and_then(number_of).unwrap_or(0));
    }
    let path = folder.join(format!("{:0DIGITS$}_{name}", last + 1));
    std::fs::create_dir(&path).map_err(|error| failed(&path, error))?;
    let (up, down) = match scheme {
        Scheme::Postgres => (UP_SQL, DOWN_SQL),
        Scheme::MongoDb => (UP_JSON, DOWN_JSON),
    };
    let (_, ending) = kind(scheme);
    for (file, text) in [
        ("evolution.toml".to_owned(), MANIFEST),
        (format!("up.{ending}"), up),
        (format!("down.{ending}"), down),
    ] {
        let file = path.join(file);
        std::fs::write(&file, text).map_err(|error| failed(&file, error))?;
    }
    Ok(path)
}
