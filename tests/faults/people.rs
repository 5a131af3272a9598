//! People who work while a run is going on, in V1 and in V2.

use super::{SLOW, behind_proxy, fresh, in_the_middle};
use crate::job::Job;

/// Makes somebody else's account with an email that the census has given to a teacher who is not migrated yet.
fn take_an_email(job: &Job) -> String {
    let taken = job.v1.one(
        "select lower(email) from \"Teacher\" where email ~ '^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+$' \
         order by id collate \"C\" desc limit 1",
    );
    job.v2.execute(&format!(
        "insert into \"User\" (id, \"userTypeId\", email, username, \"firstName\", \"updatedAt\") \
         select gen_random_uuid(), min(id), '{taken}', 'walk-in', 'Somebody', now() from \"UserType\""
    ));
    taken
}

#[test]
fn an_email_taken_during_the_run_is_a_reject_and_never_silent() {
    let (job, proxy) = behind_proxy(fresh());
    // Before anything is written.
    proxy.hold("copy \"public\"");
    let running = job.project.spawn(&[SLOW, &["--no-bulk", "--writers", "1"]].concat());
    assert!(proxy.wait_fired(1), "{}", running.stderr());
    let taken = take_an_email(&job);
    proxy.resume();
    running.wait().expect(3);
    assert_eq!(
        job.v2.one(&format!("select string_agg(\"firstName\", ',') from \"User\" where email = '{taken}'")),
        "Somebody"
    );
    // A person's next row would make the account that this one could not make: it meets the same obstacle.
    let shared = ["Teacher", "Parent", "Student"].map(|table| {
        job.v1.count(&format!("(select from \"{table}\" where lower(email) = '{taken}') as shared"))
    });
    assert_eq!(
        job.v2.one("select count(*) from v1v2.ledger where outcome = 'r' and code = 'database-23505'"),
        shared.iter().sum::<u64>().to_string()
    );
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn an_email_taken_during_a_bulk_load_is_reported_and_can_be_repaired() {
    let (job, proxy) = behind_proxy(fresh());
    let structure = job.structure();
    // The indexes are away, and nothing is written yet.
    proxy.hold("copy \"public\"");
    let running = job.project.spawn(SLOW);
    assert!(proxy.wait_fired(1), "{}", running.stderr());
    take_an_email(&job);
    proxy.resume();
    // The unique index cannot come back over two accounts with one email.
    let ended = running.wait().expect(1);
    assert!(ended.stderr.contains("could not be brought back"), "{}", ended.stderr);
    assert!(ended.stderr.contains("v1v2 repair"), "{}", ended.stderr);
    assert_ne!(job.v2.count("v1v2.dropped"), 0);
    let status = job.run(&["status"]).expect(0);
    assert!(status.stdout.contains("not back yet"), "{}", status.stdout);
    job.run(&["validate"]).expect(4);
    job.v2.execute("delete from \"User\" where username = 'walk-in'");
    job.run(&["repair"]).expect(0);
    assert_eq!(job.structure(), structure);
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn rows_that_change_vanish_and_appear_during_a_run_are_those_of_its_beginning() {
    let job = fresh();
    let expected = job.v1.count("\"Student\"");
    let running = in_the_middle(&job.project, &job.v2);
    // One before all others, one in front of the reader, one that is no more, one that is somebody else.
    job.v1.execute(
        "insert into \"Student\" (id, \"schoolId\", \"admissionNo\", name, \"updatedAt\") \
         select '!behind', min(id), 'NEW-1', 'Behind Cursor', now() from \"School\"; \
         insert into \"Student\" (id, \"schoolId\", \"admissionNo\", name, \"updatedAt\") \
         select '~ahead', min(id), 'NEW-2', 'Ahead Cursor', now() from \"School\"; \
         delete from \"_ParentToStudent\" where \"B\" = (select max(id) from \"Student\" where id like 'c%'); \
         delete from \"Student\" where id = (select max(id) from \"Student\" where id like 'c%'); \
         update \"Student\" set name = 'Changed Now' where id = (select min(id) from \"Student\" where id like 'c%')",
    );
    let ended = running.wait();
    // The check at the end looks at V1 as it is now, and tells.
    assert!(matches!(ended.code(), Some(3 | 4)), "{:?}\n{}", ended.code(), ended.stderr);
    assert_eq!(
        job.v2.one("select total from v1v2.accounting where entity = 'students'"),
        expected.to_string()
    );
    assert_eq!(job.v2.one("select count(*) from v1v2.ledger where key in ('!behind', '~ahead')"), "0");

    let next = job.run(&[SLOW, &["--skip-validation"]].concat()).expect(3);
    assert_eq!(
        job.v2.one("select count(*) from v1v2.ledger where key in ('!behind', '~ahead') and outcome = 'm'"),
        "2"
    );
    assert!(next.stdout.contains("students: 1 rows have changed in V1"), "{}", next.stdout);
    assert!(next.stdout.contains("students: 1 migrated rows are no longer in V1"), "{}", next.stdout);
}
