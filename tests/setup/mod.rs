//! `setup` and its files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should panic")]

mod files;
mod lock;
mod mongodb;
mod postgres;

use std::fs;
use std::path::Path;

use v1v2::Error;
use v1v2::setup::SetupFiles;

/// A user's setup folder.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn load(dir: &Path) -> SetupFiles {
    SetupFiles::load(Some(dir)).unwrap()
}

/// The mistakes that a folder's data files have.
fn mistakes(files: &[(&str, &str)]) -> String {
    let dir = folder(files);
    let error = SetupFiles::load(Some(dir.path())).and_then(|files| files.reference()).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    said(&error).replace(&format!("{}/", dir.path().display()), "")
}

fn said(error: &Error) -> String {
    format!("{}\n{}", error.message(), error.more().unwrap_or_default()).trim_end().to_owned()
}

const EMBEDDED: &str = "reference/manifest.toml";

fn embedded(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("setup").join(name)).unwrap()
}
