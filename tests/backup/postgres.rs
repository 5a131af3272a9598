//! Postgres, there and back.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::{create, folders, process_list, project, restore};
use crate::job::Job;
use crate::support::{Database, Digest};

/// All that a restore must bring back: rows of all schemas, and the structure as the server describes it.
fn everything(database: &Database) -> (Digest, Vec<Vec<Option<String>>>) {
    let structure = database.rows(
        "select 'column', attrelid::regclass::text, concat(attnum, attname, format_type(atttypid, atttypmod) \
                , attnotnull, attidentity, attgenerated) \
           from pg_attribute join pg_class c on c.oid = attrelid join pg_namespace n on n.oid = relnamespace \
           where attnum > 0 and not attisdropped and nspname !~ '^pg_' and nspname <> 'information_schema' \
         union all select 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index \
           where indrelid >= 16384 and indrelid::regclass::text !~ '^pg_toast' \
         union all select 'constraint', conrelid::regclass::text || conname, pg_get_constraintdef(oid) || convalidated::text \
           from pg_constraint where oid >= 16384 \
         union all select 'function', oid::regprocedure::text, pg_get_functiondef(oid) from pg_proc \
           where oid >= 16384 and prokind = 'f' \
         union all select 'trigger', tgname, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal \
         union all select 'view', viewname, definition from pg_views where schemaname = 'public' \
         union all select 'sequence', sequencename, coalesce(last_value, -1) || ' ' || increment_by from pg_sequences \
         union all select 'enum', enumtypid::regtype::text, enumlabel from pg_enum \
         union all select 'schema', nspname, nspacl::text from pg_namespace where nspname !~ '^pg_' \
         union all select 'grant', relname, relacl::text from pg_class where relacl is not null and oid >= 16384 \
         union all select 'large object', oid::text, md5(lo_get(oid)) from pg_largeobject_metadata \
         order by 1, 2, 3",
    );
    (database.digest(&["public", "v1v2", "odd \"schema"], &[]), structure)
}

#[test]
fn a_migrated_v2_comes_back_the_same() {
    let job = Job::new(60, &["--orphans"]);
    job.migrate(&[], 3);
    job.v2.execute(
        "create schema \"odd \"\"schema\"; create table \"odd \"\"schema\".\"a.b\" (\"x y\" text, n numeric, f float8, b bytea); \
         insert into \"odd \"\"schema\".\"a.b\" values (E'tab\\t\\\\.\\nline', 'NaN', 'infinity', '\\x00ff'), (null, 1e40, -0.0, ''), ('\\.', 1, 1, null); \
         create table parted (id int, at date) partition by range (at); \
         create table parted_1 partition of parted for values from ('2020-01-01') to ('2021-01-01'); \
         insert into parted values (1, '2020-05-05'); create sequence s start 7; select nextval('s'); \
         create view v as select 1 as one; create table nothing (); insert into nothing default values; \
         create materialized view m as select count(*) from parted; select lo_from_bytea(0, 'large'); \
         create table counted (id int generated always as identity, twice int generated always as (id * 2) stored); \
         insert into counted default values",
    );
    let before = everything(&job.v2);
    assert!(before.0.keys().any(|table| table == "v1v2.ledger"), "{:?}", before.0.keys());
    let backups = TempDir::new().unwrap();
    let to = backups.path().join("deep/er");
    let backup = create(&project(job.v2.url(), &to), &to);
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&to), mode(&backup)), (0o700, 0o700));
    for entry in std::fs::read_dir(&backup).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    let sums =
        std::process::Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(&backup).output();
    assert!(sums.unwrap().status.success());
    assert_eq!(everything(&job.v2), before, "a backup changes nothing");

    // Into an empty database.
    let other = Database::v2();
    let elsewhere = project(other.url(), &to);
    let listed = elsewhere.run(&["backup", "list"]).expect(0);
    assert!(listed.stdout.contains("verified at"), "{}", listed.stdout);
    restore(&elsewhere, &backup, &[], 0);
    assert_eq!(everything(&other), before);
    // And over what somebody has changed there since.
    other.execute("drop table \"User\" cascade; create table mine (id int); create schema more; create type t as enum ('a')");
    let refused = restore(&elsewhere, &backup, &[], 5);
    assert!(refused.stderr.contains("not empty") && refused.stderr.contains("--clean"), "{}", refused.stderr);
    let asked = restore(&elsewhere, &backup, &["--clean"], 2);
    assert!(asked.stderr.contains("--force"), "{}", asked.stderr);
    assert_eq!(other.count("mine"), 0);
    restore(&elsewhere, &backup, &["--clean", "--force"], 0);
    assert_eq!(everything(&other), before);
}

