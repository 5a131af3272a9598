//! Everybody arrives, once, the same way whatever the settings.

use super::Job;
use crate::support::Database;
use crate::support::sample::ENTITIES;

#[test]
fn everybody_is_carried_over_and_accounted_for() {
    let job = Job::new(600, &[]);
    let before = job.structure();
    job.migrate(&[], 0);

    for (v1, entity) in ENTITIES {
        let rows = job.v1.count(&format!("\"{v1}\""));
        assert!(rows > 0);
        let total = job.v2.one(&format!("select total from v1v2.accounting where entity = '{entity}'"));
        assert_eq!(total, rows.to_string(), "{entity}: each row of V1 has one line in the ledger");
        assert_eq!(
            job.v2.count(&format!("\"{v1}\"")),
            rows,
            "{v1}: nothing was rejected, so every row is in V2"
        );
    }
    assert_eq!(
        job.v2.one("select count(*) from \"User\""),
        job.v2.one("select count(distinct account_id) from v1v2.ledger where account_id is not null"),
    );
    assert_eq!(
        job.v2.one("select count(*) from \"UserRole\""),
        job.v2.one("select count(*) from v1v2.ledger where account_id is not null"),
        "one role for each row that is a person"
    );
    assert_eq!(
        job.v1.one("select count(*) from \"_ParentToStudent\""),
        job.v2.one("select count(*) from \"StudentGuardian\""),
    );
    // A column that is carried over unchanged, over the join that the ledger makes possible.
    let v1 = job.v1.rows(
        "select \"employeeNo\", \"hireDate\"::date, qualification from \"Teacher\" order by \"employeeNo\" collate \"C\"",
    );
    let v2 = job
        .v2
        .rows("select \"employeeNo\", \"hireDate\", qualification from \"Teacher\" order by \"employeeNo\" collate \"C\"");
    assert_eq!(v1, v2);
    assert_eq!(job.structure(), before, "bulk load put every index and foreign key back");
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn people_keep_what_makes_them_reachable() {
    let job = Job::new(600, &[]);
    job.migrate(&[], 0);
    assert_eq!(job.v2.one("select count(*) from \"User\" where email <> lower(email) or email ~ '\\s'"), "0");
    assert_eq!(job.v2.one("select count(*) from \"User\" where phone !~ '^\\+[1-9][0-9]{6,14}$'"), "0");
    assert_eq!(
        job.v2.one("select count(*) from \"User\" where \"emailIsPlaceholder\" <> (email like '%@placeholder.invalid')"),
        "0"
    );
    // A person who is teacher and parent: one account, two roles.
    let both = "select count(*) from \"Teacher\" t join \"Parent\" p on p.\"userId\" = t.\"userId\"";
    assert_ne!(job.v2.one(both), "0");
    assert_eq!(
        job.v2.one("select count(*) from v1v2.ledger where entity = 'parents' and outcome = 'g'"),
        job.v2.one(both)
    );
    // Families share phones, and nobody is merged on a phone alone.
    assert_ne!(job.v2.one("select count(*) from v1v2.conflicts where kind = 'phone_shared'"), "0");
}

#[test]
fn a_second_run_writes_nothing() {
    let job = Job::new(300, &[]);
    job.migrate(&[], 0);
    let everything = |job: &Job| {
        let mut digest = job.v2.digest(&["public", "v1v2"], &[]);
        digest.remove("v1v2.runs");
        (digest, job.v2.one("select max(xmin::text::bigint) from \"User\""))
    };
    let before = everything(&job);
    job.migrate(&[], 0);
    assert_eq!(everything(&job), before);
    assert_eq!(job.v2.one("select count(*) from v1v2.runs where state = 'done'"), "2");
}

#[test]
fn the_result_depends_neither_on_chunks_nor_on_writers_nor_on_bulk_load() {
    let job = Job::new(400, &["--orphans"]);
    job.migrate(&[], 3);
    let expected = job.result();
    let mut job = job;
    let mut kept: Vec<Database> = Vec::new();
    for settings in [
        &["--batch-size", "7", "--writers", "4"][..],
        &["--batch-size", "100000", "--writers", "1", "--no-bulk"],
        &["--batch-size", "13", "--no-bulk"],
    ] {
        let (other, old) = job.another_v2();
        kept.push(old);
        job = other;
        job.migrate(settings, 3);
        assert_eq!(job.result(), expected, "{settings:?}");
    }
}

#[test]
fn a_dry_run_decides_the_same_and_writes_nothing() {
    let job = Job::new(400, &["--orphans"]);
    let before = (job.v2.digest(&["public", "v1v2"], &[]), job.structure());
    let dry = job.run(&["migrate", "--dry-run", "--json"]).expect(3);
    assert_eq!((job.v2.digest(&["public", "v1v2"], &[]), job.structure()), before);
    let real = job.run(&["migrate", "--force", "--json", "--skip-validation"]).expect(3);
    let (dry, real) = (dry.result("migrate"), real.result("migrate"));
    for part in ["entities", "conflicts", "rejects", "first_rejects"] {
        assert_eq!(dry[part], real[part], "{part}");
    }
    assert!(dry["samples"].as_array().is_some_and(|tables| tables.len() > 5));
}

#[test]
fn a_dry_run_masks_passwords_and_estimates() {
    let job = Job::new(60, &[]);
    let dry = job.run(&["migrate", "--dry-run", "--passwords", "generate"]).expect(0);
    assert!(dry.stdout.contains("\"passwordHash\":\"***\""), "{}", dry.stdout);
    assert!(dry.stdout.contains("the run itself will take about"), "{}", dry.stdout);
    assert!(!dry.stdout.contains("argon2"));
}

#[test]
fn validation_finds_what_was_taken_away_and_what_came_too_much() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    job.run(&["validate"]).expect(0);
    job.run(&["validate", "--compare-counts"]).expect(0);
    // One row of V1 goes and another one comes: the numbers still agree, the rows do not.
    job.v1.execute(
        "update \"Parent\" set id = 'zz-new-key' where id = (select min(id) from \"Parent\" p \
         where not exists (select from \"_ParentToStudent\" j where j.\"A\" = p.id))",
    );
    let found = job.run(&["validate", "--compare-counts"]).expect(4);
    assert!(
        found.stderr.contains("parents in V1: 1") && found.stderr.contains("parents in the ledger: 1"),
        "{}",
        found.stderr
    );
    // A record that somebody removed from V2, and two accounts that differ in case only.
    job.v2.execute("delete from \"TeacherSubject\"; delete from \"Teacher\" where id = (select min(id::text)::uuid from \"Teacher\")");
    job.v2.execute(
        "update \"User\" set email = upper(email) where id = (select min(id::text)::uuid from \"User\")",
    );
    job.v2.execute(
        "insert into \"User\" (id, \"userTypeId\", email, username, \"firstName\", \"updatedAt\") \
         select gen_random_uuid(), \"userTypeId\", lower(email), 'somebody else', 'X', now() from \"User\" \
         where email <> lower(email)",
    );
    let found = job.run(&["validate"]).expect(4);
    assert!(found.stderr.contains("records of teachers in Teacher: 1"), "{}", found.stderr);
    assert!(found.stderr.contains("User.email: 1"), "{}", found.stderr);
}
