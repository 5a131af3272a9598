//! Passwords: generated ones open the accounts, kept ones are untouched, and none means locked.

use super::Job;
use crate::support::sample;

#[test]
fn generated_passwords_are_handed_out_and_open_the_accounts() {
    let job = Job::new(120, &[]);
    job.migrate(&["--passwords", "generate"], 0);
    assert_eq!(
        job.v2.one("select count(*) from \"User\" where \"passwordHash\" like '$argon2id$v=19$%' and \"mustChangePassword\" and status = 'ACTIVE'"),
        job.v2.count("\"User\"").to_string()
    );
    assert_eq!(
        job.v2.one("select count(distinct \"passwordHash\") from \"User\""),
        job.v2.count("\"User\"").to_string()
    );
    job.run(&["credentials", "export", "--plain", "--output", "list.csv"]).expect(0);
    let (listed, email, password) = job.project.handed_out("list.csv");
    let (email, password) = (email.as_str(), password.as_str());
    assert_eq!(listed, job.v2.count("\"User\""));
    assert_eq!(password.len(), 12);
    let accepted = job.project.run_with_input(&["users", "verify-login", email], &format!("{password}\n"));
    accepted.expect(0);
    let refused = job.project.run_with_input(&["users", "verify-login", email], "wrong\n").expect(4);
    assert!(!refused.stderr.contains(email), "{}", refused.stderr);
    // Neither the plain password nor the key is in V2.
    let key = job.project.read("v1v2.key");
    for (table, content) in [("User", "\"User\""), ("meta", "v1v2.meta"), ("runs", "v1v2.runs")] {
        for secret in [password, key.trim().rsplit(':').next().unwrap()] {
            let found =
                job.v2.one(&format!("select count(*) from {content} as t where t::text like '%{secret}%'"));
            assert_eq!(found, "0", "{table}");
        }
    }
}

#[test]
fn the_list_is_encrypted_and_never_overwritten() {
    let job = Job::new(60, &[]);
    job.migrate(&["--passwords", "generate"], 0);
    let recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    job.run(&["credentials", "export", "--recipient", recipient, "--output", "list.age"]).expect(0);
    let list = job.project.read("list.age");
    assert!(list.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
    job.run(&["credentials", "export", "--recipient", recipient, "--output", "list.age"]).expect(5);
    assert_eq!(job.project.read("list.age"), list);
    job.run(&["credentials", "export", "--output", "plain.csv"]).expect(2);
    job.run(&["credentials", "export", "--plain", "--per-scope", "lists"]).expect(0);
    let files = std::fs::read_dir(job.project.path().join("lists")).unwrap().count();
    assert!(files as u64 >= job.v2.count("\"School\""), "{files} files");
}

#[test]
fn kept_hashes_are_untouched_and_unknown_ones_lock() {
    let job = Job::new(200, &[]);
    let odd = sample::a_password_in_plain_sight(&job.v1);
    job.migrate(&["--passwords", "keep"], 0);
    let v1 = job.v1.rows("select password from \"Student\" where password is not null order by 1");
    let v2 = job.v2.rows(
        "select u.\"passwordHash\" from \"User\" u join v1v2.ledger l on l.account_id = u.id::text \
         where l.entity = 'students' and l.outcome = 'm' and u.\"passwordHash\" is not null order by 1",
    );
    assert!(!v2.is_empty() && v2.iter().all(|hash| v1.contains(hash)));
    assert_eq!(
        job.v2.rows(&format!(
            "select u.\"passwordHash\", u.status::text from \"User\" u join v1v2.ledger l on l.account_id = u.id::text \
             where l.entity = 'teachers' and l.key = '{odd}'"
        )),
        [[None, Some("LOCKED".to_owned())]]
    );
    assert_eq!(job.v2.one("select count(*) from v1v2.conflicts where kind = 'password_unknown'"), "1");
}

#[test]
fn a_person_whose_first_row_has_no_password_keeps_that_of_the_next() {
    let job = Job::new(2_000, &[]);
    job.migrate(&["--passwords", "keep"], 0);
    // An administrator's contact has no login in V1, but the same person's row as a member of the staff has.
    let merged = job.v2.rows(
        "select c.key, u.\"passwordHash\", u.status::text from v1v2.conflicts c join v1v2.ledger l using (entity, key) \
         join \"User\" u on u.id = l.account_id::uuid \
         where c.kind = 'same_person' and c.entity = 'teachers' and c.other_entity = 'schools'",
    );
    assert!(!merged.is_empty());
    for row in merged {
        let [Some(key), hash, status] = &row[..] else { panic!("{row:?}") };
        let own = job.v1.one(&format!("select password from \"Teacher\" where id = '{key}'"));
        assert_eq!(hash.as_deref(), Some(own.as_str()));
        assert_eq!(status.as_deref(), Some("ACTIVE"));
    }
}

#[test]
fn without_passwords_everybody_is_locked() {
    let job = Job::new(60, &[]);
    job.migrate(&["--passwords", "none"], 0);
    assert_eq!(
        job.v2.one("select count(*) from \"User\" where \"passwordHash\" is not null or status <> 'LOCKED'"),
        "0"
    );
    let email = job.v2.one("select min(email) from \"User\"");
    job.project.run_with_input(&["users", "verify-login", &email], "anything\n").expect(4);
}

#[test]
fn another_key_is_refused() {
    let job = Job::new(100, &[]);
    job.migrate(&["--passwords", "generate", "--entities", "schools"], 0);
    std::fs::remove_file(job.project.path().join("v1v2.key")).unwrap();
    let refused = job.migrate(&["--passwords", "generate"], 5);
    assert!(refused.stderr.contains("key file"), "{}", refused.stderr);
    assert_eq!(job.v2.count("\"Teacher\""), 0);
}
