//! Backups are judged by what comes back: both databases go out and in again, are damaged, cut short and refused, and
//! what the servers hold afterwards is compared with what they held before.

mod copy;
mod damage;
mod lock;
mod mongodb;
mod postgres;
mod required;

use std::path::{Path, PathBuf};

use crate::support::{Outcome, Project};

/// A project whose V2 is this URL and whose backups lie in the folder.
fn project(url: &str, backups: &Path) -> Project {
    Project::new().env("V2_DATABASE_URL", url).env("V1V2_BACKUPS", backups.to_str().unwrap())
}

/// Takes a backup; its folder.
#[track_caller]
fn create(project: &Project, backups: &Path) -> PathBuf {
    project.run(&["backup", "create"]).expect(0);
    let mut found = folders(backups);
    assert!(!found.is_empty());
    found.pop().unwrap()
}

/// The folders of a folder, by name.
fn folders(backups: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(backups) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[track_caller]
fn restore(project: &Project, backup: &Path, more: &[&str], code: i32) -> Outcome {
    let arguments = [&["backup", "restore", backup.to_str().unwrap()], more].concat();
    project.run(&arguments).expect(code)
}

/// The arguments of all processes.
fn process_list() -> String {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned() + "\n").collect()
}
