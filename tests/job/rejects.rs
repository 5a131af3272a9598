//! A row that cannot be migrated costs only itself.

use super::Job;
use crate::support::foretold::{assert_foretold, sum};
use crate::support::sample;

#[test]
fn orphans_are_rejected_with_the_missing_key_and_can_be_tried_again() {
    let job = Job::new(1_000, &["--orphans"]);
    let orphans = sample::orphans(&job.v1);
    job.migrate(&[], 3);
    let rejected = job.v2.rows(
        "select key, code, reason, source_row is not null from v1v2.ledger where entity = 'teachers' and outcome = 'r' order by 1",
    );
    assert_eq!(rejected.len(), orphans.len());
    for ([key, school], reject) in orphans.iter().zip(&rejected) {
        assert_eq!(reject[0].as_ref(), Some(key));
        assert_eq!(reject[1].as_deref(), Some("missing-reference"));
        assert!(reject[2].as_deref().unwrap().contains(school), "{reject:?}");
        assert_eq!(reject[3].as_deref(), Some("t"));
    }
    job.run(&["validate", "--compare-counts"]).expect(0);

    // The school comes back, and only the rejects are looked at again.
    job.v1.execute(sample::THEIR_SCHOOLS_COME_BACK);
    job.migrate(&["--retry-rejected"], 3);
    assert_eq!(
        job.v2.one("select count(*) from v1v2.ledger where entity = 'teachers' and outcome = 'r'"),
        "0"
    );
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn rows_that_the_database_refuses_leave_the_others_alone() {
    let job = Job::new(400, &[]);
    // One refused by a check, one by a type, one by a trigger's own error class, all in the middle of chunks.
    let key = |offset: u32| {
        job.v1.one(&format!("select id from \"Student\" order by id collate \"C\" offset {offset} limit 1"))
    };
    let (checked, odd) = (key(17), key(90));
    job.v2.execute(&format!(
        "alter table \"Student\" add constraint no_such_number check (\"admissionNo\" <> '{}')",
        job.v1.one(&format!("select \"admissionNo\" from \"Student\" where id = '{checked}'"))
    ));
    job.v1.execute(&format!("update \"Student\" set \"admissionNo\" = repeat('9', 3000) where id = '{odd}'"));
    job.v2.execute("alter table \"Student\" add constraint short check (length(\"admissionNo\") < 1000)");
    job.migrate(&[], 3);
    let rejected = job
        .v2
        .rows("select key, code, reason from v1v2.ledger where outcome = 'r' order by key collate \"C\"");
    let keys: Vec<_> = rejected.iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(keys, [checked.clone(), odd]);
    for row in &rejected {
        assert_eq!(row[1].as_deref(), Some("database-23514"));
        assert!(row[2].as_deref().unwrap().starts_with("Student: "), "{row:?}");
    }
    assert_eq!(job.v2.count("\"Student\""), job.v1.count("\"Student\"") - 2);
    // The rejected person has no account either: all or nothing.
    assert_eq!(
        job.v2.one("select count(*) from \"User\" u where not exists (select from v1v2.ledger l where l.account_id = u.id::text)"),
        "0"
    );
    assert!(
        !job.v2
            .rows(&format!("select from v1v2.ledger where key = '{checked}' and source_row is not null"))
            .is_empty()
    );
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn a_dry_run_finds_what_the_database_would_refuse() {
    let job = Job::new(200, &[]);
    let odd = job.v1.one("select id from \"Student\" order by id limit 1 offset 20");
    job.v1.execute(&format!("update \"Student\" set \"admissionNo\" = repeat('9', 3000) where id = '{odd}'"));
    job.v2.execute("alter table \"Student\" add constraint short check (length(\"admissionNo\") < 1000)");
    let dry = job.run(&["migrate", "--dry-run"]).expect(3);
    assert!(dry.stdout.contains(&odd) && dry.stdout.contains("database-23514"), "{}", dry.stdout);
}

/// What V2 says only at COMMIT is said of a chunk; which row it was has to be found out.
#[test]
fn a_row_that_v2_refuses_only_at_commit_is_rejected_alone() {
    let job = Job::new(200, &[]);
    let occupations =
        "select count(*) from \"Parent\" where occupation is not null and occupation <> 'Unheard of'";
    job.v2.execute("create table occupation (name text primary key)");
    for occupation in job.v1.rows("select distinct occupation from \"Parent\" where occupation is not null") {
        job.v2.execute(&format!("insert into occupation values ('{}')", occupation[0].as_deref().unwrap()));
    }
    job.v2.execute(
        "alter table \"Parent\" add constraint known foreign key (occupation) references occupation deferrable initially deferred",
    );
    let unheard = |offset: u32| {
        job.v1.execute(&format!(
            "update \"Parent\" set occupation = 'Unheard of' where id = (select id from \"Parent\" order by id offset {offset} limit 1)"
        ));
    };
    unheard(20);
    let ways: [(&[&str], i32); 1] = [(&["--no-bulk"], 3)];
    let whole = || job.v2.digest(&["public", "v1v2"], &[]);
    let told = assert_foretold(&job.project, whole, &ways, None);
    assert_eq!(told[0]["rejects"], serde_json::json!({ "parents database-23503": 1 }));
    assert_eq!(job.v2.one(occupations), job.v1.one(occupations));
    unheard(21);
    job.v1.execute("update \"Parent\" set \"updatedAt\" = \"updatedAt\" + interval '1 day'");
    let told = assert_foretold(&job.project, whole, &ways, None);
    assert_eq!(sum(&told[0], "changes_refused"), 1);
    assert_eq!(job.v2.count("v1v2.conflicts where kind = 'change_refused'"), 1);
}

#[test]
fn of_rows_that_share_what_is_unique_in_v2_the_first_stays() {
    let job = Job::new(300, &[]);
    job.v1.execute("drop index \"Student_admissionNo_key\"");
    let keys: Vec<String> = job
        .v1
        .rows("select id from \"Student\" order by id collate \"C\" limit 3 offset 30")
        .into_iter()
        .map(|row| row[0].clone().unwrap())
        .collect();
    job.v1.execute(&format!(
        "update \"Student\" set \"admissionNo\" = 'SAME', \"schoolId\" = (select min(id) from \"School\") where id in ('{}')",
        keys.join("', '")
    ));
    job.migrate(&["--batch-size", "1", "--writers", "4"], 3);
    assert_eq!(
        job.v2.rows("select key, code from v1v2.ledger where outcome = 'r' order by key collate \"C\""),
        keys[1..]
            .iter()
            .map(|key| vec![Some(key.clone()), Some("duplicate-value".to_owned())])
            .collect::<Vec<_>>()
    );
}

#[test]
fn when_a_founder_is_rejected_the_persons_next_row_creates_the_account() {
    let job = Job::new(600, &[]);
    // A teacher who is a parent too, and whose school V1 then loses.
    job.migrate(&[], 0);
    let both = job.v2.rows(
        "select other_key, key from v1v2.conflicts where kind = 'same_person' and entity = 'parents' \
         and other_entity = 'teachers' order by 1 limit 1",
    );
    let [Some(teacher), Some(parent)] = &both[0][..] else { panic!("{both:?}") };
    let (job, _first) = job.another_v2();
    job.v1.execute("alter table \"Teacher\" drop constraint \"Teacher_schoolId_fkey\"");
    job.v1.execute(&format!("update \"Teacher\" set \"schoolId\" = 'gone' where id = '{teacher}'"));
    job.migrate(&["--passwords", "generate"], 3);
    let line = job.v2.rows(&format!(
        "select outcome::text, account_id from v1v2.ledger where entity = 'parents' and key = '{parent}'"
    ));
    assert_eq!(line[0][0].as_deref(), Some("m"), "the parent's row created the account");
    let account = line[0][1].clone().unwrap();
    assert_eq!(
        job.v2.one(&format!(
            "select count(*) from \"User\" where id = '{account}' and \"passwordHash\" is not null"
        )),
        "1"
    );
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn a_unique_index_that_rows_of_ours_can_violate_stays_in_force() {
    let job = Job::new(400, &[]);
    // Bulk load takes away what is unique by our own making; siblings share a guardian by V1's making.
    job.v2.execute("create unique index one_child_each on \"StudentGuardian\" (\"parentId\")");
    job.migrate(&["--writers", "1"], 3);
    assert_eq!(job.v2.one("select count(*) - count(distinct \"parentId\") from \"StudentGuardian\""), "0");
    assert_ne!(job.v2.one("select count(*) from v1v2.ledger where code = 'database-23505'"), "0");
    assert_eq!(job.v2.count("v1v2.dropped"), 0);
    job.run(&["validate", "--compare-counts"]).expect(0);
}

/// What was committed stays, and without the limit the same command goes on.
#[test]
fn a_run_that_rejects_too_much_stops() {
    let job = Job::new(1_200, &["--orphans"]);
    let dry = job.run(&["migrate", "--dry-run", "--max-rejects", "0"]).expect(3);
    assert!(!dry.stdout.contains("the run stopped"));
    job.migrate(&["--max-rejects", "many"], 2);
    let stopped = job.migrate(&["--batch-size", "50", "--max-rejects", "0"], 1);
    assert!(stopped.stderr.contains("max_rejects = 0 allows"), "{}", stopped.stderr);
    let rejected = "select count(*) from v1v2.ledger where outcome = 'r'";
    let (first, lines) = (job.v2.one(rejected), job.v2.count("v1v2.ledger"));
    assert_ne!((first.as_str(), lines), ("0", 0));
    assert_eq!(job.v2.one("select state from v1v2.runs"), "failed");
    let stopped = job.migrate(&["--batch-size", "50", "--max-rejects", "0.05%"], 1);
    assert!(stopped.stderr.contains("max_rejects = 0.05% allows"), "{}", stopped.stderr);
    assert!(job.v2.count("v1v2.ledger") >= lines + 1_000, "a share counts from 1,000 rows on");
    job.migrate(&["--max-rejects", "50%"], 3);
    let (done, _) = job.another_v2();
    done.migrate(&["--max-rejects", "1000"], 3);
}