#[test]
fn the_counts_are_of_the_dumps_own_moment() {
    let v2 = Database::v2();
    v2.execute("create table t as select n, md5(n::text) from generate_series(1, 300000) n");
    let backups = TempDir::new().unwrap();
    let mut running = project(v2.url(), backups.path()).spawn(&["backup", "create"]);
    // Rows that come while it works are in neither the counts nor the dump.
    while running.wait_until(|_| false) {}
    let mut second = project(v2.url(), backups.path()).spawn(&["backup", "create"]);
    assert!(second.wait_until(|_| {
        folders(backups.path()).iter().any(|path| path.to_string_lossy().ends_with(".partial"))
    }));
    for _ in 0..10 {
        v2.execute(
            "delete from t where n % 100 = 1; insert into t select n, 'new' from generate_series(1, 5000) n",
        );
    }
    second.wait().expect(0);
    running.wait().expect(0);
    let listed = project(v2.url(), backups.path()).run(&["backup", "list", "--json"]).expect(0);
    assert_eq!(listed.stdout.matches("\"state\":\"verified\"").count(), 2, "{}", listed.stdout);
}

#[test]
fn a_killed_making_is_never_taken_for_a_backup() {
    let v2 = Database::v2();
    v2.execute(
        "create table t as select n, md5(n::text), repeat('x', 100) from generate_series(1, 400000) n",
    );
    let backups = TempDir::new().unwrap();
    let project = project(v2.url(), backups.path());
    let mut running = project.spawn(&["backup", "create"]);
    assert!(running.wait_until(|_| !folders(backups.path()).is_empty()));
    assert!(running.signal("KILL"));
    assert_eq!(running.wait().signal(), Some(9));
    let listed = project.run(&["backup", "list"]).expect(0);
    assert!(listed.stdout.contains("partial"), "{}", listed.stdout);
    let partial = folders(backups.path()).remove(0);
    let other = Database::v2();
    let refused = super::restore(&super::project(other.url(), backups.path()), &partial, &[], 2);
    assert!(refused.stderr.contains("never finished"), "{}", refused.stderr);
    project.run(&["backup", "verify"]).expect(2);
}

