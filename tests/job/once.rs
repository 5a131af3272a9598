//! A later run reads V1 once. What it decides must be what a run decides that reads everything twice.

use super::Job;

/// So much is changed that it is not kept in memory: V1 is read again after all.
#[test]
fn more_changes_than_are_kept_are_read_again() {
    let job = Job::new(300, &[]);
    job.migrate(&[], 0);
    // 165 of 300 people are schoolchildren: some 20 MiB, of which 16 are kept.
    job.v1.execute("update \"Student\" set address = repeat('x', 130000) || id");
    let rows = job.v1.count("\"Student\"");
    let again = job.migrate(&[], 0);
    assert!(again.stdout.contains(&format!("students: {rows} rows have changed in V1")), "{}", again.stdout);
    let taken_over = "\"User\" where \"addressRaw\" like 'xxxxxxxx%'";
    let accounts = "v1v2.ledger where entity = 'students' and outcome = 'm'";
    assert_eq!(job.v2.count(taken_over), job.v2.count(accounts));
    assert!(!job.migrate(&[], 0).stdout.contains("have changed"));
}

/// What the ledger remembers of claims is used under the rules that it was made by, and under no others.
#[test]
fn claims_of_other_rules_are_made_again() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    let claims = "select key, claims::text from v1v2.ledger where entity = 'teachers' order by key";
    let made = job.v2.rows(claims);
    assert!(made.iter().filter(|line| line[1].is_some()).count() > 5);
    // As if another version had normalised otherwise.
    job.v2.execute(
        "update v1v2.ledger set claims = gen_random_uuid() where claims is not null; \
         update v1v2.meta set value = '0.0.1 NG' where key = 'claims'",
    );
    let key = job.v2.one(
        "select min(l.key) from v1v2.ledger l join \"User\" u on u.id::text = l.account_id \
         where entity = 'teachers' and outcome = 'm' and not \"emailIsPlaceholder\" and email not like '%+%' \
           and not exists (select from v1v2.ledger g where g.account_id = l.account_id and g.key <> l.key)",
    );
    job.v1.execute(&format!(
        "insert into \"Parent\" (id, \"schoolId\", name, email, password, \"updatedAt\") \
         select 'a-new-one', \"schoolId\", name, email, '', now() from \"Teacher\" where id = '{key}'"
    ));
    job.migrate(&[], 0);
    // The same person as the teacher with this email and name: whoever did not claim it could not have been found.
    let merged = "select outcome::text from v1v2.ledger where key = 'a-new-one'";
    assert_eq!(job.v2.one(merged), "g");
    // Under the new rules nothing is remembered of rows that were not written again.
    assert!(job.v2.rows(claims).iter().all(|line| line[1].is_none()));
    assert_eq!(job.v2.one("select value from v1v2.meta where key = 'claims'").split(' ').nth(1), Some("NG"));
    assert_eq!(job.v2.one("select count(*) from v1v2.ledger where claims is not null"), "0");
    job.migrate(&[], 0);
}
