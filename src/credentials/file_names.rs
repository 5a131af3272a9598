//! File names made from scopes.
//!
//! A scope is a name that somebody typed into V1; as a file name it could leave the folder, hide, clash with another one on a
//! file system that ignores case, or be something that Windows takes for a device.

use std::collections::HashSet;

use unicode_normalization::UnicodeNormalization;

use crate::error::{Error, Result};

/// Longest file name that is made from a scope, in bytes, without number and extension: common file systems allow 255.
const MAX_NAME_BYTES: usize = 100;

/// Gives each scope a file name that is safe everywhere and taken once.
#[derive(Default)]
pub(super) struct FileNames {
    scopes: HashSet<String>,
    /// In lower case: some file systems do not tell the cases apart.
    taken: HashSet<String>,
}

impl FileNames {
    /// The name for the next scope, without extension.
    ///
    /// # Errors
    /// When the scope had its turn before.
    pub(super) fn next(&mut self, scope: &str) -> Result<String> {
        if !self.scopes.insert(scope.to_owned()) {
            return Err(Error::failed(
                "the rows of one scope are not together, so its file was closed too early",
            ));
        }
        let base = file_name(scope);
        let mut name = base.clone();
        let mut number = 2;
        while !self.taken.insert(name.to_lowercase()) {
            name = format!("{base}-{number}");
            number += 1;
        }
        Ok(name)
    }
}

/// A file name in the likeness of `scope`: letters and digits of any script stay, everything else becomes a hyphen. So
/// it cannot leave the folder, hide itself, or be an option of a command.
fn file_name(scope: &str) -> String {
    let mut name = String::new();
    for character in scope.nfc() {
        if character.is_alphanumeric() {
            if name.len() + character.len_utf8() > MAX_NAME_BYTES {
                break;
            }
            name.push(character);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_end_matches('-');
    // Windows takes these for devices, whatever the extension.
    let device = ["con", "prn", "aux", "nul"].iter().any(|device| name.eq_ignore_ascii_case(device))
        || (name.len() == 4
            && name
                .get(..3)
                .is_some_and(|start| ["com", "lpt"].iter().any(|port| start.eq_ignore_ascii_case(port)))
            && name.ends_with(|last: char| last.is_ascii_digit()));
    match name {
        "" => "unnamed".to_owned(),
        name if device => format!("{name}-list"),
        name => name.to_owned(),
    }
}
