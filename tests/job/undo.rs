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
    job.run(&["rollback", "--force", "--run", &second]).expect(5);
    job.run(&["rollback", "--force", "--run", "01890000-0000-7000-8000-000000000000"]).expect(2);
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
