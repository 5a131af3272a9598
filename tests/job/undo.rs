//! Rollback takes back exactly what a run made.

use super::Job;

#[test]
fn after_a_rollback_v2_is_as_before_and_the_job_can_be_done_again() {
    let job = Job::new(400, &["--orphans"]);
    let content = |job: &Job| {
        let mut digest = job.v2.digest(&["public", "v1v2"], &[]);
        digest.remove("v1v2.runs");
        digest
    };
    let before = (content(&job), job.structure());
    job.migrate(&[], 3);
    let migrated = job.result();
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!((content(&job), job.structure()), before);
    assert_eq!(job.v2.one("select string_agg(state, ',' order by no) from v1v2.runs"), "rolled_back,done");
    job.migrate(&["--batch-size", "50"], 3);
    assert_eq!(job.result(), migrated);
}

#[test]
fn rows_that_were_edited_since_stay() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    let edited = job.v2.one("select id::text from \"School\" order by id limit 1");
    job.v2.execute(&format!("update \"School\" set name = 'Edited' where id = '{edited}'"));
    let rolled_back = job.run(&["rollback", "--force"]).expect(0);
    assert!(rolled_back.stdout.contains(&edited), "{}", rolled_back.stdout);
    assert_eq!(job.v2.rows("select name from \"School\""), [[Some("Edited".to_owned())]]);
    assert_eq!(job.v2.count("\"Student\""), 0);
}

#[test]
fn only_the_named_run_goes() {
    let job = Job::new(300, &[]);
    job.migrate(&["--entities", "schools,teachers"], 0);
    let first = job.result();
    job.migrate(&[], 0);
    let second = job.v2.one("select id::text from v1v2.runs order by no desc limit 1");
    job.run(&["rollback", "--force", "--run", &second]).expect(0);
    assert_eq!(job.result(), first);
    job.run(&["rollback", "--force", "--run", "01890000-0000-7000-8000-000000000000"]).expect(2);
}

