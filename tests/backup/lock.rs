//! While a restore is at work, nobody else changes V2: they are refused, and told by whom.

use mongodb::bson::doc;
use mongodb::bson::raw::RawDocumentBuf;
use tempfile::TempDir;

use super::mongodb::{everything, insert_raw};
use super::{create, project};
use crate::job::Job;
use crate::support::{Database, MongoDatabase, Project, Running};

/// What others may want of a V2 in the meantime; each is refused.
#[track_caller]
fn all_are_refused(project: &Project, more: &[&[&str]], told: &[&str]) {
    for arguments in [&["evolve", "up", "--force"][..], &["setup"]].iter().chain(more) {
        let refused = project.run(arguments).expect(5);
        assert!(told.iter().any(|text| refused.stderr.contains(text)), "{arguments:?}: {}", refused.stderr);
    }
}

fn halted(mut running: Running) -> Running {
    assert!(running.signal("STOP"), "it ended too early");
    running
}

fn continued(mut running: Running) {
    assert!(running.signal("CONT"));
    running.wait().expect(0);
}

#[test]
fn a_restore_of_postgres_holds_the_lock_to_its_end() {
    let job = Job::new(60, &[]);
    job.migrate(&[], 0);
    job.v2.execute("create table t as select n, md5(n::text), repeat(md5(n::text), 20) from generate_series(1, 100000) n");
    let content = |database: &Database| database.digest(&["public", "v1v2"], &[]);
    let before = content(&job.v2);
    let backups = TempDir::new().unwrap();
    let backup = create(&project(job.v2.url(), backups.path()), backups.path());
    let restore = ["backup", "restore", backup.to_str().unwrap(), "--clean", "--force"];
    let migrate: &[&[&str]] = &[&["migrate", "--force"], &["rollback", "--force"]];

    // Over a V2 that has a ledger, and into an empty one.
    for empty in [false, true] {
        let other;
        let v2 = if empty {
            other = Database::v2();
            &other
        } else {
            &job.v2
        };
        let ours = Project::between(&job.v1, v2).env("V1V2_BACKUPS", backups.path().to_str().unwrap());
        ours.write("evolutions/0001_a/up.sql", "create table made (id int)");
        ours.write("evolutions/0001_a/down.sql", "drop table made");
        let mark = "select exists (select from pg_namespace where nspname = 'v1v2_restore')";
        let mut running = ours.spawn(&restore);
        assert!(running.wait_until(|_| v2.one(mark) == "t"));
        let running = halted(running);
        let told = [
            "in use by another run: v1v2 backup restore, ",
            "is being restored, or its restore was interrupted",
        ];
        all_are_refused(&ours, &[&restore], &told);
        // These look at V2's structure first, which is not there.
        for arguments in migrate {
            let refused = ours.run(arguments);
            assert!(matches!(refused.code(), Some(2 | 5)), "{arguments:?}: {}", refused.stderr);
        }
        continued(running);
        assert_eq!(content(v2), before);
        assert_eq!(v2.one(mark), "f");
        ours.run(&["evolve", "up", "--force"]).expect(0);
        ours.run(&["evolve", "down", "--force"]).expect(0);
    }
}

#[test]
fn the_mark_of_a_restore_of_postgres_keeps_others_out_when_its_lock_is_lost() {
    let v2 = Database::v2();
    v2.execute("create table t (id int)");
    let backups = TempDir::new().unwrap();
    let project = project(v2.url(), backups.path());
    let backup = create(&project, backups.path());
    project.write("evolutions/0001_a/up.sql", "create table made (id int)");
    project.write("evolutions/0001_a/down.sql", "drop table made");
    v2.execute("create schema v1v2_restore; comment on schema v1v2_restore is 'restore of X, begun at Y'");
    for arguments in [&["evolve", "up", "--force"][..], &["evolve", "up", "--dry-run"], &["setup"]] {
        let refused = project.run(arguments).expect(5);
        assert!(refused.stderr.contains("its restore was interrupted: restore of X"), "{}", refused.stderr);
    }
    assert_eq!(v2.one("select count(*) from pg_class where relname = 'made'"), "0");
    project.run(&["backup", "restore", backup.to_str().unwrap(), "--clean", "--force"]).expect(0);
    project.run(&["evolve", "up", "--force"]).expect(0);
}

#[test]
fn a_restore_of_mongodb_holds_the_lock_to_its_end() {
    let v2 = MongoDatabase::new();
    let ours = project(v2.url(), TempDir::new().unwrap().path());
    ours.run(&["setup"]).expect(0);
    let rows =
        (0..60_000).map(|n| RawDocumentBuf::try_from(&doc! { "_id": n, "text": "x".repeat(300) }).unwrap());
    insert_raw(&v2, "many", rows.collect());
    let before = everything(&v2);
    let backups = TempDir::new().unwrap();
    let backup = create(&project(v2.url(), backups.path()), backups.path());
    let restore = ["backup", "restore", backup.to_str().unwrap(), "--clean", "--force"];
    for empty in [false, true] {
        let other;
        let v2 = if empty {
            other = MongoDatabase::new();
            &other
        } else {
            &v2
        };
        let ours = project(v2.url(), backups.path());
        ours.write("evolutions/0001_a/up.json", r#"[ { "command": { "create": "made" } } ]"#);
        ours.write("evolutions/0001_a/down.json", r#"[ { "command": { "drop": "made" } } ]"#);
        let mut running = ours.spawn(&restore);
        assert!(running.wait_until(|_| v2.count("v1v2_restore", doc! {}) > 0));
        let running = halted(running);
        all_are_refused(&ours, &[], &["is being restored, or its restore was interrupted: restore of "]);
        continued(running);
        assert!(everything(v2) == before);
        ours.run(&["evolve", "up", "--force"]).expect(0);
        ours.run(&["evolve", "down", "--force"]).expect(0);
    }
}