#[test]
fn a_killed_restore_leaves_nothing_but_its_mark() {
    let v2 = Database::v2();
    v2.execute(
        "create function slow(n int) returns bool language plpgsql as 'begin return true; end'; \
         create table t (n int check (slow(n))); insert into t select generate_series(1, 200); \
         create or replace function slow(n int) returns bool language plpgsql as 'begin perform pg_sleep(0.01); return true; end'",
    );
    let backups = TempDir::new().unwrap();
    let backup = create(&project(v2.url(), backups.path()), backups.path());
    let other = Database::v2();
    let elsewhere = project(other.url(), backups.path());
    let mut running = elsewhere.spawn(&["backup", "restore", backup.to_str().unwrap()]);
    let working = "select count(*) from pg_stat_activity where application_name = 'v1v2 restore' and state = 'active' and datname = current_database()";
    assert!(running.wait_until(|_| other.one(working) != "0"));
    assert!(running.signal("KILL"));
    drop(running.wait());
    assert_eq!(other.rows("select nspname from pg_namespace where nspname = 'v1v2_restore'").len(), 1);
    let refused = elsewhere.run(&["backup", "create"]).expect(5);
    assert!(refused.stderr.contains("interrupted restore"), "{}", refused.stderr);
    // The archive may have been in the pipe already: then pg_restore still commits, and the mark tells.
    while other.one("select count(*) from pg_stat_activity where application_name = 'v1v2 restore' and datname = current_database()") != "0" {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    restore(&elsewhere, &backup, &["--clean", "--force"], 0);
    assert_eq!(everything(&other), everything(&v2));
}

#[test]
fn the_password_is_in_no_process_list() {
    let v2 = Database::v2();
    let (role, canary) = (format!("{}_keeper", v2.name()), "CANARY-2b8e17");
    v2.execute(&format!("create role {role} superuser login password '{canary}'"));
    v2.execute("create table t as select n, md5(n::text) from generate_series(1, 200000) n");
    let mut url = url::Url::parse(v2.url()).unwrap();
    url.set_username(&role).unwrap();
    url.set_password(Some(canary)).unwrap();
    let backups = TempDir::new().unwrap();
    let project = project(url.as_str(), backups.path()).env("RUST_LOG", "trace");
    let mut seen = 0;
    for arguments in [
        &["backup", "create", "--verbose"][..],
        &["backup", "verify"],
        &["backup", "restore", "NAME", "--clean", "--force", "--verbose"],
    ] {
        let name = folders(backups.path()).pop();
        let arguments: Vec<&str> = arguments
            .iter()
            .map(
                |argument| {
                    if *argument == "NAME" { name.as_ref().unwrap().to_str().unwrap() } else { argument }
                },
            )
            .collect();
        let mut running = project.spawn(&arguments);
        running.wait_until(|_| {
            let list = process_list();
            seen += list.matches("pg_dump").count() + list.matches("pg_restore").count();
            assert!(!list.contains(canary), "{arguments:?}");
            false
        });
        let ended = running.wait().expect(0);
        assert!(!ended.stdout.contains(canary) && !ended.stderr.contains(canary), "{arguments:?}");
    }
    assert!(seen > 3, "its programs were seen at work: {seen}");
    v2.execute(&format!("reassign owned by {role} to current_user; drop owned by {role}; drop role {role}"));
}

#[test]
fn a_pg_dump_that_is_too_old_is_refused() {
    let v2 = Database::v2();
    let backups = TempDir::new().unwrap();
    let bin = TempDir::new().unwrap();
    for name in ["pg_dump", "pg_restore"] {
        let path = bin.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho \"{name} (PostgreSQL) 9.6.24\"\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").unwrap());
    let project = project(v2.url(), backups.path()).env("PATH", &path);
    let refused = project.run(&["backup", "create"]).expect(5);
    assert!(refused.stderr.contains("9.6.24") && refused.stderr.contains("fix: "), "{}", refused.stderr);
    assert!(folders(backups.path()).is_empty());
}

#[test]
fn roles_that_the_target_lacks_are_named() {
    let v2 = Database::v2();
    let role = format!("{}_owner", v2.name());
    v2.execute(&format!(
        "create role {role}; create table t (id int); insert into t values (1); alter table t owner to {role}"
    ));
    let backups = TempDir::new().unwrap();
    let backup = create(&project(v2.url(), backups.path()), backups.path());
    v2.execute(&format!("reassign owned by {role} to current_user; drop role {role}"));
    let other = Database::v2();
    let elsewhere = project(other.url(), backups.path());
    let refused = restore(&elsewhere, &backup, &[], 5);
    assert!(refused.stderr.contains(&role) && refused.stderr.contains("--no-owner"), "{}", refused.stderr);
    restore(&elsewhere, &backup, &["--no-owner"], 0);
    assert_eq!(other.count("t"), 1);
}