/// In a script that repeats it, above all.
#[test]
fn a_rollback_given_again_does_not_go_on_to_the_run_before() {
    let job = Job::new(200, &[]);
    let refused = job.run(&["rollback", "--force"]).expect(5);
    assert!(refused.stderr.contains("no run that could be rolled back"), "{}", refused.stderr);
    let newest = "select id::text from v1v2.runs where command = 'migrate' order by no desc limit 1";
    job.migrate(&["--entities", "schools"], 0);
    let (first, id) = (job.result(), job.v2.one(newest));
    let before = format!("v1v2 rollback --run {id}\n");
    job.migrate(&[], 0);
    let second = job.v2.one(newest);
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!(job.result(), first);
    let runs = job.v2.count("v1v2.runs");
    let again = job.run(&["rollback", "--force"]).expect(0);
    assert!(again.stdout.contains(&format!("run {second} was rolled back already")), "{}", again.stdout);
    assert!(again.stdout.ends_with(&before), "{}", again.stdout);
    let told = job.run(&["rollback", "--force", "--json"]).expect(0).stdout;
    assert!(
        told.contains(r#""nothing_to_do":"rolled_back""#) && told.contains(&format!(r#""before":"{id}""#)),
        "{told}"
    );
    job.run(&["rollback", "--force", "--run", &second]).expect(0);
    assert_eq!(
        (job.v2.count("v1v2.runs"), job.v2.count("v1v2.lock")),
        (runs, 0),
        "nothing to do, nothing on record"
    );
    // A dry run is no run. One that has changed nothing is not passed over either.
    job.run(&["migrate", "--dry-run"]).expect(0);
    assert!(job.run(&["rollback", "--force"]).expect(0).stdout.contains(&second));
    job.migrate(&["--entities", "schools"], 0);
    let unchanged = job.run(&["rollback", "--force"]).expect(0);
    assert!(unchanged.stdout.contains("has changed nothing in V2"), "{}", unchanged.stdout);
    assert!(unchanged.stdout.ends_with(&before), "{}", unchanged.stdout);
    assert_eq!(job.result(), first);
    // What is named goes.
    job.run(&["rollback", "--force", "--run", &id]).expect(0);
    assert_eq!(job.v2.count("v1v2.ledger"), 0);
    let nothing = job.run(&["rollback", "--force"]).expect(0);
    assert!(!nothing.stdout.contains("--run"), "{}", nothing.stdout);
}

#[cfg(feature = "failpoints")]
#[test]
fn an_interrupted_rollback_finishes_without_touching_the_run_before() {
    let job = Job::new(200, &[]);
    job.migrate(&["--entities", "schools,teachers"], 0);
    let first = job.result();
    job.migrate(&[], 0);
    let point = "postgres.rollback.committed@1:fatal";
    job.project.run_with(&["rollback", "--force"], "FAILPOINT", point).expect(1);
    assert_ne!(job.result(), first);
    for _ in 0..3 {
        job.run(&["rollback", "--force"]).expect(0);
        assert_eq!(job.result(), first);
    }
}

/// Rows that were written beside one that V2 refused are ours like all others.
#[test]
fn rows_beside_a_refused_one_are_taken_back_too() {
    let job = Job::new(200, &[]);
    let refused = job.v1.one("select \"admissionNo\" from \"Student\" order by id offset 20 limit 1");
    job.v2.execute(&format!(
        "alter table \"Student\" add constraint not_this_one check (\"admissionNo\" <> '{refused}')"
    ));
    job.migrate(&[], 3);
    assert!(job.v2.count("\"Student\"") > 50);
    let rolled_back = job.run(&["rollback", "--force"]).expect(0);
    assert!(!rolled_back.stdout.contains("edited since"), "{}", rolled_back.stdout);
    for table in ["\"User\"", "\"UserRole\"", "\"Student\"", "\"School\"", "v1v2.ledger"] {
        assert_eq!(job.v2.count(table), 0, "{table}");
    }
}

/// Unique numbers move on from one to the next: each can go back only after the one that it went to has gone back.
#[test]
fn values_that_moved_on_from_row_to_row_go_back() {
    let job = Job::new(100, &[]);
    job.migrate(&[], 0);
    let read = |sql: &str| -> Vec<String> {
        job.v1.rows(sql).into_iter().map(|mut row| row[0].take().unwrap()).collect()
    };
    let keys = read("select id from \"Student\" order by id collate \"C\" limit 9");
    let numbers = read("select \"admissionNo\" from \"Student\" order by id collate \"C\" limit 9");
    // Three in the order of their keys; and three against it, of whom a run brings one at a time.
    let moves = [
        (0, "first"),
        (1, &*numbers[0]),
        (2, &*numbers[1]),
        (8, "second"),
        (5, &*numbers[8]),
        (3, &*numbers[5]),
    ];
    for (student, number) in moves {
        let id = &keys[student];
        job.v1.execute(&format!("update \"Student\" set \"admissionNo\" = '{number}' where id = '{id}'"));
    }
    for batch in ["1", "5000"] {
        let before = job.content();
        let mut runs = 1;
        loop {
            let ended = job.run(&["migrate", "--force", "--batch-size", batch, "--writers", "1"]);
            if ended.code() == Some(0) {
                break;
            }
            runs += 1;
            assert!(runs < 6, "batch size {batch}\n{}{}", ended.stdout, ended.stderr);
        }
        for (student, number) in moves {
            let of =
                "select \"admissionNo\" from \"Student\" s join v1v2.ledger l on l.target_id = s.id::text";
            let found =
                job.v2.one(&format!("{of} where l.entity = 'students' and l.key = '{}'", keys[student]));
            assert_eq!(found, number, "batch size {batch}");
        }
        for _ in 0..runs {
            job.project.roll_back_next(&[]);
        }
        assert_eq!(job.content(), before, "batch size {batch}");
    }
}
