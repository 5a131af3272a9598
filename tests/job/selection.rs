//! Parts of the job: entities, filters, and a V2 that is in use.

use super::Job;
use crate::support::sample;

#[test]
fn a_pilot_and_the_rest_later_end_like_one_run() {
    let job = Job::new(800, &[]);
    job.migrate(&[], 0);
    let expected = job.result();
    let (job, _at_once) = job.another_v2();
    let (school, pilot) = sample::pilot(&job.v1);
    job.migrate(&pilot.each_ref().map(String::as_str), 0);
    assert_eq!(job.v2.count("\"School\""), 1);
    assert_eq!(
        job.v2.one("select count(*) from \"Teacher\""),
        job.v1.one(&format!("select count(*) from \"Teacher\" where \"schoolId\" = '{school}'"))
    );
    job.migrate(&[], 0);
    let mut result = job.result();
    let mut expected = expected;
    // A person who is in two entities has one account either way; which row's line says so may differ.
    for of in [&mut result, &mut expected] {
        of.remove("v1v2.ledger");
    }
    assert_eq!(result, expected);
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn dependencies_must_be_in_v2_or_come_along() {
    let job = Job::new(100, &[]);
    let before = job.result();
    let refused = job.migrate(&["--entities", "teachers"], 2);
    assert!(refused.stderr.contains("schools"), "{}", refused.stderr);
    assert_eq!(job.result(), before);
    job.migrate(&["--entities", "schools"], 0);
    job.migrate(&["--entities", "teachers"], 0);
    assert_eq!(job.v2.count("\"Teacher\""), job.v1.count("\"Teacher\""));
    assert_eq!(job.v2.count("\"Parent\""), 0);
}

#[test]
fn wrong_names_and_filters_are_usage_errors() {
    let job = Job::new(50, &[]);
    let wrong = job.migrate(&["--entities", "techers"], 2);
    assert!(wrong.stderr.contains("did you mean teachers"), "{}", wrong.stderr);
    for filter in [
        "techers:id = 'x'",
        "schools:pg_sleep(9) is null",
        "schools:id = 'x'; drop table \"School\"",
        "schools:id in (select 1)",
    ] {
        job.migrate(&["--filter", filter], 2);
    }
    assert_eq!(job.v2.count("v1v2.ledger"), 0);
    assert_eq!(job.v2.count("v1v2.runs"), 0);
}

#[test]
fn accounts_of_others_are_respected() {
    let job = Job::new(300, &[]);
    let taken = sample::an_email(&job.v1);
    job.v2.execute(&format!(
        "insert into \"User\" (id, \"userTypeId\", email, username, \"firstName\", \"updatedAt\") \
         select gen_random_uuid(), min(id), '{taken}', '{taken}', 'Somebody', now() from \"UserType\""
    ));
    let refused = job.migrate(&[], 5);
    assert!(refused.stderr.contains("--into-existing"), "{}", refused.stderr);
    assert_eq!(job.v2.count("v1v2.ledger"), 0);
    job.migrate(&["--into-existing"], 0);
    assert_eq!(
        job.v2.one(&format!("select \"firstName\" from \"User\" where email = '{taken}'")),
        "Somebody"
    );
    assert_ne!(job.v2.one("select count(*) from v1v2.conflicts where kind = 'email_held_in_v2'"), "0");
}

#[test]
fn new_rows_come_with_the_next_run() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    job.v1.execute(sample::AN_ARRIVAL);
    job.migrate(&[], 0);
    assert_eq!(job.v2.count("\"Parent\""), job.v1.count("\"Parent\""));
    assert_eq!(job.v2.one("select count(*) from \"User\" where email = 'ada.obi@new.example'"), "1");
    job.run(&["validate", "--compare-counts"]).expect(0);
}
