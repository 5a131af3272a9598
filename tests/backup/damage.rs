//! Whatever happens to a backup's files, `verify` finds it and `restore` leaves the target alone.

use std::fs;
use std::path::{Path, PathBuf};

use mongodb::bson::doc;
use tempfile::TempDir;

use super::{create, project, restore};
use crate::support::{Database, MongoDatabase, Project};

/// The backup's data file: the largest.
fn data(backup: &Path) -> PathBuf {
    let files = fs::read_dir(backup).unwrap().map(|entry| entry.unwrap().path());
    files.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

fn copy_of(backup: &Path, number: usize) -> PathBuf {
    let copy = backup.with_file_name(format!("copy{number}"));
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(backup).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    copy
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// Damages copies of a backup in every way and looks whether it is found; `target` must stay as it is.
fn every_damage_is_found(project: &Project, backup: &Path, target: &dyn Fn() -> String) {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 7] = [
        ("a byte in the middle", |backup| flip(&data(backup), fs::read(data(backup)).unwrap().len() / 2)),
        ("the last byte", |backup| flip(&data(backup), fs::read(data(backup)).unwrap().len() - 1)),
        ("cut", |backup| {
            let bytes = fs::read(data(backup)).unwrap();
            fs::write(data(backup), &bytes[..bytes.len() - 20]).unwrap();
        }),
        ("longer", |backup| {
            let mut bytes = fs::read(data(backup)).unwrap();
            bytes.extend_from_slice(b"more");
            fs::write(data(backup), bytes).unwrap();
        }),
        ("a file gone", |backup| fs::remove_file(data(backup)).unwrap()),
        ("another count", |backup| {
            let manifest = backup.join("manifest.json");
            let text = fs::read_to_string(&manifest).unwrap();
            fs::write(&manifest, text.replace("\"rows\": 3000", "\"rows\": 3001")).unwrap();
        }),
        ("no manifest", |backup| fs::remove_file(backup.join("manifest.json")).unwrap()),
    ];
    let before = target();
    for (number, (what, damage)) in damages.into_iter().enumerate() {
        let copy = copy_of(backup, number);
        damage(&copy);
        let found = project.run(&["backup", "verify", copy.to_str().unwrap()]).expect(4);
        assert!(found.stderr.contains("damaged"), "{what}: {}", found.stderr);
        let listed = project.run(&["backup", "list"]).expect(0);
        let line = listed.stdout.lines().find(|line| line.contains(&format!("copy{number}")));
        assert!(line.is_some_and(|line| line.contains("damaged")), "{what}: {}", listed.stdout);
        restore(project, &copy, &["--clean", "--force"], 4);
        assert_eq!(target(), before, "{what}");
    }
    project.run(&["backup", "verify", backup.to_str().unwrap()]).expect(0);
}

#[test]
fn in_postgres() {
    let v2 = Database::v2();
    v2.execute("create table t as select n, md5(n::text) from generate_series(1, 3000) n");
    let backups = TempDir::new().unwrap();
    let project = project(v2.url(), backups.path());
    let backup = create(&project, backups.path());
    every_damage_is_found(&project, &backup, &|| format!("{:?}", v2.digest(&["public"], &[])));
}

#[test]
fn in_mongodb() {
    let v2 = MongoDatabase::new();
    let documents: Vec<_> =
        (0..3000).map(|n| doc! { "_id": n, "text": format!("{:x}", i64::from(n) * 7_919_000_017) }).collect();
    v2.run(doc! { "insert": "t", "documents": documents });
    let backups = TempDir::new().unwrap();
    let project = project(v2.url(), backups.path());
    let backup = create(&project, backups.path());
    every_damage_is_found(&project, &backup, &|| format!("{:?}", v2.digest(&[])));
    // A backup of one kind does not fit the other.
    let postgres = Database::v2();
    let wrong = super::project(postgres.url(), backups.path());
    let refused = restore(&wrong, &backup, &[], 2);
    assert!(refused.stderr.contains("MongoDB"), "{}", refused.stderr);
}
